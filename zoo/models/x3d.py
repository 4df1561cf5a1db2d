"""X3D: a narrow residual network of channelwise 3D convolutions, grown one axis at a time.

Feichtenhofer, "X3D: Expanding Architectures for Efficient Video Recognition"
(https://arxiv.org/abs/2004.04730). The references are facebookresearch/SlowFast and pytorchvideo
(both Apache-2.0); pytorchvideo leaves out one BatchNorm that the first has (`shortcut_norm`), and
its `efficient_x3d` nets have it. Where the test crop leaves more positions than the head pools
over, both average probabilities over them; logits are averaged here, for they are what a model
returns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from converters import KeyMap, Rule
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
from zoo.layers import Conv3d, SqueezeExcite, make_classifier
from zoo.models._staged import StagedModel

__all__ = ["X3D", "efficient_x3d_s", "efficient_x3d_xs", "x3d_l", "x3d_m", "x3d_s", "x3d_xs"]


class Stem(nn.Module):
    """First layer: 3x3 in space with stride 2, then each channel alone over five frames.

    Args:
        in_chans: Input channels C.
        out_chans: Output channels D.
    """

    def __init__(self, in_chans: int, out_chans: int) -> None:
        super().__init__()
        self.conv_spatial = Conv3d(
            in_chans, out_chans, (1, 3, 3), stride=(1, 2, 2), padding=(0, 1, 1), bias=False
        )
        self.conv_temporal = Conv3d(
            out_chans, out_chans, (5, 1, 1), padding=(2, 0, 0), groups=out_chans, bias=False
        )
        self.bn = nn.BatchNorm3d(out_chans)
        self.act = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, T, H, W) to (N, D, T, H/2, W/2)."""
        return self.act(self.bn(self.conv_temporal(self.conv_spatial(x))))


