"""A picture of what a model takes for what: true classes down, predicted ones across."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL.Image import Image
    from PIL.ImageDraw import ImageDraw
    from PIL.ImageFont import FreeTypeFont, ImageFont

__all__ = ["draw_confusion"]

_MARGIN, _TITLE, _LABEL_CHARACTERS = 24, 64, 44
_INK, _PALE = (32, 33, 36), (218, 220, 224)
_RIGHT, _WRONG = np.array([26, 115, 232]), np.array([217, 48, 37])
_WIDTH, _LARGEST_CELL, _NUMBERED_CELL, _SMALLEST_CELL = 900, 96, 24, 12
_LEGEND = "down: true class; across: predicted; blue: right, red: wrong, by share of the row"
_SCREEN = 1500
"""Pixels of a picture that a screen shows at once."""
_FAINTEST = 0.25
"""Share of its colour that a cell with one video of a thousand still gets, to be seen."""


def draw_confusion(
    confusion: NDArray[np.int64],
    labels: Sequence[str],
    path: str | os.PathLike[str],
    *,
    title: str,
) -> None:
    """Draw the classes that occur, right answers in blue and wrong ones in red.

    A cell is as dark as the share of its row's videos that fell there, and tells their number
    where there is room. Predicted classes that no video has share a last column. The picture
    grows with the classes, so that each keeps its name: 400 of them take some 5,000 pixels.

    Args:
        confusion: Videos by true and predicted class, (K, K).
        labels: Names of the classes, K of them.
        path: File to write, `.png`.
        title: What stands above.

    Raises:
        OSError: The file cannot be written.
    """
    from PIL import Image, ImageDraw, ImageFont

    counts, names = _occurring(confusion, labels)
    rows, columns = counts.shape
    cell = max(_SMALLEST_CELL, min(_LARGEST_CELL, _WIDTH // columns))
    font = ImageFont.load_default(min(max(cell - 2, 9), 16))
    small, large = ImageFont.load_default(14), ImageFont.load_default(18)
    texts = [_shorten(name, _LABEL_CHARACTERS) for name in names]
    room = max(round(font.getlength(text)) for text in texts) + 12
    left, top = _MARGIN + room, _MARGIN + _TITLE + room
    right, bottom = left + columns * cell, top + rows * cell
    # Where a screen does not show all of it at once, the names stand on every side.
    around = room if right > _SCREEN else 0
    heading = round(max(large.getlength(title), small.getlength(_LEGEND)))
    size = max(right + around, _MARGIN + heading) + _MARGIN, bottom + around + _MARGIN
    picture = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(picture)
    draw.text((_MARGIN, _MARGIN), title, _INK, large)
    draw.text((_MARGIN, _MARGIN + 28), _LEGEND, _INK, small)
    shades = _shades(counts)
    picture.paste(Image.fromarray(shades.repeat(cell, 0).repeat(cell, 1)), (left, top))
    for y in range(top, bottom + 1, cell):
        draw.line((left, y, right, y), _PALE)
    for x in range(left, right + 1, cell):
        draw.line((x, top, x, bottom), _PALE)
    for place, text in enumerate(texts):
        upright = _upright(text, font)
        x = left + place * cell + (cell - upright.width) // 2
        y = top + place * cell + cell // 2
        picture.paste(upright, (x, top - 6 - upright.height))
        if around:
            picture.paste(upright, (x, bottom + 6))
        if place < rows:
            draw.text((left - 6, y), text, _INK, font, anchor="rm")
        if place < rows and around:
            draw.text((right + 6, y), text, _INK, font, anchor="lm")
    if cell >= _NUMBERED_CELL:
        _write_numbers(draw, counts, shades, corner=(left, top), cell=cell)
    try:
        picture.save(path)
    except OSError as error:
        raise OSError(f"Cannot write '{path}' ({error.strerror or error}).") from error


def _write_numbers(
    draw: ImageDraw,
    counts: NDArray[np.int64],
    shades: NDArray[np.uint8],
    *,
    corner: tuple[int, int],
    cell: int,
) -> None:
    """Write into each cell how many videos fell there, as large as there is room."""
    from PIL import ImageFont

    font = ImageFont.load_default(min(cell // len(str(counts.max())), 22))
    for row, column in zip(*counts.nonzero(), strict=True):
        # Rec. 601 luma: white figures on dark cells
        dark = shades[row, column] @ np.array([0.299, 0.587, 0.114]) < 140
        at = corner[0] + column * cell + cell // 2, corner[1] + row * cell + cell // 2
        draw.text(at, str(counts[row, column]), "white" if dark else _INK, font, anchor="mm")


def _occurring(
    confusion: NDArray[np.int64], labels: Sequence[str]
) -> tuple[NDArray[np.int64], list[str]]:
    """Rows and columns of the classes that videos have, and one column for all other answers."""
    shown = confusion.sum(axis=1).nonzero()[0]
    counts = confusion[np.ix_(shown, shown)]
    names = [labels[index] for index in shown]
    others = confusion[shown].sum(axis=1) - counts.sum(axis=1)
    if others.any():
        return np.concatenate([counts, others[:, None]], axis=1), [*names, "any other class"]
    return counts, names


def _shades(counts: NDArray[np.int64]) -> NDArray[np.uint8]:
    """A colour for each cell, uint8 (rows, columns, 3)."""
    share = counts / counts.sum(axis=1, keepdims=True)
    strength = np.where(counts > 0, _FAINTEST + (1 - _FAINTEST) * share, 0.0)[..., None]
    right = (np.eye(*counts.shape) > 0)[..., None]
    colour = np.where(right, _RIGHT, _WRONG)
    return np.asarray((255 * (1 - strength) + colour * strength).round(), np.uint8)


def _upright(text: str, font: FreeTypeFont | ImageFont) -> Image:
    """A text that reads from bottom to top."""
    from PIL import Image, ImageDraw

    _, above, right, below = font.getbbox(text)
    picture = Image.new("RGB", (round(right) + 1, round(below - above) + 2), "white")
    ImageDraw.Draw(picture).text((0, 1 - above), text, _INK, font)
    return picture.transpose(Image.Transpose.ROTATE_90)


def _shorten(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"
