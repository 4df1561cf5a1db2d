"""TimeSformer: a ViT over space and time, with four patterns of attention.

Bertasius et al., "Is Space-Time Attention All You Need for Video Understanding?"
(https://arxiv.org/abs/2102.05095). The reference is facebookresearch/TimeSformer (CC-BY-NC-4.0);
`divided`, `joint` and `space` compute what it computes. `factorised` is ours: after each spatial
block, which keeps its picture weights, a block over time. Two things differ on purpose: features
put time slowest for every pattern, and position tables are resampled from the grid they were
trained on (bicubic in space, linear in time; the reference takes the nearest).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypedDict

import torch
from einops import rearrange, repeat
from torch import Tensor, nn

from converters import KeyMap, Rule, resize_spatial_table, resize_temporal_table
from registry import Paper, register_model
from zoo.layers import Attention, DropPath, Mlp, PatchConv2d, make_classifier
from zoo.models._timesformer_weights import (
    DIVIDED,
    DIVIDED_HR,
    DIVIDED_L,
    IN21K_INFLATED,
    PREPROCESS,
    SAMPLING,
)
from zoo.models._tokens import TokenModel

if TYPE_CHECKING:
    from zoo.config import ModelConfig

__all__ = [
    "TimeSformer",
    "timesformer_divided",
    "timesformer_divided_hr",
    "timesformer_divided_l",
    "timesformer_factorised",
    "timesformer_joint",
    "timesformer_space",
]

Pattern: TypeAlias = Literal["space", "joint", "divided", "factorised"]


class BlockOptions(TypedDict):
    """What every kind of block takes beside its width."""

    num_heads: int
    mlp_ratio: float
    drop_path_rate: float


class Block(nn.Module):
    """A transformer block that attends over the second axis.

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
        self.drop_path = DropPath(drop_path_rate)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, L, D) to (N, L, D)."""
        x = x + self.drop_path(self.attn(self.norm1(x)))
        return x + self.drop_path(self.mlp(self.norm2(x)))


class SpaceBlock(Block):
    """A block within each frame, over its class token and patches."""

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, T, L, D) to (N, T, L, D)."""
        frames = super().forward(rearrange(x, "n t l d -> (n t) l d"))
        return rearrange(frames, "(n t) l d -> n t l d", t=x.shape[1])


class JointBlock(Block):
    """A block over one class token and the patches of all frames together."""

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, T, L, D) to (N, T, L, D); the class token stands in each frame's first row."""
        t = x.shape[1]
        tokens = torch.cat([x[:, 0, :1], rearrange(x[:, :, 1:], "n t l d -> n (t l) d")], dim=1)
        tokens = super().forward(tokens)  # (N, 1 + T*(L-1), D)
        patches = rearrange(tokens[:, 1:], "n (t l) d -> n t l d", t=t)
        return torch.cat([repeat(tokens[:, :1], "n 1 d -> n t 1 d", t=t), patches], dim=2)


class DividedBlock(Block):
    """Attention over time for each place, then over space for each frame.

    The class token takes no part over time; over space each frame attends with a copy of it, and
    the copies' updates are averaged. `temporal_fc` starts at zero: at first the block is a ViT's.
    """

    def __init__(
        self, dim: int, *, num_heads: int, mlp_ratio: float, drop_path_rate: float
    ) -> None:
        super().__init__(
            dim, num_heads=num_heads, mlp_ratio=mlp_ratio, drop_path_rate=drop_path_rate
        )
        self.temporal_norm1 = nn.LayerNorm(dim, eps=1e-6)
        self.temporal_attn = Attention(dim, num_heads=num_heads)
        self.temporal_fc = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, T, L, D) to (N, T, L, D); the class token stands in each frame's first row."""
        n, t = x.shape[:2]
        lines = rearrange(x[:, :, 1:], "n t l d -> (n l) t d")
        lines = self.drop_path(self.temporal_attn(self.temporal_norm1(lines)))
        over_time = rearrange(self.temporal_fc(lines), "(n l) t d -> n t l d", n=n)
        x = torch.cat([x[:, :, :1], x[:, :, 1:] + over_time], dim=2)  # (N, T, L, D)
        frames = rearrange(x, "n t l d -> (n t) l d")
        update = self.drop_path(self.attn(self.norm1(frames)))
        over_space = rearrange(update, "(n t) l d -> n t l d", t=t)
        shared = over_space[:, :, :1].mean(dim=1, keepdim=True).expand(-1, t, -1, -1)
        x = x + torch.cat([shared, over_space[:, :, 1:]], dim=2)
        return x + self.drop_path(self.mlp(self.norm2(x)))


