"""The processors of transformers: how a repository's frames are prepared, in our words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from converters.places import Place, read_config
from converters.untrusted import shown
from registry.records import Interpolation, Preprocess
from zoo.preprocessing import resized

__all__ = ["read_processor"]


def read_processor(place: Place, usual: Preprocess, img_size: int) -> Preprocess:
    """What the repository's processor does to frames; the architecture's recipe if it has none."""
    data = _read_processor(place)
    if data is None:
        return resized(usual, img_size)
    modes: dict[int, Interpolation] = {2: "bilinear", 3: "bicubic"}
    mode = data.get("resample", 2)
    if mode not in modes or not data.get("do_resize", True):
        raise ValueError(
            f"the processor has resample={shown(mode)}, do_resize={shown(data.get('do_resize'))}; "
            f"frames are resized, by 2 (bilinear) or 3 (bicubic)."
        )
    # ((pixel * factor - offset) - mean) / std, of pixels up to 255, as ours of pixels up to 1.
    factor = 255 * data.get("rescale_factor", 1 / 255) if data.get("do_rescale", True) else 255.0
    offset = 1.0 if data.get("offset", False) else 0.0
    normalised = data.get("do_normalize", True)
    mean = data.get("image_mean", usual.mean) if normalised else (0.0,) * 3
    std = data.get("image_std", usual.std) if normalised else (1.0,) * 3
    return Preprocess(
        img_size=img_size,
        resize=_resize(data, img_size),
        interpolation=modes[mode],
        antialias=True,  # Pillow's filter, by which these processors resize, always widens
        mean=tuple((offset + float(value)) / factor for value in mean),
        std=tuple(float(value) / factor for value in std),
        channel_order="bgr" if data.get("do_flip_channel_order", False) else "rgb",
    )


def _read_processor(place: Place) -> Any:
    for filename in ("preprocessor_config.json", "video_preprocessor_config.json"):
        try:
            return read_config(place, filename)
        except FileNotFoundError:
            continue
    try:
        whole = read_config(place, "processor_config.json")
    except FileNotFoundError:
        return None
    return whole.get("video_processor") or whole.get("image_processor")


def _resize(data: Mapping[str, Any], img_size: int) -> int | tuple[int, int]:
    """What frames are resized to: a number, `shortest_edge`, or height and width."""
    size = data.get("size", img_size)
    if isinstance(size, dict):
        size = size.get("shortest_edge") or (size["height"], size["width"])
    if isinstance(size, list):
        size = tuple(size)
    sides = size if isinstance(size, tuple) else (size,)
    if not all(type(side) is int and 0 < side <= 2**14 for side in sides):
        raise ValueError(f"the processor resizes frames to {shown(size)}.")
    # The centre is cut out only where it is larger than the model's input.
    found: int | tuple[int, int] = (
        tuple(max(side, img_size) for side in sides)
        if isinstance(size, tuple)
        else max(size, img_size)
    )
    return found
