"""Small test videos whose frame i shows the number i, and the reader of that number.

The left half of a frame shows the number's bits as black and white blocks, which survive
any codec; the right half shows noise that differs from frame to frame, so that a decoder that
started at the wrong place gives visibly other pixels.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

WIDTH, HEIGHT = 64, 48
ROWS, COLUMNS = 3, 3  # blocks: nine bits, numbers below 512

H264 = {"g": "30", "bf": "3", "preset": "veryfast"}
HEVC = {"x265-params": "keyint=30:bframes=3:log-level=none", "preset": "veryfast"}
VP9 = {"g": "30", "deadline": "realtime", "cpu-used": "8"}
OPTIONS = {"libx264": H264, "libx265": HEVC, "libvpx-vp9": VP9, "mpeg4": {"g": "12"}}


def picture(number: int, *, width: int = WIDTH, height: int = HEIGHT) -> np.ndarray:
    """Draw frame `number`: uint8 (H, W, C)."""
    if not 0 <= number < 2 ** (ROWS * COLUMNS):
        raise ValueError(f"Number {number} does not fit into {ROWS * COLUMNS} bits.")
    noise = np.random.default_rng(number).integers(60, 190, (height // 4 + 1, width // 4 + 1, 3))
    image = noise.astype(np.uint8).repeat(4, 0).repeat(4, 1)[:height, :width]
    block_h, block_w = height // ROWS, width // (2 * COLUMNS)
    for bit in range(ROWS * COLUMNS):
        row, column = divmod(bit, COLUMNS)
        image[row * block_h : (row + 1) * block_h, column * block_w : (column + 1) * block_w] = (
            255 * (number >> bit & 1)
        )
    return image


def number_of(frame: np.ndarray) -> int:
    """Read the number that a decoded frame shows, uint8 (H, W, C); any size."""
    image = np.asarray(frame)
    height, width = image.shape[:2]
    block_h, block_w = height / ROWS, width / (2 * COLUMNS)
    number = 0
    for bit in range(ROWS * COLUMNS):
        row, column = divmod(bit, COLUMNS)
        y, x = int((row + 0.5) * block_h), int((column + 0.5) * block_w)
        level = image[y - 2 : y + 3, x - 1 : x + 2].mean()
        if 90 < level < 165:
            raise AssertionError(f"Block {bit} is grey ({level:.0f}); the frame is damaged.")
        number |= int(level > 127) << bit
    return number


def numbers_of(clip: Iterable[np.ndarray]) -> list[int]:
    """Read the numbers of a decoded clip, uint8 (T, H, W, C)."""
    return [number_of(frame) for frame in clip]


def write_video(
    path: Path,
    num_frames: int,
    *,
    codec: str = "libx264",
    rate: int | Fraction = 30,
    pix_fmt: str = "yuv420p",
    options: dict[str, str] | None = None,
    container: str | None = None,
    container_options: dict[str, str] | None = None,
    milliseconds: Sequence[int] | None = None,
    size: tuple[int, int] = (WIDTH, HEIGHT),
    sound: bool = False,
) -> Path:
    """Write a video whose frame i shows the number i.

    Args:
        path: File to write; its suffix names the container.
        num_frames: Frames to write.
        codec: Encoder.
        rate: Frames a second.
        pix_fmt: Pixel format of the encoder.
        options: Encoder options; by default short groups of pictures with B-frames.
        container: Container, where the suffix does not name it.
        container_options: Options of the muxer.
        milliseconds: When each frame is shown, for variable frame rates.
        size: (width, height) of the frames.
        sound: Whether a silent audio track goes with it.
    """
    width, height = size
    with av.open(path, "w", format=container, container_options=container_options or {}) as out:
        stream = out.add_stream(codec, rate=rate, options=options or OPTIONS.get(codec, {}))
        stream.width, stream.height, stream.pix_fmt = width, height, pix_fmt
        audio = out.add_stream("aac", rate=44100) if sound else None
        if milliseconds is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        for i in range(num_frames):
            frame = av.VideoFrame.from_ndarray(
                picture(i, width=width, height=height), format="rgb24"
            )
            if milliseconds is None:
                frame.pts, frame.time_base = i, 1 / Fraction(rate)
            else:
                frame.pts, frame.time_base = milliseconds[i], Fraction(1, 1000)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
        if audio is not None:
            out.mux(audio.encode(_silence(44100 * num_frames // int(rate))))
            out.mux(audio.encode(None))
    return path


def write_sound(path: Path, *, codec: str = "aac", cover: bool = False) -> Path:
    """Write half a second of silence, with a cover picture where asked."""
    with av.open(path, "w") as out:
        audio = out.add_stream(codec, rate=44100)
        picture_stream = None
        if cover:
            from av.stream import Disposition

            picture_stream = out.add_stream("mjpeg", rate=1)
            picture_stream.width, picture_stream.height = WIDTH, HEIGHT
            picture_stream.pix_fmt = "yuvj420p"
            picture_stream.disposition = Disposition.attached_pic
        if picture_stream is not None:
            frame = av.VideoFrame.from_ndarray(picture(1), format="rgb24")
            out.mux(picture_stream.encode(frame))
            out.mux(picture_stream.encode(None))
        out.mux(audio.encode(_silence(22050)))
        out.mux(audio.encode(None))
    return path


def _silence(samples: int) -> av.AudioFrame:
    frame = av.AudioFrame.from_ndarray(
        np.zeros((2, samples), np.float32), format="fltp", layout="stereo"
    )
    frame.sample_rate, frame.pts = 44100, 0
    return frame
