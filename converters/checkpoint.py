"""Checkpoint files: safetensors in and out with metadata, and other people's pickles, safely."""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

__all__ = [
    "read_checkpoint",
    "read_metadata",
    "replacing",
    "save_tensors",
    "unwrap",
    "write_safetensors",
]

_DAMAGE = (pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError, LookupError)
"""What torch.load raises for a file cut or changed, depending on where."""

_WRAPPERS = ("state_dict", "model_state", "model_state_dict", "model", "module")


def read_checkpoint(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """The tensors of a checkpoint file by key, wrappers removed.

    Safetensors and torch's own format are read; the latter never runs code from the file.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is damaged, of another kind, or holds no state dict.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"No checkpoint file at '{path}'; give the path of a file.")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except SafetensorError as error:
        raise ValueError(
            f"'{path}' is damaged or not a safetensors file ({error}); fetch it again."
        ) from error
    except _DAMAGE as error:
        if "Weights only load failed" in str(error) and "Unsupported global" in str(error):
            raise ValueError(
                f"'{path}' holds more than tensors, and code from a file is never run; save the "
                f"model's state_dict() instead of the model."
            ) from error
        raise ValueError(
            f"'{path}' is damaged or no checkpoint; give a safetensors file or a state dict that "
            f"torch.save wrote."
        ) from error
    return unwrap(content, str(path))


def unwrap(content: Any, origin: str) -> dict[str, Tensor]:
    """The state dict inside what a training program saved.

    Takes it out of wrappers such as `state_dict` or `model_state` and removes a `module.` that
    stands before every key.

    Raises:
        ValueError: No state dict is found.
    """
    for wrapper in _WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
            break
    if not isinstance(content, Mapping) or not content:
        raise ValueError(f"'{origin}' holds no state dict, but {type(content).__name__}.")
    strange = [str(key) for key, value in content.items() if not isinstance(value, Tensor)]
    if strange:
        raise ValueError(f"'{origin}' holds other things than tensors under {', '.join(strange)}.")
    state = {str(key): value for key, value in content.items()}
    if all(key.startswith("module.") for key in state):
        state = {key.removeprefix("module."): value for key, value in state.items()}
    return state


def read_metadata(path: str | os.PathLike[str]) -> dict[str, str]:
    """The metadata in a safetensors header.

    Raises:
        ValueError: The file is damaged or not safetensors.
    """
    try:
        with safe_open(path, framework="pt") as file:
            return dict(file.metadata() or {})
    except SafetensorError as error:
        raise ValueError(f"'{path}' is damaged or not a safetensors file ({error}).") from error


def write_safetensors(
    state: Mapping[str, Tensor], path: str | os.PathLike[str], *, metadata: Mapping[str, str]
) -> None:
    """Write tensors beside the final name, read them back, then rename.

    A reader never sees half a file, and whoever is interrupted leaves none.

    Args:
        state: Tensors by key; made contiguous, dtype kept.
        path: Final name; its folder is made.
        metadata: Text by key, stored in the header.

    Raises:
        OSError: The folder cannot be written.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as (part,):
        save_tensors(state, part, metadata=metadata)


@contextlib.contextmanager
def replacing(*paths: Path) -> Iterator[tuple[Path, ...]]:
    """Names to write to; at the end they are renamed to the final ones, or removed on an error."""
    parts = tuple(path.with_name(f".{path.name}.{uuid.uuid4().hex}.part") for path in paths)
    try:
        yield parts
        for part, path in zip(parts, paths, strict=True):
            part.replace(path)
    finally:
        for part in parts:
            with contextlib.suppress(FileNotFoundError):
                part.unlink()


def save_tensors(state: Mapping[str, Tensor], path: Path, *, metadata: Mapping[str, str]) -> None:
    """Write tensors in place and read the file's header back.

    The same tensors and metadata give the same bytes, and whoever may read the folder's other
    files may read this one.

    Args:
        state: Tensors by key; made contiguous, dtype kept.
        path: File to write.
        metadata: Text by key, stored in the header.

    Raises:
        OSError: The file cannot be written.
    """
    path.touch()
    mode = path.stat().st_mode
    # Tensors that share memory (tied weights) must be written apart: safetensors refuses views.
    tensors = {key: value.detach().cpu().contiguous() for key, value in state.items()}
    seen: set[int] = set()
    for key, value in tensors.items():
        if value.untyped_storage().data_ptr() in seen:
            tensors[key] = value.clone()
        seen.add(tensors[key].untyped_storage().data_ptr())
    try:
        save_file(tensors, path, metadata=dict(metadata))
    except SafetensorError as error:
        raise OSError(f"Cannot write '{path}' ({error}).") from error
    path.chmod(mode)  # safetensors lets nobody but the owner read, whatever the umask says
    _sort_metadata(path)
    with safe_open(path, framework="pt") as written:
        assert set(written.keys()) == set(tensors)


def _sort_metadata(path: Path) -> None:
    """Put the header's metadata in order; safetensors writes it in another order each time."""
    with path.open("r+b") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
        if "__metadata__" not in header:
            return
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
        text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
        assert len(text) <= length
        file.seek(8)
        file.write(text.ljust(length))