class FactorisedBlock(nn.Module):
    """A whole block within each frame, then a whole block over time for each token.

    The two output layers of the block over time start at zero: at first it changes nothing.
    """

    def __init__(
        self, dim: int, *, num_heads: int, mlp_ratio: float, drop_path_rate: float
    ) -> None:
        super().__init__()
        options = BlockOptions(
            num_heads=num_heads, mlp_ratio=mlp_ratio, drop_path_rate=drop_path_rate
        )
        self.spatial = SpaceBlock(dim, **options)
        self.temporal = Block(dim, **options)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, T, L, D) to (N, T, L, D)."""
        x = self.spatial(x)
        lines = self.temporal(rearrange(x, "n t l d -> (n l) t d"))
        return rearrange(lines, "(n l) t d -> n t l d", n=x.shape[0])


_BLOCKS: dict[Pattern, type[nn.Module]] = {
    "space": SpaceBlock,
    "joint": JointBlock,
    "divided": DividedBlock,
    "factorised": FactorisedBlock,
}


class PatchEmbed(nn.Module):
    """Cuts each frame into patches.

    Args:
        patch_size: Side of a patch, pixels.
        in_chans: Input channels C.
        embed_dim: Width D.
    """

    def __init__(self, patch_size: int, in_chans: int, embed_dim: int) -> None:
        super().__init__()
        self.proj = PatchConv2d(in_chans, embed_dim, patch_size)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, T, H, W) to (N, T, L, D)."""
        maps = self.proj(rearrange(x, "n c t h w -> (n t) c h w"))
        return rearrange(maps, "(n t) d h w -> n t (h w) d", t=x.shape[2])


