"""What the small networks that this project trained to name motion have in common."""

from __future__ import annotations

from registry import Preprocess, Sampling

__all__ = ["MOTION_PREPROCESS", "MOTION_SAMPLING"]

MOTION_SAMPLING = Sampling(
    rule="dense",
    num_frames=8,
    frame_stride=2,
    fps=30.0,
    num_clips=1,
    num_crops=1,
    average="logits",
)
MOTION_PREPROCESS = Preprocess(
    img_size=64,
    resize=64,
    interpolation="bilinear",
    antialias=True,
    mean=(0.5, 0.5, 0.5),
    std=(0.25, 0.25, 0.25),
)
