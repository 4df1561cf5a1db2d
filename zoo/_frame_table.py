"""The table of a video's frames: when each is shown, and where decoding can start."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from zoo._video_file import OpenFile, decode, demux, open_file

__all__ = ["FrameTable", "read_table"]

logger = logging.getLogger(__name__)

FALSE_KEYFRAMES = frozenset({"apng", "webp"})
"""Animations whose every packet is called a keyframe although it draws on the one before."""


LONGEST_GAP_SECONDS = 60
"""Where stamps leap further, it may be the clock: order is then read from the decoded frames."""


@dataclass(frozen=True, slots=True)
class FrameTable:
    """What is known of each displayed frame without keeping any.

    Attributes:
        times: When each frame starts, seconds from the first, ascending.
        duration: Seconds from the first frame's start to the last one's end.
        stamps: Time stamp of each frame in the stream's own units, ascending; None where stamps
            are missing or not to be trusted, and frames can only be counted from the start.
        keyframes: Stamps of the packets at which decoding can start, ascending.
    """

    times: list[float]
    duration: float
    stamps: list[int] | None
    keyframes: list[int]


@dataclass(slots=True)
class _Packets:
    """What the packets say, in their order in the file."""

    shown: list[int]
    keyframes: list[int]
    last_duration: int = 0
    trusted: bool = True
    damaged: bool = False
    count: int = 0


def read_table(path: Path) -> FrameTable:
    """Make the table from the packets alone or, where they do not tell, by decoding once.

    Args:
        path: A video file.

    Returns:
        A table of at least one frame.
    """
    file = open_file(path)
    with file.container:
        packets = _read_packets(file)
        announced = file.stream.frames
        rate = float(file.stream.average_rate or file.stream.guessed_rate or 1)
        unit = float(file.stream.time_base or 1)
        # The header's duration is that of the longest stream, so it tells of a lone one only.
        lone = len(file.container.streams) == 1
        promised = (file.container.duration or 0) / 1e6 if lone else 0.0
    if packets.damaged:
        logger.warning(
            "%s is damaged or cut off: %d%s packets can be read; the frames in them are used.",
            path,
            packets.count,
            f" of {announced}" if announced > packets.count else "",
        )
    stamps, count = (sorted(packets.shown), len(packets.shown)) if packets.trusted else _scan(path)
    if count == 0:
        raise ValueError(f"{path} holds no frame that can be decoded; the file is damaged.")
    if stamps is None:
        return FrameTable([i / rate for i in range(count)], count / rate, None, [])
    times = [(stamp - stamps[0]) * unit for stamp in stamps]
    last = packets.last_duration * unit
    if last <= 0:
        last = times[-1] / (count - 1) if count > 1 else 1 / rate
    duration = times[-1] + last
    if not packets.damaged and duration < 0.9 * promised - 0.2:
        logger.warning(
            "%s is cut off: its header promises %.2f s, and %.2f s of frames can be read; these "
            "are used.",
            path,
            promised,
            duration,
        )
    return FrameTable(times, duration, stamps, sorted(packets.keyframes))


def _read_packets(file: OpenFile) -> _Packets:
    found = _Packets([], [])
    name = file.stream.codec_context.name
    if file.container.format.name == "avi" and file.stream.codec_context.has_b_frames:
        # avi has no room for display times; libav guesses them, often in the wrong order
        found.trusted = False
    first, latest, previous = True, None, None
    try:
        for packet in demux(file):
            found.count += 1
            if packet.is_corrupt:
                found.damaged = True
                continue
            if packet.pts is None:
                found.trusted = False
                continue
            if previous is not None and packet.dts is not None and packet.dts < previous:
                found.trusted = False  # the clock was set back, as in joined broadcasts
            previous = packet.dts if packet.dts is not None else previous
            if packet.is_keyframe and (first or name not in FALSE_KEYFRAMES):
                found.keyframes.append(packet.pts)
            first = False
            if not packet.is_discard:
                found.shown.append(packet.pts)
                if latest is None or packet.pts > latest:
                    latest, found.last_duration = packet.pts, packet.duration or 0
    except EOFError:
        found.damaged = True
    # frames before the first keyframe, and two with one stamp, may or may not come out
    before = not found.keyframes or min(found.shown, default=0) < found.keyframes[0]
    gaps = [b - a for a, b in pairwise(sorted(found.shown))]
    leap = max(gaps, default=0) * (file.stream.time_base or 1) > LONGEST_GAP_SECONDS
    if before or leap or 0 in gaps:
        found.trusted = False
    return found


def _scan(path: Path) -> tuple[list[int] | None, int]:
    """Decode the whole file, keeping only time stamps; None if they cannot tell frames apart."""
    file = open_file(path, threads=False)
    with file.container:
        guessed = file.container.format.name == "avi"
        found = [frame.pts for frame in decode(file, demux(file))]
    stamps = [stamp for stamp in found if stamp is not None]
    if guessed or len(stamps) < len(found) or any(a >= b for a, b in pairwise(stamps)):
        return None, len(found)
    return stamps, len(found)
