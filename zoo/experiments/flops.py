"""What the third dimension costs: operations, parameters and seconds at one clip of 8 frames.

FramePool runs a 2D ResNet-18 on each of the frames; `i3d_r18` is the same network with every
spatial kernel three frames deep; R(2+1)D and TimeSformer stand beside them. Operations are counted
with torch's own counter, layer by layer, so that the ratio can be explained and not only stated.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch

from zoo.benchmarking.timing import Spread, interleave, ratios
from zoo.counting import ModelCost, count_layers
from zoo.experiments.families import BASELINE, INFLATED, NUM_FRAMES
from zoo.factory import create

__all__ = ["IMG_SIZE", "MODELS", "Cost", "flops_by_hand", "measure_costs"]

MODELS = (BASELINE, INFLATED, "r2p1d_18", "timesformer_divided")
IMG_SIZE = 224


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What one model costs on one clip.

    Attributes:
        counted: Operations and parameters.
        seconds: Time of one clip.
        times_baseline: Time by that of the baseline in the same round.
    """

    counted: ModelCost
    seconds: Spread
    times_baseline: Spread


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
    shape = (1, 3, num_frames, img_size, img_size)
    models = [create(name, num_frames=num_frames, img_size=img_size) for name in names]
    clip = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        seconds = interleave([partial(model, clip) for model in models], rounds=rounds)
    return tuple(
        Cost(
            counted=count_layers(model, shape, name=name),
            seconds=Spread.of(times),
            times_baseline=Spread.of(ratios(times, by=seconds[0])),
        )
        for name, model, times in zip(names, models, seconds, strict=True)
    )


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
