"""Total key maps: how the tensors of one layout become those of another, as data.

A map is total: every source key is used or dropped with a reason, every target key is filled or
listed as new with its initialisation, every shape agrees. Anything else raises and names all keys.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from converters.inflate import Inflation, inflate_conv, inflate_patch_embed

__all__ = [
    "IDENTITY",
    "POINTWISE",
    "QUERY_VALUE_BIAS",
    "STACKED",
    "TRANSPOSED",
    "Joint",
    "KeyMap",
    "Merge",
    "Problems",
    "Rule",
]

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Rule:
    """One renaming of a key's leading segments.

    Patterns are whole segments separated by dots; `{word}` stands for any one segment and must
    stand on both sides. What follows the pattern in a key is kept: `{s}.0` to `{s}.conv` turns
    `stem.0.weight` into `stem.conv.weight`.

    Attributes:
        source: Pattern of the source's keys.
        target: Pattern of our keys.
        copies: Further patterns that receive the same tensor; `export` reads only `target`.
        inflate: Whether 4-D kernels become the 5-D ones that the target expects: those of a
            convolution that slides (True), or of a patch embedding, which steps by its own length
            and may be even (`tubelet`).
    """

    source: str
    target: str
    copies: tuple[str, ...] = ()
    inflate: bool | Literal["tubelet"] = False

    def rename(self, key: str) -> list[str]:
        """The keys of ours that a key becomes; empty where the pattern does not match."""
        return _rename(key, self.source, (self.target, *self.copies))

    def fit(self, tensor: Tensor, shape: Shape, *, inflation: Inflation) -> Tensor:
        """The tensor, extended along time where the rule says so and the shape asks for it."""
        if self.inflate and tensor.ndim == 4 and len(shape) == 5:
            extend = inflate_patch_embed if self.inflate == "tubelet" else inflate_conv
            return extend(tensor, num_frames=shape[2], mode=inflation)
        return tensor

    def export(self, key: str, tensor: Tensor) -> dict[str, Tensor]:
        """What one of our tensors becomes in the source's layout; empty without a match."""
        return dict.fromkeys(_rename(key, self.target, (self.source,)), tensor)


@dataclass(frozen=True, slots=True)
class Joint:
    """How several tensors are held as one, and taken apart again, bit for bit.

    Attributes:
        join: From the source's tensors, in the order of the rule, to ours.
        split: From ours, and how many there were, back to them.
    """

    join: Callable[[Sequence[Tensor]], Tensor]
    split: Callable[[Tensor, int], Sequence[Tensor]]


def _join_query_value(parts: Sequence[Tensor]) -> Tensor:
    query, value = parts
    return torch.cat([query, torch.zeros_like(query), value])  # (3*D,)


def _split_query_value(whole: Tensor, _: int) -> Sequence[Tensor]:
    query, key, value = whole.chunk(3)
    if key.any():
        raise ValueError("The layout has no place for the keys' bias, which is not zero.")
    return query, value


STACKED = Joint(lambda parts: torch.cat(list(parts)), lambda whole, count: whole.chunk(count))
"""One after another along the first axis: query, key and value in one layer."""
QUERY_VALUE_BIAS = Joint(_join_query_value, _split_query_value)
"""Biases of query and value alone, each (D,); that of the keys is zero in ours, (3*D,)."""
TRANSPOSED = Joint(lambda parts: parts[0].t(), lambda whole, _: (whole.t(),))
"""One matrix with its two axes exchanged."""
POINTWISE = Joint(
    lambda parts: parts[0].reshape(len(parts[0]), -1),
    lambda whole, _: (whole[:, :, None, None, None],),
)
"""The matrix of a linear layer, (D, C), that is a 1x1x1 convolution's (D, C, 1, 1, 1)."""


@dataclass(frozen=True, slots=True)
class Merge:
    """Several tensors of the source that are one of ours.

    Attributes:
        sources: Patterns as in `Rule`; what follows them in a key must be the same for all.
        target: Pattern of our key.
        joint: How they are joined and split.
    """

    sources: tuple[str, ...]
    target: str
    joint: Joint

    def place(self, key: str) -> tuple[int, str] | None:
        """Which of the sources a key is, and which key of ours it is a part of."""
        for index, source in enumerate(self.sources):
            targets = _rename(key, source, (self.target,))
            if targets:
                return index, targets[0]
        return None

    def export(self, key: str, tensor: Tensor) -> dict[str, Tensor]:
        """What one of our tensors becomes in the source's layout; empty without a match."""
        names = _rename(key, self.target, self.sources)
        if not names:
            return {}
        return dict(zip(names, self.joint.split(tensor, len(names)), strict=True))


