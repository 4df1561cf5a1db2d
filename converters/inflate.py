"""Inflation: 2D kernels, patch embeddings and position tables extended along time.

Carreira and Zisserman, "Quo Vadis, Action Recognition?" (https://arxiv.org/abs/1705.07750), section
2.4, repeat a kernel t times and divide by t; `center`, all of the kernel in the middle frame, is
ViViT's central frame initialisation (https://arxiv.org/abs/2103.15691).

A BatchNorm needs no function here: its tensors hold one number a channel, whether the channel is a
picture or a clip, so key maps carry them over as they are.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import torch
from torch import Tensor

__all__ = [
    "Inflation",
    "adapt_in_chans",
    "inflate_conv",
    "inflate_patch_embed",
    "inflate_pos_embed",
]

Inflation: TypeAlias = Literal["mean", "center"]


def inflate_conv(weight: Tensor, *, num_frames: int, mode: Inflation) -> Tensor:
    """Extend a 2D kernel along time so that a still clip gives the 2D response.

    `mean` keeps this only where no zero-padded frame is read; `center` always.

    Args:
        weight: 2D kernel, (D, C, h, w).
        num_frames: Temporal size t of the new kernel; odd for `center`.
        mode: `mean` spreads the kernel over time, `center` puts it into the middle frame.

    Returns:
        3D kernel, (D, C, t, h, w).

    Raises:
        ValueError: The kernel is not 2D, t is not positive, or t is even for `center`.
    """
    if mode == "center" and num_frames % 2 == 0:
        raise ValueError(
            f"A kernel of {num_frames} frames has no centre; give an odd number, or mode 'mean'."
        )
    return inflate_patch_embed(weight, num_frames=num_frames, mode=mode)


def inflate_patch_embed(weight: Tensor, *, num_frames: int, mode: Inflation) -> Tensor:
    """Extend the kernel of a patch embedding to a tubelet that steps by its own length.

    No frame is padded there, so both modes are exact on a still clip for every t; `center` puts
    the kernel into frame t // 2, as ViViT does.

    Args:
        weight: Kernel that cuts patches, (D, C, h, w).
        num_frames: Frames t in a tubelet.
        mode: See `inflate_conv`.

    Returns:
        Kernel that cuts tubelets, (D, C, t, h, w).

    Raises:
        ValueError: The kernel is not 2D, t is not positive, or the mode is unknown.
    """
    if weight.ndim != 4:
        raise ValueError(f"Inflation takes a 2D kernel (D, C, h, w), not {tuple(weight.shape)}.")
    if num_frames < 1:
        raise ValueError(f"num_frames must be 1 or more, not {num_frames}.")
    if mode == "mean":
        frame = weight.contiguous() / num_frames
        return torch.stack([frame] * num_frames, dim=2)  # (D, C, t, h, w)
    if mode == "center":
        kernel = weight.new_zeros((*weight.shape[:2], num_frames, *weight.shape[2:]))
        kernel[:, :, num_frames // 2] = weight
        return kernel  # (D, C, t, h, w)
    raise ValueError(f"Unknown inflation {mode!r}; known: mean, center.")


def inflate_pos_embed(table: Tensor, *, num_frames: int, num_prefix_tokens: int) -> Tensor:
    """Repeat a spatial position table for every frame; prefix tokens stay single.

    Args:
        table: Positions of one frame, (1, P + h*w, D).
        num_frames: Frames T.
        num_prefix_tokens: Rows P at the front that stand for no patch.

    Returns:
        Positions of a clip, time slowest, (1, P + T*h*w, D).

    Raises:
        ValueError: The table is not (1, L, D) or is shorter than its prefix.
    """
    if table.ndim != 3 or table.shape[0] != 1 or table.shape[1] <= num_prefix_tokens:
        raise ValueError(
            f"A position table is (1, P + h*w, D) with P = {num_prefix_tokens}, "
            f"not {tuple(table.shape)}."
        )
    prefix, patches = table[:, :num_prefix_tokens], table[:, num_prefix_tokens:]
    return torch.cat([prefix, patches.repeat(1, num_frames, 1)], dim=1)  # (1, P + T*h*w, D)


def adapt_in_chans(weight: Tensor, in_chans: int) -> Tensor:
    """Fit a stem's kernel to another number of input channels, by timm's rule.

    One channel gets the sum over the old ones (a gray picture repeated in all of them gives the
    same response); otherwise the old channels are repeated in turn and scaled by old / new.

    Args:
        weight: Kernel, (D, C, ...).
        in_chans: New number of channels C'.

    Returns:
        Kernel, (D, C', ...), in the same dtype.
    """
    old = weight.shape[1]
    if in_chans == old:
        return weight
    if in_chans == 1:
        return weight.sum(dim=1, keepdim=True)
    repeats = -(-in_chans // old)
    tiled = torch.cat([weight] * repeats, dim=1)[:, :in_chans]
    return tiled * (old / in_chans)
