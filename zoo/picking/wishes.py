"""What somebody who looks for a model wishes, checked."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any

from registry.names import did_you_mean

__all__ = ["APPROACHES", "MOTION", "Wishes"]

MOTION = ("none", "low", "medium", "high")
"""How much of a label lies in motion: one frame tells it, mostly looks, both, mostly motion."""

APPROACHES = ("2d_pool", "2d_shift", "3d", "2plus1d", "transformer")
"""A 2D network and a mean over frames, one that shifts channels in time, 3D convolutions, space and
time factorised, and attention."""

_CHOICES = {
    "motion": MOTION,
    "labels": ("new", "kinetics"),
    "device": ("cpu", "cuda"),
    "licence": ("any", "permissive"),
    "modality": ("rgb", "flow"),
    "approach": APPROACHES,
}
_ABOVE_ZERO = ("gpu_tflops", "train_gpu_hours", "gflops", "latency_ms", "clip_seconds")


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """What a model has to do, and what it may cost. None stands for no wish.

    Attributes:
        motion: How much of a label lies in motion, one of `MOTION`.
        labels: `new` for one's own classes, `kinetics` for a model used as it is.
        videos: Labelled videos to train on; 0 for none.
        train_gpu_hours: What training may take.
        gflops: 10^9 multiply-adds that one answer may take.
        latency_ms: Milliseconds that one answer may take on `device`.
        device: Where answers are computed, `cpu` or `cuda`.
        licence: `permissive` or `any`, of the weights.
        clip_seconds: How long the thing lasts that one answer is about.
        num_frames: Frames that may be decoded for one answer.
        modality: `rgb`, or `flow` for optical flow that the caller computes.
        approach: One of `APPROACHES`, where it is settled already.
        from_scratch: Whether no trained weights may be used.
        gpu_tflops: 10^12 operations a second that the training GPU sustains.
    """

    motion: str = "medium"
    labels: str = "new"
    videos: int | None = None
    train_gpu_hours: float | None = None
    gflops: float | None = None
    latency_ms: float | None = None
    device: str = "cpu"
    licence: str = "any"
    clip_seconds: float | None = None
    num_frames: int | None = None
    modality: str = "rgb"
    approach: str | None = None
    from_scratch: bool = False
    gpu_tflops: float = 20.0

    def __post_init__(self) -> None:
        """Refuse what is no wish.

        Raises:
            ValueError: A word or a number that is not allowed, or two wishes that exclude each
                other whatever the models are.
        """
        for name, allowed in _CHOICES.items():
            value = getattr(self, name)
            if value not in allowed and not (value is None and name == "approach"):
                raise ValueError(
                    f"{name} is one of {', '.join(allowed)}, not {value!r}."
                    f"{did_you_mean(str(value), allowed)}"
                )
        for name in _ABOVE_ZERO:
            value = getattr(self, name)
            numeric = isinstance(value, (int, float)) and not isinstance(value, bool)
            left_out = value is None and name != "gpu_tflops"
            if not left_out and not (numeric and 0 < value < math.inf):
                raise ValueError(f"{name} is a number above 0, not {value!r}.")
        for name, least in (("videos", 0), ("num_frames", 1)):
            value = getattr(self, name)
            if value is not None and (type(value) is not int or value < least):
                raise ValueError(f"{name} is a whole number of {least} or more, not {value!r}.")
        if type(self.from_scratch) is not bool:
            raise ValueError(f"from_scratch is True or False, not {self.from_scratch!r}.")
        trains = self.from_scratch or self.videos or self.train_gpu_hours is not None
        if self.labels == "kinetics" and trains:
            raise ValueError(
                "labels='kinetics' takes a model as it is; leave out videos, train_gpu_hours and "
                "from_scratch, or give labels='new'."
            )
        if self.train_gpu_hours is not None and self.videos is None:
            raise ValueError("train_gpu_hours needs videos: how many there are to train on.")
        if self.from_scratch and not self.videos:
            raise ValueError("from_scratch needs videos: how many there are to train on.")

    def given(self) -> dict[str, Any]:
        """The wishes that differ from their defaults."""
        return {
            field.name: getattr(self, field.name)
            for field in fields(self)
            if getattr(self, field.name) != field.default
        }
