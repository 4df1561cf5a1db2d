"""Balls that move one way each clip: the smallest data set on which the order of frames matters.

Clips come in groups, one clip a direction. The clips of a group show the same balls: number, size,
colour, ground, speed and the middle of each ball's path are drawn once for all of them, so nothing
but the direction can tell a label. A path is symmetric about the middle of the clip: a ball that
goes the opposite way is in the same places, in reverse order. Without the order of the frames the
axis of the motion can be seen, and never its sense.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
from numpy.random import Generator
from torch import Tensor
from torch.utils.data import Dataset

from zoo.datasets.motion import DIRECTIONS, LABELS, OPPOSITE
from zoo.datasets.pans import write_mp4

__all__ = ["LESSON_DIRECTIONS", "MovingBalls", "ReversedPairs"]

LESSON_DIRECTIONS = ("left-to-right", "right-to-left", "diagonal-up-right")
"""The lesson's three classes; it calls the last one diagonal-up."""

Sampler: TypeAlias = Callable[[int], list[int]]
"""From the number of frames of a video to the indices of a clip's frames."""

# In parts of the clip's side: together they keep every ball inside the picture.
MIDDLE, TRAVEL, RADIUS = 0.1, (0.4, 0.6), (0.06, 0.1)
ANGLE_JITTER = math.radians(8)
MOST_BALLS = 3
# Of each channel, parts of 1: bright balls on dark grounds, so that they can always be seen.
GROUND, COLOUR = (0.05, 0.35), (0.5, 1.0)


class MovingBalls(Dataset[tuple[Tensor, int]]):
    """Clips of one to three balls, each on a straight path, all in the direction of the label.

    Every item is a function of the seed and its index alone. Item `i` moves in direction
    `i % K`, and shows the balls of group `i // K`.

    Args:
        length: Number of clips, a multiple of the number of directions K.
        seed: Two data sets with different seeds share no group.
        directions: Names of the classes in index order, of `zoo.datasets.LABELS` without `still`.
        num_frames: Frames T of a clip.
        size: Height and width of a clip, pixels; even, as video codecs want it.
    """

    def __init__(
        self,
        length: int,
        *,
        seed: int,
        directions: Sequence[str] = LESSON_DIRECTIONS,
        num_frames: int = 16,
        size: int = 64,
    ) -> None:
        known = LABELS[1:]
        if not directions or not set(directions) <= set(known):
            raise ValueError(
                f"MovingBalls got directions={tuple(directions)}; give some of {', '.join(known)}."
            )
        if len(set(directions)) < len(directions):
            raise ValueError(f"MovingBalls got directions={tuple(directions)}; name each once.")
        if length < 1 or length % len(directions):
            raise ValueError(
                f"MovingBalls got length={length}; clips come in groups of one a direction, give a "
                f"multiple of {len(directions)}."
            )
        if num_frames < 2:
            raise ValueError(f"MovingBalls got num_frames={num_frames}; motion needs 2 or more.")
        if size < 16 or size % 2:
            raise ValueError(f"MovingBalls got size={size}; give an even number from 16 on.")
        self.length = length
        self.seed = seed
        self.directions = tuple(directions)
        self.num_frames = num_frames
        self.size = size

    @property
    def order_blind_ceiling(self) -> float:
        """Best accuracy over whole groups without the order of frames: one clip an axis."""
        indices = [LABELS.index(name) for name in self.directions]
        axes = {min(index, OPPOSITE[index]) for index in indices}
        return len(axes) / len(indices)

    def opposite(self, label: int) -> int:
        """The label of a clip in reverse.

        Raises:
            ValueError: The opposite direction is none of the classes.
        """
        name = LABELS[OPPOSITE[LABELS.index(self.directions[label])]]
        if name not in self.directions:
            raise ValueError(
                f"The reverse of {self.directions[label]!r} is {name!r}, which is none of the "
                f"classes {', '.join(self.directions)}; take directions in opposite pairs."
            )
        return self.directions.index(name)

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """The clip, uint8 (T, H, W, C), and its label's index."""
        if not 0 <= index < self.length:
            raise IndexError(f"Clip {index} of {self.length}; give 0 to {self.length - 1}.")
        group, label = divmod(index, len(self.directions))
        # The label takes no part in what is drawn: the clips of a group share all of it.
        rng = np.random.default_rng((self.seed, group))
        direction = DIRECTIONS[LABELS.index(self.directions[label])]
        return torch.from_numpy(_draw(rng, direction, self.num_frames, self.size)), label

    def write(self, folder: Path, *, fps: int = 30) -> None:
        """Write every clip as `FOLDER/DIRECTION/INDEX.mp4`, a folder of class folders.

        Args:
            folder: Made if it does not exist.
            fps: Frames a second.
        """
        digits = len(str(self.length - 1))
        for index in range(self.length):
            clip, label = self[index]
            home = folder / self.directions[label]
            home.mkdir(parents=True, exist_ok=True)
            write_mp4(home / f"{index:0{digits}d}.mp4", clip.numpy(), fps=fps)


