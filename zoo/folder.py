"""A model as a folder: `model.safetensors`, `config.json` and a card."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

import registry
from converters.cards import folder_card
from converters.checkpoint import read_checkpoint, replacing, save_tensors
from converters.layouts import VERSION
from zoo.config import ModelConfig
from zoo.lifting import build_again, lifted_architecture

if TYPE_CHECKING:
    from zoo.models._base import VideoModel

__all__ = ["read_folder", "save"]


def save(model: VideoModel, path: str | Path) -> Path:
    """Write a model as a folder that `create("local-dir:PATH")` reads.

    Args:
        model: A model that `zoo.create` made.
        path: The folder; made if it does not exist.

    Returns:
        The folder.

    Raises:
        ValueError: The model has no record, since `zoo.create` did not make it, or was changed so
            that its record no longer builds it.
        OSError: The folder cannot be written.
    """
    # torch.compile wraps a module and puts a prefix before its keys.
    model = getattr(model, "_orig_mod", model)
    folder, config = Path(path), getattr(model, "record", None)
    if config is None:
        raise ValueError(
            f"This {type(model).__name__} was not made by zoo.create, so nothing is known about "
            f"it; save what zoo.create returned, not what wraps it."
        )
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(f"'{folder}' is a file; give a folder to save into.")
    folder.mkdir(parents=True, exist_ok=True)
    state = model.state_dict()
    _check_state(state, config)
    lifted = ":" in config.architecture
    facts_of = lifted_architecture(config) if lifted else registry.info(config.architecture)
    card = folder_card(facts_of, config.to_json(), title=folder.resolve().name)
    # All three are written beside their names before the first one is renamed: a full disk leaves
    # what was there.
    with replacing(folder / "model.safetensors", folder / "config.json", folder / "README.md") as (
        tensors,
        facts,
        readme,
    ):
        save_tensors(
            state,
            tensors,
            metadata={
                "name": config.architecture,
                "tag": config.tag,
                "source": json.dumps(config.source),
                "converter_version": str(VERSION),
            },
        )
        text = json.dumps(config.to_json(), indent=2, ensure_ascii=False) + "\n"
        facts.write_text(text, encoding="utf-8")
        readme.write_text(card, encoding="utf-8")
    return folder


def _check_state(state: Mapping[str, Tensor], config: ModelConfig) -> None:
    """Refuse a module that was changed so that its record no longer builds it."""
    with torch.device("meta"):
        expected = _build(config).state_dict()
    wrong = list(state.keys() ^ expected.keys())
    wrong += [k for k in state.keys() & expected.keys() if state[k].shape != expected[k].shape]
    if wrong:
        raise ValueError(
            f"The module is no longer what its record {config.name!r} builds, so it could not be "
            f"loaded again; it differs in {', '.join(sorted(wrong))}. A new head is set with "
            f"model.reset_classifier(K)."
        )


def _build(config: ModelConfig) -> nn.Module:
    """The module that a record describes."""
    if ":" in config.architecture:
        return build_again(config)
    model = registry.load(config.architecture).build(**config.arguments)
    assert isinstance(model, nn.Module)
    return model


def read_folder(folder: Path) -> tuple[ModelConfig, dict[str, Tensor]]:
    """The record and the tensors of a folder that `save` wrote.

    Raises:
        FileNotFoundError: There is no such folder, or a file is missing in it.
        ValueError: A file is damaged.
    """
    for file in (folder, folder / "config.json", folder / "model.safetensors"):
        if not file.exists():
            raise FileNotFoundError(
                f"'{file}' does not exist; local-dir: takes a folder that zoo.save wrote."
            )
    config_path = folder / "config.json"
    try:
        data = json.loads(config_path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"'{config_path}' is not JSON ({error}).") from error
    config = ModelConfig.from_json(data, origin=str(config_path))
    state = read_checkpoint(folder / "model.safetensors")
    return config, state
