"""ViViT: a transformer over tubelets, blocks of a few frames that are cut like patches.

Arnab et al., "ViViT: A Video Vision Transformer" (https://arxiv.org/abs/2103.15691). The reference
is google-research/scenic (projects/vivit, Apache-2.0), in Flax; transformers has the joint one.
`vivit_b` lets all tubelets attend to each other (Model 1). In the factorised encoder (Model 2) one
transformer works within each temporal position, and a second one over their class tokens.
GELU is the tanh approximation, Flax's default. Position tables are resampled from the grid they
were trained on (bicubic in space, linear in time); transformers' own resampling takes the table
for a square one of pictures.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from einops import rearrange
from torch import Tensor, nn

from converters import inflate_patch_embed, resize_spatial_table, resize_temporal_table
from registry import Paper, register_model
from zoo.layers import Attention, DropPath, Mlp, PatchConv3d, make_classifier
from zoo.models._base import run
from zoo.models._tokens import TokenModel
from zoo.models._vivit_weights import (
    K400,
    PREPROCESS,
    SAMPLING,
    TIMM_FACTORISED,
    TRANSFORMERS,
    TRANSFORMERS_V5,
    inflated,
    scenic,
    scenic_factorised,
)

if TYPE_CHECKING:
    from zoo.config import ModelConfig

__all__ = [
    "FactorisedViViT",
    "ViViT",
    "vivit_b",
    "vivit_b_factorised",
    "vivit_l_factorised",
]


class Block(nn.Module):
    """A transformer block over the second axis.

    Args:
        dim: Width D.
        num_heads: Heads.
        mlp_ratio: Width of the hidden layer by D.
        drop_path_rate: Rate of stochastic depth.
    """

    def __init__(
        self, dim: int, *, num_heads: int, mlp_ratio: float, drop_path_rate: float
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=1e-6)
        self.attn = Attention(dim, num_heads=num_heads)
        self.norm2 = nn.LayerNorm(dim, eps=1e-6)
        self.mlp = Mlp(dim, hidden_dim=int(dim * mlp_ratio))
        self.mlp.act = nn.GELU(approximate="tanh")
        self.drop_path = DropPath(drop_path_rate)
        # Xavier for every matrix, as the authors.
        for matrix in (*self.attn.qkv.weight.chunk(3), self.attn.proj.weight):
            nn.init.xavier_uniform_(matrix)
        for layer in (self.mlp.fc1, self.mlp.fc2):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.normal_(layer.bias, std=1e-6)
        nn.init.zeros_(self.attn.qkv.bias)
        nn.init.zeros_(self.attn.proj.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, L, D) to (N, L, D)."""
        x = x + self.drop_path(self.attn(self.norm1(x)))
        return x + self.drop_path(self.mlp(self.norm2(x)))


def _blocks(
    depth: int, dim: int, *, num_heads: int, mlp_ratio: float, drop_path_rate: float
) -> nn.ModuleList:
    """Blocks whose stochastic depth rises linearly from 0."""
    return nn.ModuleList(
        Block(
            dim,
            num_heads=num_heads,
            mlp_ratio=mlp_ratio,
            drop_path_rate=drop_path_rate * index / max(1, depth - 1),
        )
        for index in range(depth)
    )


