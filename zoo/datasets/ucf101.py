"""UCF-101: `trainlist01.txt`, `testlist01.txt` and `classInd.txt` of its authors, three folds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from registry.labels import labels
from zoo.datasets.sources import (
    Collector,
    VideoDataset,
    VideoItem,
    find_file,
    find_videos,
    fold_of,
)

__all__ = ["UCF101"]


@dataclass(frozen=True, slots=True)
class UCF101:
    """UCF-101.

    Attributes:
        root: The folder with the lists, or with `ucfTrainTestlist` or `annotations`, and with the
            videos in `UCF-101` or `videos`, a folder a class; or in class folders of its own.
    """

    root: Path

    def read(self, split: str) -> VideoDataset:
        """List the videos of one split.

        Args:
            split: `train` or `test` (also called `val`) of the first fold; `train2`, `test3` and
                so on for the others.

        Raises:
            ValueError: The split or a line of a list is wrong.
            FileNotFoundError: The root, a list, or every video is missing.
        """
        part, fold = fold_of(split)
        source = self._list(f"{part}list{fold:02d}.txt")
        classes = self._classes(self._list("classInd.txt"))
        found = Collector("ucf101", f"{part}{fold}", labels("ucf101"), source)
        folders = [self.root / name for name in ("UCF-101", "videos")]
        folder = next((folder for folder in folders if folder.is_dir()), self.root)
        videos = find_videos(folder)
        for line, text in enumerate(source.read_text(encoding="utf-8").splitlines(), start=1):
            if not text.strip():
                continue
            place = f"{source}, line {line}"
            name, *number = text.split()
            file = PurePosixPath(name)
            label = found.label(file.parent.name, place)
            if number and classes.get(number[0]) != file.parent.name:
                raise ValueError(
                    f"{place}: the class of {name!r} is given as {number[0]!r}, which classInd.txt "
                    f"calls {classes.get(number[0], 'nothing')!r}; put the lists of one release "
                    f"there."
                )
            path = videos.get(file.stem, [folder / file])[0]
            item = VideoItem(path=path, label=label, video_id=file.stem)
            found.add(item, place, exists=file.stem in videos)
        return found.dataset()

    def _list(self, name: str) -> Path:
        places = [f"{folder}{name}" for folder in ("ucfTrainTestlist/", "annotations/", "")]
        return find_file(self.root, places, f"list {name}")

    def _classes(self, source: Path) -> dict[str, str]:
        """The class name of each number in the lists."""
        classes = {}
        for line, text in enumerate(source.read_text(encoding="utf-8").splitlines(), start=1):
            number, _, name = text.strip().partition(" ")
            if name and name not in labels("ucf101"):
                raise ValueError(
                    f"{source}, line {line}: {name!r} is no class of UCF-101; download it again."
                )
            classes[number] = name
        return classes
