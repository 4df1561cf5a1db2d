"""From wishes to a ranking: what fails a wish and by how much, and what counts in points."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from registry.records import Metric
from zoo.picking.candidates import Candidate, candidates, figure_on
from zoo.picking.networks import FROM_RANDOM
from zoo.picking.rules import (
    ENOUGH_VIDEOS,
    EPOCHS,
    FEW_VIDEOS,
    FRAME_GAP,
    ORDERS,
    PERMISSIVE,
    POINTS,
    SCRATCH_EPOCHS,
    SECOND_YARDSTICKS,
    SOME_VIDEOS,
    TRAINING_PASSES,
    YARDSTICKS,
)
from zoo.picking.wishes import MOTION, Wishes

__all__ = ["Plan", "Point", "rank", "yardstick"]


@dataclass(frozen=True, slots=True)
class Point:
    """What one rule that counts adds, and why.

    Attributes:
        rule: Key of the rule.
        points: What it adds.
        reason: In words.
    """

    rule: str
    points: float
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A candidate as it would be used.

    Attributes:
        candidate: The model and its weights.
        way: `as it is`, `class names`, `fine-tune`, `frozen features` or `from scratch`.
        windows: Views that one answer takes.
        gflops: 10^9 multiply-adds of one answer.
        latency_ms: Measured milliseconds of one answer; None where `zoo bench` has not run.
        train_hours: Estimated GPU hours; None where nothing is trained or nothing is known.
        figure: The top-1 that counts; None where there is none on the yardstick.
        points: What each rule adds.
        fails: By wish, what it would have to be for this model.
    """

    candidate: Candidate
    way: str
    windows: int
    gflops: float
    latency_ms: float | None
    train_hours: float | None
    figure: Metric | None
    points: tuple[Point, ...]
    fails: Mapping[str, Any]

    @property
    def score(self) -> float:
        """All points together, to a hundredth."""
        return round(sum(point.points for point in self.points), 2)

    @property
    def key(self) -> tuple[float, float, int, str]:
        """Sorts the best first; no two plans are equal, since names are unique."""
        return -self.score, self.gflops, self.candidate.params, self.candidate.name


def yardstick(wishes: Wishes) -> str | None:
    """The data set whose figures count."""
    return "kinetics400" if wishes.labels == "kinetics" else YARDSTICKS[wishes.motion]


def rank(wishes: Wishes, latencies: Mapping[str, float]) -> list[Plan]:
    """Every candidate, those that fail no wish first, the best of them first.

    Args:
        wishes: What is looked for.
        latencies: Measured milliseconds of a view on the wished device, by name.
    """
    everything = candidates(wishes)
    scale = _Scale(yardstick(wishes), everything)
    plans = [_plan(item, wishes, latencies, scale) for item in everything]
    return sorted(plans, key=lambda plan: (len(plan.fails) > 0, plan.key))


class _Scale:
    """Turns figures into points, so that figures of two data sets never meet.

    Args:
        dataset: The yardstick; None where figures do not count.
        everything: All candidates, which tell the lowest and the highest.
    """

    def __init__(self, dataset: str | None, everything: Sequence[Candidate]) -> None:
        self.dataset = dataset
        self.second = SECOND_YARDSTICKS.get(dataset or "")
        self._lowest = min(_values(everything, dataset), default=0.0)
        others = _values(everything, self.second)
        self._other_best, self._other_lowest = max(others, default=0.0), min(others, default=0.0)

    def point(self, item: Candidate) -> Point:
        """What the figure of a model counts, or what it counts that it has none."""
        if self.dataset is None:
            reason = "one frame tells the label: figures of videos do not count"
            return Point("accuracy", 0.0, reason)
        figure = figure_on(item, self.dataset)
        if figure is not None:
            views = f"{figure.num_clips}x{figure.num_crops} views"
            reason = f"top-1 on {self.dataset}, {views}, {figure.measured_by}"
            return Point("accuracy", figure.value, reason)
        other = figure_on(item, self.second)
        value = self._other_lowest if other is None else other.value
        points = self._lowest + POINTS["no_figure"]
        points += POINTS["second_figure"] * (self._other_best - value)
        among = "" if other is None else f", among those by {other.value:g} on {self.second}"
        reason = f"no figure on {self.dataset}: below the lowest one there{among}"
        return Point("accuracy", round(points, 2), reason)


def _values(everything: Sequence[Candidate], dataset: str | None) -> list[float]:
    figures = (figure_on(item, dataset) for item in everything)
    return [figure.value for figure in figures if figure is not None]


def _plan(item: Candidate, wishes: Wishes, latencies: Mapping[str, float], scale: _Scale) -> Plan:
    windows = _windows(item, wishes)
    way, hours = _way(item, wishes)
    gflops = round(windows * item.gflops, 3)
    latency = latencies.get(item.name, latencies.get(item.untagged))
    latency = None if latency is None else windows * latency
    points = [
        scale.point(item),
        _cost(gflops),
        *_start(item, wishes),
        *_one_frame(item, wishes),
    ]
    if way == "frozen features":
        points.append(Point("frozen", POINTS["frozen"], "the budget trains a classifier only"))
    if wishes.latency_ms is not None and latency is None:
        reason = f"latency not measured: run zoo bench {item.name}"
        points.append(Point("not_measured", POINTS["not_measured"], reason))
    return Plan(
        candidate=item,
        way=way,
        windows=windows,
        gflops=gflops,
        latency_ms=latency,
        train_hours=hours,
        figure=figure_on(item, scale.dataset),
        points=tuple(points),
        fails=_failures(item, wishes, windows, gflops, latency, hours),
    )


