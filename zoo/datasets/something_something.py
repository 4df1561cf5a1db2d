"""Something-Something V2: json files of 20BN and Qualcomm, 174 templates as classes.

`template` is `Pushing [something] from left to right`; the class name is that without brackets,
and its index the one of `labels.json`. Six classes tell left from right: a flipped video of one
of them shows another class.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from registry.labels import labels
from zoo.datasets.sources import (
    Collector,
    VideoDataset,
    VideoItem,
    find_file,
    find_videos,
    mirrored_labels,
    split_name,
)

__all__ = ["SomethingSomething"]

NAMES = {"train": ("train",), "val": ("validation", "val"), "test": ("test",)}
LIST = "something_something_v2"


@dataclass(frozen=True, slots=True)
class SomethingSomething:
    """Something-Something V2.

    Attributes:
        root: The folder with `train.json`, `validation.json` and `test.json` (also below `labels`
            or `annotations`, also as `something-something-v2-train.json`), and with the videos,
            `ID.webm` or converted to another format, in any folder below it.
    """

    root: Path

    def read(self, split: str) -> VideoDataset:
        """List the videos of one split; those of `test` have no labels.

        Args:
            split: `train`, `val` or `test`.

        Raises:
            ValueError: The split or an entry of a json file is wrong.
            FileNotFoundError: The root, the json file, or every video is missing.
        """
        split = split_name(split, NAMES)
        what = f"json file of the Something-Something split {split!r}"
        source = find_file(self.root, _json_names(*NAMES[split]), what)
        names = labels(LIST)
        _check_order(source, names)
        found = Collector(LIST, split, names, source)
        videos = find_videos(self.root)
        for number, entry in enumerate(_entries(source), start=1):
            place = f"{source}, entry {number}"
            video_id = str(entry["id"])
            label = -1
            if "template" in entry:
                label = found.label(re.sub(r"[\[\]]", "", str(entry["template"])), place)
            path = videos.get(video_id, [self.root / f"{video_id}.webm"])[0]
            item = VideoItem(path=path, label=label, video_id=video_id)
            found.add(item, place, exists=video_id in videos)
        return found.dataset(mirrored=mirrored_labels(names))


def _json_names(*names: str) -> list[str]:
    return [
        f"{folder}{prefix}{name}.json"
        for folder in ("labels/", "annotations/", "")
        for prefix in ("", "something-something-v2-")
        for name in names
    ]


def _load(source: Path) -> Any:
    try:
        return json.loads(source.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{source} is no valid json ({error}); download it again.") from error


def _entries(source: Path) -> list[dict[str, Any]]:
    entries = _load(source)
    if not isinstance(entries, list):
        raise ValueError(f"{source} holds no list of videos; give a file such as train.json.")
    for number, entry in enumerate(entries, start=1):
        if not isinstance(entry, dict) or "id" not in entry:
            raise ValueError(
                f"{source}, entry {number}: {entry!r} has no 'id'; an entry holds 'id' and, unless "
                f"it is for testing, 'template'."
            )
    return entries


def _check_order(source: Path, names: Sequence[str]) -> None:
    """Refuse a `labels.json` beside the annotation that numbers the classes in another way."""
    for name in ("labels.json", "something-something-v2-labels.json"):
        path = source.parent / name
        if not path.is_file():
            continue
        numbers = _load(path)
        if not isinstance(numbers, Mapping):
            raise ValueError(f"{path} holds no numbers of classes; download it again.")
        ours = {label: str(index) for index, label in enumerate(names)}
        theirs = {str(label): str(number) for label, number in numbers.items()}
        if ours != theirs:
            wrong = sorted(
                label
                for label in ours.keys() | theirs.keys()
                if ours.get(label) != theirs.get(label)
            )
            raise ValueError(
                f"{path} numbers {len(wrong)} classes differently from Something-Something V2, "
                f"the first is {wrong[0]!r}; put the labels.json of version 2 there."
            )
