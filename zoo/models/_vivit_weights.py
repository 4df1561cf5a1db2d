"""What ViViT's weights are called elsewhere, and their records, apart from the family's file.

The layouts: transformers' files and modules, the parameters of google-research/scenic with `a/b/c`
written `a.b.c`, and timm's ViT as the transformer over space of a factorised encoder.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from einops import rearrange

from converters import STACKED, TRANSPOSED, Joint, KeyMap, Merge, Rule
from registry import (
    UNKNOWN,
    ImageSource,
    Metric,
    Preprocess,
    Sampling,
    UpstreamSource,
    Weights,
)
from zoo.models._notes import UNFILTERED, joined

__all__ = [
    "K400",
    "PREPROCESS",
    "SAMPLING",
    "TIMM_FACTORISED",
    "TRANSFORMERS",
    "TRANSFORMERS_V5",
    "inflated",
    "scenic",
    "scenic_factorised",
]

_HF = "vivit.embeddings"
_EMBEDDINGS = (
    Rule(f"{_HF}.cls_token", "cls_token"),
    Rule(f"{_HF}.position_embeddings", "pos_embed"),
    Rule(f"{_HF}.patch_embeddings.projection", "patch_embed.proj"),
    Rule("vivit.layernorm", "norm"),
    Rule("classifier", "head"),
)


def _transformers(layer: str, qkv: Sequence[str], proj: str, fc1: str, fc2: str) -> KeyMap:
    """The keys of transformers, by what one version or another calls the parts of a layer."""
    return KeyMap(
        (
            *_EMBEDDINGS,
            Merge(tuple(f"{layer}.{name}" for name in qkv), "blocks.{i}.attn.qkv", STACKED),
            Rule(f"{layer}.{proj}", "blocks.{i}.attn.proj"),
            Rule(f"{layer}.{fc1}", "blocks.{i}.mlp.fc1"),
            Rule(f"{layer}.{fc2}", "blocks.{i}.mlp.fc2"),
            Rule(f"{layer}.layernorm_before", "blocks.{i}.norm1"),
            Rule(f"{layer}.layernorm_after", "blocks.{i}.norm2"),
        )
    )


# As files on the Hub name them, which every version reads.
TRANSFORMERS = _transformers(
    "vivit.encoder.layer.{i}",
    [f"attention.attention.{name}" for name in ("query", "key", "value")],
    "attention.output.dense",
    "intermediate.dense",
    "output.dense",
)
# As the modules of transformers 5 name them.
TRANSFORMERS_V5 = _transformers(
    "vivit.layers.{i}",
    [f"attention.{name}_proj" for name in "qkv"],
    "attention.o_proj",
    "mlp.fc1",
    "mlp.fc2",
)

_KERNEL_3D = Joint(
    lambda parts: rearrange(parts[0], "t h w c d -> d c t h w"),
    lambda whole, _: (rearrange(whole, "d c t h w -> t h w c d"),),
)


def _heads(num_heads: int) -> dict[str, Joint]:
    """Flax keeps the heads of an attention apart: (D, heads, d), and (heads, d, D) for the last."""
    return {
        "qkv_kernel": Joint(
            lambda parts: torch.cat([rearrange(part, "i h d -> (h d) i") for part in parts]),
            lambda whole, _: rearrange(
                whole, "(three h d) i -> three i h d", three=3, h=num_heads
            ).unbind(),
        ),
        "qkv_bias": Joint(
            lambda parts: torch.cat([rearrange(part, "h d -> (h d)") for part in parts]),
            lambda whole, _: rearrange(
                whole, "(three h d) -> three h d", three=3, h=num_heads
            ).unbind(),
        ),
        "out_kernel": Joint(
            lambda parts: rearrange(parts[0], "h d o -> o (h d)"),
            lambda whole, _: (rearrange(whole, "o (h d) -> h d o", h=num_heads),),
        ),
    }


def _flax_encoder(flax: str, ours: str, *, depth: int, num_heads: int) -> list[Rule | Merge]:
    """Rules for one transformer of scenic, `a/b/c` written `a.b.c`."""
    joints = _heads(num_heads)
    rules: list[Rule | Merge] = [
        Rule(f"{flax}.posembed_input.pos_embedding", f"{ours}pos_embed"),
        Rule(f"{flax}.encoder_norm.scale", f"{ours}norm.weight"),
        Rule(f"{flax}.encoder_norm.bias", f"{ours}norm.bias"),
    ]
    for index in range(depth):
        # The number is part of a segment of theirs, so that no pattern can take it.
        layer, block = f"{flax}.encoderblock_{index}", f"{ours}blocks.{index}"
        attention = f"{layer}.MultiHeadDotProductAttention_0"
        for flax_kind, kind in (("kernel", "weight"), ("bias", "bias")):
            parts = tuple(f"{attention}.{name}.{flax_kind}" for name in ("query", "key", "value"))
            rules.append(Merge(parts, f"{block}.attn.qkv.{kind}", joints[f"qkv_{flax_kind}"]))
        rules += [
            Merge((f"{attention}.out.kernel",), f"{block}.attn.proj.weight", joints["out_kernel"]),
            Rule(f"{attention}.out.bias", f"{block}.attn.proj.bias"),
        ]
        for number in (0, 1):
            norm, dense = f"{layer}.LayerNorm_{number}", f"{layer}.MlpBlock_0.Dense_{number}"
            layer_norm, linear = f"{block}.norm{number + 1}", f"{block}.mlp.fc{number + 1}"
            rules += [
                Rule(f"{norm}.scale", f"{layer_norm}.weight"),
                Rule(f"{norm}.bias", f"{layer_norm}.bias"),
                Merge((f"{dense}.kernel",), f"{linear}.weight", TRANSPOSED),
                Rule(f"{dense}.bias", f"{linear}.bias"),
            ]
    return rules


_FLAX_ENDS: tuple[Rule | Merge, ...] = (
    Merge(("embedding.kernel",), "patch_embed.proj.weight", _KERNEL_3D),
    Rule("embedding.bias", "patch_embed.proj.bias"),
    Merge(("output_projection.kernel",), "head.weight", TRANSPOSED),
    Rule("output_projection.bias", "head.bias"),
)


def scenic(*, depth: int, num_heads: int) -> KeyMap:
    """The parameters of scenic's joint model."""
    encoder = _flax_encoder("Transformer", "", depth=depth, num_heads=num_heads)
    return KeyMap((*_FLAX_ENDS, Rule("cls", "cls_token"), *encoder))


