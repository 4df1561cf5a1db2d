"""The two halves of a transformer block, and how attention that pools hands over its maps."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from zoo.layers import eager

__all__ = ["Attention", "Mlp", "biased_attention", "channels_last_maps", "split_heads"]

_PIECE = 2**21
"""Numbers that the hidden layer of an MLP holds at once on a CPU, if it is cut: 8 MiB, which stay
in its cache."""

_WHOLE = 2**23
"""Numbers up to which it is not cut: 32 MiB. More would be memory that the system maps and clears
anew for every call."""


_LONG = 1024
"""Tokens from which on a CPU reads heads faster once each of them is copied to lie together."""


def split_heads(qkv: Tensor, num_heads: int) -> tuple[Tensor, Tensor, Tensor]:
    """Map (N, L, 3*D) to queries, keys and values, each (N, heads, L, d)."""
    # Cut before anything else: the gradients of the three come together in one copy.
    heads = (*qkv.shape[:2], num_heads, qkv.shape[2] // (3 * num_heads))
    q, k, v = (part.view(heads).transpose(1, 2) for part in qkv.chunk(3, dim=2))
    if qkv.shape[1] >= _LONG and qkv.device.type == "cpu":
        return q.contiguous(), k.contiguous(), v.contiguous()
    return q, k, v


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
        q, k, v = split_heads(self.qkv(x), self.num_heads)
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
        """Map (..., D) to (..., D')."""
        if self._sees_all(x):
            return self.fc2(self.act(self.fc1(x)))
        numbers = x.numel() // x.shape[-1] * self.fc1.out_features
        if numbers <= _WHOLE:
            return self._in_place(x)
        pieces = x.reshape(-1, x.shape[-1]).chunk(math.ceil(numbers / _PIECE))
        return torch.cat([self._in_place(piece) for piece in pieces]).reshape(*x.shape[:-1], -1)

    def _sees_all(self, x: Tensor) -> bool:
        """Whether the layers must be called once: for gradients, a graph, a device, a watcher."""
        if torch.is_grad_enabled() or not eager.is_eager(x):
            return True
        return eager.is_counted() or eager.is_hooked(self)

    def _in_place(self, x: Tensor) -> Tensor:
        """The layers, the activation in the memory of the hidden layer, which nobody else holds.

        Memory that the system clears anew at every call makes the whole up to half as slow again.
        """
        hidden = self.fc1(x)
        fresh = type(self.fc1) is nn.Linear
        out: Tensor = self.fc2(self.activate_(hidden) if fresh else self.act(hidden))
        return out

    def activate_(self, hidden: Tensor) -> Tensor:
        """What `act` gives, in the memory of what it is given where torch can do that."""
        if type(self.act) is not nn.GELU:
            found: Tensor = self.act(hidden)
            return found
        torch.ops.aten.gelu_(hidden, approximate=self.act.approximate)
        return hidden


def biased_attention(q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
    """Attention with a bias for each pair.

    On a CPU the fused one has no gradient of the bias: what it does instead is slower than this.

    Args:
        q: Queries, (N, A, L, D) with A heads.
        k: Keys, likewise.
        v: Values, likewise.
        bias: What is added to the logits, (1, A, L, L).

    Returns:
        (N, A, L, D).
    """
    if not (bias.requires_grad and torch.is_grad_enabled() and q.device.type == "cpu"):
        return F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
    logits = (q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)  # (N, A, L, L)
    return logits.add_(bias).softmax(dim=-1) @ v


def channels_last_maps(x: Tensor, grid: tuple[int, int, int]) -> Tensor:
    """Lay the patches of each head out as maps with the channels last in memory.

    A convolution of each channel by itself, and a maximum, are several times faster there.

    Args:
        x: Patches, (N, A, L, D) with A heads, time slowest.
        grid: L as (T, H, W).

    Returns:
        (N*A, D, T, H, W).
    """
    # Heads are joined before axes change places: of an axis of one, einops would give strides by
    # which the layout is not recognised.
    heads = x.reshape(-1, *grid, x.shape[-1]).contiguous()  # (N*A, T, H, W, D)
    return heads.permute(0, 4, 1, 2, 3)
