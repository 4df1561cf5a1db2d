"""What one run of an image model tells: its residual sums, and what its layers are given.

The run is on tensors without values (torch's meta device), so that it costs no arithmetic and
touches no weight. It is the slow way: the walks of `zoo.lifting.sites` come first.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from zoo._without_values import without_values

__all__ = ["Trace", "trace", "trace_shapes"]

_SUMS = ("add", "add_", "__add__", "__radd__", "__iadd__")
# Tried after the model's own size; some layers hold tables of one size and assert it.
_SIDES = (224, 256, 64, 96, 112, 128, 160, 192, 240, 288, 320, 384, 448, 512)
# Shapes of the first tensor that a layer took and of the first that it gave.
Shapes = tuple[torch.Size, torch.Size]


@dataclass(slots=True)
class Trace:
    """The graph of one forward pass; nodes are numbered in the order in which they ran.

    Attributes:
        parents: The nodes that each node was computed from.
        convs: Name of the convolution that gave a node.
        sums: Sums of two nodes, each with its operands.
    """

    parents: list[tuple[int, ...]] = field(default_factory=list)
    convs: dict[int, str] = field(default_factory=dict)
    sums: dict[int, tuple[int, int]] = field(default_factory=dict)

    def residual_convs(self) -> list[str]:
        """The convolutions that each residual sum's longer way begins with.

        A sum is residual if its operands fork at a node from which one of them comes through at
        most two convolutions (the shortcut) and the other through more than that one. What lies
        inside the longer way of another such sum is part of that block.
        """
        ancestors = self._ancestors()
        blocks = [block for total in self.sums if (block := self._block(total, ancestors))]
        outer = [
            block
            for block in blocks
            if not any(a.fork <= block.fork and block.sum < a.sum for a in blocks if a is not block)
        ]
        names = [self.convs[node] for block in outer for node in block.entries]
        return list(dict.fromkeys(names))

    def _ancestors(self) -> list[int]:
        """Each node's ancestors and itself, as the set bits of a number."""
        found: list[int] = []
        for node, parents in enumerate(self.parents):
            bits = 1 << node
            for parent in parents:
                bits |= found[parent]
            found.append(bits)
        return found

    def _block(self, total: int, ancestors: list[int]) -> _Block | None:
        left, right = self.sums[total]
        common = ancestors[left] & ancestors[right]
        if not common:
            return None
        fork = common.bit_length() - 1
        ways = sorted(
            (self._depths(fork, side, ancestors[side]) for side in (left, right)),
            key=lambda way: way[1],
        )
        (_, short), (depths, long) = ways
        if short > 2 or long <= short:
            return None
        return _Block(fork, total, [n for n in depths if n in self.convs and depths[n] == 1])

    def _depths(self, fork: int, end: int, ancestors: int) -> tuple[dict[int, int], int]:
        """Convolutions on the longest way from a fork to each node before an end, and to it."""
        depths = {fork: 0}
        for node in range(fork + 1, end + 1):
            if ancestors >> node & 1:
                known = [depths[parent] for parent in self.parents[node] if parent in depths]
                if known:
                    depths[node] = max(known) + (node in self.convs)
        return depths, depths[end]


@dataclass(slots=True)
class _Block:
    fork: int
    sum: int
    entries: list[int]


# On tensors without values torch composes these of many other functions (a BatchNorm takes 0.5 ms);
# the shape of what they give is known.
_SAME_SHAPE = frozenset(
    (
        *("batch_norm", "layer_norm", "group_norm", "instance_norm", "rms_norm", "dropout"),
        *("relu", "relu6", "gelu", "hardswish", "hardsigmoid", "hardtanh", "leaky_relu", "elu"),
        *("sigmoid", "silu", "mish", "tanh"),
    )
)
_TWO_OPERANDS = frozenset(
    (
        *("add", "sub", "mul", "div"),
        *("__add__", "__sub__", "__mul__", "__truediv__"),
        *("__radd__", "__rsub__", "__rmul__", "__rtruediv__"),
    )
)