def scenic_factorised(*, depth: int, temporal_depth: int, num_heads: int) -> KeyMap:
    """The parameters of scenic's factorised encoder."""
    return KeyMap(
        (
            *_FLAX_ENDS,
            Rule("cls_SpatialTransformer", "cls_token"),
            Rule("cls_TemporalTransformer", "temporal_cls_token"),
            *_flax_encoder("SpatialTransformer", "", depth=depth, num_heads=num_heads),
            *_flax_encoder(
                "TemporalTransformer", "temporal_", depth=temporal_depth, num_heads=num_heads
            ),
        )
    )


TIMM_FACTORISED = KeyMap(
    (
        Rule("patch_embed", "patch_embed", inflate="tubelet"),
        Rule("cls_token", "cls_token"),
        Rule("pos_embed", "pos_embed"),
        Rule("blocks", "blocks"),
        Rule("norm", "norm"),
    ),
    dropped={"head": "it names the classes of pictures"},
    new={
        "head": "normal with deviation 0.01, bias 0",
        "temporal_cls_token": "zero",
        "temporal_pos_embed": "normal with deviation 0.02",
        "temporal_blocks": "Xavier",
        "temporal_norm": "one, bias 0",
    },
    random=("temporal_blocks",),
)

# scenic's configurations: 250 frames a video of ten seconds, four clips of three crops.
SAMPLING = Sampling(
    rule="dense",
    num_frames=32,
    frame_stride=2,
    fps=25.0,
    num_clips=4,
    num_crops=3,
    average="logits",
)
# Pixels from -1 to 1, as scenic trained. The processor on the Hub rescales to that and then
# normalises once more, to -3 to 1.
PREPROCESS = Preprocess(
    img_size=224,
    resize=256,
    interpolation="bilinear",
    antialias=False,
    mean=(0.5, 0.5, 0.5),
    std=(0.5, 0.5, 0.5),
)
K400 = Weights(
    tag="k400",
    source=UpstreamSource(
        layout="transformers",
        repo_id="google/vivit-b-16x2-kinetics400",
        filename="pytorch_model.bin",
        revision=UNKNOWN,
        sha256="160c79526e79",
    ),
    licence="MIT",
    data="Kinetics-400",
    num_classes=400,
    labels="kinetics400",
    sampling=SAMPLING,
    preprocess=PREPROCESS,
    metrics=(
        Metric(
            name="top1",
            value=79.9,
            dataset="kinetics400",
            split="test",
            level="video",
            num_clips=4,
            num_crops=3,
            measured_by="the authors",
            note="The README names no split; the configuration tests on `test`.",
        ),
    ),
    # The same script wrote both: there is one checkpoint it fetches, the second repository's file
    # is as large as a network with 400 classes, and its configuration as long as with their names.
    mirrors=(
        UpstreamSource(
            layout="transformers",
            repo_id="google/vivit-b-16x2",
            filename="pytorch_model.bin",
            revision=UNKNOWN,
            sha256=UNKNOWN,
        ),
    ),
    note=joined(
        "Converted from scenic's Flax checkpoint, which is under Apache-2.0. The processor on the "
        "Hub normalises twice, to -3 to 1; the recipe here is scenic's, -1 to 1.",
        UNFILTERED,
    ),
)


def inflated(model: str) -> Weights:
    """A ViT of pictures as the transformer over space, its kernel in the tubelet's centre."""
    return Weights(
        tag="in21k_inflated",
        source=ImageSource(library="timm", model=model, layout="timm", inflation="center"),
        licence="Apache-2.0",
        data="ImageNet-21k (pictures)",
        num_classes=0,
        labels=None,
        sampling=SAMPLING,
        preprocess=PREPROCESS,
        note="A start for training: the transformer over time and the classifier are new.",
    )
