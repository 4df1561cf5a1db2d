"""Records as JSON: the static index, by which models are listed without importing torch.

`registry/index.json` is generated from the family files by `make generate`; a test compares.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any

from registry.records import (
    UNKNOWN,
    Architecture,
    ImageSource,
    Metric,
    PackageSource,
    Paper,
    Preprocess,
    Proof,
    Sampling,
    Source,
    Unknown,
    UpstreamSource,
    Weights,
)

__all__ = [
    "INDEX_PATH",
    "architecture_from_json",
    "preprocess_from_json",
    "read_index",
    "sampling_from_json",
    "to_json",
]

INDEX_PATH = Path(__file__).parent / "index.json"

_SOURCES: dict[str, type[Source]] = {
    "package": PackageSource,
    "upstream": UpstreamSource,
    "image": ImageSource,
}
_KINDS: dict[type, str] = {record: kind for kind, record in _SOURCES.items()}


@cache
def read_index() -> dict[str, dict[str, Any]]:
    """The built-in architectures as plain JSON objects, by name."""
    index: dict[str, dict[str, Any]] = json.loads(INDEX_PATH.read_text(encoding="utf-8"))
    return index


def to_json(value: Any) -> Any:
    """A record, or anything inside one, as values that `json` writes.

    A source carries its form under `kind`; `UNKNOWN` is written as that word.
    """
    if isinstance(value, Unknown):
        return value.value
    if is_dataclass(value) and not isinstance(value, type):
        kind = {"kind": _KINDS[type(value)]} if type(value) in _KINDS else {}
        return kind | {f.name: to_json(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, Mapping):
        return {key: to_json(item) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        return [to_json(item) for item in value]
    return value


def architecture_from_json(data: Mapping[str, Any]) -> Architecture:
    """Inverse of `to_json` for an architecture."""
    values = _plain(data)
    return Architecture(
        **values
        | {
            "paper": Paper(**data["paper"]) if data["paper"] else None,
            "sampling": sampling_from_json(data["sampling"]),
            "preprocess": preprocess_from_json(data["preprocess"]),
            "weights": tuple(_weights_from_json(item) for item in data["weights"]),
        }
    )


def sampling_from_json(data: Mapping[str, Any]) -> Sampling:
    """Inverse of `to_json` for a sampling recipe."""
    return Sampling(**_plain(data))


def preprocess_from_json(data: Mapping[str, Any]) -> Preprocess:
    """Inverse of `to_json` for a preprocessing recipe."""
    return Preprocess(**_plain(data))


def _weights_from_json(data: Mapping[str, Any]) -> Weights:
    return Weights(
        **_plain(data)
        | {
            "source": _source_from_json(data["source"]),
            "mirrors": tuple(_source_from_json(item) for item in data["mirrors"]),
            "sampling": sampling_from_json(data["sampling"]),
            "preprocess": preprocess_from_json(data["preprocess"]),
            "metrics": tuple(Metric(**item) for item in data["metrics"]),
            "proofs": tuple(Proof(**item) for item in data["proofs"]),
            "arguments": tuple((name, value) for name, value in data["arguments"]),
        }
    )


def _source_from_json(data: Mapping[str, Any]) -> Any:
    facts = dict(data)
    kind = facts.pop("kind")
    return _SOURCES[kind](**_plain(facts))


def _plain(data: Mapping[str, Any]) -> dict[str, Any]:
    """The values with lists as tuples and the word for unknown as `UNKNOWN`."""
    return {
        key: tuple(value)
        if isinstance(value, list)
        else UNKNOWN
        if value == UNKNOWN.value
        else value
        for key, value in data.items()
    }
