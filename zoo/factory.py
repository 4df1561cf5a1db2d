"""`create`: from a name to a ready module."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import registry
from converters.checkpoint import read_checkpoint
from converters.inflate import adapt_in_chans
from converters.keymap import Problems
from converters.layouts import Converted, convert_unsized
from converters.places import Place
from converters.unfilled import fill, is_unfilled, unfilled
from registry.index import to_json
from registry.names import LIFTING, ModelName, parse_name
from registry.records import UNKNOWN, ImageSource, Preprocess, Weights
from zoo.config import ModelConfig
from zoo.hub import open_place
from zoo.lifting import build_again, create_lifted
from zoo.models._base import VideoModel
from zoo.preprocessing import resized
from zoo.pretrained import load_weights, trained_arguments
from zoo.stored import open_stored

__all__ = ["create", "record_config"]


def create(
    name: str,
    pretrained: bool | str = False,
    *,
    num_classes: int | None = None,
    in_chans: int | None = None,
    num_frames: int | None = None,
    img_size: int | None = None,
    checkpoint: str | Path | None = None,
    labels: Sequence[str] | None = None,
    hub: str | Path | None = None,
    **overrides: Any,
) -> VideoModel:
    """Build a model.

    Args:
        name: `name`, `name.tag`, a scheme that lifts an image model such as `i3d:resnet50`, or a
            place whose weights are then loaded: `local-dir:PATH` for a folder that `zoo.save`
            wrote, `hf-hub:org/name@revision` for a repository of the Hub.
        pretrained: True loads the weights of the tag, or the model's default ones; a text is the
            tag to load.
        num_classes: Classes; other than the weights' gives a new classifier and one warning, 0
            gives pooled features.
        in_chans: Input channels, 3 if left out; other than the weights' adapts the first layer.
        num_frames: Frames of a clip; changes what `load_clip` delivers and, where shapes depend
            on it, the model.
        img_size: Side of the pictures in pixels; likewise.
        checkpoint: A file in our own layout or in one that this model can be converted from; with
            a tag in `name`, the file of those weights, whose layout and labels are then taken.
        labels: Names of your own classes in index order, which `predict` shows and `save` keeps;
            they tell `num_classes`.
        hub: Where the weights of a tag are looked for before their record's source: `hf://ORG` or
            a folder, each with one place a `name.tag`; ZOO_HUB's if left out, none for an
            empty text.
        **overrides: Arguments of the model's class, such as `drop_rate`.

    Returns:
        The module in eval mode, its `record` telling what was resolved.

    Raises:
        LookupError: Unknown name, tag, repository or revision.
        ValueError: Unknown override or scheme, or weights that do not fit, are damaged or hostile.
        ConnectionError: The weights cannot be fetched.
        PermissionError: A token is missing, wrong or expired.
        OSError: The cache cannot be written.
    """
    sizes = {
        "num_classes": num_classes,
        "in_chans": in_chans,
        "num_frames": num_frames,
        "img_size": img_size,
    }
    if isinstance(labels, str):
        raise ValueError(f"labels is a list of class names, not the text {labels!r}.")
    if labels is not None and num_classes not in (None, len(labels)):
        raise ValueError(f"there are {len(labels)} labels for {num_classes} classes.")
    if labels is not None:
        sizes["num_classes"] = len(labels)
    asked = {key: value for key, value in sizes.items() if value is not None} | overrides
    _check_sizes(asked)
    parsed = parse_name(name)
    _check_weights(parsed, pretrained, checkpoint)
    if hub is not None and (parsed.scheme or not pretrained):
        raise ValueError(
            f"hub={str(hub)!r} keeps the weights of registered names, and {name!r} asks for none; "
            f"give a name.tag and pretrained=True."
        )
    if parsed.scheme in ("local-dir", "hf-hub"):
        model, note = _from_place(open_place(parsed.scheme, parsed.target), asked)
    elif parsed.scheme:
        model, note = create_lifted(
            parsed.scheme, parsed.target, asked, pretrained=bool(pretrained)
        )
    else:
        tag = _tag(name, parsed.tag, pretrained)
        entry = registry.load(parsed.target)
        weights = registry.find_weights(entry.architecture, tag) if pretrained or tag else None
        if checkpoint is not None:
            model, note = _from_file(entry, weights, Path(checkpoint), asked)
        else:
            model, note = _from_record(entry, weights, asked, load=bool(pretrained), hub=hub)
    assert model.record is not None
    names = model.record.labels if labels is None else labels
    if names is not None:
        model.set_class_names(names)
    elif (
        model.reads_class_names
        and model.num_classes
        and (pretrained or checkpoint is not None or parsed.scheme == "hf-hub")
    ):
        note = (
            f"The {model.num_classes} classes of {model.record.name!r} have no names, so that its "
            f"logits mean nothing; give labels=[...] or call model.set_class_names([...])."
        )
    if note:
        warnings.warn(note, stacklevel=2)
    return model


def _tag(name: str, tag: str, pretrained: bool | str) -> str:
    if isinstance(pretrained, str):
        if tag and tag != pretrained:
            raise ValueError(f"{name!r} names one tag and pretrained={pretrained!r} another.")
        return pretrained
    return tag


def _check_weights(
    parsed: ModelName, pretrained: bool | str, checkpoint: str | Path | None
) -> None:
    """Refuse weights from two places, or from one that is not named."""
    if not isinstance(pretrained, bool) and not (isinstance(pretrained, str) and pretrained):
        raise ValueError(f"pretrained is True, False or a tag such as 'k400', not {pretrained!r}.")
    if pretrained and checkpoint is not None:
        raise ValueError(
            f"Both pretrained={pretrained!r} and checkpoint={str(checkpoint)!r} are given; weights "
            f"come from one of them."
        )
    if parsed.scheme in LIFTING:
        if checkpoint is not None or isinstance(pretrained, str):
            raise ValueError(
                f"'{parsed.scheme}:{parsed.target}' takes the weights that timm has for the name; "
                f"give pretrained=True, or timm's own 'local-dir:PATH' behind the scheme."
            )
    elif parsed.scheme and (pretrained or checkpoint is not None):
        raise ValueError(
            f"'{parsed.scheme}:{parsed.target}' brings its own weights; leave out pretrained and "
            f"checkpoint."
        )


def _check_sizes(asked: Mapping[str, Any]) -> None:
    for key, least in (("num_classes", 0), ("in_chans", 1), ("num_frames", 1), ("img_size", 1)):
        value = asked.get(key, least)
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise ValueError(f"{key} must be a whole number of {least} or more, not {value!r}.")


def _from_place(place: Place, asked: Mapping[str, Any]) -> tuple[VideoModel, str]:
    """A model that `zoo.save` or another library wrote into a folder or a repository."""
    stored = open_stored(place)
    config = stored.config
    if ":" in config.architecture:
        wanted = _resolve(config, {**config.arguments, **asked})
        model, note = _load(lambda: build_again(wanted), stored.load, wanted, config)
        model.record = wanted
        return model.eval(), note
    model, note = _build(registry.load(config.architecture), config, asked, stored.load)
    return model, f"{stored.note} {note}".strip()


def _from_record(
    entry: registry.Entry,
    weights: Weights | None,
    asked: Mapping[str, Any],
    *,
    load: bool,
    hub: str | Path | None,
) -> tuple[VideoModel, str]:
    """A model with the weights of a record, or with random ones and its recipe."""
    recipe = _recipe(entry, weights)
    if load and weights is not None:
        return _build(entry, recipe, asked, lambda: load_weights(entry, weights, hub=hub))
    untrained = replace(recipe, tag="", labels=None, source=None, licence=UNKNOWN)
    model, note = _build(entry, untrained, asked, None)
    if weights is not None:
        note = (
            f"{recipe.name!r} was built for the input of these weights, but with random ones; "
            f"pass pretrained=True to load them."
        )
    return model, note


def _from_file(
    entry: registry.Entry, weights: Weights | None, path: Path, asked: Mapping[str, Any]
) -> tuple[VideoModel, str]:
    """A model with the weights of a checkpoint file in any layout that it knows.

    Classes, frames and size that the file was made with are read off its tensors.
    """
    content = read_checkpoint(path)
    recipe = _recipe(entry, weights)
    source = weights.source if weights else None
    layout: dict[str, Any] = {
        "expected": getattr(source, "layout", None),
        "inflation": source.inflation if isinstance(source, ImageSource) else None,
    }
    arguments = {**recipe.arguments, **_beside_sizes(asked)}
    headless = {**arguments, "num_classes": 0}
    try:
        found, made_with = convert_unsized(content, entry, arguments, **layout)
    except ValueError as error:
        try:
            found, made_with = convert_unsized(content, entry, headless, **layout)
        except ValueError:
            raise ValueError(f"'{path}': {error}") from error
    channels = len(recipe.preprocess.mean), made_with["in_chans"]
    if 2 in channels and channels[0] != channels[1] and "in_chans" not in asked:
        raise ValueError(
            f"'{path}' was made for {channels[1]} channels, {entry.architecture.name!r} takes "
            f"{channels[0]}, and optical flow has 2; take the model of the other kind."
        )
    trained = replace(
        _resolve(recipe, made_with),
        tag="",
        source={"checkpoint": path.name},
        licence=UNKNOWN,
    )
    return _build(entry, trained, asked, lambda: found)


def _beside_sizes(asked: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments that decide which tensors there are, and not how large they are."""
    sizes = ("num_classes", "in_chans", "num_frames", "img_size")
    return {key: value for key, value in asked.items() if key not in sizes}


