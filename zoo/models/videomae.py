"""VideoMAE and VideoMAE V2: a plain ViT over all tubelets of a clip, pre-trained by masking.

Tong et al., "VideoMAE: Masked Autoencoders are Data-Efficient Learners for Self-Supervised Video
Pre-Training" (https://arxiv.org/abs/2203.12602), and Wang et al., "VideoMAE V2: Scaling Video
Masked Autoencoders with Dual Masking" (https://arxiv.org/abs/2303.16727). The references are
MCG-NJU/VideoMAE (CC-BY-NC-4.0) and OpenGVLab/VideoMAEv2 (MIT), which compute the same. One thing
differs: other clips than those of the weights get the table of the original grid, interpolated.
The references and transformers compute a new one, in which a place means something else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from converters import STACKED, KeyMap, Merge, Rule, resize_clip_table
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
from zoo.layers import DropPath, Mlp, PatchConv3d, make_classifier, split_heads
from zoo.models._notes import UNFILTERED, joined
from zoo.models._tokens import TokenModel

__all__ = [
    "Block",
    "VideoMAE",
    "sinusoid_table",
    "videomae_b",
    "videomae_h",
    "videomae_l",
    "videomae_s",
    "videomae_v2_b",
    "videomae_v2_g",
    "videomae_v2_s",
]

TUBELET = 2
"""Frames in a token, of every model that was published."""


class Attention(nn.Module):
    """Multi-head self-attention in which queries and values have a bias, and keys have none.

    Args:
        dim: Width D.
        num_heads: Heads; must divide D.
    """

    def __init__(self, dim: int, *, num_heads: int) -> None:
        super().__init__()
        if dim % num_heads:
            raise ValueError(f"{num_heads} heads do not divide a width of {dim}.")
        self.num_heads = num_heads
        self.qkv = nn.Linear(dim, 3 * dim, bias=False)
        self.q_bias = nn.Parameter(torch.zeros(dim))
        self.v_bias = nn.Parameter(torch.zeros(dim))
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, L, D) to (N, L, D)."""
        bias = torch.cat([self.q_bias, torch.zeros_like(self.q_bias), self.v_bias])  # (3*D,)
        q, k, v = split_heads(F.linear(x, self.qkv.weight, bias), self.num_heads)
        x = F.scaled_dot_product_attention(q, k, v)
        return self.proj(rearrange(x, "n h l d -> n l (h d)"))  # (N, L, D)


