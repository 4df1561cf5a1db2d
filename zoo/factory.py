"""`create`: from a name to a ready module."""

from __future__ import annotations

import functools
import inspect
import typing
import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

import registry
from converters.checkpoint import read_checkpoint
from converters.inflate import Inflation, adapt_in_chans
from converters.layouts import convert
from registry.index import to_json
from registry.names import did_you_mean, parse_name
from registry.records import UNKNOWN, Architecture, Weights
from zoo.config import ModelConfig
from zoo.folder import read_folder
from zoo.models._base import VideoModel
from zoo.preprocessing import resized
from zoo.pretrained import load_weights

__all__ = ["create"]


def create(
    name: str,
    pretrained: bool | str = False,
    *,
    num_classes: int | None = None,
    in_chans: int = 3,
    num_frames: int | None = None,
    img_size: int | None = None,
    checkpoint: str | Path | None = None,
    **overrides: Any,
) -> VideoModel:
    """Build a model.

    Args:
        name: `name`, `name.tag`, or `local-dir:PATH` for a folder that `zoo.save` wrote (its
            weights are then loaded).
        pretrained: True loads the weights of the tag, or the model's default ones; a text is the
            tag to load.
        num_classes: Classes; other than the weights' gives a new classifier and one warning, 0
            gives pooled features.
        in_chans: Input channels; other than 3 adapts the first layer's weights.
        num_frames: Frames of a clip; changes what `load_clip` delivers and, where shapes depend
            on it, the model.
        img_size: Side of the pictures in pixels; likewise.
        checkpoint: A file in our own layout or in one that this model can be converted from;
            with a tag in `name`, that of those weights, whose labels it then takes.
        **overrides: Arguments of the model's class, such as `drop_rate`.

    Returns:
        The module in eval mode, its `record` telling what was resolved.

    Raises:
        LookupError: Unknown name or tag.
        ValueError: Unknown override or scheme, or weights that do not fit.
        ConnectionError: The weights cannot be fetched.
    """
    given = {"num_classes": num_classes, "num_frames": num_frames, "img_size": img_size}
    asked = {key: value for key, value in given.items() if value is not None} | overrides
    _check_sizes(asked | {"in_chans": in_chans})
    parsed = parse_name(name)
    if parsed.scheme:
        if pretrained or checkpoint:
            raise ValueError(f"{name!r} brings its own weights; leave out pretrained, checkpoint.")
        trained, state = read_folder(Path(parsed.target))
        asked["in_chans"] = in_chans if in_chans != 3 else trained.arguments["in_chans"]
        return _build(trained, asked, lambda: state)
    tag = _tag(name, parsed.tag, pretrained)
    entry = registry.load(parsed.target)
    weights = registry.find_weights(entry.architecture, tag) if pretrained or tag else None
    trained = _recipe(entry.architecture, weights)
    asked["in_chans"] = in_chans
    if checkpoint is not None:
        if pretrained:
            raise ValueError("Give either pretrained or checkpoint, not both.")
        inflation = getattr(weights.source, "inflation", None) if weights else None
        return _build_from_file(trained, asked, Path(checkpoint), inflation)
    if pretrained:
        assert weights is not None
        return _build(trained, asked, functools.partial(load_weights, entry, weights))
    return _build(replace(trained, tag="", source=None, licence=UNKNOWN), asked, None)


def _build(
    trained: ModelConfig,
    asked: Mapping[str, Any],
    weights: Callable[[], dict[str, Tensor]] | None,
) -> VideoModel:
    """Build what is asked for; its weights are fetched only when the arguments are found good.

    Args:
        trained: What the weights were trained with.
        asked: Arguments of the caller, which come before those.
        weights: Gives the tensors at the shapes of `trained`; None leaves random ones.
    """
    entry = registry.load(trained.architecture)
    arguments = {**trained.arguments, **asked}
    _check_overrides(entry.builder, arguments, trained.architecture)
    config = _resolve(trained, arguments)
    model: VideoModel = entry.builder(**arguments)
    if weights is not None:
        _load(model, weights(), config, trained)
    model.record = config
    return model.eval()


def _build_from_file(
    trained: ModelConfig, asked: Mapping[str, Any], path: Path, inflation: Inflation | None
) -> VideoModel:
    """Build what is asked for from a checkpoint in any layout that the model knows.

    The file was made for what is asked, or for that at the usual frames, size and channels, or for
    the model's usual recipe.
    """
    content = read_checkpoint(path)
    name, error = trained.architecture, None
    source = {"checkpoint": path.name}
    shape = {key: trained.arguments[key] for key in ("num_frames", "img_size", "in_chans")}
    for made_with in (asked, {**asked, **shape}, {}):
        arguments = {**trained.arguments, **made_with}
        _check_overrides(registry.load(name).builder, arguments, name)
        try:
            state = convert(content, name=name, inflation=inflation, **arguments)
        except ValueError as problem:
            error = error or problem
            continue
        made_for = replace(_resolve(trained, arguments), tag="", source=source, licence=UNKNOWN)
        return _build(made_for, asked, lambda: state)  # noqa: B023 -- called before the next turn
    raise ValueError(f"'{path}': {error}")


