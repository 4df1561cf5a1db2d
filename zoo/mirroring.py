"""Weights onto this machine: one with `pull`, a folder that serves as a hub with `mirror`."""

from __future__ import annotations

import gc
import shutil
import uuid
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

import registry
from converters.checkpoint import read_metadata
from converters.hub_cards import repository_card
from converters.places import LocalFolder
from registry.names import parse_name
from zoo.folder import contents_of, write_folder
from zoo.hub import open_place
from zoo.pretrained import fetch_weights, record_digest
from zoo.publishing import record_state
from zoo.stored import open_stored

__all__ = [
    "MirrorStatus",
    "Mirrored",
    "Pulled",
    "iter_mirrored",
    "mirror",
    "names_to_mirror",
    "pull",
]

MirrorStatus: TypeAlias = Literal["written", "already there", "failed"]

_MAX_SHARD_SIZE = "5GB"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pulled:
    """Weights that are on this machine now.

    Attributes:
        name: What was asked for, with its tag.
        path: The file or folder that holds them.
        size_bytes: What the path takes on the disk.
    """

    name: str
    path: Path
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Mirrored:
    """What became of one set of weights.

    Attributes:
        name: `name.tag`.
        status: What happened.
        detail: Its folder, or the reason of a failure.
    """

    name: str
    status: MirrorStatus
    detail: str


def pull(name: str, *, hub: str | Path | None = None) -> Pulled:
    """Fetch weights into the cache, check them, and say where they lie; `create` needs no more.

    Args:
        name: `name` or `name.tag`, or `hf-hub:org/name@revision`.
        hub: As for `create`.

    Raises:
        LookupError: Unknown name, tag, repository or revision.
        ValueError: The weights are damaged or hostile, or the name is of another kind.
        ConnectionError: They cannot be fetched.
        PermissionError: A token is missing, wrong or expired.
        OSError: The cache cannot be written.
    """
    parsed = parse_name(name)
    if parsed.scheme == "hf-hub":
        stored = open_stored(open_place(parsed.scheme, parsed.target))
        stored.load()
        path = stored.tensors.files[0].parent
        return Pulled(name=name, path=path, size_bytes=size_of(path))
    if parsed.scheme:
        raise ValueError(
            f"{name!r} is no place that weights are pulled from; give a NAME.TAG or "
            f"'hf-hub:ORG/NAME'."
        )
    entry = registry.load(parsed.target)
    weights = registry.find_weights(entry.architecture, parsed.tag)
    _, path = fetch_weights(entry, weights, hub=hub)
    full = f"{parsed.target}.{weights.tag}"
    return Pulled(name=full, path=path, size_bytes=size_of(path))


def size_of(path: Path) -> int:
    """Bytes of a file, or of the files in a folder."""
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return sum(file.stat().st_size for file in files)


def mirror(folder: str | Path, pattern: str | Sequence[str] = "") -> list[Mirrored]:
    """Fill a folder that serves as a hub on a machine without network: one `NAME.TAG/` a record.

    The weights are those of the records, never a user's own hub's: a folder shall not be filled
    from itself. What is there with the same digest is not fetched again, so that a run that was
    cut short goes on where it stopped. A failure is told, and the next one follows.

    Args:
        folder: The folder; made if it does not exist.
        pattern: Pattern or patterns of names, as for `zoo.list_pretrained`.

    Returns:
        What became of each.

    Raises:
        LookupError: No weights are called like this.
        OSError: The folder cannot be made.
    """
    return list(iter_mirrored(Path(folder), names_to_mirror(pattern)))


def names_to_mirror(pattern: str | Sequence[str]) -> list[str]:
    """Every `name.tag` that `mirror` takes.

    Raises:
        LookupError: No weights are called like this.
    """
    names = registry.list_pretrained(pattern)
    if not names:
        raise LookupError(f"No weights are called like {pattern!r}; see `zoo list --pretrained`.")
    return names


def iter_mirrored(folder: Path, names: Sequence[str]) -> Iterator[Mirrored]:
    """The same as `mirror`, one by one as they are done."""
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(f"'{folder}' is a file; give a folder to mirror into.")
    folder.mkdir(parents=True, exist_ok=True)
    for full in names:
        place = folder / full
        try:
            written = _mirror_one(full, place)
        except (LookupError, OSError, RuntimeError, ValueError, MemoryError) as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            yield Mirrored(name=full, status="failed", detail=reason)
        else:
            status: MirrorStatus = "written" if written else "already there"
            yield Mirrored(name=full, status=status, detail=str(place))
        gc.collect()  # a module's parts know one another; its gigabytes shall not wait


def _mirror_one(full: str, place: Path) -> bool:
    """Write one record's folder; False if it is there already."""
    name, _, tag = full.partition(".")
    entry = registry.load(name)
    weights = registry.find_weights(entry.architecture, tag)
    digest = record_digest(name, weights)
    if _is_there(place, digest):
        return False
    with warnings.catch_warnings():
        # What `create` warns of, layers that the source does not bring, stands on the card.
        warnings.simplefilter("ignore", UserWarning)
        state, config = record_state(entry, weights, hub="")
    contents = contents_of(config, unchanged=True)
    # Whole or not at all: nobody's `create` may meet half a folder.
    part = place.with_name(f".{full}.{uuid.uuid4().hex}.part")
    try:
        write_folder(
            part,
            state,
            config,
            card=repository_card(contents, title=full, name=f"local-dir:{full}"),
            digest=digest,
            max_shard_size=_MAX_SHARD_SIZE,
        )
        if place.exists():
            place.rename(part.with_suffix(".old"))
        part.rename(place)
    finally:
        for rest in (part, part.with_suffix(".old")):
            shutil.rmtree(rest, ignore_errors=True)
    return True


def _is_there(place: Path, digest: str) -> bool:
    """Whether a folder holds a record's tensors, all of them."""
    try:
        stored = open_stored(LocalFolder(place))
        return all(read_metadata(file).get("digest") == digest for file in stored.tensors.files)
    except (LookupError, OSError, ValueError):
        return False
