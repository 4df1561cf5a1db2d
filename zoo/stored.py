"""A model in a folder or a repository: what it is, whether it can be trusted, and its tensors.

Its configuration is read and refused first, then the headers of its tensors, then the tensors; at
no time is code from it run, nor memory spent that its own files do not fill.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

import registry
from converters.keymap import IDENTITY
from converters.layouts import Converted
from converters.places import LocalFolder, Place, StoredTensors, find_tensors, read_config
from converters.unfilled import shapes_only
from converters.untrusted import check_fit
from zoo.config import ModelConfig
from zoo.foreign import Foreign, is_foreign, read_foreign
from zoo.lifting import build_again
from zoo.models._base import VideoModel

__all__ = ["StoredModel", "build_recorded", "open_stored", "read_folder"]

_BUILD_ERRORS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    RuntimeError,
    TypeError,
    ValueError,
)
"""What builders raise for arguments that were never meant."""

_LARGEST_TABLES_BYTES = 2 * 2**30
"""What a model may compute beside its weights, such as tables of positions."""


@dataclass(frozen=True, slots=True)
class StoredModel:
    """A model that was found good, its tensors still where they are.

    Attributes:
        config: How it was trained.
        tensors: Its files and their headers.
        load: Reads the tensors, by our keys.
        note: What its user must be told, or an empty text.
    """

    config: ModelConfig
    tensors: StoredTensors
    load: Callable[[], Converted]
    note: str = ""


def build_recorded(config: ModelConfig) -> VideoModel:
    """The module that a record describes, with random weights; on the device that is set."""
    if ":" in config.architecture:
        return build_again(config)
    model: VideoModel = registry.load(config.architecture).build(**config.arguments)
    return model


def open_stored(place: Place) -> StoredModel:
    """Read what a folder or repository holds, as far as the headers of its tensors.

    Args:
        place: Written by `zoo.save` and `zoo.push`, or by transformers or timm.

    Raises:
        FileNotFoundError: A file is missing.
        LookupError: The architecture is none that we have; the message names the nearest.
        ValueError: A file is damaged or hostile.
    """
    data = read_config(place)
    origin = f"{place.origin}/config.json"
    if is_foreign(data):
        found = read_foreign(data, place, origin=origin)
        return _open_foreign(found, place, origin)
    config = ModelConfig.from_json(data, origin=origin)
    expected = _outline(config, origin).state_dict()
    tensors = find_tensors(place, limit=_bytes_of(expected))
    check_fit(tensors.header, expected, origin=place.origin)
    return StoredModel(config, tensors, lambda: Converted(tensors.load(), IDENTITY))


def _open_foreign(found: Foreign, place: Place, origin: str) -> StoredModel:
    # Files of others hold keys that we do not read; twice our own size is generous.
    model = _outline(found.config, origin)
    tensors = find_tensors(place, limit=2 * _bytes_of(model.state_dict()) + 2**26)
    plan = found.plan(tensors.header, model)  # it fits, or is refused before it is read
    return StoredModel(found.config, tensors, lambda: plan.convert(tensors.load()), note=found.note)


def _outline(config: ModelConfig, origin: str) -> VideoModel:
    """The model that a configuration tells of, on the meta device."""
    if ":" not in config.architecture:
        registry.load(config.architecture)  # an unknown name is told as such
    try:
        with shapes_only():
            model = build_recorded(config)
    except _BUILD_ERRORS as error:
        if isinstance(error, LookupError) and type(error) is LookupError:
            raise
        raise ValueError(
            f"'{origin}' asks for arguments that {config.architecture!r} cannot be built with "
            f"({' '.join(str(error).split())[:300]})."
        ) from error
    expected = model.state_dict()
    tables = {name: table for name, table in model.named_buffers() if name not in expected}
    if _bytes_of(tables) > _LARGEST_TABLES_BYTES:
        raise ValueError(
            f"'{origin}' asks for tables of {_bytes_of(tables)} bytes, where "
            f"{_LARGEST_TABLES_BYTES} are allowed."
        )
    return model


def _bytes_of(tensors: Mapping[str, Tensor]) -> int:
    return sum(tensor.numel() * tensor.itemsize for tensor in tensors.values())


def read_folder(folder: Path) -> tuple[ModelConfig, dict[str, Tensor]]:
    """The record and the tensors of a folder that `zoo.save` wrote.

    Raises:
        FileNotFoundError: There is no such folder, or a file is missing in it.
        LookupError: The architecture is none that we have.
        ValueError: A file is damaged or hostile.
    """
    stored = open_stored(LocalFolder(folder))
    return stored.config, stored.load().state
