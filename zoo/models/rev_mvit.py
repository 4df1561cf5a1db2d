"""Reversible MViT: each stage runs two streams, from whose ends its beginnings follow.

Mangalam et al., "Reversible Vision Transformers" (https://arxiv.org/abs/2302.04869). The reference
is facebookresearch/SlowFast (Apache-2.0). Two things differ on purpose: gradients come from
autograd, to the same values, and not from streams computed backwards (`set_grad_checkpointing`
saves memory here); position tables are resampled from the grid they were trained on (bicubic in
space, linear in time).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from converters import KeyMap, Rule, resize_spatial_table, resize_temporal_table
from registry import (
    UNKNOWN,
    Metric,
    Paper,
    Preprocess,
    Sampling,
    UpstreamSource,
    Weights,
    register_model,
)
from zoo.layers import DropPath, GuardedConv3d, Mlp, channels_last_maps, make_classifier
from zoo.models._tokens import TokenModel

if TYPE_CHECKING:
    from zoo.config import ModelConfig

__all__ = ["RevMViT", "rev_mvit_b"]

Grid: TypeAlias = tuple[int, int, int]
PATCH_STRIDE: Grid = (2, 4, 4)


class Pool(nn.Module):
    """A 3x3x3 convolution of each channel over the patches, then LayerNorm.

    Args:
        dim: Width of a head.
        grid: Patches (T, H, W) that come in.
        stride: Stride in space.
    """

    def __init__(self, dim: int, *, grid: Grid, stride: int) -> None:
        super().__init__()
        strides = (1, stride, stride)
        self.conv = GuardedConv3d(dim, dim, 3, stride=strides, padding=1, groups=dim, bias=False)
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.grid = grid

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, A, L, D), with A heads, to (N, A, L', D)."""
        maps = self.conv(channels_last_maps(x, self.grid))
        return self.norm(rearrange(maps, "(n a) d t h w -> n a (t h w) d", a=x.shape[1]))


class PoolingAttention(nn.Module):
    """Attention from queries, pooled where the grid is halved, to pooled keys and values.

    Args:
        dim: Width D that comes in.
        out_dim: Width that goes out.
        num_heads: Heads.
        grid: Patches (T, H, W) that come in.
        halves: Whether the queries are pooled with stride 2.
        kv_stride: Stride of keys and values in space.
    """

    def __init__(
        self, dim: int, out_dim: int, *, num_heads: int, grid: Grid, halves: bool, kv_stride: int
    ) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(dim, 3 * out_dim, bias=False)
        self.proj = nn.Linear(out_dim, out_dim)
        width = out_dim // num_heads
        self.pool_q = Pool(width, grid=grid, stride=2) if halves else None
        self.pool_k = Pool(width, grid=grid, stride=kv_stride)
        self.pool_v = Pool(width, grid=grid, stride=kv_stride)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, L, D) to (N, L', D')."""
        q, k, v = rearrange(
            self.qkv(x), "n l (three a d) -> three n a l d", three=3, a=self.num_heads
        )
        q = q if self.pool_q is None else self.pool_q(q)
        x = F.scaled_dot_product_attention(q, self.pool_k(k), self.pool_v(v))
        return self.proj(rearrange(x, "n a l d -> n l (a d)"))  # (N, L', D')


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockPlan:
    """What makes one block.

    Attributes:
        dim: Width D of a stream that comes in.
        out_dim: Width of a stream that goes out.
        num_heads: Heads.
        grid: Patches (T, H, W) that come in.
        kv_stride: Stride of keys and values in space.
        drop_path_rate: Rate of stochastic depth.
    """

    dim: int
    out_dim: int
    num_heads: int
    grid: Grid
    kv_stride: int
    drop_path_rate: float

    def attention(self, *, halves: bool) -> PoolingAttention:
        """The block's attention."""
        return PoolingAttention(
            self.dim,
            self.out_dim,
            num_heads=self.num_heads,
            grid=self.grid,
            halves=halves,
            kv_stride=self.kv_stride,
        )


class ReversibleBlock(nn.Module):
    """Attention of the second stream added to the first, then the MLP of the first to the second.

    Args:
        plan: See there.
        opens: Whether one stream comes in, of which both start as copies.
    """

    def __init__(self, plan: BlockPlan, *, opens: bool) -> None:
        super().__init__()
        self.opens = opens
        self.norm1 = nn.LayerNorm(plan.dim, eps=1e-6)
        self.attn = plan.attention(halves=False)
        self.norm2 = nn.LayerNorm(plan.dim, eps=1e-6)
        self.mlp = Mlp(plan.dim, hidden_dim=4 * plan.dim)
        self.drop_path = DropPath(plan.drop_path_rate)

    def forward(self, x: Tensor) -> Tensor:
        """Map one stream (N, L, D) or two, (N, L, 2*D), to two."""
        first, second = (x, x) if self.opens else x.chunk(2, dim=-1)
        first = first + self.drop_path(self.attn(self.norm1(second)))
        second = second + self.drop_path(self.mlp(self.norm2(first)))
        return torch.cat([first, second], dim=-1)


