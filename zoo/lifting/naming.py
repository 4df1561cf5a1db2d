"""From `method:NAME` to a lifted model: timm builds and loads the image model, we lift it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn

from converters.inflate import Inflation
from converters.unfilled import shapes_only, unset
from registry.names import LIFTING, did_you_mean, said_here
from registry.records import (
    UNKNOWN,
    Architecture,
    Interpolation,
    Preprocess,
    Sampling,
    Unknown,
)
from zoo.config import ModelConfig
from zoo.layers import ShiftFill
from zoo.layers.frame_pool import FramePooling
from zoo.lifting.methods import RefusedError
from zoo.lifting.model import LiftedModel

__all__ = ["build_again", "create_lifted", "inflate", "lifted_architecture"]

_SAMPLING = Sampling(
    rule="uniform",
    num_frames=8,
    frame_stride=1,
    fps=None,
    num_clips=1,
    num_crops=1,
    average="logits",
)
_OPTIONS = ("inflation", "temporal_stride", "fill", "pooling")
# Of the image model, while it is trained.
_RATES = ("drop_rate", "drop_path_rate")


def inflate(
    image_model: nn.Module,
    *,
    method: str,
    num_frames: int = 8,
    inflation: Inflation = "mean",
    temporal_stride: int = 1,
    fill: ShiftFill = "replicate",
    pooling: FramePooling = "avg",
) -> LiftedModel:
    """Turn an image model of timm, with the weights that it has, into a video model.

    Args:
        image_model: The model; it becomes part of the video model and is changed in place.
        method: `framepool`, `tsm`, `i3d`, `r2p1d`, `divided`, `joint` or `factorised`.
        num_frames: Frames T of a clip.
        inflation: `mean` or `center`, for i3d.
        temporal_stride: Stride in time of the first convolution, for i3d.
        fill: `replicate` or `zeros`, for tsm.
        pooling: `avg`, `max` or `attention`, for framepool.

    Returns:
        The video model, in the mode that the image model was in.

    Raises:
        ValueError: The method cannot lift this model, or an option is of another method.
    """
    if not hasattr(image_model, "forward_head") or not hasattr(image_model, "get_classifier"):
        raise RefusedError(
            f"A {type(image_model).__name__} is no image model of timm, whose methods "
            f"forward_features, forward_head and get_classifier are needed."
        )
    options: dict[str, Any] = {
        "inflation": inflation,
        "temporal_stride": temporal_stride,
        "fill": fill,
        "pooling": pooling,
    }
    config = getattr(image_model, "pretrained_cfg", {})
    size = _img_size(image_model)
    model = LiftedModel(
        image_model,
        method,
        num_frames=num_frames,
        img_size=size,
        **options,
    )
    if not image_model.training:
        model.eval()
    architecture = config.get("architecture")
    if architecture:
        tag = f".{config['tag']}" if config.get("tag") else ""
        model.record = _record(f"{method}:{architecture}{tag}", model, options, {})
    return model


def create_lifted(
    method: str,
    target: str,
    asked: dict[str, Any],
    *,
    pretrained: bool,
) -> tuple[LiftedModel, str]:
    """Build what `zoo.create("method:NAME")` asks for.

    Args:
        method: The scheme.
        target: Any name that `timm.create_model` takes.
        asked: `num_classes`, `in_chans`, `num_frames`, `img_size`, `drop_rate`, `drop_path_rate`
            and options, as they were given.
        pretrained: Whether timm loads the weights of the name's tag.

    Returns:
        The model in eval mode, and what its user must be told, or an empty text.

    Raises:
        LookupError: timm has no such model.
        ConnectionError: Its weights cannot be fetched.
        ValueError: The method cannot lift it, or an option does not exist.
    """
    known = (*_SIZES, *_RATES, *_OPTIONS)
    unknown = [key for key in asked if key not in known]
    if unknown:
        raise ValueError(
            f"Unknown override {unknown[0]!r} for '{method}:{target}'. Known: {', '.join(known)}."
            f"{said_here(unknown[0]) or did_you_mean(unknown[0], known)}"
        )
    rates = {key: asked[key] for key in _RATES if asked.get(key) is not None}
    for key, rate in rates.items():
        if isinstance(rate, bool) or not isinstance(rate, (int, float)) or not 0 <= rate < 1:
            raise ValueError(f"{key} must be 0 or more and less than 1, not {rate!r}.")
    pretrained = pretrained or ":" in target  # whoever names a folder or repository means it
    image = _create_image(target, asked, rates, pretrained=pretrained)
    options = {key: asked[key] for key in _OPTIONS if key in asked}
    model = inflate(image, method=method, num_frames=asked.get("num_frames", 8), **options)
    model.img_size = asked.get("img_size", model.img_size)
    if model.record is None:
        raise ValueError(f"'{target}' brings no record of its architecture, as timm's models do.")
    made = _record(model.record.architecture, model, {**_defaults(), **options}, rates)
    if not pretrained:
        made = replace(made, labels=None, source=None, licence=UNKNOWN)
    model.record = made
    note = ""
    trained_classes = image.pretrained_cfg["num_classes"]
    if pretrained and model.num_classes and model.num_classes != trained_classes:
        note = (
            f"The classifier of '{method}:{target}' is new: {model.num_classes} classes with "
            f"random weights, to be trained."
        )
    return model.eval(), note


_SIZES = ("num_classes", "in_chans", "num_frames", "img_size")


def _defaults() -> dict[str, Any]:
    return {"inflation": "mean", "temporal_stride": 1, "fill": "replicate", "pooling": "avg"}


def _create_image(
    target: str, asked: dict[str, Any], rates: dict[str, float], *, pretrained: bool
) -> Any:
    _check_target(target)
    wanted: dict[str, Any] = {k: asked[k] for k in ("num_classes", "in_chans") if k in asked}
    wanted.update(rates)
    sized = {"img_size": asked["img_size"]} if "img_size" in asked else {}
    try:
        try:
            return _build(target, pretrained=pretrained, **wanted, **sized)
        except TypeError as error:  # convolutional models take any size, and no such argument
            if not sized or "img_size" not in str(error):
                raise
        return _build(target, pretrained=pretrained, **wanted)
    except TypeError as error:
        said = "unexpected keyword argument '{}'"
        refused = next((key for key in _RATES if said.format(key) in str(error)), None)
        if refused is None:
            raise
        raise ValueError(f"timm's {target!r} takes no {refused}; leave it out.") from error
    except (OSError, RuntimeError) as error:
        if not pretrained:
            raise
        reason = str(error).strip().split("\n")[0] or type(error).__name__
        if isinstance(error, RuntimeError):
            raise ValueError(f"timm cannot load the weights of {target!r}: {reason}") from error
        raise ConnectionError(
            f"timm cannot fetch {target!r} ({reason}). Without a network, give weights fetched "
            f"elsewhere as 'local-dir:PATH', a folder in timm's layout."
        ) from error


def _build(target: str, *, pretrained: bool, **arguments: Any) -> Any:
    """Timm's model. Where its weights replace all first values, these are not drawn."""
    import timm

    if pretrained and not arguments.get("num_classes"):  # a new classifier has first values
        try:
            with unset() as first_values:
                image = timm.create_model(target, pretrained=True, **arguments)
        except OSError:  # its weights cannot be had; older hubs call that a ValueError too
            raise
        except (RuntimeError, ValueError):  # what its constructor computes may need first values
            pass
        else:
            if not first_values.missing(image):
                return image
    return timm.create_model(target, pretrained=pretrained, **arguments)


