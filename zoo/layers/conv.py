"""Convolutions over space and time."""

from __future__ import annotations

from typing import Literal, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from converters.inflate import Inflation, inflate_conv
from zoo.layers import eager

__all__ = [
    "HAS_ONEDNN",
    "Conv2Plus1D",
    "Conv3d",
    "GuardedConv3d",
    "InflatedConv3d",
    "TemporalPadding",
    "middle_channels",
    "padding_spoils_gradient",
]

TemporalPadding: TypeAlias = Literal["replicate", "zeros"]

HAS_ONEDNN = bool(torch.backends.mkldnn.is_available())  # type: ignore[no-untyped-call]
"""Whether torch was built with it."""

FEW_PLACES = 256
"""Places of a small map; below, oneDNN spends more on sorting the weights than it saves."""


def padding_spoils_gradient(x: Tensor, weight: Tensor, *, training: bool) -> bool:
    """Whether a convolution that pads these clips itself gets a wrong gradient of its weights.

    On a CPU, oneDNN (3.13, of torch 2.15) silently computes it wrong where it pads maps that are
    no longer, higher or wider than the kernel: in bfloat16 for kernels from 3 on, from memory that
    nobody wrote; in float32 for 7 with a stride, where the process may also die. It is right where
    it has nothing to pad.

    Args:
        x: Clips (N, C, T, H, W).
        weight: Kernels (D, C / groups, t, h, w).
        training: Whether a graph that is written down is to learn.
    """
    if not x.is_cpu or x.dtype == torch.float64 or not eager.learns(weight):
        return False
    # A graph for answers is to hold for clips of other lengths, which a look at them forbids.
    if eager.is_traced() and not training:
        return False
    exact = x.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")
    right = 5 if exact else 1  # the longest kernel that learns right everywhere
    sizes = zip(x.shape[-3:], weight.shape[-3:], strict=True)
    return any(kernel > right and size <= kernel for size, kernel in sizes)


class GuardedConv3d(nn.Conv3d):
    """torch's convolution, with zeros laid around clips first where `padding_spoils_gradient`."""

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:  # noqa: A002
        """Map (N, C, T, H, W) to (N, D, T', H', W'); `nn.Conv3d.forward` calls it."""
        zeros = self._reversed_padding_repeated_twice  # before and after W, H, T
        pads = self.padding_mode == "zeros" and any(zeros)
        if not pads or not padding_spoils_gradient(input, weight, training=self.training):
            return super()._conv_forward(input, weight, bias)
        padded = F.pad(input, zeros)
        return F.conv3d(padded, weight, bias, self.stride, 0, self.dilation, self.groups)


class Conv3d(GuardedConv3d):
    """torch's convolution, which on a CPU keeps its maps channels-last and runs in oneDNN.

    The values are those of `nn.Conv3d`, to rounding. Two things cost time there. Maps that lie
    channel by channel in memory make most kernels 1.1 to 2 times, depthwise ones 4 to 10 times as
    slow. And torch sends a single clip's smaller maps to its own `slow_conv3d` (any clip's 1x1x1
    kernels, if there is one thread), which gives them back channel by channel.
    """

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 -- the base class's name
        """Map (N, C, T, H, W) to (N, D, T', H', W')."""
        if not self._has_onednn(input):
            return super().forward(input)
        input = input.contiguous(memory_format=torch.channels_last_3d)  # noqa: A001
        padding = self.padding
        if isinstance(padding, str) or self._left_to_torch(input):
            return super().forward(input)
        out: Tensor = torch.mkldnn_convolution(
            input, self.weight, self.bias, padding, self.stride, self.dilation, self.groups
        )
        return out

    def _has_onednn(self, x: Tensor) -> bool:
        """Whether oneDNN would run it, here and now, so that its memory formats matter."""
        onednn = HAS_ONEDNN and bool(torch.backends.mkldnn.enabled)
        return x.ndim == 5 and onednn and eager.is_eager(x, self.weight)

    def _left_to_torch(self, x: Tensor) -> bool:
        """Whether torch chooses well itself, or must be asked: for gradients, autocast, modes."""
        sorted_already = self.weight.is_contiguous(memory_format=torch.channels_last_3d)
        return (
            eager.learns(x, self.weight, self.bias)
            or x.dtype != torch.float32
            or self.weight.dtype != torch.float32
            or self.padding_mode != "zeros"
            or (x.shape[2:].numel() < FEW_PLACES and not sorted_already)
            or torch.is_autocast_enabled("cpu")
            or eager.is_counted()
        )


