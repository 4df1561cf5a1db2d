"""R3D, MC3 and R(2+1)D: ResNet-18 with 3D, mixed and factorised convolutions.

Tran et al., "A Closer Look at Spatiotemporal Convolutions for Action Recognition"
(https://arxiv.org/abs/1711.11248). The reference is torchvision's `models/video/resnet.py`
(BSD-3-Clause), whose weights these models carry; the modules are named differently, the numbers are
the same. `r2p1d_18(stem="inflated")` is ours: one 3D stem that takes a 2D ResNet-18's.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal, TypeAlias

from torch import Tensor, nn

from converters import KeyMap, Rule
from registry import (
    ImageSource,
    Metric,
    Paper,
    Preprocess,
    Sampling,
    UpstreamSource,
    Weights,
    register_model,
)
from zoo.layers import Conv2Plus1D, Conv3d, InflatedConv3d, make_classifier, middle_channels
from zoo.models._motion import motion_weights
from zoo.models._staged import StagedModel

__all__ = ["VideoResNet", "mc3_18", "r2p1d_18", "r2p1d_nano", "r3d_18"]

ConvKind: TypeAlias = Literal["3d", "2d", "2plus1d"]
StemKind: TypeAlias = Literal["3d", "2plus1d", "inflated"]


def _conv(kind: ConvKind, in_chans: int, out_chans: int, *, mid: int, stride: int) -> nn.Module:
    """A 3x3x3 convolution, its spatial slice alone, or its factorised form."""
    if kind == "2plus1d":
        return Conv2Plus1D(in_chans, out_chans, mid_chans=mid, stride=stride)
    t = 1 if kind == "2d" else 3
    return Conv3d(
        in_chans,
        out_chans,
        (t, 3, 3),
        stride=(stride if t == 3 else 1, stride, stride),
        padding=(t // 2, 1, 1),
        bias=False,
    )


def _strided_conv(in_chans: int, out_chans: int, *, frames: int) -> nn.Conv3d:
    """The 7x7 convolution of a stem, with stride 2 in space."""
    return Conv3d(
        in_chans,
        out_chans,
        (frames, 7, 7),
        stride=(1, 2, 2),
        padding=(frames // 2, 3, 3),
        bias=False,
    )


class Stem(nn.Module):
    """First layer: 7x7 in space with stride 2, over three frames.

    Args:
        kind: `3d` is one 3x7x7 kernel; `2plus1d` goes through 45 channels, 7x7 and then three
            frames; `inflated` is one 3x7x7 kernel whose padding in time repeats the edge frames.
        in_chans: Input channels C.
        out_chans: Output channels D.
    """

    def __init__(self, kind: StemKind, in_chans: int, out_chans: int) -> None:
        super().__init__()
        self.conv: nn.Module
        if kind == "3d":
            self.conv = _strided_conv(in_chans, out_chans, frames=3)
        elif kind == "inflated":
            self.conv = InflatedConv3d(in_chans, out_chans, (3, 7, 7), stride=2)
        elif kind == "2plus1d":
            self.conv = nn.Sequential(
                OrderedDict(
                    spatial=_strided_conv(in_chans, 45, frames=1),
                    norm=nn.BatchNorm3d(45),
                    act=nn.ReLU(inplace=True),
                    temporal=Conv3d(45, out_chans, (3, 1, 1), padding=(1, 0, 0), bias=False),
                )
            )
        else:
            raise ValueError(f"Unknown stem {kind!r}. Known: 3d, 2plus1d, inflated.")
        self.bn = nn.BatchNorm3d(out_chans)
        self.act = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, T, H, W) to (N, D, T, H/2, W/2)."""
        return self.act(self.bn(self.conv(x)))


