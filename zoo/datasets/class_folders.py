"""A folder of class folders: `ROOT/train/CLASS/video.mp4`, or `ROOT/CLASS/video.mp4`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from zoo.datasets.sources import (
    Collector,
    VideoDataset,
    VideoItem,
    check_folder,
    find_videos,
    mirrored_labels,
    read_labels,
)

__all__ = ["ClassFolders"]

SPLITS = {"train": "train", "val": "val", "validation": "val", "valid": "val", "test": "test"}
"""Names of split folders, and the split each holds."""


@dataclass(frozen=True, slots=True)
class ClassFolders:
    """Videos sorted into one folder a class.

    Attributes:
        root: The folder. If it holds any of `train`, `val` (or `validation`, `valid`) and `test`,
            these are splits, and a class is a folder in any of them; else its own folders are the
            classes, and every split is the whole of it.
        labels: Class names in index order: a list of the zoo, or a text file of one a line. None:
            the folders' names, sorted. What a flip does to a class that names a side follows from
            its name, as `turn left` does.
    """

    root: Path
    labels: str | None = None

    def read(self, split: str) -> VideoDataset:
        """List the videos of one split.

        Args:
            split: Name of a split's folder.

        Raises:
            ValueError: There is no such split, no class, or a folder that is no class.
            FileNotFoundError: There is no such root.
        """
        check_folder(self.root)
        splits = {SPLITS[name]: self.root / name for name in SPLITS if (self.root / name).is_dir()}
        wanted = SPLITS.get(split, split)
        if splits and wanted not in splits:
            raise ValueError(
                f"{self.root} has no folder {split!r}; its splits are {', '.join(splits)}: name "
                f"one of these."
            )
        folders = list(splits.values()) or [self.root]
        names = {name for folder in folders for name in _subfolders(folder)}
        if not names:
            raise ValueError(
                f"{folders[0]} holds no class folders; give a folder with one folder of videos a "
                f"class."
            )
        labels = read_labels(self.labels) if self.labels else tuple(sorted(names))
        chosen = splits.get(wanted, self.root)
        found = Collector(self.root.name, wanted, labels, chosen)
        for name in _subfolders(chosen):
            label = found.label(name, str(chosen))
            paths = sorted(path for same in find_videos(chosen / name).values() for path in same)
            for path in paths:
                video_id = path.relative_to(chosen).as_posix()
                item = VideoItem(path=path, label=label, video_id=video_id)
                found.add(item, str(path), exists=True)
        return found.dataset(mirrored=mirrored_labels(labels))


def _subfolders(folder: Path) -> list[str]:
    """Names of the folders in a folder, sorted; hidden ones left out."""
    return sorted(
        path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")
    )
