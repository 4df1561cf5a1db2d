"""The networks that MoViNet's search found, as data.

As the authors' code has them (`BLOCK_SPECS` in `official/projects/movinet/modeling/movinet.py` of
tensorflow/models), equal in https://github.com/Atze00/MoViNet-pytorch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

__all__ = ["A0", "A1", "A2", "A3", "A4", "A5", "TINY", "Config", "Kernel", "Stage"]

Kernel: TypeAlias = tuple[int, int]
"""Frames t and side of a kernel, (t, side, side)."""


@dataclass(frozen=True, slots=True)
class Stage:
    """Blocks of one width.

    Attributes:
        width: Channels D of the blocks' outputs.
        stride: Stride in space of the first block.
        blocks: Channels inside each block, and its kernel.
    """

    width: int
    stride: int
    blocks: tuple[tuple[int, Kernel], ...]


@dataclass(frozen=True, slots=True)
class Config:
    """One network of the search.

    Attributes:
        stem: Channels after the first layer.
        stages: The stages.
        head: Channels before pooling.
        hidden: Channels after it.
    """

    stem: int
    stages: tuple[Stage, ...]
    head: int
    hidden: int = 2048


def _stage(width: int, stride: int, blocks: str) -> Stage:
    """A stage whose blocks are written as in `53:184`: a kernel of (5, 3, 3) on 184 channels."""
    pairs = (word.split(":") for word in blocks.split())
    return Stage(width, stride, tuple((int(chans), (int(k[0]), int(k[1]))) for k, chans in pairs))


A0 = Config(
    stem=8,
    stages=(
        _stage(8, 2, "15:24"),
        _stage(32, 2, "33:80 33:80 33:80"),
        _stage(56, 2, "53:184 33:112 33:184"),
        _stage(56, 1, "53:184 33:184 33:184 33:184"),
        _stage(104, 2, "53:384 15:280 15:280 15:344"),
    ),
    head=480,
)
A1 = Config(
    stem=16,
    stages=(
        _stage(16, 2, "15:40 33:40"),
        _stage(40, 2, "33:96 33:120 33:96 33:96"),
        _stage(64, 2, "53:216 33:128 33:216 33:168 33:216"),
        _stage(64, 1, "53:216 33:216 33:216 33:128 15:128 33:216"),
        _stage(136, 2, "53:456 15:360 15:360 15:360 15:456 33:456 13:544"),
    ),
    head=600,
)
A2 = Config(
    stem=16,
    stages=(
        _stage(16, 2, "15:40 33:40 33:64"),
        _stage(40, 2, "33:96 33:120 33:96 33:96 33:120"),
        _stage(72, 2, "53:240 33:160 33:240 33:192 33:240"),
        _stage(72, 1, "53:240 33:240 33:240 33:240 15:144 33:240"),
        _stage(144, 2, "53:480 15:384 15:384 15:480 15:480 33:480 13:576"),
    ),
    head=640,
)
A3 = Config(
    stem=16,
    stages=(
        _stage(16, 2, "15:40 33:40 33:64 33:40"),
        _stage(48, 2, "33:112 33:144 33:112 15:112 33:144 33:144"),
        _stage(80, 2, "53:240 33:152 33:240 33:192 33:240"),
        _stage(88, 1, "53:264 33:264 33:264 33:264 15:160 33:264 33:264 33:264"),
        _stage(168, 2, "53:560 15:448 15:448 15:560 15:560 33:560 15:448 15:448 33:560 13:672"),
    ),
    head=744,
)
A4 = Config(
    stem=24,
    stages=(
        _stage(24, 2, "15:64 33:64 33:96 33:64 33:96 33:64"),
        _stage(56, 2, "33:168 33:168 33:136 33:136 33:168 33:168 33:168 15:136 33:136"),
        _stage(96, 2, "53:320 33:160 33:320 33:192 33:320 33:160 33:320 33:256 33:320"),
        _stage(96, 1, "53:320 33:320 33:320 33:320 15:192 33:320 33:320 33:192 33:320 33:320"),
        _stage(
            192,
            2,
            "53:640 15:512 15:512 15:640 15:640 33:640 15:512 15:512 15:640 15:768 15:640 "
            "33:640 33:768",
        ),
    ),
    head=856,
)
A5 = Config(
    stem=24,
    stages=(
        _stage(24, 2, "15:64 15:64 33:96 33:64 33:96 33:64"),
        _stage(
            64,
            2,
            "53:192 33:152 33:152 33:152 33:192 33:192 33:192 33:152 33:152 33:192 33:192",
        ),
        _stage(
            112,
            2,
            "53:376 33:224 33:376 33:376 33:296 33:376 33:224 33:376 33:376 33:296 33:376 "
            "33:376 33:376",
        ),
        _stage(
            120,
            1,
            "53:376 33:376 33:376 33:376 15:224 33:376 33:376 33:224 33:376 33:376 33:376",
        ),
        _stage(
            224,
            2,
            "53:744 33:744 15:600 15:600 15:744 15:744 33:744 15:896 15:600 15:600 15:896 "
            "15:744 33:744 15:896 15:600 15:600 15:744 33:744",
        ),
    ),
    head=992,
)
TINY = Config(
    stem=8,
    stages=(
        _stage(8, 2, "15:24"),
        _stage(16, 2, "33:40 33:32"),
        _stage(24, 1, "53:48 13:40"),
    ),
    head=48,
    hidden=64,
)
