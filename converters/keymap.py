"""Total key maps: how the tensors of one layout become those of another, as data.

A map is total: every source key is used or dropped with a reason, every target key is filled or
listed as new with its initialisation, every shape agrees. Anything else raises and names all keys.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from converters.inflate import Inflation, inflate_conv

__all__ = ["IDENTITY", "KeyMap", "Problems", "Rule"]

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
        inflate: Whether 4-D kernels become the 5-D ones that the target expects.
    """

    source: str
    target: str
    copies: tuple[str, ...] = ()
    inflate: bool = False

    def rename(self, key: str, *, reverse: bool = False) -> list[str]:
        """The keys that a key becomes; empty where the pattern does not match."""
        source, targets = self.source, (self.target, *self.copies)
        if reverse:
            source, targets = self.target, (self.source,)
        found = _match(source, key)
        if found is None:
            return []
        words, rest = found
        return [".".join([*_fill(target, words), *rest]) for target in targets]


def _match(pattern: str, key: str) -> tuple[dict[str, str], list[str]] | None:
    """The words that a pattern captures from a key, and the segments left over."""
    wanted, given = pattern.split("."), key.split(".")
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
    return [words.get(segment, segment) for segment in pattern.split(".")]


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
        rules: Renamings; the first that matches a key is used.
        dropped: Patterns of source keys that are not used, each with the reason.
        new: Patterns of our keys that the source does not bring, each with its initialisation.
        random: Those of them, beside the classifier, that leave the model untrained in part.
    """

    rules: Sequence[Rule]
    dropped: Mapping[str, str] = field(default_factory=dict)
    new: Mapping[str, str] = field(default_factory=dict)
    random: Sequence[str] = ()

    @property
    def inflates(self) -> bool:
        """Whether any rule inflates kernels."""
        return any(rule.inflate for rule in self.rules)

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
        converted: dict[str, Tensor] = {}
        unknown: list[str] = []
        wrong: list[str] = []
        ranks: list[str] = []
        for key, tensor in state.items():
            if any(_match(pattern, key) for pattern in self.dropped):
                continue
            rule = next((rule for rule in self.rules if rule.rename(key)), None)
            targets = rule.rename(key) if rule else []
            if rule is None or any(t not in shapes or t in converted for t in targets):
                unknown.append(key)
                continue
            for target in targets:
                value, shape = tensor, shapes[target]
                if rule.inflate and tensor.ndim == 4 and len(shape) == 5:
                    value = inflate_conv(tensor, num_frames=shape[2], mode=inflation)
                if tuple(value.shape) != tuple(shape):
                    wrong.append(f"{key} is {tuple(tensor.shape)}, {target} must be {tuple(shape)}")
                if value.ndim != len(shape):
                    ranks.append(key)
                converted[target] = value.contiguous()
        missing = [key for key in shapes if key not in converted and not self.is_new(key)]
        return converted, Problems(tuple(unknown), tuple(missing), tuple(wrong), tuple(ranks))

    def is_new(self, key: str) -> bool:
        """Whether one of our keys is among those that the source does not bring."""
        return any(_match(pattern, key) for pattern in self.new)

    def export(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Turn our state dict back into the foreign layout, bit for bit.

        Raises:
            ValueError: The map drops, adds, copies or inflates, so that there is no way back.
        """
        if self.dropped or self.new or any(rule.inflate or rule.copies for rule in self.rules):
            raise ValueError(
                "This layout is that of an image model, which cannot hold a video model's weights."
            )
        exported: dict[str, Tensor] = {}
        unknown = []
        for key, tensor in state.items():
            names = next((n for rule in self.rules if (n := rule.rename(key, reverse=True))), [])
            if not names:
                unknown.append(key)
            for name in names:
                assert name not in exported, name
                exported[name] = tensor.detach().contiguous()
        if unknown:
            raise ValueError(f"The layout has no place for: {', '.join(unknown)}.")
        return exported


IDENTITY = KeyMap((Rule("{part}", "{part}"),))
"""Our own layout."""
