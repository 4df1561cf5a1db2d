"""`pick`: the answer to wishes, as an object, as JSON and in words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from registry.records import Metric
from zoo.benchmarking.records import latencies as measured_latencies
from zoo.picking.ranking import Plan, rank, yardstick
from zoo.picking.relaxing import Relaxation, relaxations
from zoo.picking.rules import VIEWS_MARGIN
from zoo.picking.wishes import Wishes

__all__ = ["Answer", "figure_words", "pick"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What fits the wishes.

    Attributes:
        wishes: What was looked for.
        yardstick: Data set whose figures counted; None where none did.
        plans: Everything that was considered; those that fulfil all wishes first, best first.
        top: How many are shown.
        ways_out: Which wish to relax, by how much, and what that buys.
    """

    wishes: Wishes
    yardstick: str | None
    plans: tuple[Plan, ...]
    top: int
    ways_out: tuple[Relaxation, ...]

    @property
    def fitting(self) -> tuple[Plan, ...]:
        """All that fulfil every wish, best first."""
        return tuple(plan for plan in self.plans if not plan.fails)

    @property
    def best(self) -> tuple[Plan, ...]:
        """Those that are shown: of each architecture the best weights."""
        found: dict[str, Plan] = {}
        for plan in self.fitting:
            found.setdefault(_architecture(plan), plan)
        return tuple(found.values())[: self.top]

    def other_weights(self, plan: Plan) -> tuple[str, ...]:
        """Names of other weights of a shown architecture that fulfil every wish too."""
        return tuple(
            other.candidate.name
            for other in self.fitting
            if other is not plan and _architecture(other) == _architecture(plan)
        )

    def to_json(self) -> dict[str, Any]:
        """Everything for programs."""
        return {
            "wishes": asdict(self.wishes),
            "yardstick": self.yardstick,
            "considered": len(self.plans),
            "fitting": len(self.fitting),
            "recommendations": [
                _plan_as_json(plan) | {"other_weights": list(self.other_weights(plan))}
                for plan in self.best
            ],
            "trade_off": self.trade_off(),
            "ways_out": [
                {
                    "change": [
                        {"wish": wish, "given": given, "needed": needed}
                        for wish, (given, needed) in item.change.items()
                    ],
                    "buys": _plan_as_json(item.buys),
                }
                for item in self.ways_out
            ],
        }

    def trade_off(self) -> str | None:
        """What the first gives up against the second shown; None where there is no second."""
        if len(self.best) < 2:
            return None
        first, second = self.best[:2]
        parts = [
            "figures do not count" if self.yardstick is None else _accuracies(first, second),
            _ratio("GFLOPs an answer", first.gflops, second.gflops),
            _ratio("parameters", first.candidate.params, second.candidate.params),
        ]
        if first.latency_ms is not None and second.latency_ms is not None:
            parts.append(_ratio("measured latency", first.latency_ms, second.latency_ms))
        if first.candidate.licence != second.candidate.licence:
            parts.append(f"licence {_licence(first)} against {_licence(second)}")
        ahead = first.score - second.score
        return (
            f"{first.candidate.name} against {second.candidate.name}, {ahead:.2f} points behind: "
            f"{'; '.join(parts)}."
        )

    def page(self) -> str:
        """The answer in words, for a terminal or a page."""
        # Motion decides more than any other wish, so that it is told where nobody gave it.
        given = {"motion": f"{self.wishes.motion} (the default)"} | self.wishes.given()
        wishes = ", ".join(f"{name} {value}" for name, value in given.items())
        lines = [
            f"Wishes: {wishes}.",
            f"{len(self.fitting)} of {len(self.plans)} fulfil them all; {self._counts()}",
            "",
        ]
        for place, plan in enumerate(self.best, 1):
            first, *rest = _lines(plan)
            lines += [f"{place}. {first}", *(f"   {line}" for line in rest)]
            others = self.other_weights(plan)
            if others:
                lines.append(f"   also fulfil all: {', '.join(others)}")
        if not self.best:
            lines.append("Nothing fulfils all wishes. What must give:")
        elif self.trade_off():
            lines += ["", f"Trade-off: {self.trade_off()}"]
        if self.best and self.ways_out:
            lines += ["", "What a relaxed wish would buy:"]
        lines += [f"- {_way_out(item)}" for item in self.ways_out]
        return "\n".join(lines) + "\n"

    def _counts(self) -> str:
        if self.yardstick is None:
            return "figures of videos do not count, since one frame tells the label."
        return f"figures on {self.yardstick} count, those of other data sets do not."