class ReversedPairs(Dataset[tuple[Tensor, int]]):
    """Sampled clips, each followed by itself in reverse with the opposite label.

    Item `2k` is sampled from video `k`, item `2k + 1` is the same frames in reverse order. Frames
    are chosen before they are reversed: a sampler such as `uniform` takes other frames of a
    reversed video, and a model could tell the two apart by those. So a model that ignores order
    gives both items one answer and is right on exactly half of them.

    Args:
        videos: Videos whose directions come in opposite pairs.
        sample: Chooses the frames of a clip.
    """

    def __init__(self, videos: MovingBalls, sample: Sampler) -> None:
        self.videos = videos
        self.sample = sample
        self.opposites = [videos.opposite(label) for label in range(len(videos.directions))]

    def __len__(self) -> int:
        return 2 * len(self.videos)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """The clip, uint8 (T, H, W, C), and its label's index."""
        if not 0 <= index < len(self):
            raise IndexError(f"Clip {index} of {len(self)}; give 0 to {len(self) - 1}.")
        number, reverse = divmod(index, 2)
        video, label = self.videos[number]
        clip = video[self.sample(len(video))]  # (T, H, W, C)
        return (clip.flip(0), self.opposites[label]) if reverse else (clip, label)


def _draw(
    rng: Generator, direction: tuple[int, int], num_frames: int, size: int
) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """Draw balls that move in a direction (x, y), y downwards: uint8 (T, H, W, C)."""
    ground = rng.uniform(*GROUND, 3)
    texture = rng.normal(0, 0.02, (size, size, 1))  # still: it belongs to the ground
    clip = np.broadcast_to(ground + texture, (num_frames, size, size, 3))  # (T, H, W, C)
    unit = np.array(direction) / math.hypot(*direction)
    times = np.arange(num_frames) - (num_frames - 1) / 2
    for _ in range(int(rng.integers(1, MOST_BALLS + 1))):
        middle = 0.5 + rng.uniform(-MIDDLE, MIDDLE, 2)
        step = rng.uniform(*TRAVEL) / (num_frames - 1)
        turn = rng.uniform(-ANGLE_JITTER, ANGLE_JITTER)
        radius = rng.uniform(*RADIUS)
        colour = rng.uniform(*COLOUR, 3)
        # Turned by a product, so that headings of opposite directions are opposite to the last bit.
        heading = unit @ np.array(
            [[math.cos(turn), math.sin(turn)], [-math.sin(turn), math.cos(turn)]]
        )
        path = middle + step * times[:, None] * heading  # (T, 2)
        cover = _disc(path * size, radius * size, size)[..., None]  # (T, H, W, 1)
        clip = clip * (1 - cover) + colour * cover
    levels: np.ndarray[tuple[int, ...], np.dtype[np.uint8]] = np.clip(
        np.rint(clip * 255), 0, 255
    ).astype(np.uint8)
    return levels


def _disc(centres: np.ndarray, radius: float, size: int) -> np.ndarray:
    """How much of each pixel a disc covers, (T, H, W), for its centres (T, 2) in pixels."""
    points = np.arange(size) + 0.5
    x = (points - centres[:, :1]) ** 2  # (T, W)
    y = (points - centres[:, 1:]) ** 2  # (T, H)
    distance = np.sqrt(y[:, :, None] + x[:, None, :])  # (T, H, W)
    cover: np.ndarray = np.clip(radius - distance + 0.5, 0, 1)
    return cover
