"""What is asked of samplers that take windows, one or several."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from statistics import fmean

from zoo.audit.calls import Call
from zoo.audit.findings import Finding

__all__ = ["check_clips", "check_window"]

_STARTS = 5


def check_window(draws: Sequence[Call], draw: Callable[[int], list[Call]]) -> Iterator[Finding]:
    """One window, at a fixed or a random place.

    Args:
        draws: Answers for long videos.
        draw: Gives answers for a video of a number of frames.
    """
    drawn = [item for item in draws if item.total == draws[-1].total]
    shown, t = str(drawn[0]), drawn[0].num_frames
    for item in drawn:
        yield from _spacing(item)
    span = max(item.indices[-1] - item.indices[0] for item in drawn)
    stride, rest = divmod(span, t - 1)
    if stride > 1 and not rest:
        what = f"neighbours are {stride} frames apart at any rate"
        yield Finding("stride_in_frames", what, shown)
    room = drawn[0].total - 1 - span
    places = [item.indices[0] / room for item in drawn]
    if len(set(places)) > 1:
        yield from _random_place(places, draw(span + _STARTS), shown, span)
    elif not 0.05 < places[0] < 0.95:
        what = "the window is always at the " + ("start" if places[0] < 0.5 else "end")
        yield Finding("one_end", what, shown)


def _spacing(item: Call) -> Iterator[Finding]:
    """Frames of each clip that come twice, or at changing distances."""
    for clip in item.clips:
        gaps = [after - before for before, after in pairwise(clip)]
        if 0 in gaps:
            yield Finding("duplicates", "a frame comes twice though there are enough", str(item))
        if max(gaps) - min(gaps) > 1:
            what = f"neighbours are {min(gaps)} to {max(gaps)} frames apart"
            yield Finding("uneven", what, str(item))


def _random_place(
    places: Sequence[float], close: Sequence[Call], shown: str, span: int
) -> Iterator[Finding]:
    """A window that is drawn: from both ends, and evenly.

    Args:
        places: Where it began in a long video, 0 at the first frame, 1 at the last start.
        close: Draws from a video in which there are few places for it.
        shown: A call to show.
        span: Distance of the last frame from the first.
    """
    if min(places) > 0.1:
        what = f"no start in the first {min(places):.0%} of the room"
        yield Finding("head_unreached", what, shown)
    if max(places) < 0.9:
        what = f"no start in the last {1 - max(places):.0%} of the room"
        yield Finding("tail_unreached", what, shown)
    elif not 0.4 < fmean(places) < 0.6 and min(places) <= 0.1:
        yield Finding("biased", f"the mean start is at {fmean(places):.0%} of the room", shown)
    if not close:
        return
    if min(item.indices[0] for item in close) > 0:
        what = f"{len(close)} draws of {span + 1} from {close[0].total} frames leave out frame 0"
        yield Finding("never_first", what, str(close[0]))
    if max(item.indices[-1] for item in close) < close[0].total - 1:
        what = f"{len(close)} draws of {span + 1} from {close[0].total} frames leave out the last"
        yield Finding("never_last", what, str(close[0]))


def check_clips(good: Sequence[Call], *, random: bool) -> Iterator[Finding]:
    """Several clips of one video: apart and, where they are not drawn, over the whole of it."""
    for item in good:
        count = len(item.clips)
        span = max(clip[-1] - clip[0] for clip in item.clips)
        if item.num_frames < 2 or item.total < span + 1 + 4 * count:
            continue
        if not random:
            yield from _spacing(item)
        if len(set(item.clips)) < count:
            what = f"{count - len(set(item.clips))} of {count} clips repeat another"
            yield Finding("clips_repeated", what, str(item))
            return
        if item.total >= 4 * (span + 1) and not random:
            first = min(clip[0] for clip in item.clips)
            last = max(clip[-1] for clip in item.clips)
            if first > item.total / 3 or last < item.total * 2 / 3:
                what = f"all {count} clips lie in frames {first} to {last} of {item.total}"
                yield Finding("clips_one_sided", what, str(item))
                return
