"""What `create` resolved about one model, and how it is written as `config.json`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from registry.index import preprocess_from_json, sampling_from_json, to_json
from registry.names import did_you_mean
from registry.records import UNKNOWN, Preprocess, Sampling, Scalar, Unknown

__all__ = ["SCHEMA_VERSION", "ModelConfig"]

SCHEMA_VERSION = 1


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
        if data.get("schema_version", SCHEMA_VERSION) != SCHEMA_VERSION:
            raise ValueError(
                f"'{origin}' has schema_version {data['schema_version']!r}; this videozoo reads "
                f"{SCHEMA_VERSION}: upgrade it."
            )
        if missing or extra:
            hint = did_you_mean(extra[0], missing) if extra else ""
            raise ValueError(
                f"'{origin}' is no videozoo config.json: missing keys {missing}, unknown keys "
                f"{extra}.{hint}"
            )
        try:
            return cls(
                architecture=str(data["architecture"]),
                tag=str(data["tag"]),
                arguments=dict(data["arguments"]),
                labels=None if data["labels"] is None else tuple(map(str, data["labels"])),
                sampling=sampling_from_json(data["sampling"]),
                preprocess=preprocess_from_json(data["preprocess"]),
                source=data["source"],
                licence=UNKNOWN if data["licence"] == UNKNOWN.value else str(data["licence"]),
            )
        except (TypeError, ValueError, AttributeError) as error:
            raise ValueError(f"'{origin}' holds a wrong value: {error}") from error
