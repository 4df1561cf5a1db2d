"""Inception-V1 over space and time; what S3D and I3D have in common."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.layers import make_classifier
from zoo.models._staged import StagedModel

__all__ = ["INCEPTION_V1", "TINY_INCEPTION", "InceptionVideo", "Widths"]

MakeConv = Callable[[int, int, int, int], nn.Module]
"""A normalised convolution from its input and output channels, side and stride."""
MakePool = Callable[[int, int, int], nn.Module]
"""A maximum over space and time from its length in time, side and stride."""


class Widths(NamedTuple):
    """Channels of the four branches of one block; two reduce them before they convolve."""

    branch0: int
    branch1_reduce: int
    branch1: int
    branch2_reduce: int
    branch2: int
    branch3: int

    @property
    def out(self) -> int:
        """Channels of the four branches together."""
        return self.branch0 + self.branch1 + self.branch2 + self.branch3


# Szegedy et al., "Going Deeper with Convolutions", table 1: blocks 3a to 5b.
INCEPTION_V1 = (
    (Widths(64, 96, 128, 16, 32, 32), Widths(128, 128, 192, 32, 96, 64)),
    (
        Widths(192, 96, 208, 16, 48, 64),
        Widths(160, 112, 224, 24, 64, 64),
        Widths(128, 128, 256, 24, 64, 64),
        Widths(112, 144, 288, 32, 64, 64),
        Widths(256, 160, 320, 32, 128, 128),
    ),
    (Widths(256, 160, 320, 32, 128, 128), Widths(384, 192, 384, 48, 128, 128)),
)
TINY_INCEPTION = (
    (Widths(4, 4, 6, 2, 3, 3),),
    (Widths(6, 4, 6, 2, 4, 4),),
    (Widths(5, 4, 7, 2, 4, 4),),
)


class Inception(nn.Module):
    """Four branches side by side: 1x1x1, two of 3x3x3 behind a reduction, and a maximum."""

    def __init__(self, in_chans: int, widths: Widths, conv: MakeConv, pool: MakePool) -> None:
        super().__init__()
        self.branch0 = conv(in_chans, widths.branch0, 1, 1)
        self.branch1_reduce = conv(in_chans, widths.branch1_reduce, 1, 1)
        self.branch1 = conv(widths.branch1_reduce, widths.branch1, 3, 1)
        self.branch2_reduce = conv(in_chans, widths.branch2_reduce, 1, 1)
        self.branch2 = conv(widths.branch2_reduce, widths.branch2, 3, 1)
        self.pool = pool(3, 3, 1)
        self.branch3 = conv(in_chans, widths.branch3, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, T, H, W) to (N, D, T, H, W)."""
        branches = (
            self.branch0(x),
            self.branch1(self.branch1_reduce(x)),
            self.branch2(self.branch2_reduce(x)),
            self.branch3(self.pool(x)),
        )
        return torch.cat(branches, dim=1)


class InceptionVideo(StagedModel):
    """A stem, a stage of plain convolutions and three of Inception blocks, a pool before each.

    Features are (N, D, T', H', W'). Any number of frames and any size can be given to `forward`.

    Args:
        conv: Makes the convolutions.
        pool: Makes the pools.
        plan: Widths of the blocks of the last three stages.
        stem: Channels of the stem; the second stage has three times as many.
        num_classes: Classes K; 0 returns the pooled features.
        in_chans: Input channels C.
        num_frames: Frames that `load_clip` delivers.
        img_size: Side of the pictures that `load_clip` delivers.
        drop_rate: Dropout before the classifier.
    """

    classifier_name = "fc"
    WINDOW = (2, 7, 7)

    def __init__(
        self,
        conv: MakeConv,
        pool: MakePool,
        plan: Sequence[Sequence[Widths]],
        stem: int,
        *,
        num_classes: int,
        in_chans: int,
        num_frames: int,
        img_size: int,
        drop_rate: float,
    ) -> None:
        super().__init__()
        self.in_chans, self.num_frames, self.img_size = in_chans, num_frames, img_size
        width = 3 * stem
        self.stem = conv(in_chans, stem, 7, 2)
        self.layer1 = nn.Sequential(pool(1, 3, 2), conv(stem, stem, 1, 1), conv(stem, width, 3, 1))
        self.feature_info: list[dict[str, Any]] = [
            {"num_chs": stem, "reduction": 2, "module": "stem"},
            {"num_chs": width, "reduction": 4, "module": "layer1"},
        ]
        for index, (blocks, window) in enumerate(
            zip(plan, ((1, 3), (3, 3), (2, 2)), strict=True), start=2
        ):
            stage = nn.Sequential(pool(*window, 2))
            for widths in blocks:
                stage.append(Inception(width, widths, conv, pool))
                width = widths.out
            name = f"layer{index}"
            self.add_module(name, stage)
            self.feature_info.append(
                {"num_chs": width, "reduction": 2 ** (index + 1), "module": name}
            )
        self.num_features, self.num_classes = width, num_classes
        self.drop = nn.Dropout(drop_rate)
        self.fc = make_classifier(width, num_classes)

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Average features (N, D, T', H', W') to (N, D) and classify them, (N, K).

        The reference averages windows of 2x7x7 at stride 1, classifies each and averages the
        logits; places inside a larger map weigh more than those at its border. A map smaller than
        the window is one window.
        """
        window = [min(most, size) for most, size in zip(self.WINDOW, x.shape[2:], strict=True)]
        # In float32 at least, for torch has no such pool of bfloat16 on a CPU.
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        x = F.avg_pool3d(wide, window, stride=1).mean(dim=(2, 3, 4)).to(x.dtype)  # (N, D)
        x = self.drop(x)
        logits: Tensor = x if pre_logits else self.get_classifier()(x)
        return logits