class TransitionBlock(nn.Module):
    """Averages the streams, halves the grid and doubles the width.

    The shortcut is widened and then pooled by the very convolution of the queries. Stochastic depth
    drops all that a sample has, as in the reference.
    """

    def __init__(self, plan: BlockPlan) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(plan.dim, eps=1e-6)
        self.attn = plan.attention(halves=True)
        self.proj = nn.Linear(plan.dim, plan.out_dim)
        self.norm2 = nn.LayerNorm(plan.out_dim, eps=1e-6)
        self.mlp = Mlp(plan.out_dim, hidden_dim=4 * plan.out_dim)
        self.drop_path = DropPath(plan.drop_path_rate)

    def forward(self, x: Tensor) -> Tensor:
        """Map two streams (N, L, 2*D) to one, (N, L', D')."""
        first, second = x.chunk(2, dim=-1)
        x = (first + second) / 2
        shortcut = rearrange(self.proj(x), "n l (a d) -> n a l d", a=self.attn.num_heads)
        assert self.attn.pool_q is not None
        shortcut = rearrange(self.attn.pool_q(shortcut), "n a l d -> n l (a d)")
        x = shortcut + self.attn(self.norm1(x))
        dropped: Tensor = self.drop_path(x + self.mlp(self.norm2(x)))
        return dropped


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


