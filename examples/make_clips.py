"""Make the example videos of `examples/clips` from the pictures of `examples/pictures`.

    python examples/make_clips.py

Each is two seconds of H.264 at 30 frames a second, 256x192: a camera that pans over a picture, one
that stands still, and a part of one picture that crosses another.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from zoo.datasets import LABELS
from zoo.datasets.pans import slide_window, write_mp4

PICTURES = Path(__file__).parent / "pictures"
CLIPS = Path(__file__).parent / "clips"
WINDOW = (256, 192)
NUM_FRAMES = 60
FPS = 30
CRF = 28

# Name of the clip, picture, label, pixels a frame, left and top edge of the first window.
PANS = (
    ("coffee-left-to-right", "coffee", "left-to-right", 3.5, (215, 60)),
    ("raccoon-diagonal-up-left", "raccoon", "diagonal-up-left", 3.0, (20, 20)),
    ("staircase-still", "staircase", "still", 0.0, (110, 200)),
)


def main() -> None:
    """Write every clip."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=CLIPS)
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    for name, picture, label, step, start in PANS:
        frames = slide_window(
            _open(picture),
            LABELS.index(label),
            start=start,
            window=WINDOW,
            step=step,
            num_frames=NUM_FRAMES,
        )
        write_mp4(out / f"{name}.mp4", frames, fps=FPS, crf=CRF)
    write_mp4(out / "cup-right-to-left.mp4", _crossing_cup(), fps=FPS, crf=CRF)


def _crossing_cup() -> np.ndarray:
    """A cup, cut from its picture, crosses a still meadow to the left: uint8 (T, H, W, C)."""
    box = (134, 8, 344, 226)  # the cup on its saucer, left, top, right, bottom
    ground = _open("grass").crop((60, 200, 60 + WINDOW[0], 200 + WINDOW[1]))
    side = 96
    cup = _open("coffee").crop(box).resize((side, side), Image.Resampling.LANCZOS)
    mask = Image.new("L", (4 * side, 4 * side))
    ImageDraw.Draw(mask).ellipse((8, 8, 4 * side - 8, 4 * side - 8), fill=255)
    mask = mask.resize((side, side), Image.Resampling.LANCZOS)
    frames = []
    for index in range(NUM_FRAMES):
        frame = ground.copy()
        frame.paste(cup, (round(WINDOW[0] - side - 2.7 * index), 48), mask)
        frames.append(np.asarray(frame))
    return np.stack(frames)


def _open(picture: str) -> Image.Image:
    """One of the pictures, RGB."""
    return Image.open(PICTURES / f"{picture}.jpg").convert("RGB")


if __name__ == "__main__":
    main()
