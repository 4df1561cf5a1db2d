"""S3D: Inception-V1 whose convolutions over space and over time are separate.

Xie et al., "Rethinking Spatiotemporal Feature Learning: Speed-Accuracy Trade-offs in Video
Classification" (https://arxiv.org/abs/1712.04851). The reference is torchvision's
`models/video/s3d.py` (BSD-3-Clause), whose weights this model carries; it has no feature gating.
The modules are named differently, and clips whose last map the reference's pooling window does not
fit are averaged whole instead of refused.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from torch import nn

from converters import POINTWISE, KeyMap, Merge, Rule
from registry import Metric, Paper, Preprocess, Sampling, UpstreamSource, Weights, register_model
from zoo.layers import Conv3d
from zoo.models._inception import INCEPTION_V1, TINY_INCEPTION, InceptionVideo, Widths

__all__ = ["S3D", "s3d"]


def _conv_norm(
    in_chans: int,
    out_chans: int,
    kernel: tuple[int, int, int],
    stride: tuple[int, int, int] = (1, 1, 1),
) -> nn.Sequential:
    """A convolution, its BatchNorm and a ReLU."""
    t, h, w = kernel
    padding = (t // 2, h // 2, w // 2)
    return nn.Sequential(
        OrderedDict(
            conv=Conv3d(in_chans, out_chans, kernel, stride, padding, bias=False),
            bn=nn.BatchNorm3d(out_chans, eps=1e-3, momentum=1e-3),
            act=nn.ReLU(inplace=True),
        )
    )


def _conv(in_chans: int, out_chans: int, side: int, stride: int) -> nn.Sequential:
    """A 1x1x1 convolution, or one over space and then one over time."""
    if side == 1:
        return _conv_norm(in_chans, out_chans, (1, 1, 1))
    return nn.Sequential(
        OrderedDict(
            spatial=_conv_norm(in_chans, out_chans, (1, side, side), (1, stride, stride)),
            temporal=_conv_norm(out_chans, out_chans, (side, 1, 1), (stride, 1, 1)),
        )
    )


def _pool(frames: int, side: int, stride: int) -> nn.MaxPool3d:
    strides = (1 if frames == 1 else stride, stride, stride)
    half = (side - 1) // 2
    return nn.MaxPool3d((frames, side, side), strides, ((frames - 1) // 2, half, half))


class S3D(InceptionVideo):
    """Inception-V1 of separable convolutions.

    Features are (N, D, T', H', W'). Any number of frames and any size can be given to `forward`.

    Args:
        plan: Widths of the blocks of the last three stages.
        stem: Channels of the stem.
        num_classes: Classes K; 0 returns the pooled features.
        in_chans: Input channels C.
        num_frames: Frames that `load_clip` delivers.
        img_size: Side of the pictures that `load_clip` delivers.
        drop_rate: Dropout before the classifier.
    """

    stem_weights = ("stem.spatial.conv.weight",)

    def __init__(
        self,
        plan: Sequence[Sequence[Widths]] = INCEPTION_V1,
        stem: int = 64,
        *,
        num_classes: int = 400,
        in_chans: int = 3,
        num_frames: int = 128,
        img_size: int = 224,
        drop_rate: float = 0.0,
    ) -> None:
        super().__init__(
            _conv,
            _pool,
            plan,
            stem,
            num_classes=num_classes,
            in_chans=in_chans,
            num_frames=num_frames,
            img_size=img_size,
            drop_rate=drop_rate,
        )


def _plain(theirs: str, ours: str) -> tuple[Rule, ...]:
    """A convolution is number 0 of torchvision's list, its BatchNorm number 1."""
    return (Rule(f"{theirs}.0", f"{ours}.conv"), Rule(f"{theirs}.1", f"{ours}.bn"))


def _separable(theirs: str, ours: str) -> tuple[Rule, ...]:
    return (*_plain(f"{theirs}.0", f"{ours}.spatial"), *_plain(f"{theirs}.1", f"{ours}.temporal"))


def _inception(theirs: str, ours: str) -> tuple[Rule, ...]:
    return (
        *_plain(f"{theirs}.branch0", f"{ours}.branch0"),
        *_plain(f"{theirs}.branch1.0", f"{ours}.branch1_reduce"),
        *_separable(f"{theirs}.branch1.1", f"{ours}.branch1"),
        *_plain(f"{theirs}.branch2.0", f"{ours}.branch2_reduce"),
        *_separable(f"{theirs}.branch2.1", f"{ours}.branch2"),
        *_plain(f"{theirs}.branch3.1", f"{ours}.branch3"),
    )


# torchvision's is one list, in which the pools are counted too.
_BLOCKS = {
    5: "layer2.1",
    6: "layer2.2",
    8: "layer3.1",
    9: "layer3.2",
    10: "layer3.3",
    11: "layer3.4",
    12: "layer3.5",
    14: "layer4.1",
    15: "layer4.2",
}
TORCHVISION = KeyMap(
    (
        *_separable("features.0", "stem"),
        *_plain("features.2", "layer1.1"),
        *_separable("features.3", "layer1.2"),
        *(rule for i, ours in _BLOCKS.items() for rule in _inception(f"features.{i}", ours)),
        Merge(("classifier.1.weight",), "fc.weight", POINTWISE),
        Rule("classifier.1.bias", "fc.bias"),
    )
)

_PAPER = Paper(
    title="Rethinking Spatiotemporal Feature Learning: Speed-Accuracy Trade-offs in Video "
    "Classification",
    url="https://arxiv.org/abs/1712.04851",
    year=2017,
)
_SAMPLING = Sampling(
    rule="dense",
    num_frames=128,
    frame_stride=2,
    fps=30.0,
    num_clips=1,
    num_crops=1,
    average="logits",
)
_PREPROCESS = Preprocess(
    img_size=224,
    resize=(256, 256),
    interpolation="bilinear",
    antialias=False,
    mean=(0.43216, 0.394666, 0.37645),
    std=(0.22803, 0.22145, 0.216989),
)
_PROTOCOL: dict[str, Any] = {
    "dataset": "kinetics400",
    "split": "validation",
    "level": "clip",
    "num_clips": 1,
    "num_crops": 1,
    "measured_by": "torchvision",
    "note": "videos resampled to 15 frames per second; the clip starts with the video",
}
K400 = Weights(
    tag="k400",
    source=UpstreamSource(
        layout="torchvision",
        filename="s3d-d76dad2f.pth",
        url="https://download.pytorch.org/models/s3d-d76dad2f.pth",
        sha256="d76dad2f",
    ),
    licence="BSD-3-Clause",
    data="Kinetics-400",
    num_classes=400,
    labels="kinetics400",
    sampling=_SAMPLING,
    preprocess=_PREPROCESS,
    metrics=(
        Metric(name="top1", value=68.368, **_PROTOCOL),
        Metric(name="top5", value=88.05, **_PROTOCOL),
    ),
    note="The licence is torchvision's; none is stated for the weights alone.",
)


@register_model(
    order="used",
    num_classes=7,
    sampling=replace(_SAMPLING, num_frames=8),
    preprocess=replace(_PREPROCESS, img_size=32, resize=32),
    layouts={"torchvision": TORCHVISION},
)
def test_s3d(**kwargs: Any) -> S3D:
    """S3D of one narrow block a stage, for tests."""
    return S3D(TINY_INCEPTION, 4, **kwargs)


@register_model(order="used", paper=_PAPER, weights=(K400,), layouts={"torchvision": TORCHVISION})
def s3d(*, drop_rate: float = 0.2, **kwargs: Any) -> S3D:
    """Inception-V1 with each 3x3x3 convolution over space, then over time."""
    return S3D(drop_rate=drop_rate, **kwargs)
