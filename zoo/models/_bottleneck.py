"""What the bottleneck ResNets over space and time share: blocks, head, key map, records.

C2D, I3D, Slow, SlowFast, R(2+1)D and CSN are one design in pytorchvideo (Apache-2.0,
`models/resnet.py`, `head.py`): a ResNet-50 whose blocks differ in the temporal size of the first
convolution and in the kind of the second. Names of modules here are timm's.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import cycle, islice
from typing import Any, TypeAlias

import torch.nn.functional as F
from torch import Tensor, nn

from converters import KeyMap, Rule
from registry import UNKNOWN, ImageSource, Metric, Preprocess, Sampling, UpstreamSource, Weights
from zoo.layers import Conv3d, make_classifier
from zoo.models._staged import StagedModel

__all__ = [
    "IN1K_INFLATED",
    "PREPROCESS",
    "TIMM",
    "Bottleneck",
    "BottleneckResNet",
    "ConvMaker",
    "Stem",
    "Stride",
    "block_rules",
    "depthwise_conv",
    "init_resnet",
    "make_stage",
    "pytorchvideo_layouts",
    "pytorchvideo_weights",
    "single_pathway_layouts",
    "span",
    "spatial_conv",
    "window_mean",
]

Stride: TypeAlias = tuple[int, int, int]
ConvMaker: TypeAlias = Callable[[int, Stride], nn.Module]
"""From a width and a stride over (t, h, w) to the middle convolution of a block."""

WINDOW = 7
"""Side of the last features at 224 pixels, the crop that every one of these was trained on."""


def spatial_conv(width: int, stride: Stride) -> nn.Module:
    """The 1x3x3 convolution of a plain block."""
    return Conv3d(width, width, (1, 3, 3), stride=stride, padding=(0, 1, 1), bias=False)


def depthwise_conv(width: int, stride: Stride) -> nn.Module:
    """A 3x3x3 convolution of each channel by itself."""
    return Conv3d(width, width, 3, stride=stride, padding=1, groups=width, bias=False)


class Stem(nn.Module):
    """First layer: 7x7 in space with stride 2, then a max pool with stride 2 or none.

    Args:
        in_chans: Input channels C.
        out_chans: Output channels D.
        frames: Temporal size of the kernel.
        pool: Whether space is pooled.
    """

    def __init__(self, in_chans: int, out_chans: int, *, frames: int, pool: bool = True) -> None:
        super().__init__()
        self.conv = Conv3d(
            in_chans,
            out_chans,
            (frames, 7, 7),
            stride=(1, 2, 2),
            padding=(frames // 2, 3, 3),
            bias=False,
        )
        self.bn = nn.BatchNorm3d(out_chans)
        self.act = nn.ReLU(inplace=True)
        self.pool = (
            nn.MaxPool3d((1, 3, 3), stride=(1, 2, 2), padding=(0, 1, 1)) if pool else nn.Identity()
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, T, H, W) to (N, D, T, H/4, W/4), or half the size without the pool."""
        return self.pool(self.act(self.bn(self.conv(x))))


