"""What `create` resolved about one model, and how it is written as `config.json`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from registry.index import preprocess_from_json, sampling_from_json, to_json
from registry.names import LIFTING, did_you_mean
from registry.records import UNKNOWN, Preprocess, Sampling, Scalar, Unknown

__all__ = ["SCHEMA_VERSION", "ModelConfig"]

SCHEMA_VERSION = 1

MAX_ARGUMENTS = {"num_classes": 2**20, "in_chans": 2**10, "num_frames": 2**14, "img_size": 2**14}
"""What a config.json may ask for; what a caller asks for himself is his own affair."""

MAX_CLIP_VALUES = 2**28
"""Values of one clip, C x T x H x W: a GiB, four times the largest that was published."""

MAX_RESIZE = 2**12
"""Side of a resized frame in pixels: some hundred MB, and ten times what was published."""


_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
"""Unicode's category Cc."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelConfig:
    """Everything needed to build a model again and to feed it; `model.record`.

    Attributes:
        architecture: Registered name.
        tag: Tag of the weights it started from; empty for random ones.
        arguments: Builder arguments, all of them: `num_classes`, `in_chans`, `num_frames`,
            `img_size` and overrides.
        labels: Class names in index order, or None where they are not known.
        sampling: Which frames `load_clip` takes.
        preprocess: What `load_clip` does to them.
        source: Where the weights came from, as in their record; None for random ones.
        licence: Licence of the weights.
    """

    architecture: str
    tag: str
    arguments: Mapping[str, Scalar]
    labels: tuple[str, ...] | None
    sampling: Sampling
    preprocess: Preprocess
    source: Mapping[str, Any] | None
    licence: str | Unknown

    def __post_init__(self) -> None:
        """Refuse what no model can be built from."""
        for key in ("num_classes", "in_chans", "num_frames", "img_size"):
            if not isinstance(self.arguments.get(key), int):
                raise ValueError(f"arguments must hold {key}, a whole number.")
        if self.labels is not None and len(self.labels) != self.arguments["num_classes"]:
            raise ValueError(
                f"there are {len(self.labels)} labels for {self.arguments['num_classes']} classes."
            )
        for label in self.labels or ():
            # Labels are printed, and terminals obey control characters.
            if len(label) > 1000 or _CONTROL.search(label):
                raise ValueError(
                    f"labels are texts of one line and at most 1000 letters, not {label[:80]!r}."
                )

    @property
    def name(self) -> str:
        """`name.tag`, or the bare name for random weights."""
        return f"{self.architecture}.{self.tag}" if self.tag else self.architecture

    def with_classes(self, num_classes: int, labels: tuple[str, ...] | None) -> ModelConfig:
        """The same for another classifier."""
        arguments = {**self.arguments, "num_classes": num_classes}
        return replace(self, arguments=arguments, labels=labels)

    def to_json(self) -> dict[str, Any]:
        """The object that `config.json` holds."""
        return {"schema_version": SCHEMA_VERSION} | {
            f.name: to_json(getattr(self, f.name)) for f in fields(self)
        }

    @classmethod
    def from_json(cls, data: Any, *, origin: str) -> ModelConfig:
        """Inverse of `to_json`.

        Args:
            data: What `config.json` holds.
            origin: What to call it in a message.

        Raises:
            ValueError: A key is missing, unknown or of the wrong kind, or the schema is newer.
        """
        if not isinstance(data, dict):
            raise ValueError(f"'{origin}' holds no JSON object; it is no videozoo config.json.")
        known = {f.name for f in fields(cls)} | {"schema_version"}
        missing, extra = sorted(known - data.keys()), sorted(data.keys() - known)
        version = data.get("schema_version", SCHEMA_VERSION)
        if type(version) is not int or version != SCHEMA_VERSION:
            raise ValueError(
                f"'{origin}' has schema_version {repr(version)[:80]}; this videozoo reads "
                f"{SCHEMA_VERSION}: upgrade it."
            )
        if missing or extra:
            hint = did_you_mean(extra[0], missing) if extra else ""
            raise ValueError(
                f"'{origin}' is no videozoo config.json: missing keys {missing}, unknown keys "
                f"{[key[:80] for key in extra[:8]]}.{hint}"
            )
        try:
            _check_untrusted(data)
            return cls(
                architecture=str(data["architecture"]),
                tag=str(data["tag"]),
                arguments=dict(data["arguments"]),
                labels=None if data["labels"] is None else tuple(data["labels"]),
                sampling=sampling_from_json(data["sampling"]),
                preprocess=preprocess_from_json(data["preprocess"]),
                source=data["source"],
                licence=UNKNOWN if data["licence"] == UNKNOWN.value else str(data["licence"]),
            )
        except (TypeError, ValueError, AttributeError) as error:
            raise ValueError(f"'{origin}' holds a wrong value: {error}") from error


