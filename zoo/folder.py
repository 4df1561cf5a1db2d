"""A model as a folder: `model.safetensors`, `config.json` and a card."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor

import registry
from converters.hub_cards import Contents, repository_card
from converters.layouts import VERSION
from converters.sharding import is_weights_file, write_weights
from converters.unfilled import shapes_only
from zoo.config import ModelConfig
from zoo.counting import count
from zoo.lifting import lifted_architecture
from zoo.optimizing import OptimizedModel
from zoo.stored import build_recorded

if TYPE_CHECKING:
    from zoo.models._base import VideoModel

__all__ = [
    "CARD_FILE",
    "CONFIG_FILE",
    "config_text",
    "contents_of",
    "save",
    "state_to_save",
    "write_folder",
]

CONFIG_FILE, CARD_FILE = "config.json", "README.md"


def save(model: VideoModel, path: str | Path, *, max_shard_size: int | str = "5GB") -> Path:
    """Write a model as a folder that `create("local-dir:PATH")` reads.

    Args:
        model: A model that `zoo.create` made.
        path: The folder; made if it does not exist. Weights that an earlier save left there are
            replaced, other files stay.
        max_shard_size: Size above which the weights become several files with an index, in bytes
            or with a unit.

    Returns:
        The folder.

    Raises:
        ValueError: The model has no record, since `zoo.create` did not make it, or was changed so
            that its record no longer builds it.
        OSError: The folder cannot be written.
    """
    folder = Path(path)
    state, config = state_to_save(model)
    title = folder.resolve().name
    contents = contents_of(config, unchanged=False)
    write_folder(
        folder,
        state,
        config,
        card=repository_card(contents, title=title, name=f"local-dir:{title}"),
        digest="",
        max_shard_size=max_shard_size,
    )
    return folder


def state_to_save(model: VideoModel) -> tuple[dict[str, Tensor], ModelConfig]:
    """The tensors of a model, and its record, which builds it again.

    Raises:
        ValueError: It has none, or was changed so that its record no longer builds it.
    """
    # torch.compile wraps a module and puts a prefix before its keys.
    model = getattr(model, "_orig_mod", model)
    config = getattr(model, "record", None)
    if not isinstance(config, ModelConfig):
        raise ValueError(
            f"This {type(model).__name__} was not made by zoo.create, so nothing is known about "
            f"it; save what zoo.create returned, not what wraps it."
        )
    if isinstance(model, OptimizedModel):
        raise ValueError(
            "This is an inference copy, whose weights are no longer those of its record; save the "
            "model that zoo.optimize was given."
        )
    state = dict(model.state_dict())
    _check_state(state, config)
    return state, config


def contents_of(config: ModelConfig, *, unchanged: bool) -> Contents:
    """What the card of saved weights tells.

    Args:
        config: The model's record.
        unchanged: Whether the tensors are those of the weights record that `config` names.
    """
    lifted = ":" in config.architecture
    architecture = lifted_architecture(config) if lifted else registry.info(config.architecture)
    known = {record.tag: record for record in architecture.weights}
    weights = known.get(config.tag)
    if unchanged and weights is not None and weights.params is not None:
        params, gflops = weights.params, weights.gflops
    else:
        params, gflops = _count(config)
    return Contents(
        architecture=architecture,
        config=config.to_json(),
        weights=weights,
        unchanged=unchanged,
        params=params,
        gflops=gflops,
    )


def _count(config: ModelConfig) -> tuple[int, float | None]:
    with shapes_only():
        model = build_recorded(config).eval()
    try:
        return count(model)
    except RuntimeError:  # what looks at values cannot be run without them
        return sum(parameter.numel() for parameter in model.parameters()), None


def config_text(config: ModelConfig) -> str:
    """What `config.json` holds."""
    return json.dumps(config.to_json(), indent=2, ensure_ascii=False) + "\n"


def write_folder(
    folder: Path,
    state: Mapping[str, Tensor],
    config: ModelConfig,
    *,
    card: str,
    digest: str,
    max_shard_size: int | str,
) -> None:
    """Write all files beside the folder's before the first of them is put in its place.

    A full disk leaves what was there. Whoever is killed while files change places leaves a folder
    without `config.json`, which nothing reads.

    Args:
        folder: Made if it does not exist.
        state: Tensors by key.
        config: The model's record.
        card: The text of `README.md`.
        digest: That of the weights record whose tensors these are, or an empty text.
        max_shard_size: Largest weights file, in bytes or with a unit.

    Raises:
        OSError: The folder cannot be written.
    """
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(f"'{folder}' is a file; give a folder to save into.")
    is_new = not folder.exists()
    part = f".{uuid.uuid4().hex}.part"
    beside = folder.with_name(f".{folder.name}{part}") if is_new else folder / part
    beside.mkdir(parents=True)
    try:
        metadata = {
            "name": config.architecture,
            "tag": config.tag,
            "digest": digest,
            "source": json.dumps(config.source),
            "converter_version": str(VERSION),
        }
        write_weights(state, beside, metadata=metadata, max_shard_size=max_shard_size)
        (beside / CONFIG_FILE).write_text(config_text(config), encoding="utf-8")
        (beside / CARD_FILE).write_text(card, encoding="utf-8")
        if is_new:
            beside.rename(folder)
        else:
            _put_in_place(beside, folder)
    finally:
        if beside.exists():
            for file in beside.iterdir():
                file.unlink()
            beside.rmdir()


def _put_in_place(beside: Path, folder: Path) -> None:
    (folder / CONFIG_FILE).unlink(missing_ok=True)
    written = [file.name for file in beside.iterdir()]
    for name in sorted(written, key=lambda name: name == CONFIG_FILE):
        if name == CONFIG_FILE:
            for file in folder.iterdir():
                if is_weights_file(file.name) and file.name not in written:
                    file.unlink()
        (beside / name).replace(folder / name)


def _check_state(state: Mapping[str, Tensor], config: ModelConfig) -> None:
    """Refuse a module that was changed so that its record no longer builds it."""
    with shapes_only():
        expected = build_recorded(config).state_dict()
    wrong = list(state.keys() ^ expected.keys())
    wrong += [k for k in state.keys() & expected.keys() if state[k].shape != expected[k].shape]
    if wrong:
        raise ValueError(
            f"The module is no longer what its record {config.name!r} builds, so it could not be "
            f"loaded again; it differs in {', '.join(sorted(wrong))}. A new head is set with "
            f"model.reset_classifier(K)."
        )
