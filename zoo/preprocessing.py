"""From decoded frames to a model's input, exactly as the weights' record describes it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from einops import rearrange
from torch import Tensor

from registry.records import Preprocess

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = [
    "check_sizes",
    "check_takes_frames",
    "crop_corners",
    "crops",
    "normalise",
    "preprocess",
    "preprocess_resized",
    "resize_frame",
    "resized",
]


def preprocess(
    frames: Tensor | NDArray[np.uint8], recipe: Preprocess, *, num_crops: int = 1
) -> Tensor:
    """Resize, crop and normalise one decoded clip.

    The values are those of torchvision's video presets, bit for bit: frames are resized as uint8,
    one at a time (a float copy of a whole clip at camera resolution does not fit everywhere).
    Where `channel_order` is "bgr", `mean` and `std` are in that order too; a recipe with one mean
    wants gray frames.

    Args:
        frames: Decoded clip, uint8 (T, H, W, C), RGB.
        recipe: What the weights were trained on.
        num_crops: 1 for the centre, 3 for both ends and the centre along the longer side.

    Returns:
        float32 (num_crops, C, T, S, S), S = `recipe.img_size`; channels-last-3d in memory.
    """
    return _as_input(crops(frames, recipe, num_crops=num_crops), recipe)


def preprocess_resized(frames: Sequence[Tensor], recipe: Preprocess, *, num_crops: int) -> Tensor:
    """Crop and normalise a clip whose frames were resized one by one, as `preprocess` would.

    Args:
        frames: T frames as `resize_frame` makes them, uint8 (h, w, C).
        recipe: What the weights were trained on.
        num_crops: 1 for the centre, 3 for both ends and the centre along the longer side.

    Returns:
        float32 (num_crops, C, T, S, S), S = `recipe.img_size`; channels-last-3d in memory.
    """
    return _as_input(_cropped(frames, recipe, num_crops, len(frames)), recipe)


def resize_frame(frame: Tensor, recipe: Preprocess) -> Tensor:
    """Resize one decoded frame, as the first step of `preprocess`.

    Args:
        frame: uint8 (H, W, 3), RGB.
        recipe: What the weights were trained on.

    Returns:
        uint8 (h, w, C), C = 1 for a recipe in gray.
    """
    from torchvision.transforms import InterpolationMode
    from torchvision.transforms import functional as F

    target = [recipe.resize] if isinstance(recipe.resize, int) else list(recipe.resize)
    small = F.resize(
        rearrange(frame, "h w c -> 1 c h w"),
        target,
        interpolation=InterpolationMode(recipe.interpolation),
        antialias=recipe.antialias,
    )
    small = F.rgb_to_grayscale(small) if len(recipe.mean) == 1 else small
    return rearrange(small, "1 c h w -> h w c")


def crops(frames: Tensor | NDArray[np.uint8], recipe: Preprocess, *, num_crops: int = 1) -> Tensor:
    """Resize and crop one decoded clip, as the first half of `preprocess`.

    Args:
        frames: Decoded clip, uint8 (T, H, W, C), RGB.
        recipe: What the weights were trained on; its `mean`, `std` and channel order are not used.
        num_crops: 1 for the centre, 3 for both ends and the centre along the longer side.

    Returns:
        uint8 (num_crops, T, S, S, C), S = `recipe.img_size`, C = 1 for a recipe in gray.
    """
    clip = _checked(frames)
    check_takes_frames(recipe)
    check_sizes(recipe)
    if num_crops not in (1, 3):
        raise ValueError(
            f"num_crops={num_crops!r} is given; 1 (centre) and 3 (along the longer side) exist."
        )
    return _cropped((resize_frame(frame, recipe) for frame in clip), recipe, num_crops, len(clip))


def _cropped(frames: Iterable[Tensor], recipe: Preprocess, num_crops: int, length: int) -> Tensor:
    """Crop T resized frames, each forgotten before the next: uint8 (num_crops, T, S, S, C)."""
    size = recipe.img_size
    out = torch.empty(
        (num_crops, length, size, size, len(recipe.mean)), dtype=torch.uint8
    )  # (V, T, S, S, C)
    for t, frame in enumerate(frames):
        corners = crop_corners(frame.shape[0], frame.shape[1], size, num_crops)
        for v, (top, left) in enumerate(corners):
            out[v, t] = frame[top : top + size, left : left + size]
    return out


def _as_input(pixels: Tensor, recipe: Preprocess) -> Tensor:
    """Make crops, uint8 (V, T, S, S, C), a model's input: float32 (V, C, T, S, S)."""
    return rearrange(_normalised(pixels.float(), recipe), "v t h w c -> v c t h w")


