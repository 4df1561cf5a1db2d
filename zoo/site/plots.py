"""Accuracy against cost, drawn as SVG whose points lead to the models."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

__all__ = ["Point", "best_for_their_cost", "draw_plot"]

_WIDTH, _HEIGHT = 640, 420
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 16, 16, 52
_LETTER = 6.1
"""Width of a letter of a label, on average."""


@dataclass(frozen=True, slots=True)
class Point:
    """A model in a plot.

    Attributes:
        name: What it is called.
        link: Where it leads.
        cost: Its place from left to right, above 0.
        accuracy: Its place from bottom to top, percent.
    """

    name: str
    link: str
    cost: float
    accuracy: float


def best_for_their_cost(points: Sequence[Point]) -> set[Point]:
    """The points than which no other is at least as accurate and cheaper, or the reverse."""
    return {
        point
        for point in points
        if not any(
            (other.cost <= point.cost and other.accuracy > point.accuracy)
            or (other.cost < point.cost and other.accuracy >= point.accuracy)
            for other in points
        )
    }


def draw_plot(points: Sequence[Point], *, title: str, cost: str) -> str:
    """Draw accuracy against a cost on a logarithmic axis.

    Points that are best for their cost are filled, the others hollow. A point has its name beside
    it where there is room, and always as its tooltip.

    Args:
        points: What to draw, one or more.
        title: What a screen reader calls it.
        cost: What is counted from left to right, with its unit.

    Returns:
        An `svg` element; its colours are those of the page's style sheet.
    """
    low, high = _range([math.log10(point.cost) for point in points], 0.06)
    worst, best = _range([point.accuracy for point in points], 0.08)

    def place(point: Point) -> tuple[float, float]:
        x = _LEFT + (math.log10(point.cost) - low) / (high - low) * (_WIDTH - _LEFT - _RIGHT)
        up = (point.accuracy - worst) / (best - worst) * (_HEIGHT - _TOP - _BOTTOM)
        return x, _HEIGHT - _BOTTOM - up

    lines = [
        f'<svg class="plot" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="group" '
        f'aria-label="{escape(title)}">'
    ]
    lines += _axes(low, high, worst, best, cost)
    filled = best_for_their_cost(points)
    # Filled points go last, so that they lie above the others and get their labels first.
    ordered = sorted(points, key=lambda point: (point in filled, point.cost))
    spots = {point: place(point) for point in ordered}
    labels = _labels([(point, *spots[point]) for point in reversed(ordered)])
    for point in ordered:
        x, y = spots[point]
        told = escape(f"{point.name}: {point.accuracy:g} %, {_number(point.cost)} {cost}")
        kind = "best" if point in filled else "other"
        lines.append(
            f'<a href="{escape(point.link)}" aria-label="{told}"><title>{told}</title>'
            f'<circle class="{kind}" cx="{x:.1f}" cy="{y:.1f}" r="5"/>{labels[point]}</a>'
        )
    return "\n".join([*lines, "</svg>"])


def _range(values: Sequence[float], margin: float) -> tuple[float, float]:
    """The least and the largest, with room beside them."""
    least, largest = min(values), max(values)
    room = margin * (largest - least) or 0.5
    return least - room, largest + room


def _number(value: float) -> str:
    return f"{value:.3g}" if value < 1000 else f"{value:.0f}"


def _axes(low: float, high: float, worst: float, best: float, cost: str) -> list[str]:
    bottom, right = _HEIGHT - _BOTTOM, _WIDTH - _RIGHT
    lines = []
    for value in _round_logarithms(low, high):
        x = _LEFT + (math.log10(value) - low) / (high - low) * (right - _LEFT)
        lines += [
            f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP}" y2="{bottom}"/>',
            f'<text x="{x:.1f}" y="{bottom + 18}" text-anchor="middle">{value:g}</text>',
        ]
    for value in _round_values(worst, best):
        y = bottom - (value - worst) / (best - worst) * (bottom - _TOP)
        lines += [
            f'<line class="grid" x1="{_LEFT}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/>',
            f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{value:g}</text>',
        ]
    middle = (_LEFT + right) / 2
    return [
        *lines,
        f'<text x="{middle}" y="{_HEIGHT - 10}" text-anchor="middle">{escape(cost)}</text>',
        f'<text x="14" y="{_HEIGHT / 2 - 20}" text-anchor="middle" '
        f'transform="rotate(-90 14 {_HEIGHT / 2 - 20})">top-1, %</text>',
    ]


def _round_logarithms(low: float, high: float) -> list[float]:
    """1, 2 and 5 times powers of ten within a range of exponents; fewer where it is long."""
    steps = (1, 2, 5) if high - low < 2.5 else (1,)
    powers = range(math.floor(low), math.ceil(high) + 1)
    values = [step * 10.0**power for power in powers for step in steps]
    return [value for value in values if low <= math.log10(value) <= high]


def _round_values(least: float, largest: float) -> list[float]:
    """Four to nine round numbers within a range."""
    step = 10.0 ** math.floor(math.log10(largest - least))
    while (largest - least) / step < 4:
        step /= 2
    first = math.ceil(least / step)
    return [round(k * step, 6) for k in range(first, math.floor(largest / step) + 1)]


def _labels(spots: Sequence[tuple[Point, float, float]]) -> dict[Point, str]:
    """A name beside each point where it covers no other name and no point, the first ones first."""
    taken = [(x - 5, y - 5, x + 5, y + 5) for _, x, y in spots]
    labels = {}
    for point, x, y in spots:
        width = _LETTER * len(point.name)
        labels[point] = ""
        for anchor, left, baseline in (
            ("start", x + 9, y + 4),
            ("end", x - 9 - width, y + 4),
            ("middle", x - width / 2, y - 9),
            ("middle", x - width / 2, y + 17),
            ("start", x + 6, y - 8),
            ("start", x + 6, y + 16),
        ):
            box = (left, baseline - 10, left + width, baseline + 3)
            inside = box[0] > _LEFT and box[2] < _WIDTH and box[1] > _TOP
            below = box[3] > _HEIGHT - _BOTTOM
            if not inside or below or any(_overlap(box, other) for other in taken):
                continue
            taken.append(box)
            at = {"start": left, "end": left + width, "middle": left + width / 2}[anchor]
            labels[point] = (
                f'<text x="{at:.1f}" y="{baseline:.1f}" text-anchor="{anchor}">'
                f"{escape(point.name)}</text>"
            )
            break
    return labels


def _overlap(
    one: tuple[float, float, float, float], other: tuple[float, float, float, float]
) -> bool:
    apart = one[2] < other[0] or other[2] < one[0] or one[3] < other[1] or other[3] < one[1]
    return not apart
