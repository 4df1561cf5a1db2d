"""Which frames of a video become clips: plain index arithmetic, no decoding and no tensors.

Every rule treats a video that is too short alike: the frames that exist are taken in order, and
the last one is repeated.
"""

from __future__ import annotations

import random
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from math import ceil
from typing import Literal

from registry.records import Sampling

__all__ = [
    "clip_indices",
    "dense",
    "frames_at",
    "frames_between",
    "multi_clip",
    "random_clip",
    "segments",
    "span_windows",
    "time_windows",
    "uniform",
]

ROUNDING_SECONDS = 1e-3
"""How far a stored time may lie from the true one: matroska, for one, stores milliseconds."""


def uniform(total: int, num_frames: int) -> list[int]:
    """Spread the frames over the whole video, from its first frame: `int(i * total / T)`.

    Args:
        total: Frames in the video.
        num_frames: Frames T in the clip.

    Returns:
        T indices, ascending.
    """
    return _spread(total, num_frames, 0, 1)


def dense(
    total: int, num_frames: int, *, stride: int = 1, rng: random.Random | None = None
) -> list[int]:
    """Take one window of frames that lie `stride` apart.

    Args:
        total: Frames in the video.
        num_frames: Frames T in the clip.
        stride: Distance between neighbouring frames of the clip.
        rng: Chooses the start for training; without it the window is central.

    Returns:
        T indices, ascending.
    """
    last_start = _last_start(total, num_frames, stride)
    start = rng.randint(0, last_start) if rng is not None else last_start // 2
    return _window(total, num_frames, stride, start)


