"""From other libraries' layouts to ours and back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

import registry
from converters.inflate import Inflation
from converters.keymap import IDENTITY, KeyMap, Problems
from converters.unfilled import shapes_only

__all__ = [
    "VERSION",
    "Converted",
    "Plan",
    "build_outline",
    "convert",
    "convert_unsized",
    "detect",
    "export",
    "plan_unsized",
]

VERSION = 2
"""Raised whenever converted tensors would come out different, so that caches are made anew."""

OWN_LAYOUT = "zoo"


@dataclass(frozen=True, slots=True)
class Converted:
    """Tensors by our keys, and what the source does not bring.

    Attributes:
        state: Tensors, sharing memory with the source where nothing had to be computed.
        keymap: The map that was used; its `new` names the keys that are left out.
        layout: Its name.
    """

    state: dict[str, Tensor]
    keymap: KeyMap
    layout: str = OWN_LAYOUT


@dataclass(frozen=True, slots=True)
class Plan:
    """How one checkpoint becomes ours, found by the shapes of its tensors alone.

    Attributes:
        keymap: The map that fits.
        layout: Its name.
        arguments: Builder arguments that the checkpoint was made with.
        outline: What it becomes, on the meta device, by our keys.
        shapes: Our keys and the shapes of a model of those arguments.
        inflation: See `convert`.
    """

    keymap: KeyMap
    layout: str
    arguments: dict[str, Any]
    outline: Mapping[str, Tensor]
    shapes: Mapping[str, tuple[int, ...]]
    inflation: Inflation

    def convert(self, state_dict: Mapping[str, Tensor]) -> Converted:
        """The tensors of the checkpoint by our keys.

        Raises:
            ValueError: They are others than those that the plan was made for.
        """
        found = self.keymap.convert(state_dict, self.shapes, inflation=self.inflation)
        for key, value in found.items():
            if value.dtype != self.outline[key].dtype:
                raise ValueError(
                    f"{key} holds {value.dtype}, where its header speaks of "
                    f"{self.outline[key].dtype}; fetch the file again."
                )
        return Converted(found, self.keymap, self.layout)


def convert(
    state_dict: Mapping[str, Tensor],
    *,
    name: str,
    source: str | None = None,
    inflation: Inflation | None = None,
    **arguments: Any,
) -> dict[str, Tensor]:
    """Turn a checkpoint of another library into the tensors of one of our models.

    Args:
        state_dict: Tensors by the source's keys; left as it is.
        name: Name of our model.
        source: Layout of the checkpoint, such as `torchvision`, `transformers` or `timm`; found
            by its keys if left out.
        inflation: `mean` (the default) or `center`, where an image model is inflated; refused
            for a `source` whose kernels are not.
        **arguments: Builder arguments the checkpoint was made with, where they are not the
            model's own defaults; `num_classes` for instance.

    Returns:
        Our tensors by key, sharing memory with the source's where only the name changed. Keys that
        the source does not bring (the new head of an inflated image model) are left out.

    Raises:
        LookupError: No such model or layout.
        ValueError: The checkpoint does not fit; the message names every key.
    """
    entry = registry.load(name)
    keymap = _layout(entry, source) if source else None
    if inflation is not None and keymap is not None and not keymap.inflates:
        raise ValueError(
            f"The layout {source!r} of {name!r} is not inflated; leave out inflation={inflation!r}."
        )
    shapes = _shapes_of(build_outline(entry, arguments))
    if keymap is None:
        source = detect(state_dict, entry, shapes)
        keymap = _layout(entry, source)
    converted, problems = keymap.attempt(state_dict, shapes, inflation=inflation or "mean")
    if problems:
        raise _misfit(name, source, problems)
    return converted


def convert_unsized(
    state_dict: Mapping[str, Tensor],
    entry: registry.Entry,
    arguments: Mapping[str, Any],
    *,
    expected: str | None = None,
    inflation: Inflation | None = None,
) -> tuple[Converted, dict[str, Any]]:
    """Convert a checkpoint whose classes, frames and size are read off its tensors.

    Args:
        state_dict: Tensors of any layout that the model knows.
        entry: The model.
        arguments: Builder arguments that decide which tensors there are.
        expected: Layout that is taken if it fits, before any other that does too.
        inflation: See `convert`.

    Returns:
        The tensors, and the builder arguments that they were made with.

    Raises:
        ValueError: The checkpoint does not fit; the message names every key.
    """
    plan = plan_unsized(
        state_dict,
        entry,
        arguments,
        build_outline(entry, arguments),
        expected=expected,
        inflation=inflation or "mean",
    )
    return plan.convert(state_dict), plan.arguments


def plan_unsized(
    state_dict: Mapping[str, Tensor],
    entry: registry.Entry,
    arguments: Mapping[str, Any],
    model: Any,
    *,
    expected: str | None = None,
    inflation: Inflation = "mean",
) -> Plan:
    """How `convert_unsized` would convert a checkpoint; the shapes of its tensors are enough.

    Args:
        state_dict: Its tensors, or only their shapes: tensors on the meta device.
        entry: See `convert_unsized`.
        arguments: See `convert_unsized`.
        model: The module of these arguments; `build_outline` gives it.
        expected: See `convert_unsized`.
        inflation: See `convert`.

    Raises:
        ValueError: The checkpoint does not fit; the message names every key.
    """
    # Joining three layers into one costs time and memory; their shapes cost neither.
    outline = {
        key: value if value.is_meta else torch.empty(value.shape, dtype=value.dtype, device="meta")
        for key, value in state_dict.items()
    }
    shapes = _shapes_of(model)
    source, converted, problems = _nearest(outline, entry, shapes, expected)
    keymap = _layout(entry, source)
    made_with = {**arguments, **model.infer_arguments(converted)}
    if entry.defaults | made_with != entry.defaults | dict(arguments):
        shapes = _shapes_of(build_outline(entry, made_with))
        converted, problems = keymap.attempt(outline, shapes, inflation=inflation)
    if problems:
        raise _misfit(entry.architecture.name, source, problems)
    return Plan(keymap, source, made_with, converted, shapes, inflation)


def export(model: nn.Module, *, target: str, name: str | None = None) -> dict[str, Tensor]:
    """Write a model's tensors in another library's layout; `convert` reads them back unchanged.

    Args:
        model: A model that `zoo.create` made.
        target: Layout, such as `torchvision` or `transformers`.
        name: The model's name, where the module was not made by `zoo.create`.

    Returns:
        Tensors by the target's keys, sharing memory with the model's.

    Raises:
        LookupError: The model has no such layout.
        ValueError: The model's name is not known, it is an inference copy, or the layout cannot
            hold its weights.
    """
    if getattr(model, "inference_copy", False):
        raise ValueError(
            "This is an inference copy, whose weights are no longer those of its record; export "
            "the model that zoo.optimize was given."
        )
    if name is None:
        record = getattr(model, "record", None)
        if record is None:
            raise ValueError("This module was not made by zoo.create; give its `name`.")
        name = str(record.architecture)
    buffers = dict(model.named_buffers())
    return _layout(registry.load(name), target).export(model.state_dict(), buffers)


def detect(
    state_dict: Mapping[str, Tensor],
    entry: registry.Entry,
    shapes: Mapping[str, tuple[int, ...]],
    *,
    expected: str | None = None,
) -> str:
    """The layout whose keys and numbers of axes fit a state dict; our own comes first.

    Args:
        state_dict: Tensors of any layout that the model knows.
        entry: The model.
        shapes: Our keys with the shapes of the model.
        expected: Layout that comes before our own. Where two name their tensors alike (a ViT and
            `timesformer_space`), the tensors alone do not tell them apart.

    Raises:
        ValueError: None fits; the message tells how the nearest one fails.
    """
    return _nearest(state_dict, entry, shapes, expected)[0]


def _nearest(
    state_dict: Mapping[str, Tensor],
    entry: registry.Entry,
    shapes: Mapping[str, tuple[int, ...]],
    expected: str | None,
) -> tuple[str, dict[str, Tensor], Problems]:
    """The layout that `detect` finds, with what its map gives at these shapes."""
    failed: list[tuple[str, Problems]] = []
    first = () if expected is None else (expected,)
    for source in (*first, OWN_LAYOUT, *entry.layouts):
        converted, problems = _layout(entry, source).attempt(state_dict, shapes)
        if not problems.of_kind:
            return source, converted, problems
        failed.append((source, problems))
    nearest, problems = min(failed, key=lambda item: len(item[1]))
    known = ", ".join(source for source, _ in failed)
    raise ValueError(
        f"The checkpoint fits none of the layouts of {entry.architecture.name!r} ({known}). "
        f"Nearest is {nearest!r}: {replace(problems, shapes=())}."
    )


def _misfit(name: str, source: str | None, problems: Problems) -> ValueError:
    return ValueError(f"The checkpoint does not fit {name!r} from {source!r}: {problems}.")


def _layout(entry: registry.Entry, source: str) -> KeyMap:
    if source == OWN_LAYOUT:
        return IDENTITY
    keymap = entry.layouts.get(source)
    if keymap is None:
        known = ", ".join((OWN_LAYOUT, *entry.layouts))
        raise LookupError(
            f"Unknown layout {source!r} for {entry.architecture.name!r}. Known: {known}."
        )
    assert isinstance(keymap, KeyMap)
    return keymap


def build_outline(entry: registry.Entry, arguments: Mapping[str, Any]) -> Any:
    """A model whose tensors have shapes and no memory; this package cannot name its class."""
    with shapes_only():
        return entry.build(**arguments)


def _shapes_of(model: nn.Module) -> dict[str, tuple[int, ...]]:
    return {key: tuple(value.shape) for key, value in model.state_dict().items()}
