"""CSN: bottleneck ResNets whose 3x3x3 convolutions see each channel by itself.

Tran et al., "Video Classification with Channel-Separated Convolutional Networks"
(https://arxiv.org/abs/1904.02811). The interaction-reduced network is pytorchvideo's
(`models/csn.py`, Apache-2.0), whose weights it carries; the interaction-preserved one follows the
authors' `pt/vmz/models/csn.py` (VMZ, Apache-2.0), where every BatchNorm adds 1e-3 to the variance.
The authors' momentum of 0.9 is Caffe2's way to write PyTorch's 0.1, which is used here.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from torch import nn

from converters import KeyMap, Rule
from registry import Paper, register_model
from zoo.layers import Conv3d
from zoo.models._bottleneck import (
    PREPROCESS,
    BottleneckResNet,
    ConvMaker,
    Stride,
    depthwise_conv,
    pytorchvideo_weights,
    single_pathway_layouts,
    span,
)

__all__ = ["csn_r101", "ip_csn_r101", "preserved_conv"]


def preserved_conv(width: int, stride: Stride) -> nn.Module:
    """A 1x1x1 convolution over channels, BatchNorm, then the depthwise one; no ReLU between."""
    return nn.Sequential(
        OrderedDict(
            mix=Conv3d(width, width, 1, bias=False),
            norm=nn.BatchNorm3d(width),
            depthwise=depthwise_conv(width, stride),
        )
    )


_BLOCK = "{stage}.{block}"
VMZ = KeyMap(
    (
        Rule("stem.0", "stem.conv"),
        Rule("stem.1", "stem.bn"),
        Rule(f"{_BLOCK}.conv2.0.0", f"{_BLOCK}.conv2.mix"),
        Rule(f"{_BLOCK}.conv2.0.1", f"{_BLOCK}.conv2.norm"),
        Rule(f"{_BLOCK}.conv2.0.2", f"{_BLOCK}.conv2.depthwise"),
        Rule(f"{_BLOCK}.conv2.1", f"{_BLOCK}.bn2"),
        Rule(f"{_BLOCK}.conv1.0", f"{_BLOCK}.conv1"),
        Rule(f"{_BLOCK}.conv1.1", f"{_BLOCK}.bn1"),
        Rule(f"{_BLOCK}.conv3.0", f"{_BLOCK}.conv3"),
        Rule(f"{_BLOCK}.conv3.1", f"{_BLOCK}.bn3"),
        Rule(f"{_BLOCK}.downsample", f"{_BLOCK}.downsample"),
        Rule("fc", "fc"),
    )
)

_PAPER = Paper(
    title="Video Classification with Channel-Separated Convolutional Networks",
    url="https://arxiv.org/abs/1904.02811",
    year=2019,
)
_SAMPLING = span(32, 2)
_TINY: dict[str, Any] = {
    "num_classes": 7,
    "sampling": span(8, 2),
    "preprocess": replace(PREPROCESS, img_size=32, resize=32),
}


def _csn(depths: Sequence[int], make_conv: ConvMaker, **kwargs: Any) -> BottleneckResNet:
    """A network whose stages but the first stride time as well as space."""
    strides = ((1, 1), *((2, 2),) * (len(depths) - 1))
    kernels = ((1,),) * len(depths)
    return BottleneckResNet(depths, kernels, make_conv, strides, stem_frames=3, **kwargs)


@register_model(order="used", layouts=single_pathway_layouts(2), **_TINY)
def test_csn(**kwargs: Any) -> BottleneckResNet:
    """Interaction-reduced CSN of two narrow stages, for tests."""
    return _csn((1, 2), depthwise_conv, width=8, **kwargs)


@register_model(order="used", layouts={"vmz": VMZ}, **_TINY)
def test_ip_csn(**kwargs: Any) -> BottleneckResNet:
    """Interaction-preserved CSN of two narrow stages, for tests."""
    return _csn((1, 2), preserved_conv, width=8, eps=1e-3, **kwargs)


@register_model(
    order="used",
    paper=_PAPER,
    weights=(
        pytorchvideo_weights(
            "k400", "kinetics/CSN_32x2_R101.pyth", _SAMPLING, top1=77.0, top5=92.9
        ),
    ),
    layouts=single_pathway_layouts(),
)
def csn_r101(**kwargs: Any) -> BottleneckResNet:
    """ResNet-101 of depthwise 3x3x3 convolutions (ir-CSN)."""
    return _csn((3, 4, 23, 3), depthwise_conv, **kwargs)


@register_model(
    order="used",
    paper=_PAPER,
    num_classes=400,
    sampling=_SAMPLING,
    preprocess=PREPROCESS,
    layouts={"vmz": VMZ},
)
def ip_csn_r101(**kwargs: Any) -> BottleneckResNet:
    """ResNet-101 with a 1x1x1 convolution before each depthwise one (ip-CSN)."""
    return _csn((3, 4, 23, 3), preserved_conv, eps=1e-3, **kwargs)