class TubeletEmbed(nn.Module):
    """Cuts a clip into tubelets.

    Args:
        tubelet_size: Frames t of a tubelet.
        patch_size: Its side, pixels.
        in_chans: Input channels C.
        embed_dim: Width D.
    """

    def __init__(self, tubelet_size: int, patch_size: int, in_chans: int, embed_dim: int) -> None:
        super().__init__()
        size = (tubelet_size, patch_size, patch_size)
        self.proj = PatchConv3d(in_chans, embed_dim, size)
        # A tubelet looks at its middle frame alone at first, as the authors'.
        with torch.no_grad():
            kernel = torch.empty(embed_dim, in_chans, patch_size, patch_size)
            nn.init.trunc_normal_(kernel, std=kernel[0].numel() ** -0.5)
            self.proj.weight.copy_(
                inflate_patch_embed(kernel, num_frames=tubelet_size, mode="center")
            )

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, T, H, W) to (N, T', H'*W', D)."""
        return rearrange(self.proj(x), "n d t h w -> n t (h w) d")


class ViViT(TokenModel):
    """A transformer over the tubelets of the whole clip and one class token.

    Features are (N, 1 + T'*H'*W', D): the class token, then the tubelets with time slowest.

    Args:
        embed_dim: Width D.
        depth: Blocks.
        num_heads: Heads.
        patch_size: Side of a tubelet, pixels.
        tubelet_size: Frames of a tubelet; they must divide the clip.
        num_classes: Classes K; 0 returns the pooled features.
        in_chans: Input channels C.
        num_frames: Frames T of a clip.
        img_size: Side of the pictures; the patches must divide it.
        mlp_ratio: Width of the hidden layer by D.
        drop_rate: Dropout before the classifier.
        drop_path_rate: Stochastic depth at the last block, rising linearly from 0.
    """

    stem_weights = ("patch_embed.proj.weight",)
    num_prefix_tokens = 1

    def __init__(
        self,
        embed_dim: int = 768,
        depth: int = 12,
        num_heads: int = 12,
        patch_size: int = 16,
        tubelet_size: int = 2,
        *,
        num_classes: int = 400,
        in_chans: int = 3,
        num_frames: int = 32,
        img_size: int = 224,
        mlp_ratio: float = 4.0,
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
    ) -> None:
        super().__init__()
        for given, value, step, unit in (
            ("img_size", img_size, patch_size, "pixels"),
            ("num_frames", num_frames, tubelet_size, "frames"),
        ):
            if value % step:
                raise ValueError(
                    f"{given}={value} is no multiple of the tubelet's {step} {unit}; give "
                    f"{max(1, value // step) * step} for instance."
                )
        self.in_chans, self.num_frames, self.img_size = in_chans, num_frames, img_size
        self.num_features, self.num_classes = embed_dim, num_classes
        self.tubelet_size, self.patch_size = tubelet_size, patch_size
        # (T', H', W')
        side = img_size // patch_size
        self.grid_size = (num_frames // tubelet_size, side, side)
        self.patch_embed = TubeletEmbed(tubelet_size, patch_size, in_chans, embed_dim)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, embed_dim))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + self._places(), embed_dim))
        self.blocks = _blocks(
            depth,
            embed_dim,
            num_heads=num_heads,
            mlp_ratio=mlp_ratio,
            drop_path_rate=drop_path_rate,
        )
        self.norm = nn.LayerNorm(embed_dim, eps=1e-6)
        self.drop = nn.Dropout(drop_rate)
        self.head = make_classifier(embed_dim, num_classes)
        self.feature_info = [
            {"num_chs": embed_dim, "reduction": patch_size, "module": f"blocks.{index}"}
            for index in range(depth)
        ]
        nn.init.normal_(self.pos_embed, std=0.02)

    def _places(self) -> int:
        """Tubelets in the first table."""
        return math.prod(self.grid_size)

    def _embed(self, x: Tensor) -> Tensor:
        """Map clips (N, C, T, H, W) to sequences of tokens for `blocks`, (N, L, D)."""
        tubelets = rearrange(self._cut(x), "n t l d -> n (t l) d")
        token = self.cls_token.expand(tubelets.shape[0], -1, -1)
        return torch.cat([token, tubelets], dim=1) + self.pos_embed

    def _cut(self, x: Tensor) -> Tensor:
        """Map clips (N, C, T, H, W) to tubelets (N, T', H'*W', D)."""
        self.check_clip(x)
        tubelets: Tensor = self.patch_embed(x)
        return tubelets

    def _maps(self, x: Tensor, level: int) -> Tensor:  # noqa: ARG002 -- all levels lie alike
        """Map what a block returns to maps without class tokens, (N, D, T', H', W')."""
        t, h, _ = self.grid_size
        return rearrange(x[:, 1:], "n (t h w) d -> n d t h w", t=t, h=h)

    def no_weight_decay(self) -> set[str]:
        """The tables and the class token."""
        return {"pos_embed", "cls_token"}

    def infer_arguments(self, state: Mapping[str, Tensor]) -> dict[str, int]:
        """See `VideoModel.infer_arguments`.

        One table over space and time does not tell its frames from its size: where it has other
        places than this model, either its size or its frames are taken to be this model's.

        Raises:
            ValueError: Both would fit, or neither.
        """
        found = super().infer_arguments(state)
        t, h, w = self.grid_size
        places = state["pos_embed"].shape[1] - 1
        frames, rest = divmod(places, h * w)
        side = math.isqrt(places // t)
        fits_frames, fits_size = rest == 0 and frames > 0, t * side * side == places > 0
        if places != t * h * w and fits_frames == fits_size:
            raise ValueError(
                f"pos_embed has {places} places, and does not tell how many frames and which size "
                f"they are of; save the model with its record, zoo.save."
            )
        found["num_frames"] = self.tubelet_size * (frames if fits_frames else t)
        found["img_size"] = self.patch_size * (side if not fits_frames else h)
        return found

    def resize_positions(self, state: dict[str, Tensor], *, trained: ModelConfig) -> None:
        """Resample the table from the trained grid and frames to this model's."""
        old_t, old_side = self._trained_grid(trained)
        if (old_t, old_side, old_side) == tuple(self.grid_size):
            return
        table = state["pos_embed"]
        # Space with the moments as channels, then time with the places as channels.
        maps = rearrange(table[:, 1:], "1 (t l) d -> 1 l (t d)", t=old_t)
        maps = resize_spatial_table(
            maps, old=(old_side, old_side), new=self.grid_size[1:], num_prefix_tokens=0
        )
        lines = rearrange(maps, "1 l (t d) -> 1 t (l d)", t=old_t)
        lines = resize_temporal_table(lines, num_frames=self.grid_size[0])
        places = rearrange(lines, "1 t (l d) -> 1 (t l) d", d=table.shape[2])
        state["pos_embed"] = torch.cat([table[:, :1], places], dim=1)  # (1, 1 + T'*H'*W', D)

    def _trained_grid(self, trained: ModelConfig) -> tuple[int, int]:
        """Temporal positions and side of the grid that weights were trained on."""
        num_frames, img_size = trained.arguments["num_frames"], trained.arguments["img_size"]
        assert isinstance(num_frames, int)
        assert isinstance(img_size, int)
        return num_frames // self.tubelet_size, img_size // self.patch_size


class FactorisedViViT(ViViT):
    """One transformer over the tubelets of each temporal position, one over their class tokens.

    Features are (N, 1 + T'*H'*W', D): the class token of the second, then the tubelets as the
    first leaves them, time slowest.

    Args:
        embed_dim: Width D.
        depth: Blocks over space.
        num_heads: Heads.
        patch_size: Side of a tubelet, pixels.
        tubelet_size: Frames of a tubelet; they must divide the clip.
        temporal_depth: Blocks over time.
        num_classes: Classes K; 0 returns the pooled features.
        in_chans: Input channels C.
        num_frames: Frames T of a clip.
        img_size: Side of the pictures; the patches must divide it.
        mlp_ratio: Width of the hidden layer by D.
        drop_rate: Dropout before the classifier.
        drop_path_rate: Stochastic depth at the last block of each, rising linearly from 0.
    """

    def __init__(
        self,
        embed_dim: int = 768,
        depth: int = 12,
        num_heads: int = 12,
        patch_size: int = 16,
        tubelet_size: int = 2,
        temporal_depth: int = 4,
        *,
        num_classes: int = 400,
        in_chans: int = 3,
        num_frames: int = 32,
        img_size: int = 224,
        mlp_ratio: float = 4.0,
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
    ) -> None:
        super().__init__(
            embed_dim,
            depth,
            num_heads,
            patch_size,
            tubelet_size,
            num_classes=num_classes,
            in_chans=in_chans,
            num_frames=num_frames,
            img_size=img_size,
            mlp_ratio=mlp_ratio,
            drop_rate=drop_rate,
            drop_path_rate=drop_path_rate,
        )
        moments = self.grid_size[0]
        self.temporal_cls_token = nn.Parameter(torch.zeros(1, 1, embed_dim))
        self.temporal_pos_embed = nn.Parameter(torch.zeros(1, 1 + moments, embed_dim))
        self.temporal_blocks = _blocks(
            temporal_depth,
            embed_dim,
            num_heads=num_heads,
            mlp_ratio=mlp_ratio,
            drop_path_rate=drop_path_rate,
        )
        self.temporal_norm = nn.LayerNorm(embed_dim, eps=1e-6)
        nn.init.normal_(self.temporal_pos_embed, std=0.02)

    def _places(self) -> int:
        """Tubelets of one temporal position: the first table is one over space."""
        return self.grid_size[1] * self.grid_size[2]

    def _embed(self, x: Tensor) -> Tensor:
        """Map clips (N, C, T, H, W) to sequences of one temporal position each, (N*T', L, D)."""
        tubelets = rearrange(self._cut(x), "n t l d -> (n t) l d")
        token = self.cls_token.expand(tubelets.shape[0], -1, -1)
        return torch.cat([token, tubelets], dim=1) + self.pos_embed

    def _features(self, x: Tensor) -> Tensor:
        """Map what `blocks` returns, (N*T', L, D), to features (N, 1 + T'*H'*W', D)."""
        x = rearrange(self.norm(x), "(n t) l d -> n t l d", t=self.grid_size[0])
        token = self.temporal_cls_token.expand(x.shape[0], -1, -1)
        moments = torch.cat([token, x[:, :, 0]], dim=1) + self.temporal_pos_embed  # (N, 1+T', D)
        for block in self.temporal_blocks:
            moments = run(block, moments, checkpointed=self.grad_checkpointing)
        moments = self.temporal_norm(moments)
        tubelets = rearrange(x[:, :, 1:], "n t l d -> n (t l) d")
        return torch.cat([moments[:, :1], tubelets], dim=1)

    def _maps(self, x: Tensor, level: int) -> Tensor:  # noqa: ARG002 -- all levels lie alike
        """Map what a block over space returns, (N*T', L, D), to maps (N, D, T', H', W')."""
        t, h, _ = self.grid_size
        return rearrange(x[:, 1:], "(n t) (h w) d -> n d t h w", t=t, h=h)

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """As for `ViViT`, the blocks over time behind those over space."""
        last = (len(self.temporal_blocks),)
        return {
            **super().group_matcher(coarse),
            "temporal": [
                (r"^temporal_(?:cls_token|pos_embed)", (0,)),
                (r"^temporal_blocks\.(\d+)", None),
                (r"^temporal_norm", last),
            ],
        }

    def no_weight_decay(self) -> set[str]:
        """The tables and the class tokens."""
        return super().no_weight_decay() | {"temporal_pos_embed", "temporal_cls_token"}

    def infer_arguments(self, state: Mapping[str, Tensor]) -> dict[str, int]:
        """See `VideoModel.infer_arguments`; a table a side tells frames and size."""
        found = TokenModel.infer_arguments(self, state)
        found["img_size"] = math.isqrt(state["pos_embed"].shape[1] - 1) * self.patch_size
        if "temporal_pos_embed" in state:
            moments = state["temporal_pos_embed"].shape[1] - 1
            found["num_frames"] = moments * self.tubelet_size
        return found

    def resize_positions(self, state: dict[str, Tensor], *, trained: ModelConfig) -> None:
        """Resample the tables from the trained grid and frames to this model's."""
        side = self._trained_grid(trained)[1]
        state["pos_embed"] = resize_spatial_table(
            state["pos_embed"], old=(side, side), new=self.grid_size[1:], num_prefix_tokens=1
        )
        if "temporal_pos_embed" in state:
            table = state["temporal_pos_embed"]
            moments = resize_temporal_table(table[:, 1:], num_frames=self.grid_size[0])
            state["temporal_pos_embed"] = torch.cat([table[:, :1], moments], dim=1)


_PAPER = Paper(
    title="ViViT: A Video Vision Transformer", url="https://arxiv.org/abs/2103.15691", year=2021
)
_TINY: dict[str, Any] = {
    "num_classes": 7,
    "sampling": replace(SAMPLING, num_frames=8),
    "preprocess": replace(PREPROCESS, img_size=32, resize=36),
}


@register_model(
    order="used",
    layouts={
        "transformers": TRANSFORMERS,
        "transformers_v5": TRANSFORMERS_V5,
        "scenic": scenic(depth=2, num_heads=2),
    },
    **_TINY,
)
def test_vivit(**kwargs: Any) -> ViViT:
    """Joint attention over tubelets, two narrow blocks, for tests."""
    return ViViT(32, 2, 2, 8, **kwargs)


@register_model(
    order="used",
    layouts={
        "scenic": scenic_factorised(depth=2, temporal_depth=2, num_heads=2),
        "timm": TIMM_FACTORISED,
    },
    **_TINY,
)
def test_vivit_factorised(**kwargs: Any) -> FactorisedViViT:
    """Factorised encoder, two narrow blocks over space and two over time, for tests."""
    return FactorisedViViT(32, 2, 2, 8, temporal_depth=2, **kwargs)


@register_model(
    order="used",
    paper=_PAPER,
    weights=(K400,),
    layouts={
        "transformers": TRANSFORMERS,
        "transformers_v5": TRANSFORMERS_V5,
        "scenic": scenic(depth=12, num_heads=12),
    },
)
def vivit_b(**kwargs: Any) -> ViViT:
    """ViT-B over tubelets of 2x16x16, all attending to each other (Model 1)."""
    return ViViT(**kwargs)


@register_model(
    order="used",
    paper=_PAPER,
    num_classes=400,
    weights=(inflated("vit_base_patch16_224.augreg_in21k"),),
    layouts={
        "scenic": scenic_factorised(depth=12, temporal_depth=4, num_heads=12),
        "timm": TIMM_FACTORISED,
    },
)
def vivit_b_factorised(**kwargs: Any) -> FactorisedViViT:
    """ViT-B within each temporal position, four blocks over time (Model 2)."""
    return FactorisedViViT(**kwargs)


@register_model(
    order="used",
    paper=_PAPER,
    num_classes=400,
    weights=(inflated("vit_large_patch16_224.augreg_in21k"),),
    layouts={
        "scenic": scenic_factorised(depth=24, temporal_depth=24, num_heads=16),
        "timm": TIMM_FACTORISED,
    },
)
def vivit_l_factorised(**kwargs: Any) -> FactorisedViViT:
    """ViT-L within each temporal position, 24 blocks over time (Model 2)."""
    return FactorisedViViT(1024, 24, 16, temporal_depth=24, **kwargs)