class Block(nn.Module):
    """Widen, convolve each channel over 3x3x3, narrow, around a shortcut.

    Args:
        in_chans: Input channels C.
        out_chans: Output channels D.
        stride: Stride in space, in the middle convolution.
        squeeze: Whether channels are scaled after the middle convolution.
        shortcut_norm: Whether a strided shortcut of equal widths has a BatchNorm.
    """

    def __init__(
        self, in_chans: int, out_chans: int, *, stride: int, squeeze: bool, shortcut_norm: bool
    ) -> None:
        super().__init__()
        mid = int(2.25 * out_chans)
        self.conv1 = Conv3d(in_chans, mid, 1, bias=False)
        self.bn1 = nn.BatchNorm3d(mid)
        self.act1 = nn.ReLU(inplace=True)
        self.conv2 = Conv3d(
            mid, mid, 3, stride=(1, stride, stride), padding=1, groups=mid, bias=False
        )
        self.bn2 = nn.BatchNorm3d(mid)
        self.se = SqueezeExcite(mid, ratio=16, act=nn.ReLU) if squeeze else nn.Identity()
        self.act2 = nn.SiLU(inplace=True)
        self.conv3 = Conv3d(mid, out_chans, 1, bias=False)
        self.bn3 = nn.BatchNorm3d(out_chans)
        self.act3 = nn.ReLU(inplace=True)
        self.downsample: nn.Module | None = None
        if stride != 1 or in_chans != out_chans:
            conv = Conv3d(in_chans, out_chans, 1, stride=(1, stride, stride), bias=False)
            norm = in_chans != out_chans or shortcut_norm
            self.downsample = nn.Sequential(conv, *([nn.BatchNorm3d(out_chans)] if norm else []))

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, T, H, W) to (N, D, T, H', W')."""
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.act1(self.bn1(self.conv1(x)))
        x = self.act2(self.se(self.bn2(self.conv2(x))))
        return self.act3(self.bn3(self.conv3(x)) + shortcut)


class X3D(StagedModel):
    """X3D of any depth.

    Features are (N, D, T, H/32, W/32). Any number of frames and any size can be given to `forward`.

    Args:
        widths: Channels of each stage; the stem has as many as the first.
        depths: Blocks in each stage; every second one scales its channels.
        head_width: Pooled features.
        pool_size: Side of the head's pooling window, that of the features at the authors' training
            crop; at a larger crop the results of all positions are averaged. None pools over all.
        shortcut_norm: Whether the first stage's strided shortcut has a BatchNorm.
        num_classes: Classes K; 0 returns the pooled features.
        in_chans: Input channels C.
        num_frames: Frames that `load_clip` delivers.
        img_size: Side of the pictures that `load_clip` delivers.
        drop_rate: Dropout before the classifier.
    """

    def __init__(
        self,
        widths: Sequence[int] = (24, 48, 96, 192),
        depths: Sequence[int] = (3, 5, 11, 7),
        *,
        head_width: int = 2048,
        pool_size: int | None = 5,
        shortcut_norm: bool = False,
        num_classes: int = 400,
        in_chans: int = 3,
        num_frames: int = 13,
        img_size: int = 182,
        drop_rate: float = 0.5,
    ) -> None:
        super().__init__()
        self.in_chans, self.num_frames, self.img_size = in_chans, num_frames, img_size
        self.pool_size = pool_size
        self.stem = Stem(in_chans, widths[0])
        self.stem_weights = ("stem.conv_spatial.weight",)
        self.feature_info = [{"num_chs": widths[0], "reduction": 2, "module": "stem"}]
        width = widths[0]
        for index, (out, depth) in enumerate(zip(widths, depths, strict=True)):
            blocks = [
                Block(
                    width if block == 0 else out,
                    out,
                    stride=2 if block == 0 else 1,
                    squeeze=block % 2 == 0,
                    shortcut_norm=shortcut_norm,
                )
                for block in range(depth)
            ]
            name = f"layer{index + 1}"
            self.add_module(name, nn.Sequential(*blocks))
            self.feature_info.append({"num_chs": out, "reduction": 4 * 2**index, "module": name})
            width = out
        mid = int(2.25 * width)
        self.head_conv = Conv3d(width, mid, 1, bias=False)
        self.head_bn = nn.BatchNorm3d(mid)
        self.head_act = nn.ReLU(inplace=True)
        self.head_proj = Conv3d(mid, head_width, 1, bias=False)
        self.num_features = head_width
        self.num_classes = num_classes
        self.drop = nn.Dropout(drop_rate)
        self.head = make_classifier(head_width, num_classes)
        self._initialise()

    def _initialise(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv3d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif isinstance(module, Block):
                nn.init.zeros_(module.bn3.weight)

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Widen and average features (N, D, T, H', W') to (N, D'), classify them, (N, K)."""
        x = self.head_act(self.head_bn(self.head_conv(x)))
        h, w = x.shape[3:]
        side = max(h, w) if self.pool_size is None else self.pool_size
        x = F.avg_pool2d(x.mean(dim=2), (min(h, side), min(w, side)), stride=1)  # (N, D, h, w)
        x = F.relu(self.head_proj(x.unsqueeze(2))).mean(dim=(2, 3, 4))  # (N, D')
        x = self.drop(x)
        logits: Tensor = x if pre_logits else self.get_classifier()(x)
        return logits


PYTORCHVIDEO = KeyMap(
    (
        # The attributes of its (2+1)D convolution are filled the wrong way round.
        Rule("blocks.0.conv.conv_t", "stem.conv_spatial"),
        Rule("blocks.0.conv.conv_xy", "stem.conv_temporal"),
        Rule("blocks.0.norm", "stem.bn"),
        *(
            Rule(f"blocks.{stage}.res_blocks.{{block}}.{theirs}", f"layer{stage}.{{block}}.{ours}")
            for stage in (1, 2, 3, 4)
            for theirs, ours in (
                ("branch1_conv", "downsample.0"),
                ("branch1_norm", "downsample.1"),
                ("branch2.conv_a", "conv1"),
                ("branch2.norm_a", "bn1"),
                ("branch2.conv_b", "conv2"),
                ("branch2.norm_b.0", "bn2"),
                ("branch2.norm_b.1.block.0", "se.fc1"),
                ("branch2.norm_b.1.block.2", "se.fc2"),
                ("branch2.conv_c", "conv3"),
                ("branch2.norm_c", "bn3"),
            )
        ),
        Rule("blocks.5.pool.pre_conv", "head_conv"),
        Rule("blocks.5.pool.pre_norm", "head_bn"),
        Rule("blocks.5.pool.post_conv", "head_proj"),
        Rule("blocks.5.proj", "head"),
    )
)


