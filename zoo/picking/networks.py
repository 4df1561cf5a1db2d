"""What the rules know of networks: approach, attention pattern, and image models to lift."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from zoo.picking.wishes import APPROACHES

__all__ = ["ATTENTION", "FAMILIES", "FROM_RANDOM", "LIFTED", "LiftedStart", "approach_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LiftedStart:
    """An image model of timm made into a video model, as a start for training.

    Attributes:
        name: As `zoo.create` takes it.
        approach: One of `APPROACHES`.
        attention: How tokens look at each other; empty for convolutions.
        order: What shuffled frames do to its logits, once it is trained.
        params: Parameters; a test counts them again.
        gflops: 10^9 multiply-adds of 8 frames of 224x224; likewise.
        licence: Of the image weights, as timm states it.
        data: What they were trained on.
    """

    name: str
    approach: str
    attention: str = ""
    order: str
    params: int
    gflops: float
    licence: str
    data: str


FAMILIES: Mapping[str, str] = MappingProxyType(
    {
        "framepool": "2d_pool",
        "tsm": "2d_shift",
        "c3d": "3d",
        "csn": "3d",
        "i3d": "3d",
        "i3d_inception": "3d",
        "movinet": "3d",
        "resnet3d": "3d",
        "slowfast": "3d",
        "video_resnet": "3d",
        "x3d": "3d",
        "s3d": "2plus1d",
        "hiera": "transformer",
        "mvit": "transformer",
        "rev_mvit": "transformer",
        "swin3d": "transformer",
        "timesformer": "transformer",
        "videomae": "transformer",
        "videomae_pretrain": "transformer",
        "vivit": "transformer",
        "vjepa2": "transformer",
        "xclip": "transformer",
    }
)
"""Approach by family; a family that is not here counts by its order alone, see `approach_of`."""

FROM_RANDOM = ("mvit", "rev_mvit")
"""What the names of transformers begin with whose authors train them from random weights."""

_OWN_APPROACH: Mapping[str, str] = MappingProxyType(
    {
        "c2d_r50": "2d_pool",
        "timesformer_space": "2d_pool",
        "r2plus1d_r50": "2plus1d",
        "r2p1d_18": "2plus1d",
        "r2p1d_nano": "2plus1d",
    }
)
"""Models that differ from their family."""

ATTENTION: Mapping[str, str] = MappingProxyType(
    {
        "hiera": "within local units, later over all tokens",
        "mvit": "over all tokens, keys and values pooled",
        "rev_mvit": "over all tokens, keys and values pooled",
        "swin3d": "within shifted windows of space and time",
        "timesformer": "divided: over time, then within a frame",
        "timesformer_joint": "joint: over all patches of all frames",
        "timesformer_factorised": "factorised: spatial blocks and temporal blocks in turn",
        "videomae": "joint: over all tubelets",
        "videomae_pretrain": "joint: over all tubelets",
        "vivit": "joint: over all tubelets",
        "vivit_b_factorised": "factorised: frames first, then time",
        "vivit_l_factorised": "factorised: frames first, then time",
        "vjepa2": "joint: over all tubelets",
        "xclip": "within a frame, frames exchange messages",
    }
)
"""Attention pattern by model, or else by family."""

LIFTED = (
    LiftedStart(
        name="framepool:efficientnet_b0.ra_in1k",
        approach="2d_pool",
        order="ignored",
        params=5_288_548,
        gflops=3.087,
        licence="Apache-2.0",
        data="ImageNet-1k (pictures)",
    ),
    LiftedStart(
        name="framepool:vit_small_patch16_224.augreg_in21k_ft_in1k",
        approach="2d_pool",
        order="ignored",
        params=22_050_664,
        gflops=36.791,
        licence="Apache-2.0",
        data="ImageNet-21k, then ImageNet-1k (pictures)",
    ),
    LiftedStart(
        name="tsm:mobilenetv2_100.ra_in1k",
        approach="2d_shift",
        order="used",
        params=3_504_872,
        gflops=2.406,
        licence="Apache-2.0",
        data="ImageNet-1k (pictures)",
    ),
    LiftedStart(
        name="tsm:resnet50.a1_in1k",
        approach="2d_shift",
        order="used",
        params=25_557_032,
        gflops=32.713,
        licence="Apache-2.0",
        data="ImageNet-1k (pictures)",
    ),
    LiftedStart(
        name="r2p1d:efficientnet_b0.ra_in1k",
        approach="2plus1d",
        order="used",
        params=5_318_500,
        gflops=3.45,
        licence="Apache-2.0",
        data="ImageNet-1k (pictures)",
    ),
    LiftedStart(
        name="r2p1d:resnet18.a1_in1k",
        approach="2plus1d",
        order="used",
        params=15_879_720,
        gflops=20.678,
        licence="Apache-2.0",
        data="ImageNet-1k (pictures)",
    ),
    LiftedStart(
        name="i3d:resnet18.a1_in1k",
        approach="3d",
        order="used",
        params=33_679_272,
        gflops=43.221,
        licence="Apache-2.0",
        data="ImageNet-1k (pictures)",
    ),
    LiftedStart(
        name="divided:vit_small_patch16_224.augreg_in21k_ft_in1k",
        approach="transformer",
        attention="divided: over time, then within a frame",
        order="used",
        params=29_193_064,
        gflops=48.062,
        licence="Apache-2.0",
        data="ImageNet-21k, then ImageNet-1k (pictures)",
    ),
)
"""Starts for one's own labels, one for each way of lifting that small data sets are trained by."""


def approach_of(name: str, family: str, order: str) -> str:
    """The approach of an architecture, empty where no rule knows its family.

    Args:
        name: Of the architecture.
        family: Its family.
        order: What shuffled frames do to its logits.
    """
    known = _OWN_APPROACH.get(name) or FAMILIES.get(family)
    if known is None and order == "ignored":
        return "2d_pool"
    assert known is None or known in APPROACHES
    return known or ""
