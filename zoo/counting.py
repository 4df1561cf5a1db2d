"""What a model costs: parameters, multiply-adds and the memory of what its layers put out.

A multiply-add (MAC) is one multiplication and one addition: two operations (FLOPs). Papers, and the
records of this zoo, print 10^9 MACs and call them GFLOPs; torch's counter counts FLOPs. Here both
are named apart.

Counted are convolutions, linear layers, products of matrices and attention, fused or not: a mask
spares attention nothing, and biases are free. Not counted are normalisation, activations, pooling
and additions. fvcore, by which SlowFast, X3D and MViT print their figures, has the same
multiply-adds for all that is counted here, and adds a few for normalisation and adaptive pooling.
"""

from __future__ import annotations

import math
import warnings
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from registry.names import parse_name
from zoo._without_values import without_values
from zoo.factory import create
from zoo.models._base import VideoModel

__all__ = ["DTYPES", "LayerCost", "Memory", "ModelCost", "count", "count_layers", "flops"]

DTYPES: Mapping[str, torch.dtype] = {"float32": torch.float32, "bfloat16": torch.bfloat16}
"""What activations are measured in; float16 takes what bfloat16 takes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerCost:
    """What one module costs on one clip, its children left out.

    Attributes:
        name: Of the module in its model; empty for the model's own code.
        kind: Convolutions are called by the sides of their kernel, `7x7` or with time first
            `3x7x7`, linear layers `linear`, others by their class.
        calls: How often it ran.
        params: Numbers that it learns itself.
        macs: Multiply-adds.
        activation_bytes: Memory of the tensors it made, in float32.
    """

    name: str
    kind: str
    calls: int
    params: int
    macs: int
    activation_bytes: int

    @property
    def flops(self) -> int:
        """Multiplications and additions counted apart: two a multiply-add."""
        return 2 * self.macs


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """Activations of one clip in eval mode, without gradients and without the parameters.

    Attributes:
        sum_bytes: All tensors that were made, each counted once; views make none.
        peak_bytes: The most that was alive at once, the clip included.
    """

    sum_bytes: int
    peak_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCost:
    """What one model costs on one clip.

    Attributes:
        name: The model.
        clip: Shape of the clip, (1, C, T, H, W).
        params: Numbers that are learned.
        layers: Every module that computed something, in the order of its first call, and then
            those that hold parameters and were not called.
        activations: By the name of the type that the model computes in. Scratch space inside of
            libraries is not seen.
    """

    name: str
    clip: tuple[int, ...]
    params: int
    layers: tuple[LayerCost, ...]
    activations: Mapping[str, Memory]

    @property
    def macs(self) -> int:
        """Multiply-adds of the whole model."""
        return sum(layer.macs for layer in self.layers)

    @property
    def flops(self) -> int:
        """Multiplications and additions counted apart: two a multiply-add."""
        return 2 * self.macs

    def macs_of(self, kind: str) -> int:
        """Multiply-adds of the layers of a kind; a kernel in space stands for every depth too."""
        deeper = f"x{kind}"
        return sum(
            layer.macs for layer in self.layers if layer.kind == kind or layer.kind.endswith(deeper)
        )

    def folded(self, depth: int) -> tuple[LayerCost, ...]:
        """The layers added up under the first parts of their names.

        Args:
            depth: Parts that are kept, 1 or more: `blocks.0.attn` is `blocks.0` at depth 2.

        Raises:
            ValueError: A depth below 1.
        """
        if depth < 1:
            raise ValueError(f"depth={depth} is given; keep at least 1 part of the names.")
        found: dict[str, LayerCost] = {}
        for layer in self.layers:
            parts = layer.name.split(".")
            name = ".".join(parts[:depth])
            if name not in found:
                kind = layer.kind if len(parts) <= depth else "block"
                found[name] = replace(layer, name=name, kind=kind)
                continue
            known = found[name]
            found[name] = LayerCost(
                name=name,
                kind="block",
                calls=max(known.calls, layer.calls),
                params=known.params + layer.params,
                macs=known.macs + layer.macs,
                activation_bytes=known.activation_bytes + layer.activation_bytes,
            )
        return tuple(found.values())

    def to_json(self, depth: int | None = None) -> dict[str, Any]:
        """Everything for programs.

        Args:
            depth: See `folded`; None keeps every layer.
        """
        layers = self.layers if depth is None else self.folded(depth)
        return {
            "name": self.name,
            "clip": list(self.clip),
            "params": self.params,
            "macs": self.macs,
            "flops": self.flops,
            "activations": {
                name: {"sum_bytes": memory.sum_bytes, "peak_bytes": memory.peak_bytes}
                for name, memory in self.activations.items()
            },
            "layers": [
                {
                    "name": layer.name,
                    "kind": layer.kind,
                    "calls": layer.calls,
                    "params": layer.params,
                    "macs": layer.macs,
                    "flops": layer.flops,
                    "activation_bytes": layer.activation_bytes,
                }
                for layer in layers
            ],
        }


def count(model: VideoModel) -> tuple[int, float]:
    """Parameters of a module on the meta device, and 10^9 multiply-adds of one clip.

    Args:
        model: Built under `torch.device("meta")`, so that nothing is computed.
    """
    side = model.img_size
    with torch.device("meta"), torch.no_grad(), _in_parts():
        clip = torch.empty(1, model.in_chans, model.num_frames, side, side)
        if model.reads_class_names:
            model(clip)  # names are encoded once for all clips, which is no cost of a view
        with _counter() as counter:
            model(clip)
    params = sum(parameter.numel() for parameter in model.parameters())
    # torch counts a multiply-add as two operations, papers as one.
    return params, round(counter.get_total_flops() / 2e9, 3)


def flops(
    model: VideoModel | str, *, num_frames: int | None = None, img_size: int | None = None
) -> ModelCost:
    """Count what a model costs on one clip, layer by layer; nothing is computed.

    Args:
        model: A model, which is left as it is, or a name that `create` takes, for which no weights
            are fetched: a registered one, one with a tag, or one that lifts an image model.
        num_frames: Frames T of the clip; the model's own if left out.
        img_size: Height and width of the clip in pixels, likewise.

    Raises:
        LookupError: No such model.
        ValueError: A size that the model cannot take.
    """
    if isinstance(model, str):
        name, model = model, _build(model, num_frames=num_frames, img_size=img_size)
    else:
        name = model.record.name if model.record is not None else type(model).__name__
    frames = model.num_frames if num_frames is None else num_frames
    side = model.img_size if img_size is None else img_size
    return count_layers(model, (1, model.in_chans, frames, side, side), name=name)


def count_layers(model: nn.Module, shape: tuple[int, ...], *, name: str = "") -> ModelCost:
    """Count what any module costs on one input.

    Args:
        model: Left as it is: a copy without values runs.
        shape: Of the input, for a video model (N, C, T, H, W).
        name: What to call the model.
    """
    ledgers = {key: _run(model, shape, dtype) for key, dtype in DTYPES.items()}
    return ModelCost(
        name=name,
        clip=shape,
        params=sum(parameter.numel() for parameter in model.parameters()),
        layers=tuple(ledgers["float32"].layers(model)),
        activations={
            key: Memory(sum_bytes=ledger.made, peak_bytes=ledger.peak)
            for key, ledger in ledgers.items()
        },
    )


def _build(name: str, *, num_frames: int | None, img_size: int | None) -> VideoModel:
    with warnings.catch_warnings():
        # That the weights of a tag were not loaded is what is wanted here.
        warnings.simplefilter("ignore", UserWarning)
        if parse_name(name).scheme in ("local-dir", "hf-hub"):
            return create(name, num_frames=num_frames, img_size=img_size)
        with torch.device("meta"):
            return create(name, num_frames=num_frames, img_size=img_size)


def _run(model: nn.Module, shape: tuple[int, ...], dtype: torch.dtype) -> _Ledger:
    """Run a copy of a model whose tensors have shapes and no values."""
    # Of all devices without values, a fake CPU picks the kernels that a CPU picks: on "meta",
    # attention would be taken apart and hold a table of all pairs of tokens.
    with (
        FakeTensorMode(allow_non_fake_inputs=True),
        torch.no_grad(),
        _in_parts(),
        warnings.catch_warnings(),
    ):
        # The text tower of X-CLIP recognises its weights by where they lie, and these lie nowhere.
        warnings.filterwarnings("ignore", "Accessing the data pointer of FakeTensor")
        shadow = without_values(model, device="cpu", dtype=dtype)
        clip = torch.empty(shape, dtype=dtype)
        if getattr(shadow, "reads_class_names", False):
            shadow(clip)  # names are encoded once for all clips, which is no cost of a view
        counter = _counter()
        ledger = _Ledger(counter)
        with ledger.watch(shadow), counter, ledger:
            ledger.note(clip)
            ledger.made = 0  # the clip is not the model's doing
            shadow(clip)
        return ledger


def _counter() -> FlopCounterMode:
    """Torch's counter, which does not know the one kernel that a CPU has for an LSTM."""
    return FlopCounterMode(
        display=False, custom_mapping={torch.ops.aten.mkldnn_rnn_layer: _lstm_flops}
    )


