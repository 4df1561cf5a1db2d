"""A picture of accuracy against GFLOPs, what fits the wishes marked."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from zoo.picking.answer import Answer
from zoo.picking.ranking import Plan

if TYPE_CHECKING:
    from PIL.ImageDraw import ImageDraw
    from PIL.ImageFont import FreeTypeFont, ImageFont

__all__ = ["FITS", "INK", "MARK", "PALE", "draw_answer"]

WIDTH, HEIGHT = 1200, 640
LEFT, RIGHT, TOP, BOTTOM = 80, 430, 84, 70
INK, PALE, LINE = (32, 33, 36), (189, 193, 198), (232, 234, 237)
FITS, MARK = (0, 114, 178), (213, 94, 0)
"""Told apart by most colour-blind readers: blue and orange of Okabe and Ito."""
SCALE = 2
"""The picture is drawn larger and made smaller, which smooths its lines."""


def draw_answer(answer: Answer, path: str | os.PathLike[str]) -> None:
    """Draw every model that has a figure on the yardstick, the answer's best ones numbered.

    Args:
        answer: With a yardstick.
        path: File to write; its ending names the format.

    Raises:
        ValueError: No figures count, so that there is nothing to draw.
        OSError: The file cannot be written.
    """
    from PIL import Image, ImageDraw, ImageFont

    drawn = [plan for plan in answer.plans if plan.figure is not None]
    if not drawn:
        raise ValueError(
            "Where one frame tells the label no figures count, and there is nothing to plot; "
            "leave out --plot or give --motion low."
        )
    picture = Image.new("RGB", (WIDTH * SCALE, HEIGHT * SCALE), "white")
    draw = ImageDraw.Draw(picture)
    font, small = ImageFont.load_default(14 * SCALE), ImageFont.load_default(12 * SCALE)
    frame = _Frame(drawn)
    title = f"top-1 on {answer.yardstick}, as published; numbers of views differ"
    draw.text((LEFT * SCALE, 20 * SCALE), title, INK, ImageFont.load_default(18 * SCALE))
    _draw_axes(draw, frame, small)
    best = {plan.candidate.name for plan in answer.best}
    for plan in sorted(drawn, key=lambda plan: not plan.fails):
        if plan.candidate.name not in best:
            _dot(draw, frame.place(plan), 4, PALE if plan.fails else FITS)
    _draw_best(draw, frame, answer.best, font, small)
    _draw_key(draw, answer, font)
    picture.resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS).save(Path(path))


class _Frame:
    """Where GFLOPs, on a logarithmic axis, and accuracies lie in the picture.

    Args:
        plans: What is drawn; every one has a figure.
    """

    def __init__(self, plans: Sequence[Plan]) -> None:
        costs = [plan.gflops for plan in plans]
        values = [plan.figure.value for plan in plans if plan.figure is not None]
        self.decades = math.floor(math.log10(min(costs))), math.ceil(math.log10(max(costs)))
        self.levels = math.floor(min(values) / 5) * 5, math.ceil(max(values) / 5) * 5

    def x(self, gflops: float) -> float:
        """Of a number of GFLOPs."""
        low, high = self.decades
        part = (math.log10(gflops) - low) / max(1, high - low)
        return SCALE * (LEFT + part * (WIDTH - LEFT - RIGHT))

    def y(self, accuracy: float) -> float:
        """Of an accuracy in percent."""
        low, high = self.levels
        part = (high - accuracy) / max(1, high - low)
        return SCALE * (TOP + part * (HEIGHT - TOP - BOTTOM))

    def place(self, plan: Plan) -> tuple[float, float]:
        """Of a model."""
        assert plan.figure is not None
        return self.x(plan.gflops), self.y(plan.figure.value)


def _draw_axes(draw: ImageDraw, frame: _Frame, font: FreeTypeFont | ImageFont) -> None:
    low, high = frame.levels
    left, right = frame.x(10 ** frame.decades[0]), frame.x(10 ** frame.decades[1])
    for level in range(low, high + 1, 5):
        y = frame.y(level)
        draw.line((left, y, right, y), LINE, SCALE)
        draw.text((left - 10 * SCALE, y), f"{level} %", INK, font, anchor="rm")
    for power in range(frame.decades[0], frame.decades[1] + 1):
        x = frame.x(10.0**power)
        draw.line((x, frame.y(low), x, frame.y(high)), LINE, SCALE)
        draw.text((x, frame.y(low) + 8 * SCALE), f"{10.0**power:g}", INK, font, anchor="ma")
    words = "GFLOPs of one answer (10^9 multiply-adds)"
    draw.text(((left + right) / 2, frame.y(low) + 34 * SCALE), words, INK, font, anchor="ma")


def _draw_best(
    draw: ImageDraw,
    frame: _Frame,
    best: Sequence[Plan],
    font: FreeTypeFont | ImageFont,
    small: FreeTypeFont | ImageFont,
) -> None:
    """The answer: a numbered mark for each, and what the number stands for on the right."""
    x = (WIDTH - RIGHT + 40) * SCALE
    # The best is drawn last and lies on top.
    for place, plan in reversed(list(enumerate(best, 1))):
        if plan.figure is not None:
            left, top = frame.place(plan)
            _dot(draw, (left, top), 11, MARK)
            draw.text((left, top), str(place), "white", small, anchor="mm")
        y = (TOP + 92 + 62 * place) * SCALE
        _dot(draw, (x + 10 * SCALE, y + 8 * SCALE), 11, MARK)
        draw.text((x + 10 * SCALE, y + 8 * SCALE), str(place), "white", small, anchor="mm")
        name = plan.candidate.name
        draw.text((x + 30 * SCALE, y), name if len(name) < 42 else name[:41] + "…", INK, font)
        figure = plan.figure
        words = (
            "no comparable figure, not drawn"
            if figure is None
            else f"{figure.value:g}, {figure.num_clips}x{figure.num_crops} views"
        )
        words += f"; {plan.gflops:g} GFLOPs"
        draw.text((x + 30 * SCALE, y + 20 * SCALE), words, INK, small)


def _draw_key(draw: ImageDraw, answer: Answer, font: FreeTypeFont | ImageFont) -> None:
    x = (WIDTH - RIGHT + 40) * SCALE
    words = (
        (PALE, 4, "fails a wish"),
        (FITS, 4, "fulfils all wishes"),
        (MARK, 8, f"the {len(answer.best)} best of {len(answer.fitting)} that do"),
    )
    for index, (colour, radius, text) in enumerate(words):
        y = (TOP + 28 * index) * SCALE
        _dot(draw, (x + 10 * SCALE, y + 8 * SCALE), radius, colour)
        draw.text((x + 30 * SCALE, y), text, INK, font)


def _dot(
    draw: ImageDraw, place: tuple[float, float], radius: float, colour: tuple[int, int, int]
) -> None:
    x, y = place
    size = radius * SCALE
    draw.ellipse((x - size, y - size, x + size, y + size), colour, "white", SCALE)