def _check_untrusted(data: Mapping[str, Any]) -> None:
    """Refuse what nobody's model needs, before anything is built or allocated for it.

    Raises:
        ValueError: A name that is none, or an absurd number.
    """
    architecture, tag, arguments = data["architecture"], data["tag"], data["arguments"]
    # A lifted model is one of timm's own: a place behind the scheme would be fetched as well.
    known_form = rf"[A-Za-z_]\w*|(?:{'|'.join(LIFTING)}):[A-Za-z_][\w.-]*"
    if not isinstance(architecture, str) or not re.fullmatch(known_form, architecture, re.ASCII):
        raise ValueError(
            f"architecture is a registered name, or a scheme and a model of timm such as "
            f"'i3d:resnet50', not {repr(architecture)[:80]}."
        )
    if not isinstance(tag, str) or not re.fullmatch(r"[\w.-]{0,100}", tag, re.ASCII):
        raise ValueError(f"tag is a text such as 'k400', not {repr(tag)[:80]}.")
    if not isinstance(arguments, dict):
        raise ValueError(f"arguments are values by name, not {repr(arguments)[:80]}.")
    labels = data["labels"]
    if labels is not None and not (
        isinstance(labels, list) and all(isinstance(label, str) for label in labels)
    ):
        raise ValueError(f"labels are a list of texts or null, not {repr(labels)[:80]}.")
    licence = data["licence"]
    if not isinstance(licence, str) or len(licence) > 200 or not licence.isprintable():
        raise ValueError(f"licence is a text of one line, not {repr(licence)[:80]}.")
    source = data["source"]
    if source is not None and not (isinstance(source, dict) and len(source) < 32):
        raise ValueError(f"source is a small object or null, not {repr(source)[:80]}.")
    for key, value in (source or {}).items():
        scalar = value is None or isinstance(value, (int, float, str))
        if not scalar or len(str(value)) > 2000:
            raise ValueError(f"source.{key[:80]} is a number or a text, not {repr(value)[:80]}.")
    check_arguments(arguments)
    check_resize(data["preprocess"].get("resize"))
    frames, pixels = data["sampling"], data["preprocess"]
    for where, facts, key, most in (
        ("sampling", frames, "frame_stride", 2**14),
        ("sampling", frames, "num_clips", 2**10),
        ("sampling", frames, "num_crops", 3),
        ("sampling", frames, "fps", 10**4),
    ):
        value = facts.get(key)
        for number in value if isinstance(value, list) else [value]:
            if isinstance(number, (int, float)) and number > most:
                raise ValueError(f"{where}.{key} is at most {most}, not {number}.")
    for where, facts, key in (
        ("sampling", frames, "num_frames"),
        ("preprocess", pixels, "img_size"),
    ):
        if isinstance(facts.get(key), int) and facts[key] != arguments[key]:
            raise ValueError(
                f"{where}.{key} is {facts[key]}, and arguments.{key} {arguments[key]}; they are "
                f"one number."
            )


def check_resize(resize: Any) -> None:
    """Refuse a size from a file to which no frame is brought: a video would fill the memory.

    Args:
        resize: A side or two, as in `Preprocess`; what is neither is left to that.

    Raises:
        ValueError: A side is absurd.
    """
    for side in resize if isinstance(resize, (list, tuple)) else [resize]:
        if isinstance(side, (int, float)) and side > MAX_RESIZE:
            raise ValueError(f"preprocess.resize is at most {MAX_RESIZE}, not {repr(side)[:80]}.")


def check_arguments(arguments: Mapping[str, Any]) -> None:
    """Refuse builder arguments from a file that no model needs.

    Raises:
        ValueError: An absurd number, or something that is neither number nor text.
    """
    for key, value in arguments.items():
        if value is not None and not isinstance(value, (str, int, float)):
            raise ValueError(f"arguments.{key[:80]} is a number or a text, not {repr(value)[:80]}.")
        if isinstance(value, str) and len(value) > 100:
            raise ValueError(f"arguments.{key[:80]} is a text of {len(value)} letters.")
        most = MAX_ARGUMENTS.get(key, 2**20)
        if isinstance(value, (int, float)) and abs(value) > most:
            raise ValueError(f"arguments.{key[:80]} is at most {most}, not {repr(value)[:80]}.")
    for key, least in (("num_classes", 0), ("in_chans", 1), ("num_frames", 1), ("img_size", 1)):
        value = arguments.get(key)
        if type(value) is not int or value < least:
            raise ValueError(f"arguments must hold {key}, a whole number of {least} or more.")
    values = arguments["in_chans"] * arguments["num_frames"] * arguments["img_size"] ** 2
    if values > MAX_CLIP_VALUES:
        raise ValueError(
            f"a clip of {arguments['num_frames']} frames of {arguments['img_size']} pixels has "
            f"{values} values, where {MAX_CLIP_VALUES} are allowed."
        )
