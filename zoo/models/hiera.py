"""Hiera: a hierarchy of plain transformer blocks, trained as a masked autoencoder.

Ryali et al., "Hiera: A Hierarchical Vision Transformer without the Bells-and-Whistles"
(https://arxiv.org/abs/2306.00989). The reference is facebookresearch/hiera (code Apache-2.0,
weights CC-BY-NC-4.0). Three things differ on purpose: tokens stay a grid instead of being sorted by
mask unit, so that features put time slowest, the model returns logits where the reference's head
gives probabilities outside training, and position tables are resampled from the grid they were
trained on (bicubic in space, linear in time; the reference takes its own size alone).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
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
from zoo.layers import DropPath, GuardedConv3d, Mlp, make_classifier
from zoo.models._tokens import TokenModel

if TYPE_CHECKING:
    from zoo.config import ModelConfig

__all__ = ["Hiera", "hiera_b", "hiera_b_plus", "hiera_h", "hiera_l"]

_STRIDE = (2, 4, 4)
_UNIT = 8
"""Side of a mask unit in patches; three poolings by 2 make it one token."""


def _pool(x: Tensor) -> Tensor:
    """Take the largest of each 2x2 tokens of a frame: (N, T, H, W, D) to (N, T, H/2, W/2, D)."""
    # Four views compared are six times faster than a reduction over two axes.
    upper = torch.maximum(x[:, :, 0::2, 0::2], x[:, :, 0::2, 1::2])
    lower = torch.maximum(x[:, :, 1::2, 0::2], x[:, :, 1::2, 1::2])
    return torch.maximum(upper, lower)


class UnitAttention(nn.Module):
    """Attention within the mask units of each frame, or over all tokens.

    Args:
        dim: Width D of the input.
        out_dim: Width E of the output.
        num_heads: Heads.
        unit: Side of a mask unit in tokens of the input; 0 attends over all tokens.
        pooled: Whether the queries, and so the output, have half the side of the input.
    """

    def __init__(self, dim: int, out_dim: int, *, num_heads: int, unit: int, pooled: bool) -> None:
        super().__init__()
        self.num_heads, self.unit, self.pooled = num_heads, unit, pooled
        self.qkv = nn.Linear(dim, 3 * out_dim)
        self.proj = nn.Linear(out_dim, out_dim)

    def _split(self, x: Tensor, unit: int) -> Tensor:
        """Map (N, T, H, W, E) to (N', heads, L, d), an item for each set that attends to itself."""
        if not unit:
            return rearrange(x, "n t h w (heads d) -> n heads (t h w) d", heads=self.num_heads)
        pattern = "n t (a h) (b w) (heads d) -> (n t a b) heads (h w) d"
        return rearrange(x, pattern, heads=self.num_heads, h=unit, w=unit)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, T, H, W, D) to (N, T, H', W', E)."""
        q, k, v = self.qkv(x).chunk(3, dim=-1)
        q, unit = (_pool(q), self.unit // 2) if self.pooled else (q, self.unit)
        _, t, h, w, _ = q.shape
        out = nn.functional.scaled_dot_product_attention(
            self._split(q, unit), self._split(k, self.unit), self._split(v, self.unit)
        )
        if not unit:
            out = rearrange(out, "n heads (t h w) d -> n t h w (heads d)", t=t, h=h)
        else:
            pattern = "(n t a b) heads (h w) d -> n t (a h) (b w) (heads d)"
            out = rearrange(out, pattern, t=t, a=h // unit, b=w // unit, h=unit)
        return self.proj(out)


class Block(nn.Module):
    """A transformer block; the first of a later stage pools tokens and widens them.

    Args:
        dim: Width D of the input.
        out_dim: Width E of the output.
        num_heads: Heads.
        unit: Side of a mask unit in tokens of the input; 0 attends over all tokens.
        mlp_ratio: Width of the hidden layer by E.
        drop_path_rate: Rate of stochastic depth.
    """

    def __init__(
        self,
        dim: int,
        out_dim: int,
        *,
        num_heads: int,
        unit: int,
        mlp_ratio: float,
        drop_path_rate: float,
    ) -> None:
        super().__init__()
        self.pooled = dim != out_dim
        self.norm1 = nn.LayerNorm(dim, eps=1e-6)
        self.attn = UnitAttention(dim, out_dim, num_heads=num_heads, unit=unit, pooled=self.pooled)
        self.norm2 = nn.LayerNorm(out_dim, eps=1e-6)
        self.mlp = Mlp(out_dim, hidden_dim=int(out_dim * mlp_ratio))
        self.drop_path = DropPath(drop_path_rate)
        if self.pooled:
            self.proj = nn.Linear(dim, out_dim)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, T, H, W, D) to (N, T, H', W', E)."""
        normed = self.norm1(x)
        if self.pooled:
            x = _pool(self.proj(normed))
        x = x + self.drop_path(self.attn(normed))
        return x + self.drop_path(self.mlp(self.norm2(x)))