def normalise(clip: Tensor, recipe: Preprocess) -> Tensor:
    """Make a clip that has its size already a model's input, as the second half of `preprocess`.

    Args:
        clip: uint8 (T, H, W, C), RGB or gray.
        recipe: What the weights were trained on; its sizes are not read.

    Returns:
        float32 (C, T, H, W); channels-last-3d in memory.
    """
    from torchvision.transforms import functional as F

    if len(recipe.mean) < clip.shape[-1]:
        clip = rearrange(
            F.rgb_to_grayscale(rearrange(clip, "t h w c -> t c h w")), "t c h w -> t h w c"
        )
    return rearrange(_normalised(clip.contiguous().float(), recipe), "t h w c -> c t h w")


def _normalised(pixels: Tensor, recipe: Preprocess) -> Tensor:
    """Bring pixels of 0 to 255 to the weights' range: float (..., C), in place if it can be."""
    if recipe.channel_order == "bgr":
        pixels = pixels.flip(-1)
    # the same three steps in the same order as torchvision: their rounding is part of the recipe
    return pixels.div_(255).sub_(torch.tensor(recipe.mean)).div_(torch.tensor(recipe.std))


def check_takes_frames(recipe: Preprocess) -> None:
    """Refuse a recipe whose input cannot be made from frames.

    Args:
        recipe: What the weights were trained on.

    Raises:
        ValueError: It wants optical flow.
    """
    if len(recipe.mean) == 2:
        raise ValueError(
            "This model takes optical flow, two channels that frames do not hold; compute it and "
            "call the model with float (N, 2, T, H, W)."
        )


def check_sizes(recipe: Preprocess) -> None:
    """Refuse a recipe whose crop is larger than what it is cut from.

    Args:
        recipe: What weights were trained on.

    Raises:
        ValueError: It is.
    """
    target = (recipe.resize,) if isinstance(recipe.resize, int) else recipe.resize
    if min(target) < recipe.img_size:
        raise ValueError(
            f"The recipe resizes frames to {recipe.resize}, too small for a crop of "
            f"{recipe.img_size} pixels; give a resize of at least {recipe.img_size}."
        )


def resized(recipe: Preprocess, img_size: int) -> Preprocess:
    """Change the crop's size; the resize before it changes in proportion.

    Args:
        recipe: What the weights were trained on.
        img_size: Side of the new crop.

    Returns:
        A recipe that shows the same part of each frame at the new size.
    """
    if img_size < 1:
        raise ValueError(f"img_size={img_size} is given; it must be at least 1 pixel.")
    scaled = tuple(
        max(round(side * img_size / recipe.img_size), img_size)
        for side in (recipe.resize if isinstance(recipe.resize, tuple) else (recipe.resize,))
    )
    return replace(
        recipe, img_size=img_size, resize=scaled[0] if len(scaled) == 1 else (scaled[0], scaled[1])
    )


def crop_corners(height: int, width: int, size: int, num_crops: int) -> list[tuple[int, int]]:
    """Place the crops: (top, left) of each."""
    # Python's round, halves to the even number: torchvision's centre crop does so
    top, left = round((height - size) / 2), round((width - size) / 2)
    if num_crops == 1:
        return [(top, left)]
    if height > width:
        return [(0, left), (top, left), (height - size, left)]
    return [(top, 0), (top, left), (top, width - size)]


def _checked(frames: Tensor | NDArray[np.uint8]) -> Tensor:
    clip = frames if isinstance(frames, Tensor) else torch.from_numpy(frames)
    if clip.dtype != torch.uint8 or clip.ndim != 4 or clip.shape[-1] != 3 or 0 in clip.shape:
        raise ValueError(
            f"Frames of dtype {str(clip.dtype).removeprefix('torch.')} and shape "
            f"{tuple(clip.shape)} are given; preprocess takes decoded RGB frames, uint8 "
            f"(T, H, W, 3) with values from 0 to 255."
        )
    return clip
