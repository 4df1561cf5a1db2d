"""Pooling of frame features over time; blind to the order of the frames."""

from __future__ import annotations

from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn

__all__ = ["AttentionFramePool", "FramePooling", "make_frame_pool"]

FramePooling: TypeAlias = Literal["avg", "max", "attention"]


class AverageFramePool(nn.Module):
    """The mean over frames."""

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, T, D) to (N, D)."""
        return x.mean(dim=1)


class MaxFramePool(nn.Module):
    """The largest value over frames, each channel apart."""

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, T, D) to (N, D)."""
        return x.amax(dim=1)


class AttentionFramePool(nn.Module):
    """A mean weighted by how well each frame answers a learned query.

    The query starts at zero: the pool begins as the plain mean.

    Args:
        dim: Width D.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.query = nn.Parameter(torch.zeros(dim))

    def keys(self, x: Tensor) -> Tensor:
        """What the query meets, (N, T, D): the frames themselves."""
        return x

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, T, D) to (N, D)."""
        weights = (self.keys(x) @ self.query * x.shape[-1] ** -0.5).softmax(dim=1)  # (N, T)
        return (weights.unsqueeze(-1) * x).sum(dim=1)


def make_frame_pool(pooling: FramePooling, dim: int) -> nn.Module:
    """The pool of that name.

    Raises:
        ValueError: No such pool.
    """
    if pooling == "avg":
        return AverageFramePool()
    if pooling == "max":
        return MaxFramePool()
    if pooling == "attention":
        return AttentionFramePool(dim)
    raise ValueError(f"Unknown pooling {pooling!r}. Known: avg, max, attention.")
