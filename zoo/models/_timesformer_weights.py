"""The weights records of TimeSformer, apart from the family's file for their number.

Addresses, frames, crops and figures are those of the README and the test configurations of
facebookresearch/TimeSformer; what the paper alone states is said beside it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

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

__all__ = ["DIVIDED", "DIVIDED_HR", "DIVIDED_L", "IN21K_INFLATED", "PREPROCESS", "SAMPLING"]

SAMPLING = Sampling(
    rule="span",
    num_frames=8,
    frame_stride=32,
    fps=30.0,
    num_clips=1,
    num_crops=3,
    average="logits",
)
# Their frames of Something-Something lie (start + end) // 2 of T parts of the first to the last
# frame, rounded: at most one frame from the centre.
_SEGMENTS = replace(SAMPLING, rule="segments", frame_stride=1, fps=None)
PREPROCESS = Preprocess(
    img_size=224,
    resize=224,
    interpolation="bilinear",
    antialias=False,
    mean=(0.45, 0.45, 0.45),
    std=(0.225, 0.225, 0.225),
)


class Data(NamedTuple):
    """A set of videos: the authors' short name, a reader's, the metric's, the list of classes."""

    short: str
    name: str
    dataset: str
    labels: str | None
    num_classes: int
    split: str


_K400 = Data("K400", "Kinetics-400", "kinetics400", "kinetics400", 400, "validation")
_K600 = Data("K600", "Kinetics-600", "kinetics600", "kinetics600", 600, "validation")
_SSV2 = Data(
    "SSv2",
    "Something-Something v2",
    "something_something_v2",
    "something_something_v2",
    174,
    "validation",
)
# Section 4.6: the tasks with 100 videos or more; the authors' own split, no list of names.
_HOWTO100M = Data("HowTo100M", "HowTo100M, 1059 tasks", "howto100m", None, 1059, "test")


def _trained(
    data: Data,
    setting: str,
    link: str,
    top1: float,
    top5: float | None = None,
    *,
    hub: str = "",
    num_clips: int = 1,
    note: str = "",
) -> Weights:
    """The record of a checkpoint of the authors' README.

    Args:
        data: What it was trained on.
        setting: Frames, stride (where there is one) and crop as the file is named, `8x32_224`.
        link: The part of the Dropbox address that names the share.
        top1: Published, percent.
        top5: Likewise; None where it is not published.
        hub: Where transformers has the same tensors; empty where it has not.
        num_clips: Temporal clips of the published figure.
        note: What a user must know.
    """
    frames, size = setting.split("_")
    num_frames, _, stride = frames.partition("x")
    filename = f"TimeSformer_divST_{setting}_{data.short}.pyth"
    # The README's addresses end in dl=0, which is a page for browsers; dl=1 is the file.
    official = UpstreamSource(
        layout="timesformer",
        url=f"https://www.dropbox.com/s/{link}/{filename}?dl=1",
        filename=filename,
        sha256=UNKNOWN,
    )
    sources: tuple[UpstreamSource, ...] = (official,)
    if hub:
        converted = UpstreamSource(
            layout="transformers",
            repo_id=hub,
            filename="pytorch_model.bin",
            revision=UNKNOWN,
            sha256=UNKNOWN,
        )
        sources = (converted, official)
    # The paper counts the clips of HowTo100M, not the crops of each.
    crops = 1 if data is _HOWTO100M else 3
    protocol: dict[str, Any] = {
        "dataset": data.dataset,
        "split": data.split,
        "level": "video",
        "num_clips": num_clips,
        "num_crops": crops,
        "measured_by": "the authors",
    }
    figures = {"top1": top1} if top5 is None else {"top1": top1, "top5": top5}
    tag = data.short.lower()
    # "The models provided in this codebase are pre-trained on ImageNet-21K", says an author
    # (facebookresearch/TimeSformer#23); what preceded HowTo100M neither README nor issue tells.
    before = "" if data is _HOWTO100M else "ImageNet-21k (pictures), then "
    return Weights(
        tag=f"{tag}_{frames}" if data is _HOWTO100M and num_frames != "8" else tag,
        source=sources[0],
        mirrors=sources[1:],
        licence="CC-BY-NC-4.0",
        data=f"{before}{data.name}",
        num_classes=data.num_classes,
        labels=data.labels,
        sampling=replace(
            SAMPLING if stride else _SEGMENTS,
            num_frames=int(num_frames),
            frame_stride=int(stride or 1),
            num_clips=num_clips,
            num_crops=crops,
        ),
        preprocess=replace(
            PREPROCESS,
            img_size=int(size),
            resize=int(size),
            # Their loader of Something-Something reads with OpenCV and turns no channel around:
            # REVERSE_INPUT_CHANNEL is only looked at for other architectures.
            channel_order="bgr" if data is _SSV2 else "rgb",
        ),
        metrics=tuple(
            Metric(name=name, value=value, **protocol) for name, value in figures.items()
        ),
        note=joined(note, UNFILTERED if hub else ""),
    )


