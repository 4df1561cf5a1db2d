"""Position tables resampled to another number of frames or another picture size."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

__all__ = ["resize_clip_table", "resize_spatial_table", "resize_temporal_table"]


def resize_clip_table(
    table: Tensor, *, old: tuple[int, int, int], new: tuple[int, int, int]
) -> Tensor:
    """Resample positions of whole clips from the grid they were trained on, trilinearly.

    Args:
        table: Positions, (1, t*h*w, D), time slowest.
        old: Grid (t, h, w) the table was trained on.
        new: Grid (t', h', w') that is wanted.

    Returns:
        Positions, (1, t'*h'*w', D), in the same dtype.

    Raises:
        ValueError: The table does not hold the old grid.
    """
    t, h, w = old
    if table.shape[1] != t * h * w:
        raise ValueError(
            f"A table of shape {tuple(table.shape)} does not hold a grid of {t}x{h}x{w}."
        )
    if old == new:
        return table
    grid = rearrange(table.float(), "1 (t h w) d -> 1 d t h w", t=t, h=h)
    grid = F.interpolate(grid, size=new, mode="trilinear")
    return rearrange(grid, "1 d t h w -> 1 (t h w) d").to(table.dtype).contiguous()


def resize_spatial_table(
    table: Tensor, *, old: tuple[int, int], new: tuple[int, int], num_prefix_tokens: int
) -> Tensor:
    """Resample positions from the grid they were trained on to another grid.

    Bicubic with antialiasing, as timm resamples them; prefix rows are kept.

    Args:
        table: Positions, (1, P + h*w, D).
        old: Grid (h, w) the table was trained on.
        new: Grid (h', w') that is wanted.
        num_prefix_tokens: Rows P at the front that stand for no patch.

    Returns:
        Positions, (1, P + h'*w', D), in the same dtype.

    Raises:
        ValueError: The table does not hold the old grid.
    """
    if table.shape[1] != num_prefix_tokens + old[0] * old[1]:
        raise ValueError(
            f"A table of shape {tuple(table.shape)} does not hold {num_prefix_tokens} prefix rows "
            f"and a grid of {old[0]}x{old[1]}."
        )
    if old == new:
        return table
    prefix, patches = table[:, :num_prefix_tokens], table[:, num_prefix_tokens:]
    grid = rearrange(patches.float(), "1 (h w) d -> 1 d h w", h=old[0])
    grid = F.interpolate(grid, size=new, mode="bicubic", antialias=True)
    patches = rearrange(grid, "1 d h w -> 1 (h w) d").to(table.dtype)
    return torch.cat([prefix, patches], dim=1)  # (1, P + h'*w', D)


def resize_temporal_table(table: Tensor, *, num_frames: int) -> Tensor:
    """Resample positions in time, linearly, first and last frame spanning the same time.

    Args:
        table: Positions, (1, T, D).
        num_frames: Frames T' that are wanted.

    Returns:
        Positions, (1, T', D), in the same dtype.
    """
    if table.shape[1] == num_frames:
        return table
    line = rearrange(table.float(), "1 t d -> 1 d t")
    line = F.interpolate(line, size=num_frames, mode="linear")
    return rearrange(line, "1 d t -> 1 t d").to(table.dtype).contiguous()  # (1, T', D)
