"""Short clips of synthetic motion with nine labels: still, and the eight directions.

A label says how the content moves on the screen: a camera that pans right makes it move left.
Two kinds of scene: the whole picture moves (`pan`), or shapes move over a still ground
(`object`). Light, blur, noise, hand shake and compression change whatever the label is.

Clips come in pairs, item 2k and item 2k + 1: the same frames in reverse order, with the opposite
label. So nothing but the order of the frames tells the sense of the motion, and a model that
ignores order gives both items of a pair one answer: it cannot be right on more than 5/9 of them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, TypeAlias

import numpy as np
import torch
import torch.nn.functional as F
from numpy.random import Generator
from torch import Tensor
from torch.utils.data import Dataset

from registry import labels
from zoo.datasets.degradations import (
    add_noise,
    change_light,
    h264_round_trip,
    jpeg_round_trip,
    soften,
)
from zoo.datasets.textures import sprites, texture

__all__ = ["DIRECTIONS", "LABELS", "OPPOSITE", "ORDER_BLIND_CEILING", "MotionClips"]

LABELS = labels("motion")

DIRECTIONS = ((0, 0), (1, 0), (-1, 0), (0, 1), (0, -1), (1, -1), (-1, -1), (1, 1), (-1, 1))
"""(x, y) of the content's motion per label, y downwards; diagonals move equally along both."""

OPPOSITE = tuple(DIRECTIONS.index((-x, -y)) for x, y in DIRECTIONS)
"""The label of a reversed clip, per label."""

ORDER_BLIND_CEILING = 5 / 9
"""Best accuracy over whole pairs without the order of frames: `still`, and one of each pair."""

Scene: TypeAlias = Literal["pan", "object"]

ANGLE_JITTER = math.radians(8)
SPEEDS: dict[Scene, tuple[float, float]] = {"pan": (0.4, 8.0), "object": (0.6, 6.0)}
SPEED_UNIT = 64
"""Speeds are in pixels per frame of a clip with this side, and grow with the clip's side."""


class MotionClips(Dataset[tuple[Tensor, int]]):
    """Synthetic motion; every item is a function of the seed and its index alone.

    Labels are balanced exactly over each run of 18 items. Directions vary by up to 8 degrees
    around their axis or diagonal.

    Args:
        length: Number of clips, even: they come in pairs.
        seed: Two datasets with different seeds share no clip.
        num_frames: Frames T of a clip.
        size: Height and width of a clip, pixels; even, as video codecs want it.
        scenes: Kinds of scene to draw from, in equal parts.
        speeds: Slowest and fastest motion, pixels a frame at 64 pixels; None gives pans 0.4 to 8
            and objects 0.6 to 6.
        degraded: Whether light, blur, noise, shake and compression disturb the clips.
    """

    def __init__(
        self,
        length: int,
        *,
        seed: int,
        num_frames: int = 8,
        size: int = 64,
        scenes: Sequence[Scene] = ("pan", "object"),
        speeds: tuple[float, float] | None = None,
        degraded: bool = True,
    ) -> None:
        if length < 2 or length % 2:
            raise ValueError(f"MotionClips got length={length}; clips come in pairs, give 2, 4, 6.")
        if num_frames < 2:
            raise ValueError(f"MotionClips got num_frames={num_frames}; motion needs 2 or more.")
        if size < 16 or size % 2:
            raise ValueError(f"MotionClips got size={size}; give an even number from 16 on.")
        if not scenes or not set(scenes) <= {"pan", "object"}:
            raise ValueError(f"MotionClips got scenes={scenes!r}; known: 'pan', 'object'.")
        if speeds is not None and not 0 < speeds[0] <= speeds[1]:
            raise ValueError(f"MotionClips got speeds={speeds}; give (slowest, fastest), above 0.")
        self.length = length
        self.seed = seed
        self.num_frames = num_frames
        self.size = size
        self.scenes = tuple(scenes)
        self.speeds = speeds
        self.degraded = degraded

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """The clip, uint8 (T, H, W, C), and its label's index."""
        if not 0 <= index < self.length:
            raise IndexError(f"Clip {index} of {self.length}; give 0 to {self.length - 1}.")
        pair, reverse = divmod(index, 2)
        rng = np.random.default_rng((self.seed, pair))
        label = pair % len(LABELS)
        clip = self._clip(rng, label)  # (T, H, W, C)
        if reverse:
            return clip.flip(0), OPPOSITE[label]
        return clip, label

    def _clip(self, rng: Generator, label: int) -> Tensor:
        """Draw and disturb one clip, uint8 (T, H, W, C)."""
        scene = self.scenes[int(rng.integers(len(self.scenes)))]
        slowest, fastest = self.speeds or SPEEDS[scene]
        speed = float(np.exp(rng.uniform(np.log(slowest), np.log(fastest))))
        speed *= self.size / SPEED_UNIT
        path = _path(rng, label, speed, self.num_frames, uneven=self.degraded)
        view = _View(rng, self.num_frames, self.size, shaken=self.degraded)
        draw = _pan if scene == "pan" else _objects
        clip = draw(rng, path, view)  # (T, C, H, W)
        if not self.degraded:
            return _to_frames(clip)
        clip = soften(change_light(clip, rng), rng)
        frames = _to_frames(add_noise(clip, rng)).numpy()
        codec = rng.random()
        if codec < 0.35:
            frames = h264_round_trip(frames, crf=int(rng.integers(18, 35)))
        elif codec < 0.5:
            frames = jpeg_round_trip(frames, quality=int(rng.integers(30, 96)))
        return torch.from_numpy(frames)


