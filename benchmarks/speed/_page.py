"""The page of the speed table: goals, what was measured, and what is missed by how much and why."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from _clips import NOT_TRAINED, TOO_LARGE, number_left_out
from _measure import GEOMETRIC_MEAN, OURS_BY_PEER, Row, geometric_row

import registry

__all__ = [
    "MODELS",
    "TABLES",
    "into_readme",
    "missed_by",
    "page",
    "read_reasons",
    "summary",
    "unexplained",
]

TABLES = {
    "zoo list": "`zoo list`, whole process",
    "import zoo": "`import zoo`",
    "create, warm cache": "`create(name, pretrained=True)` from a warm cache",
    "peak memory of create": "peak memory of that, above the process's own base",
    "forward, float32": "float32 forward, eval",
    "optimize, float32": "`zoo.optimize(model)`, float32",
    "optimize, bfloat16": "`zoo.optimize(model, dtype=torch.bfloat16)`",
    "training step, float32": "training step, float32",
    "load_clip": "`load_clip`",
    "video-level evaluation": "video-level evaluation, 10 clips x 3 crops",
    "one hour by windows": "one hour of video through `predict` by windows",
}
"""The rows of the table in order, each with what its lines call it."""

START = "<!-- speed: written by benchmarks/speed/run.py -->"
END = "<!-- end of speed -->"

LAYOUT = "forward, float32, the peer fed our memory format"
MODELS = ("forward, float32", LAYOUT, "optimize, float32", "optimize, bfloat16")
"""Columns of the table of models; each is a table with a row for every model."""

TRAINING = "training step, float32"
CONVOLUTIONAL = {"csn", "resnet3d", "s3d", "slowfast", "video_resnet", "x3d"}
"""Families without attention, whose mean is told beside that of the others."""

ITSELF = "itself in float32"
Results = Mapping[str, tuple[list[Row], dict[str, Any]]]
"""For each script its rows, and when and where they were measured."""


def page(results: Results, reasons: Mapping[tuple[str, str], str]) -> str:
    """The whole page in Markdown."""
    dated = [(row, facts["date"]) for rows, facts in results.values() for row in rows]
    parts = [
        "# How fast it is, beside the libraries that its users come from",
        "Written by `python benchmarks/speed/run.py`, which runs every script of this folder in a "
        "process of its own; `python benchmarks/speed/run.py startup loading` measures those "
        "again and keeps the rest, and `--rounds N` says how often every script times each side. "
        "Both sides are timed in turn within one process, with the threads that the machine gives "
        "them. A figure is the median of the rounds' ratios, behind it the smallest and the "
        "largest: ours by the peer's where a goal says `at most`, the peer's by ours where it says "
        "`at least` or where there is none (`-`).",
        *_machines(results),
        "## Goals",
        "What `create` returns has not read its weights: they are mapped from the file and read by "
        "the first pass, so that its clock stops before the peer's work is done. The rows with the "
        "first forward pass included have that work on both sides.",
        _goals(dated, reasons),
        "## Every model",
        "Speed-ups over the peer's own module on the same clip with the same weights. The peer "
        "gets its clip as torch makes it, which is how its users have it; the third column feeds "
        "it the memory format that `load_clip` delivers. One clip at a time, within "
        "`torch.inference_mode`, behind a first pass that is not timed; the peer stays float32 in "
        "the column of bfloat16. Some clips are smaller than the model's own, on both sides, so "
        "that all of it is measured in half an hour: the clip is in the row. Where two peers have "
        "a model it has two rows, and counts twice in the means.",
        _models([row for row, _ in dated]),
        "## Every training step",
        "Forward, backward and plain SGD in float32, one clip at a time. Dropout and stochastic "
        "depth are 0 on both sides, whatever a library builds its networks with: who drops a "
        "branch does less work. More clips than above are smaller than the model's own.",
        _training([row for row, _ in dated]),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def summary(results: Results) -> str:
    """A line for each row of the table: what was measured, how many figures keep to each goal."""
    rows = [row for found, _ in results.values() for row in found if row.goal]
    lines = ["| what | goal | measured | met |", "|---|---|---|---|"]
    for table, title in TABLES.items():
        parts: dict[tuple[str, str], list[Row]] = {}
        for row in rows:
            if row.table == table:
                mean = "mean " if row.subject == GEOMETRIC_MEAN else ""
                parts.setdefault((mean, row.goal), []).append(row)
        if not parts:
            continue
        cells = [
            [f"{mean}{goal}" for mean, goal in parts],
            [f"{mean}{_ends(found)}" for (mean, _), found in parts.items()],
            [_kept(found) + _large(table, found) for found in parts.values()],
        ]
        lines.append(f"| {' | '.join([title, *('; '.join(cell) for cell in cells)])} |")
    return "\n".join(lines)


def _ends(rows: Sequence[Row]) -> str:
    """The smallest and the largest of the rows' medians."""
    medians = [row.spread.median for row in rows]
    digits = 3 if rows[0].kind == OURS_BY_PEER else 2
    return " to ".join(
        dict.fromkeys(f"{value:.{digits}f}" for value in (min(medians), max(medians)))
    )


