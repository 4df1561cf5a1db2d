"""What the table and the plots show of the records."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from registry.names import natural_key
from registry.records import Architecture, Metric, Sampling, Weights

__all__ = ["MIN_POINTS", "Protocol", "Row", "protocols", "rows_of"]

MIN_POINTS = 3
"""Figures of one protocol below which a plot would show nothing."""


@dataclass(frozen=True, slots=True)
class Protocol:
    """What two figures must have in common to be compared."""

    dataset: str
    split: str
    level: str
    num_clips: int
    num_crops: int


@dataclass(frozen=True, slots=True)
class Row:
    """One set of weights, or one architecture without any.

    Attributes:
        architecture: Its record.
        weights: The record of the weights; None for an architecture without any.
    """

    architecture: Architecture
    weights: Weights | None

    @property
    def name(self) -> str:
        if self.weights is None:
            return self.architecture.name
        return f"{self.architecture.name}.{self.weights.tag}"

    @property
    def page(self) -> str:
        """Where the site tells more of it, relative to the index."""
        return f"models/{self.architecture.name}.html#{self.name}"

    @property
    def sampling(self) -> Sampling:
        return (self.weights or self.architecture).sampling

    @property
    def img_size(self) -> int:
        return (self.weights or self.architecture).preprocess.img_size

    @property
    def params(self) -> int | None:
        return (self.weights or self.architecture).params

    @property
    def gflops(self) -> float | None:
        return (self.weights or self.architecture).gflops

    @property
    def top1(self) -> tuple[Metric, ...]:
        metrics = self.weights.metrics if self.weights else ()
        return tuple(metric for metric in metrics if metric.name == "top1")


def rows_of(architectures: Iterable[Architecture]) -> list[Row]:
    """A row for each `name.tag`, and one for each name without weights, by name."""
    rows = [
        Row(architecture, weights)
        for architecture in architectures
        for weights in architecture.weights or (None,)
    ]
    return sorted(rows, key=lambda row: natural_key(row.name))


def protocols(rows: Iterable[Row]) -> dict[Protocol, list[tuple[Row, float]]]:
    """The top-1 figures that may stand in one plot, by what they have in common.

    Figures of other data, another split, another number of views or another level are never
    compared. Protocols with fewer than `MIN_POINTS` figures are left out; the one with the most
    comes first.
    """
    found: dict[Protocol, list[tuple[Row, float]]] = {}
    for row in rows:
        for metric in row.top1:
            protocol = Protocol(
                metric.dataset, metric.split, metric.level, metric.num_clips, metric.num_crops
            )
            found.setdefault(protocol, []).append((row, metric.value))
    told = [item for item in found.items() if len(item[1]) >= MIN_POINTS]
    return dict(sorted(told, key=lambda item: -len(item[1])))
