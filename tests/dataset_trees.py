"""Miniature data sets in their authors' own formats, and what a loader makes of them."""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path
from types import SimpleNamespace

import videos

from registry.records import Preprocess, Sampling
from zoo.clip_dataset import Batch, ClipDataset, collate
from zoo.datasets import VideoDataset

RECIPE = SimpleNamespace(
    sampling=Sampling(
        rule="dense",
        num_frames=2,
        frame_stride=2,
        fps=None,
        num_clips=1,
        num_crops=1,
        average="logits",
    ),
    preprocess=Preprocess(
        img_size=48,
        resize=48,
        interpolation="bilinear",
        antialias=False,
        mean=(0.0, 0.0, 0.0),
        std=(1.0, 1.0, 1.0),
    ),
)
CODECS = {".webm": "libvpx-vp9", ".avi": "mpeg4"}


@functools.cache
def _video(suffix: str) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"a{suffix}"
        return videos.write_video(path, 6, codec=CODECS.get(suffix, "libx264")).read_bytes()


def put(root: Path, *files: str) -> None:
    """Write a small video under each name, relative to `root`."""
    for file in files:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).write_bytes(_video(Path(file).suffix))


def put_broken(root: Path, file: str) -> None:
    """Write a file that is cut off before its frames, as a failed download leaves it."""
    put(root, file)
    (root / file).write_bytes((root / file).read_bytes()[:200])


def write(path: Path, text: str) -> Path:
    """Write a text file and its folders."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def facts(dataset: VideoDataset) -> list[tuple[str, str]]:
    """(video_id, class name) of every item; the name is empty for an item without label."""
    return [
        (item.video_id, dataset.labels[item.label] if item.label >= 0 else "")
        for item in dataset.items
    ]


def load(dataset: VideoDataset) -> Batch:
    """One view of every video that can be read."""
    clips = ClipDataset(dataset, RECIPE, train=False)
    return collate([clips[index] for index in range(len(clips))])
