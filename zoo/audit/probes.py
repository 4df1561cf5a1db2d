"""Videos whose pixels tell which frames a pipeline took, and what it did to them."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "BASE",
    "BRIGHT",
    "NUM_FRAMES",
    "colour_of",
    "geometry",
    "number_of",
    "write_probe",
]

Picture = NDArray[np.uint8]

WIDTH, HEIGHT = 320, 240
NUM_FRAMES = 180
"""Frames of the probe that numbers them; `_LEVELS` to the power of three is enough."""

_LEVELS = (20, 63, 106, 149, 192, 235)
BASE, BRIGHT = 90, 190
_SQUARE = 96


def flat(colour: Iterable[int]) -> Picture:
    """A picture of one colour, uint8 (H, W, C)."""
    picture = np.empty((HEIGHT, WIDTH, 3), np.uint8)
    picture[:] = np.asarray(list(colour), np.uint8)
    return picture


def colour_of(number: int) -> tuple[int, int, int]:
    """The colour that stands for a frame's number: its digits, one a channel."""
    count = len(_LEVELS)
    return (
        _LEVELS[number // (count * count) % count],
        _LEVELS[number // count % count],
        _LEVELS[number % count],
    )


def number_of(colour: Iterable[float]) -> int:
    """The frame's number that a colour stands for; the nearest one."""
    digits = [int(np.argmin([abs(value - level) for level in _LEVELS])) for value in colour]
    return digits[0] * len(_LEVELS) ** 2 + digits[1] * len(_LEVELS) + digits[2]


def geometry() -> Picture:
    """A bright square in the middle; the ground is darker on the left than on the right."""
    picture = flat((20, 20, 20))
    picture[:, WIDTH // 2 :] = 90
    top, left = (HEIGHT - _SQUARE) // 2, (WIDTH - _SQUARE) // 2
    picture[top : top + _SQUARE, left : left + _SQUARE] = 235
    return picture


def write_probe(path: Path, pictures: Iterable[Picture], *, fps: int = 30) -> Path:
    """Write pictures, uint8 (H, W, C) each, as an H.264 video in which no frame needs another.

    Args:
        path: File to write, `.mp4`.
        pictures: The frames.
        fps: Frames a second.
    """
    import av

    with av.open(path, "w") as out:
        stream = out.add_stream("libx264", rate=fps, options={"crf": "4", "g": "1"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for index, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, fps)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path