def _rename(key: str, pattern: str, targets: Sequence[str]) -> list[str]:
    """The keys that a key becomes; empty where the pattern does not match."""
    found = _match(pattern, key)
    if found is None:
        return []
    words, rest = found
    return [".".join([*_fill(target, words), *rest]) for target in targets]


def _match(pattern: str, key: str) -> tuple[dict[str, str], list[str]] | None:
    """The words that a pattern captures from a key, and the segments left over."""
    wanted, given = _segments(pattern), key.split(".")
    if len(given) < len(wanted):
        return None
    words: dict[str, str] = {}
    for want, have in zip(wanted, given, strict=False):
        if want.startswith("{"):
            if words.setdefault(want, have) != have:
                return None
        elif want != have:
            return None
    return words, given[len(wanted) :]


def _fill(pattern: str, words: Mapping[str, str]) -> list[str]:
    return [words.get(segment, segment) for segment in _segments(pattern)]


@functools.cache  # each key of a checkpoint meets each pattern of a map
def _segments(pattern: str) -> tuple[str, ...]:
    return tuple(pattern.split("."))


@dataclass(frozen=True, slots=True)
class Problems:
    """What keeps a state dict from fitting a map.

    Attributes:
        unknown: Keys of the source that no rule takes.
        missing: Keys of ours that nothing fills.
        shapes: Sentences on shapes that differ.
        ranks: Keys of the source whose number of axes differs.
    """

    unknown: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    shapes: tuple[str, ...] = ()
    ranks: tuple[str, ...] = ()

    @property
    def of_kind(self) -> bool:
        """Whether this is another layout, and not the same one at another size."""
        return bool(self.unknown or self.missing or self.ranks)

    def __bool__(self) -> bool:
        return bool(self.unknown or self.missing or self.shapes)

    def __len__(self) -> int:
        return len(self.unknown) + len(self.missing) + len(self.shapes)

    def __str__(self) -> str:
        parts = (
            ("unknown keys", self.unknown),
            ("missing keys", self.missing),
            ("wrong shapes", self.shapes),
        )
        return "; ".join(f"{title}: {', '.join(keys)}" for title, keys in parts if keys)