def _kept(rows: Sequence[Row]) -> str:
    kept = sum(bool(row.met) for row in rows)
    return f"{kept} of {len(rows)}" if len(rows) > 1 else ("yes" if kept else "no")


def _large(table: str, rows: Sequence[Row]) -> str:
    """How many comparisons of a table are left out, where the rows are one for each."""
    left = {MODELS[0]: (TOO_LARGE, "size"), TRAINING: (NOT_TRAINED, "time")}.get(table)
    if left is None or rows[0].subject == GEOMETRIC_MEAN:
        return ""
    return f" ({number_left_out(left[0])} more left out for their {left[1]})"


def into_readme(text: str, table: str) -> str:
    """A README's text with the summary between its marks.

    Raises:
        ValueError: The marks are not there.
    """
    before, start, rest = text.partition(START)
    _, end, after = rest.partition(END)
    if not end:
        raise ValueError(f"The README has no lines '{START}' and '{END}' for the summary.")
    return f"{before}{start}\n{table}\n{end}{after}"


def missed_by(row: Row) -> float:
    """How far a row is from its goal, in parts of the goal; negative where it keeps to it."""
    limit, middle = float(row.goal.split()[-1]), row.spread.median
    return middle / limit - 1 if row.goal.startswith("at most") else 1 - middle / limit


def read_reasons(path: Path) -> dict[tuple[str, str], str]:
    """Why rows miss their goals, by table and subject, as people wrote it down."""
    with path.open(encoding="utf-8", newline="") as file:
        return {(row["table"], row["subject"]): row["why"] for row in csv.DictReader(file)}


def unexplained(results: Results, reasons: Mapping[tuple[str, str], str]) -> list[str]:
    """The rows that miss their goal and have no reason."""
    return [
        f"{row.table}: {row.subject}"
        for rows, _ in results.values()
        for row in rows
        if row.met is False and (row.table, row.subject) not in reasons
    ]


def _machines(results: Results) -> list[str]:
    """Where and when, once for all scripts that say the same."""
    found: dict[str, list[str]] = {}
    for name, (_, facts) in results.items():
        machine = facts["machine"]
        versions = ", ".join(f"{key} {value}" for key, value in machine["versions"].items())
        text = (
            f"{facts['date']}, {machine['processor']}, {machine['cores']} cores, "
            f"{machine['threads']} threads; {versions}."
        )
        found.setdefault(text, []).append(name)
    return [f"Measured ({', '.join(names)}): {text}" for text, names in found.items()]


def _goals(dated: Sequence[tuple[Row, str]], reasons: Mapping[tuple[str, str], str]) -> str:
    lines = ["| what | against | goal | measured | | date |", "|---|---|---|---|---|---|"]
    for table, title in TABLES.items():
        rows = [(row, date) for row, date in dated if row.table == table]
        averaged = any(row.subject == GEOMETRIC_MEAN for row, _ in rows)
        single = [(row, date) for row, date in rows if not averaged or row.peer in ("all", ITSELF)]
        each = [row for row, _ in rows if averaged and row.peer not in ("all", ITSELF)]
        if each and each[0].goal:
            lines.append(_each(title, each, rows[0][1], reasons))
        single += [(row, rows[0][1]) for row in _means_by_kind(table, each)]
        for row, date in single:
            what = title if row.subject in (table, title) else f"{title}: {row.subject}"
            goal = row.goal or "-"
            cells = (what, row.peer, goal, _figures(row), _verdict(row, reasons), date)
            lines.append(f"| {' | '.join(cells)} |")
        if not rows:
            lines.append(f"| {title} | | | not measured | | |")
    return "\n".join(lines)


