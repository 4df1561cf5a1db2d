"""What lifting costs: creation beside the image model's own, and r2p1d: beside framepool:.

python benchmarks/lift_cost.py --creation
    measures the creation of timm's architectures, into lift_creation.csv beside this script;
    goes on where it left off
python benchmarks/lift_cost.py --out benchmarks/lift_cost.md
    measures inference, and writes all tables

Every ratio comes from one process: its two sides are timed in turn, and the smallest times of all
rounds are compared. Inference is measured in several processes, whose memory lies differently. The
temporal kernels of r2p1d: are noise, so that nothing is an identity. Creation leaves out
architectures of more than `LARGEST` million parameters, and those with another one's class and
parameters (other input sizes).
"""

from __future__ import annotations

import argparse
import copy
import csv
import multiprocessing
import tempfile
import time
import warnings
from collections.abc import Iterator
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
from zoo.benchmarking.timing import Spread, interleave
from zoo.lifting import LiftedModel, RefusedError, inflate

CREATION = Path(__file__).with_name("lift_creation.csv")
LARGEST = 60
CREATED = 3  # times that each is created
GOAL = 0.5
PROCESSES = 5
WEIGHTS = {
    "drawn": "first values drawn: what `zoo.inflate` adds to timm's model",
    "loaded": "from a folder with the image model's weights: `zoo.create` less timm's own. timm "
    "draws first values, which the weights replace; `zoo.create` does not",
}
# Name, and the ratio that lifting keeps to.
RUN = (
    ("resnet18", 1.5),
    ("resnet34", 1.5),
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


def drawn(name: str) -> tuple[float, dict[str, float]]:
    """Seconds to create an image model with first values, and those that each lifting adds."""
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
    return min(made), {method: min(seconds) for method, seconds in lifted.items() if seconds}


def loaded(name: str) -> tuple[float, dict[str, float]]:
    """Seconds to create an image model with weights, and those that each lifting adds."""
    with tempfile.TemporaryDirectory() as folder:
        image = timm.create_model(name)
        tensors = image.state_dict().values()
        alone = len({tensor.data_ptr() for tensor in tensors}) == len(tensors)
        save_for_hf(image, folder, safe_serialization=alone)  # shared ones (CoaT) need a pickle
        del image, tensors
        calls = {"": partial(timm.create_model, f"local-dir:{folder}", pretrained=True)}
        for method in LIFTING:
            call = partial(zoo.create, f"{method}:local-dir:{folder}")
            try:
                call()
            except RefusedError:
                continue
            calls[method] = call
        taken = interleave(tuple(calls.values()), rounds=CREATED, warm_up=0)
    seconds = dict(zip(calls, map(min, taken), strict=True))
    made = seconds.pop("")
    return made, {method: lifted - made for method, lifted in seconds.items()}


def measure_creation() -> None:
    """Add what is missing to the table of creations."""
    rows = read_creation() if CREATION.is_file() else []
    done = {(row["architecture"], row["weights"]) for row in rows}
    with CREATION.open("a", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        if not done:
            table.writerow(["architecture", "weights", "seconds", *LIFTING])
        for name in distinct():
            for weights, measure in (("drawn", drawn), ("loaded", loaded)):
                if (name, weights) in done:
                    continue
                try:
                    made, added = measure(name)
                except ConnectionError:  # timm fetches a part of it whatever file is given
                    print(f"{name} cannot be created from a folder.")
                    continue
                ratios = [f"{added[m] / made:.3f}" if m in added else "" for m in LIFTING]
                table.writerow([name, weights, f"{made:.4f}", *ratios])
                file.flush()


def read_creation() -> list[dict[str, str]]:
    """The rows of the table of creations."""
    with CREATION.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def creation_table(weights: str) -> list[str]:
    """What the table of creations says, a line a method."""
    rows = [row for row in read_creation() if row["weights"] == weights]
    lines = [
        f"Creation, {WEIGHTS[weights]}. Parts of timm's own seconds (goal: under {GOAL}), the "
        f"smallest of {CREATED} times each, of {len(rows)} architectures: all of timm's of at "
        f"most {LARGEST} million parameters that have layers of their own. Every ratio is in "
        f"[lift_creation.csv]({CREATION.name}).",
        "",
        "| method | lifts | under the goal | median | not under the goal |",
        "|---|---|---|---|---|",
    ]
    for method in LIFTING:
        own = {row["architecture"]: float(row["seconds"]) for row in rows}
        added = {row["architecture"]: float(row[method]) for row in rows if row[method]}
        over = sorted((name for name in added if added[name] >= GOAL), key=added.__getitem__)
        named = ", ".join(
            f"{name} {added[name]:.2f} of {own[name] * 1000:.0f} ms" for name in reversed(over)
        )
        lines.append(
            f"| `{method}:` | {len(added)} | {len(added) - len(over)} | "
            f"{median(added.values()):.2f} | {named or 'none'} |"
        )
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
def inference(name: str, rounds: int, side: int) -> tuple[float, float]:
    """Seconds of framepool: and of r2p1d:, in a process of its own."""
    settle()
    clip = clip_of(side)
    pooled, factored = lifted_pair(name)
    first, second = map(
        min, interleave([partial(m, clip) for m in (pooled, factored)], rounds=rounds)
    )
    return first, second


def inference_table(rounds: int, side: int) -> list[str]:
    """Measure r2p1d: beside framepool:, a line a model."""
    lines = [
        f"Inference on one clip of 8 frames of {side}x{side}: `r2p1d:` with noise in its temporal "
        f"kernels, beside `framepool:`, the smallest of {rounds} rounds each. Medians of "
        f"{PROCESSES} processes, and the smallest and the largest ratio.",
        "",
        "| image model | `framepool:` seconds | `r2p1d:` seconds | ratio | from, to | goal |",
        "|---|---|---|---|---|---|",
    ]
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as fresh:
        for name, goal in RUN:
            pairs = fresh.starmap(inference, [(name, rounds, side)] * PROCESSES, chunksize=1)
            first, second = map(median, zip(*pairs, strict=True))
            spread = Spread.of([factored / pooled for pooled, factored in pairs])
            lines.append(
                f"| {name} | {first:.2f} | {second:.2f} | {spread.median:.2f} | "
                f"{spread.smallest:.2f}, {spread.largest:.2f} | {goal} |"
            )
    return lines


def settle() -> None:
    """One thread, and nothing said about timm's own deprecations."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")


def main() -> None:
    """Measure, and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--creation", action="store_true")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--side", type=int, default=224)
    arguments = parser.parse_args()
    settle()
    if arguments.creation:
        measure_creation()
        return
    text = [
        "# What lifting costs",
        "",
        f"Written by `benchmarks/lift_cost.py` with timm {timm.__version__} and torch "
        f"{torch.__version__}, one thread of a CPU.",
        "",
        *(line for weights in WEIGHTS for line in (*creation_table(weights), "")),
        *inference_table(arguments.rounds, arguments.side),
    ]
    print("\n".join(text))
    if arguments.out:
        arguments.out.write_text("\n".join(text) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
