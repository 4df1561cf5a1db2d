"""What lifts convolutions over time: inflated kernels, temporal kernels, shifted channels."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from converters.inflate import Inflation, inflate_conv
from zoo.layers import ShiftFill, TemporalShift, padding_spoils_gradient
from zoo.lifting.clock import Clock

__all__ = ["FrameConv3d", "FrameShift", "TemporalConv"]


def _edges(x: Tensor, frames: int, *, dim: int) -> Tensor:
    """Repeat the first and last frame beyond the clip's ends."""
    if not frames:
        return x
    first, last = x.narrow(dim, 0, 1), x.narrow(dim, x.shape[dim] - 1, 1)
    return torch.cat([first] * frames + [x] + [last] * frames, dim=dim)


class FrameConv3d(nn.Module):
    """A 2D convolution inflated over time, in the place where the image model calls it.

    It takes and gives frames (N*T, C, H, W). Edge frames are repeated in time; in space it pads as
    the convolution did, TensorFlow's SAME included. Weights that are standardised in each forward
    pass are standardised over all axes of the 3D kernel.

    Args:
        conv: The convolution, whose weights are taken.
        clock: Tells the frames of a clip.
        where: Its name in the image model.
        mode: How the kernel is extended over time; `mean` alone where weights are standardised.
        length: Frames that the kernel spans, odd.
        stride: Stride in time.
    """

    def __init__(
        self,
        conv: nn.Conv2d,
        clock: Clock,
        where: str,
        *,
        mode: Inflation,
        length: int = 3,
        stride: int = 1,
    ) -> None:
        super().__init__()
        self.clock, self.where, self.length, self.temporal_stride = clock, where, length, stride
        self.in_channels, self.out_channels = conv.in_channels, conv.out_channels
        self.kernel_size, self.stride, self.dilation = conv.kernel_size, conv.stride, conv.dilation
        self.groups, self.padding, self.padding_mode = conv.groups, conv.padding, conv.padding_mode
        kind = type(conv).__name__
        self.same = kind.endswith("Same") and getattr(conv, "same_pad", True)
        self.eps: float | None = getattr(conv, "eps", None) if "Std" in kind else None
        # Standardised weights lose their scale, so that the division comes after.
        kernel = inflate_conv(conv.weight.detach(), num_frames=length, mode=mode)
        self.weight = nn.Parameter(kernel * length if self.eps is not None else kernel)
        self.bias = conv.bias
        self.gain: nn.Parameter | None = getattr(conv, "gain", None)
        self.scale: float = getattr(conv, "scale", 1.0)

    def _kernel(self) -> Tensor:
        """The kernel as it is applied, (D, C, t, h, w)."""
        if self.eps is None:
            return self.weight
        gain = None if self.gain is None else (self.gain * self.scale).view(-1)
        flat = self.weight.reshape(1, self.out_channels, -1)
        flat = F.batch_norm(
            flat, None, None, weight=gain, training=True, momentum=0.0, eps=self.eps
        )
        return flat.reshape_as(self.weight) / self.length

    def _pad(self, x: Tensor) -> tuple[Tensor, Any]:
        """Frames (N*T, C, H, W), padded where F.conv3d cannot, and the padding left to it."""
        from timm.layers.padding import pad_same

        if self.same:
            return pad_same(x, list(self.kernel_size), list(self.stride), list(self.dilation)), 0
        if isinstance(self.padding, str):
            totals = [
                d * (k - 1) if self.padding == "same" else 0
                for d, k in zip(self.dilation, self.kernel_size, strict=True)
            ]
            (top, left), mode = (total // 2 for total in totals), self.padding_mode
            around = (left, totals[1] - left, top, totals[0] - top)
            return F.pad(x, around, mode="constant" if mode == "zeros" else mode), (0, 0)
        if self.padding_mode != "zeros":
            h, w = self.padding
            return F.pad(x, (w, w, h, h), mode=self.padding_mode), (0, 0)
        return x, self.padding

    def forward(self, x: Tensor) -> Tensor:
        """Map frames (N*T, C, H, W) to frames (N*T', D, H', W')."""
        x, padding = self._pad(x)
        h, w = padding if padding else (0, 0)
        strided = self.temporal_stride > 1
        clips = self.clock.split(x, self.where, given=strided)  # (N, T, C, H, W)
        clips = rearrange(clips, "n t c h w -> n c t h w")
        clips, kernel = _edges(clips, self.length // 2, dim=2), self._kernel()
        if (h or w) and padding_spoils_gradient(clips, kernel, training=self.training):
            clips, h, w = F.pad(clips, (w, w, h, h)), 0, 0
        clips = F.conv3d(
            clips,
            kernel,
            self.bias,
            stride=(self.temporal_stride, *self.stride),
            padding=(0, h, w),
            dilation=(1, *self.dilation),
            groups=self.groups,
        )
        if strided:
            self.clock.thin(clips.shape[0], clips.shape[2])
        return self.clock.join(rearrange(clips, "n d t h w -> n t d h w"), self.where)

    def extra_repr(self) -> str:
        """The sizes, as torch's own convolutions print them."""
        size = (self.length, *self.kernel_size)
        return f"{self.in_channels}, {self.out_channels}, kernel_size={size}, groups={self.groups}"


class TemporalConv(nn.Module):
    """A convolution over three frames that starts as the identity.

    Zeros stand beyond the clip's ends, as in R(2+1)D; the identity does not look there. Kernels
    are (D, 3, D / groups): as contiguous memory of this order, a 2D convolution reads them as
    channels-last, with nothing to sort.

    Args:
        chans: Channels D.
        clock: Tells the frames of a clip.
        where: Name of the layer that it follows.
        groups: Groups of channels that are mixed, those of the convolution before it.
    """

    def __init__(self, chans: int, clock: Clock, where: str, *, groups: int = 1) -> None:
        super().__init__()
        self.clock, self.where, self.groups = clock, where, groups
        width = chans // groups
        kernel = torch.zeros(chans, 3, width)
        kernel[torch.arange(chans), 1, torch.arange(chans) % width] = 1.0
        self.weight = nn.Parameter(kernel)
        self.bias: nn.Parameter | None = None  # where a BatchNorm is folded into it

    def forward(self, x: Tensor) -> Tensor:
        """Map frames (N*T, D, H, W) to the same."""
        clips = self.clock.split(x, self.where)  # (N, T, D, H, W)
        n, t, d, h, w = clips.shape
        # Where x is channels-last, nothing here is copied. Shorter ways leave another stride where
        # N or H*W is 1, and torch 2.15 then gives grouped float64 kernels a wrong gradient.
        tokens = clips.permute(0, 1, 3, 4, 2).reshape(n, t, h * w, d)
        maps = tokens.permute(0, 3, 1, 2)  # (N, D, T, H*W)
        kernel = self.weight[:, :, None].permute(0, 3, 1, 2)  # (D, D / groups, 3, 1)
        out = F.conv2d(maps, kernel, self.bias, padding=(1, 0), groups=self.groups)
        clips = out.transpose(1, 2).reshape(n, t, d, h, w)
        return self.clock.join(clips, self.where)


class FrameShift(nn.Module):
    """TSM's shift of channels, in the place where an image model is about to convolve.

    Args:
        clock: Tells the frames of a clip.
        where: Name of the layer that it stands before.
        fill: What comes in at the ends: the edge frame again, or zeros as in the paper, which is
            not exact on a still clip.
    """

    def __init__(self, clock: Clock, where: str, *, fill: ShiftFill = "replicate") -> None:
        super().__init__()
        self.clock, self.where, self.shift = clock, where, TemporalShift(fill=fill)

    def forward(self, x: Tensor) -> Tensor:
        """Map frames (N*T, C, H, W) to the same."""
        clips = self.clock.split(x, self.where)  # (N, T, C, H, W)
        shifted = self.shift(clips.flatten(0, 1), clips.shape[1])
        return self.clock.join(shifted.reshape(clips.shape), self.where)