def _recipe(entry: registry.Entry, weights: Weights | None) -> ModelConfig:
    """What weights were trained with; for none, what the architecture is usually given."""
    architecture = entry.architecture
    home = weights or architecture
    return ModelConfig(
        architecture=architecture.name,
        tag=weights.tag if weights else "",
        arguments=entry.defaults | (trained_arguments(weights) if weights else {}),
        labels=registry.labels(weights.labels) if weights and weights.labels else None,
        sampling=home.sampling,
        preprocess=home.preprocess,
        source=to_json(weights.source) if weights else None,
        licence=weights.licence if weights else UNKNOWN,
    )


def record_config(entry: registry.Entry, weights: Weights) -> ModelConfig:
    """What `create` resolves for the tensors that a weights record brings, and no others.

    Where it brings no classifier, the model gives features.
    """
    trained = _recipe(entry, weights)
    return _resolve(trained, {**trained.arguments, "num_classes": weights.num_classes})


def _resolve(trained: ModelConfig, arguments: Mapping[str, Any]) -> ModelConfig:
    """The recipe with other arguments put in."""
    same_classes = arguments["num_classes"] == trained.arguments["num_classes"]
    return replace(
        trained,
        arguments=dict(arguments),
        labels=trained.labels if same_classes else None,
        sampling=replace(trained.sampling, num_frames=arguments["num_frames"]),
        preprocess=_coloured(
            resized(trained.preprocess, arguments["img_size"]), arguments["in_chans"]
        ),
    )


