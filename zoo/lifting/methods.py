"""What each method puts into an image model, at the places where it applies."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from converters.inflate import Inflation
from registry.names import LIFTING
from zoo.layers import ShiftFill
from zoo.lifting.attention import JointTokens, TemporalAttention, TemporalBlock, TimeTable
from zoo.lifting.clock import Clock
from zoo.lifting.convolution import FrameConv3d, FrameShift, TemporalConv
from zoo.lifting.sites import (
    RefusedError,
    global_sites,
    residual_convs,
    spatial_convs,
    token_sites,
)

__all__ = ["Lift", "RefusedError", "apply_method"]


@dataclass(slots=True)
class Lift:
    """An image model while it is lifted.

    Attributes:
        image: The model; its modules are hooked or replaced in place.
        clock: What the new layers ask for the frames of a clip.
        num_frames: Frames T that tables of times hold.
        inflation: How i3d kernels are extended.
        temporal_stride: Stride in time of the first convolution, i3d only.
        fill: What shifted channels are filled with, tsm only.
        parts: New modules by the name of the place that they belong to.
        new: New parameters by that name, each with its initialisation.
    """

    image: nn.Module
    clock: Clock
    num_frames: int
    inflation: Inflation
    temporal_stride: int
    fill: ShiftFill
    parts: dict[str, nn.Module]
    new: dict[str, str]


class _Before:
    """A hook that changes a module's first argument, given by place or by name.

    An instance and not a closure, so that copies of a model call their own parts.
    """

    def __init__(self, part: nn.Module) -> None:
        self.part = part

    def __call__(
        self, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        if args:
            return (self.part(args[0]), *args[1:]), kwargs
        first = next(iter(kwargs))
        return args, {**kwargs, first: self.part(kwargs[first])}


def _hook_before(module: nn.Module, part: nn.Module) -> None:
    module.register_forward_pre_hook(_Before(part), with_kwargs=True)


class _After:
    """A hook that changes what a module returns, or the first thing of several."""

    def __init__(self, part: nn.Module) -> None:
        self.part = part

    def __call__(self, _: nn.Module, __: tuple[Any, ...], output: Any) -> Any:
        if isinstance(output, Tensor):
            return self.part(output)
        return (self.part(output[0]), *output[1:])


def apply_method(method: str, lift: Lift) -> None:
    """Change the image model in place.

    Raises:
        RefusedError: It has no place where the method applies.
    """
    try:
        _APPLY[method](lift)
    except RefusedError as error:
        able = [name for name in LIFTING if name != method and _applies(name, lift.image)]
        raise RefusedError(
            f"{method}: cannot lift this {type(lift.image).__name__}: {error} "
            f"These can: {', '.join(f'{name}:' for name in able)}."
        ) from None


def _applies(method: str, image: nn.Module) -> bool:
    try:
        _SITES[method](image)
    except RefusedError:
        return False
    return True


# Convolutions.


_KNOWN_CONVS = (
    *("Conv2d", "Conv2dSame", "StdConv2d", "StdConv2dSame"),
    *("ScaledStdConv2d", "ScaledStdConv2dSame"),
)


def _apply_i3d(lift: Lift) -> None:
    stride = lift.temporal_stride
    convs = spatial_convs(lift.image)
    stem = getattr(lift.image, "pretrained_cfg", {}).get("first_conv")
    if stride > 1 and stem != convs[0][0]:
        raise RefusedError(
            f"a stride in time belongs into the stem, and '{convs[0][0]}', the first convolution "
            f"that can be inflated, is not the whole of it; use temporal_stride=1."
        )
    for name, conv in convs:
        if type(conv).__name__ not in _KNOWN_CONVS:
            raise RefusedError(f"'{name}' is a {type(conv).__name__}, whose own code is 2D.")
        if "Std" in type(conv).__name__ and lift.inflation != "mean":
            raise RefusedError(
                f"'{name}' standardises its weights, which a kernel with zeros would change; use "
                f"inflation='mean'."
            )
        inflated = FrameConv3d(conv, lift.clock, name, mode=lift.inflation, stride=stride)
        parent, _, child = name.rpartition(".")
        setattr(lift.image.get_submodule(parent), child, inflated)
        lift.new[f"image.{name}.weight"] = f"the 2D kernel, inflated by '{lift.inflation}'"
        stride = 1


def _apply_r2p1d(lift: Lift) -> None:
    for name, conv in spatial_convs(lift.image):
        part = TemporalConv(conv.out_channels, lift.clock, name, groups=conv.groups)
        conv.register_forward_hook(_After(part))
        lift.parts[name] = part
        lift.new[f"temporal.{name}.weight"] = "the identity"


def _apply_tsm(lift: Lift) -> None:
    for name, conv in residual_convs(lift.image):
        _hook_before(conv, FrameShift(lift.clock, name, fill=lift.fill))


def _apply_divided(lift: Lift) -> None:
    for item in token_sites(lift.image):
        part = TemporalAttention(
            item.dim,
            num_heads=item.num_heads,
            num_frames=lift.num_frames,
            clock=lift.clock,
            where=item.name,
            channels_first=item.channels_first,
        )
        _hook_before(item.block, part)
        _note_temporal(lift, item.name, part)


def _apply_factorised(lift: Lift) -> None:
    for item in token_sites(lift.image):
        part = TemporalBlock(
            item.out_dim,
            num_heads=math.gcd(item.num_heads, item.out_dim),
            num_frames=lift.num_frames,
            clock=lift.clock,
            where=item.name,
            channels_first=item.channels_first,
        )
        item.block.register_forward_hook(_After(part))
        _note_temporal(lift, item.name, part)


def _note_temporal(lift: Lift, name: str, part: nn.Module) -> None:
    lift.parts[name] = part
    for key, parameter in part.named_parameters():
        silent = "time_embed" in key or ".proj." in key or "fc2" in key or key.endswith("bias")
        start = "1" if "norm" in key and key.endswith("weight") else "uniform, std 0.02"
        lift.new[f"temporal.{name}.{key}"] = "0" if silent else start
        assert parameter.requires_grad


def _apply_joint(lift: Lift) -> None:
    blocks = global_sites(lift.image)
    first = blocks[0]
    table = TimeTable(first.dim, num_frames=lift.num_frames, clock=lift.clock, where=first.name)
    _hook_before(first.block, table)
    lift.parts[first.name] = table
    lift.new[f"temporal.{first.name}.time_embed"] = "0"
    for item in blocks:
        after = JointTokens(lift.clock, item.name, apart=True)
        _hook_before(item.attention, JointTokens(lift.clock, item.name, apart=False))
        item.attention.register_forward_hook(_After(after))


def _apply_framepool(_: Lift) -> None:
    """Frames are seen one by one, and their logits averaged."""


_APPLY: Mapping[str, Callable[[Lift], None]] = {
    "framepool": _apply_framepool,
    "tsm": _apply_tsm,
    "i3d": _apply_i3d,
    "r2p1d": _apply_r2p1d,
    "divided": _apply_divided,
    "joint": _apply_joint,
    "factorised": _apply_factorised,
}
_SITES: Mapping[str, Callable[[nn.Module], Any]] = {
    "framepool": lambda _: None,
    "tsm": residual_convs,
    "i3d": spatial_convs,
    "r2p1d": spatial_convs,
    "divided": token_sites,
    "joint": global_sites,
    "factorised": token_sites,
}
