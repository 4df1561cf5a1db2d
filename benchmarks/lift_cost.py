"""What lifting costs: creation beside the image model's own, and r2p1d: beside framepool:.

    python benchmarks/lift_cost.py --out benchmarks/lift_cost.md

Every ratio comes from one process: its two sides are timed in turn, and the smallest times of all
rounds are compared. The temporal kernels of r2p1d: are noise, so that nothing is an identity.
"""

from __future__ import annotations

import argparse
import copy
import time
from functools import partial
from pathlib import Path

import timm
import torch
from torch import Tensor, nn

from registry.names import LIFTING
from zoo.benchmarking.timing import interleave
from zoo.lifting import LiftedModel, RefusedError, inflate

CREATED = (
    *("resnet50", "efficientnet_b0", "convnext_tiny", "vit_small_patch16_224"),
    # Of these some methods must run the model once to find their places.
    *("levit_128s", "dpn68", "edgenext_small", "tiny_vit_5m_224", "efficientvit_m4"),
    *("inception_resnet_v2", "ghostnetv3_100"),
)
# Name, and the ratio that lifting keeps to.
RUN = (
    ("resnet18", 1.5),
    ("resnet50", 1.5),
    ("resnext50_32x4d", 1.5),
    ("mobilenetv2_100", 2.5),
    ("efficientnet_b0", 2.5),
    ("convnext_tiny", 2.5),
)


def creation(name: str, method: str, rounds: int) -> tuple[float, float] | None:
    """Seconds to create the image model, and to lift it; None where it is refused."""
    made, lifted = [], []
    for _ in range(rounds):
        started = time.perf_counter()
        image = timm.create_model(name)
        made.append(time.perf_counter() - started)
        started = time.perf_counter()
        try:
            inflate(image, method=method)
        except RefusedError:
            return None
        lifted.append(time.perf_counter() - started)
    return min(made), min(lifted)


def lifted_pair(name: str) -> tuple[LiftedModel, LiftedModel]:
    """A model on pooled frames, and one with noise in its temporal kernels."""
    image = timm.create_model(name).eval()
    pooled = inflate(copy.deepcopy(image), method="framepool")
    factored = inflate(image, method="r2p1d")
    with torch.no_grad():
        for weight in factored.temporal.parameters():
            nn.init.normal_(weight, std=weight[0].numel() ** -0.5)
    return pooled, factored


def clip_of(side: int) -> Tensor:
    """One clip (1, 3, 8, H, W), in the memory format that `load_clip` gives."""
    clip = torch.randn(1, 3, 8, side, side)
    return clip.contiguous(memory_format=torch.channels_last_3d)


@torch.inference_mode()
def main() -> None:
    """Measure, and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--side", type=int, default=224)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    text = [
        "# What lifting costs",
        "",
        f"Written by `benchmarks/lift_cost.py` with timm {timm.__version__} and torch "
        f"{torch.__version__}, one thread of a CPU, the smallest of {arguments.rounds} rounds.",
        "",
        "Creation: seconds that lifting adds, as a part of the image model's own creation "
        "(goal: under 0.5).",
        "",
        f"| image model | seconds | {' | '.join(f'`{m}:`' for m in LIFTING)} |",
        f"|---|---|{'---|' * len(LIFTING)}",
    ]
    for name in CREATED:
        found = {method: creation(name, method, arguments.rounds) for method in LIFTING}
        cells = [f"{pair[1] / pair[0]:.2f}" if pair else "refused" for pair in found.values()]
        seconds = min(pair[0] for pair in found.values() if pair)
        text.append(f"| {name} | {seconds:.2f} | {' | '.join(cells)} |")
    text += [
        "",
        f"Inference on one clip of 8 frames of {arguments.side}x{arguments.side}: `r2p1d:` with "
        f"noise in its temporal kernels, beside `framepool:`.",
        "",
        "| image model | `framepool:` seconds | `r2p1d:` seconds | ratio | goal |",
        "|---|---|---|---|---|",
    ]
    clip = clip_of(arguments.side)
    for name, goal in RUN:
        pooled, factored = lifted_pair(name)
        calls = (partial(pooled, clip), partial(factored, clip))
        first, second = map(min, interleave(calls, rounds=arguments.rounds))
        ratio = second / first
        text.append(f"| {name} | {first:.2f} | {second:.2f} | {ratio:.2f} | {goal} |")
    print("\n".join(text))
    if arguments.out:
        arguments.out.write_text("\n".join(text) + "\n")


if __name__ == "__main__":
    main()