class Block(nn.Module):
    """A transformer block, normalised before each half.

    Args:
        dim: Width D.
        num_heads: Heads.
        mlp_ratio: Width of the hidden layer by D.
        drop_path_rate: Rate of stochastic depth.
    """

    def __init__(
        self, dim: int, *, num_heads: int, mlp_ratio: float, drop_path_rate: float = 0.0
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


class TubeletEmbed(nn.Module):
    """Cuts a clip into tubelets of two frames by a patch.

    Args:
        patch_size: Side of a patch, pixels.
        in_chans: Input channels C.
        embed_dim: Width D.
    """

    def __init__(self, patch_size: int, in_chans: int, embed_dim: int) -> None:
        super().__init__()
        size = (TUBELET, patch_size, patch_size)
        self.proj = PatchConv3d(in_chans, embed_dim, size)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, T, H, W) to (N, T'*H'*W', D)."""
        return rearrange(self.proj(x), "n d t h w -> n (t h w) d")


def sinusoid_table(length: int, dim: int) -> Tensor:
    """Sines at even and cosines at odd channels, over tokens counted through the whole clip.

    Returns:
        Positions, (1, L, D), float32.
    """
    place = torch.arange(length, dtype=torch.float64)[:, None]
    pair = torch.arange(dim, dtype=torch.float64).div(2, rounding_mode="floor")
    angle = place / 10000 ** (2 * pair / dim)  # (L, D)
    table = torch.where(torch.arange(dim) % 2 == 0, angle.sin(), angle.cos())
    return table.float().unsqueeze(0)


class VideoMAE(TokenModel):
    """A ViT over the tubelets of a clip, whose tokens are averaged, normalised and classified.

    Features are (N, T'*H'*W', D), time slowest, with no class token. The position table is no
    weight: it is computed, and for other clips than the native ones interpolated.

    Args:
        embed_dim: Width D.
        depth: Blocks.
        num_heads: Heads.
        patch_size: Side of a patch, pixels.
        mlp_ratio: Width of a hidden layer by D.
        num_classes: Classes K; 0 returns the pooled features.
        in_chans: Input channels C.
        num_frames: Frames T of a clip; even.
        img_size: Side of the pictures; the patches must divide it.
        native_frames: Frames of the clips that the table is computed for. Every published model
            was trained on the default; give what the reference was trained on for your own.
        native_size: Side of their pictures, likewise.
        drop_rate: Dropout before the classifier.
        drop_path_rate: Stochastic depth at the last block, rising linearly from 0.
    """

    stem_weights = ("patch_embed.proj.weight",)
    stem_names = ("patch_embed",)
    last_names = ("norm", "fc_norm")
    pos_embed: Tensor

    def __init__(
        self,
        embed_dim: int = 768,
        depth: int = 12,
        num_heads: int = 12,
        patch_size: int = 16,
        mlp_ratio: float = 4.0,
        *,
        num_classes: int = 400,
        in_chans: int = 3,
        num_frames: int = 16,
        img_size: int = 224,
        native_frames: int = 16,
        native_size: int = 224,
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
    ) -> None:
        super().__init__()
        self.in_chans, self.num_frames, self.img_size = in_chans, num_frames, img_size
        self.num_features, self.num_classes = embed_dim, num_classes
        self.patch_size = patch_size
        self.grid_size = _grid(num_frames, img_size, patch_size)
        self.native_grid_size = _grid(native_frames, native_size, patch_size)
        self.patch_embed = TubeletEmbed(patch_size, in_chans, embed_dim)
        self.register_buffer("pos_embed", self._positions(embed_dim), persistent=False)
        self.blocks = nn.ModuleList(
            Block(
                embed_dim,
                num_heads=num_heads,
                mlp_ratio=mlp_ratio,
                drop_path_rate=drop_path_rate * index / max(1, depth - 1),
            )
            for index in range(depth)
        )
        # Tokens stay as they are; what is normalised is their mean.
        self.norm: nn.Module = nn.Identity()
        self.fc_norm: nn.Module = nn.LayerNorm(embed_dim, eps=1e-6)
        self.drop = nn.Dropout(drop_rate)
        self.head = make_classifier(embed_dim, num_classes)
        self.feature_info = [
            {"num_chs": embed_dim, "reduction": patch_size, "module": f"blocks.{index}"}
            for index in range(depth)
        ]
        for module in self.blocks.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def _positions(self, dim: int) -> Tensor:
        """The table of the native grid, fitted to this model's, (1, T'*H'*W', D)."""
        t, h, w = self.native_grid_size
        table = sinusoid_table(t * h * w, dim)
        return resize_clip_table(table, old=self.native_grid_size, new=self.grid_size)

    def _embed(self, x: Tensor) -> Tensor:
        """Map clips (N, C, T, H, W) to tokens with their places, (N, T'*H'*W', D)."""
        self.check_clip(x)
        tokens = self.patch_embed(x)
        return tokens + self.pos_embed.to(tokens.dtype)

    def _maps(self, x: Tensor, level: int) -> Tensor:  # noqa: ARG002 -- all levels lie alike
        """Map tokens (N, T'*H'*W', D) to maps (N, D, T', H', W')."""
        t, h, _ = self.grid_size
        return rearrange(x, "n (t h w) d -> n d t h w", t=t, h=h)

    def _pool(self, x: Tensor) -> Tensor:
        """Average features (N, L, D) and normalise the mean, (N, D)."""
        pooled: Tensor = self.fc_norm(x.mean(dim=1))
        return pooled


def _grid(num_frames: int, img_size: int, patch_size: int) -> tuple[int, int, int]:
    """Tokens along time, height and width.

    Raises:
        ValueError: The tubelets do not divide the clip.
    """
    if num_frames % TUBELET:
        raise ValueError(
            f"num_frames={num_frames} is no multiple of the tubelet of {TUBELET} frames; give "
            f"{num_frames + 1} for instance."
        )
    if img_size % patch_size:
        raise ValueError(
            f"img_size={img_size} is no multiple of the patch of {patch_size} pixels; give "
            f"{max(1, img_size // patch_size) * patch_size} for instance."
        )
    side = img_size // patch_size
    return num_frames // TUBELET, side, side


def transformers_rules(layer: str, block: str) -> tuple[Rule | Merge, ...]:
    """What transformers calls the parts of a block.

    Its class has a bias in the layers of queries and values; the published files, which are
    older, keep the two beside the layers.

    Args:
        layer: Pattern of its layers.
        block: Pattern of our blocks.
    """
    inside = f"{layer}.attention.attention"
    return (
        Rule(f"{inside}.query.bias", f"{block}.attn.q_bias"),
        Rule(f"{inside}.value.bias", f"{block}.attn.v_bias"),
        Rule(f"{inside}.q_bias", f"{block}.attn.q_bias"),
        Rule(f"{inside}.v_bias", f"{block}.attn.v_bias"),
        Merge(
            tuple(f"{inside}.{part}.weight" for part in ("query", "key", "value")),
            f"{block}.attn.qkv.weight",
            STACKED,
        ),
        Rule(f"{layer}.attention.output.dense", f"{block}.attn.proj"),
        Rule(f"{layer}.layernorm_before", f"{block}.norm1"),
        Rule(f"{layer}.layernorm_after", f"{block}.norm2"),
        Rule(f"{layer}.intermediate.dense", f"{block}.mlp.fc1"),
        Rule(f"{layer}.output.dense", f"{block}.mlp.fc2"),
    )


TRANSFORMERS = KeyMap(
    (
        Rule("videomae.embeddings.patch_embeddings.projection", "patch_embed.proj"),
        *transformers_rules("videomae.encoder.layer.{i}", "blocks.{i}"),
        Rule("fc_norm", "fc_norm"),
        Rule("classifier", "head"),
    )
)
# The authors' names, of both versions; ours are the same.
VIDEOMAE = KeyMap(tuple(Rule(part, part) for part in ("patch_embed", "blocks", "fc_norm", "head")))


def _start(rules: Sequence[Rule | Merge], last_norm: str) -> KeyMap:
    """From a file of pre-training, where fine-tuning starts: the encoder without its last norm."""
    other = ("decoder", "encoder_to_decoder", "mask_token", "head")
    return KeyMap(
        rules,
        dropped={
            **dict.fromkeys(other, "it serves pre-training only"),
            last_norm: "it normalises tokens; the mean of tokens is normalised anew",
        },
        new={"fc_norm": "scale 1, bias 0", "head": "normal with deviation 0.01, bias 0"},
    )


_LAYOUTS = {
    "transformers": TRANSFORMERS,
    "videomae": VIDEOMAE,
    "transformers_pretraining": _start(TRANSFORMERS.rules[:-2], "videomae.layernorm"),
    "videomae_pretraining": _start((Rule("encoder.{part}", "{part}"),), "encoder.norm"),
    "zoo_pretraining": _start(VIDEOMAE.rules[:2], "norm"),
}

PAPER = Paper(
    title="VideoMAE: Masked Autoencoders are Data-Efficient Learners for Self-Supervised Video "
    "Pre-Training",
    url="https://arxiv.org/abs/2203.12602",
    year=2022,
)
_PAPER_V2 = Paper(
    title="VideoMAE V2: Scaling Video Masked Autoencoders with Dual Masking",
    url="https://arxiv.org/abs/2303.16727",
    year=2023,
)
# The windows are 4 of the video's own frames apart, whatever their rate; probabilities are
# averaged. On Something-Something two clips interleave over the whole video.
DENSE = Sampling(
    rule="dense",
    num_frames=16,
    frame_stride=4,
    fps=None,
    num_clips=5,
    num_crops=3,
    average="probabilities",
)
SPARSE = Sampling(
    rule="uniform",
    num_frames=16,
    frame_stride=1,
    fps=None,
    num_clips=2,
    num_crops=3,
    average="probabilities",
)
# The test code resizes with OpenCV, which does not widen the filter.
PREPROCESS = Preprocess(
    img_size=224,
    resize=224,
    interpolation="bilinear",
    antialias=False,
    mean=(0.485, 0.456, 0.406),
    std=(0.229, 0.224, 0.225),
)
# Name of the data, for metrics too, number of classes, frames, part it was tested on.
_DATA = {
    "k400": ("Kinetics-400", "kinetics400", 400, DENSE, "validation"),
    "k710": ("Kinetics-710", "kinetics710", 710, DENSE, "validation"),
    "ssv2": ("Something-Something V2", "something_something_v2", 174, SPARSE, "validation"),
    "ucf101": ("UCF101", "ucf101", 101, DENSE, "test, which of the three is not stated"),
}
# The authors number the classes of UCF101 in files that they do not give.
_LABELS = {
    "k400": "kinetics400",
    "k710": "kinetics710_videomaev2",
    "ssv2": "something_something_v2",
}


def drive(file: str) -> UpstreamSource:
    """A file that the authors offer at a page of Google Drive, in their own layout."""
    return UpstreamSource(
        layout="videomae",
        filename="checkpoint.pth",
        url=f"https://drive.google.com/file/d/{file}/view?usp=sharing",
        sha256=UNKNOWN,
    )


def hub(
    repo_id: str,
    sha256: str = "",
    *,
    filename: str = "pytorch_model.bin",
    layout: str = "transformers",
) -> UpstreamSource:
    """A file of the Hub; of its hash the first digits are published, if any."""
    return UpstreamSource(
        layout=layout,
        repo_id=repo_id,
        filename=filename,
        revision=UNKNOWN,
        sha256=sha256 or UNKNOWN,
    )


def _trained(
    tag: str,
    *sources: UpstreamSource,
    top: tuple[float, ...],
    mapped: Mapping[str, float] | None = None,
    licence: str = "CC-BY-NC-4.0",
    trained_on: str = "{}, first as a masked autoencoder, then with labels",
    note: str = "",
) -> Weights:
    """The record of a network that its authors fine-tuned on the data that the tag begins with.

    `top` is top-1 and, where published, top-5; `mapped` top-1 on other sets. `trained_on` has a
    place for the name of that data.
    """
    key = tag.partition("_")[0]
    data, dataset, num_classes, sampling, split = _DATA[key]
    figures = [(f"top{k}", value, dataset, "") for k, value in zip((1, 5), top, strict=False)]
    figures += [("top1", value, other, _MAPPED) for other, value in (mapped or {}).items()]
    return Weights(
        tag=tag,
        source=sources[0],
        licence=licence,
        data=trained_on.format(data),
        num_classes=num_classes,
        labels=_LABELS.get(key),
        sampling=sampling,
        preprocess=PREPROCESS,
        metrics=tuple(
            Metric(
                name=name,
                value=value,
                dataset=where,
                split=split,
                level="video",
                num_clips=sampling.num_clips,
                num_crops=sampling.num_crops,
                measured_by="the authors",
                note=about,
            )
            for name, value, where, about in figures
        ),
        mirrors=sources[1:],
        note=joined(note, UNFILTERED if sources[0].layout == "transformers" else ""),
    )


def _v2(tag: str, filename: str, sha256: str, **facts: Any) -> Weights:
    source = hub("OpenGVLab/VideoMAE2", sha256, filename=filename, layout="videomae")
    return _trained(tag, source, licence="Apache-2.0", **facts)


_MAPPED = "its outputs mapped to these classes"
_SHORT = "Pre-trained for 800 epochs and fine-tuned without repeated augmentation."
_HALF = "Stored in half precision."
_DISTILLED = "{}, distilled from the ViT-g"
_HYBRID = "UnlabeledHybrid as a masked autoencoder, then {}"


@register_model(
    order="used",
    num_classes=7,
    sampling=DENSE,
    preprocess=replace(PREPROCESS, img_size=32, resize=32),
    layouts=_LAYOUTS,
)
def test_videomae(**kwargs: Any) -> VideoMAE:
    """Two narrow blocks over small pictures, for tests."""
    return VideoMAE(32, 2, 2, 8, **{"native_size": 32} | kwargs)


@register_model(
    order="used",
    num_classes=7,
    sampling=replace(DENSE, num_frames=8),
    preprocess=replace(PREPROCESS, img_size=28, resize=28),
    layouts=_LAYOUTS,
)
def test_videomae_v2(**kwargs: Any) -> VideoMAE:
    """Two narrow blocks with the patch and the hidden layers of the ViT-g, for tests."""
    return VideoMAE(
        44, 2, 2, 14, mlp_ratio=48 / 11, **{"native_frames": 8, "native_size": 28} | kwargs
    )


@register_model(
    order="used",
    paper=PAPER,
    weights=(
        _trained(
            "k400",
            hub("MCG-NJU/videomae-small-finetuned-kinetics"),
            drive("1ygjLRm1kvs9mwGsP3lLxUExhRo6TWnrx"),
            top=(79.0, 93.8),
        ),
        _trained(
            "ssv2",
            hub("MCG-NJU/videomae-small-finetuned-ssv2"),
            drive("1ajlMrT06jiiM-5YjNI2X_UFyzsuYbbtZ"),
            top=(66.8, 90.3),
        ),
    ),
    layouts=_LAYOUTS,
)
def videomae_s(**kwargs: Any) -> VideoMAE:
    """ViT-S/16 with 6 heads over tubelets of two frames."""
    return VideoMAE(384, 12, 6, **kwargs)


@register_model(
    order="used",
    paper=PAPER,
    weights=(
        _trained(
            "k400",
            hub("MCG-NJU/videomae-base-finetuned-kinetics"),
            drive("1MzwteHH-1yuMnFb8vRBQDvngV1Zl-d3z"),
            top=(81.5, 95.1),
        ),
        _trained(
            "k400_e800",
            hub("MCG-NJU/videomae-base-short-finetuned-kinetics"),
            drive("18EEgdXY9347yK3Yb28O-GxFMbk41F6Ne"),
            top=(80.0, 94.4),
            note=_SHORT,
        ),
        _trained(
            "ssv2",
            hub("MCG-NJU/videomae-base-finetuned-ssv2", "b960dafd7b30"),
            drive("1dt_59tBIyzdZd5Ecr22lTtzs_64MOZkT"),
            top=(70.8, 92.4),
        ),
        _trained(
            "ssv2_e800",
            hub("MCG-NJU/videomae-base-short-finetuned-ssv2"),
            drive("1xZCiaPF4w7lYmLt5o1D5tIZyDdLtJAvH"),
            top=(69.6, 92.0),
            note=_SHORT,
        ),
        _trained(
            "ucf101",
            drive("1MSyon6fPpKz7oqD6WDGPFK4k_Rbyb6fw"),
            top=(91.3, 98.5),
            note="The order of its classes is not stated upstream.",
        ),
    ),
    layouts=_LAYOUTS,
)
def videomae_b(**kwargs: Any) -> VideoMAE:
    """ViT-B/16 over tubelets of two frames."""
    return VideoMAE(768, 12, 12, **kwargs)


@register_model(
    order="used",
    paper=PAPER,
    weights=(
        _trained(
            "k400",
            hub("MCG-NJU/videomae-large-finetuned-kinetics"),
            drive("1jX1CiqxSkCfc94y8FRW1YGHy-GNvHCuD"),
            top=(85.2, 96.8),
        ),
    ),
    layouts=_LAYOUTS,
)
def videomae_l(**kwargs: Any) -> VideoMAE:
    """ViT-L/16 over tubelets of two frames."""
    return VideoMAE(1024, 24, 16, **kwargs)


@register_model(
    order="used",
    paper=PAPER,
    weights=(
        _trained(
            "k400",
            hub("MCG-NJU/videomae-huge-finetuned-kinetics"),
            drive("104ouJZxSVPSAm0LwJXd6IzjdA_RGLqZi"),
            top=(86.6, 97.1),
        ),
    ),
    layouts=_LAYOUTS,
)
def videomae_h(**kwargs: Any) -> VideoMAE:
    """ViT-H/16 over tubelets of two frames."""
    return VideoMAE(1280, 32, 16, **kwargs)


@register_model(
    order="used",
    paper=_PAPER_V2,
    weights=(
        _v2(
            "k710",
            "distill/vit_s_k710_dl_from_giant.pth",
            "24fb71687fa3",
            trained_on=_DISTILLED,
            top=(77.6,),
            mapped={"kinetics400": 83.7, "kinetics600": 83.1},
        ),
    ),
    layouts=_LAYOUTS,
)
def videomae_v2_s(**kwargs: Any) -> VideoMAE:
    """ViT-S/16 of VideoMAE V2, taught by its ViT-g."""
    return VideoMAE(384, 12, 6, **kwargs)


@register_model(
    order="used",
    paper=_PAPER_V2,
    weights=(
        _v2(
            "k710",
            "distill/vit_b_k710_dl_from_giant.pth",
            "8141a6955e07",
            trained_on=_DISTILLED,
            top=(81.5,),
            mapped={"kinetics400": 86.6, "kinetics600": 85.9},
        ),
    ),
    layouts=_LAYOUTS,
)
def videomae_v2_b(**kwargs: Any) -> VideoMAE:
    """ViT-B/16 of VideoMAE V2, taught by its ViT-g."""
    return VideoMAE(768, 12, 12, **kwargs)


@register_model(
    order="used",
    paper=_PAPER_V2,
    weights=(
        _v2(
            "k710",
            "mae-g/vit_g_hybrid_pt_1200e_k710_ft.pth",
            "4c1b3fb76612",
            trained_on=_HYBRID,
            top=(83.8, 96.4),
            note=_HALF,
        ),
        _v2(
            "ssv2",
            "mae-g/vit_g_hybrid_pt_1200e_ssv2_ft.pth",
            "5a210a92f035",
            trained_on=_HYBRID,
            top=(77.0, 95.9),
            note=_HALF,
        ),
    ),
    layouts=_LAYOUTS,
)
def videomae_v2_g(**kwargs: Any) -> VideoMAE:
    """ViT-g/14 over tubelets of two frames."""
    return VideoMAE(1408, 40, 16, 14, mlp_ratio=48 / 11, **kwargs)
