"""The costs of models as a page and as JSON, with the reason for each ratio."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from zoo.benchmarking.machine import Machine
from zoo.benchmarking.timing import Spread
from zoo.counting import ModelCost
from zoo.experiments.families import BASELINE, INFLATED, NUM_FRAMES, why_inflation_costs
from zoo.experiments.flops import IMG_SIZE, Cost, flops_by_hand

__all__ = ["costs_as_json", "costs_page"]

COMMAND = "zoo experiment flops --out benchmarks/experiments"
KINDS = {
    "7x7": "7x7, the stem",
    "3x3": "3x3, in the blocks",
    "1x1": "1x1, in the shortcuts",
    "linear": "classifier",
}
# One layer that both networks have, small enough to count on paper: their stems put out 64
# channels of half the side, and the inflated kernel is three frames deep.
STEMS = {BASELINE: ("backbone.conv1", (7, 7)), INFLATED: ("conv1", (3, 7, 7))}
STEM_OUT = (1, 64, NUM_FRAMES, IMG_SIZE // 2, IMG_SIZE // 2)


def costs_as_json(costs: Sequence[Cost], machine: Machine, *, rounds: int) -> dict[str, Any]:
    """Everything that was measured, for programs."""
    return {
        "command": COMMAND,
        "machine": asdict(machine),
        "clip": {"num_frames": NUM_FRAMES, "img_size": IMG_SIZE},
        "rounds": rounds,
        "models": [_cost_as_json(cost) for cost in costs],
        "by_hand": _by_hand(costs),
    }


def _cost_as_json(cost: Cost) -> dict[str, Any]:
    counted = cost.counted
    return {
        "name": counted.name,
        "parameters": counted.params,
        "layers": [
            {"name": layer.name, "kind": layer.kind, "flops": layer.flops}
            for layer in counted.layers
            if layer.macs
        ],
        "flops": counted.flops,
        "macs": counted.macs,
        "seconds": asdict(cost.seconds),
        "times_baseline": asdict(cost.times_baseline),
    }


def costs_page(costs: Sequence[Cost], machine: Machine, *, rounds: int) -> str:
    """The page in Markdown: the models side by side, the layers, and why."""
    head = (
        f"Made by `{COMMAND}` on one clip of {NUM_FRAMES} frames of {IMG_SIZE}x{IMG_SIZE}, "
        f"float32. {machine}. Each of {rounds} rounds times every model once; seconds and ratios "
        f"are the median, and in brackets the smallest and the largest."
    )
    units = (
        "A multiply-add (MAC) is two operations (FLOPs). Papers print 10^9 MACs and call them "
        "GFLOPs, as the cards of this zoo do; torch's counter counts FLOPs."
    )
    parts = [
        "# What the third dimension costs",
        head,
        units,
        _models_table(costs),
        "## Why the ratio is what it is",
        _layers_table(costs),
        _reasons(costs),
        "## One layer by hand",
        _hand_table(costs),
    ]
    return "\n\n".join(parts) + "\n"


def _models_table(costs: Sequence[Cost]) -> str:
    base = _named(costs, BASELINE)
    rows = [
        "| model | parameters | GMACs | GFLOPs | MACs by FramePool's | seconds a clip | time by "
        "FramePool's | GFLOPs a second |",
        "|---|---|---|---|---|---|---|---|",
    ]
    rows += [
        f"| `{counted.name}` | {counted.params / 1e6:.1f} M | {counted.macs / 1e9:.2f} "
        f"| {counted.flops / 1e9:.2f} | {counted.macs / base.macs:.2f} "
        f"| {_spread(cost.seconds, 3)} | {_spread(cost.times_baseline, 2)} "
        f"| {counted.flops / 1e9 / cost.seconds.median:.0f} |"
        for cost, counted in ((cost, cost.counted) for cost in costs)
    ]
    return "\n".join(rows)


def _layers_table(costs: Sequence[Cost]) -> str:
    flat, deep = _named(costs, BASELINE), _named(costs, INFLATED)
    rows = [
        f"| kernel in space | `{BASELINE}` GMACs | share | `{INFLATED}` GMACs | ratio |",
        "|---|---|---|---|---|",
    ]
    for kind, words in KINDS.items():
        own, other = flat.macs_of(kind), deep.macs_of(kind)
        rows.append(
            f"| {words} | {own / 1e9:.4f} | {own / flat.macs:.2%} | {other / 1e9:.4f} "
            f"| {other / own:.2f} |"
        )
    rows.append(
        f"| all | {flat.macs / 1e9:.4f} | 100.00% | {deep.macs / 1e9:.4f} "
        f"| {deep.macs / flat.macs:.3f} |"
    )
    return "\n".join(rows)


def _reasons(costs: Sequence[Cost]) -> str:
    return (
        f"{why_inflation_costs(_named(costs, BASELINE), _named(costs, INFLATED))}\n\n"
        f"The ratio in seconds is another one, since a second is not spent on multiplications "
        f"alone: the last column of the first table says how many operations a second each "
        f"network reached. R(2+1)D has a factorised kernel with about the weights of a 3x3x3 one, "
        f"yet no pool after its stem, so its first stage works on four times the pixels; from the "
        f"second stage on it strides over time as well."
    )


def _hand_table(costs: Sequence[Cost]) -> str:
    rows = [
        "The stem: each number it puts out is a sum over 3 channels and the kernel's places.",
        "",
        "| model | numbers put out | kernel | FLOPs by hand | counted | agree |",
        "|---|---|---|---|---|---|",
    ]
    _, chans, frames, height, width = STEM_OUT
    for name, entry in _by_hand(costs).items():
        rows.append(
            f"| `{name}` | {chans} x {frames} x {height} x {width} "
            f"| 3 x {' x '.join(map(str, entry['kernel']))} | 2 x {entry['flops'] // 2:,} = "
            f"{entry['flops']:,} | {entry['counted']:,} "
            f"| {'yes' if entry['flops'] == entry['counted'] else 'NO'} |"
        )
    return "\n".join(rows)


def _by_hand(costs: Sequence[Cost]) -> dict[str, dict[str, Any]]:
    """The stems' operations by arithmetic, and as counted."""
    found = {}
    for name, (layer, kernel) in STEMS.items():
        (counted,) = (item for item in _named(costs, name).layers if item.name == layer)
        flops = flops_by_hand(STEM_OUT, in_chans=3, kernel=kernel)
        found[name] = {"kernel": kernel, "flops": flops, "counted": counted.flops}
    return found


def _named(costs: Sequence[Cost], name: str) -> ModelCost:
    (counted,) = (cost.counted for cost in costs if cost.counted.name == name)
    return counted


def _spread(value: Spread, digits: int) -> str:
    low, middle, high = (
        f"{number:.{digits}f}" for number in (value.smallest, value.median, value.largest)
    )
    return f"{middle} ({low} to {high})"