def _tag(name: str, tag: str, pretrained: bool | str) -> str:
    if isinstance(pretrained, str):
        if tag and tag != pretrained:
            raise ValueError(f"{name!r} names one tag and pretrained={pretrained!r} another.")
        return pretrained
    return tag


def _recipe(architecture: Architecture, weights: Weights | None) -> ModelConfig:
    """What weights were trained with; for none, what the architecture is usually given."""
    home = weights or architecture
    num_classes = home.num_classes or architecture.num_classes
    return ModelConfig(
        architecture=architecture.name,
        tag=weights.tag if weights else "",
        arguments={
            **(weights.arguments if weights else {}),
            "num_classes": num_classes,
            "in_chans": 3,
            "num_frames": home.sampling.num_frames,
            "img_size": home.preprocess.img_size,
        },
        labels=registry.labels(weights.labels) if weights and weights.labels else None,
        sampling=home.sampling,
        preprocess=home.preprocess,
        source=to_json(weights.source) if weights else None,
        licence=weights.licence if weights else UNKNOWN,
    )


def _resolve(trained: ModelConfig, arguments: Mapping[str, Any]) -> ModelConfig:
    """The recipe with the caller's wishes put in."""
    labels = trained.labels
    if arguments["num_classes"] != trained.arguments["num_classes"]:
        labels = None
    return replace(
        trained,
        arguments=dict(arguments),
        labels=labels,
        sampling=replace(trained.sampling, num_frames=arguments["num_frames"]),
        preprocess=resized(trained.preprocess, arguments["img_size"]),
    )


def _check_sizes(asked: Mapping[str, Any]) -> None:
    for key, least in (("num_classes", 0), ("in_chans", 1), ("num_frames", 1), ("img_size", 1)):
        value = asked.get(key, least)
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise ValueError(f"{key} must be a whole number of {least} or more, not {value!r}.")


def _check_overrides(builder: Callable[..., Any], arguments: Mapping[str, Any], name: str) -> None:
    """Refuse arguments that neither the builder nor the class it returns takes."""
    allowed: set[str] = set()
    open_ended = False
    for parameter in inspect.signature(builder).parameters.values():
        open_ended |= parameter.kind is parameter.VAR_KEYWORD
        if parameter.kind is parameter.KEYWORD_ONLY:
            allowed.add(parameter.name)
    if open_ended:
        built = typing.get_type_hints(builder)["return"]
        allowed |= {
            parameter.name
            for parameter in inspect.signature(built).parameters.values()
            if parameter.kind is parameter.KEYWORD_ONLY
        }
    for key in arguments:
        if key not in allowed:
            raise ValueError(
                f"{name!r} takes no argument {key!r}. Allowed: {', '.join(sorted(allowed))}."
                f"{did_you_mean(key, allowed)}"
            )


def _load(
    model: VideoModel, state: dict[str, Tensor], config: ModelConfig, trained: ModelConfig
) -> None:
    """Fit trained tensors to the model asked for, and load them; nothing is left to chance.

    Args:
        model: Receives the tensors.
        state: Tensors by the model's keys, at the shapes of `trained`.
        config: What was asked for.
        trained: What the tensors were trained with.
    """
    state = dict(state)
    classifier = f"{model.classifier_name}."
    brings_classes = any(key.startswith(classifier) for key in state)
    if config.arguments["num_classes"] != trained.arguments["num_classes"] or not brings_classes:
        state = {key: value for key, value in state.items() if not key.startswith(classifier)}
        if model.num_classes:
            warnings.warn(
                f"The classifier of {config.name!r} is new: {model.num_classes} classes with "
                f"random weights, to be trained.",
                stacklevel=3,
            )
    for key in model.stem_weights:
        state[key] = adapt_in_chans(state[key], model.in_chans)
    model.resize_positions(state, trained=trained)
    expected = model.state_dict()
    wrong = [
        f"{key} is {tuple(value.shape)}, must be {tuple(expected[key].shape)}"
        for key, value in state.items()
        if key in expected and value.shape != expected[key].shape
    ]
    if wrong:
        raise ValueError(
            f"The weights of {config.name!r} do not fit the arguments given: {'; '.join(wrong)}."
        )
    # What a total key map left out is listed there as new, and was initialised by the builder.
    _, unexpected = model.load_state_dict(state, strict=False)
    assert not unexpected, unexpected