def pick(*, top: int = 5, latencies: Mapping[str, float] | None = None, **wishes: Any) -> Answer:
    """Rank the zoo's models by what somebody needs; `zoo pick --rules` shows by which rules.

    Args:
        top: How many to show.
        latencies: Milliseconds of one view by name; what `zoo bench` measured here if left out.
        **wishes: The fields of `zoo.picking.Wishes`, such as `motion="high"` or `gflops=60`.

    Raises:
        ValueError: A wish that does not exist, or a value that is none.
    """
    if type(top) is not int or top < 1:
        raise ValueError(f"top is a whole number of 1 or more, not {top!r}.")
    unknown = [name for name in wishes if name not in Wishes.__dataclass_fields__]
    if unknown:
        known = ", ".join(Wishes.__dataclass_fields__)
        raise ValueError(f"Unknown wish {unknown[0]!r}. Known: {known}.")
    asked = Wishes(**wishes)
    if latencies is None:
        latencies = measured_latencies(asked.device)
    plans = rank(asked, latencies)
    return Answer(
        wishes=asked,
        yardstick=yardstick(asked),
        plans=tuple(plans),
        top=top,
        ways_out=tuple(relaxations(asked, plans, latencies)),
    )


def _architecture(plan: Plan) -> str:
    """Its name without the tag; lifted models are named with theirs, and each is its own."""
    name = plan.candidate.name
    return name if ":" in name else name.partition(".")[0]


def _plan_as_json(plan: Plan) -> dict[str, Any]:
    item = plan.candidate
    return {
        "name": item.name,
        "approach": item.approach,
        "attention": item.attention,
        "way": plan.way,
        "score": plan.score,
        "accuracy": None if plan.figure is None else asdict(plan.figure),
        "params": item.params,
        "gflops_view": item.gflops,
        "windows": plan.windows,
        "gflops_answer": plan.gflops,
        "latency_ms": plan.latency_ms,
        "train_hours_estimate": plan.train_hours,
        "num_frames": item.num_frames,
        "licence": item.licence,
        "data": item.data,
        "reasons": [asdict(point) for point in plan.points],
    }


def _lines(plan: Plan) -> list[str]:
    """A model with its numbers and reasons."""
    item = plan.candidate
    pattern = f", attention {item.attention}" if item.attention else ""
    approach = item.approach or "no rule knows its family"
    size = f"{item.gflops:g} GFLOPs a view of {item.num_frames} frames"
    if plan.windows > 1:
        size += f" x {plan.windows} windows = {plan.gflops:g}"
    weights = f"{_licence(plan)}; trained on {item.data}" if item.data else "untrained"
    return [
        f"{item.name} ({approach}{pattern}): {plan.score:.2f} points",
        figure_words(plan.figure),
        f"{size}, {item.params / 1e6:.1f} M parameters, {_latency(plan)}",
        weights,
        _way(plan),
        *(f"{point.points:+.2f} {point.rule}: {point.reason}" for point in plan.points),
    ]


def figure_words(figure: Metric | None) -> str:
    """A figure with its protocol."""
    if figure is None:
        return "no comparable figure"
    note = f"; {figure.note}" if figure.note else ""
    return (
        f"{figure.value:g} top-1 on {figure.dataset} {figure.split}, {figure.num_clips}x"
        f"{figure.num_crops} views, by {figure.measured_by}{note}"
    )


def _licence(plan: Plan) -> str:
    return plan.candidate.licence or "no weights"


def _latency(plan: Plan) -> str:
    if plan.latency_ms is None:
        return f"latency not measured: run zoo bench {plan.candidate.name}"
    return f"{plan.latency_ms:.1f} ms measured"


def _way(plan: Plan) -> str:
    if plan.train_hours is None:
        return plan.way
    return f"{plan.way}, about {_hours(plan.train_hours)} GPU hours (an estimate)"


def _hours(hours: float) -> str:
    return f"{hours:.2g}" if hours < 100 else f"{hours:,.0f}"


def _accuracies(first: Plan, second: Plan) -> str:
    one, other = first.figure, second.figure
    if one is None or other is None:
        return "their accuracies cannot be compared, since not both have a figure here"
    gap = one.value - other.value
    words = f"{one.value:g} against {other.value:g} top-1 on {one.dataset}"
    if (one.num_clips, one.num_crops) == (other.num_clips, other.num_crops):
        return f"{words}, {one.num_clips}x{one.num_crops} views both"
    views = f"{one.num_clips}x{one.num_crops} and {other.num_clips}x{other.num_crops} views"
    if abs(gap) <= VIEWS_MARGIN:
        return f"{words}, which {views} may alone explain"
    return f"{words}, in {views}, of which {VIEWS_MARGIN} points may come from the views"


def _ratio(what: str, first: float, second: float) -> str:
    if first == second:
        return f"equal {what}"
    more = "times the" if first > second else "of the"
    ratio = first / second
    return f"{ratio:.1f} {more} {what}" if first > second else f"{ratio:.0%} {more} {what}"


def _way_out(item: Relaxation) -> str:
    changes = [
        f"{wish} {given} -> {needed}" if given is not None else f"{wish} -> {needed}"
        for wish, (given, needed) in item.change.items()
    ]
    plan = item.buys
    return (
        f"{' and '.join(changes)}: {plan.candidate.name} ({plan.candidate.approach}), "
        f"{figure_words(plan.figure)}, {plan.gflops:g} GFLOPs, {_licence(plan)}, {_way(plan)}"
    )
