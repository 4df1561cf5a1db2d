"""The lesson's experiment as a page, as JSON and as a picture."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from zoo.benchmarking.machine import Machine
from zoo.datasets.moving_balls import LESSON_DIRECTIONS
from zoo.experiments.curves import Curve, draw_curves
from zoo.experiments.motion import Outcome, Plan

__all__ = ["motion_as_json", "motion_page", "write_motion"]

COMMAND = "zoo experiment motion --out benchmarks/experiments"


def write_motion(folder: Path, plan: Plan, outcomes: Sequence[Outcome], machine: Machine) -> None:
    """Write `motion.md`, `motion.json` and `motion.png`.

    Args:
        folder: Made if it does not exist.
        plan: What was run.
        outcomes: One a network.
        machine: On what.
    """
    folder.mkdir(parents=True, exist_ok=True)
    page = motion_page(plan, outcomes, machine)
    (folder / "motion.md").write_text(page, encoding="utf-8")
    record = json.dumps(motion_as_json(plan, outcomes, machine), indent=1, ensure_ascii=False)
    (folder / "motion.json").write_text(record + "\n", encoding="utf-8")
    draw_curves(
        [
            Curve(item.name, tuple(epoch.validation.clip for epoch in item.runs[item.best].epochs))
            for item in outcomes
        ],
        {"ceiling without order": _ceiling(plan), "chance": 1 / len(LESSON_DIRECTIONS)},
        folder / "motion.png",
        title="Three directions of moving balls: accuracy of single clips, validation videos",
    )


def motion_as_json(plan: Plan, outcomes: Sequence[Outcome], machine: Machine) -> dict[str, Any]:
    """Everything that was measured, for programs."""
    return {
        "command": _command(plan),
        "machine": asdict(machine),
        "plan": asdict(plan)
        | {"seeds": plan.seeds, "weights": plan.weights.name if plan.weights else None},
        "chance": {"lesson": 1 / len(LESSON_DIRECTIONS), "pairs": 1 / 2},
        "ceiling": {"lesson": _ceiling(plan), "pairs": _pairs_ceiling(plan)},
        "outcomes": [asdict(item) for item in outcomes],
    }


def motion_page(plan: Plan, outcomes: Sequence[Outcome], machine: Machine) -> str:
    """The page in Markdown."""
    reading = (
        "Balls go from left to right, from right to left, or diagonally upwards. Without the order "
        "of the frames the first two look alike, and the third is told by its axis: the ceiling "
        "is two thirds, not one third. A network far below it is under-trained; one above it sees "
        "order."
    )
    parts = [
        "# Which networks see motion",
        _about(plan, outcomes, machine),
        _accuracy_table(plan, outcomes),
        reading,
        "## The same budget for each",
        _budget(plan),
        _budget_table(outcomes),
        _seeds(plan),
    ]
    return "\n\n".join(parts) + "\n"


def _about(plan: Plan, outcomes: Sequence[Outcome], machine: Machine) -> str:
    minutes = sum(item.seconds for item in outcomes) / 60
    processor = sum(item.processor_seconds for item in outcomes) / 60
    return (
        f"Made by `{_command(plan)}`, which also draws `motion.png`. {machine}. All together "
        f"{minutes:.0f} minutes on the clock and {processor:.0f} of processor time.\n"
        f"\nPercent of test clips and of test videos that were named right. A video's answer is "
        f"the mean of its {plan.budget.num_clips} clips' probabilities. On pairs, where each "
        f"sampled clip also appears in reverse with the opposite label, the answer is one of the "
        f"two opposite labels."
    )


def _budget(plan: Plan) -> str:
    budget = plan.budget
    return (
        f"{plan.num_train} videos of {plan.video_frames} frames of {plan.img_size}x"
        f"{plan.img_size}, seen {budget.epochs} times; clips of {budget.num_frames} frames that "
        f"lie {budget.frame_stride} apart; batches of {budget.groups * len(LESSON_DIRECTIONS)} "
        f"clips; AdamW with weight decay {budget.weight_decay:g}, warm-up and cosine. The learning "
        f"rate is the one of {len(budget.learning_rates)} that is best on {plan.num_validation} "
        f"validation videos after the last epoch. Tested once, on {plan.num_test} videos and on "
        f"{plan.num_pairs} with their reverses."
    )


def _seeds(plan: Plan) -> str:
    seeds = ", ".join(f"{name} {seed}" for name, seed in plan.seeds.items())
    return (
        f"Seeds: first weights, order of the videos and sampled frames {plan.seed}; videos {seeds}."
    )


def _accuracy_table(plan: Plan, outcomes: Sequence[Outcome]) -> str:
    rows = [
        "| | three directions: clips | videos | pairs: clips | videos |",
        "|---|---|---|---|---|",
        _row("chance", 1 / 3, 1 / 3, 1 / 2, 1 / 2),
        _row(
            "ceiling without order",
            *(_ceiling(plan),) * 2,
            *(_pairs_ceiling(plan),) * 2,
        ),
    ]
    rows += [
        _row(item.name, item.test.clip, item.test.video, item.pairs.clip, item.pairs.video)
        for item in outcomes
    ]
    return "\n".join(rows)


def _budget_table(outcomes: Sequence[Outcome]) -> str:
    rates = [run.learning_rate for run in outcomes[0].runs]
    titles = " | ".join(f"{rate:g}" for rate in rates)
    rows = [
        f"| | first weights | parameters | validation clips at learning rate {titles} "
        f"| minutes | of processor |",
        f"|---|---|---|{'---|' * len(rates)}---|---|",
    ]
    for item in outcomes:
        cells = [f"{100 * run.epochs[-1].validation.clip:.1f}" for run in item.runs]
        cells[item.best] = f"**{cells[item.best]}**"
        rows.append(
            f"| {item.name} | {item.start} | {item.parameters / 1e6:.1f} M "
            f"| {' | '.join(cells)} | {item.seconds / 60:.1f} "
            f"| {item.processor_seconds / 60:.1f} |"
        )
    return "\n".join(rows)


def _row(name: str, *parts: float) -> str:
    return f"| {name} | {' | '.join(f'{100 * part:.1f}' for part in parts)} |"


def _ceiling(plan: Plan) -> float:
    return plan.balls("test").order_blind_ceiling


def _pairs_ceiling(plan: Plan) -> float:
    return plan.balls("pairs").order_blind_ceiling


def _command(plan: Plan) -> str:
    """The command that makes these results again."""
    weights = f" --weights {plan.weights.name}" if plan.weights else ""
    return f"{COMMAND} --seed {plan.seed} --epochs {plan.budget.epochs}{weights}"