def segments(total: int, num_frames: int, *, rng: random.Random | None = None) -> list[int]:
    """Take one frame from each of T equal parts of the video.

    Args:
        total: Frames in the video.
        num_frames: Frames T in the clip, and parts of the video.
        rng: Chooses the frame within each part for training; without it the centres are taken.

    Returns:
        T indices, ascending.
    """
    if rng is None or total < num_frames:
        return _spread(total, num_frames, 1, 2)
    _check(total=total, num_frames=num_frames)
    bounds = [i * total // num_frames for i in range(num_frames + 1)]
    return [rng.randrange(bounds[i], bounds[i + 1]) for i in range(num_frames)]


def multi_clip(total: int, num_frames: int, num_clips: int, *, stride: int = 1) -> list[list[int]]:
    """Take windows spaced evenly from the first possible one to the last; one is central.

    Args:
        total: Frames in the video.
        num_frames: Frames T in each clip.
        num_clips: Number of clips.
        stride: Distance between neighbouring frames of a clip.

    Returns:
        For each clip T indices, ascending.
    """
    _check(num_clips=num_clips)
    last_start = _last_start(total, num_frames, stride)
    if num_clips == 1:
        return [_window(total, num_frames, stride, last_start // 2)]
    starts = [k * last_start // (num_clips - 1) for k in range(num_clips)]
    return [_window(total, num_frames, stride, start) for start in starts]


def frames_at(times: Sequence[float], seconds: Sequence[float]) -> list[int]:
    """Find the frames on screen: for each wanted moment the last frame that starts by then.

    Stored times are rounded (29.97 frames a second in milliseconds), so a frame counts as started
    up to one millisecond, or a quarter of the mean frame distance, before its stored time.

    Args:
        times: When each frame of the video starts, seconds, ascending.
        seconds: Wanted moments; before the first frame means the first, after the end the last.

    Returns:
        An index for each wanted moment.
    """
    _check(total=len(times))
    tolerance = min(ROUNDING_SECONDS, _mean_gap(times) / 4)
    return [max(bisect_right(times, wanted + tolerance) - 1, 0) for wanted in seconds]


def frames_between(
    times: Sequence[float], start_seconds: float | None, end_seconds: float | None
) -> range:
    """Find the frames that start in [start, end), or else the one that is on screen then.

    Args:
        times: When each frame of the video starts, seconds, ascending.
        start_seconds: Where the part begins; None: with the video.
        end_seconds: Where it ends; None: with the video.

    Returns:
        The indices.

    Raises:
        ValueError: The video ends before the part begins.
    """
    _check(total=len(times))
    gap = _mean_gap(times)
    tolerance = min(ROUNDING_SECONDS, gap / 4)
    first, end = 0, len(times)
    if start_seconds is not None:
        if start_seconds > times[-1] + gap:
            raise ValueError(
                f"The part from {start_seconds:g} s on is not in the video: its last frame is at "
                f"{times[-1]:.2f} s; check the annotation, or the file."
            )
        first = bisect_left(times, start_seconds - tolerance)
    if end_seconds is not None:
        end = bisect_left(times, end_seconds - tolerance)
    if end <= first:
        (shown,) = frames_at(times, [start_seconds or times[0]])
        return range(shown, shown + 1)
    return range(first, end)


def time_windows(
    times: Sequence[float],
    num_frames: int,
    num_clips: int | Literal["all"],
    *,
    stride: int,
    fps: float,
) -> Iterator[list[int]]:
    """Take windows of frames that lie `stride / fps` seconds apart, at any frame rate.

    Args:
        times: When each frame of the video starts, seconds, ascending.
        num_frames: Frames T in each clip.
        num_clips: As in `multi_clip`, or "all" for consecutive windows over the whole video.
        stride: Distance between neighbouring frames of a clip, in frames of rate `fps`.
        fps: Rate at which `stride` is counted.

    Returns:
        An iterator that gives T indices for each clip, ascending.
    """
    _check(total=len(times), num_frames=num_frames, stride=stride)
    if not fps > 0:
        raise ValueError(f"fps={fps} is given for sampling; it must be greater than 0.")
    first, last = times[0], times[-1]
    gap = stride / fps
    last_start = max(last - first - (num_frames - 1) * gap, 0.0)
    if num_clips == "all":
        # a window that would show nothing beyond rounding is not begun
        length = num_frames * gap
        count = max(ceil((last - first + _mean_gap(times)) / length - ROUNDING_SECONDS), 1)
        starts = (min(k * length, last_start) for k in range(count))
    else:
        _check(num_clips=num_clips)
        middle = num_clips == 1
        parts = 2 if middle else num_clips - 1
        starts = (last_start * (k + middle) / parts for k in range(num_clips))
    return (
        frames_at(times, [first + start + i * gap for i in range(num_frames)]) for start in starts
    )


def span_windows(
    times: Sequence[float],
    num_frames: int,
    num_clips: int | Literal["all"],
    *,
    stride: int,
    fps: float | None,
) -> Iterator[list[int]]:
    """Spread frames from the first to the last of windows, as SlowFast and TimeSformer test.

    A window holds `num_frames * stride` frames at rate `fps`. Of K windows, window k starts at
    k / K of what the video leaves over, so that a single one starts with the video (the function
    get_start_end_idx of facebookresearch/SlowFast). Frames are counted at the video's mean rate.

    Args:
        times: When each frame of the video starts, seconds, ascending.
        num_frames: Frames T in each clip.
        num_clips: Number of windows, or "all" for consecutive ones over the whole video.
        stride: Length of a window by T.
        fps: Rate at which `stride` is counted; None for the video's own frames.

    Returns:
        An iterator that gives T indices for each clip, ascending.
    """
    total = len(times)
    _check(total=total, num_frames=num_frames, stride=stride)
    window = _span_length(times, num_frames, stride, fps)
    left_over = max(total - window, 0.0)
    if num_clips == "all":
        starts = [min(k * window, left_over) for k in range(max(ceil(total / window - 1e-6), 1))]
    else:
        _check(num_clips=num_clips)
        starts = [left_over * k / num_clips for k in range(num_clips)]
    return (_spanned(total, num_frames, start, window) for start in starts)


def clip_indices(
    sampling: Sampling, times: Sequence[float], num_clips: int | Literal["all"]
) -> Iterator[list[int]]:
    """Give the frames of every clip that a recipe takes from one video, clip by clip.

    Several clips by `uniform` or `segments` interleave: each takes its frames at another offset
    within the T parts of the video, k/K of a part for `uniform` (two clips are the "twice
    sampling" of the TSM code) and (k + 1)/(K + 1) for `segments` (UniFormer's test protocol).
    One such clip already spans the whole video, so "all" is that one clip for them; for `dense`
    and `span` it is consecutive windows, of which the last ends where the video ends.

    Args:
        sampling: The recipe; its own `num_clips` is not read.
        times: When each frame of the video starts, seconds, ascending.
        num_clips: Number of clips, or "all".

    Returns:
        An iterator that gives T indices for each clip, ascending.
    """
    total, num_frames, stride = len(times), sampling.num_frames, sampling.frame_stride
    _check(total=total, num_frames=num_frames, stride=stride)
    if num_clips != "all":
        _check(num_clips=num_clips)
    if sampling.rule == "dense":
        if sampling.fps is not None:
            return time_windows(times, num_frames, num_clips, stride=stride, fps=sampling.fps)
        if num_clips == "all":
            return _consecutive(total, num_frames, stride)
        return iter(multi_clip(total, num_frames, num_clips, stride=stride))
    if sampling.rule == "span":
        return span_windows(times, num_frames, num_clips, stride=stride, fps=sampling.fps)
    count = 1 if num_clips == "all" else num_clips
    if sampling.rule == "uniform":
        return (_spread(total, num_frames, k, count) for k in range(count))
    return (_spread(total, num_frames, k + 1, count + 1) for k in range(count))


def random_clip(sampling: Sampling, times: Sequence[float], rng: random.Random) -> list[int]:
    """Give the frames of one clip for training, chosen at random as a recipe's rule allows.

    `dense` and `span` take a window that may start anywhere. `segments` and `uniform`, whose
    frames spread over the whole video, take one frame at random from each of T equal parts
    (Temporal Segment Networks, arXiv:1608.00859).

    Args:
        sampling: The recipe; its own `num_clips` is not read.
        times: When each frame of the video starts, seconds, ascending.
        rng: Source of every choice.

    Returns:
        T indices, ascending.
    """
    total, num_frames, stride = len(times), sampling.num_frames, sampling.frame_stride
    _check(total=total, num_frames=num_frames, stride=stride)
    if sampling.rule in ("segments", "uniform"):
        return segments(total, num_frames, rng=rng)
    if sampling.rule == "span":
        window = _span_length(times, num_frames, stride, sampling.fps)
        return _spanned(total, num_frames, rng.uniform(0, max(total - window, 0.0)), window)
    if sampling.fps is None:
        return dense(total, num_frames, stride=stride, rng=rng)
    gap = stride / sampling.fps
    last_start = max(times[-1] - times[0] - (num_frames - 1) * gap, 0.0)
    start = times[0]
    if last_start > 0:
        # the last frame, too, is on screen for a while: every frame begins as many windows
        mean = _mean_gap(times)
        room = last_start + min(times[-1] - times[-2], mean)
        start += rng.uniform(0, room) - min(ROUNDING_SECONDS, mean / 4)
    return frames_at(times, [start + i * gap for i in range(num_frames)])


def _spread(total: int, num_frames: int, numerator: int, denominator: int) -> list[int]:
    """Take the frame at a fraction of each of T equal parts; in integers, so never off by one."""
    _check(total=total, num_frames=num_frames)
    if total < num_frames:
        return _window(total, num_frames, 1, 0)
    return [
        (i * denominator + numerator) * total // (num_frames * denominator)
        for i in range(num_frames)
    ]


def _window(total: int, num_frames: int, stride: int, start: int) -> list[int]:
    return [min(start + i * stride, total - 1) for i in range(num_frames)]


def _span_length(times: Sequence[float], num_frames: int, stride: int, fps: float | None) -> float:
    """Length of a `span` window in the video's own frames."""
    gap = _mean_gap(times)
    rate = 1.0 if fps is None or gap == 0 else 1 / (gap * fps)
    return num_frames * stride * rate


def _spanned(total: int, num_frames: int, start: float, window: float) -> list[int]:
    """Spread T frames from the first to the last of a window."""
    # A window shorter than one frame, of a very slow video, shows that frame only.
    step = max(window - 1, 0.0) / max(num_frames - 1, 1)
    return [min(int(start + i * step + 1e-6), total - 1) for i in range(num_frames)]


def _last_start(total: int, num_frames: int, stride: int) -> int:
    _check(total=total, num_frames=num_frames, stride=stride)
    return max(total - (num_frames - 1) * stride - 1, 0)


def _consecutive(total: int, num_frames: int, stride: int) -> Iterator[list[int]]:
    length = num_frames * stride
    last_start = _last_start(total, num_frames, stride)
    for start in range(0, total, length):
        yield _window(total, num_frames, stride, min(start, last_start))


def _mean_gap(times: Sequence[float]) -> float:
    return (times[-1] - times[0]) / (len(times) - 1) if len(times) > 1 else 0.0


def _check(**counts: int) -> None:
    meanings = {
        "total": "the video must have at least one frame",
        "num_frames": "a clip needs at least one frame",
        "num_clips": "at least one clip must be asked for, or 'all'",
        "stride": "neighbouring frames of a clip lie at least one frame apart",
    }
    for name, value in counts.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ValueError(f"{name}={value!r} is given for sampling; {meanings[name]}.")
