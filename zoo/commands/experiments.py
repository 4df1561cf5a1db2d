"""`zoo experiment`: the measurements that the documentation talks about, made again."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from zoo.commands._console import say

__all__ = ["flops_", "motion_"]

_Out = Annotated[Path, typer.Option(help="Folder for the page, the JSON and the picture.")]
_Json = Annotated[bool, typer.Option("--json", help="Print the JSON and not the page.")]


def motion_(
    out: _Out = Path("experiments"),
    seed: Annotated[int, typer.Option(min=0, help="Of videos and first weights.")] = 0,
    epochs: Annotated[int, typer.Option(min=1, help="Passes over the training videos.")] = 10,
    weights: Annotated[
        Path | None,
        typer.Option(
            help="File of a 2D ResNet-18, timm's or torchvision's; left out, one is trained first."
        ),
    ] = None,
    as_json: _Json = False,
) -> None:
    """Train three networks on moving balls, and show which of them see motion."""
    _check_folder(out)
    if weights is not None and not weights.is_file():
        raise ValueError(f"'{weights}' is no file; give the weights of a 2D ResNet-18.")
    from zoo import experiments

    plan = experiments.Plan(budget=experiments.Budget(epochs=epochs), seed=seed, weights=weights)
    outcomes = experiments.run_motion(plan, tell=say)
    machine = experiments.describe_machine()
    experiments.write_motion(out, plan, outcomes, machine)
    if as_json:
        _write_json(experiments.motion_as_json(plan, outcomes, machine))
    else:
        sys.stdout.write(experiments.motion_page(plan, outcomes, machine))
    say(f"'{out}' holds motion.md, motion.json and motion.png.")


def flops_(
    out: _Out = Path("experiments"),
    rounds: Annotated[int, typer.Option(min=1, help="Times that each network is timed.")] = 7,
    as_json: _Json = False,
) -> None:
    """Count and time FramePool, I3D, R(2+1)D and TimeSformer on one clip of 8 frames."""
    _check_folder(out)
    from zoo import experiments

    costs = experiments.measure_costs(rounds=rounds)
    machine = experiments.describe_machine()
    page = experiments.costs_page(costs, machine, rounds=rounds)
    record = experiments.costs_as_json(costs, machine, rounds=rounds)
    out.mkdir(parents=True, exist_ok=True)
    (out / "flops.md").write_text(page, encoding="utf-8")
    (out / "flops.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    if as_json:
        _write_json(record)
    else:
        sys.stdout.write(page)
    say(f"'{out}' holds flops.md and flops.json.")


def _write_json(record: dict[str, object]) -> None:
    sys.stdout.write(json.dumps(record, indent=1, ensure_ascii=False) + "\n")


def _check_folder(folder: Path) -> None:
    """Refuse a place where nothing can be written, before an hour is spent on what goes there."""
    home = folder
    while not home.exists():
        home = home.parent
    if not home.is_dir() or not os.access(home, os.W_OK):
        raise OSError(f"Cannot write into '{folder}'; name a folder that you may write to.")
