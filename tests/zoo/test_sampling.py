import random
from itertools import pairwise, product

import numpy as np
import pytest

from registry.records import Sampling
from zoo.sampling import (
    clip_indices,
    dense,
    frames_at,
    frames_between,
    multi_clip,
    random_clip,
    segments,
    time_windows,
    uniform,
)


def recipe(rule="dense", num_frames=4, frame_stride=1, fps=None):
    return Sampling(
        rule=rule,
        num_frames=num_frames,
        frame_stride=frame_stride,
        fps=fps,
        num_clips=1,
        num_crops=1,
        average="logits",
    )


@pytest.mark.parametrize("total", [1, 2, 7, 8, 9, 30, 299, 300, 100_003])
@pytest.mark.parametrize("num_frames", [1, 2, 8, 32])
def test_uniform_is_the_rule_of_the_lesson(total, num_frames):
    expected = [int(i * total / num_frames) for i in range(num_frames)]
    if total < num_frames:
        expected = [min(i, total - 1) for i in range(num_frames)]
    assert uniform(total, num_frames) == expected


def test_short_videos_repeat_their_last_frame_in_every_rule():
    short = [0, 1, 2, 2, 2]
    assert uniform(3, 5) == dense(3, 5) == segments(3, 5) == short
    assert segments(3, 5, rng=random.Random(0)) == short
    assert dense(3, 5, rng=random.Random(0)) == short
    assert multi_clip(3, 5, 2) == [short, short]
    assert dense(5, 4, stride=2) == [0, 2, 4, 4]
    assert uniform(1, 3) == [0, 0, 0]


def test_dense_is_central_without_a_generator():
    assert dense(100, 4, stride=3) == [45, 48, 51, 54]
    assert dense(10, 10) == list(range(10))


def test_random_dense_reaches_both_ends_and_stays_inside():
    rng = random.Random(0)
    starts = {dense(10, 3, stride=2, rng=rng)[0] for _ in range(200)}
    assert starts == set(range(6))


def test_segments_take_centres_and_random_frames_of_equal_parts():
    assert segments(12, 4) == [1, 4, 7, 10]
    assert segments(300, 8) == [18, 56, 93, 131, 168, 206, 243, 281]
    rng = random.Random(0)
    seen = [
        set(column) for column in zip(*(segments(10, 4, rng=rng) for _ in range(200)), strict=True)
    ]
    assert seen == [{0, 1}, {2, 3, 4}, {5, 6}, {7, 8, 9}]


def test_multi_clip_goes_from_the_first_window_to_the_last():
    clips = multi_clip(100, 4, 3, stride=2)
    assert [clip[0] for clip in clips] == [0, 46, 93]
    assert clips[-1] == [93, 95, 97, 99]
    assert multi_clip(100, 4, 1, stride=2) == [dense(100, 4, stride=2)]


def test_frames_at_shows_what_is_on_screen():
    times = [0.0, 0.5, 0.6, 2.0]
    assert frames_at(times, [-1, 0, 0.49, 0.5, 0.55, 1.99, 2.0, 99]) == [0, 0, 0, 1, 1, 2, 3, 3]


@pytest.mark.parametrize("fps", [24000 / 1001, 30000 / 1001, 60000 / 1001, 25, 120])
def test_rounded_stamps_slip_no_frame(fps):
    wanted = [i / fps for i in range(5000)]
    for digits in (3, 2) if fps < 40 else (3,):
        if digits == 2:  # gif counts in hundredths; a wanted time inside each frame is found
            times = [round(t, 2) for t in wanted]
            moments = [t + 0.01 for t in wanted]
        else:
            times, moments = [round(t, digits) for t in wanted], wanted
        assert frames_at(times, moments) == list(range(5000))


def test_windows_by_time_are_those_by_index_at_the_own_rate():
    for fps in (25, 30000 / 1001):
        times = [round(i / fps, 3) for i in range(250)]
        for num_clips in (1, 2, 5):
            windows = list(time_windows(times, 8, num_clips, stride=4, fps=fps))
            assert windows[0] == multi_clip(250, 8, num_clips, stride=4)[0]
            assert windows[-1] == multi_clip(250, 8, num_clips, stride=4)[-1]


