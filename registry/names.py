"""Model names as people write them: `name`, `name.tag`, `scheme:target`, and wildcards."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

__all__ = [
    "LIFTING",
    "SCHEMES",
    "ModelName",
    "did_you_mean",
    "matches",
    "natural_key",
    "parse_name",
    "said_here",
]

LIFTING = ("framepool", "tsm", "i3d", "r2p1d", "divided", "joint", "factorised")
"""Ways of turning an image model of timm into a video model; each is a scheme."""

SCHEMES = ("local-dir", "hf-hub", *LIFTING)


@dataclass(frozen=True, slots=True)
class ModelName:
    """A parsed name.

    Attributes:
        scheme: One of `SCHEMES`, or empty for a registered name.
        target: What follows the scheme, or the registered name without its tag.
        tag: What follows the first dot of a registered name; empty where none was given.
    """

    scheme: str
    target: str
    tag: str


def parse_name(text: str) -> ModelName:
    """Split a name into scheme, target and tag.

    Raises:
        ValueError: The text is empty, or names a scheme that does not exist.
    """
    if not isinstance(text, str) or not text or text != text.strip():
        raise ValueError(
            f"A model name is text such as 'r2p1d_18' or 'r2p1d_18.k400', not {text!r}."
        )
    scheme, colon, target = text.partition(":")
    if colon:
        if scheme not in SCHEMES:
            known = ", ".join(f"{name}:" for name in SCHEMES)
            raise ValueError(
                f"Unknown scheme '{scheme}:' in {text!r}. Known: {known}."
                f"{did_you_mean(scheme, SCHEMES)}"
            )
        if not target:
            what = {"local-dir": "PATH", "hf-hub": "ORG/NAME"}.get(scheme, "NAME")
            raise ValueError(f"{text!r} names nothing after its scheme; write '{scheme}:{what}'.")
        return ModelName(scheme, target, "")
    name, dot, tag = text.partition(".")
    if dot and not tag:
        raise ValueError(f"{text!r} ends in a dot; write '{name}' or '{name}.TAG'.")
    return ModelName("", name, tag)


def matches(name: str, patterns: str | Sequence[str]) -> bool:
    """Whether a name fits any of the patterns.

    A pattern with `*`, `?` or `[` must fit the whole name; one without fits any part of it. The
    empty pattern fits every name.
    """
    if isinstance(patterns, str):
        patterns = (patterns,)
    return any(
        fnmatchcase(name, pattern) if re.search(r"[*?\[]", pattern) else pattern in name
        for pattern in patterns
    )


def natural_key(name: str) -> list[tuple[int, str]]:
    """Sort key that puts `x_8` before `x_16`."""
    return [
        (int(part), "") if part.isdigit() else (-1, part)
        for part in re.split(r"(\d+)", name)
        if part
    ]


_ELSEWHERE = {
    "checkpoint_path": "checkpoint=FILE",
    "features_only": "model.forward_intermediates(clip, indices)",
    "global_pool": "num_classes=0 for pooled features, model.forward_features for unpooled ones",
    "num_labels": "num_classes",
    "out_indices": "model.forward_intermediates(clip, indices)",
    "weights": "pretrained=True, or pretrained='TAG'",
}
"""Arguments of timm, torchvision and transformers that are said in another way here."""


def said_here(given: str) -> str:
    """A sentence that tells what is said here for a word of another library, or nothing."""
    return f" Here this is {_ELSEWHERE[given]}." if given in _ELSEWHERE else ""


def did_you_mean(given: str, known: Iterable[str]) -> str:
    """A sentence that names the nearest known word, with a leading blank, or nothing."""
    near = difflib.get_close_matches(given, list(known), n=1, cutoff=0.6)
    return f" Did you mean '{near[0]}'?" if near else ""
