"""Where each method applies inside an image model, found by walking its modules."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from converters.inflate import Inflation
from registry.names import LIFTING
from zoo.layers import ShiftFill
from zoo.lifting.attention import JointTokens, TemporalAttention, TemporalBlock, TimeTable
from zoo.lifting.clock import Clock
from zoo.lifting.convolution import FrameConv3d, FrameShift, TemporalConv

__all__ = ["Lift", "RefusedError", "apply_method"]


class RefusedError(ValueError):
    """A method cannot lift a model; the message says why, and which methods can."""


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


def _spatial_convs(image: nn.Module) -> list[tuple[str, nn.Conv2d]]:
    """The convolutions that look further than they step; the others cut patches."""
    if any(type(module).__name__ == "CondConv2d" for module in image.modules()):
        raise RefusedError("its kernels are mixed anew for each picture.")
    found = [
        (name, module)
        for name, module in image.named_modules()
        if isinstance(module, nn.Conv2d)
        and any(k > s for k, s in zip(module.kernel_size, module.stride, strict=True))
        and max(module.kernel_size) > 1
    ]
    if not found:
        raise RefusedError("it has no convolution whose kernel is larger than its stride.")
    return found


_KNOWN_CONVS = (
    *("Conv2d", "Conv2dSame", "StdConv2d", "StdConv2dSame"),
    *("ScaledStdConv2d", "ScaledStdConv2dSame"),
)


def _apply_i3d(lift: Lift) -> None:
    stride = lift.temporal_stride
    convs = _spatial_convs(lift.image)
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
    for name, conv in _spatial_convs(lift.image):
        part = TemporalConv(conv.out_channels, lift.clock, name, groups=conv.groups)
        conv.register_forward_hook(_After(part))
        lift.parts[name] = part
        lift.new[f"temporal.{name}.weight"] = "the identity"


# Attributes by which timm's residual blocks name their shortcut.
_SHORTCUTS = (
    *("shortcut", "downsample", "drop_path", "drop_path1", "drop_path2", "conv_skip", "skip"),
    *("has_skip", "has_residual", "use_shortcut", "identity", "residual", "conv_shortcut"),
)
_BESIDE = ("shortcut", "downsample", "conv_skip", "skip", "identity", "conv_shortcut")


def _residual_convs(image: nn.Module) -> list[tuple[str, nn.Conv2d]]:
    """The first convolution on the longer way through each residual block."""
    blocks = [
        (name, module)
        for name, module in image.named_modules()
        if name
        and any(hasattr(module, word) for word in _SHORTCUTS)
        and next(_way_through(module), None) is not None
    ]
    inner = [
        (name, module)
        for name, module in blocks
        if not any(other.startswith(f"{name}.") for other, _ in blocks)
    ]
    found = []
    for name, block in inner:
        if getattr(block, "has_skip", True) is False or getattr(block, "has_residual", 1) is False:
            continue
        path, conv = next(_way_through(block))
        found.append((f"{name}.{path}", conv))
    if not found:
        raise RefusedError("it has no residual blocks with convolutions.")
    return found


def _way_through(block: nn.Module) -> Iterator[tuple[str, nn.Conv2d]]:
    for path, module in block.named_modules():
        if isinstance(module, nn.Conv2d) and path.partition(".")[0] not in _BESIDE:
            yield path, module


def _apply_tsm(lift: Lift) -> None:
    for name, conv in _residual_convs(lift.image):
        _hook_before(conv, FrameShift(lift.clock, name, fill=lift.fill))


# Token blocks.

_ATTENTION = re.compile(r"Att|XCA|GPSA|MHSA|MHA")
_NO_SELF_ATTENTION = re.compile(r"^(Class|Cross|Layer)|Pool|SelectiveKernel|AttnDownsample")


@dataclass(frozen=True, slots=True)
class _TokenBlock:
    name: str
    block: nn.Module
    attention: nn.Module
    dim: int
    num_heads: int

    @property
    def out_dim(self) -> int:
        """The width of the tokens that leave the block; hierarchical models widen inside one."""
        out = getattr(self.block, "dim_out", self.dim)
        return out if isinstance(out, int) else self.dim


def _token_blocks(image: nn.Module) -> list[_TokenBlock]:
    """The modules that hold an attention layer and a norm of known width, outermost first."""
    found = []
    for name, module in image.named_modules():
        if not name or "ClassAtt" in type(module).__name__:
            continue
        for child in ("attn", "token_mixer", "attention"):
            attention = getattr(module, child, None)
            kind = type(attention).__name__
            if attention is None or _NO_SELF_ATTENTION.search(kind) or not _ATTENTION.search(kind):
                continue
            dim = _width(module)
            if dim:
                heads = getattr(attention, "num_heads", 0)
                heads = heads if isinstance(heads, int) and heads and dim % heads == 0 else 1
                found.append(_TokenBlock(name, module, attention, dim, heads))
                break
    names = [item.name for item in found]
    found = [item for item in found if not any(item.name.startswith(f"{n}.") for n in names)]
    if not found:
        raise RefusedError("it has no token blocks, a norm and self-attention each.")
    return found


def _width(block: nn.Module) -> int:
    """The width of the tokens that enter a block, told by the norm before its attention."""
    for child in ("norm1", "norm", "ln1", "norm_pre", "norm1_in"):
        norm = getattr(block, child, None)
        shape = getattr(norm, "normalized_shape", None) or (getattr(norm, "num_features", 0),)
        if shape[-1]:
            return int(shape[-1])
    return 0


def _apply_divided(lift: Lift) -> None:
    for item in _token_blocks(lift.image):
        part = TemporalAttention(
            item.dim,
            num_heads=item.num_heads,
            num_frames=lift.num_frames,
            clock=lift.clock,
            where=item.name,
        )
        _hook_before(item.block, part)
        _note_temporal(lift, item.name, part)


def _apply_factorised(lift: Lift) -> None:
    for item in _token_blocks(lift.image):
        part = TemporalBlock(
            item.out_dim,
            num_heads=item.num_heads,
            num_frames=lift.num_frames,
            clock=lift.clock,
            where=item.name,
        )
        item.block.register_forward_hook(_After(part))
        _note_temporal(lift, item.name, part)


def _note_temporal(lift: Lift, name: str, part: nn.Module) -> None:
    lift.parts[name] = part
    for key, parameter in part.named_parameters():
        silent = "time_embed" in key or ".proj." in key or "fc2" in key or key.endswith("bias")
        start = "1" if "norm" in key and key.endswith("weight") else "normal, 0.02"
        lift.new[f"temporal.{name}.{key}"] = "0" if silent else start
        assert parameter.requires_grad


_GLOBAL = ("Attention", "EvaAttention", "AttentionRope")
_TABLES = (
    *(
        "relative_position_bias_table",
        "rel_pos",
        "rel_pos_h",
        "window_size",
        "rope",
        "rel_pos_bias",
    ),
    *("attention_biases", "pos_emb"),
)


def _global_blocks(image: nn.Module) -> list[_TokenBlock]:
    """The token blocks, if each attends to all tokens of a frame without tables of positions."""
    blocks = _token_blocks(image)
    for owner in (image, *(item.attention for item in blocks), *(item.block for item in blocks)):
        for table in _TABLES:
            value = getattr(owner, table, None)
            if isinstance(value, Tensor) or value:
                raise RefusedError(
                    f"its attention has a table of fixed length or a window ('{table}' of "
                    f"{type(owner).__name__})."
                )
    if any("Rotary" in type(module).__name__ for module in image.modules()):
        raise RefusedError(
            "its attention turns queries and keys by the places of one frame (rope)."
        )
    for item in blocks:
        kind = type(item.attention)
        if kind.__name__ not in _GLOBAL or len({block.dim for block in blocks}) > 1:
            raise RefusedError(
                f"its {kind.__name__} is not plain attention over all tokens of a frame."
            )
        if any(isinstance(module, nn.Conv2d) for module in item.block.modules()):
            raise RefusedError("its blocks hold convolutions over the patches of one frame.")
    return blocks


def _apply_joint(lift: Lift) -> None:
    blocks = _global_blocks(lift.image)
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
    "tsm": _residual_convs,
    "i3d": _spatial_convs,
    "r2p1d": _spatial_convs,
    "divided": _token_blocks,
    "joint": _global_blocks,
    "factorised": _token_blocks,
}
