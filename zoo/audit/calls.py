"""Calling a sampler on videos of every length that matters, and keeping what it said."""

from __future__ import annotations

import inspect
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

import numpy as np
import torch

__all__ = ["Call", "Sampler", "arguments", "at_rate", "call", "grid", "seeded", "seeded_pass"]

Sampler: TypeAlias = Callable[[int, int], Any]
"""From the frames of a video and the frames of a clip to indices, or to one list a clip."""

_SEEDS = ("seed", "rng", "generator")


@dataclass(frozen=True, slots=True)
class Call:
    """One question to a sampler and its answer.

    Attributes:
        total: Frames of the video.
        num_frames: Frames T asked for.
        clips: The indices of each clip; none where the answer cannot be read.
        fault: The rule that the answer breaks by its form, or an empty text.
        answer: The answer in words.
    """

    total: int
    num_frames: int
    clips: tuple[tuple[int, ...], ...]
    fault: str
    answer: str

    @property
    def indices(self) -> tuple[int, ...]:
        """The indices of the first clip."""
        return self.clips[0]

    def __str__(self) -> str:
        return f"sampler({self.total}, {self.num_frames}) -> {self.answer}"


def grid(lengths: Iterable[int]) -> list[tuple[int, int]]:
    """Videos and clips (total, T), smallest first: short, exact, long, and not divisible ones."""
    pairs = {
        (total, num_frames)
        for num_frames in lengths
        for total in (
            *(1, 2, 3, num_frames - 1, num_frames, num_frames + 1),
            *(2 * num_frames - 1, 2 * num_frames, 2 * num_frames + 1),
            *(3 * num_frames - 1, 5 * num_frames + 3, 100, 101, 299, 1000),
        )
        if total >= 1
    }
    return sorted(pairs, key=lambda pair: (max(pair), pair))


def seeded(sampler: Sampler, seed: int, *, train: bool) -> Sampler:
    """A sampler that draws from this seed: its own argument for it, and every global generator.

    Many samplers take the middle where their generator is left out: so do tests.

    Args:
        sampler: The sampler.
        seed: The seed.
        train: Whether an argument for a generator that may be left out is given.
    """
    known = arguments(sampler)
    needed = [word for word in _SEEDS if word in known and known[word].default is known[word].empty]
    offered = [word for word in _SEEDS if word in known] if train else []
    name = next(iter(needed + offered), "")

    def run(total: int, num_frames: int) -> Any:
        given = {name: _generator(name, known[name], seed)} if name else {}
        return seeded_pass(seed, lambda: sampler(total, num_frames, **given))

    return run


def arguments(sampler: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """What a function takes, by name; functions written in C may tell nothing."""
    try:
        return dict(inspect.signature(sampler).parameters)
    except (TypeError, ValueError):
        return {}


def at_rate(sampler: Callable[..., Any], fps: float) -> Sampler:
    """A sampler that takes `fps`, for videos of this rate."""
    return partial(sampler, fps=fps)


def seeded_pass(seed: int, call: Callable[[], Any]) -> Any:
    """Call with every global generator at this seed, and leave them as they were."""
    kept = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 -- samplers of others draw from it
    torch.manual_seed(seed)
    try:
        return call()
    finally:
        random.setstate(kept[0])
        np.random.set_state(kept[1])  # noqa: NPY002
        torch.set_rng_state(kept[2])


def _generator(name: str, parameter: inspect.Parameter, seed: int) -> Any:
    """What to give for an argument of this name."""
    if name == "seed":
        return seed
    kind = str(parameter.annotation)
    if "numpy" in kind or "np." in kind:
        return np.random.default_rng(seed)
    if name == "generator" or "torch" in kind:
        return torch.Generator().manual_seed(seed)
    return random.Random(seed)  # noqa: S311 -- no secret is drawn


def call(sampler: Sampler, total: int, num_frames: int) -> Call:
    """Ask a sampler once; whatever it does becomes an answer."""
    try:
        found = sampler(total, num_frames)
    except Exception as error:  # noqa: BLE001 -- what a sampler raises is a finding
        refused = isinstance(error, ValueError) and 0 < total < num_frames
        fault = "refuses_short" if refused else "crash"
        return Call(total, num_frames, (), fault, f"{type(error).__name__}: {error}")
    answer = _words(found)
    try:
        values = np.asarray([np.asarray(item) for item in found])
    except (TypeError, ValueError):
        return Call(total, num_frames, (), "not_indices", answer)
    if not values.size:
        return Call(total, num_frames, (), "wrong_count", answer)
    whole = values.dtype.kind in "iu" or (
        values.dtype.kind == "f" and np.array_equal(values, np.floor(values))
    )
    if values.ndim not in (1, 2) or not whole:
        return Call(total, num_frames, (), "not_indices", answer)
    rows = values.reshape(-1, values.shape[-1]).astype(np.int64)
    clips = tuple(tuple(int(index) for index in row) for row in rows)
    return Call(total, num_frames, clips, _fault(clips, total, num_frames), answer)


def _fault(clips: Sequence[Sequence[int]], total: int, num_frames: int) -> str:
    for clip in clips:
        if len(clip) != num_frames:
            return "wrong_count"
        if min(clip) < 0:
            return "negative"
        if max(clip) >= total:
            return "out_of_range"
    return ""


def _words(found: Any) -> str:
    if isinstance(found, (torch.Tensor, np.ndarray)):
        found = found.tolist()
    text = str(list(found) if isinstance(found, (tuple, range)) else found)
    return text if len(text) <= 160 else f"{text[:157]}..."