def _windows(item: Candidate, wishes: Wishes) -> int:
    """Views that a clip of the wished length takes."""
    gap = FRAME_GAP[wishes.motion]
    if wishes.clip_seconds is None or math.isinf(gap):
        return 1
    apart = gap if item.seconds_apart is None else min(gap, item.seconds_apart)
    # A hundredth of a window is not worth another one, and rounding must not add it.
    return max(1, math.ceil(wishes.clip_seconds / (item.num_frames * apart) - 0.01))


def _way(item: Candidate, wishes: Wishes) -> tuple[str, float | None]:
    """How the model would be used, and the GPU hours that takes."""
    if wishes.labels == "kinetics":
        return "as it is", None
    if wishes.videos == 0:
        return "class names", None
    if wishes.videos is None:
        return "fine-tune", None
    forward = 2e9 * item.gflops * wishes.videos / (wishes.gpu_tflops * 1e12) / 3600
    if wishes.from_scratch:
        return "from scratch", forward * TRAINING_PASSES * SCRATCH_EPOCHS
    tuned = forward * TRAINING_PASSES * EPOCHS
    blind = item.start == "pictures" and "ignored" not in ORDERS[wishes.motion]
    if wishes.train_gpu_hours is None or tuned <= wishes.train_gpu_hours or blind:
        return "fine-tune", tuned
    return "frozen features", forward


def _failures(
    item: Candidate,
    wishes: Wishes,
    windows: int,
    gflops: float,
    latency: float | None,
    hours: float | None,
) -> dict[str, Any]:
    """By wish what it would have to be, for each that the model does not fulfil."""
    fails: dict[str, Any] = {}
    if item.order not in ORDERS[wishes.motion]:
        able = [level for level in MOTION if item.order in ORDERS[level]]
        fails["motion"] = able[-1]
    if wishes.licence == "permissive" and item.licence and item.licence not in PERMISSIVE:
        fails["licence"] = "any"
    if wishes.gflops is not None and gflops > wishes.gflops:
        fails["gflops"] = gflops
    if wishes.latency_ms is not None and latency is not None and latency > wishes.latency_ms:
        fails["latency_ms"] = latency
    if wishes.train_gpu_hours is not None and hours is not None and hours > wishes.train_gpu_hours:
        fails["train_gpu_hours"] = hours
    if wishes.num_frames is not None and windows * item.num_frames > wishes.num_frames:
        fails["num_frames"] = windows * item.num_frames
    if wishes.labels == "kinetics" and not (item.classes or "").startswith("kinetics"):
        fails["labels"] = "new"
    if wishes.labels == "new" and wishes.videos == 0 and not item.reads_class_names:
        fails["videos"] = 1
    if wishes.from_scratch and (wishes.videos or 0) < ENOUGH_VIDEOS:
        fails["videos"] = ENOUGH_VIDEOS
    if item.modality != wishes.modality:
        fails["modality"] = item.modality
    if wishes.approach is not None and item.approach != wishes.approach:
        fails["approach"] = item.approach or "any"
    return fails


def _cost(gflops: float) -> Point:
    doublings = max(0.0, math.log2(gflops))
    reason = f"{gflops:g} GFLOPs an answer, {doublings:.1f} doublings of 1"
    return Point("cost", round(POINTS["cost_per_doubling"] * doublings, 2) + 0.0, reason)


def _start(item: Candidate, wishes: Wishes) -> Sequence[Point]:
    """What the weights have seen, where there are few videos to train on."""
    found = []
    videos = wishes.videos
    if item.start == "drawings":
        reason = "trained on drawn scenes, to show how motion is seen"
        found.append(Point("demonstration", POINTS["demonstration"], reason))
    attends = item.approach == "transformer" and not item.name.startswith(FROM_RANDOM)
    if item.start == "nothing" and attends:
        reason = "attention that its authors do not train from random weights"
        found.append(Point("scratch_attention", POINTS["scratch_attention"], reason))
    trains = wishes.labels == "new" and not wishes.from_scratch
    if videos is None or not trains or wishes.motion == "none":
        return found
    if item.start == "pictures" and videos < SOME_VIDEOS:
        points, reason = POINTS["pictures_only"], "its weights have seen no video"
        if item.approach == "transformer":
            points += POINTS["attention_from_pictures"]
            reason += ", and attention over time starts from nothing"
        found.append(Point("pictures_only", points, f"{reason}; {videos:,} videos teach little"))
    if item.from_clip and videos < FEW_VIDEOS:
        reason = f"from CLIP, which is known to learn from few videos ({videos:,})"
        found.append(Point("few_videos", POINTS["few_videos_clip"], reason))
    return found


def _one_frame(item: Candidate, wishes: Wishes) -> Sequence[Point]:
    if wishes.motion != "none" or wishes.labels == "kinetics":
        return ()
    found = []
    if item.approach == "2d_pool":
        reason = "2D and a mean: any frame will do, and frames can be trained on as pictures"
        found.append(Point("one_frame", POINTS["one_frame_2d"], reason))
    if item.many_pictures:
        reason = "has seen more pictures than ImageNet-1k"
        found.append(Point("one_frame", POINTS["one_frame_pictures"], reason))
    return found
