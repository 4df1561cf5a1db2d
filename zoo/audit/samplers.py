"""Run any sampler through the properties that a frame sampler must have."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import pairwise
from statistics import fmean
from typing import TypeAlias

from zoo.audit.calls import Call, Sampler, arguments, at_rate, call, grid, seeded
from zoo.audit.findings import Finding, Report, make_report
from zoo.audit.windows import check_clips, check_window

__all__ = ["audit_sampler"]

Ask: TypeAlias = Callable[[int, int, int], Call]
"""From a seed, the frames of a video and those of a clip to an answer."""

_DRAWS = 200
_FPS = 30.0
_LENGTHS = (1, 2, 4, 8, 16, 32)


def audit_sampler(
    sampler: Sampler,
    *,
    train: bool = False,
    evaluation: Sampler | None = None,
    lengths: Sequence[int] = _LENGTHS,
    name: str = "",
) -> Report:
    """Look for bugs in a frame sampler, by calling it.

    Whether it spreads frames over the video or takes a window is found out from its answers, and
    each kind is held to its own rules. A sampler that draws at random is called with seeds: in an
    argument of its own called `seed`, `rng` or `generator`, and in every global generator. One
    that takes `fps` is also asked for the same video at twice the rate.

    Args:
        sampler: Takes the frames of a video and the frames T of a clip, and gives T indices, or
            a list of T for each of several clips. `zoo.audit.conventions` adapts others.
        train: Whether it may draw at random.
        evaluation: The sampler that is used for testing, to be compared with.
        lengths: The T that it is asked for; from 2 on, most rules need one of 4 or more.
        name: What the report calls it.

    Returns:
        The findings; `report.ok` is False where one is an error.

    Raises:
        ValueError: `lengths` holds no number of 2 or more.
    """
    if not lengths or min(lengths) < 1 or max(lengths) < 2:
        raise ValueError(f"lengths={tuple(lengths)!r}; give frames T of 1 or more, one above 1.")
    name = name or _name(sampler)
    findings: list[Finding] = []
    if "fps" in arguments(sampler):
        findings += _rate(sampler, max(lengths))
        sampler = at_rate(sampler, _FPS)
    ask = partial(_ask, sampler, train=train)
    first = seeded(sampler, 0, train=train)
    calls = [call(first, *pair) for pair in grid(lengths)]
    findings += list(_form(calls, call(first, 0, min(length for length in lengths if length > 1))))
    good = [item for item in calls if not item.fault]
    if not good or max(item.num_frames for item in good) < 2:
        return make_report(name, "gives no usable indices", findings)
    varies = _varying(ask, good)
    findings += _chance(ask, good, varies, train=train)
    findings += _short(good)
    longest = max(item.num_frames for item in good)
    seeds = range(_DRAWS if varies else 1)
    draws = [item for total in (40, 80) for item in _drawn(ask, total * longest, longest, seeds)]
    if len({item.total for item in draws}) < 2:
        return make_report(name, "fails on long videos", findings)
    window = _is_window(draws)
    several = len(good[-1].clips) > 1
    if several:
        findings += check_clips(good, random=varies is not None)
    elif window:
        findings += check_window(draws, lambda total: _drawn(ask, total, longest, seeds))
    else:
        # Of a video that T does not divide, the rest must be reached too.
        uneven = _drawn(ask, 3 * longest - 1, longest, seeds)
        findings += _spread_at_random(draws, uneven) if varies else _spread(good)
    if evaluation is not None:
        findings += _beside(draws, _ask(evaluation, 0, draws[-1].total, longest, train=False))
    rule = "several clips" if several else "a window" if window else "frames over the whole video"
    how = "drawn at random" if varies else "always the same"
    return make_report(name, f"takes {rule}, {how}", findings)


def _ask(sampler: Sampler, seed: int, total: int, num_frames: int, *, train: bool) -> Call:
    return call(seeded(sampler, seed, train=train), total, num_frames)


def _drawn(ask: Ask, total: int, num_frames: int, seeds: Iterable[int]) -> list[Call]:
    found = [ask(seed, total, num_frames) for seed in seeds]
    return [item for item in found if not item.fault]


def _rate(sampler: Sampler, num_frames: int) -> Iterator[Finding]:
    """Whether a video at twice the rate is seen at other moments."""
    total = 40 * num_frames
    slow = call(seeded(at_rate(sampler, _FPS), 0, train=False), total, num_frames)
    fast = call(seeded(at_rate(sampler, 2 * _FPS), 0, train=False), 2 * total, num_frames)
    if slow.fault or fast.fault:
        return
    spans = [item.indices[-1] - item.indices[0] for item in (slow, fast)]
    if abs(spans[1] - 2 * spans[0]) > 3:
        what = f"a clip lasts {spans[0] / _FPS:.2f} s at 30/s and {spans[1] / _FPS / 2:.2f} at 60/s"
        yield Finding("fps_ignored", what, f"{slow} at 30/s; {fast} at 60/s")


def _form(calls: Sequence[Call], empty: Call) -> Iterator[Finding]:
    """Answers that no decoder can use."""
    for item in calls:
        if item.fault:
            yield Finding(item.fault, _FORM[item.fault], str(item))
    if empty.fault != "crash" and any(empty.clips):
        yield Finding("empty_video", "a video without frames gets indices", str(empty))


_FORM = {
    "crash": "it raises",
    "refuses_short": "it refuses videos that are shorter than a clip",
    "not_indices": "what it gives are no whole numbers",
    "wrong_count": "it gives another number of frames than asked for",
    "negative": "an index is below 0",
    "out_of_range": "an index is not below the number of frames",
}


def _varying(ask: Ask, good: Sequence[Call]) -> Call | None:
    """The smallest call whose answer changes with the seed."""
    for item in good:
        for seed in range(1, 4):
            if ask(seed, item.total, item.num_frames).clips != item.clips:
                return item
    return None


def _chance(
    ask: Ask, good: Sequence[Call], varies: Call | None, *, train: bool
) -> Iterator[Finding]:
    """Randomness where there must be none, and such that cannot be repeated."""
    if varies is None:
        if train:
            yield Finding("never_varies", "no seed changes what it gives", str(good[-1]))
        return
    other = ask(1, varies.total, varies.num_frames)
    if not train:
        yield Finding("random_in_evaluation", "two calls differ", f"{varies}, then {other.answer}")
    for item in [item for item in good if item.total > item.num_frames][:40]:
        again = ask(0, item.total, item.num_frames)
        if again.clips != item.clips:
            yield Finding(
                "seed_ignored", "the same seed gives two answers", f"{item}, then {again.answer}"
            )
            return


def _short(good: Sequence[Call]) -> Iterator[Finding]:
    """Indices that do not ascend."""
    for item in good:
        for clip in item.clips:
            if any(after < before for before, after in pairwise(clip)):
                if _loops(clip, item.total):
                    yield Finding("loops", "the clip starts the video anew", str(item))
                else:
                    yield Finding("wrong_order", "the indices do not ascend", str(item))
                break


def _loops(clip: Sequence[int], total: int) -> bool:
    """Whether the clip goes on from the start where it passes the end."""
    steps = {(after - before) % total for before, after in pairwise(clip)}
    return len(steps) == 1 and (total == 2 or steps != {total - 1})


def _is_window(draws: Sequence[Call]) -> bool:
    """Whether the frames lie in a window whose length the video does not change."""
    short, long = (
        [item.indices[-1] - item.indices[0] for item in draws if item.total == total]
        for total in (draws[0].total, draws[-1].total)
    )
    return fmean(long) < 1.5 * fmean(short)


def _spread(good: Sequence[Call]) -> Iterator[Finding]:
    """Frames spread over the whole video, the same each time."""
    for item in good:
        total, t, indices = item.total, item.num_frames, item.indices
        if total < t or t < 2 or list(indices) != sorted(indices):
            continue
        step = total / t
        gaps = [after - before for before, after in pairwise(indices)]
        if total == t and 0 not in indices:
            yield Finding("skips_first", "frame 0 of T is not taken", str(item))
        if total == t and t - 1 not in indices:
            yield Finding("skips_last", "frame T - 1 of T is not taken", str(item))
        if 0 in gaps:
            yield Finding("duplicates", "a frame comes twice though there are enough", str(item))
        elif max(gaps) - min(gaps) > 1:
            what = f"neighbours are {min(gaps)} to {max(gaps)} frames apart"
            yield Finding("uneven", what, str(item))
        yield from _ends(item, step, step / 2)


def _ends(item: Call, step: float, half: float) -> Iterator[Finding]:
    head, tail = item.indices[0], item.total - 1 - item.indices[-1]
    if head > step:
        yield Finding("head_unreached", f"the first {head} frames lie before the clip", str(item))
    elif tail > step:
        yield Finding("tail_unreached", f"the last {tail} frames lie behind the clip", str(item))
    elif item.total >= 8 * item.num_frames and item.num_frames > 2:
        if head < half / 2 < half < tail:
            what = f"{head} frames lie before the clip and {tail} behind it"
            yield Finding("left_aligned", what, str(item))
        elif tail < half / 2 < half < head:
            what = f"{head} frames lie before the clip and {tail} behind it"
            yield Finding("right_aligned", what, str(item))


def _spread_at_random(draws: Sequence[Call], uneven: Sequence[Call]) -> Iterator[Finding]:
    """Frames over the whole video, drawn: one from each of T parts is what is wanted."""
    total, t = draws[-1].total, draws[-1].num_frames
    drawn = [item for item in draws if item.total == total]
    step = total / t
    shown = str(drawn[0])
    for item in drawn:
        if len(set(item.indices)) < t:
            yield Finding("duplicates", "a frame comes twice though there are enough", str(item))
            break
    for found in (uneven, drawn):
        first, last = min(d.indices[0] for d in found), max(d.indices[-1] for d in found)
        reach = found[0].total / t
        if first > reach:
            what = f"in {len(found)} draws none is below {first}"
            yield Finding("head_unreached", what, str(found[0]))
        if found[0].total - 1 - last > reach:
            what = f"in {len(found)} draws none is above {last}"
            yield Finding("tail_unreached", what, str(found[0]))
    means = [fmean(d.indices[i] for d in drawn) for i in range(t)]
    off = max(abs(mean - (i + 0.5) * step) for i, mean in enumerate(means))
    if off > step:
        yield Finding("biased", f"places lie {off:.0f} frames off their mean place", shown)
    outside = next(
        (d for d in drawn for i, x in enumerate(d.indices) if not i - 0.5 <= x / step <= i + 1.5),
        None,
    )
    if outside is not None and off <= step:
        yield Finding("uneven_random", "frames are not drawn one from each part", str(outside))


def _beside(draws: Sequence[Call], tested: Call) -> Iterator[Finding]:
    """A training sampler and the one that is used for testing."""
    trained = draws[-1]
    shown = f"training: {trained}; testing: {tested}"
    if tested.fault:
        yield Finding("train_test_differ", "testing gives other clips", shown)
        return
    spans = [item.indices[-1] - item.indices[0] for item in (trained, tested)]
    if max(spans) > 1.25 * max(min(spans), 1):
        what = f"a clip spans {spans[0]} frames in training and {spans[1]} in testing"
        yield Finding("train_test_differ", what, shown)


def _name(sampler: Sampler) -> str:
    return getattr(sampler, "__qualname__", type(sampler).__name__)
