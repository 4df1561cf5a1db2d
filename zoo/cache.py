"""What the zoo keeps on this disk: weights that it converted, and repositories that it fetched."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from converters.disk import CONVERTED, OUR_REPOSITORIES, assets, cache_error
from converters.stamps import forget_deleted
from registry.names import matches

__all__ = ["Cached", "list_cached", "remove_cached"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cached:
    """One thing in the cache.

    Attributes:
        name: `name.tag` of converted weights, or `hf-hub:org/name`.
        kind: Which of the two.
        path: Its folder.
        size_bytes: What it takes.
    """

    name: str
    kind: Literal["converted", "repository"]
    path: Path
    size_bytes: int


def list_cached(pattern: str | Sequence[str] = "") -> list[Cached]:
    """What the zoo keeps in the Hub client's caches.

    Args:
        pattern: Pattern or patterns of names; with wildcards for the whole name.

    Returns:
        Converted weights and repositories that the zoo fetched, the latter without those that only
        other programs did. What timm fetches for a lifted model is timm's.
    """
    found = sorted([*_converted(), *_repositories()], key=lambda item: item.name)
    return [item for item in found if matches(item.name, pattern)]


def _converted() -> Iterator[Cached]:
    for folder in _folders(assets(CONVERTED)):
        # A name, a tag, and the digest's first letters.
        name = folder.name.rpartition("-")[0] or folder.name
        size = _size(folder)
        if size:  # else an empty lock: of weights that could not be fetched, or are on their way
            yield Cached(name=name, kind="converted", path=folder, size_bytes=size)


def _folders(home: Path) -> list[Path]:
    return [item for item in home.iterdir() if item.is_dir()] if home.is_dir() else []


def _size(folder: Path) -> int:
    files = [file for file in folder.rglob("*") if file.is_file() and not file.is_symlink()]
    return sum(file.stat().st_size for file in files)


def _repositories() -> Iterator[Cached]:
    from huggingface_hub import constants

    home = assets(OUR_REPOSITORIES)
    for mark in home.iterdir() if home.is_dir() else []:
        folder = Path(constants.HF_HUB_CACHE) / f"models--{mark.name}"
        if folder.is_dir():
            name = f"hf-hub:{mark.name.replace('--', '/', 1)}"
            yield Cached(name=name, kind="repository", path=folder, size_bytes=_size(folder))


def remove_cached(items: Sequence[Cached]) -> int:
    """Delete things that `list_cached` gave; what another process holds open stays readable to it.

    Returns:
        Bytes that are free now.

    Raises:
        OSError: Something cannot be deleted.
    """
    for item in items:
        try:
            shutil.rmtree(item.path)
            if item.kind == "repository":
                repo = item.path.name.removeprefix("models--")
                (assets(OUR_REPOSITORIES) / repo).unlink(missing_ok=True)
        except OSError as error:
            raise cache_error(item.path, error) from error
    forget_deleted()
    return sum(item.size_bytes for item in items)
