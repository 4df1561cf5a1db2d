"""Cutting clips into patches: convolutions that step as far as they look."""

from __future__ import annotations

from itertools import chain

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.layers import eager

__all__ = ["PatchConv2d", "PatchConv3d"]


class _OneProduct(nn.Module):
    """Makes one product of matrices of a convolution whose stride is its kernel, on a CPU.

    The values are those of torch's convolution, to rounding. oneDNN takes up to twice as long for
    clips that lie channels-last, up to four times for the gradients of the kernels, and two to
    eight times in bfloat16.
    """

    weight: Tensor
    bias: Tensor | None
    kernel_size: tuple[int, ...]
    stride: tuple[int, ...]
    padding: str | tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 -- the convolution's name
        """Map (N, C, *sides) to (N, D, *grid)."""
        if self._left_to_torch(input):
            out: Tensor = super().forward(input)
            return out
        grid = [have // side for have, side in zip(input.shape[2:], self.kernel_size, strict=True)]
        pairs = chain.from_iterable(zip(grid, self.kernel_size, strict=True))
        cut = input.reshape(*input.shape[:2], *pairs)
        places, sides = range(2, cut.ndim, 2), range(3, cut.ndim, 2)
        weight, numbers = self.weight, (1, *sides)
        if not weight.is_contiguous():  # channels-last: both are read as they lie
            weight, numbers = weight.movedim(1, -1), (*sides, 1)
        patches = cut.permute(0, *places, *numbers).flatten(-len(numbers))  # (N, *grid, C * ...)
        return F.linear(patches, weight.flatten(1), self.bias).movedim(-1, 1)

    def _left_to_torch(self, x: Tensor) -> bool:
        """Whether another device, type or graph wants a convolution, or this is none of patches."""
        if not eager.is_eager(x, self.weight) or x.ndim != 2 + len(self.kernel_size):
            return True
        # Counters of operations know it as a convolution; with gradients it must not hang on them,
        # as checkpoints compute again what may have been counted.
        if not torch.is_grad_enabled() and eager.is_counted():
            return True
        steps = (self.stride, self.padding, self.dilation, self.groups)
        zeros, ones = ((number,) * len(self.kernel_size) for number in (0, 1))
        return (
            (x.dtype != self.weight.dtype or x.dtype not in (torch.float32, torch.bfloat16))
            or steps != (self.kernel_size, zeros, ones, 1)
            or self.weight.shape[1:] != (x.shape[1], *self.kernel_size)
            or any(n % side for n, side in zip(x.shape[2:], self.kernel_size, strict=True))
        )


class PatchConv2d(_OneProduct, nn.Conv2d):
    """The patches of frames.

    Args:
        in_chans: Channels C.
        embed_dim: Width D of a token.
        side: Height and width of a patch in pixels.
        bias: Whether an offset a channel is added.
    """

    def __init__(self, in_chans: int, embed_dim: int, side: int, *, bias: bool = True) -> None:
        super().__init__(in_chans, embed_dim, side, stride=side, bias=bias)


class PatchConv3d(_OneProduct, nn.Conv3d):
    """The patches of clips, of several frames each.

    Args:
        in_chans: Channels C.
        embed_dim: Width D of a token.
        sides: Frames, height and width of a patch.
    """

    def __init__(self, in_chans: int, embed_dim: int, sides: tuple[int, int, int]) -> None:
        super().__init__(in_chans, embed_dim, sides, stride=sides)