def _call_without_values(func: Callable[..., Any], args: tuple[Any, ...], kwargs: Any) -> Any:
    """What a function gives for tensors without values."""
    name = getattr(func, "__name__", "")
    x = args[0] if args else None
    if not isinstance(x, Tensor) or not x.is_meta or not x.is_floating_point():
        return func(*args, **kwargs)
    if name in _SAME_SHAPE:
        # A change in place gives the very tensor, which the shortcut may hold too.
        return x if kwargs.get("inplace") else _empty(x, x.shape)
    if name == "conv2d" and (sides := _sides_after_conv(*args)):
        return _empty(x, (x.shape[0], args[1].shape[0], *sides))
    if name == "interpolate":
        return _resized(x, **kwargs)
    if name == "linear":
        return _empty(x, (*x.shape[:-1], *args[1].shape[:-1]))
    if name == "scaled_dot_product_attention" and len(args) > 2:
        return _empty(x, (*x.shape[:-1], args[2].shape[-1]))
    if name in _TWO_OPERANDS and len(args) == 2 and not kwargs:
        y = args[1]
        if isinstance(y, (int, float)):
            return _empty(x, x.shape)
        if isinstance(y, Tensor) and y.dtype == x.dtype:
            if y.shape == x.shape:
                return _empty(x, x.shape)
            return _empty(x, np.broadcast_shapes(x.shape, y.shape))
    return func(*args, **kwargs)


