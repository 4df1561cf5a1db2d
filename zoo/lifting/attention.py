"""What lifts token blocks over time: attention between frames, alone or as a whole block."""

from __future__ import annotations

import torch
from einops import rearrange
from torch import Tensor, nn

from converters.unfilled import unfilled
from zoo.layers import Attention, AttentionFramePool, Mlp
from zoo.lifting.clock import Clock

__all__ = ["JointTokens", "TemporalAttention", "TemporalBlock", "TimeTable", "TimedFramePool"]


_STD = 0.02


def _noise(like: Tensor) -> Tensor:
    """Uniform noise of standard deviation 0.02, in the shape of a tensor.

    Random numbers are most of what a new block costs, so that eight are made of each draw of 64
    bits: 256 values are enough to tell weights apart, and take half the time of normal ones.
    """
    count = like.numel()
    draws = torch.empty(-(-count // 8), dtype=torch.int64)
    if not draws.is_meta:
        draws.random_(-(2**63), None)
    steps = draws.view(torch.int8)[:count].view(like.shape)
    return torch.empty(like.shape).copy_(steps).add_(0.5).mul_(_STD * 3**0.5 / 128)


def _start(part: nn.Module, *, silent: nn.Linear) -> None:
    """Values for the linear layers of a part that has none: noise, zeros in what it ends with."""
    for layer in part.modules():
        if isinstance(layer, nn.Linear):
            weight = torch.zeros(layer.weight.shape) if layer is silent else _noise(layer.weight)
            layer.weight, layer.bias = nn.Parameter(weight), nn.Parameter(torch.zeros(len(weight)))


class TemporalAttention(nn.Module):
    """Each place attends over its frames; adds nothing at first.

    Takes the tokens of frames with the channels last, (N*T, ..., D), or feature maps
    (N*T, D, H, W), and gives the same.

    Args:
        dim: Width D.
        num_heads: Heads.
        num_frames: Frames T that the table of times holds.
        clock: Tells the frames of a clip.
        where: Name of the block that it stands beside.
        channels_first: Whether maps of which both the second and the last axis are D long are
            (N*T, D, H, W).
    """

    def __init__(
        self,
        dim: int,
        *,
        num_heads: int,
        num_frames: int,
        clock: Clock,
        where: str,
        channels_first: bool,
    ) -> None:
        super().__init__()
        self.dim, self.clock, self.where = dim, clock, where
        self.channels_first = channels_first
        self.time_embed = nn.Parameter(torch.zeros(1, num_frames, dim))
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        with unfilled():  # their usual start would be thrown away
            self.attn = Attention(dim, num_heads=num_heads)
        _start(self.attn, silent=self.attn.proj)

    def over_time(self, line: Tensor) -> Tensor:
        """Map tokens (M, T, D), a line of frames for each place, to the same."""
        return line + self.attn(self.norm(line) + self.time_embed)

    def forward(self, x: Tensor) -> Tensor:
        """Map tokens of frames to the same."""
        clips = self.clock.split(x, self.where)  # (N, T, ...)
        maps = x.ndim == 4 and x.shape[1] == self.dim
        if maps and x.shape[-1] == self.dim:
            maps = self.channels_first
        if maps:
            clips = rearrange(clips, "n t d h w -> n t h w d")
        if clips.shape[-1] != self.dim:
            raise ValueError(
                f"'{self.where}' sees tokens of shape {tuple(x.shape)}, of which no axis is its "
                f"width of {self.dim}; lift this model with framepool:."
            )
        n, t = clips.shape[:2]
        line = clips.flatten(2, -2).transpose(1, 2).flatten(0, 1)  # (N*M, T, D)
        line = rearrange(self.over_time(line), "(n m) t d -> n t m d", n=n)
        clips = line.reshape(n, t, *clips.shape[2:])
        if maps:
            clips = rearrange(clips, "n t h w d -> n t d h w")
        return self.clock.join(clips, self.where)


class TemporalBlock(TemporalAttention):
    """Attention over time and a hidden layer after it; both add nothing at first."""

    def __init__(
        self,
        dim: int,
        *,
        num_heads: int,
        num_frames: int,
        clock: Clock,
        where: str,
        channels_first: bool,
    ) -> None:
        super().__init__(
            dim,
            num_heads=num_heads,
            num_frames=num_frames,
            clock=clock,
            where=where,
            channels_first=channels_first,
        )
        self.norm2 = nn.LayerNorm(dim, eps=1e-6)
        with unfilled():
            self.mlp = Mlp(dim, hidden_dim=4 * dim)
        _start(self.mlp, silent=self.mlp.fc2)

    def over_time(self, line: Tensor) -> Tensor:
        """Map tokens (M, T, D), a line of frames for each place, to the same."""
        line = super().over_time(line)
        return line + self.mlp(self.norm2(line))


class TimeTable(nn.Module):
    """Adds the time of its frame to every token; zero at first.

    Args:
        dim: Width D.
        num_frames: Frames T.
        clock: Tells the frames of a clip.
        where: Name of the block that it stands before.
    """

    def __init__(self, dim: int, *, num_frames: int, clock: Clock, where: str) -> None:
        super().__init__()
        self.clock, self.where = clock, where
        self.time_embed = nn.Parameter(torch.zeros(1, num_frames, dim))

    def forward(self, x: Tensor) -> Tensor:
        """Map tokens of frames (N*T, L, D) to the same."""
        clips = self.clock.split(x, self.where)  # (N, T, L, D)
        return self.clock.join(clips + self.time_embed[:, :, None], self.where)


class TimedFramePool(AttentionFramePool):
    """A mean weighted by how well each frame and its time answer a learned query.

    Both start at zero: the pool begins as the plain mean.

    Args:
        dim: Width D.
        num_frames: Frames T.
    """

    def __init__(self, dim: int, *, num_frames: int) -> None:
        super().__init__(dim)
        self.time_embed = nn.Parameter(torch.zeros(1, num_frames, dim))

    def keys(self, x: Tensor) -> Tensor:
        """What the query meets, (N, T, D)."""
        return x + self.time_embed


class JointTokens(nn.Module):
    """Lets the attention between see the tokens of all frames as one sequence.

    Args:
        clock: Tells the frames of a clip.
        where: Name of the attention layer.
        apart: Whether the frames are put apart again, as after the layer.
    """

    def __init__(self, clock: Clock, where: str, *, apart: bool) -> None:
        super().__init__()
        self.clock, self.where, self.apart = clock, where, apart

    def forward(self, x: Tensor) -> Tensor:
        """Map (N*T, L, D) to (N, T*L, D), or back."""
        if self.apart:
            clips = rearrange(x, "n (t l) d -> n t l d", t=self.clock.num_frames)
            return self.clock.join(clips, self.where)
        return self.clock.split(x, self.where).flatten(1, 2)
