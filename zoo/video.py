"""Read any frame of a video file, exactly, by its index or by its time."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType

import torch
from torch import Tensor

from zoo._frame_reader import FrameReader
from zoo._frame_table import read_table
from zoo.sampling import frames_at

__all__ = ["Video"]

FOLLOWS = 16
"""Frames up to which one read is taken to follow another."""


class Video:
    """An open video file. Frames are numbered as they are displayed, from 0.

    A GIF is a video, and a still image is a video of one frame. Frames are turned as the file's
    display matrix says, to the nearest quarter turn; transparency is dropped; where the size
    changes midway, frames are scaled to the size of the first. Colours are converted by libav's
    swscale at its defaults, as torchvision and transformers read them.

    Args:
        path: A video file.

    Attributes:
        path: The file.
        times: When each frame is shown, seconds from the first frame, ascending.
        duration: Seconds from the first frame's start to the last one's end.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        if "://" in os.fspath(path):
            raise ValueError(f"{path} is an address; download it, then give the file's path.")
        self.path = Path(path)
        table, file = read_table(self.path)
        self.times: Sequence[float] = table.times
        self.duration = table.duration
        self._reader = FrameReader(self.path, table, file)
        self._last_read = -FOLLOWS

    def __len__(self) -> int:
        return len(self.times)

    def __repr__(self) -> str:
        size = "" if self._reader.closed else f" of {self.width}x{self.height}"
        return f"Video({str(self.path)!r}, {len(self)} frames{size}, {self.duration:.2f} s)"

    def __enter__(self) -> Video:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file, also under iterators still in use; closing twice does nothing."""
        self._reader.close()

    @property
    def num_frames(self) -> int:
        """Number of frames that are displayed."""
        return len(self.times)

    @property
    def height(self) -> int:
        """Rows of a frame, after turning."""
        return self._reader.size[0]

    @property
    def width(self) -> int:
        """Columns of a frame, after turning."""
        return self._reader.size[1]

    @property
    def fps(self) -> float:
        """Frames a second, on average."""
        return len(self.times) / self.duration if self.duration > 0 else 0.0

    def indices_at(self, seconds: Iterable[float]) -> list[int]:
        """Find the frames on screen at given moments, seconds from the first frame."""
        return frames_at(self.times, list(seconds))

    def read(self, indices: Sequence[int]) -> Tensor:
        """Decode frames in the order asked for; duplicates are decoded once.

        From the second of several reads that follow one another, decoding goes on where the one
        before ended, or at the first frame; any other read by itself decodes no frame beyond its
        own.

        Args:
            indices: Frames from 0 to `len(video) - 1`.

        Returns:
            uint8 (T, H, W, C), RGB.
        """
        places: dict[int, list[int]] = {}
        for place, index in enumerate(indices):
            places.setdefault(index, []).append(place)
        goes_on = 0 < min(places, default=0) - self._last_read <= FOLLOWS
        # which decodes the first of them, if the size is not known yet
        frames = self.frames(places, goes_on=goes_on)
        clip = torch.empty((len(indices), self.height, self.width, 3), dtype=torch.uint8)
        pixels = clip.numpy()  # whose copies take no threads from the decoder
        for index, frame in frames:
            for place in places[index]:
                pixels[place] = frame
            del frame  # its memory is that of the next one, already paged in
        self._last_read = max(places, default=-FOLLOWS)
        return clip

    def frames(
        self, indices: Iterable[int], *, goes_on: bool = True
    ) -> Iterator[tuple[int, Tensor]]:
        """Decode frames one at a time, in ascending order, each once.

        Until the iterator ends or is dropped, it has decoders of its own; others may be used, and
        frames read, in between. After `close` it raises what a read does.

        Args:
            indices: Frames from 0 to `len(video) - 1`, in any order.
            goes_on: Whether the frames after these are read next: decoding is then begun.

        Returns:
            An iterator over (index, frame), frame uint8 (H, W, C), RGB.
        """
        wanted = sorted(set(indices))
        for index in wanted[:1] + wanted[-1:]:
            if not 0 <= index < len(self):
                raise IndexError(
                    f"Frame {index} of {self.path} is asked for; it has frames 0 to "
                    f"{len(self) - 1}."
                )
        return self._reader.frames(wanted, goes_on=goes_on)
