"""MViT, versions 1 and 2: a transformer that halves its grid and doubles its width by stages.

Fan et al., "Multiscale Vision Transformers" (https://arxiv.org/abs/2104.11227), and Li et al.,
"MViTv2" (https://arxiv.org/abs/2112.01526). The reference is facebookresearch/SlowFast
(Apache-2.0); pytorchvideo (Apache-2.0) and torchvision (BSD-3-Clause) hold the same networks.
Version 1 has tables of positions and widens in the MLP; version 2 has tables of distances in every
attention, adds the pooled queries to what attention gives, and widens in attention. Two things
differ on purpose: the tables of version 1 are resampled from the grid they were trained on
(bicubic in space, linear in time), and those of version 2 too where num_frames or img_size change
(linear, as the reference does).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from torch import Tensor, nn

from converters import resize_spatial_table, resize_temporal_table
from registry import Paper, register_model
from zoo.layers import DropPath, GuardedConv3d, Mlp, channels_last_maps, make_classifier
from zoo.models._mvit_weights import (
    LAYOUTS_V1,
    LAYOUTS_V2,
    TINY,
    V1_B,
    V1_B_24,
    V2_B,
    V2_L,
    V2_S,
)
from zoo.models._tokens import TokenModel

if TYPE_CHECKING:
    from zoo.config import ModelConfig

__all__ = ["MViT", "mvit_v1_b", "mvit_v1_b_24", "mvit_v2_b", "mvit_v2_l", "mvit_v2_s"]

Grid: TypeAlias = tuple[int, int, int]
Version: TypeAlias = Literal[1, 2]
PATCH_STRIDE: Grid = (2, 4, 4)


def _strided(grid: Grid, stride: int) -> Grid:
    """The grid (T, H, W) that pooling in space with an odd, padded kernel leaves."""
    t, h, w = grid
    return t, (h - 1) // stride + 1, (w - 1) // stride + 1


def _over_patches(x: Tensor, pool: nn.Module, grid: Grid) -> Tensor:
    """Pool the patches of tokens (N, A, 1 + L, D) with A heads, and keep the class token."""
    maps = channels_last_maps(x[:, :, 1:], grid)  # (N*A, D, T, H, W)
    patches = rearrange(pool(maps), "(n a) d t h w -> n a (t h w) d", a=x.shape[1])
    return torch.cat([x[:, :, :1], patches], dim=2)  # (N, A, 1 + L', D)


class Pool(nn.Module):
    """A convolution of each channel over the patches, then LayerNorm over all tokens.

    Args:
        dim: Width of a head.
        grid: Patches (T, H, W) that come in.
        stride: Stride in space; there is none in time.
        kernel: Sides of the kernel in time and space, odd.
        eps: What the LayerNorm adds to the variance.
    """

    def __init__(
        self, dim: int, *, grid: Grid, stride: int, kernel: tuple[int, int], eps: float
    ) -> None:
        super().__init__()
        t, side = kernel
        self.conv = GuardedConv3d(
            dim,
            dim,
            (t, side, side),
            stride=(1, stride, stride),
            padding=(t // 2, side // 2, side // 2),
            groups=dim,
            bias=False,
        )
        self.norm = nn.LayerNorm(dim, eps=eps)
        self.grid = grid

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, A, 1 + L, D) to (N, A, 1 + L', D)."""
        out: Tensor = self.norm(_over_patches(x, self.conv, self.grid))
        return out


def distance_rows(queries: int, keys: int) -> Tensor:
    """For places along one axis the row of a table that holds their distance, (q, k).

    The table has `2 * max(q, k) - 1` rows. Where the grid of the keys is the coarser one, their
    places lie further apart, and fractions are cut off. The order of the operations is that of
    cal_rel_pos_spatial of the reference: another one rounds to other rows at 312 pixels.
    """
    query_step, key_step = max(keys / queries, 1.0), max(queries / keys, 1.0)
    rows = torch.arange(queries)[:, None] * query_step - torch.arange(keys)[None] * key_step
    return (rows + (keys - 1) * key_step).long()


