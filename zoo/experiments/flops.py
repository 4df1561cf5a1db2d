"""What the third dimension costs: operations, parameters and seconds at one clip of 8 frames.

FramePool runs a 2D ResNet-18 on each of the frames; `i3d_r18` is the same network with every
spatial kernel three frames deep; R(2+1)D and TimeSformer stand beside them. Operations are counted
with torch's own counter, layer by layer, so that the ratio can be explained and not only stated.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from zoo.factory import create

__all__ = [
    "BASELINE",
    "INFLATED",
    "MODELS",
    "Cost",
    "LayerCost",
    "Spread",
    "count_layers",
    "count_parameters",
    "flops_by_hand",
    "measure_costs",
]

BASELINE, INFLATED = "framepool_r18", "i3d_r18"
MODELS = (BASELINE, INFLATED, "r2p1d_18", "timesformer_divided")
NUM_FRAMES, IMG_SIZE = 8, 224


@dataclass(frozen=True, slots=True)
class LayerCost:
    """Operations of one layer on one clip.

    Attributes:
        name: Of the module in its model.
        kind: Convolutions are called by the sides of their kernel in space, `7x7`, others by
            their class.
        flops: Multiplications and additions, counted apart.
    """

    name: str
    kind: str
    flops: int

    @property
    def macs(self) -> int:
        """Multiply-adds: two operations each."""
        return self.flops // 2


@dataclass(frozen=True, slots=True)
class Spread:
    """The smallest, middle and largest of several measurements."""

    smallest: float
    median: float
    largest: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Sum up measurements."""
        return cls(min(values), statistics.median(values), max(values))


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What one model costs on one clip.

    Attributes:
        name: The model.
        parameters: Numbers that are learned.
        layers: Operations of each layer.
        flops: Operations of the whole model, attention included, which is no layer.
        seconds: Time of one clip.
        times_baseline: Time by that of the baseline in the same round.
    """

    name: str
    parameters: int
    layers: tuple[LayerCost, ...]
    flops: int
    seconds: Spread
    times_baseline: Spread

    @property
    def macs(self) -> int:
        """Multiply-adds: two operations each."""
        return self.flops // 2

    def macs_of(self, kind: str) -> int:
        """Multiply-adds of the layers of a kind."""
        return sum(layer.macs for layer in self.layers if layer.kind == kind)


def measure_costs(
    names: Sequence[str] = MODELS,
    *,
    rounds: int,
    num_frames: int = NUM_FRAMES,
    img_size: int = IMG_SIZE,
) -> tuple[Cost, ...]:
    """Count and time models on one clip.

    Every round times each model once, so that what else the machine does meets all of them; ratios
    are taken within a round.

    Args:
        names: Models; the first is the baseline.
        rounds: Rounds of timing after one that warms up, at least 1.
        num_frames: Frames T of the clip.
        img_size: Height and width of the clip, pixels.

    Raises:
        ValueError: No round.
    """
    if rounds < 1:
        raise ValueError(f"rounds={rounds} is given; give at least 1 to time anything.")
    shape = (1, 3, num_frames, img_size, img_size)
    models = [create(name, num_frames=num_frames, img_size=img_size) for name in names]
    clip = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    seconds = _time_in_turn(models, clip, rounds)
    costs = []
    for name, model, times in zip(names, models, seconds, strict=True):
        layers, flops = count_layers(model, shape)
        ratios = [own / other for own, other in zip(times, seconds[0], strict=True)]
        costs.append(
            Cost(
                name=name,
                parameters=count_parameters(model),
                layers=layers,
                flops=flops,
                seconds=Spread.of(times),
                times_baseline=Spread.of(ratios),
            )
        )
    return tuple(costs)


def count_parameters(model: nn.Module) -> int:
    """Numbers that a model learns."""
    return sum(parameter.numel() for parameter in model.parameters())


def count_layers(model: nn.Module, shape: tuple[int, ...]) -> tuple[tuple[LayerCost, ...], int]:
    """Count operations with torch's counter, without computing anything.

    Args:
        model: Moved to the device `meta`, where tensors have shapes and no values.
        shape: Of the clip, (N, C, T, H, W).

    Returns:
        The layers in the order of their first use, and the operations of the whole model.
    """
    found: dict[str, LayerCost] = {}
    model = model.to("meta").eval()
    with (
        torch.no_grad(),
        FlopCounterMode(display=False) as counter,
        _counted_layers(model, counter, found),
    ):
        model(torch.empty(shape, device="meta"))
    return tuple(found.values()), counter.get_total_flops()


def flops_by_hand(out_shape: tuple[int, ...], *, in_chans: int, kernel: tuple[int, ...]) -> int:
    """Operations of a convolution without bias, by arithmetic alone.

    Every output number is a sum over the kernel's places and the input channels, each place one
    multiplication and one addition.

    Args:
        out_shape: (N, D, ...) of what it puts out.
        in_chans: Input channels C.
        kernel: Sides of the kernel.
    """
    outputs, places = 1, in_chans
    for side in out_shape:
        outputs *= side
    for side in kernel:
        places *= side
    return 2 * outputs * places


@contextmanager
def _counted_layers(
    model: nn.Module, counter: FlopCounterMode, found: dict[str, LayerCost]
) -> Iterator[None]:
    """While it lasts, each convolution and linear layer writes down what it adds to the count."""
    before: dict[str, int] = {}
    handles = []
    for name, module in model.named_modules():
        if not isinstance(module, (nn.Conv2d, nn.Conv3d, nn.Linear)):
            continue

        def start(_: nn.Module, __: object, name: str = name) -> None:
            before[name] = counter.get_total_flops()

        def stop(module: nn.Module, _: object, __: object, name: str = name) -> None:
            flops = counter.get_total_flops() - before[name]
            if name in found:  # a layer may be used several times
                flops += found[name].flops
            found[name] = LayerCost(name, _kind(module), flops)

        handles += [module.register_forward_pre_hook(start), module.register_forward_hook(stop)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _kind(module: nn.Module) -> str:
    if isinstance(module, (nn.Conv2d, nn.Conv3d)):
        height, width = module.kernel_size[-2:]
        return f"{height}x{width}"
    return "linear"


@torch.inference_mode()
def _time_in_turn(models: Sequence[nn.Module], clip: Tensor, rounds: int) -> list[list[float]]:
    """Seconds of each model in each round, on the clip (N, C, T, H, W)."""
    seconds: list[list[float]] = [[] for _ in models]
    for number in range(rounds + 1):
        for model, times in zip(models, seconds, strict=True):
            started = time.perf_counter()
            model(clip)
            if number > 0:
                times.append(time.perf_counter() - started)
    return seconds
