"""AVA: what each person does at one second of a film, as csv files of Google.

A line is `video_id,middle_frame_timestamp,x1,y1,x2,y2,action_id,person_id`: one action of one
person. A person has several lines; a frame without people may have one that ends after its time
stamp. Actions are numbered from 1 to 80.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from registry.labels import labels
from zoo.datasets.sources import (
    Collector,
    PersonBox,
    VideoDataset,
    VideoItem,
    find_file,
    find_videos,
    split_name,
)

__all__ = ["AVA"]

NAMES = {"train": ("train",), "val": ("val",)}
VERSIONS = ("2.2", "2.1")
FOLDERS = {"videos_15min": 900, "videos": 0, "trainval": 0}
"""Where videos are, and the second of the film at which each file there begins."""

HALF_SECONDS = 1.5
"""The annotators saw three seconds around each frame (arXiv:1705.08421)."""

Corners = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class AVA:
    """AVA actions, version 2.2 or 2.1.

    Each item is the three seconds around one annotated frame, in the middle of which its
    `persons` are; it has no label of its own.

    Attributes:
        root: The folder with `ava_train_v2.2.csv` and `ava_train_excluded_timestamps_v2.2.csv`
            (also below `annotations`; 2.1 alike), and with the videos: in `videos_15min`, cut from
            second 900 on as SlowFast and mmaction2 cut them, or whole in `videos` or `trainval`.
    """

    root: Path

    def read(self, split: str) -> VideoDataset:
        """List the annotated frames of one split, without those that its authors exclude.

        Args:
            split: `train` or `val`; the labels of `test` are not published.

        Raises:
            ValueError: The split or a line of a csv is wrong.
            FileNotFoundError: The root, a csv, or every video is missing.
        """
        split = split_name(split, NAMES)
        wanted = [f"ava_{split}_v{version}.csv" for version in VERSIONS]
        source = find_file(self.root, _places(wanted), f"csv of the AVA split {split!r}")
        version = source.stem.rpartition("_v")[2]
        exclusion = f"ava_{split}_excluded_timestamps_v{version}.csv"
        excluded = _excluded(
            find_file(self.root, _places([exclusion]), "list of excluded time stamps")
        )
        names = labels("ava")
        found = Collector("ava", split, names, source)
        folder = next((name for name in FOLDERS if (self.root / name).is_dir()), "videos")
        videos = find_videos(self.root / folder)
        for (video_id, seconds), (line, boxes) in _frames(source, len(names)).items():
            if (video_id, seconds) in excluded:
                continue
            middle = seconds - FOLDERS[folder]
            item = VideoItem(
                path=videos.get(video_id, [self.root / folder / f"{video_id}.mp4"])[0],
                label=-1,
                video_id=f"{video_id},{seconds:04d}",
                start_seconds=max(middle - HALF_SECONDS, 0.0),
                end_seconds=middle + HALF_SECONDS,
                persons=tuple(
                    PersonBox(corners=corners, labels=tuple(sorted(actions)), person_id=person)
                    for (corners, person), actions in boxes.items()
                ),
            )
            found.add(item, f"{source}, line {line}", exists=video_id in videos)
        return found.dataset()


def _places(names: Sequence[str]) -> list[str]:
    return [f"{folder}{name}" for folder in ("annotations/", "") for name in names]


def _excluded(source: Path) -> set[tuple[str, int]]:
    with source.open(encoding="utf-8", newline="") as file:
        reader = csv.reader(file)
        return {
            (row[0], _number(row[1], f"{source}, line {reader.line_num}"))
            for row in reader
            if len(row) > 1
        }


def _frames(
    source: Path, count: int
) -> dict[tuple[str, int], tuple[int, dict[tuple[Corners, int], set[int]]]]:
    """The annotated frames: (video, second) -> first line, {(corners, person): actions}."""
    frames: dict[tuple[str, int], tuple[int, dict[tuple[Corners, int], set[int]]]] = {}
    with source.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file)
        for row in reader:
            place = f"{source}, line {reader.line_num}"
            if not row:
                continue
            if len(row) not in (2, 7, 8):
                raise ValueError(
                    f"{place} has {len(row)} columns; a line of AVA is video_id,timestamp,"
                    f"x1,y1,x2,y2,action_id,person_id."
                )
            key = row[0], _number(row[1], place)
            _, boxes = frames.setdefault(key, (reader.line_num, {}))
            if not any(row[2:]):
                continue
            action = _number(row[6], place)
            if not 1 <= action <= count:
                raise ValueError(f"{place}: the action {action} is not one of 1 to {count}.")
            person = _number(row[7], place) if len(row) == 8 else -1
            boxes.setdefault((_corners(row[2:6], place), person), set()).add(action - 1)
    return frames


def _corners(texts: Sequence[str], place: str) -> Corners:
    try:
        left, top, right, bottom = (float(text) for text in texts)
    except ValueError:
        left = top = right = bottom = -1.0
    if not (0 <= left < right <= 1 and 0 <= top < bottom <= 1):
        raise ValueError(
            f"{place}: the box {','.join(texts)} is not x1,y1,x2,y2 within 0 to 1, x1 < x2 and "
            f"y1 < y2."
        )
    return left, top, right, bottom


def _number(text: str, place: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"{place}: {text!r} is given where a whole number belongs.") from None
