"""SlowFast, and its Slow pathway alone.

Feichtenhofer et al., "SlowFast Networks for Video Recognition" (https://arxiv.org/abs/1812.03982).
The reference is pytorchvideo's `models/slowfast.py` and `models/resnet.py` (Apache-2.0), whose
weights these models carry. A model here takes one clip, all frames of the Fast pathway, and picks
the Slow pathway's frames as PySlowFast's `pack_pathway_output` does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, TypeAlias

import torch
from einops import rearrange
from torch import Tensor, nn

from converters import KeyMap, Rule
from registry import Paper, Sampling, register_model
from zoo.layers import Conv3d, make_classifier
from zoo.models._base import chosen_levels, run
from zoo.models._bottleneck import (
    IN1K_INFLATED,
    PREPROCESS,
    TIMM,
    BottleneckResNet,
    Stem,
    block_rules,
    init_resnet,
    make_stage,
    pytorchvideo_layouts,
    pytorchvideo_weights,
    single_pathway_layouts,
    span,
    window_mean,
)
from zoo.models._staged import StagedModel

__all__ = [
    "SlowFast",
    "slow_frames",
    "slow_r50",
    "slowfast_4x16_r50",
    "slowfast_16x8_r101_50_50",
    "slowfast_r50",
    "slowfast_r101",
]

Paths: TypeAlias = tuple[Tensor, Tensor]
BETA = 8
"""How many times narrower the Fast pathway is."""


def slow_frames(num_frames: int, alpha: int) -> list[int]:
    """The frames that the Slow pathway sees: spread from the first to the last, rounded down.

    The reference truncates `linspace(0, T - 1, T // alpha)`; this is the same in integers.
    """
    count = num_frames // alpha
    return [i * (num_frames - 1) // max(count - 1, 1) for i in range(count)]


class Lateral(nn.Module):
    """What the Fast pathway tells the Slow one: a convolution over time with stride alpha.

    Args:
        in_chans: Channels C of the Fast pathway; twice as many go over.
        frames: Temporal size of the kernel.
        alpha: How many times more frames the Fast pathway has.
    """

    def __init__(self, in_chans: int, *, frames: int, alpha: int) -> None:
        super().__init__()
        self.conv = Conv3d(
            in_chans,
            2 * in_chans,
            (frames, 1, 1),
            stride=(alpha, 1, 1),
            padding=(frames // 2, 0, 0),
            bias=False,
        )
        self.bn = nn.BatchNorm3d(2 * in_chans)
        self.act = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, T, H, W) to (N, 2*C, T/alpha, H, W)."""
        return self.act(self.bn(self.conv(x)))


class Pathways(nn.Module):
    """One stage of both pathways, after the lateral connection that leads into it.

    Args:
        slow: Stage of the Slow pathway.
        fast: Stage of the Fast pathway.
        lateral: Connection before them; the stems have none.
    """

    def __init__(self, slow: nn.Module, fast: nn.Module, lateral: Lateral | None = None) -> None:
        super().__init__()
        self.lateral = lateral
        self.slow = slow
        self.fast = fast

    def forward(self, paths: Paths) -> Paths:
        """Map (N, C, T/alpha, H, W) and (N, C', T, H, W) to the same at new widths and sizes."""
        slow, fast = paths
        if self.lateral is not None:
            slow = torch.cat([slow, self.lateral(fast)], dim=1)  # (N, C + 2*C', T/alpha, H, W)
        return self.slow(slow), self.fast(fast)