def _coloured(recipe: Preprocess, in_chans: int) -> Preprocess:
    """The recipe for gray frames if the model takes one channel, else for coloured ones."""
    wanted = 1 if in_chans == 1 else 3
    if len(recipe.mean) in (wanted, in_chans):
        return recipe
    mean, std = (sum(values) / len(values) for values in (recipe.mean, recipe.std))
    return replace(recipe, mean=(mean,) * wanted, std=(std,) * wanted)


def _build(
    entry: registry.Entry,
    trained: ModelConfig,
    asked: Mapping[str, Any],
    load: Callable[[], Converted] | None,
) -> tuple[VideoModel, str]:
    """Build what is asked for; its weights are fetched only when the arguments are found good.

    Args:
        entry: The model.
        trained: What the weights were trained with.
        asked: Arguments of the caller, which come before those.
        load: Gives the tensors at the shapes of `trained`; None leaves random ones.

    Returns:
        The model, and what its user must be told, or an empty text.
    """
    config = _resolve(trained, {**trained.arguments, **asked})

    def build() -> VideoModel:
        model = entry.build(**config.arguments)
        if not isinstance(model, VideoModel):
            raise ValueError(
                f"The builder of {trained.architecture!r} returned a {type(model).__name__}; a "
                f"model of the zoo is a zoo.VideoModel."
            )
        return model

    model, note = _load(build, load, config, trained) if load is not None else (build(), "")
    model.record = config
    return model.eval(), note