def test_windows_by_time_follow_the_clock_and_not_the_count():
    # one second at 10 frames a second, then one at 40
    times = [i / 10 for i in range(10)] + [1 + i / 40 for i in range(40)]
    (window,) = time_windows(times, 4, 1, stride=5, fps=10)
    assert [round(times[i], 3) for i in window] == [0.2, 0.7, 1.225, 1.725]
    # 60 frames a second sampled at 30: every second frame
    double = [i / 60 for i in range(120)]
    (window,) = time_windows(double, 4, 1, stride=1, fps=30)
    assert window == [56, 58, 60, 62]
    # 15 frames a second sampled at 30: frames are repeated
    half = [i / 15 for i in range(30)]
    (window,) = time_windows(half, 4, 1, stride=1, fps=30)
    assert window == [13, 14, 14, 15]


def test_all_covers_the_video_and_ends_where_it_ends():
    for total in range(1, 60):
        clips = list(clip_indices(recipe(num_frames=4, frame_stride=2), range(total), "all"))
        times = [i / 30 for i in range(total)]
        timed = list(clip_indices(recipe(num_frames=4, frame_stride=2, fps=30), times, "all"))
        assert clips == timed
        assert len(clips) == -(-total // 8)
        assert clips[-1][-1] >= total - 2
        for before, after in pairwise(clips):
            assert after[0] - before[0] <= 8
        dense_cover = clip_indices(recipe(num_frames=4), range(total), "all")
        assert {i for clip in dense_cover for i in clip} == set(range(total))


def test_all_is_given_lazily():
    clips = clip_indices(recipe(num_frames=2), range(10**9), "all")
    assert next(clips) == [0, 1]
    assert next(clips) == [2, 3]


def test_several_uniform_clips_interleave():
    assert list(clip_indices(recipe("uniform"), range(16), 1)) == [uniform(16, 4)]
    assert list(clip_indices(recipe("uniform"), range(16), 2)) == [[0, 4, 8, 12], [2, 6, 10, 14]]
    assert list(clip_indices(recipe("uniform"), range(16), "all")) == [uniform(16, 4)]
    assert list(clip_indices(recipe("segments"), range(12), 1)) == [segments(12, 4)]
    assert list(clip_indices(recipe("segments"), range(12), 2)) == [[1, 4, 7, 10], [2, 5, 8, 11]]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: uniform(0, 8), "total=0"),
        (lambda: uniform(8, 0), "num_frames=0"),
        (lambda: dense(8, 2, stride=0), "stride=0"),
        (lambda: segments(-1, 2), "total=-1"),
        (lambda: segments(0, 2, rng=random.Random(0)), "total=0"),
        (lambda: multi_clip(8, 2, 0), "num_clips=0"),
        (lambda: frames_at([], [0.0]), "total=0"),
        (lambda: time_windows([0.0], 4, 1, stride=1, fps=0), "fps=0"),
        (lambda: time_windows([0.0], 4, 0, stride=1, fps=30), "num_clips=0"),
        (lambda: clip_indices(recipe(), [], 1), "total=0"),
        (lambda: clip_indices(recipe(), [0.0], "most"), "num_clips='most'"),
    ],
)
def test_impossible_requests_are_refused(call, message):
    with pytest.raises(ValueError, match=f"^{message}.*; .*\\.$|^{message} is given"):
        call()


def test_span_takes_the_frames_that_timesformer_and_slowfast_take():
    """Against the formula of get_start_end_idx and linspace in facebookresearch/TimeSformer."""
    for total, fps, stride, frames, clips in ((300, 30, 32, 8, 1), (250, 25, 8, 8, 10)):
        times = [i / fps for i in range(total)]
        sampling = Sampling(
            rule="span",
            num_frames=frames,
            frame_stride=stride,
            fps=30.0,
            num_clips=clips,
            num_crops=1,
            average="logits",
        )
        found = list(clip_indices(sampling, times, clips))
        size = stride * frames / 30 * fps
        for k, clip in enumerate(found):
            start = max(total - size, 0) * k / clips
            wanted = np.linspace(start, start + size - 1, frames).clip(0, total - 1)
            assert clip == [int(index + 1e-6) for index in wanted]
    assert found[0][0] == 0