class TimeSformer(TokenModel):
    """A ViT over the patches of all frames.

    Features are (N, 1 + T*H'*W', D): the class token, then the patches with time slowest. Where
    each frame has a class token of its own, features hold their mean.

    Args:
        pattern: Which tokens attend to which.
        embed_dim: Width D.
        depth: Blocks.
        num_heads: Heads.
        patch_size: Side of a patch, pixels.
        num_classes: Classes K; 0 returns the pooled features.
        in_chans: Input channels C.
        num_frames: Frames T of a clip.
        img_size: Side of the pictures; the patches must divide it.
        mlp_ratio: Width of the hidden layer by D.
        drop_rate: Dropout before the classifier.
        drop_path_rate: Stochastic depth at the last block, rising linearly from 0.
    """

    stem_weights = ("patch_embed.proj.weight",)
    stem_names = ("cls_token", "pos_embed", "time_embed", "patch_embed")
    num_prefix_tokens = 1

    def __init__(
        self,
        pattern: Pattern,
        embed_dim: int = 768,
        depth: int = 12,
        num_heads: int = 12,
        patch_size: int = 16,
        *,
        num_classes: int = 400,
        in_chans: int = 3,
        num_frames: int = 8,
        img_size: int = 224,
        mlp_ratio: float = 4.0,
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
    ) -> None:
        super().__init__()
        if img_size % patch_size:
            raise ValueError(
                f"img_size={img_size} is no multiple of the patch of {patch_size} pixels; give "
                f"{max(1, img_size // patch_size) * patch_size} for instance."
            )
        self.pattern = pattern
        self.in_chans, self.num_frames, self.img_size = in_chans, num_frames, img_size
        self.num_features, self.num_classes = embed_dim, num_classes
        self.grid_size = (img_size // patch_size, img_size // patch_size)
        self.patch_embed = PatchEmbed(patch_size, in_chans, embed_dim)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, embed_dim))
        places = 1 + self.grid_size[0] * self.grid_size[1]
        self.pos_embed = nn.Parameter(torch.zeros(1, places, embed_dim))
        if pattern != "space":
            self.time_embed = nn.Parameter(torch.zeros(1, num_frames, embed_dim))
        self.blocks = nn.ModuleList(
            _BLOCKS[pattern](
                embed_dim,
                num_heads=num_heads,
                mlp_ratio=mlp_ratio,
                drop_path_rate=drop_path_rate * index / max(1, depth - 1),
            )
            for index in range(depth)
        )
        self.norm = nn.LayerNorm(embed_dim, eps=1e-6)
        self.drop = nn.Dropout(drop_rate)
        self.head = make_classifier(embed_dim, num_classes)
        self.feature_info = [
            {"num_chs": embed_dim, "reduction": patch_size, "module": f"blocks.{index}"}
            for index in range(depth)
        ]
        self._initialise()

    def _initialise(self) -> None:
        """Truncated normal for weights and tables, zero for what must change nothing at first."""
        for module in self.blocks.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)
        nn.init.trunc_normal_(self.pos_embed, std=0.02)
        nn.init.trunc_normal_(self.cls_token, std=0.02)
        for block in self.blocks:
            if isinstance(block, DividedBlock):
                _zero(block.temporal_fc)
            elif isinstance(block, FactorisedBlock):
                _zero(block.temporal.attn.proj)
                _zero(block.temporal.mlp.fc2)

    def _embed(self, x: Tensor) -> Tensor:
        """Map clips (N, C, T, H, W) to tokens (N, T, 1 + H'*W', D), a class token a frame."""
        self.check_clip(x)
        patches = self.patch_embed(x) + self.pos_embed[:, None, 1:]  # (N, T, L, D)
        if self.pattern != "space":
            patches = patches + self.time_embed[:, :, None]
        n, t = patches.shape[:2]
        token = (self.cls_token + self.pos_embed[:, :1]).expand(n, t, 1, -1)
        return torch.cat([token, patches], dim=2)

    def _features(self, x: Tensor) -> Tensor:
        """Map tokens (N, T, L, D) to normalised features (N, 1 + T*(L-1), D)."""
        # The class tokens of the frames are equal but for `space` and `factorised`. The reference
        # averages before the final normalisation.
        tokens = torch.cat(
            [x[:, :, 0].mean(dim=1, keepdim=True), rearrange(x[:, :, 1:], "n t l d -> n (t l) d")],
            dim=1,
        )
        normalised: Tensor = self.norm(tokens)
        return normalised

    def _maps(self, x: Tensor, level: int) -> Tensor:  # noqa: ARG002 -- all levels lie alike
        """Map tokens (N, T, 1 + H'*W', D) to maps without class tokens, (N, D, T, H', W')."""
        return rearrange(x[:, :, 1:], "n t (h w) d -> n d t h w", h=self.grid_size[0])

    def no_weight_decay(self) -> set[str]:
        """The tables and the class token."""
        names = {"pos_embed", "cls_token", "time_embed"}
        return {name for name in names if hasattr(self, name)}

    def infer_arguments(self, state: Mapping[str, Tensor]) -> dict[str, int]:
        """See `VideoModel.infer_arguments`; the tables tell frames and size, a square one."""
        patch = self.patch_embed.proj.kernel_size[0]
        found = super().infer_arguments(state)
        found["img_size"] = math.isqrt(state["pos_embed"].shape[1] - 1) * patch
        if "time_embed" in state:
            found["num_frames"] = state["time_embed"].shape[1]
        return found

    def resize_positions(self, state: dict[str, Tensor], *, trained: ModelConfig) -> None:
        """Resample the tables from the trained grid and frames to this model's."""
        assert isinstance(trained.arguments["img_size"], int)
        patch = self.patch_embed.proj.kernel_size[0]
        side = trained.arguments["img_size"] // patch
        state["pos_embed"] = resize_spatial_table(
            state["pos_embed"], old=(side, side), new=self.grid_size, num_prefix_tokens=1
        )
        if "time_embed" in state:
            state["time_embed"] = resize_temporal_table(
                state["time_embed"], num_frames=self.num_frames
            )


