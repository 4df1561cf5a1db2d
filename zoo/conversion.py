"""Checkpoint files from one layout into another: what `zoo convert` and `zoo export` do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import registry
from converters.checkpoint import read_checkpoint, replacing, write_safetensors
from converters.layouts import OWN_LAYOUT, VERSION, Converted, convert_unsized, export
from zoo.models._base import VideoModel
from zoo.onnx import write_onnx

__all__ = ["Recognised", "convert_file", "export_file", "recognise", "targets"]

_PICKLED = (".pt", ".pth", ".pyth", ".bin")
_TARGETS = ("safetensors", "onnx")


@dataclass(frozen=True, slots=True)
class Recognised:
    """What a checkpoint was found to hold.

    Attributes:
        entry: The model.
        found: Its tensors by our keys, and the layout that they were read from.
        arguments: Builder arguments that they were made with.
    """

    entry: registry.Entry
    found: Converted
    arguments: Mapping[str, Any]

    @property
    def name(self) -> str:
        """The model's name."""
        return self.entry.architecture.name

    def build(self) -> VideoModel:
        """The model with these tensors, in eval mode.

        Raises:
            ValueError: The checkpoint leaves layers without weights.
        """
        model = self.entry.build(**self.arguments)
        assert isinstance(model, VideoModel)
        missing = sorted(model.state_dict().keys() - self.found.state.keys())
        if missing:
            raise ValueError(
                f"The checkpoint brings no weights for {', '.join(missing)} of {self.name!r}; "
                f"only a whole model can be written."
            )
        model.load_state_dict(self.found.state)
        return model.eval()


def recognise(
    state: Mapping[str, Tensor], *, name: str | None = None, source: str | None = None
) -> Recognised:
    """Find the model and the layout of a checkpoint by its keys and shapes.

    Args:
        state: Tensors by any layout's keys.
        name: The model, where it is known; without it every model of about that size is tried.
        source: The layout, where it is known.

    Raises:
        LookupError: Unknown name.
        ValueError: Nothing fits, or several models do; the message names them.
    """
    if name is not None:
        return _fit(registry.load(name), state, source)
    fitting = []
    total = sum(tensor.numel() for tensor in state.values())
    for candidate in registry.list_models(exclude=("test_*",)):
        params = registry.info(candidate).params
        # Other classes and stored statistics change the size a little, no more.
        if params is not None and 0.7 < params / total < 1.4:
            try:
                fitting.append(_fit(registry.load(candidate), state, source))
            except (ValueError, LookupError):
                continue
    if not fitting:
        raise ValueError(
            f"No model of the zoo has these {len(state)} tensors"
            f"{f' in the layout {source!r}' if source else ''}; give the model's name to be told "
            f"what does not fit, or see `zoo list`."
        )
    # A TimeSformer's tables fit each of its sizes, but one of them without any change.
    nearest = min(_strangeness(item) for item in fitting)
    fitting = [item for item in fitting if _strangeness(item) == nearest]
    if len(fitting) > 1:
        names = ", ".join(item.name for item in fitting)
        raise ValueError(f"These tensors fit several models: {names}; give the name of one.")
    return fitting[0]


def _strangeness(item: Recognised) -> int:
    """How much about a checkpoint is unlike the model at its own frames, size and channels."""
    own = {key: value for key, value in item.entry.defaults.items() if key != "num_classes"}
    changed = sum(item.arguments.get(key, value) != value for key, value in own.items())
    return changed + len(item.found.keymap.dropped) + len(item.found.keymap.new)


def _fit(entry: registry.Entry, state: Mapping[str, Tensor], source: str | None) -> Recognised:
    try:
        found, made_with = convert_unsized(state, entry, {}, expected=source)
    except ValueError as error:
        try:  # a model that was made without classes brings no classifier
            found, made_with = convert_unsized(state, entry, {"num_classes": 0}, expected=source)
        except ValueError:
            raise error from None
    if source is not None and found.layout != source:
        raise ValueError(
            f"The checkpoint is in the layout {found.layout!r} of {entry.architecture.name!r}, "
            f"not in {source!r}."
        )
    return Recognised(entry, found, made_with)


def convert_file(
    path: Path,
    out: Path,
    *,
    target: str = "safetensors",
    name: str | None = None,
    source: str | None = None,
) -> Recognised:
    """Read a checkpoint of any known layout and write it in another.

    Args:
        path: File to read; see `converters.read_checkpoint`.
        out: File to write, beside its final name first.
        target: `safetensors` for our own layout, `onnx`, or a layout of the model.
        name: See `recognise`.
        source: See `recognise`.

    Returns:
        What the checkpoint was found to hold.

    Raises:
        FileNotFoundError: There is no such file.
        LookupError: The model has no such layout.
        ValueError: The file cannot be read, recognised or written in that layout.
    """
    recognised = recognise(read_checkpoint(path), name=name, source=source)
    if target == "safetensors":
        metadata = {
            "name": recognised.name,
            "source": recognised.found.layout,
            "converter_version": str(VERSION),
        }
        write_safetensors(recognised.found.state, out, metadata=metadata)
    else:
        export_file(recognised.build(), out, target=target, name=recognised.name)
    return recognised


def export_file(model: VideoModel, out: Path, *, target: str, name: str | None = None) -> int:
    """Write a model for another program.

    Args:
        model: The model.
        out: File to write; the suffixes .pt, .pth, .pyth and .bin are written by torch.save,
            .safetensors as such.
        target: `onnx`, or a layout of the model such as `torchvision`.
        name: Its name, where `zoo.create` did not make it.

    Returns:
        How many tensors were written; 0 for ONNX.

    Raises:
        LookupError: The model has no such layout.
        ValueError: The layout cannot hold the weights, or the suffix names no format.
    """
    if target == "onnx":
        write_onnx(model, out)
        return 0
    layout = OWN_LAYOUT if target == "safetensors" else target
    state = export(model, target=layout, name=name)
    if out.suffix == ".safetensors":
        write_safetensors(state, out, metadata={"format": "pt", "layout": layout})
    elif out.suffix in _PICKLED:
        out.parent.mkdir(parents=True, exist_ok=True)
        with replacing(out) as (part,):
            torch.save(state, part)
    else:
        raise ValueError(
            f"'{out}' tells no format; end it in .safetensors, or in {', '.join(_PICKLED)} for "
            f"torch.save."
        )
    return len(state)


def targets(name: str) -> list[str]:
    """What a model can be written as: the layouts that have a way back, and files of our own."""
    entry = registry.load(name)
    return [*_TARGETS, *(layout for layout, keymap in entry.layouts.items() if keymap.exports)]
