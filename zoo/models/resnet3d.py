"""C2D, I3D and R(2+1)D on ResNet-50, as pytorchvideo trains them.

Wang et al., "Non-local Neural Networks" (https://arxiv.org/abs/1711.07971), for C2D and I3D on
ResNet-50, which is not Carreira and Zisserman's Inception network; Tran et al., "A Closer Look at
Spatiotemporal Convolutions for Action Recognition" (https://arxiv.org/abs/1711.11248). The
reference is pytorchvideo's `models/resnet.py` and `models/r2plus1d.py` (Apache-2.0), whose weights
these carry. Its `r2plus1d_r50` returns probabilities; ours gives logits, as every model here does.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from registry import Paper, register_model
from zoo.layers import Conv3d
from zoo.models._bottleneck import (
    IN1K_INFLATED,
    PREPROCESS,
    TIMM,
    BottleneckResNet,
    Stride,
    pytorchvideo_weights,
    single_pathway_layouts,
    span,
)

__all__ = ["TimeFirstConv", "c2d_r50", "i3d_r50", "r2plus1d_r50"]


class TimeFirstConv(nn.Module):
    """A 3x3x3 convolution factorised into time (3x1x1), then space (1x3x3), at one width.

    `zoo.layers.Conv2Plus1D`, which is the paper's, has space first and a width of its own between.

    Args:
        width: Channels D.
        stride: Stride over (t, h, w).
    """

    def __init__(self, width: int, stride: Stride) -> None:
        super().__init__()
        t, h, w = stride
        self.temporal = Conv3d(
            width, width, (3, 1, 1), stride=(t, 1, 1), padding=(1, 0, 0), bias=False
        )
        self.norm = nn.BatchNorm3d(width)
        self.act = nn.ReLU(inplace=True)
        self.spatial = Conv3d(
            width, width, (1, 3, 3), stride=(1, h, w), padding=(0, 1, 1), bias=False
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, D, T, H, W) to (N, D, T', H', W')."""
        return self.spatial(self.act(self.norm(self.temporal(x))))


_POOLED = single_pathway_layouts(pooled=True) | {"timm": TIMM}
_FACTORISED: dict[str, Any] = {
    "middle": (("conv_t", "temporal"), ("norm", "norm"), ("conv_xy", "spatial"))
}

_NONLOCAL = Paper(
    title="Non-local Neural Networks", url="https://arxiv.org/abs/1711.07971", year=2018
)
_R2PLUS1D = Paper(
    title="A Closer Look at Spatiotemporal Convolutions for Action Recognition",
    url="https://arxiv.org/abs/1711.11248",
    year=2018,
)
_TINY: dict[str, Any] = {
    "num_classes": 7,
    "sampling": span(8, 2),
    "preprocess": replace(PREPROCESS, img_size=32, resize=32),
}
_TINY_NET: dict[str, Any] = {"strides": ((1, 1), (1, 2)), "width": 8}
_TINY_POOLED = single_pathway_layouts(2, pooled=True) | {"timm": TIMM}


@register_model(order="reversal_blind", layouts=_TINY_POOLED, **_TINY)
def test_c2d(**kwargs: Any) -> BottleneckResNet:
    """C2D of two narrow stages, for tests."""
    return BottleneckResNet((1, 2), ((1,), (1,)), temporal_pool=True, **_TINY_NET, **kwargs)


@register_model(order="used", layouts=_TINY_POOLED, **_TINY)
def test_i3d_bottleneck(**kwargs: Any) -> BottleneckResNet:
    """I3D of bottleneck blocks in two narrow stages, for tests."""
    return BottleneckResNet(
        (1, 2), ((3,), (1, 3)), temporal_pool=True, stem_frames=5, **_TINY_NET, **kwargs
    )


@register_model(order="used", layouts=single_pathway_layouts(2, **_FACTORISED), **_TINY)
def test_r2plus1d(**kwargs: Any) -> BottleneckResNet:
    """R(2+1)D of bottleneck blocks in two narrow stages, for tests."""
    return BottleneckResNet(
        (1, 2), ((1,), (1,)), TimeFirstConv, ((1, 2), (2, 2)), stem_pool=False, width=8, **kwargs
    )


@register_model(
    order="reversal_blind",
    paper=_NONLOCAL,
    weights=(
        pytorchvideo_weights(
            "k400", "kinetics/C2D_8x8_R50.pyth", span(8, 8), top1=71.46, top5=89.68
        ),
        IN1K_INFLATED,
    ),
    layouts=_POOLED,
)
def c2d_r50(**kwargs: Any) -> BottleneckResNet:
    """ResNet-50 of 2D convolutions with one max pool over time."""
    return BottleneckResNet((3, 4, 6, 3), ((1,),) * 4, temporal_pool=True, **kwargs)


@register_model(
    order="used",
    paper=_NONLOCAL,
    weights=(
        pytorchvideo_weights(
            "k400", "kinetics/I3D_8x8_R50.pyth", span(8, 8), top1=73.27, top5=90.7
        ),
        IN1K_INFLATED,
    ),
    layouts=_POOLED,
)
def i3d_r50(**kwargs: Any) -> BottleneckResNet:
    """ResNet-50 with three frames in the first convolution of every second block."""
    kernels = ((3,), (3, 1), (3, 1), (1, 3))
    return BottleneckResNet((3, 4, 6, 3), kernels, temporal_pool=True, stem_frames=5, **kwargs)


@register_model(
    order="used",
    paper=_R2PLUS1D,
    weights=(
        pytorchvideo_weights(
            "k400", "kinetics/R2PLUS1D_16x4_R50.pyth", span(16, 4), top1=76.01, top5=92.23
        ),
    ),
    layouts=single_pathway_layouts(**_FACTORISED),
)
def r2plus1d_r50(**kwargs: Any) -> BottleneckResNet:
    """ResNet-50 whose middle convolutions are factorised into time, then space."""
    strides = ((1, 2), (1, 2), (2, 2), (2, 2))
    return BottleneckResNet(
        (3, 4, 6, 3), ((1,),) * 4, TimeFirstConv, strides, stem_pool=False, **kwargs
    )