def _blocks(depths: Sequence[int], names: Sequence[tuple[str, str]]) -> tuple[Rule, ...]:
    """Rules for every block of a layout that writes stage s and block b as `s.pathway0_resb`."""
    return tuple(
        Rule(f"s{stage + 2}.pathway0_res{block}.{theirs}", f"layer{stage + 1}.{block}.{ours}")
        for stage, depth in enumerate(depths)
        for block in range(depth)
        for theirs, ours in names
    )


def _slowfast(depths: Sequence[int]) -> KeyMap:
    """The layout of SlowFast, which has BatchNorms on all strided shortcuts."""
    names = (
        ("branch1", "downsample.0"),
        ("branch1_bn", "downsample.1"),
        ("branch2.a", "conv1"),
        ("branch2.a_bn", "bn1"),
        ("branch2.b", "conv2"),
        ("branch2.b_bn", "bn2"),
        ("branch2.se", "se"),
        ("branch2.c", "conv3"),
        ("branch2.c_bn", "bn3"),
    )
    return KeyMap(
        (
            Rule("s1.pathway0_stem.conv_xy", "stem.conv_spatial"),
            Rule("s1.pathway0_stem.conv", "stem.conv_temporal"),
            Rule("s1.pathway0_stem.bn", "stem.bn"),
            Rule("head.conv_5", "head_conv"),
            Rule("head.conv_5_bn", "head_bn"),
            Rule("head.lin_5", "head_proj"),
            Rule("head.projection", "head"),
            *_blocks(depths, names),
        )
    )


def _efficient(depths: Sequence[int]) -> KeyMap:
    """The layout of pytorchvideo's networks for mobile processors, before their conversion."""
    names = (
        ("_res_proj.kernel.conv", "downsample.0"),
        ("_res_proj.kernel.bn", "downsample.1"),
        ("layers.conv_0.kernel.conv", "conv1"),
        ("layers.conv_0.kernel.bn", "bn1"),
        ("layers.conv_1.kernel.conv", "conv2"),
        ("layers.conv_1.kernel.bn", "bn2"),
        ("layers.se.se.block.0", "se.fc1"),
        ("layers.se.se.block.2", "se.fc2"),
        ("layers.conv_2.kernel.conv", "conv3"),
        ("layers.conv_2.kernel.bn", "bn3"),
    )
    return KeyMap(
        (
            Rule("s1.pathway0_stem_conv_xy.kernel.conv", "stem.conv_spatial"),
            Rule("s1.pathway0_stem_conv.kernel.conv", "stem.conv_temporal"),
            Rule("s1.pathway0_stem_conv.kernel.bn", "stem.bn"),
            Rule("head.conv_5.kernel.conv", "head_conv"),
            Rule("head.conv_5.kernel.bn", "head_bn"),
            Rule("head.lin_5.kernel.conv", "head_proj"),
            Rule("projection.model", "head"),
            *_blocks(depths, names),
        )
    )


_DEPTHS, _DEPTHS_L, _DEPTHS_TINY = (3, 5, 11, 7), (5, 10, 25, 15), (1, 1, 2, 1)
_LAYOUTS = {"pytorchvideo": PYTORCHVIDEO, "slowfast": _slowfast(_DEPTHS)}
_LAYOUTS_L = {"pytorchvideo": PYTORCHVIDEO, "slowfast": _slowfast(_DEPTHS_L)}
_LAYOUTS_TINY = {"pytorchvideo": PYTORCHVIDEO, "slowfast": _slowfast(_DEPTHS_TINY)}
_EFFICIENT = {"pytorchvideo": _efficient(_DEPTHS)}