class RevMViT(TokenModel):
    """A multiscale transformer of two streams, without a class token.

    Features are (N, T'*H'*W', 2*D): both streams of the last stage, time slowest.

    Args:
        embed_dim: Width D of a stream in the first stage.
        depth: Blocks.
        stage_starts: Blocks that begin a stage after the first: they halve the grid.
        num_classes: Classes K; 0 returns the pooled features.
        in_chans: Input channels C.
        num_frames: Frames T of a clip, an even number.
        img_size: Side of the pictures, a multiple of 4.
        drop_rate: Dropout before the classifier.
        drop_path_rate: Stochastic depth at the last block, rising linearly from 0.
    """

    stem_weights = ("patch_embed.proj.weight",)

    def __init__(
        self,
        embed_dim: int = 96,
        depth: int = 16,
        stage_starts: Sequence[int] = (1, 3, 14),
        *,
        num_classes: int = 400,
        in_chans: int = 3,
        num_frames: int = 16,
        img_size: int = 224,
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
        self.in_chans, self.num_frames, self.img_size = in_chans, num_frames, img_size
        side = img_size // PATCH_STRIDE[1]
        self.grid: Grid = (num_frames // PATCH_STRIDE[0], side, side)
        self.patch_embed = PatchEmbed(in_chans, embed_dim)
        self.pos_embed_spatial = nn.Parameter(torch.zeros(1, side * side, embed_dim))
        self.pos_embed_temporal = nn.Parameter(torch.zeros(1, self.grid[0], embed_dim))
        self.blocks = nn.ModuleList()
        self.grids: list[Grid] = []
        self.feature_info = []
        grid, dim, stage = self.grid, embed_dim, 0
        for index in range(depth):
            starts = index in stage_starts
            stage += starts
            plan = BlockPlan(
                dim=dim,
                out_dim=2 * dim if starts else dim,
                num_heads=2**stage,
                grid=grid,
                kv_stride=max(8 >> stage, 1),
                drop_path_rate=drop_path_rate * index / max(1, depth - 1),
            )
            if starts:
                self.blocks.append(TransitionBlock(plan))
                grid = (grid[0], (grid[1] + 1) // 2, (grid[2] + 1) // 2)
            else:
                opens = index == 0 or index - 1 in stage_starts
                self.blocks.append(ReversibleBlock(plan, opens=opens))
            dim = plan.out_dim
            self.grids.append(grid)
            self.feature_info.append(
                {
                    "num_chs": dim if starts else 2 * dim,
                    "reduction": PATCH_STRIDE[1] * 2**stage,
                    "module": f"blocks.{index}",
                }
            )
        assert depth - 1 not in stage_starts, "the last block must give two streams"
        self.num_features, self.num_classes = 2 * dim, num_classes
        self.norm = nn.LayerNorm(2 * dim, eps=1e-6)
        self.drop = nn.Dropout(drop_rate)
        self.head = make_classifier(2 * dim, num_classes)
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
        """Map clips (N, C, T, H, W) to tokens (N, L, D)."""
        self.check_clip(x)
        places = self.pos_embed_temporal[:, :, None] + self.pos_embed_spatial[:, None]
        tokens: Tensor = self.patch_embed(x) + rearrange(places, "1 t l d -> 1 (t l) d")
        return tokens

    def _maps(self, x: Tensor, level: int) -> Tensor:
        """Map tokens (N, T'*H'*W', D) to maps of both streams, (N, D, T', H', W')."""
        t, h, _ = self.grids[level]
        return rearrange(x, "n (t h w) d -> n d t h w", t=t, h=h)

    def no_weight_decay(self) -> set[str]:
        """The tables."""
        return {"pos_embed_spatial", "pos_embed_temporal"}

    def infer_arguments(self, state: Mapping[str, Tensor]) -> dict[str, int]:
        """See `VideoModel.infer_arguments`; the tables tell frames and size, a square one."""
        side = math.isqrt(state["pos_embed_spatial"].shape[1])
        return super().infer_arguments(state) | {
            "num_frames": state["pos_embed_temporal"].shape[1] * PATCH_STRIDE[0],
            "img_size": side * PATCH_STRIDE[1],
        }

    def resize_positions(self, state: dict[str, Tensor], *, trained: ModelConfig) -> None:
        """Resample the tables from the trained grid and frames to this model's."""
        assert isinstance(trained.arguments["img_size"], int)
        side = trained.arguments["img_size"] // PATCH_STRIDE[1]
        state["pos_embed_spatial"] = resize_spatial_table(
            state["pos_embed_spatial"], old=(side, side), new=self.grid[1:], num_prefix_tokens=0
        )
        state["pos_embed_temporal"] = resize_temporal_table(
            state["pos_embed_temporal"], num_frames=self.grid[0]
        )


_LAYER = "rev_backbone.layers.{i}"
SLOWFAST = KeyMap(
    (
        Rule(f"{_LAYER}.F.norm", "blocks.{i}.norm1"),
        *(
            rule
            for letter in "qkv"
            for rule in (
                Rule(f"{_LAYER}.F.attn.pool_{letter}", f"blocks.{{i}}.attn.pool_{letter}.conv"),
                Rule(f"{_LAYER}.F.attn.norm_{letter}", f"blocks.{{i}}.attn.pool_{letter}.norm"),
            )
        ),
        Rule(f"{_LAYER}.F.attn", "blocks.{i}.attn"),
        Rule(f"{_LAYER}.G.norm", "blocks.{i}.norm2"),
        Rule(f"{_LAYER}.G.mlp", "blocks.{i}.mlp"),
        Rule(f"{_LAYER}.res_proj", "blocks.{i}.proj"),
        Rule("patch_embed", "patch_embed"),
        Rule("pos_embed_spatial", "pos_embed_spatial"),
        Rule("pos_embed_temporal", "pos_embed_temporal"),
        Rule("norm", "norm"),
        Rule("head.projection", "head"),
    )
)
_LAYOUTS = {"slowfast": SLOWFAST}
_SAMPLING = Sampling(
    rule="span",
    num_frames=16,
    frame_stride=4,
    fps=30.0,
    num_clips=5,
    num_crops=1,
    average="probabilities",
)
_PREPROCESS = Preprocess(
    img_size=224,
    resize=256,
    interpolation="bilinear",
    antialias=False,
    mean=(0.45, 0.45, 0.45),
    std=(0.225, 0.225, 0.225),
)
_PROTOCOL: dict[str, Any] = {
    "dataset": "kinetics400",
    "split": "validation",
    "level": "video",
    "num_clips": 5,
    "num_crops": 1,
    "measured_by": "the authors",
}
_K400 = Weights(
    tag="k400",
    source=UpstreamSource(
        layout="slowfast",
        url="https://dl.fbaipublicfiles.com/pyslowfast/rev/REV_MVIT_B_16x4.pyth",
        filename="REV_MVIT_B_16x4.pyth",
        sha256=UNKNOWN,
    ),
    licence="Apache-2.0",
    data="Kinetics-400",
    num_classes=400,
    labels="kinetics400",
    sampling=_SAMPLING,
    preprocess=_PREPROCESS,
    metrics=(
        Metric(name="top1", value=78.4, **_PROTOCOL),
        Metric(name="top5", value=93.4, **_PROTOCOL),
    ),
    note=(
        "The published configuration asks for a class token, which the published code refuses; the "
        "network here has none. The licence is that of the authors' code; none is stated for the "
        "weights alone."
    ),
)
_PAPER = Paper(
    title="Reversible Vision Transformers", url="https://arxiv.org/abs/2302.04869", year=2022
)


@register_model(
    order="used",
    num_classes=7,
    sampling=replace(_SAMPLING, num_frames=4),
    preprocess=replace(_PREPROCESS, img_size=32, resize=32),
    layouts=_LAYOUTS,
)
def test_rev_mvit(**kwargs: Any) -> RevMViT:
    """Four narrow blocks in two stages, for tests."""
    return RevMViT(16, 4, (2,), **kwargs)


@register_model(order="used", paper=_PAPER, weights=(_K400,), layouts=_LAYOUTS)
def rev_mvit_b(**kwargs: Any) -> RevMViT:
    """Reversible MViT-B: 16 blocks, of which 13 are reversible."""
    return RevMViT(**kwargs)