def _means_by_kind(table: str, rows: Sequence[Row]) -> list[Row]:
    """The geometric means of the models without attention and of those with it."""
    families = {row.subject: registry.load(row.subject).architecture.family for row in rows}
    with_it = [row for row in rows if families[row.subject] not in CONVOLUTIONAL]
    without = [row for row in rows if families[row.subject] in CONVOLUTIONAL]
    parts = (("convolutional", without), ("with attention", with_it))
    return [
        geometric_row(
            table, part, at_least=None, subject=f"{GEOMETRIC_MEAN} of the {len(part)} {name}"
        )
        for name, part in parts
        if part
    ]


def _each(
    title: str, rows: Sequence[Row], date: str, reasons: Mapping[tuple[str, str], str]
) -> str:
    """One line for a goal that every model of a table has."""
    missed = sorted((row for row in rows if not row.met), key=lambda row: row.spread.median)
    told = "; ".join(
        f"{row.subject} ({row.peer}) by {missed_by(row):.0%}{_why(row.table, row.subject, reasons)}"
        for row in missed
    )
    medians = [row.spread.median for row in rows]
    figures = f"{min(medians):.2f} to {max(medians):.2f}"
    verdict = f"{len(missed)} of {len(rows)} miss it: {told}" if missed else "met"
    return (
        f"| {title}, each of {len(rows)} comparisons | its peers | {rows[0].goal} | {figures} | "
        f"{verdict} | {date} |"
    )


def _verdict(row: Row, reasons: Mapping[tuple[str, str], str]) -> str:
    if row.met is None:
        return row.note
    said = "met" if row.met else f"missed by {missed_by(row):.0%}"
    note = f" ({row.note})" if row.note else ""
    return f"{said}{note}{'' if row.met else _why(row.table, row.subject, reasons)}"


def _why(table: str, subject: str, reasons: Mapping[tuple[str, str], str]) -> str:
    why = reasons.get((table, subject))
    return f": {why}" if why else ""


def _figures(row: Row) -> str:
    spread, unit = row.spread, row.unit
    digits = 3 if row.kind == OURS_BY_PEER else 2
    ratio = f"{spread.median:.{digits}f}"
    if len(row.ratios) > 1:
        ratio += f" ({spread.smallest:.{digits}f} to {spread.largest:.{digits}f})"
    return f"{ratio}; {_amount(row.ours, unit)} and {_amount(row.theirs, unit)}"


def _amount(value: float, unit: str) -> str:
    if unit == "bytes":
        return f"{value / 2**20:.0f} MiB"
    if unit == "s":
        return f"{value:.2f} s" if value >= 1 else f"{1000 * value:.3g} ms"
    return f"{value:g} {unit}"


def _models(rows: Sequence[Row]) -> str:
    titles = ("plain", "plain, peer in our format", "optimised", "optimised, bfloat16")
    lines = [
        f"| model | peer | clip | ours | peer's | {' | '.join(titles)} |",
        f"|---|---|---|{'---:|' * 6}",
    ]
    cells = {(row.subject, row.peer, row.table): row for row in rows if row.table in MODELS}
    for (subject, peer, table), row in cells.items():
        if table != MODELS[0]:
            continue
        found = [cells.get((subject, peer, column)) for column in MODELS]
        shown = ["" if item is None else _speed_up(item) for item in found]
        times = [_amount(row.ours, row.unit), _amount(row.theirs, row.unit)]
        lines.append(f"| {' | '.join([subject, peer, row.note, *times, *shown])} |")
    return "\n".join(lines)


def _training(rows: Sequence[Row]) -> str:
    lines = ["| model | peer | clip | ours | peer's | speed-up |", "|---|---|---|---:|---:|---:|"]
    for row in rows:
        if row.table == TRAINING:
            times = [_amount(row.ours, row.unit), _amount(row.theirs, row.unit)]
            cells = [row.subject, row.peer, row.note, *times, _speed_up(row)]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _speed_up(row: Row) -> str:
    spread = row.spread
    return f"{spread.median:.2f} ({spread.smallest:.2f} to {spread.largest:.2f})"
