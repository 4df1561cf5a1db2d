"""The temporal shift of TSM: some channels look one frame ahead, some one frame back."""

from __future__ import annotations

from typing import Literal, TypeAlias

import torch
from einops import rearrange
from torch import Tensor, nn

__all__ = ["ShiftFill", "TemporalShift"]

ShiftFill: TypeAlias = Literal["zeros", "replicate"]


class TemporalShift(nn.Module):
    """Replace the first channels by those of the next frame, the following by the previous one's.

    Lin et al., "TSM: Temporal Shift Module for Efficient Video Understanding"
    (https://arxiv.org/abs/1811.08383).

    Args:
        shift_div: Divisor of the channels; C // shift_div are shifted each way.
        fill: What stands beyond the first and the last frame: `zeros` as the authors have it, or
            `replicate`, the frame at the edge, which leaves a still clip as it is.
    """

    def __init__(self, *, shift_div: int = 8, fill: ShiftFill = "zeros") -> None:
        super().__init__()
        if fill not in ("zeros", "replicate"):
            raise ValueError(f"Unknown fill {fill!r}. Known: zeros, replicate.")
        self.shift_div, self.fill = shift_div, fill

    def forward(self, x: Tensor, num_frames: int) -> Tensor:
        """Shift the frames of clips.

        Args:
            x: Frames (N * T, C, H, W), those of one clip after another; axes after C are kept.
            num_frames: Frames T of a clip.

        Returns:
            Shifted frames, (N * T, C, H, W).
        """
        fold = x.shape[1] // self.shift_div
        if fold == 0:
            return x
        x = rearrange(x, "(n t) c ... -> n t c ...", t=num_frames)
        ahead, behind, rest = x[:, :, :fold], x[:, :, fold : 2 * fold], x[:, :, 2 * fold :]
        after, before = ahead[:, -1:], behind[:, :1]  # (N, 1, fold, ...)
        if self.fill == "zeros":
            after, before = torch.zeros_like(after), torch.zeros_like(before)
        ahead = torch.cat([ahead[:, 1:], after], dim=1)
        behind = torch.cat([before, behind[:, :-1]], dim=1)
        return rearrange(torch.cat([ahead, behind, rest], dim=2), "n t c ... -> (n t) c ...")

    def extra_repr(self) -> str:
        """What `print` shows."""
        return f"shift_div={self.shift_div}, fill={self.fill!r}"
