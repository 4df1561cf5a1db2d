"""Videos made from a still picture: a window slides over it, or a part of it moves.

This is how motion models are tested on real pictures: the motion is known, the content is real,
and the video passes through a real codec.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from zoo.datasets.motion import DIRECTIONS, LABELS

__all__ = ["choose_start", "slide_window", "window_travel", "write_mp4"]

Frames = npt.NDArray[np.uint8]


def window_travel(label: int, *, step: float, num_frames: int) -> tuple[float, float]:
    """How far a window travels, (x, y) in pixels, for its content to move as the label says.

    Args:
        label: Index in `LABELS`; the content's motion, opposite to the window's.
        step: Length of the motion from one frame to the next, pixels.
        num_frames: Frames T of the video.

    Returns:
        Displacement of the window from the first frame to the last.
    """
    if not 0 <= label < len(LABELS):
        raise ValueError(f"Label {label} is not known; give 0 to {len(LABELS) - 1}.")
    x, y = DIRECTIONS[label]
    length = step * (num_frames - 1) / (math.hypot(x, y) or 1)
    return -x * length, -y * length


def slide_window(
    picture: Image.Image,
    label: int,
    *,
    start: tuple[float, float],
    window: tuple[int, int],
    step: float,
    num_frames: int,
) -> Frames:
    """Cut the frames that a window sees while it slides straight over a picture.

    Args:
        picture: An RGB picture, large enough for the whole way.
        label: Index in `LABELS`; how the content moves on the screen.
        start: Left and top edge of the window in the first frame, pixels.
        window: Width and height of the window, pixels.
        step: Length of the motion from one frame to the next, pixels; need not be whole.
        num_frames: Frames T of the video.

    Returns:
        Decoded frames, uint8 (T, H, W, C).
    """
    travel = window_travel(label, step=step, num_frames=num_frames)
    frames = []
    for index in range(num_frames):
        done = index / max(1, num_frames - 1)
        left, top = start[0] + done * travel[0], start[1] + done * travel[1]
        if left < 0 or top < 0 or left + window[0] > picture.width + 1e-6:
            raise _outside(picture, window, left, top)
        if top + window[1] > picture.height + 1e-6:
            raise _outside(picture, window, left, top)
        view = picture.transform(
            window,
            Image.Transform.AFFINE,
            (1, 0, left, 0, 1, top),
            resample=Image.Resampling.BICUBIC,
        )
        frames.append(np.asarray(view))
    return np.stack(frames)


def choose_start(
    picture: Image.Image,
    label: int,
    *,
    window: tuple[int, int],
    step: float,
    num_frames: int,
    rng: np.random.Generator,
    contrast: float = 10.0,
) -> tuple[float, float]:
    """Draw where a window starts so that it stays inside and shows something that can move.

    A window over blank sky looks still whatever it does, so a place is drawn again, up to 50
    times, until the grey levels halfway differ enough; then the liveliest of them is taken.

    Args:
        picture: An RGB picture.
        label: Index in `LABELS`.
        window: Width and height of the window, pixels.
        step: Length of the motion from one frame to the next, pixels.
        num_frames: Frames T of the video.
        rng: Source of the place.
        contrast: Standard deviation that is enough, grey levels.

    Returns:
        Left and top edge of the window in the first frame.
    """
    travel = window_travel(label, step=step, num_frames=num_frames)
    lows = [max(0.0, -distance) for distance in travel]
    highs = [
        side - width - max(0.0, distance)
        for side, width, distance in zip(picture.size, window, travel, strict=True)
    ]
    if any(high < low for low, high in zip(lows, highs, strict=True)):
        raise _outside(picture, window, *travel)
    grey = np.asarray(picture.convert("L"), dtype=np.float32)
    best, best_contrast = (lows[0], lows[1]), -1.0
    for _ in range(50):
        left, top = (float(rng.uniform(low, high)) for low, high in zip(lows, highs, strict=True))
        x, y = int(left + travel[0] / 2), int(top + travel[1] / 2)
        found = float(grey[y : y + window[1], x : x + window[0]].std())
        if found > best_contrast:
            best, best_contrast = (left, top), found
        if found >= contrast:
            break
    return best


def write_mp4(path: Path, frames: Iterable[Frames], *, fps: int = 30, crf: int = 23) -> None:
    """Write frames as an H.264 video in the pixel format that every player reads.

    Args:
        path: Where the file goes.
        frames: Decoded frames of one even height and width, each uint8 (H, W, C).
        fps: Frames a second.
        crf: Constant rate factor; 23 is the encoder's default quality.
    """
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=fps, options={"crf": str(crf)})
        stream.pix_fmt = "yuv420p"
        stream.thread_count = 1  # the encoder's output depends on the number of threads
        for index, frame in enumerate(frames):
            if index == 0:
                stream.height, stream.width = frame.shape[:2]
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
            picture.pts = index
            picture.time_base = Fraction(1, fps)
            container.mux(stream.encode(picture))
        container.mux(stream.encode())


def _outside(picture: Image.Image, window: tuple[int, int], left: float, top: float) -> ValueError:
    return ValueError(
        f"A window of {window[0]}x{window[1]} at ({left:.0f}, {top:.0f}) leaves the picture of "
        f"{picture.width}x{picture.height}; take a smaller window, fewer frames or a smaller step."
    )
