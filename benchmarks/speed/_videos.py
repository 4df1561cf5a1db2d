"""The videos that the speed benchmarks read: a camera that pans over photographs, with noise.

They are made once, by PyAV, and kept in a folder of the system's temporary one.
"""

from __future__ import annotations

import tempfile
from itertools import count
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image

__all__ = ["describe", "hour", "panorama"]

PICTURES = Path(__file__).parents[2] / "examples" / "pictures"
FOLDER = Path(tempfile.gettempdir()) / "videozoo-speed"
RATE = 30
BITS_A_PIXEL = 0.08
"""5 Mbit/s at 1080p, as the web's videos have."""

STEP = 0.006
"""How far the camera moves from one frame to the next, in widths of a frame."""


def panorama(*, width: int, height: int, num_frames: int, keyframe_every: int) -> Path:
    """Write, or find, a video as a camera makes it: H.264, B-frames, High profile.

    Args:
        width: Columns of a frame.
        height: Rows of a frame.
        num_frames: Frames to write, 30 a second.
        keyframe_every: Frames from one keyframe to the next, exactly.

    Returns:
        The file.
    """
    path = FOLDER / f"{width}x{height}_{num_frames}_key{keyframe_every}.mp4"
    if path.exists():
        return path
    FOLDER.mkdir(exist_ok=True)
    strip = _strip(width, height)
    noise = np.random.default_rng(0).normal(0, 4, (height + 64, width + 64, 1)).astype(np.int16)
    rng = np.random.default_rng(1)
    options = {
        "preset": "veryfast",
        "b": f"{width * height * BITS_A_PIXEL * RATE:.0f}",
        "g": str(keyframe_every),
        "keyint_min": str(keyframe_every),
        "sc_threshold": "0",
    }
    unfinished = path.with_suffix(".part.mp4")
    with av.open(unfinished, "w") as out:
        stream = out.add_stream("libx264", rate=RATE, options=options)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for i in range(num_frames):
            left = int(i * STEP * width) % (strip.shape[1] - width)
            top = int((strip.shape[0] - height) * (0.5 + 0.5 * np.sin(i / 40)))
            y, x = rng.integers(0, 64, 2)
            view = strip[top : top + height, left : left + width].astype(np.int16)
            view += noise[y : y + height, x : x + width]
            frame = av.VideoFrame.from_ndarray(view.clip(0, 255).astype(np.uint8), format="rgb24")
            frame.pts = i
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    unfinished.replace(path)
    return path


def hour(short: Path, *, seconds: int = 3600) -> Path:
    """Repeat a short video for an hour by copying its packets, with no encoding.

    Args:
        short: A video that begins with a keyframe.
        seconds: How long the copy becomes.

    Returns:
        The file.
    """
    path = short.with_name(f"{short.stem}_{seconds}s.mp4")
    if path.exists():
        return path
    unfinished = path.with_suffix(".part.mp4")
    with av.open(unfinished, "w") as out, av.open(short) as source:
        stream = source.streams.video[0]
        copied = out.add_stream_from_template(stream)
        packets = [packet for packet in source.demux(stream) if packet.size]
        data = [(bytes(p), p.pts, p.dts, p.is_keyframe) for p in packets]
        unit, length = stream.time_base, stream.duration
        assert unit is not None
        assert length is not None
        for turn in count():
            if turn * length * unit >= seconds:
                break
            for content, pts, dts, is_keyframe in data:
                packet = av.Packet(content)
                packet.pts, packet.dts = pts + turn * length, dts + turn * length
                packet.time_base, packet.is_keyframe = unit, is_keyframe
                packet.stream = copied
                out.mux(packet)
    unfinished.replace(path)
    return path


def describe(path: Path) -> str:
    """Say in a phrase what a video is: size, length, bytes and bit rate."""
    with av.open(path) as container:
        stream = container.streams.video[0]
        seconds = float((container.duration or 0) / 1e6)
        size = path.stat().st_size
        return (
            f"{stream.width}x{stream.height}, {stream.frames} frames, {seconds:.0f} s, "
            f"{size / 1e6:.1f} MB, {size * 8 / seconds / 1e6:.1f} Mbit/s"
        )


def _strip(width: int, height: int) -> NDArray[np.uint8]:
    """Lay the photographs side by side, each a little higher than a frame: (H + h, n * W, 3)."""
    high = height * 9 // 8
    views = []
    for path in sorted(PICTURES.glob("*.jpg")):
        image = Image.open(path).convert("RGB")
        scale = max(width / image.width, high / image.height)
        image = image.resize((round(image.width * scale), round(image.height * scale)))
        views.append(np.asarray(image)[:high, :width])
    return np.concatenate(views, axis=1)