def resize_distances(table: Tensor, *, rows: int) -> Tensor:
    """Resample a table of distances (R, D) linearly to another number of rows, (R', D)."""
    if table.shape[0] == rows:
        return table
    line = rearrange(table.float(), "r d -> 1 d r")
    line = F.interpolate(line, size=rows, mode="linear")
    return rearrange(line, "1 d r -> r d").to(table.dtype).contiguous()


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockPlan:
    """What makes one block.

    Attributes:
        version: 1 or 2.
        dim: Width D that comes in.
        out_dim: Width that goes out.
        num_heads: Heads of the attention.
        grid: Patches (T, H, W) that come in.
        table_side: Side of that grid by which the tables of distances are sized. The reference
            rounds down from stage to stage where the grid itself rounds up.
        q_stride: Stride of the queries in space, which is that of the block; None for no pooling.
        kv_stride: Stride of keys and values in space.
        pool_kernel: Side of every pooling kernel; None for one more than the stride, and 1 in time.
        pool_norm_eps: What the LayerNorms after pooling add to the variance.
        drop_path_rate: Rate of stochastic depth.
    """

    version: Version
    dim: int
    out_dim: int
    num_heads: int
    grid: Grid
    table_side: int
    q_stride: int | None
    kv_stride: int
    pool_kernel: int | None
    pool_norm_eps: float
    drop_path_rate: float

    @property
    def attn_dim(self) -> int:
        """Width of the attention."""
        return self.dim if self.version == 1 else self.out_dim

    @property
    def out_grid(self) -> Grid:
        """Patches (T, H, W) that go out."""
        return _strided(self.grid, self.q_stride or 1)

    def pool(self, stride: int | None) -> Pool | None:
        """Pooling of one of queries, keys and values; None where it would change nothing."""
        if stride is None or (stride == 1 and self.pool_kernel is None):
            return None
        kernel = (1, stride + 1) if self.pool_kernel is None else (self.pool_kernel,) * 2
        width = self.attn_dim // self.num_heads
        eps = self.pool_norm_eps
        return Pool(width, grid=self.grid, stride=stride, kernel=kernel, eps=eps)