def _load(
    build: Callable[[], VideoModel],
    load: Callable[[], Converted],
    config: ModelConfig,
    trained: ModelConfig,
) -> tuple[VideoModel, str]:
    """Fit trained tensors to the model asked for, and load them; nothing is left to chance.

    The model takes the very tensors, so that those of a mapped file stay mapped.

    Args:
        build: Builds the model.
        load: Gives tensors by the model's keys, at the shapes of `trained`.
        config: What was asked for.
        trained: What the tensors were trained with.

    Returns:
        The model, and what the user must be told, or an empty text.
    """
    with unfilled():
        model = build()
    found = load()
    state, note = dict(found.state), ""
    heads = getattr(model, "classifier_names", (model.classifier_name,))
    classifier = [f"{head}.{key}" for head in heads for key in ("weight", "bias")]
    other_classes = config.arguments["num_classes"] != trained.arguments["num_classes"]
    unnamed = other_classes or all(found.keymap.is_new(key) for key in classifier)
    new_head = unnamed and not model.reads_class_names
    if new_head:
        state = {key: value for key, value in state.items() if key not in classifier}
        if model.num_classes:
            note = (
                f"The classifier of {config.name!r} is new: {model.num_classes} classes with "
                f"random weights, to be trained."
            )
    if found.keymap.random:
        parts = ", ".join(found.keymap.random)
        note += f" The source of {config.name!r} has no {parts}; these layers are random."
    expected = model.state_dict()
    missing = [
        key
        for key in expected.keys() - state.keys()
        if not found.keymap.is_new(key) and not (new_head and key in classifier)
    ]
    problems = Problems(tuple(state.keys() - expected.keys()), tuple(missing))
    if not problems:
        for key in model.stem_weights:
            state[key] = adapt_in_chans(state[key], model.in_chans)
        model.resize_positions(state, trained=trained)
        wrong = [
            f"{key} is {tuple(value.shape)}, must be {tuple(expected[key].shape)}"
            for key, value in state.items()
            if value.shape != expected[key].shape
        ]
        problems = Problems(shapes=tuple(wrong))
    if problems:
        raise ValueError(f"The weights of {config.name!r} do not fit what is asked: {problems}.")
    state = _owned(state, expected)
    fill(model, state)
    if is_unfilled(model):
        # What is still missing was listed as new: its first values are the builder's.
        model = build()
        fill(model, state)
    return model, note.strip()


def _owned(state: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors that a module may take for its own: of its types, and of memory that is theirs."""
    found, seen, device = {}, set(), torch.get_default_device()
    for key, value in state.items():
        tensor = value.to(device=device, dtype=expected[key].dtype).contiguous()
        shared = tensor.untyped_storage().nbytes() != tensor.nbytes
        if shared or tensor.data_ptr() in seen:  # two layers of one source, or parts of one tensor
            tensor = tensor.clone()
        seen.add(tensor.data_ptr())
        found[key] = tensor
    return found