class Block(nn.Module):
    """Two convolutions around a shortcut.

    Args:
        kind: Kind of both convolutions.
        in_chans: Input channels C.
        out_chans: Output channels D.
        stride: Stride of the first convolution.
    """

    def __init__(self, kind: ConvKind, in_chans: int, out_chans: int, *, stride: int) -> None:
        super().__init__()
        # Both convolutions take the first one's middle width, as torchvision does; VMZ's
        # Caffe2 networks recompute it for the second.
        mid = middle_channels(in_chans, out_chans)
        self.conv1 = _conv(kind, in_chans, out_chans, mid=mid, stride=stride)
        self.bn1 = nn.BatchNorm3d(out_chans)
        self.conv2 = _conv(kind, out_chans, out_chans, mid=mid, stride=1)
        self.bn2 = nn.BatchNorm3d(out_chans)
        self.act = nn.ReLU(inplace=True)
        self.downsample: nn.Module | None = None
        if stride != 1 or in_chans != out_chans:
            strides = (1 if kind == "2d" else stride, stride, stride)
            self.downsample = nn.Sequential(
                Conv3d(in_chans, out_chans, 1, stride=strides, bias=False),
                nn.BatchNorm3d(out_chans),
            )

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, T, H, W) to (N, D, T', H', W')."""
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.act(self.bn1(self.conv1(x)))
        return self.act(self.bn2(self.conv2(x)) + shortcut)


class VideoResNet(StagedModel):
    """A ResNet of basic blocks over space and time.

    Features are (N, D, T', H', W'). Any number of frames and any size can be given to `forward`.

    Args:
        kinds: Kind of the convolutions in each stage.
        stem: Kind of the first layer.
        widths: Channels of each stage.
        depths: Blocks in each stage.
        num_classes: Classes K; 0 returns the pooled features.
        in_chans: Input channels C.
        num_frames: Frames that `load_clip` delivers.
        img_size: Side of the pictures that `load_clip` delivers.
        drop_rate: Dropout before the classifier.
    """

    classifier_name = "fc"

    def __init__(
        self,
        kinds: Sequence[ConvKind],
        stem: StemKind,
        widths: Sequence[int] = (64, 128, 256, 512),
        depths: Sequence[int] = (2, 2, 2, 2),
        *,
        num_classes: int = 400,
        in_chans: int = 3,
        num_frames: int = 16,
        img_size: int = 112,
        drop_rate: float = 0.0,
    ) -> None:
        super().__init__()
        self.in_chans, self.num_frames, self.img_size = in_chans, num_frames, img_size
        self.stem = Stem(stem, in_chans, widths[0])
        self.stem_weights = (
            ("stem.conv.spatial.weight",) if stem == "2plus1d" else ("stem.conv.weight",)
        )
        self.feature_info = [{"num_chs": widths[0], "reduction": 2, "module": "stem"}]
        width = widths[0]
        for index, (kind, out, depth) in enumerate(zip(kinds, widths, depths, strict=True)):
            stride = 1 if index == 0 else 2
            blocks = [Block(kind, width, out, stride=stride)]
            blocks += [Block(kind, out, out, stride=1) for _ in range(depth - 1)]
            name = f"layer{index + 1}"
            self.add_module(name, nn.Sequential(*blocks))
            self.feature_info.append({"num_chs": out, "reduction": 2 * 2**index, "module": name})
            width = out
        self.num_features = width
        self.num_classes = num_classes
        self.drop = nn.Dropout(drop_rate)
        self.fc = make_classifier(width, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv3d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


# torchvision holds a convolution and its BatchNorm in one Sequential, and the three parts of a
# factorised convolution in another.
_BLOCK_RULES = (
    Rule("{stage}.{block}.conv1.1", "{stage}.{block}.bn1"),
    Rule("{stage}.{block}.conv2.1", "{stage}.{block}.bn2"),
    Rule("{stage}.{block}.downsample", "{stage}.{block}.downsample"),
    Rule("fc", "fc"),
)
TORCHVISION = KeyMap(
    (
        Rule("stem.0", "stem.conv"),
        Rule("stem.1", "stem.bn"),
        Rule("{stage}.{block}.conv1.0", "{stage}.{block}.conv1"),
        Rule("{stage}.{block}.conv2.0", "{stage}.{block}.conv2"),
        *_BLOCK_RULES,
    )
)
TORCHVISION_2PLUS1D = KeyMap(
    (
        Rule("stem.0", "stem.conv.spatial"),
        Rule("stem.1", "stem.conv.norm"),
        Rule("stem.3", "stem.conv.temporal"),
        Rule("stem.4", "stem.bn"),
        Rule("{stage}.{block}.{conv}.0.0", "{stage}.{block}.{conv}.spatial"),
        Rule("{stage}.{block}.{conv}.0.1", "{stage}.{block}.{conv}.norm"),
        Rule("{stage}.{block}.{conv}.0.3", "{stage}.{block}.{conv}.temporal"),
        *_BLOCK_RULES,
    )
)
_FACTORISED = "a factorised convolution has no 2D counterpart of its widths"
_FACTORISED_PARTS = tuple(
    f"{{stage}}.{{block}}.{part}" for part in ("conv1", "bn1", "conv2", "bn2")
)
TIMM_STEM = KeyMap(
    (
        Rule("conv1", "stem.conv", inflate=True),
        Rule("bn1", "stem.bn"),
        Rule("{stage}.{block}.downsample", "{stage}.{block}.downsample", inflate=True),
    ),
    dropped=dict.fromkeys(_FACTORISED_PARTS, _FACTORISED) | {"fc": "it names classes of pictures"},
    new=dict.fromkeys(_FACTORISED_PARTS, "He normal, BatchNorm at 1 and 0")
    | {"fc": "normal with deviation 0.01, bias 0"},
    random=_FACTORISED_PARTS,
)

_PAPER = Paper(
    title="A Closer Look at Spatiotemporal Convolutions for Action Recognition",
    url="https://arxiv.org/abs/1711.11248",
    year=2018,
)
_SAMPLING = Sampling(
    rule="dense",
    num_frames=16,
    frame_stride=2,
    fps=30.0,
    num_clips=5,
    num_crops=1,
    average="probabilities",
)
_PREPROCESS = Preprocess(
    img_size=112,
    resize=(128, 171),
    interpolation="bilinear",
    antialias=False,
    mean=(0.43216, 0.394666, 0.37645),
    std=(0.22803, 0.22145, 0.216989),
)


def _torchvision_k400(stem: str, digits: str, *, top1: float, top5: float) -> Weights:
    """The record of one of torchvision's three files, which differ in these facts only."""
    protocol: dict[str, Any] = {
        "dataset": "kinetics400",
        "split": "validation",
        "level": "video",
        "num_clips": 5,
        "num_crops": 1,
        "measured_by": "torchvision",
        "note": "videos resampled to 15 frames per second",
    }
    filename = f"{stem}-{digits}.pth"
    return Weights(
        tag="k400",
        source=UpstreamSource(
            layout="torchvision",
            filename=filename,
            url=f"https://download.pytorch.org/models/{filename}",
            sha256=digits,
        ),
        licence="BSD-3-Clause",
        data="Kinetics-400",
        num_classes=400,
        labels="kinetics400",
        sampling=_SAMPLING,
        preprocess=_PREPROCESS,
        metrics=(
            Metric(name="top1", value=top1, **protocol),
            Metric(name="top5", value=top5, **protocol),
        ),
        note="The licence is torchvision's; none is stated for the weights alone.",
    )


R3D_18_K400 = _torchvision_k400("r3d_18", "b3b3357e", top1=63.2, top5=83.479)
MC3_18_K400 = _torchvision_k400("mc3_18", "a90a0ba3", top1=63.96, top5=84.13)
R2P1D_18_K400 = _torchvision_k400("r2plus1d_18", "91a641e6", top1=67.463, top5=86.175)
R2P1D_18_IN1K = Weights(
    tag="in1k_inflated",
    source=ImageSource(library="timm", model="resnet18.a1_in1k", layout="timm", inflation="mean"),
    licence="Apache-2.0",
    data="ImageNet-1k (pictures); only stem and shortcuts are trained",
    num_classes=0,
    labels=None,
    sampling=_SAMPLING,
    preprocess=replace(_PREPROCESS, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)),
    arguments=(("stem", "inflated"),),
    note="A start for training: the factorised convolutions and the classifier are new.",
)
_TINY_SAMPLING = replace(_SAMPLING, num_frames=8)
_TINY_PREPROCESS = replace(_PREPROCESS, img_size=32, resize=32)


@register_model(
    order="used",
    num_classes=7,
    sampling=_TINY_SAMPLING,
    preprocess=_TINY_PREPROCESS,
    layouts={"torchvision": TORCHVISION},
)
def test_r3d(**kwargs: Any) -> VideoResNet:
    """R3D of two narrow stages, for tests."""
    return VideoResNet(("3d", "3d"), "3d", (8, 12), (1, 2), **kwargs)


@register_model(
    order="used",
    num_classes=7,
    sampling=_TINY_SAMPLING,
    preprocess=_TINY_PREPROCESS,
    layouts={"torchvision": TORCHVISION},
)
def test_mc3(**kwargs: Any) -> VideoResNet:
    """MC3 of two narrow stages, for tests."""
    return VideoResNet(("3d", "2d"), "3d", (8, 12), (1, 2), **kwargs)


@register_model(
    order="used",
    num_classes=7,
    sampling=_TINY_SAMPLING,
    preprocess=_TINY_PREPROCESS,
    layouts={"torchvision": TORCHVISION_2PLUS1D, "timm": TIMM_STEM},
)
def test_r2p1d(*, stem: StemKind = "2plus1d", **kwargs: Any) -> VideoResNet:
    """R(2+1)D of two narrow stages, for tests."""
    return VideoResNet(("2plus1d", "2plus1d"), stem, (8, 12), (1, 2), **kwargs)


@register_model(
    order="used",
    paper=_PAPER,
    weights=(
        motion_weights(
            "r2p1d_nano",
            note=(
                "Names how the content moves on the screen: a camera that pans right makes it "
                "move left. Made for motion of 0.5 to 8 pixels between sampled frames at 64 pixels."
            ),
        ),
    ),
)
def r2p1d_nano(**kwargs: Any) -> VideoResNet:
    """R(2+1)D of 0.6 million parameters, trained by this project to name motion."""
    return VideoResNet(("2plus1d",) * 4, "3d", (16, 32, 64, 96), (1, 1, 1, 1), **kwargs)


@register_model(
    order="used", paper=_PAPER, weights=(MC3_18_K400,), layouts={"torchvision": TORCHVISION}
)
def mc3_18(**kwargs: Any) -> VideoResNet:
    """ResNet-18 with 3D convolutions in the stem and first stage, 2D ones after."""
    return VideoResNet(("3d", "2d", "2d", "2d"), "3d", **kwargs)


@register_model(
    order="used", paper=_PAPER, weights=(R3D_18_K400,), layouts={"torchvision": TORCHVISION}
)
def r3d_18(**kwargs: Any) -> VideoResNet:
    """ResNet-18 with 3D convolutions throughout."""
    return VideoResNet(("3d",) * 4, "3d", **kwargs)


@register_model(
    order="used",
    paper=_PAPER,
    weights=(R2P1D_18_K400, R2P1D_18_IN1K),
    layouts={"torchvision": TORCHVISION_2PLUS1D, "timm": TIMM_STEM},
)
def r2p1d_18(*, stem: StemKind = "2plus1d", **kwargs: Any) -> VideoResNet:
    """ResNet-18 with each 3x3x3 convolution factorised into space and time."""
    return VideoResNet(("2plus1d",) * 4, stem, **kwargs)