class SlowFast(StagedModel):
    """A Slow pathway of few frames and a Fast one of few channels.

    Features are (N, D + D/8, T/alpha, H', W'): those of the Slow pathway, then those of the Fast
    one, averaged over alpha frames at a time. T must be a multiple of alpha.

    Args:
        depths: Blocks in each stage, the same in both pathways.
        slow_kernels: For each stage the temporal sizes of its blocks' first kernels.
        fast_kernels: The same for the Fast pathway.
        alpha: How many times more frames the Fast pathway has.
        lateral_frames: Temporal size of the lateral kernels.
        width: Channels of the Slow pathway's first layer.
        num_classes: Classes K; 0 returns the pooled features.
        in_chans: Input channels C.
        num_frames: Frames of the Fast pathway, which `load_clip` delivers.
        img_size: Side of the pictures that `load_clip` delivers.
        drop_rate: Dropout before the classifier; the authors train with 0.5.
    """

    classifier_name = "fc"
    stem_weights = ("stem.slow.conv.weight", "stem.fast.conv.weight")

    def __init__(
        self,
        depths: Sequence[int],
        slow_kernels: Sequence[Sequence[int]],
        fast_kernels: Sequence[Sequence[int]],
        alpha: int = 4,
        lateral_frames: int = 7,
        width: int = 64,
        *,
        num_classes: int = 400,
        in_chans: int = 3,
        num_frames: int = 32,
        img_size: int = 224,
        drop_rate: float = 0.0,
    ) -> None:
        super().__init__()
        self.in_chans, self.num_frames, self.img_size = in_chans, num_frames, img_size
        self.alpha = alpha
        self._check_frames(num_frames)
        self.stem = Pathways(
            Stem(in_chans, width, frames=1), Stem(in_chans, width // BETA, frames=5)
        )
        self.feature_info = [{"num_chs": width + width // BETA, "reduction": 4, "module": "stem"}]
        channels, out = width, 4 * width
        for index, (depth, slow, fast) in enumerate(
            zip(depths, slow_kernels, fast_kernels, strict=True)
        ):
            stride = (1, 1, 1) if index == 0 else (1, 2, 2)
            narrow = channels // BETA
            stage = Pathways(
                make_stage(channels + 2 * narrow, out, depth, kernels=slow, stride=stride),
                make_stage(narrow, out // BETA, depth, kernels=fast, stride=stride),
                Lateral(narrow, frames=lateral_frames, alpha=alpha),
            )
            name = f"layer{index + 1}"
            self.add_module(name, stage)
            facts = {"num_chs": out + out // BETA, "reduction": 4 * 2**index, "module": name}
            self.feature_info.append(facts)
            channels, out = out, 2 * out
        self.num_features = channels + channels // BETA
        self.num_classes = num_classes
        self.drop = nn.Dropout(drop_rate)
        self.fc = make_classifier(self.num_features, num_classes)
        init_resnet(self)

    def _check_frames(self, num_frames: int) -> None:
        if num_frames % self.alpha:
            raise ValueError(
                f"This network shows every {self.alpha}th frame to its Slow pathway and takes a "
                f"multiple of {self.alpha} frames, not {num_frames}."
            )

    def check_input(self, x: Tensor) -> None:
        """See `VideoModel.check_input`; T must be a multiple of alpha."""
        super().check_input(x)
        self._check_frames(x.shape[2])

    def _split(self, x: Tensor) -> Paths:
        """The frames of both pathways, (N, C, T/alpha, H, W) and (N, C, T, H, W)."""
        return x[:, :, slow_frames(x.shape[2], self.alpha)], x

    def _joined(self, paths: Paths) -> Tensor:
        """Both pathways' features as one tensor, (N, D + D/8, T/alpha, H', W')."""
        slow, fast = paths
        fast = rearrange(fast, "n d (t a) h w -> n d t a h w", a=self.alpha).mean(dim=3)
        return torch.cat([slow, fast], dim=1)

    def forward_features(self, x: Tensor) -> Tensor:
        """Map clips (N, C, T, H, W) to features (N, D + D/8, T/alpha, H', W')."""
        self.check_input(x)
        paths = self._split(x)
        for stage in self._stages():
            paths = run(stage, paths, checkpointed=self.grad_checkpointing)
        return self._joined(paths)

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Average features (N, D, T', H', W') by `window_mean` and classify them, (N, K)."""
        x = self.drop(window_mean(x))  # (N, D)
        logits: Tensor = x if pre_logits else self.get_classifier()(x)
        return logits

    def forward_intermediates(
        self,
        x: Tensor,
        indices: int | Sequence[int] | None = None,
        *,
        norm: bool = False,  # noqa: ARG002 -- there is no final normalisation
        stop_early: bool = False,
        intermediates_only: bool = False,
    ) -> list[Tensor] | tuple[Tensor, list[Tensor]]:
        """See `VideoModel.forward_intermediates`."""
        self.check_input(x)
        stages = self._stages()
        levels = chosen_levels(indices, len(stages))
        if stop_early:
            stages = stages[: levels[-1] + 1]
        found, paths = [], self._split(x)
        for level, stage in enumerate(stages):
            paths = run(stage, paths, checkpointed=self.grad_checkpointing)
            if level in levels:
                found.append(self._joined(paths))
        return found if intermediates_only else (self._joined(paths), found)

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """Regular expressions for the stems and stages; a lateral goes with its first blocks."""
        fine = [
            (r"^layer(\d+)\.lateral", (0,)),
            (r"^layer(\d+)\.(?:slow|fast)\.(\d+)", None),
        ]
        return {"stem": r"^stem", "blocks": r"^layer(\d+)" if coarse else fine}


def _two_pathway_layouts(num_stages: int = 4) -> dict[str, KeyMap]:
    """The layouts of `SlowFast`; a lateral stands there at the end of the stage before it."""
    rules = [Rule(f"blocks.{num_stages + 2}.proj", "fc")]
    for path, ours in enumerate(("slow", "fast")):
        there = f"multipathway_blocks.{path}"
        rules += [
            Rule(f"blocks.0.{there}.conv", f"stem.{ours}.conv"),
            Rule(f"blocks.0.{there}.norm", f"stem.{ours}.bn"),
        ]
        for stage in range(1, num_stages + 1):
            rules += block_rules(f"blocks.{stage}.{there}", f"layer{stage}.{ours}")
    for stage in range(num_stages):
        fusion, lateral = f"blocks.{stage}.multipathway_fusion", f"layer{stage + 1}.lateral"
        rules += [
            Rule(f"{fusion}.conv_fast_to_slow", f"{lateral}.conv"),
            Rule(f"{fusion}.norm", f"{lateral}.bn"),
        ]
    return pytorchvideo_layouts(rules)


_PAPER = Paper(
    title="SlowFast Networks for Video Recognition",
    url="https://arxiv.org/abs/1812.03982",
    year=2019,
)
_MULTILABEL = (
    "Several classes may be present: apply sigmoid, not softmax. The authors take the largest of "
    "the views, not their average. Their order of the classes is not published."
)


def _ssv2(num_frames: int) -> Sampling:
    """One frame of each of T parts of the video, three crops."""
    return replace(
        span(num_frames, 1), rule="segments", fps=None, num_clips=1, average="probabilities"
    )


def _charades(num_frames: int, frame_stride: int) -> Sampling:
    """Frames at the video's own rate; pytorchvideo's loader spaces them exactly here."""
    return replace(span(num_frames, frame_stride), rule="dense", fps=None)


_SLOW = single_pathway_layouts() | {"timm": TIMM}
_SLOWFAST = _two_pathway_layouts()
_R50, _R101 = (3, 4, 6, 3), (3, 4, 23, 3)
_SLOW_KERNELS, _FAST_KERNELS = ((1,), (1,), (3,), (3,)), ((3,),) * 4
_TINY: dict[str, Any] = {
    "num_classes": 7,
    "sampling": span(8, 2),
    "preprocess": replace(PREPROCESS, img_size=32, resize=32),
}


@register_model(order="used", layouts=single_pathway_layouts(2) | {"timm": TIMM}, **_TINY)
def test_slow(**kwargs: Any) -> BottleneckResNet:
    """Slow of two narrow stages, for tests."""
    return BottleneckResNet((1, 2), ((1,), (3,)), strides=((1, 1), (1, 2)), width=8, **kwargs)


@register_model(order="used", layouts=_two_pathway_layouts(2), **_TINY)
def test_slowfast(**kwargs: Any) -> SlowFast:
    """SlowFast of two narrow stages, for tests."""
    return SlowFast((1, 2), ((1,), (3, 1)), ((3,), (3, 1)), 4, 5, 32, **kwargs)


@register_model(
    order="used",
    paper=_PAPER,
    weights=(
        pytorchvideo_weights(
            "k400", "kinetics/SLOW_8x8_R50.pyth", span(8, 8), top1=74.58, top5=91.63
        ),
        pytorchvideo_weights(
            "k400_4x16", "kinetics/SLOW_4x16_R50.pyth", span(4, 16), top1=72.4, top5=90.18
        ),
        pytorchvideo_weights("ssv2", "ssv2/SLOW_8x8_R50.pyth", _ssv2(8), top1=60.04, top5=85.19),
        pytorchvideo_weights(
            "charades",
            "charades/SLOW_8x8_R50.pyth",
            _charades(8, 8),
            mirrored=False,
            note=_MULTILABEL,
            mAP=34.72,
        ),
        IN1K_INFLATED,
    ),
    layouts=_SLOW,
)
def slow_r50(**kwargs: Any) -> BottleneckResNet:
    """ResNet-50 with three frames in the first convolutions of its last two stages."""
    return BottleneckResNet(_R50, _SLOW_KERNELS, **kwargs)


@register_model(
    order="used",
    paper=_PAPER,
    weights=(
        pytorchvideo_weights(
            "k400", "kinetics/SLOWFAST_4x16_R50.pyth", span(32, 2), top1=75.34, top5=91.89
        ),
    ),
    layouts=_SLOWFAST,
)
def slowfast_4x16_r50(**kwargs: Any) -> SlowFast:
    """SlowFast on ResNet-50, 4 and 32 frames; its lateral kernels span five frames."""
    return SlowFast(_R50, _SLOW_KERNELS, _FAST_KERNELS, 8, 5, **kwargs)


@register_model(
    order="used",
    paper=_PAPER,
    weights=(
        pytorchvideo_weights(
            "k400", "kinetics/SLOWFAST_8x8_R50.pyth", span(32, 2), top1=76.94, top5=92.69
        ),
        pytorchvideo_weights(
            "ssv2", "ssv2/SLOWFAST_8x8_R50.pyth", _ssv2(32), top1=61.68, top5=86.92
        ),
        pytorchvideo_weights(
            "charades",
            "charades/SLOWFAST_8x8_R50.pyth",
            _charades(32, 2),
            mirrored=False,
            note=_MULTILABEL,
            mAP=37.24,
        ),
    ),
    layouts=_SLOWFAST,
)
def slowfast_r50(**kwargs: Any) -> SlowFast:
    """SlowFast on ResNet-50, 8 and 32 frames."""
    return SlowFast(_R50, _SLOW_KERNELS, _FAST_KERNELS, 4, 7, **kwargs)


@register_model(
    order="used",
    paper=_PAPER,
    weights=(
        pytorchvideo_weights(
            "k400", "kinetics/SLOWFAST_16x8_R101_50_50.pyth", span(64, 2), top1=78.7, top5=93.61
        ),
    ),
    layouts=_SLOWFAST,
)
def slowfast_16x8_r101_50_50(**kwargs: Any) -> SlowFast:
    """SlowFast on ResNet-101, 16 and 64 frames; only six blocks of the third stage see time."""
    third = (3,) * 6 + (1,) * 17
    return SlowFast(_R101, ((1,), (1,), third, (3,)), ((3,), (3,), third, (3,)), 4, 5, **kwargs)


@register_model(
    order="used",
    paper=_PAPER,
    weights=(
        pytorchvideo_weights(
            "k400", "kinetics/SLOWFAST_8x8_R101.pyth", span(32, 2), top1=77.9, top5=93.27
        ),
    ),
    layouts=_SLOWFAST,
)
def slowfast_r101(**kwargs: Any) -> SlowFast:
    """SlowFast on ResNet-101, 8 and 32 frames."""
    return SlowFast(_R101, _SLOW_KERNELS, _FAST_KERNELS, 4, 5, **kwargs)