def _sides_after_conv(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,  # noqa: ARG001 -- the arguments of `conv2d`
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> list[int]:
    """Height and width of what a convolution gives; empty where torch is to say it, or to refuse.

    Args:
        x: Maps, (N, C, H, W).
        weight: Kernels, (D, C/groups, h, w).
        bias: Not looked at.
        stride: See torch, like all that follow.
        padding: See torch.
        dilation: See torch.
        groups: See torch.
    """
    told = all(isinstance(value, tuple) for value in (stride, padding, dilation))
    if not told or x.ndim != 4 or x.shape[1] != weight.shape[1] * groups or not x.is_contiguous():
        return []
    sides = [
        (side + 2 * pad - dilate * (kernel - 1) - 1) // step + 1
        for side, kernel, step, pad, dilate in zip(
            x.shape[2:], weight.shape[2:], stride, padding, dilation, strict=True
        )
    ]
    return sides if min(sides) > 0 else []


def _resized(x: Tensor, size: Any = None, scale_factor: Any = None, **_: Any) -> Tensor:
    """What `interpolate` gives for (N, C, ...)."""
    asked = scale_factor if size is None else size
    each = asked if isinstance(asked, (tuple, list)) else [asked] * (x.ndim - 2)
    if size is None:
        each = [math.floor(side * factor) for side, factor in zip(x.shape[2:], each, strict=True)]
    found = _empty(x, (*x.shape[:2], *each))
    last = x.ndim == 4 and x.is_contiguous(memory_format=torch.channels_last)
    if last and not x.is_contiguous():
        return found.contiguous(memory_format=torch.channels_last)
    return found


def _empty(like: Tensor, shape: Sequence[int]) -> Tensor:
    """A tensor without values, in the memory format of another if it has its shape."""
    if shape == like.shape and not like.is_contiguous():
        return torch.empty_like(like)
    return torch.empty(shape, dtype=like.dtype, device="meta")


class _Quick(TorchFunctionMode):
    """Spares what only the values of tensors need."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        return _call_without_values(func, args, kwargs or {})


class _Recorder(TorchFunctionMode):
    """Writes every call on tensors into a trace."""

    def __init__(self, found: Trace) -> None:
        super().__init__()
        self.found = found
        self.nodes: dict[int, int] = {}
        self.kept: list[Tensor] = []  # while they live, no other tensor gets their id

    def node(self, tensor: Tensor) -> int:
        """The number of a tensor; what no call has given is new."""
        return self.nodes[id(tensor)] if id(tensor) in self.nodes else self.add(tensor, ())

    def add(self, tensor: Tensor, parents: tuple[int, ...]) -> int:
        """A new number for a tensor, which a change in place may have had before."""
        self.nodes[id(tensor)] = len(self.found.parents)
        self.kept.append(tensor)
        self.found.parents.append(parents)
        return self.nodes[id(tensor)]

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        parents = tuple(dict.fromkeys(map(self.node, _activations((args, kwargs)))))
        result = _call_without_values(func, args, kwargs or {})
        if not parents:
            return result
        for leaf in _activations(result):
            number = self.add(leaf, parents)
            if len(parents) == 2 and getattr(func, "__name__", "") in _SUMS:
                self.found.sums[number] = (parents[0], parents[1])
        return result


_HOLDERS = (Tensor, tuple, list, dict)


def _activations(value: Any) -> Iterator[Tensor]:
    """The tensors in a value, through tuples, lists and mappings, that are no parameters."""
    if isinstance(value, Tensor):
        if not isinstance(value, nn.Parameter):
            yield value
    elif isinstance(value, (tuple, list)):
        for item in value:
            if isinstance(item, _HOLDERS):  # most are numbers
                yield from _activations(item)
    elif isinstance(value, dict):
        yield from _activations(tuple(value.values()))


class _Enough(Exception):  # noqa: N818 -- no error, but the end of a run
    """Every layer that was asked for has run."""


def trace(image: nn.Module) -> Trace | None:
    """Run a model once on tensors without values, and note what was computed from what.

    Args:
        image: An image model of timm; a copy of it runs.

    Returns:
        What ran, or None if the model cannot be run so at any usual size of pictures.
    """
    model = without_values(image)
    convs = {n: m for n, m in model.named_modules() if isinstance(m, nn.Conv2d)}

    def run(side: int) -> Trace:
        found = Trace()
        recorder = _Recorder(found)

        def note(name: str) -> Callable[..., None]:
            def hook(_: nn.Module, __: Any, output: Any) -> None:
                found.convs[recorder.node(next(_activations(output)))] = name

            return hook

        hooks = [conv.register_forward_hook(note(name)) for name, conv in convs.items()]
        try:
            _run(model, side, recorder)
        finally:
            for hook in hooks:
                hook.remove()
        return found

    return _at_some_size(run, image)


def trace_shapes(image: nn.Module, layers: Sequence[str]) -> dict[str, Shapes]:
    """Run a model on tensors without values, and note what its layers take and give.

    Args:
        image: An image model of timm; a copy of it runs.
        layers: Names of the layers whose shapes are wanted.

    Returns:
        Shapes of the first tensor that each layer took and of the first that it gave; without the
        layers that do not run.
    """
    model = without_values(image)

    def run(side: int) -> dict[str, Shapes]:
        found: dict[str, Shapes] = {}

        def note(name: str) -> Callable[..., None]:
            def hook(_: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
                given, gave = next(_activations((args, kwargs))), next(_activations(output))
                found.setdefault(name, (given.shape, gave.shape))
                if len(found) == len(layers):
                    raise _Enough

            return hook

        hooks = [
            model.get_submodule(name).register_forward_hook(note(name), with_kwargs=True)
            for name in layers
        ]
        try:
            _run(model, side, _Quick())
        except _Enough:
            pass
        finally:
            for hook in hooks:
                hook.remove()
        return found

    return _at_some_size(run, image) or {}


_Found = TypeVar("_Found")


def _at_some_size(run: Callable[[int], _Found], image: nn.Module) -> _Found | None:
    """What a run on pictures of the first side that fits the model gives."""
    own = tuple(getattr(image, "pretrained_cfg", {}).get("input_size", ()))[-1:]
    for side in dict.fromkeys((*own, *_SIDES)):
        try:
            return run(side)
        except Exception:  # noqa: BLE001, S112 -- whatever a size that does not fit raises
            continue
    return None


def _run(model: nn.Module, side: int, mode: TorchFunctionMode) -> None:
    stem = next(module for module in model.modules() if isinstance(module, nn.Conv2d))
    chans = getattr(model, "in_chans", None) or stem.in_channels
    dtype = next(model.parameters()).dtype
    with torch.no_grad():
        picture = torch.empty(1, chans, side, side, device="meta", dtype=dtype)
        with mode:
            model(picture)
