"""Weights as one file, or as several with an index where they are large, as the Hub's tools do."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from converters.checkpoint import save_tensors

__all__ = ["INDEX_FILE", "WEIGHTS_FILE", "is_weights_file", "write_weights"]

WEIGHTS_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"

_NAMES = re.compile(r"model(-\d{5}-of-\d{5})?\.safetensors|model\.safetensors\.index\.json")


def is_weights_file(name: str) -> bool:
    """Whether `write_weights` writes files of that name."""
    return _NAMES.fullmatch(name) is not None


def write_weights(
    state: Mapping[str, Tensor],
    folder: Path,
    *,
    metadata: Mapping[str, str],
    max_shard_size: int | str,
) -> None:
    """Write tensors as `model.safetensors`, or as shards and an index that tells which holds what.

    Args:
        state: Tensors by key.
        folder: An empty folder.
        metadata: Text by key, stored in the header of every file.
        max_shard_size: Largest file, in bytes or with a unit as in `5GB`; a larger tensor has a
            file of its own.

    Raises:
        ValueError: The size cannot be read.
        OSError: A file cannot be written.
    """
    from huggingface_hub import split_torch_state_dict_into_shards

    # Tensors without content: tied weights are written once for each key, and count as that.
    sizes = {
        key: torch.empty(value.shape, dtype=value.dtype, device="meta")
        for key, value in state.items()
    }
    split = split_torch_state_dict_into_shards(sizes, max_shard_size=max_shard_size)
    for name, keys in split.filename_to_tensors.items():
        part = {key: state[key] for key in keys}
        save_tensors(part, folder / name, metadata={"format": "pt", **metadata})
    if split.is_sharded:
        index = {
            "metadata": {**split.metadata, **metadata},
            "weight_map": split.tensor_to_filename,
        }
        text = json.dumps(index, indent=2, ensure_ascii=False) + "\n"
        (folder / INDEX_FILE).write_text(text, encoding="utf-8")
