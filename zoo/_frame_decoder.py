"""Decode chosen frames of a video, each exactly as one pass from the start would give it."""

from __future__ import annotations

import logging
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from zoo._frame_table import FrameTable
from zoo._video_file import decode, demux, open_file

if TYPE_CHECKING:
    from av import Packet, VideoFrame
    from av.video.stream import VideoStream

__all__ = ["FrameDecoder"]

logger = logging.getLogger(__name__)

WORTH_SEEKING = 16
"""Frames that a seek must save: it also throws away what the decoder's threads have begun."""


class FrameDecoder:
    """One open file, standing at some frame; it goes forward by decoding and elsewhere by seeking.

    A seek goes to a keyframe, and where it really landed is read from the packets: decoding starts
    at the first keyframe packet found, if that is not past the wanted frame. What a seek did not
    find is looked for once more from the start.

    Args:
        path: A video file.
        table: Its frames.
    """

    def __init__(self, path: Path, table: FrameTable) -> None:
        self._path = path
        self._table = table
        self._warned = False
        self._seekable = table.stamps is not None
        # where frames are only counted, none may be lost beside a damaged one
        self._threads = self._seekable
        self._file = open_file(path, threads=self._threads)
        self._position: int
        self._held: VideoFrame | None
        self._decoded: Iterator[tuple[int, VideoFrame]]
        self._stand(demux(self._file), from_start=True)

    def close(self) -> None:
        """Close the file and end the decoder's threads; nothing can be read afterwards."""
        self._file.container.close()
        # The generator holds this object, and so the decoder with its threads, until garbage is
        # collected; in a forked process, which has no such threads, that would wait for ever.
        self._decoded = iter(())
        self._held = None
        del self._file

    def frames(self, indices: list[int]) -> Iterator[tuple[int, VideoFrame]]:
        """Decode frames one by one, holding one.

        Args:
            indices: Wanted frames, ascending, without duplicates.

        Returns:
            An iterator over (index, frame).
        """
        for index in indices:
            yield index, self._frame(index)

    def _frame(self, index: int) -> VideoFrame:
        if index < self._position or self._keyframes_ahead(index):
            self._jump(index)
        frame = self._advance(index)
        if frame is None:
            strayed = not self._from_start
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

    def _keyframes_ahead(self, index: int) -> bool:
        """Say whether a keyframe between here and the wanted frame saves enough decoding."""
        stamps, keyframes = self._table.stamps, self._table.keyframes
        if not self._seekable or stamps is None or index - self._position < WORTH_SEEKING:
            return False
        nearest = bisect_right(keyframes, stamps[index]) - 1
        if nearest < 0:
            return False
        start: int = bisect_left(stamps, keyframes[nearest])
        return start - self._position >= WORTH_SEEKING

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
        self._decoded = self._numbered(decode(self._file, packets))

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
