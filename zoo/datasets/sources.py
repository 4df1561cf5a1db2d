"""Which videos a data set has and what happens in them, whatever format its authors wrote it in.

Every reader turns annotation files into one `VideoDataset`; no video is opened for that. A file
that is not there is kept apart and named, and never replaced by another.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from registry.labels import labels
from registry.names import did_you_mean
from zoo._video_file import VIDEO_SUFFIXES

__all__ = [
    "Collector",
    "PersonBox",
    "VideoDataset",
    "VideoItem",
    "check_folder",
    "find_file",
    "find_videos",
    "mirrored_labels",
    "read_labels",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class PersonBox:
    """One person in one frame.

    Attributes:
        corners: (left, top, right, bottom), each in [0, 1] of the frame's width or height.
        labels: What the person does: indices into the data set's labels, ascending.
        person_id: Names the same person in neighbouring frames of one video; -1 where unknown.
    """

    corners: tuple[float, float, float, float]
    labels: tuple[int, ...]
    person_id: int = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoItem:
    """One video, or a part of one, with its label.

    Attributes:
        path: The video's file.
        label: Index into the data set's labels; -1 where there is none.
        video_id: Names the item in reports; unique in its data set.
        start_seconds: Where the part begins, seconds from the first frame; None: at the start.
        end_seconds: Where it ends; that moment is not in it. None: at the end.
        persons: Boxes of the people in the middle of the part, where the data set has them.
    """

    path: Path
    label: int
    video_id: str
    start_seconds: float | None = None
    end_seconds: float | None = None
    persons: tuple[PersonBox, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoDataset:
    """The videos of one split of a data set.

    Attributes:
        name: Name of the data set.
        split: Name of the split.
        labels: Class names in index order.
        items: The videos whose files exist, in the order of the annotation file.
        mirrored: What a video's label becomes when its frames are flipped left to right; a label
            that is not a key must not be flipped. None: a flip leaves every label as it is.
        flips_allowed: False where no video of this data set may be flipped.
        missing: The items whose file does not exist, for the report.
    """

    name: str
    split: str
    labels: tuple[str, ...]
    items: tuple[VideoItem, ...]
    mirrored: Mapping[int, int] | None = None
    flips_allowed: bool = True
    missing: tuple[VideoItem, ...] = ()

    def __len__(self) -> int:
        return len(self.items)

    def flipped_label(self, label: int) -> int | None:
        """The label of a video after a flip from left to right; None if it must not be flipped."""
        if not self.flips_allowed:
            return None
        if self.mirrored is None or label == -1:
            return label
        return self.mirrored.get(label)

    def with_labels(self, wanted: Sequence[str]) -> VideoDataset:
        """The same videos, their labels counted in another list of the same class names.

        Args:
            wanted: Class names in index order, for instance those of a model; it may hold more
                classes than the data set's.

        Raises:
            ValueError: A class of the data set is not in the list.
        """
        if tuple(wanted) == self.labels:
            return self
        place = {name: index for index, name in enumerate(wanted)}
        unknown = [name for name in self.labels if name not in place]
        if unknown:
            raise ValueError(
                f"{len(unknown)} of the {len(self.labels)} classes of {self.name!r} are not among "
                f"the {len(wanted)} wanted ones, the first is {unknown[0]!r}; give a model or a "
                f"list that names them all.{did_you_mean(unknown[0], wanted)}"
            )
        new = {index: place[name] for index, name in enumerate(self.labels)} | {-1: -1}

        def moved(items: Iterable[VideoItem]) -> tuple[VideoItem, ...]:
            return tuple(
                replace(
                    item,
                    label=new[item.label],
                    persons=tuple(
                        replace(box, labels=tuple(sorted(new[index] for index in box.labels)))
                        for box in item.persons
                    ),
                )
                for item in items
            )

        pairs = self.mirrored
        return replace(
            self,
            labels=tuple(wanted),
            items=moved(self.items),
            missing=moved(self.missing),
            mirrored=None if pairs is None else {new[a]: new[b] for a, b in pairs.items()},
        )


class Collector:
    """Gathers the items of one split, checking each line of the annotation file as it comes.

    Args:
        name: Name of the data set.
        split: Name of the split.
        names: Class names in index order.
        source: The annotation file, or the folder, that error messages name.
    """

    def __init__(self, name: str, split: str, names: Sequence[str], source: Path) -> None:
        if len(set(names)) < len(names):
            twice = next(label for label in names if list(names).count(label) > 1)
            raise ValueError(
                f"The label {twice!r} is listed twice for {source}; name each class once."
            )
        self._name, self._split, self._labels, self._source = name, split, tuple(names), source
        self._indices = {label: index for index, label in enumerate(names)}
        self._items: list[VideoItem] = []
        self._missing: list[VideoItem] = []
        self._places: dict[str, str] = {}

    def label(self, text: str, place: str) -> int:
        """The index of a class name.

        Args:
            text: The class name.
            place: Where it was read, for instance `train.csv, line 3`.

        Raises:
            ValueError: The list has no such class.
        """
        index = self._indices.get(text)
        if index is None:
            raise ValueError(
                f"{place}: the label {text!r} is not one of the {len(self._labels)} classes of "
                f"{self._name!r}; check that file and the list of labels."
                f"{did_you_mean(text, self._labels)}"
            )
        return index

    def add(self, item: VideoItem, place: str, *, exists: bool) -> None:
        """Keep one item, or note it as missing.

        Args:
            item: The item.
            place: Where it was read.
            exists: Whether its file was found.

        Raises:
            ValueError: It came before, or its part of the video is empty.
        """
        first = self._places.setdefault(item.video_id, place)
        if first != place:
            raise ValueError(
                f"{place}: the video {item.video_id!r} was listed before ({first}); remove one of "
                f"the two."
            )
        start, end = item.start_seconds or 0.0, item.end_seconds
        if start < 0 or (end is not None and end <= start):
            raise ValueError(
                f"{place}: the part from {item.start_seconds} to {end} seconds is empty; a part "
                f"starts at 0 or later and ends after its start."
            )
        (self._items if exists else self._missing).append(item)

    def dataset(self, *, mirrored: Mapping[int, int] | None = None) -> VideoDataset:
        """Everything that was added.

        Args:
            mirrored: What a flip from left to right does to the labels.

        Raises:
            ValueError: There is no item, or no item's file exists.
        """
        if not self._items and not self._missing:
            raise ValueError(
                f"The split {self._split!r} of {self._name!r} is empty: {self._source} lists no "
                f"video of it; check the split's name and that file."
            )
        if not self._items:
            raise FileNotFoundError(
                f"None of the {len(self._missing)} videos that {self._source} lists for "
                f"{self._split!r} was found, the first as {self._missing[0].path}; check the root "
                f"folder."
            )
        return VideoDataset(
            name=self._name,
            split=self._split,
            labels=self._labels,
            items=tuple(self._items),
            mirrored=mirrored,
            missing=tuple(self._missing),
        )


def find_file(root: Path, names: Sequence[str], what: str) -> Path:
    """Find an annotation file under the first of its usual names.

    Args:
        root: The data set's folder.
        names: Paths relative to it, the usual one first.
        what: What the file is, for the error message.

    Raises:
        FileNotFoundError: There is no such folder, or none of the files.
    """
    check_folder(root)
    for name in names:
        if (root / name).is_file():
            return root / name
    raise FileNotFoundError(
        f"{root} holds no {what}; looked for {', '.join(names)}; put one of them there, or give "
        f"the folder that has it."
    )


def check_folder(root: Path) -> None:
    """Refuse a root that is no folder.

    Raises:
        FileNotFoundError: There is nothing.
        NotADirectoryError: It is a file.
    """
    if not root.exists():
        raise FileNotFoundError(f"There is no folder {root}; give the data set's root folder.")
    if not root.is_dir():
        raise NotADirectoryError(f"{root} is a file; give the data set's root folder.")


def find_videos(folder: Path) -> dict[str, list[Path]]:
    """List the video files below a folder, by their name without suffix.

    The folder is walked once: asking for each of 240,000 files by itself takes many minutes on a
    network disk. Hidden folders are left out.

    Args:
        folder: Where to look, to any depth; links are followed.

    Returns:
        The files of each name, in sorted order of their paths.
    """
    found: dict[str, list[Path]] = {}
    for base, folders, files in os.walk(folder, followlinks=True):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for file in sorted(files):
            name, suffix = os.path.splitext(file)  # noqa: PTH122 -- a Path for each file is slow
            if suffix.lower() in VIDEO_SUFFIXES and not file.startswith("."):
                found.setdefault(name, []).append(Path(base, file))
    return found


def read_labels(name: str) -> tuple[str, ...]:
    """Read class names in index order.

    Args:
        name: A list of the zoo such as `kinetics400`, or the path of a text file, one name a line.

    Raises:
        LookupError: There is no such list or file.
        ValueError: The file names no class.
    """
    path = Path(name)
    if not path.is_file():
        return labels(name)
    names = tuple(line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines())
    while names and not names[-1]:
        names = names[:-1]
    if not names or "" in names:
        raise ValueError(
            f"{path} has {'no line' if not names else 'an empty line'}; give one class name a "
            f"line, line 1 for index 0."
        )
    return names


def mirrored_labels(names: Sequence[str]) -> dict[int, int]:
    """What a flip from left to right makes of each class, by the words of its name.

    Args:
        names: Class names in index order.

    Returns:
        The new label of each; a class that names a side without having a counterpart is left out,
        which means that its videos must not be flipped.
    """
    places = {name: index for index, name in enumerate(names)}
    # As words of any spelling, `turn_left` too; "right out" is no side, and "upright" neither.
    side = re.compile(r"(?<![a-z])(left|right)(?![a-z]| out)", re.IGNORECASE)
    flipped = (places.get(side.sub(_other_side, name)) for name in names)
    return {index: place for index, place in enumerate(flipped) if place is not None}


def _other_side(found: re.Match[str]) -> str:
    """`right` for `left`, in the same letter case."""
    word = found.group()
    other = {"left": "right", "right": "left"}[word.lower()]
    if word.islower():
        return other
    return other.upper() if word.isupper() else other.capitalize()


def split_name(given: str, names: Mapping[str, Sequence[str]]) -> str:
    """The data set's name of a split that may be called otherwise.

    Args:
        given: What the caller calls it.
        names: The splits there are, each with other words for it.

    Raises:
        ValueError: There is no such split.
    """
    for name, others in names.items():
        if given == name or given in others:
            return name
    raise ValueError(
        f"Unknown split {given!r}. Known: {', '.join(names)}.{did_you_mean(given, names)}"
    )


def fold_of(split: str) -> tuple[str, int]:
    """Read the split of a data set with three folds, such as `train2`.

    Args:
        split: `train`, `test` or `val` (which is `test`), and the fold; 1 where it is left out.

    Returns:
        `train` or `test`, and 1, 2 or 3.

    Raises:
        ValueError: There is no such split.
    """
    known = [f"{part}{fold}" for part in ("train", "test") for fold in ("", 1, 2, 3)]
    name = split.replace("val", "test", 1) if split.startswith("val") else split
    if name not in known:
        raise ValueError(
            f"Unknown split {split!r}. Known: {', '.join(known)}.{did_you_mean(split, known)}"
        )
    return name.rstrip("123"), int(name[-1]) if name[-1].isdigit() else 1
