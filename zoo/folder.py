"""A model as a folder: `model.safetensors`, `config.json` and a card."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor

import registry
from converters.cards import folder_card
from converters.checkpoint import read_checkpoint, write_safetensors
from converters.layouts import VERSION
from zoo.config import ModelConfig

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
        ValueError: The model has no record, since `zoo.create` did not make it.
        OSError: The folder cannot be written.
    """
    folder, config = Path(path), model.record
    if config is None:
        raise ValueError("This module was not made by zoo.create, so nothing is known about it.")
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(f"'{folder}' is a file; give a folder to save into.")
    write_safetensors(
        model.state_dict(),
        folder / "model.safetensors",
        metadata={
            "name": config.architecture,
            "tag": config.tag,
            "source": json.dumps(config.source),
            "converter_version": str(VERSION),
        },
    )
    text = json.dumps(config.to_json(), indent=2, ensure_ascii=False) + "\n"
    (folder / "config.json").write_text(text, encoding="utf-8")
    card = folder_card(registry.info(config.architecture), config.to_json())
    (folder / "README.md").write_text(card, encoding="utf-8")
    return folder


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