class PoolingAttention(nn.Module):
    """Attention from pooled queries to pooled keys and values."""

    def __init__(self, plan: BlockPlan) -> None:
        super().__init__()
        self.num_heads = plan.num_heads
        self.qkv = nn.Linear(plan.dim, 3 * plan.attn_dim)
        self.proj = nn.Linear(plan.attn_dim, plan.attn_dim)
        self.pool_q = plan.pool(plan.q_stride)
        self.pool_k = plan.pool(plan.kv_stride)
        self.pool_v = plan.pool(plan.kv_stride)
        self.q_grid, self.k_grid = plan.out_grid, _strided(plan.grid, plan.kv_stride)
        self.relative = plan.version == 2
        if self.relative:
            width = plan.attn_dim // plan.num_heads
            side = max(plan.table_side // (plan.q_stride or 1), plan.table_side // plan.kv_stride)
            self.rel_pos_h = nn.Parameter(torch.zeros(2 * side - 1, width))
            self.rel_pos_w = nn.Parameter(torch.zeros(2 * side - 1, width))
            self.rel_pos_t = nn.Parameter(torch.zeros(2 * plan.grid[0] - 1, width))

    def _distances(self, table: Tensor, axis: int) -> Tensor:
        """The rows of a table for each query and key along an axis of the grid, (q, k, D)."""
        q, k = self.q_grid[axis], self.k_grid[axis]
        table = resize_distances(table, rows=2 * max(q, k) - 1)
        return table[distance_rows(q, k).to(table.device)]

    def _with_places(self, q: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
        """Add channels to queries and keys whose products are the biases by distance.

        Every key says where it stands, every query what it adds for each place along an axis. No
        bias of each pair, (N, A, 1 + L, 1 + L'), is ever held, and attention stays a fused one.

        Returns:
            (N, A, 1 + L, D + E) and (N, A, 1 + L', D + E).
        """
        t, h, _ = self.q_grid
        kt, kh, kw = self.k_grid
        grid = rearrange(q[:, :, 1:], "n a (t h w) d -> n a t h w d", t=t, h=h)
        over_t = torch.einsum("nathwd,tkd->nathwk", grid, self._distances(self.rel_pos_t, 0))
        over_h = torch.einsum("nathwd,hkd->nathwk", grid, self._distances(self.rel_pos_h, 1))
        over_w = torch.einsum("nathwd,wkd->nathwk", grid, self._distances(self.rel_pos_w, 2))
        asked = torch.cat([over_t, over_h, over_w], dim=-1).flatten(2, 4)  # (N, A, L, E)
        axes = [torch.eye(size, dtype=k.dtype, device=k.device) for size in self.k_grid]
        places = torch.cat(
            [
                repeat(axes[0], "t e -> (t h w) e", h=kh, w=kw),
                repeat(axes[1], "h e -> (t h w) e", t=kt, w=kw),
                repeat(axes[2], "w e -> (t h w) e", t=kt, h=kh),
            ],
            dim=1,
        )  # (L', E)
        # Attention divides by the root of D what it must leave as it is here.
        places = (places * q.shape[-1] ** 0.5).expand(*k.shape[:2], -1, -1)
        # Nothing to or from the class token.
        q = torch.cat([q, F.pad(asked, (0, 0, 1, 0))], dim=-1)
        return q, torch.cat([k, F.pad(places, (0, 0, 1, 0))], dim=-1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, 1 + L, D) to (N, 1 + L', D')."""
        q, k, v = rearrange(
            self.qkv(x), "n l (three a d) -> three n a l d", three=3, a=self.num_heads
        )
        q = q if self.pool_q is None else self.pool_q(q)
        k = k if self.pool_k is None else self.pool_k(k)
        v = v if self.pool_v is None else self.pool_v(v)
        if not self.relative:
            out = F.scaled_dot_product_attention(q, k, v)
        else:
            width = q.shape[-1]
            wide_q, wide_k = self._with_places(q, k)
            if q.is_meta:  # whoever counts operations wants the network's, not this way's
                wide_q, wide_k = q, k
            wide_v = F.pad(v, (0, wide_k.shape[-1] - width))  # fused attention wants one width
            out = F.scaled_dot_product_attention(wide_q, wide_k, wide_v, scale=width**-0.5)
            # The class token is left out of this, here and in every reference.
            out = out[..., :width] + F.pad(q[:, :, 1:], (0, 0, 1, 0))
        return self.proj(rearrange(out, "n a l d -> n l (a d)"))  # (N, 1 + L', D')


class Block(nn.Module):
    """Pooling attention and MLP, each after a LayerNorm and around a shortcut.

    Where the width changes, the shortcut goes through a linear layer, which reads what the
    LayerNorm gives: that of attention in version 2, that of the MLP in version 1.
    """

    def __init__(self, plan: BlockPlan) -> None:
        super().__init__()
        self.plan = plan
        self.norm1 = nn.LayerNorm(plan.dim, eps=1e-6)
        self.attn = PoolingAttention(plan)
        self.norm2 = nn.LayerNorm(plan.attn_dim, eps=1e-6)
        self.mlp = Mlp(plan.attn_dim, hidden_dim=4 * plan.attn_dim, out_dim=plan.out_dim)
        self.proj = nn.Linear(plan.dim, plan.out_dim) if plan.dim != plan.out_dim else None
        self.pool_skip = (
            nn.MaxPool3d((1, 3, 3), stride=(1, 2, 2), padding=(0, 1, 1))
            if plan.q_stride == 2
            else None
        )
        self.drop_path = DropPath(plan.drop_path_rate)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, 1 + L, D) to (N, 1 + L', D')."""
        normed = self.norm1(x)
        if self.proj is not None and self.plan.version == 2:
            x = self.proj(normed)
        if self.pool_skip is not None:
            x = _over_patches(x[:, None], self.pool_skip, self.plan.grid)[:, 0]
        x = x + self.drop_path(self.attn(normed))
        normed = self.norm2(x)
        if self.proj is not None and self.plan.version == 1:
            x = self.proj(normed)
        return x + self.drop_path(self.mlp(normed))


class PatchEmbed(nn.Module):
    """Cuts a clip into overlapping patches, at half its frames and a quarter of its side.

    Args:
        in_chans: Input channels C.
        embed_dim: Width D.
    """

    def __init__(self, in_chans: int, embed_dim: int) -> None:
        super().__init__()
        self.proj = GuardedConv3d(
            in_chans, embed_dim, (3, 7, 7), stride=PATCH_STRIDE, padding=(1, 3, 3)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, T, H, W) to (N, L, D)."""
        return rearrange(self.proj(x), "n d t h w -> n (t h w) d")


class MViT(TokenModel):
    """A multiscale transformer with a class token.

    Features are (N, 1 + T'*H'*W', D): the class token, then the patches with time slowest, of the
    last and coarsest grid.

    Args:
        version: 1 or 2, see above.
        embed_dim: Width D of the first stage.
        depth: Blocks.
        num_heads: Heads of the first stage.
        stage_starts: Blocks that begin a stage after the first: they halve the grid.
        pool_kernel: Side of every pooling kernel; None for one more than the stride, and 1 in time.
        num_classes: Classes K; 0 returns the pooled features.
        in_chans: Input channels C.
        num_frames: Frames T of a clip, an even number.
        img_size: Side of the pictures, a multiple of 4.
        pool_norm_eps: What the LayerNorms after pooling add to the variance.
        drop_rate: Dropout before the classifier.
        drop_path_rate: Stochastic depth at the last block, rising linearly from 0.
    """

    stem_weights = ("patch_embed.proj.weight",)
    num_prefix_tokens = 1

    def __init__(
        self,
        version: Version,
        embed_dim: int = 96,
        depth: int = 16,
        num_heads: int = 1,
        stage_starts: Sequence[int] = (1, 3, 14),
        pool_kernel: int | None = 3,
        *,
        num_classes: int = 400,
        in_chans: int = 3,
        num_frames: int = 16,
        img_size: int = 224,
        pool_norm_eps: float = 1e-6,
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
    ) -> None:
        super().__init__()
        for name, size, step in (
            ("num_frames", num_frames, PATCH_STRIDE[0]),
            ("img_size", img_size, PATCH_STRIDE[1]),
        ):
            if size < step or size % step:
                raise ValueError(
                    f"{name}={size} is no multiple of {step}, the stride of the patches; give "
                    f"{max(1, size // step) * step} for instance."
                )
        self.version = version
        self.in_chans, self.num_frames, self.img_size = in_chans, num_frames, img_size
        side = img_size // PATCH_STRIDE[1]
        self.grid: Grid = (num_frames // PATCH_STRIDE[0], side, side)
        self.patch_embed = PatchEmbed(in_chans, embed_dim)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, embed_dim))
        if version == 1:
            self.pos_embed_spatial = nn.Parameter(torch.zeros(1, side * side, embed_dim))
            self.pos_embed_temporal = nn.Parameter(torch.zeros(1, self.grid[0], embed_dim))
            self.pos_embed_class = nn.Parameter(torch.zeros(1, 1, embed_dim))
        self.blocks = nn.ModuleList()
        self.grids: list[Grid] = []
        self.feature_info = []
        grid, dim, stage = self.grid, embed_dim, 0
        for index in range(depth):
            starts = index in stage_starts
            stage += starts
            widens = starts if version == 2 else index + 1 in stage_starts
            plan = BlockPlan(
                version=version,
                dim=dim,
                out_dim=2 * dim if widens else dim,
                num_heads=num_heads * 2**stage,
                grid=grid,
                table_side=side >> (stage - starts),
                q_stride=2 if starts else 1 if version == 2 else None,
                kv_stride=max(8 >> stage, 1),
                pool_kernel=pool_kernel,
                pool_norm_eps=pool_norm_eps,
                drop_path_rate=drop_path_rate * index / max(1, depth - 1),
            )
            self.blocks.append(Block(plan))
            grid, dim = plan.out_grid, plan.out_dim
            self.grids.append(grid)
            reduction = PATCH_STRIDE[1] * 2**stage
            info = {"num_chs": dim, "reduction": reduction, "module": f"blocks.{index}"}
            self.feature_info.append(info)
        self.num_features, self.num_classes = dim, num_classes
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.drop = nn.Dropout(drop_rate)
        self.head = make_classifier(dim, num_classes)
        self._initialise()

    def _initialise(self) -> None:
        """Truncated normal for weights and tables, 0.02 for biases, as the reference has it."""
        for name, parameter in self.named_parameters():
            if name.startswith("head."):
                continue
            if parameter.ndim > 1:
                nn.init.trunc_normal_(parameter, std=0.02)
            elif name.endswith("bias"):
                nn.init.constant_(parameter, 0.02)

    def _embed(self, x: Tensor) -> Tensor:
        """Map clips (N, C, T, H, W) to tokens (N, 1 + L, D)."""
        self.check_clip(x)
        patches = self.patch_embed(x)  # (N, L, D)
        token: Tensor = self.cls_token
        if self.version == 1:
            places = self.pos_embed_temporal[:, :, None] + self.pos_embed_spatial[:, None]
            patches = patches + rearrange(places, "1 t l d -> 1 (t l) d")
            token = token + self.pos_embed_class
        return torch.cat([token.expand(x.shape[0], -1, -1), patches], dim=1)

    def _maps(self, x: Tensor, level: int) -> Tensor:
        """Map tokens (N, 1 + T'*H'*W', D) to maps without the class token, (N, D, T', H', W')."""
        t, h, _ = self.grids[level]
        return rearrange(x[:, 1:], "n (t h w) d -> n d t h w", t=t, h=h)

    def no_weight_decay(self) -> set[str]:
        """The tables and the class token."""
        tables = ("cls_token", "pos_embed", "rel_pos")
        return {
            name
            for name, _ in self.named_parameters()
            if name.rpartition(".")[2].startswith(tables)
        }

    def infer_arguments(self, state: Mapping[str, Tensor]) -> dict[str, int]:
        """See `VideoModel.infer_arguments`; the tables tell frames and size, a square one."""
        if self.version == 1:
            side = math.isqrt(state["pos_embed_spatial"].shape[1])
            t = state["pos_embed_temporal"].shape[1]
        else:
            side = (state["blocks.0.attn.rel_pos_h"].shape[0] + 1) // 2
            t = (state["blocks.0.attn.rel_pos_t"].shape[0] + 1) // 2
        return super().infer_arguments(state) | {
            "num_frames": t * PATCH_STRIDE[0],
            "img_size": side * PATCH_STRIDE[1],
        }

    def resize_positions(self, state: dict[str, Tensor], *, trained: ModelConfig) -> None:
        """Resample the tables from the trained grid and frames to this model's."""
        if self.version == 1:
            assert isinstance(trained.arguments["img_size"], int)
            side = trained.arguments["img_size"] // PATCH_STRIDE[1]
            state["pos_embed_spatial"] = resize_spatial_table(
                state["pos_embed_spatial"],
                old=(side, side),
                new=self.grid[1:],
                num_prefix_tokens=0,
            )
            state["pos_embed_temporal"] = resize_temporal_table(
                state["pos_embed_temporal"], num_frames=self.grid[0]
            )
            return
        for name, parameter in self.named_parameters():
            if "rel_pos" in name:
                state[name] = resize_distances(state[name], rows=parameter.shape[0])


_PAPER = Paper(
    title="Multiscale Vision Transformers", url="https://arxiv.org/abs/2104.11227", year=2021
)
_PAPER_V2 = Paper(
    title="MViTv2: Improved Multiscale Vision Transformers for Classification and Detection",
    url="https://arxiv.org/abs/2112.01526",
    year=2021,
)


@register_model(order="used", layouts=LAYOUTS_V1, **TINY)
def test_mvit_v1(**kwargs: Any) -> MViT:
    """Version 1 of three narrow blocks in two stages, for tests."""
    return MViT(1, 16, 3, 1, (1,), **kwargs)


@register_model(order="used", layouts=LAYOUTS_V2, **TINY)
def test_mvit_v2(**kwargs: Any) -> MViT:
    """Version 2 of three narrow blocks in two stages, for tests."""
    return MViT(2, 16, 3, 1, (1,), **kwargs)


@register_model(order="used", paper=_PAPER, weights=V1_B, layouts=LAYOUTS_V1)
def mvit_v1_b(**kwargs: Any) -> MViT:
    """MViT-B of version 1: 16 blocks, pooled by learned kernels of 3x3x3."""
    return MViT(1, **kwargs)


@register_model(order="used", paper=_PAPER, weights=V1_B_24, layouts=LAYOUTS_V1)
def mvit_v1_b_24(**kwargs: Any) -> MViT:
    """MViT-B of version 1 with 24 blocks, pooled in space only, by kernels of stride plus one."""
    return MViT(1, 96, 24, 1, (2, 5, 21), None, **kwargs)


@register_model(order="used", paper=_PAPER_V2, weights=V2_S, layouts=LAYOUTS_V2)
def mvit_v2_s(**kwargs: Any) -> MViT:
    """MViTv2-S: 16 blocks of width 96 to 768."""
    return MViT(2, **kwargs)


@register_model(order="used", paper=_PAPER_V2, weights=V2_B, layouts=LAYOUTS_V2)
def mvit_v2_b(**kwargs: Any) -> MViT:
    """MViTv2-B: 24 blocks of width 96 to 768."""
    return MViT(2, 96, 24, 1, (2, 5, 21), **kwargs)


@register_model(order="used", paper=_PAPER_V2, weights=V2_L, layouts=LAYOUTS_V2)
def mvit_v2_l(**kwargs: Any) -> MViT:
    """MViTv2-L: 48 blocks of width 144 to 1152, for pictures of 312 pixels."""
    return MViT(2, 144, 48, 2, (2, 8, 44), **kwargs)
