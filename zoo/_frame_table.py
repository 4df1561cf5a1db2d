"""The table of a video's frames: when each is shown, and where decoding can start."""

from __future__ import annotations

import logging
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import numpy as np

from zoo._video_file import OpenFile, decode, demux, open_file

__all__ = ["FrameTable", "read_table"]

logger = logging.getLogger(__name__)

FALSE_KEYFRAMES = frozenset({"apng", "webp"})
"""Animations whose every packet is called a keyframe although it draws on the one before."""


WORTH_SEEKING = 4
"""Frames that a seek must save: it empties the decoder, whose threads then begin anew."""

LONGEST_GAP_SECONDS = 60
"""Where stamps leap further, it may be the clock: order is then read from the decoded frames."""


@dataclass(frozen=True, slots=True)
class FrameTable:
    """What is known of each displayed frame without keeping any; 16 bytes a frame.

    Attributes:
        times: When each frame starts, seconds from the first, ascending.
        duration: Seconds from the first frame's start to the last one's end.
        stamps: Time stamp of each frame in the stream's own units, ascending; None where stamps
            are missing or not to be trusted, and frames can only be counted from the start.
        keyframes: Stamps of the packets at which decoding can start, ascending.
        exact: Whether every frame comes from the one packet with its stamp, nothing damaged.
    """

    times: array[float]
    duration: float
    stamps: array[int] | None
    keyframes: array[int]
    exact: bool

    def start_of(self, index: int) -> int:
        """The frame from which decoding reaches a frame: that of the last keyframe up to it."""
        if self.stamps is None:
            return 0
        nearest = bisect_right(self.keyframes, self.stamps[index]) - 1
        return bisect_left(self.stamps, self.keyframes[nearest]) if nearest >= 0 else 0

    def runs(self, indices: Sequence[int]) -> list[list[int]]:
        """Split wanted frames, ascending, where a seek saves decoding."""
        runs: list[list[int]] = []
        for index in indices:
            if runs and self.start_of(index) - runs[-1][-1] < WORTH_SEEKING:
                runs[-1].append(index)
            else:
                runs.append([index])
        return runs


@dataclass(slots=True)
class _Packets:
    """What the packets say, in their order in the file."""

    shown: array[int] = field(default_factory=lambda: array("q"))
    keyframes: array[int] = field(default_factory=lambda: array("q"))
    last_duration: int = 0
    trusted: bool = True
    damaged: bool = False
    count: int = 0


def read_table(path: Path) -> tuple[FrameTable, OpenFile | None]:
    """Make the table from the packets alone or, where they do not tell, by decoding once.

    Args:
        path: A video file.

    Returns:
        A table of at least one frame; and, where nothing stands against decoding from it, the
        open file, all of whose packets have been read.
    """
    file = open_file(path)
    try:
        table = _table(path, file)
    except BaseException:
        file.container.close()
        raise
    if table.exact:
        return table, file
    file.container.close()
    return table, None


def _table(path: Path, file: OpenFile) -> FrameTable:
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
    stamps: array[int] | None
    if packets.trusted:
        stamps, count = array("q", np.sort(packets.shown).tobytes()), len(packets.shown)
    else:
        stamps, count = _scan(path)
    if count == 0:
        raise ValueError(f"{path} holds no frame that can be decoded; the file is damaged.")
    if stamps is None:
        counted = array("d", (i / rate for i in range(count)))
        return FrameTable(counted, count / rate, None, array("q"), exact=False)
    times = array("d", ((stamp - stamps[0]) * unit for stamp in stamps))
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
    return FrameTable(
        times,
        duration,
        stamps,
        array("q", sorted(packets.keyframes)),
        exact=packets.trusted and not packets.damaged,
    )


def _read_packets(file: OpenFile) -> _Packets:
    found = _Packets()
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
    gaps = np.diff(np.sort(found.shown))
    leap = gaps.max(initial=0) * float(file.stream.time_base or 1) > LONGEST_GAP_SECONDS
    if before or leap or (gaps == 0).any():
        found.trusted = False
    return found


def _scan(path: Path) -> tuple[array[int] | None, int]:
    """Decode the whole file, keeping only time stamps; None if they cannot tell frames apart."""
    file = open_file(path, threads=False)
    with file.container:
        guessed = file.container.format.name == "avi"
        found = [frame.pts for frame in decode(file, demux(file))]
    stamps = array("q", (stamp for stamp in found if stamp is not None))
    if guessed or len(stamps) < len(found) or any(a >= b for a, b in pairwise(stamps)):
        return None, len(found)
    return stamps, len(found)
