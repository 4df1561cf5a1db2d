"""Decode chosen frames of a video, each exactly as one pass from the start would give it."""

from __future__ import annotations

import logging
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from zoo._frame_table import WORTH_SEEKING, FrameTable
from zoo._video_file import OpenFile, decode, demux, open_file

if TYPE_CHECKING:
    from av import Packet, VideoFrame
    from av.video.stream import VideoStream

__all__ = ["FrameDecoder"]

logger = logging.getLogger(__name__)


class FrameDecoder:
    """One open file, standing at some frame; it goes forward by decoding and elsewhere by seeking.

    A seek goes to a keyframe, and where it really landed is read from the packets: decoding starts
    at the first keyframe packet found, if that is not past the wanted frame. What a seek did not
    find is looked for once more from the start.

    Where the table is exact, two things are left out that change no pixel: on the way to a wanted
    frame of H.264, those that no other is predicted from; and after the last one before a seek,
    the packets that would only make the decoder give what it holds: it is asked to.

    Args:
        path: A video file.
        table: Its frames.
        file: The file, where it is open already.
    """

    def __init__(self, path: Path, table: FrameTable, file: OpenFile | None = None) -> None:
        self._path = path
        self._table = table
        self._warned = False
        self._seekable = table.stamps is not None
        # where frames are only counted, none may be lost beside a damaged one
        self._threads = self._seekable
        self._steers = table.exact
        self._position: int
        self._held: VideoFrame | None
        self._decoded: Iterator[tuple[int, VideoFrame]]
        if file is None:
            self._file = open_file(path, threads=self._threads)
            self._stand(demux(self._file), from_start=True)
        else:
            self._file = file
            self._jump(0)

    def close(self) -> None:
        """Close the file and end the decoder's threads; nothing can be read afterwards."""
        self._file.container.close()
        # The generator holds this object, and so the decoder with its threads, until garbage is
        # collected; in a forked process, which has no such threads, that would wait for ever.
        self._decoded = iter(())
        self._held = None
        del self._file

    def frames(
        self, indices: list[int], *, goes_on: bool = True
    ) -> Iterator[tuple[int, VideoFrame]]:
        """Decode frames one by one, holding one.

        Args:
            indices: Wanted frames, ascending, without duplicates.
            goes_on: Whether the frames after these are wanted next; the decoder is then ready.

        Returns:
            An iterator over (index, frame).
        """
        runs = self._table.runs(indices)
        for run in runs:
            self._begin(run, goes_on=goes_on and run is runs[-1])
            for index in run:
                yield index, self._frame(index)

    def _begin(self, run: list[int], *, goes_on: bool) -> None:
        """Stand where a run of frames can be decoded from, and say what is wanted."""
        stamps, index = self._table.stamps, run[0]
        wanted = {stamps[index] for index in run} if stamps is not None else set()
        saved = self._table.start_of(index) - self._position if self._seekable else 0
        lost = self._feed is not None and self._feed.has_lost(wanted)
        if index < self._position or saved >= WORTH_SEEKING or lost:
            self._jump(index)
        if self._feed is not None:
            self._feed.want(wanted, goes_on=goes_on)

    def _frame(self, index: int) -> VideoFrame:
        frame = self._advance(index)
        if frame is None:
            strayed = not self._from_start
            self._steers = False
            self._restart(threads=False)
            frame = self._advance(index)
            if frame is not None and strayed:
                self._seekable = False  # this file's seeks lead astray
        if frame is None:
            raise ValueError(
                f"Frame {index} of {self._path} cannot be decoded: the file is damaged there, or "
                f"this build of PyAV lacks its decoder; re-encode the file, or leave it out."
            )
        if frame.is_corrupt and not self._warned:
            self._warned = True
            logger.warning("Frame %d of %s is damaged; it is used as decoded.", index, self._path)
        return frame

    def _advance(self, index: int) -> VideoFrame | None:
        """Decode forward to a frame; None if the stream passes over it."""
        while self._held is None or self._position < index:
            following = next(self._decoded, None)
            if following is None:
                return None
            self._position, self._held = following
        return self._held if self._position == index else None

    def _jump(self, index: int) -> None:
        """Stand at a keyframe at or before a frame, or else at the start of the file."""
        import av

        stamps, keyframes = self._table.stamps, self._table.keyframes
        if not self._seekable or stamps is None:
            return self._restart(threads=self._threads)
        wanted, step = stamps[index], 1
        nearest = bisect_right(keyframes, wanted) - 1
        while nearest >= 0:
            try:
                self._file.container.seek(keyframes[nearest], stream=self._file.stream)
                packets = demux(self._file)
                landed = next((packet for packet in packets if packet.is_keyframe), None)
            except (av.FFmpegError, EOFError):
                break
            if landed is not None and landed.pts is not None and landed.pts <= wanted:
                self._stand(chain([landed], packets), from_start=False)
                return None
            nearest, step = nearest - step, step * 2
        return self._restart(threads=self._threads)

    def _restart(self, *, threads: bool) -> None:
        # a fresh file: raw streams cannot seek to their start, and stamps repeat exactly
        self._file.container.close()
        self._file = open_file(self._path, threads=threads)
        self._stand(demux(self._file), from_start=True)

    def _stand(self, packets: Iterator[Packet[VideoStream]], *, from_start: bool) -> None:
        self._from_start = from_start
        self._position, self._held = -1, None
        self._feed = _Feed(self._file, packets) if self._steers else None
        self._decoded = self._numbered(decode(self._file, iter(self._feed or packets)))

    def _numbered(self, frames: Iterator[VideoFrame]) -> Iterator[tuple[int, VideoFrame]]:
        """Give frames their index; a frame that the table does not know is no frame."""
        stamps = self._table.stamps
        if stamps is None:
            yield from enumerate(frames)
            return
        for frame in frames:
            index = len(stamps) if frame.pts is None else bisect_left(stamps, frame.pts)
            if index < len(stamps) and stamps[index] == frame.pts:
                yield index, frame


