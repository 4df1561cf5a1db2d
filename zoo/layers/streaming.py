"""What causal layers keep of a stream: explicit state, in and out, and nothing in the modules."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

import torch
from torch import Tensor

__all__ = ["Stream", "StreamState", "frame_counts", "position_encoding", "running_mean"]

StreamState: TypeAlias = dict[str, Tensor]
"""What a stream keeps of the frames so far: buffers (N, C, t - 1, H, W), sums (N, C, 1, 1, 1) and
`frames`, their number."""


class Stream:
    """What causal layers find of the frames before a piece, and keep for those after it.

    Args:
        past: The state before the piece.
        frames: Frames in the piece.
    """

    def __init__(self, past: Mapping[str, Tensor], frames: int) -> None:
        self.past = past
        self.kept: StreamState = {"frames": past["frames"] + frames}


def frame_counts(x: Tensor, stream: Stream | None) -> Tensor:
    """How many frames there are up to each of x, itself included, (T,)."""
    counts = torch.arange(1, x.shape[2] + 1, device=x.device)
    return counts if stream is None else counts + stream.past["frames"]


def running_mean(x: Tensor, stream: Stream | None, key: str) -> Tensor:
    """Means over all frames up to each, (N, C, T, 1, 1), of means over space, the same shape.

    Sums are kept in float32 at least, for a stream may be long.
    """
    sums = x.to(torch.promote_types(x.dtype, torch.float32)).cumsum(dim=2)
    if stream is not None:
        sums = sums + stream.past[key]
        stream.kept[key] = sums[:, :, -1:]
    return (sums / frame_counts(x, stream).view(1, 1, -1, 1, 1)).to(x.dtype)


def position_encoding(positions: Tensor, chans: int) -> Tensor:
    """Sines, then cosines, of C / 2 rates at positions (T,), (1, C, T, 1, 1)."""
    rates = 10_000 ** (-torch.arange(0, chans, 2, device=positions.device) / chans)
    angles = rates[:, None] * positions  # (C/2, T)
    return torch.cat([angles.sin(), angles.cos()]).view(1, chans, -1, 1, 1)
