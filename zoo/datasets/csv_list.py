"""A plain list of videos: one line each with a path and a label."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from registry.names import did_you_mean
from zoo.datasets.sources import (
    Collector,
    VideoDataset,
    VideoItem,
    mirrored_labels,
    read_labels,
)

__all__ = ["CsvList"]

COLUMNS = ("path", "label", "split", "start_seconds", "end_seconds")
DELIMITERS = "\t,; "
"""Tried in this order; lists of mmaction2 and VideoMAE put a blank between path and label."""


@dataclass(frozen=True, slots=True)
class CsvList:
    """Videos listed in a text file.

    Columns are divided by commas, semicolons, tabs or blanks. A first line with the word `path`
    or `label` names the columns, of which all but `path` may be missing: `path`, `label`,
    `split`, `start_seconds`, `end_seconds`. Without it they are path and label. Paths are
    relative to the file's folder. A label is a class name, or an index where every label is a
    whole number.

    Attributes:
        path: The file.
        labels: Class names in index order: a list of the zoo, or a text file of one a line. None:
            the names in this file, all splits together, sorted; or the indices as names. What a
            flip does to a class that names a side follows from its name; while only indices are
            known, no video is flipped.
    """

    path: Path
    labels: str | None = None

    def read(self, split: str) -> VideoDataset:
        """List the videos of one split.

        Args:
            split: Which lines to take, if there is a column `split`; else all are taken.

        Raises:
            ValueError: A line or the split is wrong.
            FileNotFoundError: There is no such file, or none of its videos.
        """
        rows = list(_rows(self.path))
        texts = [row["label"] for _, row in rows if row.get("label")]
        by_index = bool(texts) and all(text.isdecimal() for text in texts)
        if self.labels:
            labels = read_labels(self.labels)
            by_index = by_index and not set(texts) <= set(labels)
        elif by_index:
            labels = tuple(str(index) for index in range(max(map(int, texts)) + 1))
        else:
            labels = tuple(sorted(set(texts)))
        found = Collector(self.path.stem, split, labels, self.path)
        for line, row in rows:
            if row.get("split", split) != split:
                continue
            place, text = f"{self.path}, line {line}", row.get("label", "")
            if text and by_index:
                label = _index(text, len(labels), place)
            else:
                label = found.label(text, place) if text else -1
            start, end = (
                _seconds(row.get(name, ""), name, place)
                for name in ("start_seconds", "end_seconds")
            )
            path = self.path.parent / row["path"]
            part = "" if start is None and end is None else f"#{start or 0:g}-{end or ''}"
            item = VideoItem(
                path=path,
                label=label,
                video_id=row["path"] + part,
                start_seconds=start,
                end_seconds=end,
            )
            found.add(item, place, exists=path.is_file())
        if by_index and not self.labels:
            # Which of these classes tell left from right, nobody can know.
            return replace(found.dataset(), flips_allowed=False)
        return found.dataset(mirrored=mirrored_labels(labels))


def _rows(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """The rows of a list as (line, {column: text}), blank lines left out."""
    if not path.is_file():
        raise FileNotFoundError(f"There is no list {path}; give a csv file of paths and labels.")
    with path.open(encoding="utf-8-sig", newline="") as file:
        first = file.readline()
        delimiter = next((mark for mark in DELIMITERS if mark in first.strip()), ",")
        file.seek(0)
        reader = csv.reader(file, delimiter=delimiter)
        columns: Sequence[str] = COLUMNS[:2]
        for row in reader:
            cells = [cell.strip() for cell in row]
            if not any(cells):
                continue
            if reader.line_num == 1 and not {"path", "label"}.isdisjoint(cells):
                columns = cells
                _check_columns(columns, path)
                continue
            found = dict(zip(columns, cells, strict=False))
            if len(cells) > len(columns) or not found.get("path"):
                raise ValueError(
                    f"{path}, line {reader.line_num}: {delimiter.join(row)!r} does not fit the "
                    f"columns {', '.join(columns)}; quote a path that holds {delimiter!r}."
                )
            yield reader.line_num, found


def _check_columns(columns: Sequence[str], path: Path) -> None:
    if "path" not in columns:
        raise ValueError(f"{path} names the columns {', '.join(columns)}, but none is 'path'.")
    for name in columns:
        if name not in COLUMNS or list(columns).count(name) > 1:
            raise ValueError(
                f"{path} has a column {name!r}, unknown or named twice; known are "
                f"{', '.join(COLUMNS)}, each once.{did_you_mean(name, COLUMNS)}"
            )


def _index(text: str, count: int, place: str) -> int:
    if int(text) >= count:
        raise ValueError(
            f"{place}: the label {text} is no index into {count} labels; give 0 to {count - 1}."
        )
    return int(text)


def _seconds(text: str, name: str, place: str) -> float | None:
    if not text:
        return None
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"{place}: {name} is a number of seconds, not {text!r}.") from None
