"""What lifting costs: creation beside the image model's own, and r2p1d: beside framepool:.

python benchmarks/lift_cost.py --creation
    measures the creation of timm's architectures, into lift_creation.csv beside this script;
    goes on where it left off
python benchmarks/lift_cost.py --out benchmarks/lift_cost.md
    measures creation with weights and inference, and writes all tables

Every ratio comes from one process: its two sides are timed in turn, and the smallest times of all
rounds are compared. The temporal kernels of r2p1d: are noise, so that nothing is an identity.
Creation leaves out architectures of more than `LARGEST` million parameters, and those with another
one's class and parameters (other input sizes).
"""

from __future__ import annotations

import argparse
import copy
import csv
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from statistics import median

import timm
import torch
from timm.models import save_for_hf
from torch import Tensor, nn

import zoo
from converters.unfilled import shapes_only
from registry.names import LIFTING
from zoo.benchmarking.timing import interleave
from zoo.lifting import LiftedModel, RefusedError, inflate

CREATION = Path(__file__).with_name("lift_creation.csv")
LARGEST = 60
CREATED = 3  # times that each is created
GOAL = 0.5
# Beside these, what is not under the goal without weights is created with weights.
WITH_WEIGHTS = (
    ("i3d", "resnet50"),
    ("r2p1d", "efficientnet_b0"),
    ("tsm", "convnext_tiny"),
    ("divided", "vit_base_patch16_224"),
    ("joint", "vit_base_patch16_224"),
    ("factorised", "vit_base_patch16_224"),
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


def distinct() -> Iterator[str]:
    """The architectures whose creation is measured."""
    seen = set()
    for name in timm.list_models():
        with shapes_only():
            image = timm.create_model(name)
        sizes = [tuple(parameter.shape) for parameter in image.parameters()]
        key = (type(image), tuple(sizes))
        if key not in seen and sum(p.numel() for p in image.parameters()) <= LARGEST * 1e6:
            seen.add(key)
            yield name


def creation(name: str) -> list[float | None]:
    """Seconds to create the image model, and to lift it by each method; None where refused."""
    made: list[float] = []
    lifted: dict[str, list[float]] = {method: [] for method in LIFTING}
    for _ in range(CREATED):
        started = time.perf_counter()
        image = timm.create_model(name)
        made.append(time.perf_counter() - started)
        for method, seconds in lifted.items():
            if len(made) > 1 and not seconds:
                continue  # it was refused
            twin = copy.deepcopy(image)
            started = time.perf_counter()
            try:
                inflate(twin, method=method)
            except RefusedError:
                continue
            seconds.append(time.perf_counter() - started)
    return [min(made), *(min(seconds) if seconds else None for seconds in lifted.values())]


def measure_creation() -> None:
    """Add what is missing to the table of creations."""
    done = {row["architecture"] for row in read_creation()} if CREATION.is_file() else set()
    with CREATION.open("a", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        if not done:
            table.writerow(["architecture", "seconds", *LIFTING])
        for name in distinct():
            if name not in done:
                made, *lifted = creation(name)
                assert made is not None
                ratios = ["" if lift is None else f"{lift / made:.3f}" for lift in lifted]
                table.writerow([name, f"{made:.4f}", *ratios])
                file.flush()


def read_creation() -> list[dict[str, str]]:
    """The rows of the table of creations."""
    with CREATION.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def missed(rows: list[dict[str, str]], method: str) -> list[str]:
    """The architectures whose lifting is not under the goal, the worst first."""
    found = [row for row in rows if row[method] and float(row[method]) >= GOAL]
    found.sort(key=lambda row: float(row[method]), reverse=True)
    return [row["architecture"] for row in found]


def creation_table() -> list[str]:
    """What the table of creations says, a line a method."""
    rows = read_creation()
    lines = [
        f"Creation: seconds that lifting adds, as a part of the image model's own creation (goal: "
        f"under {GOAL}), the smallest of {CREATED} times each. All of timm's architectures of at "
        f"most {LARGEST} million parameters that have layers of their own, {len(rows)}; every "
        f"ratio is in [lift_creation.csv]({CREATION.name}).",
        "",
        "| method | lifts | under the goal | median | not under the goal |",
        "|---|---|---|---|---|",
    ]
    for method in LIFTING:
        ratios = {row["architecture"]: float(row[method]) for row in rows if row[method]}
        over = missed(rows, method)
        named = ", ".join(f"{name} {ratios[name]:.2f}" for name in over) or "none"
        lines.append(
            f"| `{method}:` | {len(ratios)} | {len(ratios) - len(over)} | "
            f"{median(ratios.values()):.2f} | {named} |"
        )
    return lines


def creation_with_weights(method: str, name: str, rounds: int) -> tuple[float, float]:
    """Seconds of timm and of `zoo.create`, both from one folder with the image model's weights."""
    with tempfile.TemporaryDirectory() as folder:
        save_for_hf(timm.create_model(name), folder, safe_serialization=True)
        calls: tuple[Callable[[], object], ...] = (
            partial(timm.create_model, f"local-dir:{folder}", pretrained=True),
            partial(zoo.create, f"{method}:local-dir:{folder}"),
        )
        first, second = map(min, interleave(calls, rounds=rounds))
    return first, second


def weights_table(rounds: int) -> list[str]:
    """Measure creation with weights, a line a model."""
    lines = [
        f"Creation with the image model's weights, from a folder; the smallest of {rounds} rounds. "
        f"timm draws first values, which the weights replace; `zoo.create` does not. What is added "
        f"is a part of timm's own seconds. The first are often used, the others are those above.",
        "",
        "| model | timm's own seconds | `zoo.create` seconds | added |",
        "|---|---|---|---|",
    ]
    rows = read_creation()
    over = [(method, name) for method in LIFTING for name in missed(rows, method)]
    for method, name in (*WITH_WEIGHTS, *over):
        first, second = creation_with_weights(method, name, rounds)
        added = second / first - 1
        lines.append(f"| {method}:{name} | {first:.3f} | {second:.3f} | {added:.2f} |")
    return lines


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
def inference_table(rounds: int, side: int) -> list[str]:
    """Measure r2p1d: beside framepool:, a line a model."""
    lines = [
        f"Inference on one clip of 8 frames of {side}x{side}, the smallest of {rounds} rounds: "
        f"`r2p1d:` with noise in its temporal kernels, beside `framepool:`.",
        "",
        "| image model | `framepool:` seconds | `r2p1d:` seconds | ratio | goal |",
        "|---|---|---|---|---|",
    ]
    clip = clip_of(side)
    for name, goal in RUN:
        pooled, factored = lifted_pair(name)
        calls = (partial(pooled, clip), partial(factored, clip))
        first, second = map(min, interleave(calls, rounds=rounds))
        ratio = second / first
        lines.append(f"| {name} | {first:.2f} | {second:.2f} | {ratio:.2f} | {goal} |")
    return lines


def main() -> None:
    """Measure, and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--creation", action="store_true")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--side", type=int, default=224)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    if arguments.creation:
        measure_creation()
        return
    text = [
        "# What lifting costs",
        "",
        f"Written by `benchmarks/lift_cost.py` with timm {timm.__version__} and torch "
        f"{torch.__version__}, one thread of a CPU.",
        "",
        *creation_table(),
        "",
        *weights_table(arguments.rounds),
        "",
        *inference_table(arguments.rounds, arguments.side),
    ]
    print("\n".join(text))
    if arguments.out:
        arguments.out.write_text("\n".join(text) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