# On the Hub; the large ones were put there by a user, fcakyon.
_BASE = "facebook/timesformer-base-finetuned"
_HR = "facebook/timesformer-hr-finetuned"
_LARGE = "fcakyon/timesformer-large-finetuned"
_SIZE = "The authors' README says 448 pixels, the name of their file 224; the latter is taken."

IN21K_INFLATED = Weights(
    tag="in21k_inflated",
    source=ImageSource(
        library="timm",
        model="vit_base_patch16_224.augreg_in21k",
        layout="timm",
        inflation=None,
    ),
    licence="Apache-2.0",
    data="ImageNet-21k (pictures)",
    num_classes=0,
    labels=None,
    sampling=SAMPLING,
    preprocess=replace(
        PREPROCESS,
        resize=248,
        interpolation="bicubic",
        antialias=True,
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
    ),
    note="A start for training: the classifier is new.",
)

DIVIDED = (
    _trained(_K400, "8x32_224", "g5t24we9gl5yk88", 77.9, 93.2, hub=f"{_BASE}-k400"),
    _trained(_K600, "8x32_224", "4h2qt41m2z3aqrb", 79.1, 94.4, hub=f"{_BASE}-k600"),
    _trained(_SSV2, "8_224", "tybhuml57y24wpm", 59.1, 85.6, hub=f"{_BASE}-ssv2"),
    _trained(_HOWTO100M, "8x32_224", "9v8hcm88b9tc6ff", 56.8, num_clips=48),
    _trained(_HOWTO100M, "32x32_224", "4roflx4q1gscu85", 61.2, num_clips=12),
    _trained(_HOWTO100M, "64x32_224", "15bvqltl1j5vyp3", 62.2, num_clips=6, note=_SIZE),
    _trained(_HOWTO100M, "96x32_224", "t2mzgahnfhgakma", 62.6, num_clips=4),
    IN21K_INFLATED,
)

DIVIDED_HR = (
    _trained(_K400, "16x16_448", "6f0x172lpqy3oxt", 79.6, 94.0, hub=f"{_HR}-k400"),
    _trained(_K600, "16x16_448", "ft1e92g2vhvxecv", 81.8, 95.8, hub=f"{_HR}-k600"),
    _trained(_SSV2, "16_448", "9t68uzk8w2fpfnv", 61.8, 86.9, hub=f"{_HR}-ssv2"),
)

DIVIDED_L = (
    _trained(_K400, "96x4_224", "r1iuxahif3sgimo", 80.6, 94.7, hub=f"{_LARGE}-k400"),
    _trained(_K600, "96x4_224", "857rx6xeclxfhdg", 82.2, 95.6, hub=f"{_LARGE}-k600"),
    _trained(_SSV2, "64_224", "3f1rm2al8mhprwa", 62.0, 87.5, hub=f"{_LARGE}-ssv2"),
)
