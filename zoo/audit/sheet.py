"""A picture of which frames of the time line a sampler chooses."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TypeAlias

from zoo.audit.calls import Call, Sampler, call, seeded
from zoo.sheet import check_sheet_path

__all__ = ["draw_timelines"]

_Box: TypeAlias = tuple[float, float, float, float]
_Colour: TypeAlias = tuple[int, int, int]

_WIDTH, _LEFT, _MARGIN, _ROW = 1200, 190, 24, 46
_INK, _PALE, _ACCENT, _FAULT = (32, 33, 36), (218, 220, 224), (26, 115, 232), (197, 34, 31)


def draw_timelines(
    sampler: Sampler,
    path: str | os.PathLike[str],
    *,
    num_frames: int,
    train: bool = False,
    title: str = "",
) -> None:
    """Draw the frames chosen from videos of several lengths, a row a video.

    Marks are frames, at their places between the video's first frame and its last; frames chosen
    twice stand higher, and indices that the video does not have are drawn in red beyond its end.
    A random sampler has three rows a video.

    Args:
        sampler: From the frames of a video and of a clip to indices.
        path: File to write; its ending names the format, `.png` for instance.
        num_frames: Frames T of a clip.
        train: Whether it may draw at random.
        title: What stands above.

    Raises:
        ValueError: The file's ending names no picture format.
        OSError: The file cannot be written.
    """
    from PIL import Image, ImageDraw, ImageFont

    check_sheet_path(path)
    lengths = (num_frames // 2 or 1, num_frames, num_frames + 1, 3 * num_frames - 1, 300)
    rows = [
        call(seeded(sampler, seed, train=train), total, num_frames)
        for total in lengths
        for seed in range(3 if train else 1)
    ]
    height = 2 * _MARGIN + 30 + _ROW * len(rows)
    picture = Image.new("RGB", (_WIDTH, height), "white")
    draw = ImageDraw.Draw(picture)
    draw.text((_MARGIN, _MARGIN), title, _INK, ImageFont.load_default(18))
    small = ImageFont.load_default(13)
    for place, row in enumerate(rows):
        top = _MARGIN + 44 + place * _ROW
        draw.text((_MARGIN, top - 4), f"{num_frames} of {row.total} frames", _INK, small)
        draw.rectangle((_LEFT, top, _WIDTH - 3 * _MARGIN, top + 4), _PALE)
        if not row.clips:
            draw.text((_LEFT, top + 6), _shorten(row.answer), _FAULT, small)
        for box, colour in _marks(row, top):
            draw.rectangle(box, colour)
    picture.save(path)


def _marks(row: Call, top: int) -> Sequence[tuple[_Box, _Colour]]:
    """Boxes to paint for one answer, with their colours."""
    right = _WIDTH - 3 * _MARGIN
    found = []
    for number, clip in enumerate(row.clips[:6]):
        seen: dict[int, int] = {}
        for index in clip:
            seen[index] = seen.get(index, 0) + 1
            inside = 0 <= index < row.total
            part = index / max(row.total - 1, 1)
            x = _LEFT + (right - _LEFT) * min(max(part, -0.03), 1.03)
            rise = 8 + 3 * min(seen[index] - 1, 4)
            y = top + 4 * number
            found.append(((x - 1, y - rise, x + 1, y + 10), _ACCENT if inside else _FAULT))
    return found


def _shorten(text: str) -> str:
    return text if len(text) <= 120 else f"{text[:117]}..."