def _check_target(target: str) -> None:
    """Refuse what timm cannot build, with what it could be.

    Raises:
        LookupError: An unknown name or tag.
        ValueError: An unknown scheme, or a folder of our own.
        FileNotFoundError: There is no such folder, or it is not in timm's layout.
    """
    import timm

    scheme, colon, path = target.partition(":")
    if not colon:
        name, _, tag = target.partition(".")
        if not timm.is_model(name):
            near = did_you_mean(name, timm.list_models())
            raise LookupError(
                f"timm {timm.__version__} has no model {name!r}; timm.list_models() lists "
                f"them.{near}"
            )
        tags = [full.partition(".")[2] for full in timm.list_models(f"{name}.*", pretrained=True)]
        if tag and tag not in tags:
            raise LookupError(
                f"Unknown tag {tag!r} for timm's {name!r}. Known: {', '.join(tags) or 'none'}."
                f"{did_you_mean(tag, tags)}"
            )
        return
    if scheme not in ("hf-hub", "hf_hub", "local-dir"):
        raise ValueError(f"Unknown scheme {scheme!r} in {target!r}. Known: hf-hub, local-dir.")
    if scheme == "local-dir":
        config = Path(path) / "config.json"
        if not config.is_file():
            raise FileNotFoundError(
                f"'{config}' does not exist; a folder in timm's layout has config.json and "
                f"model.safetensors."
            )
        if "schema_version" in json.loads(config.read_text(encoding="utf-8")):
            raise ValueError(
                f"'{path}' is a video model that zoo.save wrote; zoo.create('local-dir:{path}') "
                f"reads it."
            )


