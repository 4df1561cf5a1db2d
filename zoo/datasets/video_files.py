"""Videos without labels: every video file below a folder, for pre-training and embedding."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from zoo.datasets.sources import Collector, VideoDataset, VideoItem, check_folder, find_videos

__all__ = ["VideoFiles"]


@dataclass(frozen=True, slots=True)
class VideoFiles:
    """Every video file below a folder, unlabelled.

    Attributes:
        root: The folder.
    """

    root: Path

    def read(self, split: str) -> VideoDataset:
        """List the videos.

        Args:
            split: Only a name; all videos are listed whatever it is.

        Raises:
            ValueError: There is no video.
            FileNotFoundError: There is no such folder.
        """
        check_folder(self.root)
        found = Collector(self.root.name, split, (), self.root)
        for path in sorted(path for same in find_videos(self.root).values() for path in same):
            video_id = path.relative_to(self.root).as_posix()
            item = VideoItem(path=path, label=-1, video_id=video_id)
            found.add(item, str(path), exists=True)
        return found.dataset()
