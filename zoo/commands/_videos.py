"""Videos as a command line names them: files, and folders of files."""

from __future__ import annotations

from pathlib import Path

from zoo._video_file import VIDEO_SUFFIXES
from zoo.commands._console import say

__all__ = ["video_files"]


def video_files(paths: list[Path]) -> tuple[list[Path], list[Path]]:
    """The files named, and those in folders named but hidden ones; and the folders without any."""
    files, broken = [], []
    for path in paths:
        if not path.is_dir():
            files.append(path)
            continue
        inside = sorted(
            item
            for item in path.rglob("*")
            if item.suffix.lower() in VIDEO_SUFFIXES
            and item.is_file()
            and not any(part.startswith(".") for part in item.relative_to(path).parts)
        )
        if not inside:
            say(f"error: the folder '{path}' holds no video files.")
            broken.append(path)
        files += inside
    return files, broken
