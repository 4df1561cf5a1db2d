"""`open_dataset`: from a name such as `k400:ROOT` to the videos of a split."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, Protocol

from registry.names import did_you_mean
from zoo.datasets.ava import AVA
from zoo.datasets.class_folders import ClassFolders
from zoo.datasets.csv_list import CsvList
from zoo.datasets.hmdb51 import HMDB51
from zoo.datasets.kinetics import Kinetics
from zoo.datasets.something_something import SomethingSomething
from zoo.datasets.sources import VideoDataset
from zoo.datasets.ucf101 import UCF101
from zoo.datasets.video_files import VideoFiles

__all__ = ["DATASETS", "open_dataset"]


class Reader(Protocol):
    """Knows one data set's format."""

    def read(self, split: str) -> VideoDataset: ...


DATASETS: Mapping[str, tuple[Any, Mapping[str, Any]]] = {
    "k400": (Kinetics, {"num_classes": 400}),
    "k600": (Kinetics, {"num_classes": 600}),
    "k700": (Kinetics, {"num_classes": 700}),
    "ssv2": (SomethingSomething, {}),
    "ucf101": (UCF101, {}),
    "hmdb51": (HMDB51, {}),
    "ava": (AVA, {}),
    "folder": (ClassFolders, {}),
    "csv": (CsvList, {}),
    "videos": (VideoFiles, {}),
}
"""The reader of each scheme, and the attributes that the scheme decides."""


def open_dataset(spec: str, *, split: str, **options: str) -> VideoDataset:
    """List the videos of one split of a data set.

    Args:
        spec: `SCHEME:PATH`, for instance `k400:ROOT`, `ssv2:ROOT`, `folder:ROOT` or `csv:FILE`; a
            path alone is `folder:` for a folder and `csv:` for a file.
        split: Name of the split: `train`, `val` or `test`, as far as the data set has them.
        options: Further attributes of the reader, for instance `labels` of `ClassFolders`.

    Returns:
        The videos; no file of them is opened.

    Raises:
        ValueError: The scheme, the split, an option or a line of an annotation file is wrong.
        FileNotFoundError: A folder, an annotation file, or every video is missing.
    """
    scheme, colon, target = spec.partition(":")
    if not (colon and scheme in DATASETS):
        path = Path(spec).expanduser()
        if not path.exists():
            known = ", ".join(f"{name}:" for name in DATASETS)
            raise ValueError(
                f"{spec!r} is neither a file or folder nor starts with a known scheme; write "
                f"SCHEME:PATH with one of {known}.{did_you_mean(scheme, DATASETS)}"
            )
        scheme, target = ("folder" if path.is_dir() else "csv"), spec
    if not target:
        raise ValueError(f"{spec!r} names nothing after its scheme; write '{scheme}:PATH'.")
    kind, fixed = DATASETS[scheme]
    known_options = [field.name for field in fields(kind)[1:] if field.name not in fixed]
    for name in options:
        if name not in known_options:
            raise ValueError(
                f"Unknown option {name!r} of the data set '{scheme}:'. Known: "
                f"{', '.join(known_options) or 'none'}.{did_you_mean(name, known_options)}"
            )
    reader: Reader = kind(Path(target).expanduser(), **fixed, **options)
    return reader.read(split)
