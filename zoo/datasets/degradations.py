"""What cameras and codecs do to a clip: light, colour, blur, noise, compression.

Every function takes and returns a float clip (T, C, H, W) in [0, 1], except the two codecs, which
work on decoded uint8 clips (T, H, W, C).
"""

from __future__ import annotations

import io
from fractions import Fraction

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from numpy.random import Generator
from PIL import Image
from torch import Tensor

from zoo.datasets.textures import blur

__all__ = ["add_noise", "change_light", "h264_round_trip", "jpeg_round_trip", "soften"]

Frames = npt.NDArray[np.uint8]


def change_light(clip: Tensor, rng: Generator) -> Tensor:
    """Change colour, contrast and brightness: once for the clip, and differently per frame.

    Args:
        clip: Frames, (T, C, H, W).
        rng: Source of every choice.

    Returns:
        The clip under other light, (T, C, H, W).
    """
    num_frames = clip.shape[0]
    if rng.random() < 0.25:
        clip = clip.mean(dim=1, keepdim=True).expand_as(clip)
    if rng.random() < 0.4:
        clip = clip * torch.from_numpy(rng.uniform(0.7, 1.3, (1, 3, 1, 1)).astype(np.float32))
    if rng.random() < 0.4:
        clip = clip.clamp(1e-4, 1) ** rng.uniform(0.5, 1.8)
    middle = clip.mean()
    clip = (clip - middle) * rng.uniform(0.35, 1.3) + middle + rng.uniform(-0.12, 0.12)
    if rng.random() < 0.3:  # the light fades
        ramp = torch.linspace(-1, 1, num_frames).view(-1, 1, 1, 1)
        clip = clip * (1 + rng.uniform(-0.25, 0.25) * ramp)
    if rng.random() < 0.3:  # the light flickers
        jump = rng.normal(0, rng.uniform(0.01, 0.1), (num_frames, 1, 1, 1))
        clip = clip * torch.from_numpy(1 + jump.astype(np.float32))
    if rng.random() < 0.1:  # corners darken, fixed to the screen
        axis = torch.linspace(-1, 1, clip.shape[-1])
        distance = axis[None, :] ** 2 + axis[:, None] ** 2
        clip = clip * (1 - rng.uniform(0.1, 0.35) * distance)
    return clip


def soften(clip: Tensor, rng: Generator) -> Tensor:
    """Blur the clip a little, as optics and resizing do; the same for every frame.

    Args:
        clip: Frames, (T, C, H, W).
        rng: Source of every choice.

    Returns:
        The softer clip, (T, C, H, W).
    """
    draw = rng.random()
    if draw < 0.35:
        return blur(clip, rng.uniform(0.35, 1.3))
    if draw < 0.5:
        side = clip.shape[-1]
        small = int(side * rng.uniform(0.4, 0.9))
        clip = F.interpolate(
            clip, size=(small, small), mode="bilinear", align_corners=False, antialias=True
        )
        return F.interpolate(clip, size=(side, side), mode="bilinear", align_corners=False)
    return clip


def add_noise(clip: Tensor, rng: Generator) -> Tensor:
    """Add sensor noise, fresh in every frame, and sometimes a pattern that stays on the screen.

    Args:
        clip: Frames, (T, C, H, W).
        rng: Source of every choice.

    Returns:
        The noisier clip, (T, C, H, W).
    """
    if rng.random() < 0.6:
        channels = 1 if rng.random() < 0.5 else clip.shape[1]
        shape = (clip.shape[0], channels, *clip.shape[2:])
        noise = torch.from_numpy(rng.standard_normal(shape, dtype=np.float32))
        if rng.random() < 0.3:
            noise = blur(noise, 0.7) * 2
        clip = clip + rng.uniform(0.002, 0.05) * noise
    if rng.random() < 0.1:
        pattern = rng.standard_normal((1, 1, *clip.shape[2:]), dtype=np.float32)
        clip = clip + rng.uniform(0.005, 0.02) * torch.from_numpy(pattern)
    return clip


def jpeg_round_trip(frames: Frames, *, quality: int) -> Frames:
    """Compress each frame by itself as JPEG and decode it again.

    Args:
        frames: Decoded clip, (T, H, W, C).
        quality: JPEG quality, 1 to 95.

    Returns:
        The clip with its artefacts, (T, H, W, C).
    """
    decoded = []
    for frame in frames:
        buffer = io.BytesIO()
        Image.fromarray(frame).save(buffer, format="JPEG", quality=quality)
        decoded.append(np.asarray(Image.open(buffer)))
    return np.stack(decoded)


def h264_round_trip(frames: Frames, *, crf: int) -> Frames:
    """Compress the clip as H.264 video and decode it again; nothing touches the disk.

    Args:
        frames: Decoded clip of even height and width, (T, H, W, C).
        crf: Constant rate factor: 18 looks clean, 36 poor.

    Returns:
        The clip with its artefacts, (T, H, W, C).
    """
    import av

    encoder = av.CodecContext.create("libx264", "w")
    assert isinstance(encoder, av.VideoCodecContext)
    encoder.height, encoder.width = frames.shape[1:3]
    encoder.pix_fmt = "yuv420p"
    encoder.time_base = Fraction(1, 30)
    # With lookahead, the encoder's output was seen to differ from run to run.
    encoder.options = {"preset": "veryfast", "tune": "zerolatency", "crf": str(crf)}
    encoder.thread_count = 1
    packets = []
    for index, frame in enumerate(frames):
        picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
        picture.pts = index
        packets += encoder.encode(picture)
    packets += encoder.encode(None)
    decoder = av.CodecContext.create("h264", "r")
    assert isinstance(decoder, av.VideoCodecContext)
    decoder.thread_count = 1
    decoded = [picture for packet in packets for picture in decoder.decode(packet)]
    decoded += decoder.decode(None)
    assert len(decoded) == len(frames), (len(decoded), len(frames))
    return np.stack([picture.to_ndarray(format="rgb24") for picture in decoded])
