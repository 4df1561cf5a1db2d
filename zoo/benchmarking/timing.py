"""Timing several things in one run, in turn, and what their times say about each other."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import perf_counter

__all__ = ["Spread", "geometric_mean", "interleave", "ratios"]


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


def interleave(
    calls: Sequence[Callable[[], object]], *, rounds: int, warm_up: int = 1
) -> list[list[float]]:
    """Time calls in turn, so that what else the machine does meets all of them.

    Every second round goes backwards: no call always runs behind the same other one, whose memory
    and heat it would inherit.

    Args:
        calls: What is timed; each returns when its work is done.
        rounds: Times that each is timed, at least 1.
        warm_up: Rounds before those, whose times are dropped.

    Returns:
        For each call its seconds, one a round.

    Raises:
        ValueError: No round.
    """
    if rounds < 1:
        raise ValueError(f"rounds={rounds} is given; give at least 1 to time anything.")
    seconds: list[list[float]] = [[] for _ in calls]
    for number in range(warm_up + rounds):
        order = range(len(calls)) if number % 2 == 0 else reversed(range(len(calls)))
        for index in order:
            started = perf_counter()
            result = calls[index]()
            taken = perf_counter() - started
            del result  # to free what it made is no part of a call
            if number >= warm_up:
                seconds[index].append(taken)
    return seconds


def ratios(values: Sequence[float], by: Sequence[float]) -> tuple[float, ...]:
    """Each value by the one of the same round."""
    return tuple(value / other for value, other in zip(values, by, strict=True))


def geometric_mean(values: Sequence[float]) -> float:
    """The mean of ratios, by which twice as fast and half as fast cancel out."""
    return math.exp(math.fsum(math.log(value) for value in values) / len(values))
