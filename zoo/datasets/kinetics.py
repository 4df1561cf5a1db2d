"""Kinetics-400, 600 and 700: csv files of DeepMind, videos as the usual scripts download them.

The columns are `label,youtube_id,time_start,time_end,split` and, in some releases, `is_cc`. A
video is named `ID_STARTSS_ENDSSS.mp4` with both times in six digits, by the ActivityNet crawler
(which makes a folder for each class) and by the CVDF archives (which do not) alike.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from registry.labels import labels
from zoo.datasets.sources import (
    Collector,
    VideoDataset,
    VideoItem,
    find_file,
    find_videos,
    split_name,
)

__all__ = ["Kinetics"]

NAMES = {"train": ("train",), "val": ("val", "validate", "validation"), "test": ("test",)}
"""How file names, folders and the column `split` call each split."""


@dataclass(frozen=True, slots=True)
class Kinetics:
    """One of the Kinetics data sets.

    Attributes:
        root: The folder with the csv files, or with `annotations`, and the videos: in `train`,
            `videos_train` or `videos/train` (other splits alike), or anywhere below the root,
            with or without class folders. A copy of a video below `replacement` comes first.
        num_classes: 400, 600 or 700; the class names are those of the zoo's list.
    """

    root: Path
    num_classes: int

    def read(self, split: str) -> VideoDataset:
        """List the videos of one split.

        Args:
            split: `train`, `val` or `test`; without labels where the csv has none.

        Raises:
            ValueError: The split or a line of the csv is wrong.
            FileNotFoundError: The root, the csv, or every video is missing.
        """
        split = split_name(split, NAMES)
        source = find_file(self.root, _csv_names(split), f"csv of the Kinetics split {split!r}")
        name = f"kinetics{self.num_classes}"
        found = Collector(name, split, labels(name), source)
        folders = self._folders(split)
        videos: dict[str, list[Path]] = {}
        for folder in folders:
            for key, paths in find_videos(folder).items():
                videos.setdefault(key, paths)
        for line, row in _rows(source):
            if row.get("split") and row["split"] not in NAMES[split]:
                continue
            place = f"{source}, line {line}"
            try:
                times = [int(float(row[column])) for column in ("time_start", "time_end")]
            except ValueError:
                raise ValueError(
                    f"{place}: time_start and time_end are seconds, not {row['time_start']!r} and "
                    f"{row['time_end']!r}."
                ) from None
            video_id = f"{row['youtube_id']}_{times[0]:06d}_{times[1]:06d}"
            label = found.label(row["label"], place) if row.get("label") else -1
            path = videos.get(video_id, [folders[-1] / f"{video_id}.mp4"])[0]
            item = VideoItem(path=path, label=label, video_id=video_id)
            found.add(item, place, exists=video_id in videos)
        return found.dataset()

    def _folders(self, split: str) -> list[Path]:
        """Where the videos of a split are, the folder that goes first coming first."""
        usual = [
            self.root / pattern.format(name)
            for name in NAMES[split]
            for pattern in ("{}", "videos_{}", "videos/{}")
        ]
        here = [folder for folder in usual if folder.is_dir()]
        replacement = self.root / "replacement"
        return [replacement] * replacement.is_dir() + (here or [self.root])


def _csv_names(split: str) -> list[str]:
    """Where the csv of a split may be, as DeepMind, CVDF and mmaction2 name it."""
    return [
        f"{folder}{prefix}{name}.csv"
        for folder in ("annotations/", "")
        for prefix in ("", "kinetics_")
        for name in NAMES[split]
    ]


def _rows(source: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """The rows of a csv file as (line, {column: text})."""
    with source.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file, restval="")
        needed = {"youtube_id", "time_start", "time_end"}
        if not needed <= set(reader.fieldnames or ()):
            raise ValueError(
                f"{source} has the columns {', '.join(reader.fieldnames or ()) or 'of no line'}; "
                f"a csv of Kinetics has label,youtube_id,time_start,time_end,split."
            )
        for row in reader:
            yield reader.line_num, row