def _lstm_flops(
    x: Sequence[int], inward: Sequence[int], across: Sequence[int], *_: object, **__: object
) -> int:
    """Operations of one layer of an LSTM in one direction.

    Args:
        x: Shape of what it reads, (steps, N, C).
        inward: Shape of the weights of its gates for what it reads.
        across: Shape of those for what it put out before.
    """
    steps, batch, _chans = x
    return 2 * steps * batch * (math.prod(inward) + math.prod(across))


@contextmanager
def _in_parts() -> Iterator[None]:
    """While it lasts, attention of torch's own modules runs as operations that are counted.

    In eval mode `nn.MultiheadAttention` and `nn.TransformerEncoderLayer` are one kernel otherwise,
    of which torch's counter knows nothing.
    """
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


@dataclass(slots=True)
class _Account:
    calls: int = 0
    flops: int = 0
    made: int = 0


@dataclass(slots=True)
class _Frame:
    """One call of a module: what was counted before it, and what its children took."""

    name: str
    before: int
    children: int = 0


class _Ledger(TorchDispatchMode):  # type: ignore[no-untyped-call] # torch types no modes
    """While it is active, writes down for each module what it counts and which tensors it makes.

    Args:
        counter: torch's counter, active as well.
    """

    def __init__(self, counter: FlopCounterMode) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.counter = counter
        self.made = self.peak = self._alive = 0
        self._accounts: dict[str, _Account] = {}
        self._frames: list[_Frame] = []
        self._storages: set[int] = set()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Run an operation and note the tensors that it made."""
        result = func(*args, **(kwargs or {}))
        given = {
            id(item.untyped_storage())
            for item in tree_leaves((args, kwargs))
            if isinstance(item, Tensor)
        }
        for item in tree_leaves(result):
            if isinstance(item, Tensor) and id(item.untyped_storage()) not in given:
                self.note(item)
        return result

    def note(self, tensor: Tensor) -> None:
        """Count a tensor's memory until nothing refers to it any more."""
        storage = tensor.untyped_storage()
        key, size = id(storage), storage.nbytes()
        if key in self._storages:
            return
        self._storages.add(key)
        weakref.finalize(storage, self._forget, key, size).atexit = False
        self.made += size
        self._alive += size
        self.peak = max(self.peak, self._alive)
        if self._frames:
            self._accounts[self._frames[-1].name].made += size

    def _forget(self, key: int, size: int) -> None:
        self._storages.discard(key)
        self._alive -= size

    @contextmanager
    def watch(self, model: nn.Module) -> Iterator[None]:
        """While it lasts, know which module of a model runs."""
        handles = []
        for name, module in model.named_modules():

            def start(_: nn.Module, __: object, name: str = name) -> None:
                self._accounts.setdefault(name, _Account()).calls += 1
                self._frames.append(_Frame(name, self.counter.get_total_flops()))

            def stop(_: nn.Module, __: object, ___: object) -> None:
                frame = self._frames.pop()
                total = self.counter.get_total_flops() - frame.before
                self._accounts[frame.name].flops += total - frame.children
                if self._frames:
                    self._frames[-1].children += total

            handles += [
                module.register_forward_pre_hook(start, prepend=True),
                module.register_forward_hook(stop),
            ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def layers(self, model: nn.Module) -> Iterator[LayerCost]:
        """What was written down, for every module that computed something or holds parameters.

        Args:
            model: The model itself or a copy.
        """
        modules = dict(model.named_modules())
        seen: set[nn.Parameter] = set()
        # What did not run (a decoder that only pre-training uses) still holds parameters.
        for name in (*self._accounts, *(name for name in modules if name not in self._accounts)):
            account, module = self._accounts.get(name, _Account()), modules[name]
            own = set(module.parameters(recurse=False)) - seen
            seen |= own
            params = sum(parameter.numel() for parameter in own)
            if account.flops or account.made or params:
                yield LayerCost(
                    name=name,
                    kind=_kind(module),
                    calls=account.calls,
                    params=params,
                    macs=account.flops // 2,
                    activation_bytes=account.made,
                )


def _kind(module: nn.Module) -> str:
    if isinstance(module, (nn.Conv2d, nn.Conv3d)):
        return "x".join(str(side) for side in module.kernel_size)
    return "linear" if isinstance(module, nn.Linear) else type(module).__name__
