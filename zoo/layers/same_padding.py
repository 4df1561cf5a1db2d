"""TensorFlow's "same" padding."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

__all__ = ["pad_space", "same_padding"]


def same_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """TensorFlow's zeros before and after: as few as give ceil(size / stride) results.

    Where they are an odd number, one more stands after; so they depend on the input's size.
    """
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


def pad_space(x: Tensor, kernel: int, stride: int) -> Tensor:
    """Pad the last two axes of x so, for a square kernel."""
    h, w = x.shape[-2:]
    return F.pad(x, (*same_padding(w, kernel, stride), *same_padding(h, kernel, stride)))
