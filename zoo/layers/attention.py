"""The two halves of a transformer block."""

from __future__ import annotations

import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

__all__ = ["Attention", "Mlp"]


class Attention(nn.Module):
    """Multi-head self-attention over the second axis.

    Args:
        dim: Width D.
        num_heads: Heads; must divide D.
    """

    def __init__(self, dim: int, *, num_heads: int) -> None:
        super().__init__()
        if dim % num_heads:
            raise ValueError(f"{num_heads} heads do not divide a width of {dim}.")
        self.num_heads = num_heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, L, D) to (N, L, D)."""
        q, k, v = rearrange(
            self.qkv(x), "n l (three h d) -> three n h l d", three=3, h=self.num_heads
        )
        x = F.scaled_dot_product_attention(q, k, v)
        return self.proj(rearrange(x, "n h l d -> n l (h d)"))  # (N, L, D)


class Mlp(nn.Module):
    """Two linear layers with GELU between.

    Args:
        dim: Width D.
        hidden_dim: Width between the layers.
        out_dim: Width D' that comes out; D unless given.
    """

    def __init__(self, dim: int, *, hidden_dim: int, out_dim: int | None = None) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden_dim)
        self.act: nn.Module = nn.GELU()
        self.fc2 = nn.Linear(hidden_dim, dim if out_dim is None else out_dim)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, L, D) to (N, L, D')."""
        return self.fc2(self.act(self.fc1(x)))
