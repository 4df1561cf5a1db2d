"""What the scripts of this folder share: two sides timed in turn, rows of the table, their files.

Every row compares ours with a peer's within rounds of one run. Where a goal says how much of the
peer's time (or memory) ours may take, the ratio is ours by the peer's; where it says how many
times faster ours is, the ratio is the peer's by ours. The row says which.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import datetime as dt
import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from zoo.benchmarking import timing
from zoo.benchmarking.machine import describe_machine
from zoo.benchmarking.timing import Spread, geometric_mean, ratios

__all__ = [
    "GEOMETRIC_MEAN",
    "OURS_BY_PEER",
    "PEER_BY_OURS",
    "RESULTS",
    "Row",
    "compare",
    "geometric_row",
    "interleave",
    "interleave_processes",
    "parse",
    "read",
    "tell",
    "write",
]

RESULTS = Path(__file__).parent / "results"
PACKAGES = (
    *("torch", "torchvision", "timm", "transformers", "pytorchvideo", "hiera-transformer"),
    *("huggingface-hub", "safetensors", "av", "decord", "torchcodec", "numpy"),
)
GEOMETRIC_MEAN = "geometric mean"
OURS_BY_PEER, PEER_BY_OURS = "ours / peer", "peer / ours"


@dataclass(frozen=True, kw_only=True)
class Row:
    """One comparison.

    Attributes:
        table: Row of the issue's table that it belongs to, such as `zoo list`.
        subject: What of ours is measured.
        peer: What it is compared with.
        goal: In words; empty where the row only informs.
        kind: What is divided by what, `ours / peer` or `peer / ours`.
        ratios: One a round.
        ours: Median of ours, in `unit`.
        theirs: Median of the peer's.
        unit: `s`, `bytes`, ...
        met: Whether the median of the ratios keeps to the goal; None without a goal.
        note: What else a reader must know; never why a goal is missed, see `reasons.csv`.
    """

    table: str
    subject: str
    peer: str
    goal: str
    kind: str
    ratios: tuple[float, ...]
    ours: float
    theirs: float
    unit: str = "s"
    met: bool | None = None
    note: str = ""

    @property
    def spread(self) -> Spread:
        """Of the ratios."""
        return Spread.of(self.ratios)


def compare(
    table: str,
    subject: str,
    peer: str,
    ours: Sequence[float],
    theirs: Sequence[float],
    *,
    at_most: float | None = None,
    at_least: float | None = None,
    unit: str = "s",
    note: str = "",
) -> Row:
    """A row from the measurements of both sides, one a round.

    Args:
        table: See `Row`.
        subject: See `Row`.
        peer: See `Row`.
        ours: Seconds, or what `unit` says.
        theirs: The peer's, in the same rounds.
        at_most: Goal for ours by the peer's: at most that part of the peer's time.
        at_least: Goal for the peer's by ours: at least so many times faster.
        unit: See `Row`.
        note: See `Row`.
    """
    assert at_most is None or at_least is None, "a row has one goal"
    kind = OURS_BY_PEER if at_most is not None else PEER_BY_OURS
    values = ratios(ours, by=theirs) if at_most is not None else ratios(theirs, by=ours)
    middle = Spread.of(values).median
    goal, met = "", None
    if at_most is not None:
        goal, met = f"at most {at_most:g}", middle <= at_most
    elif at_least is not None:
        goal, met = f"at least {at_least:g}", middle >= at_least
    return Row(
        table=table,
        subject=subject,
        peer=peer,
        goal=goal,
        kind=kind,
        ratios=values,
        ours=Spread.of(ours).median,
        theirs=Spread.of(theirs).median,
        unit=unit,
        met=met,
        note=note,
    )


def interleave(
    ours: Callable[[], object], peer: Callable[[], object], *, rounds: int, warm_up: int = 1
) -> tuple[list[float], list[float]]:
    """Seconds of ours and of the peer, one a round, timed in turn in this process."""
    first, second = timing.interleave([ours, peer], rounds=rounds, warm_up=warm_up)
    return first, second


def interleave_processes(
    ours: Sequence[str], peer: Sequence[str], *, rounds: int, warm_up: int = 1
) -> tuple[list[float], list[float]]:
    """Likewise of two whole processes, given as commands; one that fails raises."""
    run = partial(subprocess.run, check=True, stdout=subprocess.DEVNULL)
    return interleave(partial(run, ours), partial(run, peer), rounds=rounds, warm_up=warm_up)


def write(rows: Sequence[Row], name: str) -> None:
    """Keep rows as `results/NAME.csv`, and where and when they were measured as `NAME.json`."""
    RESULTS.mkdir(exist_ok=True)
    titles = [field.name for field in dataclasses.fields(Row)]
    with (RESULTS / f"{name}.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, titles, lineterminator="\n")
        writer.writeheader()
        for row in rows:
            cells = dataclasses.asdict(row)
            cells["ratios"] = " ".join(f"{value:.4g}" for value in row.ratios)
            cells |= {key: f"{cells[key]:.6g}" for key in ("ours", "theirs")}
            writer.writerow(cells)
    machine = dataclasses.asdict(describe_machine(_installed()))
    facts = {"date": dt.date.today().isoformat(), "machine": machine}
    (RESULTS / f"{name}.json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    tell(f"results/{name}.csv: {len(rows)} rows")


def read(name: str) -> tuple[list[Row], dict[str, Any]]:
    """Rows that `write` kept, and the facts beside them."""
    with (RESULTS / f"{name}.csv").open(encoding="utf-8", newline="") as file:
        rows = [_row(cells) for cells in csv.DictReader(file)]
    return rows, json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))


def _row(cells: dict[str, str]) -> Row:
    values: dict[str, Any] = dict(cells)
    values["ratios"] = tuple(float(value) for value in cells["ratios"].split())
    values |= {key: float(cells[key]) for key in ("ours", "theirs")}
    values["met"] = {"True": True, "False": False, "": None}[cells["met"]]
    return Row(**values)


def geometric_row(
    table: str,
    rows: Sequence[Row],
    *,
    at_least: float | None,
    note: str = "",
    subject: str = GEOMETRIC_MEAN,
) -> Row:
    """The geometric mean over a table's models; those that two peers have count once for each.

    Its spread is that of the means of the smallest, the middle and the largest ratios.

    Args:
        table: See `Row`.
        rows: Of this table and of others.
        at_least: Goal of the mean, or None.
        note: See `Row`.
        subject: See `Row`.
    """
    chosen = [row for row in rows if row.table == table]
    spreads = [row.spread for row in chosen]
    means = tuple(
        geometric_mean([getattr(spread, field) for spread in spreads])
        for field in ("smallest", "median", "largest")
    )
    return Row(
        table=table,
        subject=subject,
        peer="all",
        goal="" if at_least is None else f"at least {at_least:g}",
        kind=PEER_BY_OURS,
        ratios=means,
        ours=sum(row.ours for row in chosen),
        theirs=sum(row.theirs for row in chosen),
        met=None if at_least is None else means[1] >= at_least,
        note=note,
    )


def parse(description: str | None, *, rounds: int, names: bool = False) -> argparse.Namespace:
    """The command line of a script: `--rounds N`, and names of models if it takes them."""
    parser = argparse.ArgumentParser(description=description)
    if names:
        parser.add_argument("names", nargs="*", help="only these models, for a try: no file then")
    parser.add_argument("--rounds", type=int, default=rounds, help="times that each side is timed")
    return parser.parse_args()


def tell(text: str) -> None:
    """Progress, on stderr."""
    print(text, file=sys.stderr, flush=True)


def _installed() -> list[str]:
    found = []
    for package in PACKAGES:
        try:
            version(package)
        except PackageNotFoundError:
            continue
        found.append(package)
    return found