class PatchEmbed(nn.Module):
    """Overlapping patches of 3 frames by 7x7 pixels, 2 frames and 4 pixels apart.

    Args:
        in_chans: Input channels C.
        embed_dim: Width D.
    """

    def __init__(self, in_chans: int, embed_dim: int) -> None:
        super().__init__()
        self.proj = GuardedConv3d(in_chans, embed_dim, (3, 7, 7), stride=_STRIDE, padding=(1, 3, 3))

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, T, H, W) to (N, T', H', W', D)."""
        return rearrange(self.proj(x), "n d t h w -> n t h w d")


class Hiera(TokenModel):
    """Hiera for clips, without the masked autoencoder's decoder.

    Features are (N, T'*H'*W', D), time slowest; the final normalisation comes after the pooling.

    Args:
        embed_dim: Width of the first stage; each further one is twice as wide.
        num_heads: Heads of the first stage; each further one has twice as many.
        depths: Blocks of the four stages.
        num_classes: Classes K; 0 returns the pooled features.
        in_chans: Input channels C.
        num_frames: Frames T of a clip, an even number.
        img_size: Side of the pictures, a multiple of 32.
        mlp_ratio: Width of the hidden layers by that of their block.
        drop_rate: Dropout before the classifier.
        drop_path_rate: Stochastic depth at the last block, rising linearly from 0.

    Raises:
        ValueError: Mask units do not divide the pictures, or patches the frames.
    """

    stem_weights = ("patch_embed.proj.weight",)

    def __init__(
        self,
        embed_dim: int = 96,
        num_heads: int = 1,
        depths: Sequence[int] = (2, 3, 16, 3),
        *,
        num_classes: int = 400,
        in_chans: int = 3,
        num_frames: int = 16,
        img_size: int = 224,
        mlp_ratio: float = 4.0,
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
    ) -> None:
        super().__init__()
        for name, value, step, why in (
            ("num_frames", num_frames, _STRIDE[0], "patches begin every 2 frames"),
            ("img_size", img_size, _STRIDE[1] * _UNIT, "a mask unit has a side of 32 pixels"),
        ):
            if value % step:
                raise ValueError(
                    f"{name}={value} is no multiple of {step}, and {why}; give "
                    f"{max(1, value // step) * step} for instance."
                )
        self.in_chans, self.num_frames, self.img_size = in_chans, num_frames, img_size
        self.num_classes = num_classes
        self.num_features = embed_dim * 2 ** (len(depths) - 1)
        frames, side = num_frames // _STRIDE[0], img_size // _STRIDE[1]
        self.patch_embed = PatchEmbed(in_chans, embed_dim)
        self.pos_embed_spatial = nn.Parameter(torch.zeros(1, side * side, embed_dim))
        self.pos_embed_temporal = nn.Parameter(torch.zeros(1, frames, embed_dim))
        self.blocks = nn.ModuleList()
        for stage, depth in enumerate(depths):
            width = embed_dim * 2**stage
            for place in range(depth):
                first = stage > 0 and place == 0
                # A pooling block attends as the stage before it, over tokens not pooled yet.
                level = stage - 1 if first else stage
                rate = drop_path_rate * len(self.blocks) / max(1, sum(depths) - 1)
                self.blocks.append(
                    Block(
                        width // 2 if first else width,
                        width,
                        num_heads=num_heads * 2**stage,
                        unit=_UNIT >> level if level < 2 else 0,
                        mlp_ratio=mlp_ratio,
                        drop_path_rate=rate,
                    )
                )
        # Tokens stay as they are; what is normalised is their mean.
        self.norm = nn.Identity()
        self.fc_norm = nn.LayerNorm(self.num_features, eps=1e-6)
        self.drop = nn.Dropout(drop_rate)
        self.head = make_classifier(self.num_features, num_classes)
        self._ends = [sum(depths[: stage + 1]) - 1 for stage in range(len(depths))]
        self.feature_info = [
            {
                "num_chs": embed_dim * 2**stage,
                "reduction": _STRIDE[1] * 2**stage,
                "module": f"blocks.{end}",
            }
            for stage, end in enumerate(self._ends)
        ]
        self._initialise()

    def _initialise(self) -> None:
        """Truncated normal for weights and tables, and biases that are small but not zero."""
        for name, parameter in self.named_parameters():
            if parameter.ndim > 1:
                nn.init.trunc_normal_(parameter, std=0.02)
            elif name.endswith("bias") and not name.startswith("patch_embed"):
                nn.init.constant_(parameter, 0.02)
        with torch.no_grad():
            for parameter in self.head.parameters():
                parameter.mul_(0.001)

    def _embed(self, x: Tensor) -> Tensor:
        """Map clips (N, C, T, H, W) to tokens (N, T', H', W', D)."""
        self.check_clip(x)
        x = self.patch_embed(x)
        space = rearrange(self.pos_embed_spatial, "1 (h w) d -> 1 1 h w d", h=x.shape[2])
        return x + space + self.pos_embed_temporal[:, :, None, None]

    def _features(self, x: Tensor) -> Tensor:
        """Map tokens (N, T', H', W', D) to features (N, T'*H'*W', D)."""
        return rearrange(x, "n t h w d -> n (t h w) d")

    def _maps(self, x: Tensor, level: int) -> Tensor:  # noqa: ARG002 -- tokens lie as in space
        """Map tokens (N, T', H', W', D) to maps (N, D, T', H', W')."""
        return rearrange(x, "n t h w d -> n d t h w")

    def _pool(self, x: Tensor) -> Tensor:
        """Average features (N, L, D) and normalise the mean, (N, D)."""
        pooled: Tensor = self.fc_norm(x.mean(dim=1))
        return pooled

    def no_weight_decay(self) -> set[str]:
        """The position tables."""
        return {"pos_embed_spatial", "pos_embed_temporal"}

    def infer_arguments(self, state: Mapping[str, Tensor]) -> dict[str, int]:
        """See `VideoModel.infer_arguments`; the tables tell frames and size, a square one."""
        return super().infer_arguments(state) | {
            "num_frames": state["pos_embed_temporal"].shape[1] * _STRIDE[0],
            "img_size": math.isqrt(state["pos_embed_spatial"].shape[1]) * _STRIDE[1],
        }

    def resize_positions(self, state: dict[str, Tensor], *, trained: ModelConfig) -> None:
        """Resample the tables from the trained grid and frames to this model's."""
        assert isinstance(trained.arguments["img_size"], int)
        old, new = (size // _STRIDE[1] for size in (trained.arguments["img_size"], self.img_size))
        state["pos_embed_spatial"] = resize_spatial_table(
            state["pos_embed_spatial"], old=(old, old), new=(new, new), num_prefix_tokens=0
        )
        state["pos_embed_temporal"] = resize_temporal_table(
            state["pos_embed_temporal"], num_frames=self.num_frames // _STRIDE[0]
        )


# The authors' files, of the Hub and (under `model_state`) of their own server.
HIERA = KeyMap(
    (
        Rule("patch_embed", "patch_embed"),
        Rule("pos_embed_spatial", "pos_embed_spatial"),
        Rule("pos_embed_temporal", "pos_embed_temporal"),
        Rule("blocks", "blocks"),
        Rule("norm", "fc_norm"),
        Rule("head.projection", "head"),
    )
)
_LAYOUTS = {"hiera": HIERA}

_PAPER = Paper(
    title="Hiera: A Hierarchical Vision Transformer without the Bells-and-Whistles",
    url="https://arxiv.org/abs/2306.00989",
    year=2023,
)
# They test with SlowFast's loader; their head averages probabilities.
_SAMPLING = Sampling(
    rule="span",
    num_frames=16,
    frame_stride=4,
    fps=30.0,
    num_clips=5,
    num_crops=3,
    average="probabilities",
)
_PREPROCESS = Preprocess(
    img_size=224,
    resize=224,
    interpolation="bilinear",
    antialias=False,
    mean=(0.45, 0.45, 0.45),
    std=(0.225, 0.225, 0.225),
)


def _k400(size: str, top1: float) -> Weights:
    """The record of one of the authors' networks, which differ in these facts only."""
    stem = f"hiera_{size}_16x224"
    return Weights(
        tag="k400",
        source=UpstreamSource(
            layout="hiera",
            repo_id=f"facebook/{stem}.mae_k400_ft_k400",
            filename="model.safetensors",
            revision=UNKNOWN,
            sha256=UNKNOWN,
        ),
        mirrors=(
            UpstreamSource(
                layout="hiera",
                filename=f"{stem}.pth",
                url=f"https://dl.fbaipublicfiles.com/hiera/{stem}.pth",
                sha256=UNKNOWN,
            ),
        ),
        licence="CC-BY-NC-4.0",
        data="Kinetics-400, first as a masked autoencoder, then with labels",
        num_classes=400,
        labels="kinetics400",
        sampling=_SAMPLING,
        preprocess=_PREPROCESS,
        metrics=(
            Metric(
                name="top1",
                value=top1,
                dataset="kinetics400",
                split="validation",
                level="video",
                num_clips=5,
                num_crops=3,
                measured_by="the authors",
            ),
        ),
        note="The authors' notebook divides blue by 0.255, against the 0.225 of their loader.",
    )


@register_model(
    order="used",
    num_classes=7,
    sampling=replace(_SAMPLING, num_frames=4),
    preprocess=replace(_PREPROCESS, img_size=64, resize=64),
    layouts=_LAYOUTS,
)
def test_hiera(**kwargs: Any) -> Hiera:
    """Six narrow blocks, each with its own kind of attention or pooling, for tests."""
    return Hiera(8, 1, (1, 2, 2, 1), **kwargs)


@register_model(order="used", paper=_PAPER, weights=(_k400("base", 84.0),), layouts=_LAYOUTS)
def hiera_b(**kwargs: Any) -> Hiera:
    """Hiera, base: 24 blocks, width 96."""
    return Hiera(96, 1, **kwargs)


@register_model(order="used", paper=_PAPER, weights=(_k400("base_plus", 85.0),), layouts=_LAYOUTS)
def hiera_b_plus(**kwargs: Any) -> Hiera:
    """Hiera, between base and large: 24 blocks, width 112."""
    return Hiera(112, 2, **kwargs)


@register_model(order="used", paper=_PAPER, weights=(_k400("large", 87.3),), layouts=_LAYOUTS)
def hiera_l(**kwargs: Any) -> Hiera:
    """Hiera, large: 48 blocks, width 144."""
    return Hiera(144, 2, (2, 6, 36, 4), **kwargs)


@register_model(order="used", paper=_PAPER, weights=(_k400("huge", 87.8),), layouts=_LAYOUTS)
def hiera_h(**kwargs: Any) -> Hiera:
    """Hiera, huge: 48 blocks, width 256."""
    return Hiera(256, 4, (2, 6, 36, 4), **kwargs)
