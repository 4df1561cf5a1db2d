"""Stochastic depth."""

from __future__ import annotations

from torch import Tensor, nn

__all__ = ["DropPath"]


class DropPath(nn.Module):
    """Drops a residual branch for whole samples while training, and scales up the others.

    Huang et al., "Deep Networks with Stochastic Depth" (https://arxiv.org/abs/1603.09382).

    Args:
        rate: Probability of dropping, in [0, 1).

    Raises:
        ValueError: The rate is outside.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        if not 0.0 <= rate < 1.0:
            raise ValueError(f"drop_path_rate must be from 0 to below 1, not {rate}.")
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, ...) to (N, ...); the first axis is that of samples."""
        if not self.training or self.rate == 0.0:
            return x
        keep = 1.0 - self.rate
        mask = x.new_empty((x.shape[0],) + (1,) * (x.ndim - 1)).bernoulli_(keep)
        return x * (mask / keep)