def middle_channels(in_chans: int, out_chans: int) -> int:
    """Width at which a factorised 3x3x3 convolution has as many weights as the full one.

    `floor(t d^2 C D / (d^2 C + t D))` with t = d = 3, from Tran et al., section 3.5
    (https://arxiv.org/abs/1711.11248).
    """
    return (3 * 3 * 3 * in_chans * out_chans) // (3 * 3 * in_chans + 3 * out_chans)


class Conv2Plus1D(nn.Module):
    """A 3x3x3 convolution factorised into space (1x3x3) and time (3x1x1).

    BatchNorm and ReLU stand between the two, so that the pair is more non-linear than the full
    kernel at the same number of weights.

    Args:
        in_chans: Input channels C.
        out_chans: Output channels D.
        mid_chans: Channels between the two; `middle_channels` if left out.
        stride: Stride in space and in time.
    """

    def __init__(
        self, in_chans: int, out_chans: int, *, mid_chans: int | None = None, stride: int = 1
    ) -> None:
        super().__init__()
        mid = middle_channels(in_chans, out_chans) if mid_chans is None else mid_chans
        self.spatial = Conv3d(
            in_chans, mid, (1, 3, 3), stride=(1, stride, stride), padding=(0, 1, 1), bias=False
        )
        self.norm = nn.BatchNorm3d(mid)
        self.act = nn.ReLU(inplace=True)
        self.temporal = Conv3d(
            mid, out_chans, (3, 1, 1), stride=(stride, 1, 1), padding=(1, 0, 0), bias=False
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, T, H, W) to (N, D, T', H', W')."""
        return self.temporal(self.act(self.norm(self.spatial(x))))


class InflatedConv3d(Conv3d):
    """A 3D convolution whose padding in time is chosen apart from that in space.

    With `replicate` the first and the last frame are repeated beyond the clip's ends, so that an
    inflated kernel gives the 2D response on every frame of a still clip; space keeps its zeros.

    Args:
        in_chans: Input channels C.
        out_chans: Output channels D.
        kernel_size: Kernel as (t, h, w); t odd.
        stride: Stride in space; 1 in time.
        bias: Whether an offset a channel is added.
        temporal_padding: `replicate`, or `zeros` as the first I3D networks have it.
    """

    def __init__(
        self,
        in_chans: int,
        out_chans: int,
        kernel_size: tuple[int, int, int],
        *,
        stride: int = 1,
        bias: bool = False,
        temporal_padding: TemporalPadding = "replicate",
    ) -> None:
        if temporal_padding not in ("replicate", "zeros"):
            raise ValueError(
                f"temporal_padding is 'replicate' or 'zeros', not {temporal_padding!r}."
            )
        t, h, w = kernel_size
        self.temporal_padding = temporal_padding
        # The frames that `forward` repeats are not padded a second time.
        frames = t // 2 if temporal_padding == "zeros" else 0
        super().__init__(
            in_chans,
            out_chans,
            kernel_size,
            stride=(1, stride, stride),
            padding=(frames, h // 2, w // 2),
            bias=bias,
        )

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 -- the base class's name
        """Map (N, C, T, H, W) to (N, D, T, H', W')."""
        frames = self.kernel_size[0] // 2
        if self.temporal_padding == "replicate" and frames:
            first, last = input[:, :, :1], input[:, :, -1:]
            input = torch.cat([first] * frames + [input] + [last] * frames, dim=2)  # noqa: A001
        return super().forward(input)

    @classmethod
    def from_conv2d(
        cls,
        conv: nn.Conv2d,
        *,
        num_frames: int = 3,
        mode: Inflation = "mean",
        temporal_padding: TemporalPadding = "replicate",
    ) -> InflatedConv3d:
        """Inflate a 2D convolution with its weights.

        Args:
            conv: Convolution with an odd kernel, "same" zero padding and one stride.
            num_frames: Temporal size of the new kernel.
            mode: How the kernel is extended, see `converters.inflate_conv`.
            temporal_padding: See the class.

        Raises:
            ValueError: The convolution is dilated, grouped, or padded in another way.
        """
        h, w = conv.kernel_size
        plain = conv.groups == 1 and conv.dilation == (1, 1) and conv.stride[0] == conv.stride[1]
        if not plain or conv.padding != (h // 2, w // 2) or conv.padding_mode != "zeros":
            raise ValueError(
                f"{conv} cannot be inflated here: groups and dilation must be 1, strides equal, "
                f"and padding zeros of half the kernel."
            )
        new = cls(
            conv.in_channels,
            conv.out_channels,
            (num_frames, h, w),
            stride=conv.stride[0],
            bias=conv.bias is not None,
            temporal_padding=temporal_padding,
        )
        with torch.no_grad():
            new.weight.copy_(inflate_conv(conv.weight, num_frames=num_frames, mode=mode))
            if conv.bias is not None and new.bias is not None:
                new.bias.copy_(conv.bias)
        return new
