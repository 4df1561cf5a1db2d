"""Drawn textures for synthetic scenes: random-phase noise, falling leaves, tiles, strokes, stars.

Nothing here comes from a photograph. A texture is a float tensor (3, S, S) in [0, 1]; a sprite
layer is (4, S, S), colour and coverage. Both are functions of the generator they are given.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from numpy.random import Generator
from PIL import Image, ImageDraw
from torch import Tensor

__all__ = ["blur", "spectral_noise", "sprites", "texture"]

Colour = tuple[int, int, int]


def spectral_noise(rng: Generator, size: int, *, channels: int, slope: float) -> Tensor:
    """Random-phase noise whose amplitude falls as 1 / frequency^slope; photographs lie near 1.

    Args:
        rng: Source of the phases.
        size: Side S of the square, pixels.
        channels: Independent fields C.
        slope: Exponent of the fall.

    Returns:
        Noise of mean 0 and standard deviation 1, periodic, (C, S, S).
    """
    half = size // 2 + 1
    vertical = torch.fft.fftfreq(size)[:, None]
    horizontal = torch.fft.rfftfreq(size)[None, :]
    frequency = torch.sqrt(vertical**2 + horizontal**2)
    frequency[0, 0] = 1.0
    amplitude = frequency**-slope
    amplitude[0, 0] = 0.0
    parts = rng.standard_normal((2, channels, size, half), dtype=np.float32)
    white = torch.complex(torch.from_numpy(parts[0]), torch.from_numpy(parts[1]))
    field = torch.fft.irfft2(white * amplitude, s=(size, size))  # (C, S, S)
    spread = field.std(dim=(1, 2), keepdim=True) + 1e-6
    return field / spread


def blur(image: Tensor, sigma: float) -> Tensor:
    """Gaussian blur of each channel.

    Args:
        image: Any number of channels or frames, (..., H, W).
        sigma: Standard deviation, pixels.

    Returns:
        The blurred image, (..., H, W).
    """
    radius = max(1, round(2.5 * sigma))
    steps = torch.arange(-radius, radius + 1, dtype=torch.float32)
    kernel = torch.exp(-0.5 * (steps / sigma) ** 2)
    kernel = kernel / kernel.sum()
    height, width = image.shape[-2:]
    flat = image.reshape(-1, 1, height, width)
    flat = F.pad(flat, (radius, radius, radius, radius), mode="replicate")
    flat = F.conv2d(flat, kernel.view(1, 1, 1, -1))
    flat = F.conv2d(flat, kernel.view(1, 1, -1, 1))
    return flat.reshape(image.shape)


def texture(rng: Generator, size: int) -> Tensor:
    """One textured surface: one or two kinds of pattern, overlaid, with fine noise on top.

    Args:
        rng: Source of every choice.
        size: Side S, pixels.

    Returns:
        Colours in [0, 1], (3, S, S).
    """
    surface = _pattern(rng, size)
    if rng.random() < 0.5:
        other = _pattern(rng, size)
        if rng.random() < 0.5:
            field = spectral_noise(rng, size, channels=1, slope=rng.uniform(1.2, 2.2))
            cover = torch.sigmoid(field * rng.uniform(2, 20) + rng.uniform(-1, 1))
        else:
            cover = torch.full((1, 1, 1), rng.uniform(0.2, 0.8))
        surface = surface * (1 - cover) + other * cover
    if rng.random() < 0.6:
        slope = rng.uniform(0.3, 1.3)
        surface = surface + rng.uniform(0.01, 0.08) * spectral_noise(
            rng, size, channels=1, slope=slope
        )
    return surface.clamp(0, 1)


def sprites(rng: Generator, size: int, *, centres: list[tuple[float, float, float]]) -> Tensor:
    """A transparent layer with one opaque textured shape at each place.

    Args:
        rng: Source of shapes and colours.
        size: Side S of the layer, pixels.
        centres: (x, y, radius) of each shape in pixels of the layer.

    Returns:
        Colours and coverage in [0, 1], (4, S, S).
    """
    mask = Image.new("L", (2 * size, 2 * size))
    pen = ImageDraw.Draw(mask)
    for x, y, radius in centres:
        _shape(rng, pen, 2 * x, 2 * y, 2 * radius, 255)
    cover = _to_tensor(mask, size)
    if rng.random() < 0.5:
        fill = texture(rng, size)
    else:
        fill = torch.from_numpy(rng.random((3, 1, 1), dtype=np.float32)).expand(3, size, size)
        fill = (fill + 0.06 * spectral_noise(rng, size, channels=1, slope=1.2)).clamp(0, 1)
    if rng.random() < 0.3:  # an outline, as drawn figures have
        inner = (blur(cover, 1.5) * 3 - 1.9).clamp(0, 1)
        rim = torch.from_numpy(rng.random((3, 1, 1), dtype=np.float32))
        fill = fill * inner + rim * (1 - inner)
    return torch.cat([fill, cover])


def _pattern(rng: Generator, size: int) -> Tensor:
    """One kind of pattern, (3, S, S)."""
    kinds: tuple[tuple[float, Callable[[Generator, int], Tensor]], ...] = (
        (0.28, _noise),
        (0.32, _leaves),
        (0.10, _tiles),
        (0.08, _stripes),
        (0.08, _strokes),
        (0.08, _stars),
        (0.06, _blobs),
    )
    draw = rng.random()
    for share, kind in kinds:
        draw -= share
        if draw < 0:
            return kind(rng, size)
    return _noise(rng, size)


def _noise(rng: Generator, size: int) -> Tensor:
    """Coloured random-phase noise, (3, S, S)."""
    field = spectral_noise(rng, size, channels=2, slope=rng.uniform(0.5, 1.8))
    tint = torch.from_numpy(rng.normal(0, 1, (3, 1, 1)).astype(np.float32))
    level = torch.from_numpy(rng.uniform(0.25, 0.75, (3, 1, 1)).astype(np.float32))
    contrast = rng.uniform(0.06, 0.3)
    return (level + contrast * (field[:1] + rng.uniform(0, 0.6) * tint * field[1:])).clamp(0, 1)


def _leaves(rng: Generator, size: int) -> Tensor:
    """Opaque shapes of all sizes that hide one another, as surfaces in a scene do, (3, S, S)."""
    palette = rng.integers(0, 256, (int(rng.integers(2, 7)), 3))
    canvas = Image.new("RGB", (2 * size, 2 * size), _colour(rng, palette, 30))
    pen = ImageDraw.Draw(canvas)
    largest = rng.uniform(0.15, 0.5) * 2 * size
    smallest = rng.uniform(4, 12)
    for rank in np.sort(rng.random(int(rng.integers(15, 110))))[::-1]:
        radius = smallest * (largest / smallest) ** float(rank) * 0.7
        x, y = rng.uniform(0, 2 * size, 2)
        _shape(rng, pen, x, y, radius, _colour(rng, palette, 40))
    image = _to_tensor(canvas, size)
    if rng.random() < 0.5:  # shade the shapes: flat colour alone would be a cartoon
        shade = spectral_noise(rng, size, channels=1, slope=rng.uniform(0.8, 2.0))
        image = image * (1 + rng.uniform(0.05, 0.25) * shade)
    return image.clamp(0, 1)


def _tiles(rng: Generator, size: int) -> Tensor:
    """Bricks or checks; each tile has its own tone, so no shift looks like another, (3, S, S)."""
    palette = rng.integers(0, 256, (2, 3))
    canvas = Image.new("RGB", (2 * size, 2 * size), _colour(rng, palette, 20))
    pen = ImageDraw.Draw(canvas)
    width, height = rng.uniform(16, 72), rng.uniform(16, 72)
    gap = rng.uniform(0, 6)
    shear = rng.uniform(-0.6, 0.6)
    stagger = rng.uniform(0, 1)
    tone = rng.uniform(15, 70)
    for row in range(int(2 * size / height) + 2):
        start = -(row * stagger % 1) * width - abs(shear) * 2 * size
        for column in range(int((2 + 2 * abs(shear)) * size / width) + 3):
            x, y = start + column * width + shear * row * height, row * height
            colour = _colour(rng, palette[(row + column) % 2 : (row + column) % 2 + 1], tone)
            right, bottom = x + width - gap, y + height - gap
            corners = [(x, y), (right, y), (right + shear * height, bottom)]
            pen.polygon([*corners, (x + shear * height, bottom)], fill=colour)
    return _to_tensor(canvas, size)


def _stripes(rng: Generator, size: int) -> Tensor:
    """Bent stripes, (3, S, S); straight ones alone would hide the motion along them."""
    angle = rng.uniform(0, np.pi)
    period = rng.uniform(8, 30)
    axis = torch.arange(size, dtype=torch.float32)
    along = float(np.cos(angle)) * axis[None, :] + float(np.sin(angle)) * axis[:, None]
    fields = spectral_noise(rng, size, channels=2, slope=rng.uniform(1.2, 2.0))
    wave = torch.sin(2 * np.pi * along / period + rng.uniform(1, 4) * fields[0])
    if rng.random() < 0.5:
        wave = torch.tanh(rng.uniform(2, 8) * wave)
    colours = torch.from_numpy(rng.random((2, 3, 1, 1), dtype=np.float32))
    share = 0.5 + 0.5 * wave
    image = colours[0] * share + colours[1] * (1 - share)
    return (image * (1 + rng.uniform(0.1, 0.3) * fields[1])).clamp(0, 1)


def _strokes(rng: Generator, size: int) -> Tensor:
    """Rows of short strokes, as text on a page, (3, S, S)."""
    palette = rng.integers(0, 256, (1, 3))
    canvas = Image.new("RGB", (2 * size, 2 * size), _colour(rng, palette, 20))
    pen = ImageDraw.Draw(canvas)
    ink = tuple(int((value + 128) % 256) for value in palette[0])
    height = rng.uniform(10, 36)
    thick = max(1, int(height * rng.uniform(0.1, 0.25)))
    row = 0.0
    while row < 2 * size:
        x = rng.uniform(0, height)
        while x < 2 * size:
            points = rng.uniform(0, 1, (3, 2)) * (0.6 * height, 0.7 * height) + (x, row)
            pen.line([(float(a), float(b)) for a, b in points], fill=ink, width=thick)
            x += height * (1.6 if rng.random() < 0.18 else 0.75)
        row += height * rng.uniform(1.0, 1.4)
    return _to_tensor(canvas, size)


def _stars(rng: Generator, size: int) -> Tensor:
    """Small spots of many brightnesses on a plain ground, (3, S, S)."""
    spots = torch.zeros(1, size, size)
    count = int(rng.integers(15, 250))
    places = torch.from_numpy(rng.integers(0, size, (2, count)))
    spots[0, places[0], places[1]] = torch.from_numpy(rng.random(count, dtype=np.float32)) ** 2
    sigma = rng.uniform(0.6, 1.8)
    spots = (blur(spots, sigma) * (2 * np.pi * sigma**2)).clamp(0, 1)
    colours = torch.from_numpy(rng.random((2, 3, 1, 1), dtype=np.float32))
    if rng.random() < 0.6:  # a night sky rather than confetti
        colours[0] *= 0.15
        colours[1] = 1 - 0.4 * colours[1]
    return colours[0] * (1 - spots) + colours[1] * spots


def _blobs(rng: Generator, size: int) -> Tensor:
    """Two colours with a rounded border between them, (3, S, S)."""
    field = spectral_noise(rng, size, channels=1, slope=rng.uniform(1.3, 2.4))
    share = torch.sigmoid(field * rng.uniform(1.5, 15))
    colours = torch.from_numpy(rng.random((2, 3, 1, 1), dtype=np.float32))
    return colours[0] * share + colours[1] * (1 - share)


def _shape(
    rng: Generator, pen: ImageDraw.ImageDraw, x: float, y: float, radius: float, fill: Colour | int
) -> None:
    """Draw an ellipse, a polygon or a bar around (x, y)."""
    kind = rng.random()
    if kind < 0.35:
        a, b = radius * rng.uniform(0.5, 1.0, 2)
        pen.ellipse((x - a, y - b, x + a, y + b), fill=fill)
        return
    if kind < 0.75:
        angles = np.sort(rng.uniform(0, 2 * np.pi, int(rng.integers(3, 9))))
        reach = radius * rng.uniform(0.45, 1.1, len(angles))
        points = np.stack([x + reach * np.cos(angles), y + reach * np.sin(angles)], axis=1)
    else:
        turn = rng.uniform(0, np.pi)
        length = radius * rng.uniform(0.6, 1.3)
        breadth = radius * rng.uniform(0.15, 0.8)
        box = np.array([(1, 1), (1, -1), (-1, -1), (-1, 1)]) * (length, breadth)
        rotation = np.array([(np.cos(turn), -np.sin(turn)), (np.sin(turn), np.cos(turn))])
        points = box @ rotation.T + (x, y)
    pen.polygon([(float(a), float(b)) for a, b in points], fill=fill)


def _colour(rng: Generator, palette: np.ndarray, spread: float) -> Colour:
    """A colour near one of the palette (K, 3)."""
    base = palette[int(rng.integers(len(palette)))] + rng.normal(0, spread, 3)
    red, green, blue = (int(value) for value in np.clip(base, 0, 255))
    return red, green, blue


def _to_tensor(canvas: Image.Image, size: int) -> Tensor:
    """A canvas of twice the size, halved so that edges are smooth, (C, S, S)."""
    pixels = np.asarray(canvas.reduce(2), dtype=np.float32) / 255
    tensor = torch.from_numpy(pixels)
    tensor = tensor[None] if tensor.ndim == 2 else tensor.permute(2, 0, 1)  # (C, S, S)
    assert tensor.shape[1:] == (size, size)
    return tensor.contiguous()