def _zero(layer: nn.Linear) -> None:
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)


_HEAD = {"head": "normal with deviation 0.01, bias 0"}
_TABLES = (
    Rule("cls_token", "cls_token"),
    Rule("pos_embed", "pos_embed"),
    Rule("patch_embed", "patch_embed"),
    Rule("norm", "norm"),
)
_PICTURE_HEAD = {"head": "it names the classes of pictures"}
TIMM_SPACE = KeyMap((*_TABLES, Rule("blocks", "blocks")), dropped=_PICTURE_HEAD, new=_HEAD)
TIMM_JOINT = replace(TIMM_SPACE, new=_HEAD | {"time_embed": "zero"})
TIMM_DIVIDED = KeyMap(
    (
        *_TABLES,
        # As the authors start from a ViT: attention over time is a copy of that over space.
        Rule("blocks.{i}.attn", "blocks.{i}.attn", copies=("blocks.{i}.temporal_attn",)),
        Rule("blocks.{i}.norm1", "blocks.{i}.norm1", copies=("blocks.{i}.temporal_norm1",)),
        Rule("blocks", "blocks"),
    ),
    dropped=_PICTURE_HEAD,
    new=_HEAD | {"time_embed": "zero", "blocks.{i}.temporal_fc": "zero"},
)
TIMM_FACTORISED = KeyMap(
    (*_TABLES, Rule("blocks.{i}", "blocks.{i}.spatial")),
    dropped=_PICTURE_HEAD,
    new=_HEAD
    | {
        "time_embed": "zero",
        "blocks.{i}.temporal": "truncated normal, its two output layers zero",
    },
)
# The authors' own files, `model_state` with `model.` before every key.
TIMESFORMER = KeyMap((Rule("model.{part}", "{part}"),))
_HF, _LAYER = "timesformer.embeddings", "timesformer.encoder.layer.{i}"
_TRANSFORMERS_COMMON = (
    Rule(f"{_HF}.cls_token", "cls_token"),
    Rule(f"{_HF}.position_embeddings", "pos_embed"),
    Rule(f"{_HF}.time_embeddings", "time_embed"),
    Rule(f"{_HF}.patch_embeddings.projection", "patch_embed.proj"),
    Rule(f"{_LAYER}.layernorm_before", "blocks.{i}.norm1"),
    Rule(f"{_LAYER}.layernorm_after", "blocks.{i}.norm2"),
    Rule(f"{_LAYER}.attention.attention.qkv", "blocks.{i}.attn.qkv"),
    Rule(f"{_LAYER}.attention.output.dense", "blocks.{i}.attn.proj"),
    Rule(f"{_LAYER}.intermediate.dense", "blocks.{i}.mlp.fc1"),
    Rule(f"{_LAYER}.output.dense", "blocks.{i}.mlp.fc2"),
    Rule("timesformer.layernorm", "norm"),
    Rule("classifier", "head"),
)
TRANSFORMERS = KeyMap(
    (
        *_TRANSFORMERS_COMMON,
        Rule(f"{_LAYER}.temporal_layernorm", "blocks.{i}.temporal_norm1"),
        Rule(f"{_LAYER}.temporal_attention.attention.qkv", "blocks.{i}.temporal_attn.qkv"),
        Rule(f"{_LAYER}.temporal_attention.output.dense", "blocks.{i}.temporal_attn.proj"),
        Rule(f"{_LAYER}.temporal_dense", "blocks.{i}.temporal_fc"),
    )
)
TRANSFORMERS_JOINT = KeyMap(_TRANSFORMERS_COMMON)