@dataclass(frozen=True, slots=True)
class KeyMap:
    """How a foreign layout becomes ours.

    Attributes:
        rules: Renamings and merges; the first that matches a key is used, on the way back too, so
            that special patterns stand before general ones.
        dropped: Patterns of source keys that are not used, each with the reason.
        new: Patterns of our keys that the source does not bring, each with its initialisation.
        random: Those of them, beside the classifier, that leave the model untrained in part.
        buffers: Renamings from keys that the source stores to buffers that we compute and do not
            store; `convert` passes them over, `export` writes ours.
        unread: Patterns of source keys that the source's own classifier never reads, each with the
            reason; `convert` passes over those that are there, `export` leaves them out.
    """

    rules: Sequence[Rule | Merge]
    dropped: Mapping[str, str] = field(default_factory=dict)
    new: Mapping[str, str] = field(default_factory=dict)
    random: Sequence[str] = ()
    buffers: Sequence[Rule] = ()
    unread: Mapping[str, str] = field(default_factory=dict)

    @property
    def inflates(self) -> bool:
        """Whether any rule inflates kernels."""
        return any(isinstance(rule, Rule) and bool(rule.inflate) for rule in self.rules)

    @property
    def exports(self) -> bool:
        """Whether there is a way back: the map neither drops, adds, copies nor inflates."""
        copies = any(isinstance(rule, Rule) and rule.copies for rule in self.rules)
        return not (self.dropped or self.new or copies or self.inflates)

    def convert(
        self,
        state: Mapping[str, Tensor],
        shapes: Mapping[str, Shape],
        *,
        inflation: Inflation = "mean",
    ) -> dict[str, Tensor]:
        """Turn a foreign state dict into ours; the input is left as it is.

        Args:
            state: Foreign tensors by key.
            shapes: Our keys and the shapes that they must get.
            inflation: How kernels are extended along time, where the map inflates.

        Returns:
            Our tensors by key, contiguous, in their own dtype, without the keys listed as new.

        Raises:
            ValueError: The map is not total on this state dict; the message names every key.
        """
        converted, problems = self.attempt(state, shapes, inflation=inflation)
        if problems:
            raise ValueError(f"The checkpoint does not fit: {problems}.")
        return converted

    def attempt(
        self,
        state: Mapping[str, Tensor],
        shapes: Mapping[str, Shape],
        *,
        inflation: Inflation = "mean",
    ) -> tuple[dict[str, Tensor], Problems]:
        """As `convert`, but returns what is wrong beside what could be converted."""
        fit = _Fit(shapes)
        parts: dict[tuple[Merge, str], dict[int, str]] = {}
        for key, tensor in state.items():
            if any(_match(pattern, key) for pattern in (*self.dropped, *self.unread)):
                continue
            if any(rule.rename(key) for rule in self.buffers):
                continue
            rule, targets, place = self._rule_for(key)
            if rule is None or any(target not in shapes for target in targets):
                fit.unknown.append(key)
            elif isinstance(rule, Merge):
                parts.setdefault((rule, targets[0]), {})[place] = key
            else:
                for target in targets:
                    value = rule.fit(tensor, tuple(shapes[target]), inflation=inflation)
                    fit.put(target, value, (key,), tensor.shape)
        for (merge, target), keys in parts.items():
            names = tuple(keys[index] for index in sorted(keys))
            if len(names) < len(merge.sources):
                fit.unknown.extend(names)
                continue
            try:
                value = merge.joint.join([state[name] for name in names])
            except RuntimeError as error:
                fit.wrong.append(f"{' and '.join(names)} cannot be joined ({error})")
                fit.ranks.extend(names)
            else:
                fit.put(target, value, names, value.shape)
        done = fit.converted.keys()
        missing = [key for key in shapes if key not in done and not self.is_new(key)]
        problems = Problems(tuple(fit.unknown), tuple(missing), tuple(fit.wrong), tuple(fit.ranks))
        return fit.converted, problems

    def _rule_for(self, key: str) -> tuple[Rule | Merge | None, list[str], int]:
        """The first rule that takes a key, the keys that it becomes, and its place in a merge."""
        for rule in self.rules:
            if isinstance(rule, Rule):
                if targets := rule.rename(key):
                    return rule, targets, 0
            elif place := rule.place(key):
                return rule, [place[1]], place[0]
        return None, [], 0

    def is_new(self, key: str) -> bool:
        """Whether one of our keys is among those that the source does not bring."""
        return any(_match(pattern, key) for pattern in self.new)

    def export(
        self, state: Mapping[str, Tensor], buffers: Mapping[str, Tensor] | None = None
    ) -> dict[str, Tensor]:
        """Turn our state dict back into the foreign layout, bit for bit.

        Args:
            state: Our tensors by key.
            buffers: What the model computes and does not store, by name, where the layout does.

        Raises:
            ValueError: The map drops, adds, copies or inflates, so that there is no way back, or
                the layout has no place for a tensor.
        """
        if not self.exports:
            raise ValueError(
                "This layout is that of an image model, which cannot hold a video model's weights."
            )
        exported: dict[str, Tensor] = {}
        unknown = []
        for key, tensor in state.items():
            found = next((new for rule in self.rules if (new := rule.export(key, tensor))), {})
            if not found:
                unknown.append(key)
            for name, value in found.items():
                assert name not in exported, name
                exported[name] = value.detach().contiguous()
        if unknown:
            raise ValueError(f"The layout has no place for: {', '.join(unknown)}.")
        for rule in self.buffers:
            for key, tensor in (buffers or {}).items():
                exported |= rule.export(key, tensor)
        return exported


@dataclass(slots=True)
class _Fit:
    """What an attempt has converted, and what it could not."""

    shapes: Mapping[str, Shape]
    converted: dict[str, Tensor] = field(default_factory=dict)
    unknown: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    ranks: list[str] = field(default_factory=list)

    def put(self, target: str, value: Tensor, keys: tuple[str, ...], given: Shape) -> None:
        """Take a tensor for one of our keys, unless another has it."""
        if target in self.converted:
            self.unknown.extend(keys)
            return
        shape = tuple(self.shapes[target])
        if tuple(value.shape) != shape:
            names = " and ".join(keys)
            self.wrong.append(f"{names} is {tuple(given)}, {target} must be {shape}")
        if value.ndim != len(shape):
            self.ranks.extend(keys)
        self.converted[target] = value.contiguous()


IDENTITY = KeyMap((Rule("{part}", "{part}"),))
"""Our own layout."""
