"""C3D: eight 3x3x3 convolutions and two wide linear layers, the first 3D network on video.

Tran et al., "Learning Spatiotemporal Features with 3D Convolutional Networks"
(https://arxiv.org/abs/1412.0767). The reference is mmaction2's `backbones/c3d.py` with its I3DHead
(Apache-2.0), whose weights this model carries. Its first linear layer reads every place of the last
map, so that clips of other lengths and sizes are refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from converters import KeyMap, Rule
from registry import Metric, Paper, Preprocess, Sampling, UpstreamSource, Weights, register_model
from zoo.layers import Conv3d, make_classifier
from zoo.models._staged import StagedModel

__all__ = ["C3D", "c3d"]


class ConvReLU(Conv3d):
    """A 3x3x3 convolution with offsets, and a ReLU; there is no normalisation."""

    def __init__(self, in_chans: int, out_chans: int) -> None:
        super().__init__(in_chans, out_chans, 3, padding=1)
        nn.init.kaiming_normal_(self.weight, mode="fan_out", nonlinearity="relu")
        assert self.bias is not None
        nn.init.zeros_(self.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, T, H, W) to (N, D, T, H, W)."""
        return F.relu(super().forward(x), inplace=True)


class C3D(StagedModel):
    """Five stages of convolutions, a pool before each but the first, and three linear layers.

    Features are (N, D, T/8, H/16, W/16), the last map before the last pool.

    Args:
        native: Frames and side of the only clips that are taken, as (T, H).
        widths: Channels of each stage.
        hidden: Width of the two linear layers before the classifier.
        num_classes: Classes K; 0 returns the pooled features.
        in_chans: Input channels C.
        num_frames: Frames in a clip; those of `native`.
        img_size: Side of the pictures; that of `native`.
        drop_rate: Dropout before the second linear layer and before the classifier.
    """

    classifier_name = "fc"
    stem_weights = ("stem.weight",)
    fixed_input = True

    def __init__(
        self,
        native: tuple[int, int] = (16, 112),
        widths: Sequence[int] = (64, 128, 256, 512, 512),
        hidden: int = 4096,
        *,
        num_classes: int = 101,
        in_chans: int = 3,
        num_frames: int = 16,
        img_size: int = 112,
        drop_rate: float = 0.0,
    ) -> None:
        super().__init__()
        self.native = (native[0], native[1], native[1])
        self._refuse_other_sizes((num_frames, img_size, img_size))
        self.in_chans, self.num_frames, self.img_size = in_chans, num_frames, img_size
        self.stem = ConvReLU(in_chans, widths[0])
        self.feature_info = [{"num_chs": widths[0], "reduction": 1, "module": "stem"}]
        width = widths[0]
        for index, (out, depth) in enumerate(zip(widths[1:], (1, 2, 2, 2), strict=True), start=1):
            # The first pool keeps every frame.
            stage = nn.Sequential(nn.MaxPool3d((1 if index == 1 else 2, 2, 2)))
            for _ in range(depth):
                stage.append(ConvReLU(width, out))
                width = out
            self.add_module(f"layer{index}", stage)
            self.feature_info.append(
                {"num_chs": out, "reduction": 2**index, "module": f"layer{index}"}
            )
        self.last_pool = nn.MaxPool3d(2, padding=(0, 1, 1))
        places = (num_frames // 16) * (img_size // 32 + 1) ** 2
        self.fc6 = nn.Linear(places * width, hidden)
        self.fc7 = nn.Linear(hidden, hidden)
        for layer in (self.fc6, self.fc7):
            nn.init.normal_(layer.weight, std=0.005)
            nn.init.zeros_(layer.bias)
        self.num_features, self.num_classes = hidden, num_classes
        self.drop = nn.Dropout(drop_rate)
        self.fc = make_classifier(hidden, num_classes)

    def _refuse_other_sizes(self, size: tuple[int, ...]) -> None:
        if size != self.native:
            raise ValueError(
                f"This model is made for clips of (T, H, W) = {self.native}, got {size}; its first "
                f"linear layer reads every place of the last map. zoo.load_clip makes such clips."
            )

    def check_input(self, x: Tensor) -> None:
        """See `VideoModel.check_input`; other lengths and sizes are refused too."""
        super().check_input(x)
        self._refuse_other_sizes(tuple(x.shape[2:]))

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Map features (N, D, T', H', W') to what the last two layers make of them, (N, 4096)."""
        x = self.last_pool(x).flatten(1)  # (N, D * T'' * H'' * W'')
        x = self.drop(F.relu(self.fc6(x)))
        x = self.drop(F.relu(self.fc7(x)))
        logits: Tensor = x if pre_logits else self.get_classifier()(x)
        return logits


MMACTION2 = KeyMap(
    (
        Rule("backbone.conv1a.conv", "stem"),
        Rule("backbone.conv2a.conv", "layer1.1"),
        Rule("backbone.conv3a.conv", "layer2.1"),
        Rule("backbone.conv3b.conv", "layer2.2"),
        Rule("backbone.conv4a.conv", "layer3.1"),
        Rule("backbone.conv4b.conv", "layer3.2"),
        Rule("backbone.conv5a.conv", "layer4.1"),
        Rule("backbone.conv5b.conv", "layer4.2"),
        Rule("backbone.fc6", "fc6"),
        Rule("backbone.fc7", "fc7"),
        Rule("cls_head.fc_cls", "fc"),
    )
)

_PAPER = Paper(
    title="Learning Spatiotemporal Features with 3D Convolutional Networks",
    url="https://arxiv.org/abs/1412.0767",
    year=2014,
)
_SAMPLING = Sampling(
    rule="dense",
    num_frames=16,
    frame_stride=1,
    fps=None,
    num_clips=10,
    num_crops=1,
    average="probabilities",
)
# Means of 104, 117 and 128 on bytes, deviation 1. They were measured on blue, green and red; the
# reference subtracts them from red, green and blue in that order, so these weights want it too.
_PREPROCESS = Preprocess(
    img_size=112,
    resize=128,
    interpolation="bilinear",
    antialias=False,
    mean=(104 / 255, 117 / 255, 128 / 255),
    std=(1 / 255, 1 / 255, 1 / 255),
)
_NAME = "c3d_sports1m-pretrained_8xb30-16x1x1-45e_ucf101-rgb"
_PROTOCOL: dict[str, Any] = {
    "dataset": "ucf101",
    "split": "test split 1",
    "level": "video",
    "num_clips": 10,
    "num_crops": 1,
    "measured_by": "mmaction2",
}
UCF101 = Weights(
    tag="ucf101",
    source=UpstreamSource(
        layout="mmaction2",
        filename=f"{_NAME}_20220811-31723200.pth",
        url=f"https://download.openmmlab.com/mmaction/v1.0/recognition/c3d/{_NAME}/"
        f"{_NAME}_20220811-31723200.pth",
        sha256="31723200",
    ),
    licence="Apache-2.0",
    data="Sports-1M, then UCF101 (split 1)",
    num_classes=101,
    labels="ucf101",
    sampling=_SAMPLING,
    preprocess=_PREPROCESS,
    metrics=(
        Metric(name="top1", value=83.08, **_PROTOCOL),
        Metric(name="top5", value=95.93, **_PROTOCOL),
    ),
    note="The licence is mmaction2's; none is stated for the weights alone.",
)


@register_model(
    order="used",
    num_classes=7,
    sampling=_SAMPLING,
    preprocess=replace(_PREPROCESS, img_size=32, resize=32),
    layouts={"mmaction2": MMACTION2},
)
def test_c3d(**kwargs: Any) -> C3D:
    """C3D of narrow layers for clips of 32 pixels, for tests."""
    return C3D((16, 32), (4, 6, 8, 8, 8), 16, **kwargs)


@register_model(order="used", paper=_PAPER, weights=(UCF101,), layouts={"mmaction2": MMACTION2})
def c3d(*, drop_rate: float = 0.5, **kwargs: Any) -> C3D:
    """Eight 3x3x3 convolutions and two linear layers, for 16 frames of 112 pixels."""
    return C3D(drop_rate=drop_rate, **kwargs)