class _View:
    """The camera: how a layer of the scene lands on the screen, shaking a little if asked to."""

    def __init__(self, rng: Generator, num_frames: int, size: int, *, shaken: bool) -> None:
        self.num_frames = num_frames
        self.size = size
        self.shutter = rng.uniform(0.2, 0.8) if rng.random() < 0.15 else 0.0
        self.mode = "bicubic" if rng.random() < 0.5 else "bilinear"
        self.shake = np.zeros((num_frames, 2))
        self.zoom = np.ones(num_frames)
        self.turn = np.zeros(num_frames)
        if shaken and rng.random() < 0.4:
            self.shake = rng.normal(0, rng.uniform(0.02, 0.25), (num_frames, 2))
        if shaken and rng.random() < 0.25:
            self.zoom = 1 + rng.normal(0, rng.uniform(0, 0.005), num_frames)
            self.turn = rng.normal(0, rng.uniform(0, 0.005), num_frames)

    def reach(self, path: np.ndarray) -> int:
        """Side of a layer that covers the screen all along the path (T, 2), pixels."""
        needed = self.size + 2 * float(np.abs(path).max()) + 12
        return 16 * math.ceil(needed / 16)

    def shoot(self, layer: Tensor, path: np.ndarray) -> Tensor:
        """The layer (C, S, S), moved by the path (T, 2) of pixels, on screen: (T, C, H, W)."""
        step = np.gradient(path, axis=0)
        moving = self.shutter > 0 and float(np.abs(step).max()) > 1
        shifts = (-self.shutter / 3, 0.0, self.shutter / 3) if moving else (0.0,)
        shots = [self._sample(layer, path + shift * step) for shift in shifts]
        return torch.stack(shots).mean(dim=0).clamp(0, 1)

    def _sample(self, layer: Tensor, path: np.ndarray) -> Tensor:
        """Read the layer (C, S, S) where each pixel of each frame looks, (T, C, H, W)."""
        centre = (self.size - 1) / 2
        axis = torch.arange(self.size, dtype=torch.float32) - centre
        offset = torch.from_numpy((path + self.shake).astype(np.float32))  # (T, 2)
        x = axis[None, None, :] - offset[:, 0, None, None]
        y = axis[None, :, None] - offset[:, 1, None, None]
        cosine = torch.from_numpy((self.zoom * np.cos(self.turn)).astype(np.float32))
        sine = torch.from_numpy((self.zoom * np.sin(self.turn)).astype(np.float32))
        cosine, sine = cosine[:, None, None], sine[:, None, None]
        grid = torch.stack([cosine * x - sine * y, sine * x + cosine * y], dim=-1)  # (T, H, W, 2)
        grid = grid * (2 / layer.shape[-1])
        tall = grid.reshape(1, -1, self.size, 2)  # (1, T*H, W, 2)
        shot = F.grid_sample(
            layer[None], tall, mode=self.mode, padding_mode="reflection", align_corners=False
        )
        shot = shot.reshape(-1, self.num_frames, self.size, self.size)  # (C, T, H, W)
        return shot.transpose(0, 1)  # (T, C, H, W)


