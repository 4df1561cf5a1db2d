"""HMDB-51: `CLASS_test_split1.txt` of its authors, one list a class and fold."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from registry.labels import labels
from zoo.datasets.sources import (
    Collector,
    VideoDataset,
    VideoItem,
    check_folder,
    find_videos,
    fold_of,
)

__all__ = ["HMDB51"]

FOLDERS = ("testTrainMulti_7030_splits", "test_train_splits", "annotations", ".")
PARTS = {"0": "", "1": "train", "2": "test"}
"""What the number after a video means; 0 is a video that this fold leaves out."""


@dataclass(frozen=True, slots=True)
class HMDB51:
    """HMDB-51.

    Attributes:
        root: The folder with the lists, or with `testTrainMulti_7030_splits`, `test_train_splits`
            or `annotations`, and with the videos in class folders: its own, or those of
            `hmdb51_org` or `videos`.
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
        check_folder(self.root)
        ending = f"_test_split{fold}.txt"
        here = (self.root / name for name in FOLDERS)
        source = next((folder for folder in here if any(folder.glob(f"*{ending}"))), None)
        names = labels("hmdb51")
        absent = [name for name in names if source and not (source / f"{name}{ending}").is_file()]
        if source is None or absent:
            raise FileNotFoundError(
                f"{source or self.root} lacks the lists of {len(absent) or len(names)} classes, "
                f"the first {(absent or names)[0]}{ending}; put the lists of HMDB-51 there, or in "
                f"{FOLDERS[0]}."
            )
        found = Collector("hmdb51", f"{part}{fold}", names, source)
        folders = [self.root / name for name in ("hmdb51_org", "videos")]
        folder = next((folder for folder in folders if folder.is_dir()), self.root)
        videos = find_videos(folder)
        for path in sorted(source.glob(f"*{ending}")):
            name = path.name.removesuffix(ending)
            label = found.label(name, str(path))
            for line, text in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
                if not text.strip():
                    continue
                place = f"{path}, line {line}"
                file, _, number = text.strip().rpartition(" ")
                if not file or number not in PARTS:
                    raise ValueError(
                        f"{place}: {text!r} is not a file name and 0, 1 (train) or 2 (test)."
                    )
                if PARTS[number] != part:
                    continue
                stem = Path(file.strip()).stem
                same = [video for video in videos.get(stem, []) if video.parent.name == name]
                item = VideoItem(
                    path=same[0] if same else folder / name / file.strip(),
                    label=label,
                    video_id=f"{name}/{stem}",
                )
                found.add(item, place, exists=bool(same))
        return found.dataset()