_PAPER = Paper(
    title="Is Space-Time Attention All You Need for Video Understanding?",
    url="https://arxiv.org/abs/2102.05095",
    year=2021,
)
_DIVIDED_LAYOUTS = {
    "transformers": TRANSFORMERS,
    "timesformer": TIMESFORMER,
    "timm": TIMM_DIVIDED,
}
_JOINT_LAYOUTS = {
    "transformers": TRANSFORMERS_JOINT,
    "timesformer": TIMESFORMER,
    "timm": TIMM_JOINT,
}
_TINY: dict[str, Any] = {
    "num_classes": 7,
    "sampling": replace(SAMPLING, num_frames=4),
    "preprocess": replace(PREPROCESS, img_size=32, resize=32),
}


def _tiny(pattern: Pattern, kwargs: dict[str, Any]) -> TimeSformer:
    return TimeSformer(pattern, 32, 2, 2, 8, **kwargs)


@register_model(order="ignored", layouts={"timesformer": TIMESFORMER, "timm": TIMM_SPACE}, **_TINY)
def test_timesformer_space(**kwargs: Any) -> TimeSformer:
    """Attention within frames, two narrow blocks, for tests."""
    return _tiny("space", kwargs)


@register_model(order="used", layouts=_JOINT_LAYOUTS, **_TINY)
def test_timesformer_joint(**kwargs: Any) -> TimeSformer:
    """Joint attention, two narrow blocks, for tests."""
    return _tiny("joint", kwargs)


@register_model(order="used", layouts=_DIVIDED_LAYOUTS, **_TINY)
def test_timesformer_divided(**kwargs: Any) -> TimeSformer:
    """Divided attention, two narrow blocks, for tests."""
    return _tiny("divided", kwargs)


@register_model(order="used", layouts={"timm": TIMM_FACTORISED}, **_TINY)
def test_timesformer_factorised(**kwargs: Any) -> TimeSformer:
    """Factorised blocks, two narrow pairs, for tests."""
    return _tiny("factorised", kwargs)


@register_model(
    order="ignored",
    paper=_PAPER,
    num_classes=400,
    weights=(IN21K_INFLATED,),
    layouts={"timesformer": TIMESFORMER, "timm": TIMM_SPACE},
)
def timesformer_space(**kwargs: Any) -> TimeSformer:
    """ViT-B/16 within each frame, class tokens averaged over time."""
    return TimeSformer("space", **kwargs)


@register_model(
    order="used",
    paper=_PAPER,
    num_classes=400,
    weights=(IN21K_INFLATED,),
    layouts=_JOINT_LAYOUTS,
)
def timesformer_joint(**kwargs: Any) -> TimeSformer:
    """ViT-B/16 over the patches of all frames at once."""
    return TimeSformer("joint", **kwargs)


@register_model(
    order="used",
    paper=_PAPER,
    weights=DIVIDED,
    layouts=_DIVIDED_LAYOUTS,
)
def timesformer_divided(**kwargs: Any) -> TimeSformer:
    """ViT-B/16 with attention over time, then over space, in every block."""
    return TimeSformer("divided", **kwargs)


@register_model(
    order="used",
    paper=_PAPER,
    weights=DIVIDED_HR,
    layouts=_DIVIDED_LAYOUTS,
)
def timesformer_divided_hr(**kwargs: Any) -> TimeSformer:
    """timesformer_divided for 16 frames of 448 pixels."""
    return TimeSformer("divided", **kwargs)


@register_model(
    order="used",
    paper=_PAPER,
    weights=DIVIDED_L,
    layouts=_DIVIDED_LAYOUTS,
)
def timesformer_divided_l(**kwargs: Any) -> TimeSformer:
    """timesformer_divided for 96 frames (64 of Something-Something)."""
    return TimeSformer("divided", **kwargs)


@register_model(
    order="used",
    paper=_PAPER,
    num_classes=400,
    weights=(IN21K_INFLATED,),
    layouts={"timm": TIMM_FACTORISED},
)
def timesformer_factorised(**kwargs: Any) -> TimeSformer:
    """ViT-B/16 with a block over time after each block over space."""
    return TimeSformer("factorised", **kwargs)
