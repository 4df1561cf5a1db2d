"""Measurements as a table for people and as JSON for programs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from zoo.benchmarking.measuring import Measurement
from zoo.benchmarking.timing import Spread, geometric_mean

__all__ = ["as_json", "as_rows", "summary"]

_COLUMNS = ("model", "clip", "ms", "clips/s", "peak")
_PEER_COLUMNS = ("{} ms", "{} peak", "times as fast", "logits differ")


def as_rows(measured: Sequence[Measurement]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """The titles of the columns, and a row of texts for each measurement.

    Times are the median, and in brackets the smallest and the largest.
    """
    library = measured[0].setting.against if measured else None
    titles: tuple[str, ...] = _COLUMNS
    if library is not None:
        titles += tuple(title.format(library) for title in _PEER_COLUMNS)
    return titles, [_row(item) for item in measured]


def _row(item: Measurement) -> tuple[str, ...]:
    _, frames, height, width = item.clip
    cells = (
        item.name,
        f"{item.setting.batch_size} x {frames} x {height} x {width}",
        _milliseconds(item.seconds),
        f"{item.clips_per_second:.3g}",
        _mebibytes(item.peak),
    )
    if item.peer_seconds is None or item.speed_up is None or item.difference is None:
        return cells
    up = item.speed_up
    return (
        *cells,
        _milliseconds(item.peer_seconds),
        _mebibytes(item.peer_peak),
        f"{up.median:.2f} ({up.smallest:.2f} to {up.largest:.2f})",
        f"{item.difference:.1e}",
    )


def summary(measured: Sequence[Measurement]) -> str:
    """A sentence on several models beside their peers; empty for fewer than two."""
    medians = [item.speed_up.median for item in measured if item.speed_up is not None]
    if len(medians) < 2:
        return ""
    return (
        f"ours is {geometric_mean(medians):.2f} times as fast as {measured[0].setting.against} "
        f"over {len(medians)} models (geometric mean)."
    )


def as_json(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Measurements that are JSON already, and their geometric mean where there is a peer."""
    medians = [row["against"]["speed_up"]["median"] for row in rows if row["against"]]
    return {
        "measurements": list(rows),
        "geometric_mean": round(geometric_mean(medians), 4) if medians else None,
    }


def _milliseconds(spread: Spread) -> str:
    low, middle, high = (
        f"{1000 * value:.4g}" for value in (spread.smallest, spread.median, spread.largest)
    )
    return f"{middle} ({low} to {high})"


def _mebibytes(size: int | None) -> str:
    return "" if size is None else f"{size / 2**20:.0f} MiB"
