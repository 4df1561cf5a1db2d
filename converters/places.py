"""Where a model is kept: a folder, or a repository of the Hub; its tensors in one file or several.

Nothing in a place is trusted: names are checked before they become paths, and headers before
tensors are read.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor

from converters.sharding import INDEX_FILE, WEIGHTS_FILE
from converters.stamps import is_stamped, stamp
from converters.untrusted import (
    MAX_HEADER_BYTES,
    MAX_JSON_BYTES,
    check_finite,
    load_tensors,
    read_header,
    read_json,
    shown,
)

__all__ = ["LocalFolder", "Place", "StoredTensors", "find_tensors", "read_config"]

_PICKLES = (".bin", ".ckpt", ".pkl", ".pickle", ".pt", ".pth", ".pyth")


class Place(Protocol):
    """A folder or a repository; `converters.hub.Repository` is the other one."""

    @property
    def origin(self) -> str:
        """How it is called in messages."""

    def fetch(self, filename: str, *, limit: int | None = None) -> Path:
        """A file of it; FileNotFoundError if there is none, ValueError above `limit` bytes."""

    def file_names(self) -> list[str]:
        """The names of its files."""


@dataclass(frozen=True, slots=True)
class LocalFolder:
    """A folder on this machine."""

    path: Path

    @property
    def origin(self) -> str:
        """See `Place.origin`."""
        return str(self.path)

    def fetch(self, filename: str, *, limit: int | None = None) -> Path:
        """See `Place.fetch`."""
        for needed in (self.path, self.path / filename):
            if not needed.exists():
                best = self.path / "best"
                run = f" The model of this run is 'local-dir:{best}'." if best.is_dir() else ""
                raise FileNotFoundError(
                    f"'{needed}' does not exist; local-dir: takes a folder that zoo.save wrote."
                    f"{run}"
                )
        file = self.path / filename
        if not file.is_file():
            raise FileNotFoundError(
                f"'{file}' is no file; local-dir: takes a folder that zoo.save wrote."
            )
        size = file.stat().st_size
        if limit is not None and size > limit:
            raise ValueError(
                f"'{file}' has {size} bytes, where what its configuration tells of takes at most "
                f"{limit}; it is not read."
            )
        return file

    def file_names(self) -> list[str]:
        """See `Place.file_names`."""
        return sorted(item.name for item in self.path.iterdir())


def read_config(place: Place, filename: str = "config.json") -> Any:
    """What a JSON file of a place holds.

    Raises:
        FileNotFoundError: There is none.
        ValueError: It is no JSON, or absurdly large.
    """
    path = place.fetch(filename, limit=MAX_JSON_BYTES)
    return read_json(path, origin=f"{place.origin}/{filename}")


@dataclass(frozen=True, slots=True)
class StoredTensors:
    """Safetensors files whose headers were found good.

    Attributes:
        origin: What to call them in a message.
        files: Their paths; several where a large model is kept in shards.
        header: The tensors on the meta device, by key.
    """

    origin: str
    files: tuple[Path, ...]
    header: Mapping[str, Tensor]

    def load(self) -> dict[str, Tensor]:
        """The tensors.

        Raises:
            ValueError: A file is damaged, or a tensor holds NaN or infinite values.
        """
        state: dict[str, Tensor] = {}
        for file in self.files:
            state |= load_tensors(file, origin=self.origin)
        if not all(is_stamped(file, "finite") for file in self.files):
            check_finite(state, origin=self.origin)
            for file in self.files:
                stamp(file, "finite")
        return state


def find_tensors(place: Place, *, limit: int) -> StoredTensors:
    """The tensors of a place: `model.safetensors`, or the shards that an index names.

    Args:
        place: The folder or repository.
        limit: Bytes that they may take together, without their headers.

    Raises:
        FileNotFoundError: There are none.
        ValueError: There are pickles only, they are too large, an index names other things than
            shards beside it, or a header lies.
    """
    names, tensors_of = [WEIGHTS_FILE], None
    try:
        files = [place.fetch(WEIGHTS_FILE, limit=limit + MAX_HEADER_BYTES)]
    except FileNotFoundError as missing:
        tensors_of = _read_index(place, missing)
        names = sorted(set(tensors_of.values()))
        files = []
        for name in names:
            file = place.fetch(name, limit=limit + MAX_HEADER_BYTES)
            limit -= file.stat().st_size
            files.append(file)
    header: dict[str, Tensor] = {}
    for name, file in zip(names, files, strict=True):
        found = read_header(file, origin=f"{place.origin}/{name}")
        said = found if tensors_of is None else {k for k, v in tensors_of.items() if v == name}
        if found.keys() != set(said):
            other = sorted(found.keys() ^ set(said))
            raise ValueError(
                f"'{place.origin}/{name}' does not hold the tensors that '{INDEX_FILE}' tells of: "
                f"{shown(other, 200)}."
            )
        header |= found
    return StoredTensors(place.origin, tuple(files), header)


def _read_index(place: Place, missing: FileNotFoundError) -> dict[str, str]:
    """Which shard each tensor lies in."""
    try:
        index = read_config(place, INDEX_FILE)
    except FileNotFoundError:
        names = place.file_names()
        pickles = [name for name in names if name.endswith(_PICKLES)]
        if pickles:
            raise ValueError(
                f"'{place.origin}' holds its weights as {', '.join(pickles[:4])} and not as "
                f"safetensors; such files can run code when they are read, and are not fetched. "
                f"Ask its owner for {WEIGHTS_FILE}."
            ) from None
        raise missing from None
    shards = index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(shards, dict) or not shards:
        raise ValueError(f"'{place.origin}/{INDEX_FILE}' has no weight_map; fetch it again.")
    for name in shards.values():
        if not isinstance(name, str) or not re.fullmatch(
            r"model-\d{5}-of-\d{5}\.safetensors", name
        ):
            raise ValueError(
                f"'{place.origin}/{INDEX_FILE}' names the shard {shown(name)}; shards lie beside "
                f"it and are called model-00001-of-00002.safetensors and so on."
            )
    return shards
