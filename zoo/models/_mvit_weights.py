"""The layouts in which MViT's weights are published, and the records of those weights.

Sampling: the Kinetics configurations of facebookresearch/SlowFast set USE_OFFSET_SAMPLING, so that
a single test clip is central and several reach from the video's first frame to its last. `dense`
does that; its frames lie `frame_stride` apart, where the reference stretches the clip by one stride
less a frame. pytorchvideo has no such switch, and keeps `span`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor

from converters import STACKED, Joint, KeyMap, Merge, Rule
from registry import UNKNOWN, Metric, Preprocess, Sampling, UpstreamSource, Weights

__all__ = ["LAYOUTS_V1", "LAYOUTS_V2", "TINY", "V1_B", "V1_B_24", "V2_B", "V2_L", "V2_S"]


def _only(parts: Sequence[Tensor]) -> Tensor:
    (part,) = parts
    return part


_AS_TABLE = Joint(lambda parts: _only(parts)[None], lambda whole, _: (whole[0],))
"""A table (L, D) as ours, (1, L, D)."""
_AS_TOKEN = Joint(lambda parts: _only(parts)[None, None], lambda whole, _: (whole[0, 0],))
"""A vector (D,) as our token, (1, 1, D)."""
_ATTN = "blocks.{i}.attn"
_POOLS = ("pool_q", "pool_k", "pool_v")
_SEPARATE = Merge((f"{_ATTN}.q", f"{_ATTN}.k", f"{_ATTN}.v"), f"{_ATTN}.qkv", STACKED)
_FAIR_POOLS = tuple(
    rule
    for letter in "qkv"
    for rule in (
        Rule(f"{_ATTN}.pool_{letter}", f"{_ATTN}.pool_{letter}.conv"),
        Rule(f"{_ATTN}.norm_{letter}", f"{_ATTN}.pool_{letter}.norm"),
    )
)
SLOWFAST = KeyMap(
    (
        *_FAIR_POOLS,
        # Files of 2021 keep the three layers of attention apart, as the reference then did.
        Rule(f"{_ATTN}.qkv", f"{_ATTN}.qkv"),
        _SEPARATE,
        Rule("head.projection", "head"),
        Rule("{part}", "{part}"),
    )
)
_PTV_TABLES = "cls_positional_encoding"
PYTORCHVIDEO = KeyMap(
    (
        *_FAIR_POOLS,
        _SEPARATE,
        Rule("blocks", "blocks"),
        Rule("patch_embed.patch_model", "patch_embed.proj"),
        Rule(f"{_PTV_TABLES}.cls_token", "cls_token"),
        Rule(f"{_PTV_TABLES}.pos_embed_spatial", "pos_embed_spatial"),
        Rule(f"{_PTV_TABLES}.pos_embed_temporal", "pos_embed_temporal"),
        Rule(f"{_PTV_TABLES}.pos_embed_class", "pos_embed_class"),
        Rule("norm_embed", "norm"),
        Rule("head.proj", "head"),
    )
)
TORCHVISION = KeyMap(
    (
        *(Rule(f"{_ATTN}.{pool}.pool", f"{_ATTN}.{pool}.conv") for pool in _POOLS),
        *(Rule(f"{_ATTN}.{pool}.norm_act.0", f"{_ATTN}.{pool}.norm") for pool in _POOLS),
        Rule(f"{_ATTN}.project.0", f"{_ATTN}.proj"),
        Rule("blocks.{i}.mlp.0", "blocks.{i}.mlp.fc1"),
        Rule("blocks.{i}.mlp.3", "blocks.{i}.mlp.fc2"),
        Rule("blocks.{i}.project", "blocks.{i}.proj"),
        Rule("blocks", "blocks"),
        Rule("conv_proj", "patch_embed.proj"),
        Merge(("pos_encoding.class_token",), "cls_token", _AS_TOKEN),
        Merge(("pos_encoding.class_pos",), "pos_embed_class", _AS_TOKEN),
        Merge(("pos_encoding.spatial_pos",), "pos_embed_spatial", _AS_TABLE),
        Merge(("pos_encoding.temporal_pos",), "pos_embed_temporal", _AS_TABLE),
        Rule("norm", "norm"),
        Rule("head.1", "head"),
    )
)
LAYOUTS_V1 = {"torchvision": TORCHVISION, "slowfast": SLOWFAST, "pytorchvideo": PYTORCHVIDEO}
LAYOUTS_V2 = {"torchvision": TORCHVISION, "slowfast": SLOWFAST}

_DENSE = Sampling(
    rule="dense",
    num_frames=16,
    frame_stride=4,
    fps=30.0,
    num_clips=5,
    num_crops=1,
    average="probabilities",
)
_DENSE_32 = replace(_DENSE, num_frames=32, frame_stride=3)
_SEGMENTS = replace(_DENSE, rule="segments", frame_stride=1, fps=None, num_clips=1, num_crops=3)
_PREPROCESS = Preprocess(
    img_size=224,
    resize=256,
    interpolation="bilinear",
    antialias=False,
    mean=(0.45, 0.45, 0.45),
    std=(0.225, 0.225, 0.225),
)
# Three crops are taken from frames whose short side is that of the crop.
_SSV2 = replace(_PREPROCESS, resize=224)
_LARGE = replace(
    _PREPROCESS,
    img_size=312,
    resize=312,
    mean=(0.485, 0.456, 0.406),
    std=(0.229, 0.224, 0.225),
)
# cv2 reads BGR, mean and deviation are taken off in the order of RGB, and only then the channels
# are turned round: what the network sees is RGB with the two ends of mean and deviation exchanged.
_LARGE_SSV2 = replace(_LARGE, mean=_LARGE.mean[::-1], std=_LARGE.std[::-1])
TINY: dict[str, Any] = {
    "num_classes": 7,
    "sampling": replace(_DENSE, num_frames=4),
    "preprocess": replace(_PREPROCESS, img_size=32, resize=32),
}
_SETS = {
    "kinetics400": ("Kinetics-400", 400),
    "kinetics600": ("Kinetics-600", 600),
    "something_something_v2": ("Something-Something v2", 174),
}
_FAIR = "https://dl.fbaipublicfiles.com"
_LICENCE_NOTE = "The licence is that of the authors' code; none is stated for the weights alone."


def _file(layout: str, url: str, *, sha256: str = "") -> UpstreamSource:
    filename = url.rpartition("/")[2]
    return UpstreamSource(layout=layout, url=url, filename=filename, sha256=sha256 or UNKNOWN)


def _trained(
    tag: str,
    source: UpstreamSource,
    *,
    top1: float,
    top5: float,
    labels: str = "kinetics400",
    sampling: Sampling = _DENSE,
    preprocess: Preprocess = _PREPROCESS,
    licence: str = "Apache-2.0",
    measured_by: str = "the authors",
    before: str = "",
    note: str = "",
    **others: Any,
) -> Weights:
    """A record, its figures measured by its own sampling."""
    data, num_classes = _SETS[labels]
    protocol: dict[str, Any] = {
        "dataset": labels,
        "split": "validation",
        "level": "video",
        "num_clips": sampling.num_clips,
        "num_crops": sampling.num_crops,
        "measured_by": measured_by,
    }
    return Weights(
        tag=tag,
        source=source,
        licence=licence,
        data=f"{before}, then {data}" if before else data,
        num_classes=num_classes,
        labels=labels,
        sampling=sampling,
        preprocess=preprocess,
        metrics=(
            Metric(name="top1", value=top1, **protocol),
            Metric(name="top5", value=top5, **protocol),
        ),
        note=f"{note} {_LICENCE_NOTE}".lstrip(),
        **others,
    )


def _torchvision(file: str, mirror: UpstreamSource, **facts: Any) -> Weights:
    """What torchvision publishes of weights that others trained."""
    return _trained(
        "k400",
        _file(
            "torchvision",
            f"https://download.pytorch.org/models/{file}",
            sha256=file.rpartition("-")[2].removesuffix(".pth"),
        ),
        licence="BSD-3-Clause",
        measured_by="torchvision",
        mirrors=(mirror,),
        **facts,
    )


def _slowfast(file: str) -> UpstreamSource:
    return _file("slowfast", f"{_FAIR}/pyslowfast/model_zoo/{file}")


def _v2(file: str) -> UpstreamSource:
    return _slowfast(f"mvitv2/pysf_video_models/{file}")


def _pytorchvideo(file: str) -> UpstreamSource:
    return _file("pytorchvideo", f"{_FAIR}/pytorchvideo/model_zoo/kinetics/{file}")


V1_B = (
    _torchvision(
        "mvit_v1_b-dbeb1030.pth", _pytorchvideo("MVIT_B_16x4.pyth"), top1=78.477, top5=93.582
    ),
    _trained(
        "k400_32x3",
        _pytorchvideo("MVIT_B_32x3_f294077834.pyth"),
        sampling=replace(_DENSE_32, rule="span"),
        # pytorchvideo 0.1.5 leaves the default of torch after pooling, torchvision does not.
        arguments=(("pool_norm_eps", 1e-5),),
        top1=80.3,
        top5=94.69,
    ),
    _trained(
        "k400_slowfast",
        UpstreamSource(
            layout="slowfast",
            filename="MVIT_B_16x4_CONV.pyth",
            url="https://drive.google.com/file/d/194gJinVejq6A1FmySNKQ8vAN5-FOY-QL/view",
            sha256=UNKNOWN,
        ),
        top1=78.4,
        top5=93.5,
        note="The name of the file is that of its configuration; the page's own is not known.",
    ),
)
_B_24_NOTE = (
    "The network is that of the configuration MVIT_B_32x3_CONV, which the authors' model zoo names."
)
V1_B_24 = (
    _trained(
        "k400",
        _slowfast("mvit/k400.pyth"),
        sampling=_DENSE_32,
        top1=80.4,
        top5=94.8,
        note=_B_24_NOTE,
    ),
    _trained(
        "k600",
        _slowfast("mvit/k600.pyth"),
        labels="kinetics600",
        sampling=_DENSE_32,
        top1=83.9,
        top5=96.5,
        note=f"{_B_24_NOTE} Its variant for Kinetics-600 is not published.",
    ),
)
V2_S = (
    _torchvision(
        "mvit_v2_s-ae3be167.pth",
        _v2("MViTv2_S_16x4_k400_f302660347.pyth"),
        top1=80.757,
        top5=94.665,
    ),
    _trained(
        "ssv2",
        _v2("MViTv2_S_16x4_ssv2_f308341823.pyth"),
        labels="something_something_v2",
        sampling=_SEGMENTS,
        preprocess=_SSV2,
        before="Kinetics-400",
        top1=68.2,
        top5=91.4,
    ),
)
V2_B = (
    _trained(
        "k400",
        _v2("MViTv2_B_32x3_k400_f304025456.pyth"),
        sampling=_DENSE_32,
        top1=82.9,
        top5=95.7,
    ),
    _trained(
        "ssv2",
        _v2("MViTv2_B_32x3_ssv2_f305803282.pyth"),
        labels="something_something_v2",
        sampling=replace(_SEGMENTS, num_frames=32),
        preprocess=_SSV2,
        before="Kinetics-400",
        top1=70.5,
        top5=92.7,
    ),
)
V2_L = (
    _trained(
        "k400",
        _v2("MViTv2_L_40x3_k400_f306903192.pyth"),
        sampling=replace(_DENSE_32, num_frames=40, num_crops=3),
        preprocess=_LARGE,
        before="ImageNet-21k (pictures)",
        top1=86.1,
        top5=97.0,
    ),
    _trained(
        "ssv2",
        _v2("MViTv2_L_40x3_ssv2_f309603968.pyth"),
        labels="something_something_v2",
        sampling=replace(_SEGMENTS, num_frames=40),
        preprocess=_LARGE_SSV2,
        before="ImageNet-21k (pictures) and Kinetics-400",
        top1=73.3,
        top5=94.1,
    ),
)
