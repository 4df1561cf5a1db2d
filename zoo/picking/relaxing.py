"""What must give: which wish to relax, by how much, and what that buys."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from zoo.picking.ranking import Plan, rank
from zoo.picking.rules import FRAME_GAP
from zoo.picking.wishes import MOTION, Wishes

__all__ = ["Relaxation", "relaxations"]

_NUMBERS = ("gflops", "latency_ms", "train_gpu_hours", "num_frames", "videos")
_MOST = 4
"""Ways out that are told."""
_WORTH_TELLING = 2.0
"""Points that a relaxed wish must win where there is an answer already."""
_NEAR = 2.0
"""By how much a number may be exceeded to be told then."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Relaxation:
    """One way out.

    Attributes:
        change: By wish what it was and what it has to be at least.
        buys: The best model that this change alone lets in.
    """

    change: Mapping[str, tuple[Any, Any]]
    buys: Plan


def relaxations(
    wishes: Wishes, plans: Sequence[Plan], latencies: Mapping[str, float]
) -> list[Relaxation]:
    """The fewest wishes to relax, each as little as lets a model in.

    Where nothing fulfils all wishes, these are the ways out. Where something does, a single wish
    is named that, relaxed by no more than twice, lets in a model that is clearly better; and the
    fastest that was measured, where none of the measured ones is fast enough.

    Args:
        wishes: What is looked for.
        plans: What `rank` gave.
        latencies: What it was given.
    """
    answers = [plan for plan in plans if not plan.fails]
    failing = [plan for plan in plans if plan.fails]
    if answers:
        best = answers[0].score + _WORTH_TELLING
        near = [plan for plan in failing if plan.score >= best and _is_near(wishes, plan)]
        if wishes.latency_ms is not None and all(plan.latency_ms is None for plan in answers):
            near += [plan for plan in failing if list(plan.fails) == ["latency_ms"]]
        return _by_wishes(wishes, near, latencies)
    fewest = min((len(plan.fails) for plan in failing), default=0)
    asked = _by_asking_again(wishes, latencies)
    told = {tuple(way.change) for way in asked}
    ways = _by_wishes(wishes, [plan for plan in failing if len(plan.fails) == fewest], latencies)
    return asked + [way for way in ways if tuple(way.change) not in told]


def _by_asking_again(wishes: Wishes, latencies: Mapping[str, float]) -> list[Relaxation]:
    """Ways out that change what every model is asked, and not only which ones are let in."""
    asked: list[tuple[str, Any]] = []
    if wishes.from_scratch:
        asked.append(("from_scratch", False))
    if wishes.clip_seconds is not None and wishes.num_frames is not None:
        longest = wishes.num_frames * FRAME_GAP[wishes.motion]
        if longest < wishes.clip_seconds:
            asked.append(("clip_seconds", longest))
    lower = MOTION[: MOTION.index(wishes.motion)]
    asked += [("motion", level) for level in reversed(lower) if level != "none"]
    found: list[Relaxation] = []
    for wish, value in asked:
        if any(wish in way.change for way in found):
            continue
        plans = rank(replace(wishes, **{wish: value}), latencies)
        if not plans[0].fails:
            change = {wish: (getattr(wishes, wish), value)}
            found.append(Relaxation(change=change, buys=plans[0]))
    return found


def _is_near(wishes: Wishes, plan: Plan) -> bool:
    if len(plan.fails) > 1:
        return False
    ((wish, needed),) = plan.fails.items()
    if wish in _NUMBERS:
        return bool(needed <= _NEAR * getattr(wishes, wish))
    return wish == "licence"


def _by_wishes(
    wishes: Wishes, plans: Sequence[Plan], latencies: Mapping[str, float]
) -> list[Relaxation]:
    """For every set of wishes that alone stand in the way, the model that needs the least."""
    found: dict[tuple[str, ...], Plan] = {}
    for plan in plans:
        key = tuple(sorted(plan.fails))
        if key not in found or _need(wishes, plan) < _need(wishes, found[key]):
            found[key] = plan
    ways = sorted(found.values(), key=lambda plan: plan.key)[:_MOST]
    return [_relaxed(wishes, plan, latencies) for plan in ways]


def _relaxed(wishes: Wishes, plan: Plan, latencies: Mapping[str, float]) -> Relaxation:
    """What a model needs, and the model as it then would be used."""
    needed: dict[str, Any] = {}
    buys = plan
    # One wish relaxed may make another stricter: more videos take more hours to train on.
    while buys.fails:
        needed |= {wish: _rounded(value) for wish, value in buys.fails.items()}
        asked: dict[str, Any] = {
            wish: None if value == "any" and wish == "approach" else value
            for wish, value in needed.items()
        }
        again = rank(replace(wishes, **asked), latencies)
        (buys,) = (other for other in again if other.candidate.name == plan.candidate.name)
    change = {wish: (getattr(wishes, wish), value) for wish, value in needed.items()}
    return Relaxation(change=change, buys=buys)


def _need(wishes: Wishes, plan: Plan) -> tuple[float, tuple[float, float, int, str]]:
    """By what factor the numbers must grow, and then the ranking."""
    factor = 1.0
    for wish, needed in plan.fails.items():
        given = getattr(wishes, wish)
        if wish in _NUMBERS and given:
            factor *= needed / given
    return factor, plan.key


def _rounded(needed: Any) -> Any:
    """A limit that lets the model in: three digits, rounded up."""
    if not isinstance(needed, float):
        return needed
    digits = 2 - math.floor(math.log10(needed))
    up = round(needed, digits)
    return up if up >= needed else round(up + 10.0**-digits, digits)
