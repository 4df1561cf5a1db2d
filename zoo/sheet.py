"""A picture of what a model saw: sampled frames on the video's time line, labels as bars."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

from zoo.preprocessing import crop_corners
from zoo.sampling import clip_indices

if TYPE_CHECKING:
    from PIL.ImageDraw import ImageDraw
    from PIL.ImageFont import FreeTypeFont, ImageFont

    from registry.records import Preprocess
    from zoo.config import ModelConfig
    from zoo.prediction import Prediction
    from zoo.video import Video

__all__ = ["check_sheet_path", "draw_sheet"]

_WIDTH, _MARGIN, _GAP = 1200, 24, 6
_LINE_TOP, _FRAMES_TOP, _CAPTION, _BAR_STEP = _MARGIN + 44, _MARGIN + 96, 22, 30
_INK, _PALE, _ACCENT = (32, 33, 36), (218, 220, 224), (26, 115, 232)
_FORMATS = (".png", ".jpg", ".jpeg", ".webp")
_Box: TypeAlias = tuple[float, float, float, float]
_MAX_FRAMES = 64
"""Frames drawn; of more, as many evenly spaced ones, and the sheet says so."""


def draw_sheet(
    video: Video,
    config: ModelConfig,
    predictions: Sequence[Prediction],
    path: str | os.PathLike[str],
    *,
    num_clips: int | Literal["all"] = 1,
    num_crops: int = 1,
) -> None:
    """Draw the frames that a prediction was made from, framing in each what the model saw of it.

    Args:
        video: The video, open.
        config: The record of the model that predicted.
        predictions: What it said, best first.
        path: File to write; its ending names the format, `.png` for instance.
        num_clips: Clips that the prediction was made from.
        num_crops: Crops of each.

    Raises:
        ValueError: The file's ending names no picture format.
        OSError: The file cannot be written.
    """
    from PIL import Image, ImageDraw, ImageFont

    check_sheet_path(path)
    clips = clip_indices(config.sampling, video.times, num_clips)
    indices = sorted({index for clip in clips for index in clip})
    chosen = indices[:: -(-len(indices) // _MAX_FRAMES)]
    grid = _Grid(len(chosen), video.height / video.width)
    bars_top = _FRAMES_TOP + grid.height + 16
    size = _WIDTH, bars_top + _BAR_STEP * len(predictions) + _MARGIN
    picture = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(picture)
    font, small = ImageFont.load_default(18), ImageFont.load_default(13)
    shown = "" if len(chosen) == len(indices) else f", {len(chosen)} of them drawn"
    title = (
        f"{video.path.name}: {len(video)} frames, {video.duration:.2f} s; {config.name} saw "
        f"{len(indices)} frames{shown}"
    )
    draw.text((_MARGIN, _MARGIN), title, _INK, font)
    _draw_time_line(draw, video, indices, font=small)
    for place, (index, frame) in enumerate(video.frames(chosen)):
        left, top = grid.corner(place)
        picture.paste(Image.fromarray(frame.numpy()).resize(grid.tile), (left, top))
        for box in _seen(video, config.preprocess, num_crops):
            draw.rectangle(grid.within(place, box), outline=_ACCENT, width=2)
        caption = f"{index}  {video.times[index]:.2f} s"
        draw.text((left, top + grid.tile[1] + 3), caption, _INK, small)
    for place, prediction in enumerate(predictions):
        _draw_bar(draw, prediction, top=bars_top + _BAR_STEP * place, font=font)
    try:
        picture.save(path)
    except OSError as error:
        raise OSError(f"Cannot write the sheet '{path}' ({error}).") from error


class _Grid:
    """Where the frames stand: up to eight in a row, each above its caption.

    Args:
        count: Number of frames.
        aspect: Height of a frame by its width.
    """

    def __init__(self, count: int, aspect: float) -> None:
        self.columns = min(8, count)
        room = _WIDTH - 2 * _MARGIN - (self.columns - 1) * _GAP
        width = min(room // self.columns, 280)
        self.tile = width, max(1, round(width * aspect))
        self.row_height = self.tile[1] + _CAPTION + _GAP
        self.height = self.row_height * -(-count // self.columns)

    def corner(self, place: int) -> tuple[int, int]:
        """Left and top of a frame."""
        row, column = divmod(place, self.columns)
        return _MARGIN + column * (self.tile[0] + _GAP), _FRAMES_TOP + row * self.row_height

    def within(self, place: int, box: _Box) -> _Box:
        """A box in parts of a frame, as pixels of the sheet."""
        (x, y), (width, height) = self.corner(place), self.tile
        left, top, right, bottom = box
        return x + left * width, y + top * height, x + right * width - 1, y + bottom * height - 1


def _seen(video: Video, recipe: Preprocess, num_crops: int) -> list[_Box]:
    """The crops of a frame as (left, top, right, bottom), in parts of its width and height."""
    if isinstance(recipe.resize, int):
        short = min(video.height, video.width)
        # torchvision cuts the longer side to a whole number.
        height, width = (side * recipe.resize // short for side in (video.height, video.width))
    else:
        height, width = recipe.resize
    size = recipe.img_size
    return [
        (left / width, top / height, (left + size) / width, (top + size) / height)
        for top, left in crop_corners(height, width, size, num_crops)
    ]


def check_sheet_path(path: str | os.PathLike[str]) -> None:
    """Refuse a place where no sheet can be written, before any work is done for one.

    Raises:
        ValueError: The file's ending names no picture format.
        OSError: The folder does not exist or cannot be written.
    """
    path = Path(path)
    target = path if path.exists() else path.parent
    if path.is_dir() or not path.parent.is_dir() or not os.access(target, os.W_OK):
        raise OSError(f"Cannot write '{path}'; give a file name in a folder that exists.")
    if path.suffix.lower() not in _FORMATS:
        raise ValueError(f"'{path}' must end in one of {', '.join(_FORMATS)}.")


def _draw_time_line(
    draw: ImageDraw, video: Video, indices: Sequence[int], *, font: FreeTypeFont | ImageFont
) -> None:
    """A line from the video's start to its end with a mark for every sampled frame."""
    left, right, top = _MARGIN, _WIDTH - _MARGIN, _LINE_TOP
    span = max(video.duration, 1e-9)
    draw.rectangle((left, top, right, top + 6), _PALE)
    for index in indices:
        x = left + (right - left) * min(video.times[index] / span, 1.0)
        draw.rectangle((x - 1, top - 6, x + 1, top + 12), _ACCENT)
    draw.text((left, top + 16), "0 s", _INK, font)
    end = f"{video.duration:.2f} s"
    draw.text((right - 8 * len(end), top + 16), end, _INK, font)


def _draw_bar(
    draw: ImageDraw, prediction: Prediction, *, top: int, font: FreeTypeFont | ImageFont
) -> None:
    """A label, a bar as long as it is probable, and the probability."""
    left, full = _MARGIN + 330, _WIDTH - 2 * _MARGIN - 430
    draw.text((_MARGIN, top), _shorten(prediction.label, 36), _INK, font)
    draw.rectangle((left, top, left + full, top + 20), _PALE)
    draw.rectangle((left, top, left + full * prediction.probability, top + 20), _ACCENT)
    draw.text((left + full + 12, top), f"{prediction.probability:.1%}", _INK, font)


def _shorten(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"
