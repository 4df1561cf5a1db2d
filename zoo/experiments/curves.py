"""A picture of accuracy per epoch: a curve a network, lines at chance and at the ceiling."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.ImageDraw import ImageDraw
    from PIL.ImageFont import FreeTypeFont, ImageFont

__all__ = ["Curve", "draw_curves"]

WIDTH, HEIGHT = 1000, 560
LEFT, RIGHT, TOP, BOTTOM = 76, 330, 60, 60
INK, PALE = (32, 33, 36), (218, 220, 224)
# Told apart by most colour-blind readers: blue, orange, green and purple of Okabe and Ito.
COLOURS = ((0, 114, 178), (213, 94, 0), (0, 158, 115), (204, 121, 167))
SCALE = 2
"""The picture is drawn larger and made smaller, which smooths its lines."""


@dataclass(frozen=True, slots=True)
class Curve:
    """Accuracies of one network after each epoch, parts of 1."""

    name: str
    values: tuple[float, ...]


def draw_curves(
    curves: Sequence[Curve],
    levels: Mapping[str, float],
    path: str | os.PathLike[str],
    *,
    title: str,
) -> None:
    """Draw curves over epochs.

    Args:
        curves: Up to four, of one length or several.
        levels: Accuracies that are drawn as dashed lines, by their names.
        path: File to write; its ending names the format.
        title: Stands above.

    Raises:
        ValueError: No curve, or more than there are colours.
    """
    from PIL import Image, ImageDraw, ImageFont

    if not 0 < len(curves) <= len(COLOURS):
        raise ValueError(f"{len(curves)} curves are given; draw 1 to {len(COLOURS)}.")
    picture = Image.new("RGB", (WIDTH * SCALE, HEIGHT * SCALE), "white")
    draw = ImageDraw.Draw(picture)
    font = ImageFont.load_default(15 * SCALE)
    draw.text((LEFT * SCALE, 20 * SCALE), title, INK, ImageFont.load_default(18 * SCALE))
    frame = _Frame(max(len(curve.values) for curve in curves))
    _draw_axes(draw, frame, font)
    for name, level in levels.items():
        _draw_level(draw, frame, name, level, font)
    for index, (curve, colour) in enumerate(zip(curves, COLOURS, strict=False)):
        _draw_curve(draw, frame, curve, colour)
        y = (TOP + 24 * index) * SCALE
        x = (WIDTH - RIGHT + 24) * SCALE
        draw.line((x, y + 9 * SCALE, x + 24 * SCALE, y + 9 * SCALE), colour, 3 * SCALE)
        draw.text((x + 32 * SCALE, y), curve.name, INK, font)
    picture.resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS).save(Path(path))


class _Frame:
    """Where epochs and accuracies lie in the picture.

    Args:
        epochs: Epochs of the longest curve.
    """

    def __init__(self, epochs: int) -> None:
        self.epochs = epochs

    def x(self, epoch: int) -> float:
        """Of an epoch, counted from 1."""
        part = (epoch - 1) / max(1, self.epochs - 1)
        return SCALE * (LEFT + part * (WIDTH - LEFT - RIGHT))

    def y(self, accuracy: float) -> float:
        """Of an accuracy."""
        return SCALE * (TOP + (1 - accuracy) * (HEIGHT - TOP - BOTTOM))


def _draw_axes(draw: ImageDraw, frame: _Frame, font: FreeTypeFont | ImageFont) -> None:
    left, right = frame.x(1), frame.x(frame.epochs)
    for tenth in range(0, 11, 2):
        y = frame.y(tenth / 10)
        draw.line((left, y, right, y), PALE, SCALE)
        draw.text((left - 12 * SCALE, y), f"{tenth * 10} %", INK, font, anchor="rm")
    every = -(-frame.epochs // 10)
    for epoch in range(1, frame.epochs + 1, every):
        draw.text((frame.x(epoch), frame.y(0) + 8 * SCALE), str(epoch), INK, font, anchor="ma")
    middle = (left + right) / 2
    draw.text((middle, frame.y(0) + 32 * SCALE), "epoch", INK, font, anchor="ma")


def _draw_level(
    draw: ImageDraw, frame: _Frame, name: str, level: float, font: FreeTypeFont | ImageFont
) -> None:
    left, right, y = int(frame.x(1)), int(frame.x(frame.epochs)), frame.y(level)
    dash = 7 * SCALE
    for x in range(left, right, 2 * dash):
        draw.line((x, y, min(x + dash, right), y), INK, SCALE)
    draw.text((right + 24 * SCALE, y), f"{name}, {level:.1%}", INK, font, anchor="lm")


def _draw_curve(draw: ImageDraw, frame: _Frame, curve: Curve, colour: tuple[int, int, int]) -> None:
    points = [(frame.x(epoch), frame.y(value)) for epoch, value in enumerate(curve.values, 1)]
    draw.line(points, colour, 3 * SCALE, joint="curve")
    for x, y in points:
        radius = 4 * SCALE
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), colour)
