"""Channels scaled by what their averages say."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from zoo.layers.conv import Conv3d

__all__ = ["SqueezeExcite", "divisible"]


class SqueezeExcite(nn.Module):
    """Scale each channel by what the averages of all channels over the clip say.

    Args:
        chans: Channels C.
        ratio: By how much the layer between is narrower, about.
        act: Activation of that layer.
    """

    def __init__(self, chans: int, *, ratio: int, act: Callable[[], nn.Module]) -> None:
        super().__init__()
        mid = divisible(chans / ratio)
        self.fc1 = Conv3d(chans, mid, 1)
        self.act = act()
        self.fc2 = Conv3d(mid, chans, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, T, H, W) to the same shape."""
        scale = x.mean(dim=(2, 3, 4), keepdim=True)  # (N, C, 1, 1, 1)
        return x * self.fc2(self.act(self.fc1(scale))).sigmoid()


def divisible(width: float) -> int:
    """The nearest multiple of 8, at least 8 and at least 0.9 of a width."""
    nearest = max(8, int(width + 4) // 8 * 8)
    return nearest + 8 if nearest < 0.9 * width else nearest