def _img_size(image: nn.Module) -> int:
    """The side of the pictures that an image model was built for."""
    size = getattr(getattr(image, "patch_embed", None), "img_size", None)
    if isinstance(size, (tuple, list)) and size and size[0] == size[1]:
        return int(size[0])
    return int(getattr(image, "pretrained_cfg", {}).get("input_size", (3, 224, 224))[-1])


def _record(
    name: str,
    model: LiftedModel,
    options: dict[str, Any],
    rates: Mapping[str, float],
) -> ModelConfig:
    from timm.data import config

    resolve: Callable[..., dict[str, Any]] = config.resolve_data_config  # timm does not type it
    facts = resolve(model=model.image)
    mode: Interpolation = "bilinear" if facts["interpolation"] == "bilinear" else "bicubic"
    mean, std = facts["mean"], facts["std"]
    if model.in_chans == 1:
        mean, std = (sum(mean) / len(mean),), (sum(std) / len(std),)
    short = int(model.img_size / facts["crop_pct"])
    square = facts["crop_mode"] == "squash"
    licence = getattr(model.image, "pretrained_cfg", {}).get("license")
    return ModelConfig(
        architecture=name,
        tag="",
        arguments={
            "num_classes": model.num_classes,
            "in_chans": model.in_chans,
            "num_frames": model.num_frames,
            "img_size": model.img_size,
            **{key: value for key, value in options.items() if value != _defaults()[key]},
            **rates,
        },
        labels=_labels(model),
        sampling=replace(_SAMPLING, num_frames=model.num_frames),
        preprocess=Preprocess(
            img_size=model.img_size,
            resize=(short, short) if square else short,
            interpolation=mode,
            antialias=True,
            mean=tuple(mean),
            std=tuple(std),
        ),
        source={"image": name.partition(":")[2]},
        licence=licence or UNKNOWN,
    )


def _labels(model: LiftedModel) -> tuple[str, ...] | None:
    """ImageNet's class names, where the image model's classifier names them."""
    from timm.data.imagenet_info import ImageNetInfo, infer_imagenet_subset

    subset = infer_imagenet_subset(model.image) if model.num_classes else None
    if not subset:
        return None
    if subset not in _LABELS:
        _LABELS[subset] = tuple(map(str, ImageNetInfo(subset).label_descriptions()))
    return _LABELS[subset] if len(_LABELS[subset]) == model.num_classes else None


_LABELS: dict[str, tuple[str, ...]] = {}


def build_again(config: ModelConfig) -> LiftedModel:
    """A model as its record says, with random weights; on the device that is set."""
    method, _, target = config.architecture.partition(":")
    assert method in LIFTING, method
    model, _ = create_lifted(method, target, dict(config.arguments), pretrained=False)
    return model


def lifted_architecture(config: ModelConfig) -> Architecture:
    """What the zoo knows about a lifted model, for its card."""
    method, _, target = config.architecture.partition(":")
    pooled = method == "framepool" and config.arguments.get("pooling") != "attention"
    with shapes_only():
        params = sum(parameter.numel() for parameter in build_again(config).parameters())
    licence = config.licence
    assert isinstance(licence, (str, Unknown))
    return Architecture(
        name=config.architecture,
        family="lifted",
        module="zoo.lifting",
        summary=f"timm's {target} on the frames of a clip, lifted by {method}.",
        paper=None,
        order="ignored" if pooled else "used",
        num_classes=int(config.arguments["num_classes"] or 0),
        sampling=config.sampling,
        preprocess=config.preprocess,
        weights=(),
        params=params,
    )