class Bottleneck(nn.Module):
    """Three convolutions around a shortcut; the middle one takes the stride.

    Args:
        in_chans: Input channels C.
        width: Channels between the convolutions.
        out_chans: Output channels D.
        frames: Temporal size of the first kernel.
        stride: Stride over (t, h, w).
        make_conv: Makes the middle convolution.
    """

    def __init__(
        self,
        in_chans: int,
        width: int,
        out_chans: int,
        *,
        frames: int,
        stride: Stride,
        make_conv: ConvMaker,
    ) -> None:
        super().__init__()
        self.conv1 = Conv3d(
            in_chans, width, (frames, 1, 1), padding=(frames // 2, 0, 0), bias=False
        )
        self.bn1 = nn.BatchNorm3d(width)
        # As pytorchvideo and timm do it; Caffe2's ResNets stride the first convolution instead.
        self.conv2 = make_conv(width, stride)
        self.bn2 = nn.BatchNorm3d(width)
        self.conv3 = Conv3d(width, out_chans, 1, bias=False)
        self.bn3 = nn.BatchNorm3d(out_chans)
        self.act = nn.ReLU(inplace=True)
        self.downsample: nn.Module | None = None
        if stride != (1, 1, 1) or in_chans != out_chans:
            self.downsample = nn.Sequential(
                Conv3d(in_chans, out_chans, 1, stride=stride, bias=False),
                nn.BatchNorm3d(out_chans),
            )

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, T, H, W) to (N, D, T', H', W')."""
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.act(self.bn1(self.conv1(x)))
        x = self.act(self.bn2(self.conv2(x)))
        return self.act(self.bn3(self.conv3(x)) + shortcut)


def make_stage(
    in_chans: int,
    out_chans: int,
    depth: int,
    *,
    kernels: Sequence[int],
    stride: Stride,
    make_conv: ConvMaker = spatial_conv,
) -> nn.Sequential:
    """A chain of blocks of which the first takes the stride.

    Args:
        in_chans: Input channels C.
        out_chans: Output channels D; the blocks are a quarter as wide inside.
        depth: Number of blocks.
        kernels: Temporal sizes of the blocks' first kernels, repeated in turn.
        stride: Stride over (t, h, w).
        make_conv: Makes the middle convolutions.
    """
    return nn.Sequential(
        *(
            Bottleneck(
                in_chans if index == 0 else out_chans,
                out_chans // 4,
                out_chans,
                frames=frames,
                stride=stride if index == 0 else (1, 1, 1),
                make_conv=make_conv,
            )
            for index, frames in enumerate(islice(cycle(kernels), depth))
        )
    )


def window_mean(x: Tensor) -> Tensor:
    """Average over time, over every 7x7 window of a frame, and over the windows.

    pytorchvideo pools with the kernel of its training crop and averages the logits of all places;
    a linear layer may as well come last. Beyond 224 pixels this weighs a frame's middle more than
    its border; up to there it is the plain mean.

    Args:
        x: Features, (N, D, T', H', W').

    Returns:
        Pooled features, (N, D).
    """
    h, w = x.shape[3:]
    frame = x.mean(dim=2)  # (N, D, H', W')
    windows = F.avg_pool2d(frame, (min(h, WINDOW), min(w, WINDOW)), stride=1)  # (N, D, i, j)
    return windows.mean(dim=(2, 3))  # (N, D)


def init_resnet(model: nn.Module) -> None:
    """He's initialisation, and a zero scale in the last norm of every block."""
    for module in model.modules():
        if isinstance(module, nn.Conv3d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(module, Bottleneck):
            nn.init.zeros_(module.bn3.weight)


class BottleneckResNet(StagedModel):
    """One pathway of bottleneck blocks.

    Features are (N, D, T', H', W'). Any number of frames and any size can be given to `forward`;
    the authors' kernels of the last pooling are reproduced at every size that they accept.

    Args:
        depths: Blocks in each stage.
        kernels: For each stage the temporal sizes of its blocks' first kernels, see `make_stage`.
        make_conv: Makes the middle convolution of every block.
        strides: For each stage its strides in time and in space.
        stem_frames: Temporal size of the first kernel.
        stem_pool: Whether space is pooled after the first layer.
        temporal_pool: Whether the larger of two neighbouring frames is kept after the first stage;
            an odd last frame is left out there.
        width: Channels of the first layer; stages give 4, 8, 16 and 32 times as many.
        eps: What every BatchNorm adds to the variance.
        num_classes: Classes K; 0 returns the pooled features.
        in_chans: Input channels C.
        num_frames: Frames that `load_clip` delivers.
        img_size: Side of the pictures that `load_clip` delivers.
        drop_rate: Dropout before the classifier; the authors train with 0.5.
    """

    classifier_name = "fc"
    stem_weights = ("stem.conv.weight",)

    def __init__(
        self,
        depths: Sequence[int],
        kernels: Sequence[Sequence[int]],
        make_conv: ConvMaker = spatial_conv,
        strides: Sequence[tuple[int, int]] = ((1, 1), (1, 2), (1, 2), (1, 2)),
        stem_frames: int = 1,
        stem_pool: bool = True,
        temporal_pool: bool = False,
        width: int = 64,
        eps: float = 1e-5,
        *,
        num_classes: int = 400,
        in_chans: int = 3,
        num_frames: int = 8,
        img_size: int = 224,
        drop_rate: float = 0.0,
    ) -> None:
        super().__init__()
        self.in_chans, self.num_frames, self.img_size = in_chans, num_frames, img_size
        self.stem = Stem(in_chans, width, frames=stem_frames, pool=stem_pool)
        self.temporal_pool = nn.MaxPool3d((2, 1, 1)) if temporal_pool else None
        reduction = 4 if stem_pool else 2
        self.feature_info = [{"num_chs": width, "reduction": reduction, "module": "stem"}]
        channels, out = width, 4 * width
        for index, (depth, sizes, (t, s)) in enumerate(zip(depths, kernels, strides, strict=True)):
            name = f"layer{index + 1}"
            stage = make_stage(
                channels, out, depth, kernels=sizes, stride=(t, s, s), make_conv=make_conv
            )
            self.add_module(name, stage)
            reduction *= s
            self.feature_info.append({"num_chs": out, "reduction": reduction, "module": name})
            channels, out = out, 2 * out
        self.num_features = channels
        self.num_classes = num_classes
        self.drop = nn.Dropout(drop_rate)
        self.fc = make_classifier(channels, num_classes)
        init_resnet(self)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm3d):
                module.eps = eps

    def _stages(self) -> list[nn.Module]:
        stages = super()._stages()
        if self.temporal_pool is not None:
            stages[2] = nn.Sequential(self.temporal_pool, stages[2])
        return stages

    def check_input(self, x: Tensor) -> None:
        """See `VideoModel.check_input`; a network that pools time takes two frames or more."""
        super().check_input(x)
        if self.temporal_pool is not None and x.shape[2] < 2:
            raise ValueError("This network keeps one of every two frames: give at least 2, not 1.")

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Average features (N, D, T', H', W') by `window_mean` and classify them, (N, K)."""
        x = self.drop(window_mean(x))  # (N, D)
        logits: Tensor = x if pre_logits else self.get_classifier()(x)
        return logits


_PARTS = OrderedDict(
    branch1_conv="downsample.0",
    branch1_norm="downsample.1",
) | {
    f"branch2.{kind}_{letter}": f"{ours}{place}"
    for place, letter in enumerate("abc", start=1)
    for kind, ours in (("conv", "conv"), ("norm", "bn"))
}


def block_rules(
    source: str, target: str, *, middle: Sequence[tuple[str, str]] = ()
) -> tuple[Rule, ...]:
    """Rules for the blocks of one stage of pytorchvideo.

    Args:
        source: What stands before the block's index there.
        target: What stands before it here.
        middle: Names of parts within the middle convolution, theirs and ours.
    """
    parts = [
        *((f"branch2.conv_b.{theirs}", f"conv2.{ours}") for theirs, ours in middle),
        *_PARTS.items(),
    ]
    return tuple(
        Rule(f"{source}.res_blocks.{{block}}.{theirs}", f"{target}.{{block}}.{ours}")
        for theirs, ours in parts
    )


def pytorchvideo_layouts(rules: Sequence[Rule]) -> dict[str, KeyMap]:
    """The layouts of pytorchvideo's own files and of PySlowFast's, which wraps its models."""
    wrapped = tuple(replace(rule, source=f"model.{rule.source}") for rule in rules)
    return {"pytorchvideo": KeyMap(tuple(rules)), "pyslowfast": KeyMap(wrapped)}


def single_pathway_layouts(
    num_stages: int = 4, *, pooled: bool = False, middle: Sequence[tuple[str, str]] = ()
) -> dict[str, KeyMap]:
    """The layouts of a `BottleneckResNet`.

    Args:
        num_stages: Stages of the network.
        pooled: Whether a pool takes the number after the first stage.
        middle: See `block_rules`.
    """
    places = [stage + (pooled and stage > 1) for stage in range(1, num_stages + 1)]
    rules = [
        Rule("blocks.0.conv", "stem.conv"),
        Rule("blocks.0.norm", "stem.bn"),
        Rule(f"blocks.{places[-1] + 1}.proj", "fc"),
    ]
    for stage, place in enumerate(places, start=1):
        rules += block_rules(f"blocks.{place}", f"layer{stage}", middle=middle)
    return pytorchvideo_layouts(rules)


TIMM = KeyMap(
    (
        Rule("conv1", "stem.conv", inflate=True),
        Rule("bn1", "stem.bn"),
        Rule("{part}", "{part}", inflate=True),
    ),
    dropped={"fc": "it names the classes of pictures"},
    new={"fc": "normal with deviation 0.01, bias 0"},
)
"""A ResNet-50 of pictures, whose blocks are named as ours and stride the same convolution."""

PREPROCESS = Preprocess(
    img_size=256,
    resize=256,
    interpolation="bilinear",
    antialias=False,
    mean=(0.45, 0.45, 0.45),
    std=(0.225, 0.225, 0.225),
)


def span(num_frames: int, frame_stride: int) -> Sampling:
    """How Kinetics is tested: frames spread over windows of `num_frames` x `frame_stride`."""
    return Sampling(
        rule="span",
        num_frames=num_frames,
        frame_stride=frame_stride,
        fps=30.0,
        num_clips=10,
        num_crops=3,
        # The authors apply softmax at every place of a large crop already, before they average.
        average="probabilities",
    )


IN1K_INFLATED = Weights(
    tag="in1k_inflated",
    source=ImageSource(library="timm", model="resnet50.a1_in1k", layout="timm", inflation="mean"),
    licence="Apache-2.0",
    data="ImageNet-1k (pictures)",
    num_classes=0,
    labels=None,
    sampling=span(8, 8),
    preprocess=replace(
        PREPROCESS,
        img_size=224,
        interpolation="bicubic",
        antialias=True,
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
    ),
    note="A start for training: the classifier is new.",
)

_ROOT = "https://dl.fbaipublicfiles.com/pytorchvideo"
_DATA = {
    "kinetics": ("Kinetics-400", 400, "kinetics400", "kinetics400"),
    "ssv2": (
        "Kinetics-400, then Something-Something v2",
        174,
        "something_something_v2",
        "something_something_v2",
    ),
    "charades": ("Kinetics-400, then Charades", 157, None, "charades"),
}


def pytorchvideo_weights(
    tag: str,
    path: str,
    sampling: Sampling,
    *,
    mirrored: bool = True,
    note: str = "",
    **metrics: float,
) -> Weights:
    """The record of one of pytorchvideo's files.

    Args:
        tag: The record's tag.
        path: Folder, which names the data, and file.
        sampling: Frames of the test protocol.
        mirrored: Whether PySlowFast publishes the same tensors.
        note: What else a user must know.
        **metrics: Figures of its model zoo, which are averages over the protocol's views.
    """
    folder, _, filename = path.partition("/")
    data, num_classes, labels, dataset = _DATA[folder]
    mirror = UpstreamSource(
        layout="pyslowfast",
        filename=filename,
        url=f"{_ROOT}/pysf_model_zoo/{path}",
        sha256=UNKNOWN,
    )
    protocol: dict[str, Any] = {
        "dataset": dataset,
        "split": "validation",
        "level": "video",
        "num_clips": sampling.num_clips,
        "num_crops": sampling.num_crops,
        "measured_by": "pytorchvideo",
    }
    licence = "The licence is pytorchvideo's; none is stated for the weights alone."
    return Weights(
        tag=tag,
        source=replace(mirror, layout="pytorchvideo", url=f"{_ROOT}/model_zoo/{path}"),
        licence="Apache-2.0",
        data=data,
        num_classes=num_classes,
        labels=labels,
        sampling=sampling,
        preprocess=PREPROCESS,
        metrics=tuple(
            Metric(name=name, value=value, **protocol) for name, value in metrics.items()
        ),
        mirrors=(mirror,) if mirrored else (),
        note=f"{note} {licence}".strip(),
    )