class _Feed:
    """The packets from a keyframe on, as far as wanted frames need them.

    Args:
        file: Where they come from.
        packets: The packets, each of one frame, with its stamp.
    """

    def __init__(self, file: OpenFile, packets: Iterator[Packet[VideoStream]]) -> None:
        self._codec = file.stream.codec_context
        self._packets = packets
        self._skips = self._codec.name == "h264"
        self._wanted: set[int] = set()
        self._missing: set[int] = set()
        self._last = 0
        self._goes_on = True
        self._given: set[int] = set()
        self._skipped: set[int] = set()
        self._ended = False

    def has_lost(self, stamps: set[int]) -> bool:
        """Say whether some of these frames cannot come any more."""
        missing = stamps - self._given
        return bool(missing) and (self._ended or not missing.isdisjoint(self._skipped))

    def want(self, stamps: set[int], *, goes_on: bool) -> None:
        """Set which frames to decode from here on, and whether all that follow them, too."""
        self._wanted, self._last, self._goes_on = stamps, max(stamps), goes_on
        self._missing = stamps - self._given
        # what lies before can only be reached by another seek
        first = min(stamps)
        self._given = {stamp for stamp in self._given if stamp >= first}
        self._skipped = {stamp for stamp in self._skipped if stamp >= first}

    def __iter__(self) -> Iterator[Packet[VideoStream]]:
        while self._goes_on or self._missing:
            packet = next(self._packets, None)
            if packet is None:
                break
            stamp = packet.pts
            assert stamp is not None, "an exact table has read this packet"
            wanted = stamp in self._wanted or (self._goes_on and stamp > self._last)
            if self._skips:
                # "NONREF" keeps every frame that another one is predicted from
                self._codec.skip_frame = "DEFAULT" if wanted else "NONREF"
            # before it is given away: who asks for another frame meanwhile must know of it
            (self._skipped if self._skips and not wanted else self._given).add(stamp)
            self._missing.discard(stamp)
            yield packet
        self._ended = True