_PAPER = Paper(
    title="X3D: Expanding Architectures for Efficient Video Recognition",
    url="https://arxiv.org/abs/2004.04730",
    year=2020,
)
_SAMPLING = Sampling(
    rule="span",
    num_frames=13,
    frame_stride=6,
    fps=30.0,
    num_clips=10,
    num_crops=3,
    average="probabilities",
)
_PREPROCESS = Preprocess(
    img_size=182,
    resize=182,
    interpolation="bilinear",
    antialias=False,
    mean=(0.45, 0.45, 0.45),
    std=(0.225, 0.225, 0.225),
)
_CROP_NOTE = (
    "The test crop is larger than the training crop; the authors then average the probabilities of "
    "several positions, this model their logits."
)


def _metrics(by: str, note: str = "", *, num_crops: int = 3, **values: float) -> tuple[Metric, ...]:
    return tuple(
        Metric(
            name=name,
            value=value,
            dataset="kinetics400",
            split="validation",
            level="video",
            num_clips=10,
            num_crops=num_crops,
            measured_by=by,
            note=note,
        )
        for name, value in values.items()
    )


def _trained(
    size: str,
    *,
    frames: tuple[int, int],
    crop: int,
    pytorchvideo: tuple[float, float],
    slowfast: tuple[float, float],
) -> tuple[Weights, Weights]:
    """The two public trainings of one network.

    Args:
        size: `xs`, `s`, `m` or `l`.
        frames: Frames T and their stride.
        crop: Side of the test crop.
        pytorchvideo: Its top1 and top5.
        slowfast: Top1 of SlowFast with three crops a clip, and with the centre one.
    """
    root = "https://dl.fbaipublicfiles.com"
    first = Weights(
        tag="k400",
        source=UpstreamSource(
            layout="pytorchvideo",
            filename=f"X3D_{size.upper()}.pyth",
            url=f"{root}/pytorchvideo/model_zoo/kinetics/X3D_{size.upper()}.pyth",
            sha256=UNKNOWN,
        ),
        licence="Apache-2.0",
        data="Kinetics-400",
        num_classes=400,
        labels="kinetics400",
        sampling=replace(_SAMPLING, num_frames=frames[0], frame_stride=frames[1]),
        preprocess=replace(_PREPROCESS, img_size=crop, resize=crop),
        metrics=_metrics("pytorchvideo", top1=pytorchvideo[0], top5=pytorchvideo[1]),
        note=f"The licence is pytorchvideo's; none is stated for the weights alone. {_CROP_NOTE}",
    )
    second = replace(
        first,
        tag="k400_slowfast",
        source=UpstreamSource(
            layout="slowfast",
            filename=f"x3d_{size}.pyth",
            url=f"{root}/pyslowfast/x3d_models/x3d_{size}.pyth",
            sha256=UNKNOWN,
        ),
        arguments=(("shortcut_norm", True),),
        metrics=(
            *_metrics("SlowFast", top1=slowfast[0]),
            *_metrics("SlowFast", "at the training crop", num_crops=1, top1=slowfast[1]),
        ),
        note=f"The licence is SlowFast's; none is stated for the weights alone. {_CROP_NOTE}",
    )
    return first, second


def _trained_efficient(
    size: str, *, frames: tuple[int, int], top1: float, top5: float
) -> tuple[Weights]:
    """The record of one network for mobile processors."""
    filename = f"efficient_x3d_{size}_original_form.pyth"
    weights = Weights(
        tag="k400",
        source=UpstreamSource(
            layout="pytorchvideo",
            filename=filename,
            url=f"https://dl.fbaipublicfiles.com/pytorchvideo/model_zoo/kinetics/{filename}",
            sha256=UNKNOWN,
        ),
        licence="Apache-2.0",
        data="Kinetics-400",
        num_classes=400,
        labels="kinetics400",
        sampling=replace(_SAMPLING, num_frames=frames[0], frame_stride=frames[1], num_crops=1),
        preprocess=replace(_PREPROCESS, img_size=160, resize=160),
        metrics=_metrics("pytorchvideo", "crops not stated", num_crops=1, top1=top1, top5=top5),
        note=(
            "The licence is pytorchvideo's; none is stated for the weights alone. Neither crop nor "
            "crops a clip are stated: these are X3D's for one crop."
        ),
    )
    return (weights,)


