"""Clips of the videos of a data set, for a torch DataLoader: decode, sample, augment, normalise."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import Dataset

from zoo.augmentation import Augmentation, augment, seed_of
from zoo.clips import Recipe, check_views, views_of
from zoo.datasets.sources import VideoDataset, VideoItem
from zoo.preprocessing import check_sizes, check_takes_frames, normalise
from zoo.sampling import clip_indices, frames_between, random_clip
from zoo.video import Video

__all__ = ["Batch", "ClipDataset", "Sample", "collate"]


@dataclass(frozen=True, slots=True)
class Sample:
    """The views of one video, or the reason why there are none.

    Attributes:
        clip: float32 (V, C, T, H, W); empty, (0,), where the video cannot be read.
        label: Class index, after a flip that changes it; -1 where unknown.
        index: Place in the data set.
        video_id: Name of the video.
        error: Empty, or one sentence on what is wrong with the video.
    """

    clip: Tensor
    label: int
    index: int
    video_id: str
    error: str = ""


class Batch(NamedTuple):
    """Several samples, those that could be read side by side.

    Attributes:
        clips: float32 (N, V, C, T, H, W); all zeros in its shape where no video could be read.
        labels: int64 (N,).
        indices: Places in the data set, int64 (N,).
        failures: (video_id, reason) of each video that could not be read.
    """

    clips: Tensor
    labels: Tensor
    indices: Tensor
    failures: list[tuple[str, str]]


class ClipDataset(Dataset[Sample]):
    """The videos of one split as model inputs.

    For training, each video gives one clip at a random place, augmented; which one depends on the
    seed, the epoch and the index alone, so that neither a resumed run nor another number of
    workers sees others. For evaluation it gives the views that `load_clip` gives.

    A video that cannot be read gives a sample without pixels that says why; never another
    video's.

    Args:
        dataset: The videos.
        recipe: How a model's weights want their input: its record.
        train: Whether clips are chosen at random and augmented.
        augmentation: What training clips go through; None: only resize and centre crop.
        num_clips: Clips a video, or "all" for windows over the whole of it; 1 for training.
        num_crops: Crops a clip, 1 or 3; 1 for training.
        seed: Another one gives other clips and other augmentation.
    """

    def __init__(
        self,
        dataset: VideoDataset,
        recipe: Recipe,
        *,
        train: bool,
        augmentation: Augmentation | None = None,
        num_clips: int | Literal["all"] = 1,
        num_crops: int = 1,
        seed: int = 0,
    ) -> None:
        check_views(num_clips, num_crops)
        check_takes_frames(recipe.preprocess)
        if train and (num_clips, num_crops) != (1, 1):
            raise ValueError(
                f"num_clips={num_clips!r} and num_crops={num_crops} are given for training, which "
                f"takes one clip and crop of a video; leave them out."
            )
        if augmentation is not None and not train:
            raise ValueError("An augmentation is given for evaluation; it is for train=True only.")
        if seed < 0:
            raise ValueError(f"seed={seed} is given; give 0 or more.")
        self.dataset = dataset
        self.recipe = recipe
        self.train = train
        self.augmentation = augmentation or Augmentation.none()
        self.num_clips = num_clips
        self.num_crops = num_crops
        self.seed = seed
        # Workers that outlive an epoch hold a copy of this object; shared memory tells them too.
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()  # type: ignore[no-untyped-call]

    def __len__(self) -> int:
        return len(self.dataset.items)

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch comes next, from 0, before its iteration begins."""
        self._epoch.fill_(epoch)

    def __getitem__(self, index: int) -> Sample:
        """The views of one video; V = 1 for training, else clips x crops."""
        item = self.dataset.items[index]
        try:
            if self.train:
                clip, label = self._random_view(item, index)
            else:
                clip, label = torch.cat(list(self.views(index))), item.label
        except UnreadableVideoError as error:
            return Sample(torch.empty(0), item.label, index, item.video_id, str(error))
        return Sample(clip, label, index, item.video_id)

    def views(self, index: int) -> Iterator[Tensor]:
        """Load the views of one video for evaluation clip by clip, for videos of any length.

        Args:
            index: Place in the data set.

        Returns:
            An iterator over clips, float32 (num_crops, C, T, H, W).

        Raises:
            UnreadableVideoError: The video cannot be read.
        """
        check_sizes(self.recipe.preprocess)  # before a fault of it could be one of the video
        with _opened(self.dataset.items[index]) as (video, part):
            times = video.times[part.start : part.stop]
            chosen = clip_indices(self.recipe.sampling, times, self.num_clips)
            clips = ([part.start + place for place in clip] for clip in chosen)
            yield from views_of(video, clips, self.recipe.preprocess, num_crops=self.num_crops)

    def _random_view(self, item: VideoItem, index: int) -> tuple[Tensor, int]:
        """One augmented clip, float32 (1, C, T, H, W), and its label."""
        seed = seed_of(self.seed, int(self._epoch), index)
        rng = random.Random(seed)  # noqa: S311 -- no secret
        with _opened(item) as (video, part):
            chosen = random_clip(self.recipe.sampling, video.times[part.start : part.stop], rng)
            frames = video.read([part.start + place for place in chosen])
        mirrored = self.dataset.flipped_label(item.label)
        clip, flipped = augment(
            frames,
            self.augmentation,
            self.recipe.preprocess,
            seed=seed,
            may_flip=mirrored is not None,
        )
        label = mirrored if flipped and mirrored is not None else item.label
        return normalise(clip, self.recipe.preprocess)[None], label


@contextmanager
def _opened(item: VideoItem) -> Iterator[tuple[Video, range]]:
    """Open a video and find its frames that count; what goes wrong is said to be its fault."""
    import av

    try:
        with Video(item.path) as video:
            yield video, frames_between(video.times, item.start_seconds, item.end_seconds)
    except (OSError, ValueError, av.FFmpegError) as error:
        raise UnreadableVideoError(str(error)) from error


class UnreadableVideoError(Exception):
    """A video of a data set cannot be decoded; the message says which and why."""


def collate(samples: Sequence[Sample]) -> Batch:
    """Put samples side by side, the failures apart.

    Args:
        samples: Samples whose clips have one shape.

    Returns:
        The batch.
    """
    good = [sample for sample in samples if not sample.error]
    return Batch(
        clips=torch.stack([sample.clip for sample in good]) if good else torch.empty((0,) * 6),
        labels=torch.tensor([sample.label for sample in good], dtype=torch.int64),
        indices=torch.tensor([sample.index for sample in good], dtype=torch.int64),
        failures=[(sample.video_id, sample.error) for sample in samples if sample.error],
    )
