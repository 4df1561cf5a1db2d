"""Frames of one video as pixels: RGB, turned as the file says, all of the first one's size."""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor

from zoo._frame_decoder import FrameDecoder
from zoo._frame_table import FrameTable
from zoo._video_file import OpenFile

if TYPE_CHECKING:
    from av import VideoFrame
    from av.buffer import Buffer
    from numpy.typing import NDArray

__all__ = ["FrameReader"]

MOST_READERS = 4
"""Decoders that one iterator uses at once, and that stay open: at 1080p each holds some 60 MB."""

LONGEST_RUN = 16
"""Frames between two seeks that are kept at once; above it, one decoder streams them."""


class FrameReader:
    """Reads pixels of one video, with several decoders where wanted frames lie far apart.

    A decoder is lent to one user at a time: to an iterator that streams, or to a thread for one
    run of frames. Whoever finds none idle opens another, so iterators may be used in turns.

    Args:
        path: A video file.
        table: Its frames.
        file: The file, where it is open already.

    Attributes:
        closed: Whether nothing can be read any more.
    """

    def __init__(self, path: Path, table: FrameTable, file: OpenFile | None) -> None:
        self._path, self._table = path, table
        self._stated = _stated_size(file) if file is not None else None
        self.closed = False
        first = _Pixels(path, table, file)
        self._open = {first}
        # a deque's pop is one step for all threads: nobody gets what another one holds; and no
        # lock is held when the garbage collector ends an iterator, which waits for its threads
        self._idle = deque([first])
        self._teams: set[ThreadPoolExecutor] = set()
        self._known: _Geometry | None = None
        try:
            if self._stated is None:
                self._known = self._geometry([])
        except BaseException:
            self.close()
            raise

    @property
    def size(self) -> tuple[int, int]:
        """Rows and columns of a frame, after turning.

        Raises:
            ValueError: The reader is closed, and no frame was read.
        """
        self._known = self._known or self._geometry([])
        a, b, *_ = self._known.matrix
        width, height = self._known.size
        return (width, height) if abs(b) > abs(a) else (height, width)

    def close(self) -> None:
        """End what threads still read and close every file; closing twice does nothing."""
        self.closed = True  # first: from here on, whoever opens a file closes it again
        for pixels in tuple(self._open):
            pixels.close()
        for threads in tuple(self._teams):
            threads.shutdown()
        self._open.clear()
        self._idle.clear()

    def frames(self, indices: list[int], *, goes_on: bool) -> Iterator[tuple[int, Tensor]]:
        """Read frames one by one.

        Args:
            indices: Wanted frames, ascending, without duplicates.
            goes_on: Whether the frames after these are wanted next.

        Returns:
            An iterator over (index, frame), frame uint8 (H, W, C).

        Raises:
            ValueError: The reader is closed, now or before the iterator has ended.
        """
        self._check_open()
        runs = self._table.runs(indices) if self._table.exact else []
        # a decoder for fewer than two runs would mostly wait for the one with more work
        readers = min(torch.get_num_threads(), MOST_READERS, len(runs) // 2)
        alone = readers < 2 or max(map(len, runs)) > LONGEST_RUN
        if self._known is None:
            self._known = self._geometry(indices if alone else [], goes_on=goes_on)
        if alone:
            return self._one_by_one(indices, self._known, goes_on=goes_on)
        return self._side_by_side(runs, readers, self._known)

    def _geometry(self, indices: list[int], *, goes_on: bool = False) -> _Geometry:
        """See how frames are scaled and turned: by the first of the video.

        Where that one must be like the others, by the first of those that are read in any case:
        the decoder then stands at it.
        """
        with self._lent() as pixels:
            if self._stated is not None and indices:
                _, frame = next(pixels.decoded(indices, goes_on=goes_on))
                if (frame.width, frame.height) == self._stated:
                    return _Geometry(self._stated, _display_matrix(frame))
            _, frame = next(pixels.decoded([0], goes_on=False))
            return _Geometry((frame.width, frame.height), _display_matrix(frame))

    def _one_by_one(
        self, indices: list[int], geometry: _Geometry, *, goes_on: bool
    ) -> Iterator[tuple[int, Tensor]]:
        with self._lent() as pixels:
            yield from pixels.frames(indices, geometry, goes_on=goes_on)

    def _side_by_side(
        self, runs: list[list[int]], readers: int, geometry: _Geometry
    ) -> Iterator[tuple[int, Tensor]]:
        """Read runs in their order, a few ahead; each begins with a seek whoever reads it."""

        def read(run: list[int]) -> list[tuple[int, Tensor]]:
            with self._lent() as pixels:
                return list(pixels.frames(run, geometry, goes_on=False))

        def ahead(count: int) -> list[Future[list[tuple[int, Tensor]]]]:
            try:
                return [threads.submit(read, run) for run in islice(following, count)]
            except RuntimeError:  # closing has sent the threads home
                self._check_open()
                raise

        following = iter(runs)
        pending: deque[Future[list[tuple[int, Tensor]]]] = deque()
        with ThreadPoolExecutor(readers) as threads:
            self._teams.add(threads)
            try:
                self._check_open()
                pending.extend(ahead(readers + 1))
                while pending:
                    for item in pending.popleft().result():
                        yield item
                        # read before the reader was closed, but asked for afterwards
                        self._check_open()
                    pending.extend(ahead(1))
            finally:
                for future in pending:
                    future.cancel()
                self._teams.discard(threads)

    @contextmanager
    def _lent(self) -> Iterator[_Pixels]:
        """Lend a decoder to one user: the one given back last, or a new one if none is idle."""
        self._check_open()
        try:
            pixels = self._idle.pop()
        except IndexError:
            pixels = self._another()
        try:
            yield pixels
        finally:
            if len(self._open) > MOST_READERS:
                self._open.discard(pixels)
                pixels.close()
            else:
                self._idle.append(pixels)

    def _another(self) -> _Pixels:
        pixels = _Pixels(self._path, self._table)
        self._open.add(pixels)
        if self.closed:  # meanwhile, perhaps without having seen this one
            pixels.close()
        return pixels

    def _check_open(self) -> None:
        if self.closed:
            raise _closed(self._path)


class _Geometry(NamedTuple):
    """What all frames of a video are made like.

    Attributes:
        size: (width, height) to which frames are scaled, before turning.
        matrix: The linear part of the display matrix.
    """

    size: tuple[int, int]
    matrix: tuple[int, int, int, int]


class _Pixels:
    """A decoder, and the conversion of what it gives.

    It is used by one thread at a time; any other may close it.

    Args:
        path: A video file.
        table: Its frames.
        file: The file, where it is open already.
    """

    def __init__(self, path: Path, table: FrameTable, file: OpenFile | None = None) -> None:
        from av.video.reformatter import VideoReformatter

        self._path = path
        self._decoder: FrameDecoder | None = FrameDecoder(path, table, file)
        self._decoding = Lock()
        self._reformatter = VideoReformatter()

    def close(self) -> None:
        """Close the file once the frame that is being decoded is there."""
        with self._decoding:
            if self._decoder is not None:
                self._decoder.close()
                self._decoder = None

    def decoded(self, indices: list[int], *, goes_on: bool) -> Iterator[tuple[int, VideoFrame]]:
        """Decode frames one by one."""
        frames: Iterator[tuple[int, VideoFrame]] | None = None
        while True:
            with self._decoding:
                if self._decoder is None:
                    raise _closed(self._path)
                frames = frames or self._decoder.frames(indices, goes_on=goes_on)
                item = next(frames, None)
            if item is None:
                return
            yield item

    def frames(
        self, indices: list[int], geometry: _Geometry, *, goes_on: bool
    ) -> Iterator[tuple[int, Tensor]]:
        """Decode and convert frames one by one, uint8 (H, W, C)."""
        for index, frame in self.decoded(indices, goes_on=goes_on):
            yield index, self.of(frame, geometry)

    def of(self, frame: VideoFrame, geometry: _Geometry) -> Tensor:
        """Convert a decoded frame: uint8 (H, W, C)."""
        width, height = geometry.size
        # one thread: the others decode meanwhile
        rgb = self._reformatter.reformat(
            frame, width=width, height=height, format="rgb24", threads=1
        )
        image = _turned(np.asarray(rgb.to_ndarray(), np.uint8), geometry.matrix)
        return torch.from_numpy(np.ascontiguousarray(image))


def _closed(path: Path) -> ValueError:
    return ValueError(f"{path} is closed; open the Video again to read frames.")


def _stated_size(file: OpenFile) -> tuple[int, int] | None:
    """The (width, height) that libav found at opening, where any frame tells of the first.

    In an MP4 file the display matrix stands in the header, for all frames alike. Elsewhere it may
    come with single frames, and sizes may change.
    """
    codec = file.stream.codec_context
    if codec.name != "h264" or "mp4" not in file.container.format.name.split(","):
        return None
    return codec.width, codec.height


def _display_matrix(frame: VideoFrame) -> tuple[int, int, int, int]:
    """Read the linear part (a, b, c, d) of the display matrix: x' = a x + c y, y' = b x + d y."""
    from av.sidedata.sidedata import Type

    try:
        # PyAV's stub names one kind of side data only
        side_data = cast("Mapping[Type, Buffer]", frame.side_data)
    except ValueError:
        # PyAV stumbles over a kind newer than itself (EXIF); the angle it reads elsewhere
        return {90: (0, -1, 1, 0), -90: (0, 1, -1, 0)}.get(frame.rotation) or (
            (-1, 0, 0, -1) if abs(frame.rotation) == 180 else (1, 0, 0, 1)
        )
    if Type.DISPLAYMATRIX not in side_data:
        return 1, 0, 0, 1
    a, b, _, c, d, *_ = struct.unpack("9i", bytes(side_data[Type.DISPLAYMATRIX]))
    return a, b, c, d


def _turned(image: NDArray[np.uint8], matrix: tuple[int, int, int, int]) -> NDArray[np.uint8]:
    """Turn and mirror an image (H, W, C) as a display matrix says, to the nearest quarter turn."""
    a, b, c, d = matrix
    if abs(b) > abs(a):
        image, along_x, along_y = image.transpose(1, 0, 2), c, b
    else:
        along_x, along_y = a, d
    if along_x < 0:
        image = image[:, ::-1]
    return image[::-1] if along_y < 0 else image