def _path(rng: Generator, label: int, speed: float, num_frames: int, *, uneven: bool) -> np.ndarray:
    """Where the content is in each frame, (T, 2) pixels, (0, 0) halfway.

    Uneven paths speed up and slow down, and hold some frames as low frame rates and short videos
    do; each is as likely as its reverse because the items of a dataset come in reversed pairs.
    """
    times = np.arange(num_frames, dtype=np.float64)
    if uneven and rng.random() < 0.3:
        steps = rng.uniform(0.6, 1.4, num_frames)
        times = np.cumsum(steps)
    if uneven and rng.random() < 0.2:
        kept = np.arange(num_frames)
        if rng.random() < 0.5:
            rate = rng.uniform(0.4, 0.9)
            kept = np.floor(np.floor(kept * rate + 1e-9) / rate).astype(int)
        else:
            kept = np.minimum(kept, int(rng.integers(num_frames // 2, num_frames)))
        times = times[kept]
    times = times - (times[0] + times[-1]) / 2
    x, y = DIRECTIONS[label]
    if (x, y) == (0, 0):
        return np.zeros((num_frames, 2))
    angle = math.atan2(y, x) + rng.uniform(-ANGLE_JITTER, ANGLE_JITTER)
    return speed * times[:, None] * np.array([math.cos(angle), math.sin(angle)])


def _pan(rng: Generator, path: np.ndarray, view: _View) -> Tensor:
    """The whole picture moves along the path (T, 2): (T, C, H, W)."""
    ground = _ground(rng, view.reach(path))
    clip = view.shoot(ground, path)
    if rng.random() < 0.15:  # something nearer or farther passes at another speed
        ratio = rng.uniform(0.4, 1.6)
        layer = _sprite_layer(rng, view.reach(ratio * path), view.size, count=3)
        clip = _over(clip, view.shoot(layer, ratio * path))
    if rng.random() < 0.1:  # something is fixed to the screen, as a logo is
        layer = _sprite_layer(rng, view.reach(0 * path), view.size, count=1, largest=0.15)
        clip = _over(clip, view.shoot(layer, 0 * path))
    if rng.random() < 0.05:  # black bars
        bar = int(rng.integers(2, view.size // 8))
        clip[:, :, :bar] = 0
        clip[:, :, -bar:] = 0
    return clip


def _objects(rng: Generator, path: np.ndarray, view: _View) -> Tensor:
    """Shapes move along the path (T, 2) over a still ground: (T, C, H, W)."""
    side = view.reach(path)
    if rng.random() < 0.65:
        ground = _ground(rng, view.reach(0 * path))
    else:
        ground = _plain_ground(rng, view.reach(0 * path))
    layer = _sprite_layer(rng, side, view.size, count=int(rng.integers(1, 4)))
    cover = layer[3:]
    fill = (layer[:3] * cover).sum(dim=(1, 2)) / cover.sum().clamp(min=1)
    behind = ground.mean(dim=(1, 2))
    if float((fill - behind).abs().max()) < 0.2:  # a shape in the colour of its ground is unseen
        shift = torch.where(behind < 0.5, 0.4, -0.4).view(3, 1, 1)
        layer = torch.cat([(layer[:3] + shift).clamp(0, 1), cover])
    clip = _over(view.shoot(ground, 0 * path), view.shoot(layer, path))
    if rng.random() < 0.15:  # and sometimes pass behind something
        front = _sprite_layer(rng, view.reach(0 * path), view.size, count=1, largest=0.2)
        clip = _over(clip, view.shoot(front, 0 * path))
    return clip


def _ground(rng: Generator, side: int) -> Tensor:
    """A textured surface with enough contrast to be seen moving, (3, S, S)."""
    magnify = rng.uniform(1.0, 2.2)
    small = max(32, 2 * math.ceil(side / magnify / 2))
    ground = texture(rng, small)[None]
    if small != side:
        size = (side, side)
        ground = F.interpolate(ground, size=size, mode="bilinear", align_corners=False)
    ground = ground[0]
    contrast = float(ground.std())
    wanted = rng.uniform(0.06, 0.12)
    if contrast < wanted:
        middle = ground.mean()
        ground = ((ground - middle) * (wanted / max(contrast, 1e-3)) + middle).clamp(0, 1)
    return ground


def _plain_ground(rng: Generator, side: int) -> Tensor:
    """A colour that changes evenly from one side to the other, (3, S, S)."""
    colours = torch.from_numpy(rng.random((2, 3, 1, 1), dtype=np.float32))
    angle = rng.uniform(0, 2 * np.pi)
    axis = torch.linspace(-1, 1, side)
    ramp = math.cos(angle) * axis[None, :] + math.sin(angle) * axis[:, None]
    share = 0.5 + rng.uniform(0, 0.35) * ramp
    return colours[0] * share + colours[1] * (1 - share)


def _sprite_layer(
    rng: Generator, side: int, screen: int, *, count: int, largest: float = 0.36
) -> Tensor:
    """Shapes near the middle of the screen, with a radius up to `largest` of it: (4, S, S)."""
    centres = []
    for _ in range(count):
        x, y = side / 2 + rng.uniform(-0.3, 0.3, 2) * screen
        radius = float(np.exp(rng.uniform(np.log(0.08), np.log(largest)))) * screen
        centres.append((float(x), float(y), radius))
    return sprites(rng, side, centres=centres)


def _over(clip: Tensor, layer: Tensor) -> Tensor:
    """The layer (T, 4, H, W) painted over the clip (T, 3, H, W): (T, 3, H, W)."""
    cover = layer[:, 3:]
    return clip * (1 - cover) + layer[:, :3] * cover


def _to_frames(clip: Tensor) -> Tensor:
    """A float clip (T, C, H, W) in [0, 1] as uint8 (T, H, W, C)."""
    levels = (clip * 255).round_().clamp_(0, 255).to(torch.uint8)
    return levels.permute(0, 2, 3, 1).contiguous()  # (T, H, W, C)
