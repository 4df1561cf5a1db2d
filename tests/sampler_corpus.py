"""Frame samplers with a known bug each, and some without: what the auditor is measured by."""

import math
import os
import random

import numpy as np
import torch


def clamp(indices, total):
    return [min(max(int(i), 0), total - 1) for i in indices]


def padded(indices, num_frames):
    return (list(indices) + [indices[-1]] * num_frames)[:num_frames]


# Correct ones.


def lesson(total, num_frames):
    return [int(i * total / num_frames) for i in range(num_frames)]


def lesson_short(total, num_frames):
    if total < num_frames:
        return list(range(total)) + [total - 1] * (num_frames - total)
    return [int(i * total / num_frames) for i in range(num_frames)]


def linspace(total, num_frames):
    return np.linspace(0, total - 1, num_frames).astype(int)


def linspace_rounded(total, num_frames):
    return torch.linspace(0, total - 1, num_frames).round().long()


def centres(total, num_frames):
    return [(2 * i + 1) * total // (2 * num_frames) for i in range(num_frames)]


def right_ends(total, num_frames):
    return [max((i + 1) * total // num_frames - 1, 0) for i in range(num_frames)]


def middle_window(total, num_frames):
    start = max((total - num_frames) // 2, 0)
    return clamp(range(start, start + num_frames), total)


def middle_window_of_stride_two(total, num_frames):
    start = max((total - 2 * (num_frames - 1) - 1) // 2, 0)
    return clamp(range(start, start + 2 * num_frames, 2)[:num_frames], total)


def random_window(total, num_frames, rng=None):
    rng = rng or random.Random(0)
    start = rng.randint(0, max(total - num_frames, 0))
    return clamp(range(start, start + num_frames), total)


def random_parts(total, num_frames, generator=None):
    bounds = [i * total // num_frames for i in range(num_frames + 1)]
    draw = [torch.rand((), generator=generator).item() for _ in range(num_frames)]
    return clamp(
        (
            a + math.floor(d * max(b - a, 1))
            for a, b, d in zip(bounds[:-1], bounds[1:], draw, strict=True)
        ),
        total,
    )


def three_clips(total, num_frames):
    room = max(total - num_frames, 0)
    return [clamp(range(k * room // 2, k * room // 2 + num_frames), total) for k in range(3)]


def global_random_window(total, num_frames):
    start = np.random.randint(0, max(total - num_frames, 0) + 1)
    return clamp(range(start, start + num_frames), total)


# Wrong ones.


def end_included(total, num_frames):
    return np.linspace(0, total, num_frames).astype(int)


def counted_from_one(total, num_frames):
    return [1 + i * total // num_frames for i in range(num_frames)]


def last_frame_forgotten(total, num_frames):
    return np.linspace(0, max(total - 2, 0), num_frames).astype(int)


def first_frame_forgotten(total, num_frames):
    return np.linspace(min(1, total - 1), total - 1, num_frames).astype(int)


def divided_by_t_from_the_last(total, num_frames):
    return [i * (total - 1) // num_frames for i in range(num_frames)]


def floored_step(total, num_frames):
    step = max(total // num_frames, 1)
    return clamp((i * step for i in range(num_frames)), total)


def ceiled_step(total, num_frames):
    step = -(-total // num_frames)
    return clamp((i * step for i in range(num_frames)), total)


def first_frames_only(total, num_frames):
    return clamp(range(num_frames), total)


def last_frames_only(total, num_frames):
    return clamp(range(total - num_frames, total), total)


def half_the_video(total, num_frames):
    return [i * (total // 2) // num_frames for i in range(num_frames)]


def second_half(total, num_frames):
    return [total // 2 + i * (total - total // 2) // num_frames for i in range(num_frames)]


def crash_on_short(total, num_frames):
    assert total >= num_frames
    return lesson(total, num_frames)


def refuses_short(total, num_frames):
    if total < num_frames:
        raise ValueError("too short")
    return lesson(total, num_frames)


def crash_on_one(total, num_frames):
    return [round(i * (total - 1) / (num_frames - 1)) for i in range(num_frames)]


def fewer_on_short(total, num_frames):
    return list(range(total)) if total < num_frames else lesson(total, num_frames)


def one_too_many(total, num_frames):
    return clamp(range(0, total, max(total // num_frames, 1)), total) or [0]


def negative_start(total, num_frames):
    start = (total - num_frames) // 2
    return [min(start + i, total - 1) for i in range(num_frames)]


def minus_one_as_padding(total, num_frames):
    return (
        (list(range(total)) + [-1] * num_frames)[:num_frames]
        if total < num_frames
        else (lesson(total, num_frames))
    )


def fractions(total, num_frames):
    return [i * total / num_frames for i in range(num_frames)]


def looped(total, num_frames):
    if total < num_frames:
        return [i % total for i in range(num_frames)]
    return lesson(total, num_frames)


def window_looped(total, num_frames):
    start = max((total - 2 * num_frames) // 2, 0)
    return [(start + 2 * i) % total for i in range(num_frames)]


def backwards(total, num_frames):
    return lesson(total, num_frames)[::-1]


def shuffled(total, num_frames):
    indices = lesson(total, num_frames)
    random.Random(total).shuffle(indices)
    return indices


def unsorted_draws(total, num_frames, rng=None):
    return [(rng or random).randrange(total) for _ in range(num_frames)]


def drawn_with_repetition(total, num_frames, rng=None):
    return sorted((rng or random).randrange(total) for _ in range(num_frames))


def growing_steps(total, num_frames):
    return [int((i / num_frames) ** 2 * total) for i in range(num_frames)]


def jitter_in_tests(total, num_frames):
    start = random.randint(0, max(total - num_frames, 0))
    return clamp(range(start, start + num_frames), total)


def unseedable(total, num_frames):
    start = int.from_bytes(os.urandom(4), "big") % max(total - num_frames + 1, 1)
    return clamp(range(start, start + num_frames), total)


def seed_overwritten(total, num_frames, seed=None):
    start = random.SystemRandom(seed).randint(0, max(total - num_frames, 0))
    return clamp(range(start, start + num_frames), total)


def never_random(total, num_frames, rng=None):
    return centres(total, num_frames)


def starts_early(total, num_frames, rng=None):
    start = (rng or random).randint(0, max((total - num_frames) // 2, 0))
    return clamp(range(start, start + num_frames), total)


def starts_mostly_early(total, num_frames, rng=None):
    start = int((rng or random).random() ** 3 * (max(total - num_frames, 0) + 1))
    return clamp(range(start, start + num_frames), total)


def upper_bound_excluded(total, num_frames, rng=None):
    start = (rng or random).randrange(0, max(total - num_frames, 1))
    return clamp(range(start, start + num_frames), total)


def lower_bound_excluded(total, num_frames, rng=None):
    start = (rng or random).randint(min(1, max(total - num_frames, 0)), max(total - num_frames, 0))
    return clamp(range(start, start + num_frames), total)


def parts_of_floored_length(total, num_frames, rng=None):
    length = max(total // num_frames, 1)
    return clamp((i * length + (rng or random).randrange(length) for i in range(num_frames)), total)


class Remembering:
    __qualname__ = "Remembering"

    def __init__(self):
        self.calls = 0

    def __call__(self, total, num_frames):
        self.calls += 1
        start = self.calls % 3 if total > num_frames + 3 else 0
        return clamp(range(start, start + num_frames), total)


def same_clip_thrice(total, num_frames):
    return [middle_window(total, num_frames)] * 3


def three_clips_with_a_gap(total, num_frames):
    half = num_frames // 2
    clips = three_clips(max(total - 9, 1), num_frames)
    return [clamp([*clip[:half], *(i + 9 for i in clip[half:])], total) for clip in clips]


def three_clips_of_pairs(total, num_frames):
    return [[i // 2 * 2 for i in clip] for clip in three_clips(total, num_frames)]


def clips_at_the_start(total, num_frames):
    return [clamp(range(k, k + num_frames), total) for k in range(3)]


def clips_of_floored_room(total, num_frames):
    step = max(total - num_frames, 0) // 100
    return [clamp(range(k * step, k * step + num_frames), total) for k in range(3)]


def strided_by_time(total, num_frames, fps=30.0):
    stride = max(round(fps / 7.5), 1)
    start = max((total - stride * (num_frames - 1) - 1) // 2, 0)
    return clamp((start + i * stride for i in range(num_frames)), total)


def rate_not_used(total, num_frames, fps=30.0):
    return strided_by_time(total, num_frames)


CORRECT = (
    *(lesson, lesson_short, linspace, linspace_rounded, centres, right_ends),
    *(middle_window, middle_window_of_stride_two, three_clips, strided_by_time),
)
CORRECT_IN_TRAINING = (random_window, random_parts, global_random_window)

WRONG = {
    end_included: "out_of_range",
    counted_from_one: "out_of_range",
    last_frame_forgotten: "skips_last",
    first_frame_forgotten: "skips_first",
    divided_by_t_from_the_last: "skips_last",
    floored_step: "tail_unreached",
    ceiled_step: "duplicates",
    first_frames_only: "one_end",
    last_frames_only: "one_end",
    half_the_video: "tail_unreached",
    second_half: "head_unreached",
    crash_on_short: "crash",
    refuses_short: "refuses_short",
    crash_on_one: "crash",
    fewer_on_short: "wrong_count",
    one_too_many: "wrong_count",
    negative_start: "negative",
    minus_one_as_padding: "negative",
    fractions: "not_indices",
    looped: "loops",
    window_looped: "loops",
    backwards: "wrong_order",
    shuffled: "wrong_order",
    growing_steps: "uneven",
    jitter_in_tests: "random_in_evaluation",
    rate_not_used: "fps_ignored",
    same_clip_thrice: "clips_repeated",
    three_clips_with_a_gap: "uneven",
    three_clips_of_pairs: "duplicates",
    clips_at_the_start: "clips_one_sided",
    clips_of_floored_room: "clips_repeated",
}
WRONG_IN_TRAINING = {
    unsorted_draws: "wrong_order",
    drawn_with_repetition: "duplicates",
    unseedable: "seed_ignored",
    seed_overwritten: "seed_ignored",
    never_random: "never_varies",
    starts_early: "tail_unreached",
    starts_mostly_early: "biased",
    upper_bound_excluded: "never_last",
    lower_bound_excluded: "never_first",
    parts_of_floored_length: "tail_unreached",
}
