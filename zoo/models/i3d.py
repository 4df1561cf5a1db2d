"""I3D on ResNet-18: a 2D ResNet whose every spatial convolution is inflated.

Carreira and Zisserman, "Quo Vadis, Action Recognition?" (https://arxiv.org/abs/1705.07750),
describe the inflation; this network applies it to He et al.'s ResNet-18 as timm lays it out. It
differs from the paper's in two ways that make a still clip give the 2D network's features on every
output frame: time is never strided or pooled, and edge frames are repeated beyond the clip's ends.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from converters import KeyMap, Rule
from registry import ImageSource, Paper, Preprocess, Sampling, Weights, register_model
from zoo.layers import Conv3d, InflatedConv3d, TemporalPadding, make_classifier
from zoo.models._staged import StagedModel

__all__ = ["InflatedResNet", "i3d_r18"]


class Block(nn.Module):
    """Two 3x3x3 convolutions around a shortcut.

    Args:
        in_chans: Input channels C.
        out_chans: Output channels D.
        stride: Stride in space of the first convolution.
        temporal_padding: See `InflatedConv3d`.
    """

    def __init__(
        self, in_chans: int, out_chans: int, *, stride: int, temporal_padding: TemporalPadding
    ) -> None:
        super().__init__()
        self.conv1 = InflatedConv3d(
            in_chans, out_chans, (3, 3, 3), stride=stride, temporal_padding=temporal_padding
        )
        self.bn1 = nn.BatchNorm3d(out_chans)
        self.conv2 = InflatedConv3d(
            out_chans, out_chans, (3, 3, 3), temporal_padding=temporal_padding
        )
        self.bn2 = nn.BatchNorm3d(out_chans)
        self.act = nn.ReLU(inplace=True)
        self.downsample: nn.Module | None = None
        if stride != 1 or in_chans != out_chans:
            self.downsample = nn.Sequential(
                Conv3d(in_chans, out_chans, 1, stride=(1, stride, stride), bias=False),
                nn.BatchNorm3d(out_chans),
            )

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, T, H, W) to (N, D, T, H', W')."""
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.act(self.bn1(self.conv1(x)))
        return self.act(self.bn2(self.conv2(x)) + shortcut)


class InflatedResNet(StagedModel):
    """A ResNet of basic blocks with 3x3x3 kernels and no stride in time.

    Features are (N, D, T, H/32, W/32). Any number of frames and any size can be given to `forward`.

    Args:
        widths: Channels of each stage.
        depths: Blocks in each stage.
        num_classes: Classes K; 0 returns the pooled features.
        in_chans: Input channels C.
        num_frames: Frames that `load_clip` delivers.
        img_size: Side of the pictures that `load_clip` delivers.
        temporal_padding: `replicate`, or `zeros` as the first I3D networks pad time.
        drop_rate: Dropout before the classifier.
    """

    classifier_name = "fc"
    stem_weights = ("conv1.weight",)

    def __init__(
        self,
        widths: Sequence[int] = (64, 128, 256, 512),
        depths: Sequence[int] = (2, 2, 2, 2),
        *,
        num_classes: int = 400,
        in_chans: int = 3,
        num_frames: int = 8,
        img_size: int = 224,
        temporal_padding: TemporalPadding = "replicate",
        drop_rate: float = 0.0,
    ) -> None:
        super().__init__()
        self.in_chans, self.num_frames, self.img_size = in_chans, num_frames, img_size
        self.conv1 = InflatedConv3d(
            in_chans, widths[0], (3, 7, 7), stride=2, temporal_padding=temporal_padding
        )
        self.bn1 = nn.BatchNorm3d(widths[0])
        self.act1 = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool3d((1, 3, 3), stride=(1, 2, 2), padding=(0, 1, 1))
        self.feature_info = [{"num_chs": widths[0], "reduction": 2, "module": "act1"}]
        width = widths[0]
        for index, (out, depth) in enumerate(zip(widths, depths, strict=True)):
            blocks = [
                Block(
                    width if position == 0 else out,
                    out,
                    stride=2 if position == 0 and index > 0 else 1,
                    temporal_padding=temporal_padding,
                )
                for position in range(depth)
            ]
            name = f"layer{index + 1}"
            self.add_module(name, nn.Sequential(*blocks))
            self.feature_info.append({"num_chs": out, "reduction": 4 * 2**index, "module": name})
            width = out
        self.num_features = width
        self.num_classes = num_classes
        self.drop = nn.Dropout(drop_rate)
        self.fc = make_classifier(width, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv3d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def _stages(self) -> list[nn.Module]:
        stem = nn.Sequential(self.conv1, self.bn1, self.act1)
        first, *others = [self.get_submodule(info["module"]) for info in self.feature_info[1:]]
        return [stem, nn.Sequential(self.maxpool, first), *others]


TIMM = KeyMap(
    (Rule("{part}", "{part}", inflate=True),),
    dropped={"fc": "it names the classes of pictures"},
    new={"fc": "normal with deviation 0.01, bias 0"},
)

_PAPER = Paper(
    title="Quo Vadis, Action Recognition? A New Model and the Kinetics Dataset",
    url="https://arxiv.org/abs/1705.07750",
    year=2017,
)
_IN1K_INFLATED = Weights(
    tag="in1k_inflated",
    source=ImageSource(library="timm", model="resnet18.a1_in1k", layout="timm", inflation="mean"),
    licence="Apache-2.0",
    data="ImageNet-1k (pictures)",
    num_classes=0,
    labels=None,
    sampling=Sampling(
        rule="dense",
        num_frames=8,
        frame_stride=8,
        fps=30.0,
        num_clips=1,
        num_crops=1,
        average="logits",
    ),
    preprocess=Preprocess(
        img_size=224,
        resize=256,
        interpolation="bicubic",
        antialias=True,
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
    ),
    note="A start for training: the classifier is new.",
)
_IN1K_CENTER = replace(
    _IN1K_INFLATED,
    tag="in1k_inflated_center",
    source=ImageSource(library="timm", model="resnet18.a1_in1k", layout="timm", inflation="center"),
    note="As in1k_inflated, each 2D kernel in the middle of three frames and zeros beside it.",
)


@register_model(
    order="used",
    num_classes=7,
    sampling=replace(_IN1K_INFLATED.sampling, num_frames=4),
    preprocess=replace(_IN1K_INFLATED.preprocess, img_size=32, resize=32),
    layouts={"timm": TIMM},
)
def test_i3d(**kwargs: Any) -> InflatedResNet:
    """I3D of two narrow stages, for tests."""
    return InflatedResNet((8, 12), (1, 2), **kwargs)


@register_model(
    order="used",
    paper=_PAPER,
    num_classes=400,
    weights=(_IN1K_INFLATED, _IN1K_CENTER),
    layouts={"timm": TIMM},
)
def i3d_r18(**kwargs: Any) -> InflatedResNet:
    """ResNet-18 inflated from pictures: 3x3x3 kernels, no stride in time."""
    return InflatedResNet(**kwargs)