def test_span_covers_the_whole_video_and_repeats_the_last_frame_of_a_short_one():
    times = [i / 30 for i in range(100)]
    sampling = Sampling(
        rule="span",
        num_frames=4,
        frame_stride=10,
        fps=None,
        num_clips=1,
        num_crops=1,
        average="logits",
    )
    windows = list(clip_indices(sampling, times, "all"))
    assert windows == [[0, 13, 26, 39], [40, 53, 66, 79], [60, 73, 86, 99]]
    assert list(clip_indices(sampling, times[:20], 1)) == [[0, 13, 19, 19]]


def test_span_of_a_video_slower_than_its_window_never_falls():
    times = [float(second) for second in range(12)]
    sampling = Sampling(
        rule="span",
        num_frames=8,
        frame_stride=2,
        fps=30.0,
        num_clips=1,
        num_crops=1,
        average="logits",
    )
    for clip in clip_indices(sampling, times, "all"):
        assert clip == sorted(clip)
    assert next(clip_indices(sampling, times, 1)) == [0] * 8


def drawn(sampling, times, count=400):
    rng = random.Random(0)
    return [random_clip(sampling, times, rng) for _ in range(count)]


def at_rate(total, fps):
    return [i / fps for i in range(total)]


def test_training_takes_a_dense_window_from_anywhere():
    clips = drawn(recipe("dense", 4, frame_stride=3), at_rate(20, 30))
    assert {tuple(clip) for clip in clips} == {(s, s + 3, s + 6, s + 9) for s in range(11)}
    timed = drawn(recipe("dense", 4, frame_stride=3, fps=15.0), at_rate(60, 30), 4200)
    # at 30 frames a second each step is six frames
    assert {b - a for clip in timed for a, b in pairwise(clip)} == {6}
    counts = np.bincount([clip[0] for clip in timed])
    assert len(counts) == 42
    assert counts.min() > 60
    assert counts.max() < 140
    # a gap in the frames: the last one before it stays on screen
    late = [0.0, 0.1, 0.2, 5.0, 5.1]
    assert {tuple(clip) for clip in drawn(recipe("dense", 2, fps=10.0), late)} == {
        (0, 1),
        (1, 2),
        (2, 2),
        (2, 3),
        (3, 4),
    }


@pytest.mark.parametrize("rule", ["segments", "uniform"])
def test_training_takes_one_frame_of_each_part(rule):
    clips = drawn(recipe(rule, 4), at_rate(10, 30))
    # parts [0, 2), [2, 5), [5, 7), [7, 10)
    assert {tuple(clip) for clip in clips} == set(product((0, 1), (2, 3, 4), (5, 6), (7, 8, 9)))


def test_training_takes_a_span_from_anywhere():
    # SlowFast: start uniform in [0, total - window], then linspace to start + window - 1
    sampling, times = recipe("span", 4, frame_stride=8, fps=30.0), at_rate(200, 60)
    mirror = random.Random(0)
    for clip in drawn(sampling, times):
        start = mirror.uniform(0, 200 - 4 * 8 * 2)
        assert clip == np.linspace(start, start + 63, 4).astype(int).tolist()


@pytest.mark.parametrize("rule", ["dense", "span", "segments", "uniform"])
def test_training_on_a_short_video_repeats_its_last_frame(rule):
    clip = random_clip(recipe(rule, 5), at_rate(3, 30), random.Random(0))
    assert clip == ([0, 1, 2, 2, 2] if rule != "span" else clip)
    assert (clip[0], clip[-1], sorted(clip)) == (0, 2, clip)


def test_a_part_holds_the_frames_that_start_in_it():
    times = at_rate(100, 30)
    rounded = [round(time, 3) for time in times]  # as matroska stores them
    for start, end in product(range(0, 100, 7), repeat=2):
        if start < end:
            wanted = range(start, end)
            for stored in (times, rounded):
                assert frames_between(stored, start / 30, end / 30) == wanted
    assert frames_between(times, None, None) == range(100)
    assert frames_between(times, 1.0, None) == range(30, 100)
    assert frames_between(times, None, 1.0) == range(30)
    assert frames_between(times, None, 1e9) == range(100)
    # between two frames, and while the last one is on screen
    assert frames_between(times, 1.01, 1.02) == range(30, 31)
    assert frames_between(times, 3.32, 4.0) == range(99, 100)
    assert frames_between([0.0], None, 0.5) == range(1)
    with pytest.raises(
        ValueError, match=r"from 3\.4 s on is not in the video: .* at 3\.30 s; chec"
    ):
        frames_between(times, 3.4, 4.0)