_XS = _trained("xs", frames=(4, 12), crop=182, pytorchvideo=(69.12, 88.63), slowfast=(69.5, 68.7))
_S = _trained("s", frames=(13, 6), crop=182, pytorchvideo=(73.33, 91.27), slowfast=(73.5, 73.1))
_M = _trained("m", frames=(16, 5), crop=256, pytorchvideo=(75.94, 92.72), slowfast=(76.2, 75.1))
_L = _trained("l", frames=(16, 5), crop=356, pytorchvideo=(77.44, 93.31), slowfast=(77.5, 76.9))
_EFFICIENT_XS = _trained_efficient("xs", frames=(4, 12), top1=68.5, top5=88.0)
_EFFICIENT_S = _trained_efficient("s", frames=(13, 6), top1=73.0, top5=90.6)
_TINY_SAMPLING = replace(_SAMPLING, num_frames=8, frame_stride=2)
_TINY_PREPROCESS = replace(_PREPROCESS, img_size=64, resize=64)


@register_model(
    order="used",
    num_classes=7,
    sampling=_TINY_SAMPLING,
    preprocess=_TINY_PREPROCESS,
    layouts=_LAYOUTS_TINY,
)
def test_x3d(*, shortcut_norm: bool = False, **kwargs: Any) -> X3D:
    """X3D of five narrow blocks whose head pools at four positions, for tests."""
    return X3D(
        (8, 16, 32, 64),
        _DEPTHS_TINY,
        head_width=32,
        pool_size=1,
        shortcut_norm=shortcut_norm,
        drop_rate=0.0,
        **kwargs,
    )


@register_model(
    order="used",
    num_classes=7,
    sampling=_TINY_SAMPLING,
    preprocess=_TINY_PREPROCESS,
    layouts={"pytorchvideo": _efficient(_DEPTHS_TINY)},
)
def test_efficient_x3d(**kwargs: Any) -> X3D:
    """X3D of five narrow blocks whose head pools over everything, for tests."""
    return X3D(
        (8, 16, 32, 64),
        _DEPTHS_TINY,
        head_width=32,
        pool_size=None,
        shortcut_norm=True,
        drop_rate=0.0,
        **kwargs,
    )


@register_model(order="used", paper=_PAPER, weights=_XS, layouts=_LAYOUTS)
def x3d_xs(*, shortcut_norm: bool = False, **kwargs: Any) -> X3D:
    """X3D for four frames of 160 pixels."""
    return X3D(depths=_DEPTHS, pool_size=5, shortcut_norm=shortcut_norm, **kwargs)


@register_model(order="used", paper=_PAPER, weights=_EFFICIENT_XS, layouts=_EFFICIENT)
def efficient_x3d_xs(**kwargs: Any) -> X3D:
    """X3D-XS as trained for mobile processors, with a global pool."""
    return X3D(depths=_DEPTHS, pool_size=None, shortcut_norm=True, **kwargs)


@register_model(order="used", paper=_PAPER, weights=_S, layouts=_LAYOUTS)
def x3d_s(*, shortcut_norm: bool = False, **kwargs: Any) -> X3D:
    """X3D for 13 frames of 160 pixels."""
    return X3D(depths=_DEPTHS, pool_size=5, shortcut_norm=shortcut_norm, **kwargs)


@register_model(order="used", paper=_PAPER, weights=_EFFICIENT_S, layouts=_EFFICIENT)
def efficient_x3d_s(**kwargs: Any) -> X3D:
    """X3D-S as trained for mobile processors, with a global pool."""
    return X3D(depths=_DEPTHS, pool_size=None, shortcut_norm=True, **kwargs)


@register_model(order="used", paper=_PAPER, weights=_M, layouts=_LAYOUTS)
def x3d_m(*, shortcut_norm: bool = False, **kwargs: Any) -> X3D:
    """X3D for 16 frames of 224 pixels."""
    return X3D(depths=_DEPTHS, pool_size=7, shortcut_norm=shortcut_norm, **kwargs)


@register_model(order="used", paper=_PAPER, weights=_L, layouts=_LAYOUTS_L)
def x3d_l(*, shortcut_norm: bool = False, **kwargs: Any) -> X3D:
    """X3D of twice the depth, for 16 frames of 312 pixels."""
    return X3D(depths=_DEPTHS_L, pool_size=10, shortcut_norm=shortcut_norm, **kwargs)
