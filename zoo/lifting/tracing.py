"""What one run of an image model tells: its residual sums, and what its layers are given.

The run is on tensors without values (torch's meta device), so that it costs no arithmetic and
touches no weight. It is the slow way: the walks of `zoo.lifting.sites` come first.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

__all__ = ["Trace", "trace"]

_SUMS = ("add", "add_", "__add__", "__radd__", "__iadd__")
# Tried after the model's own size; some layers hold tables of one size and assert it.
_SIDES = (224, 256, 64, 96, 112, 128, 160, 192, 240, 288, 320, 384, 448, 512)


@dataclass(slots=True)
class Trace:
    """The graph of one forward pass; nodes are numbered in the order in which they ran.

    Attributes:
        parents: The nodes that each node was computed from.
        convs: Name of the convolution that gave a node.
        sums: Sums of two nodes, each with its operands.
        shapes: Shapes of the first tensor that a layer took and of the first that it gave.
    """

    parents: list[tuple[int, ...]] = field(default_factory=list)
    convs: dict[int, str] = field(default_factory=dict)
    sums: dict[int, tuple[int, int]] = field(default_factory=dict)
    shapes: dict[str, tuple[torch.Size, torch.Size]] = field(default_factory=dict)

    def residual_convs(self) -> list[str]:
        """The convolutions that each residual sum's longer way begins with.

        A sum is residual if its operands fork at a node from which one of them comes through at
        most two convolutions (the shortcut) and the other through more than that one. What lies
        inside the longer way of another such sum is part of that block.
        """
        blocks = [block for block in map(self._block, self.sums) if block]
        outer = [
            block
            for block in blocks
            if not any(a.fork <= block.fork and block.sum < a.sum for a in blocks if a is not block)
        ]
        names = [self.convs[node] for block in outer for node in block.entries]
        return list(dict.fromkeys(names))

    def _block(self, total: int) -> _Block | None:
        left, right = self.sums[total]
        common = self._ancestors(left) & self._ancestors(right)
        if not common:
            return None
        fork = max(common)
        ways = sorted((self._depths(fork, side) for side in (left, right)), key=lambda way: way[1])
        (_, short), (depths, long) = ways
        if short > 2 or long <= short:
            return None
        return _Block(fork, total, [n for n in depths if n in self.convs and depths[n] == 1])

    def _ancestors(self, node: int) -> set[int]:
        seen, todo = {node}, [node]
        while todo:
            for parent in self.parents[todo.pop()]:
                if parent not in seen:
                    seen.add(parent)
                    todo.append(parent)
        return seen

    def _depths(self, fork: int, end: int) -> tuple[dict[int, int], int]:
        """Convolutions on the longest way from a fork to each node before an end, and to it."""
        depths = {fork: 0}
        for node in sorted(self._ancestors(end)):
            known = [depths[parent] for parent in self.parents[node] if parent in depths]
            if node > fork and known:
                depths[node] = max(known) + (node in self.convs)
        return depths, depths[end]


@dataclass(slots=True)
class _Block:
    fork: int
    sum: int
    entries: list[int]


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
        given = [leaf for leaf in tree_leaves((args, kwargs)) if _is_activation(leaf)]
        parents = tuple(dict.fromkeys(map(self.node, given)))
        result = func(*args, **(kwargs or {}))
        if not given:
            return result
        for leaf in tree_leaves(result):
            if _is_activation(leaf):
                number = self.add(leaf, parents)
                if getattr(func, "__name__", "") in _SUMS and len(parents) == 2:
                    self.found.sums[number] = (parents[0], parents[1])
        return result


def _is_activation(value: Any) -> bool:
    return isinstance(value, Tensor) and not isinstance(value, nn.Parameter)


def trace(image: nn.Module, *, layers: Iterable[str] = ()) -> Trace | None:
    """Run a model once on tensors without values.

    Args:
        image: An image model of timm; a copy of it runs.
        layers: Names of the layers whose shapes are wanted.

    Returns:
        What ran, or None if the model cannot be run so at any usual size of pictures.
    """
    # A copy, for some layers keep what they computed; its tensors take no memory.
    empty: dict[int, Any] = {}
    for tensor in (*image.parameters(), *image.buffers()):
        twin = torch.empty_like(tensor, device="meta", requires_grad=False)
        parameter = isinstance(tensor, nn.Parameter)
        empty[id(tensor)] = nn.Parameter(twin, requires_grad=False) if parameter else twin
    model = copy.deepcopy(image, empty).eval()
    own = tuple(getattr(image, "pretrained_cfg", {}).get("input_size", ()))[-1:]
    for side in dict.fromkeys((*own, *_SIDES)):
        try:
            return _run(model, side, set(layers))
        except Exception:  # noqa: BLE001, S112 -- whatever a size that does not fit raises
            continue
    return None


def _run(image: nn.Module, side: int, wanted: set[str]) -> Trace:
    found = Trace()
    recorder = _Recorder(found)
    hooks = []

    def note(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
            given = [leaf for leaf in tree_leaves((args, kwargs)) if _is_activation(leaf)]
            gave = [leaf for leaf in tree_leaves(output) if _is_activation(leaf)]
            if name in wanted:
                found.shapes.setdefault(name, (given[0].shape, gave[0].shape))
            if isinstance(module, nn.Conv2d):
                found.convs[recorder.node(gave[0])] = name

        return hook

    for name, module in image.named_modules():
        if name in wanted or isinstance(module, nn.Conv2d):
            hooks.append(module.register_forward_hook(note(name), with_kwargs=True))
    stem = next(module for module in image.modules() if isinstance(module, nn.Conv2d))
    chans = getattr(image, "in_chans", None) or stem.in_channels
    like = next(image.parameters())
    try:
        with torch.no_grad():
            picture = torch.empty(1, chans, side, side, device=like.device, dtype=like.dtype)
            with recorder:
                image(picture)
    finally:
        for hook in hooks:
            hook.remove()
    return found
