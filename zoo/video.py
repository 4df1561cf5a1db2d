"""Read any frame of a video file, exactly, by its index or by its time."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from torch import Tensor

from zoo._frame_decoder import FrameDecoder
from zoo._frame_table import read_table
from zoo.sampling import frames_at

if TYPE_CHECKING:
    from av import VideoFrame
    from av.buffer import Buffer
    from numpy.typing import NDArray

__all__ = ["Video"]


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
        height: Rows of a frame, after turning.
        width: Columns of a frame, after turning.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        from av.video.reformatter import VideoReformatter

        if "://" in os.fspath(path):
            raise ValueError(f"{path} is an address; download it, then give the file's path.")
        self.path = Path(path)
        table = read_table(self.path)
        self.times: Sequence[float] = table.times
        self.duration = table.duration
        self._reformatter = VideoReformatter()
        self._decoder: FrameDecoder | None = FrameDecoder(self.path, table)
        try:
            _, first = next(self._decoder.frames([0]))
        except ValueError:
            self.close()
            raise
        self._coded_size = first.width, first.height
        self._matrix = _display_matrix(first)
        self.height, self.width = self._pixels(first).shape[:2]

    def __len__(self) -> int:
        return len(self.times)

    def __repr__(self) -> str:
        return (
            f"Video({str(self.path)!r}, {len(self)} frames of {self.width}x{self.height}, "
            f"{self.duration:.2f} s)"
        )

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
        """Close the file; closing twice does nothing."""
        if self._decoder is not None:
            self._decoder.close()
            self._decoder = None

    @property
    def num_frames(self) -> int:
        """Number of frames that are displayed."""
        return len(self.times)

    @property
    def fps(self) -> float:
        """Frames a second, on average."""
        return len(self.times) / self.duration if self.duration > 0 else 0.0

    def indices_at(self, seconds: Iterable[float]) -> list[int]:
        """Find the frames on screen at given moments, seconds from the first frame."""
        return frames_at(self.times, list(seconds))

    def read(self, indices: Sequence[int]) -> Tensor:
        """Decode frames in the order asked for; duplicates are decoded once.

        Args:
            indices: Frames from 0 to `len(video) - 1`.

        Returns:
            uint8 (T, H, W, C), RGB.
        """
        places: dict[int, list[int]] = {}
        for place, index in enumerate(indices):
            places.setdefault(index, []).append(place)
        clip = torch.empty((len(indices), self.height, self.width, 3), dtype=torch.uint8)
        for index, frame in self.frames(places):
            for place in places[index]:
                clip[place] = frame
        return clip

    def frames(self, indices: Iterable[int]) -> Iterator[tuple[int, Tensor]]:
        """Decode frames one at a time, in ascending order, each once.

        Args:
            indices: Frames from 0 to `len(video) - 1`, in any order.

        Returns:
            An iterator over (index, frame), frame uint8 (H, W, C), RGB.
        """
        wanted = sorted(set(indices))
        if self._decoder is None:
            raise ValueError(f"{self.path} is closed; open the Video again to read frames.")
        for index in wanted[:1] + wanted[-1:]:
            if not 0 <= index < len(self):
                raise IndexError(
                    f"Frame {index} of {self.path} is asked for; it has frames 0 to "
                    f"{len(self) - 1}."
                )
        decoded = self._decoder.frames(wanted)
        return (
            (index, torch.from_numpy(np.ascontiguousarray(self._pixels(frame))))
            for index, frame in decoded
        )

    def _pixels(self, frame: VideoFrame) -> NDArray[np.uint8]:
        """Convert a decoded frame: uint8 (H, W, C)."""
        width, height = self._coded_size
        rgb = self._reformatter.reformat(frame, width=width, height=height, format="rgb24")
        return _turned(np.asarray(rgb.to_ndarray(), np.uint8), self._matrix)


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
