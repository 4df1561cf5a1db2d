"""A picture of what a model saw: sampled frames on the video's time line, labels as bars."""

from __future__ import annotations

import os
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from zoo.sampling import clip_indices

if TYPE_CHECKING:
    from PIL.ImageDraw import ImageDraw

    from zoo.config import ModelConfig
    from zoo.prediction import Prediction
    from zoo.video import Video

__all__ = ["check_sheet_path", "draw_sheet"]

_WIDTH, _MARGIN, _GAP = 1200, 24, 6
_INK, _PALE, _ACCENT = (32, 33, 36), (218, 220, 224), (26, 115, 232)
_FORMATS = (".png", ".jpg", ".jpeg", ".webp")
_MAX_FRAMES = 64
"""Frames drawn; of more, as many evenly spaced ones, and the sheet says so."""


def draw_sheet(
    video: Video,
    config: ModelConfig,
    predictions: Sequence[Prediction],
    path: str | os.PathLike[str],
    *,
    num_clips: int | Literal["all"] = 1,
) -> None:
    """Draw the frames that a prediction was made from.

    Args:
        video: The video, open.
        config: The record of the model that predicted.
        predictions: What it said, best first.
        path: File to write; its ending names the format, `.png` for instance.
        num_clips: Clips that the prediction was made from.

    Raises:
        ValueError: The file's ending names no picture format.
        OSError: The file cannot be written.
    """
    from PIL import Image, ImageDraw, ImageFont

    check_sheet_path(path)
    seen = [
        i
        for clip in islice(clip_indices(config.sampling, video.times, num_clips), 1024)
        for i in clip
    ]
    indices = sorted(set(seen))
    chosen = indices[:: -(-len(indices) // _MAX_FRAMES)]
    columns = min(8, len(chosen))
    side = (_WIDTH - 2 * _MARGIN - (columns - 1) * _GAP) // columns
    side = min(side, 280)
    height = max(1, round(side * video.height / video.width))
    rows = -(-len(chosen) // columns)
    line_top = _MARGIN + 44
    frames_top = line_top + 52
    bars_top = frames_top + rows * (height + 22 + _GAP) + 16
    picture = Image.new("RGB", (_WIDTH, bars_top + 30 * len(predictions) + _MARGIN), "white")
    draw = ImageDraw.Draw(picture)
    font, small = ImageFont.load_default(18), ImageFont.load_default(13)
    shown = "" if len(chosen) == len(indices) else f", {len(chosen)} of them drawn"
    draw.text(
        (_MARGIN, _MARGIN),
        f"{video.path.name}: {len(video)} frames, {video.duration:.2f} s; {config.name} saw "
        f"{len(indices)} frames{shown}",
        _INK,
        font,
    )
    _draw_time_line(draw, video, indices, top=line_top, font=small)
    for place, (index, frame) in enumerate(video.frames(chosen)):
        row, column = divmod(place, columns)
        left = _MARGIN + column * (side + _GAP)
        top = frames_top + row * (height + 22 + _GAP)
        tile = Image.fromarray(frame.numpy()).resize((side, height))
        picture.paste(tile, (left, top))
        draw.text((left, top + height + 3), f"{index}  {video.times[index]:.2f} s", _INK, small)
    for place, prediction in enumerate(predictions):
        top = bars_top + 30 * place
        left, full = _MARGIN + 330, _WIDTH - 2 * _MARGIN - 430
        draw.text((_MARGIN, top), _shorten(prediction.label, 36), _INK, font)
        draw.rectangle((left, top, left + full, top + 20), _PALE)
        draw.rectangle((left, top, left + full * prediction.probability, top + 20), _ACCENT)
        draw.text((left + full + 12, top), f"{prediction.probability:.1%}", _INK, font)
    try:
        picture.save(path)
    except OSError as error:
        raise OSError(f"Cannot write the sheet '{path}' ({error}).") from error


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
    draw: ImageDraw, video: Video, indices: Sequence[int], *, top: int, font: object
) -> None:
    """A line from the video's start to its end with a mark for every sampled frame."""
    left, right = _MARGIN, _WIDTH - _MARGIN
    span = max(video.duration, 1e-9)
    draw.rectangle((left, top, right, top + 6), _PALE)
    for index in indices:
        x = left + (right - left) * min(video.times[index] / span, 1.0)
        draw.rectangle((x - 1, top - 6, x + 1, top + 12), _ACCENT)
    draw.text((left, top + 16), "0 s", _INK, font)  # type: ignore[arg-type]
    end = f"{video.duration:.2f} s"
    draw.text((right - 8 * len(end), top + 16), end, _INK, font)  # type: ignore[arg-type]


def _shorten(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"
