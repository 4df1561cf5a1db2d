"""What timm's tools wrote: `architecture` and `pretrained_cfg`, for a video model of ours."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import registry
from converters.places import Place
from registry.names import did_you_mean
from registry.records import UNKNOWN, Interpolation, Preprocess
from zoo.config import ModelConfig, check_arguments
from zoo.preprocessing import resized

__all__ = ["read_timm_style"]


def read_timm_style(data: Mapping[str, Any], place: Place) -> ModelConfig:
    """Our words for a configuration in timm's.

    Raises:
        LookupError: The architecture is none of ours.
        ValueError: It is an image model, or a value is wrong or absurd.
    """
    name, facts = data["architecture"], data["pretrained_cfg"]
    if not isinstance(name, str) or not name.isidentifier() or len(name) > 200:
        raise ValueError(f"architecture is the name of a model, not {repr(name)[:80]}.")
    if name not in _known():
        _refuse(name, place)
    entry = registry.load(name)
    size = facts.get("input_size", [])
    arguments = {
        **entry.defaults,
        "num_classes": data.get("num_classes", facts.get("num_classes")),
    }
    if size:
        if len(size) not in (3, 4):
            raise ValueError(f"input_size is (C, H, W) or (C, T, H, W), not {repr(size)[:80]}.")
        arguments |= {"in_chans": size[0], "img_size": size[-1]}
        arguments |= {"num_frames": size[1]} if len(size) == 4 else {}
    arguments |= data.get("model_args") or {}
    check_arguments(arguments)
    architecture, labels = entry.architecture, facts.get("label_names")
    return ModelConfig(
        architecture=name,
        tag="",
        arguments=arguments,
        labels=tuple(map(str, labels)) if labels else None,
        sampling=replace(architecture.sampling, num_frames=arguments["num_frames"]),
        preprocess=_preprocess(facts, architecture.preprocess, arguments["img_size"]),
        source={"repository": place.origin, "layout": "timm"},
        licence=str(facts["license"])[:100] if facts.get("license") else UNKNOWN,
    )


def _known() -> set[str]:
    return {*registry.list_models(), *registry.list_models("test_*")}


def _refuse(name: str, place: Place) -> None:
    import timm

    if timm.is_model(name):
        scheme = "" if place.origin.startswith("hf-hub:") else "local-dir:"
        raise ValueError(
            f"{place.origin} holds {name!r}, an image model of timm; lift it into video, such as "
            f"zoo.create('i3d:{scheme}{place.origin}')."
        )
    raise LookupError(f"Unknown model {name!r}.{did_you_mean(name, _known())}")


def _preprocess(facts: Mapping[str, Any], usual: Preprocess, img_size: int) -> Preprocess:
    """What timm does to pictures; the architecture's recipe where nothing is said."""
    if "mean" not in facts:
        return resized(usual, img_size)
    mode: Interpolation = "bilinear" if facts.get("interpolation") == "bilinear" else "bicubic"
    part = float(facts.get("crop_pct", 0.875))
    if not 0.05 <= part <= 1:
        raise ValueError(f"crop_pct is the part of a frame that is kept, not {part}.")
    short = math.floor(img_size / part)
    return Preprocess(
        img_size=img_size,
        resize=(short, short) if facts.get("crop_mode") == "squash" else short,
        interpolation=mode,
        antialias=True,
        mean=tuple(map(float, facts["mean"])),
        std=tuple(map(float, facts["std"])),
    )
