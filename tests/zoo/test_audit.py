"""The auditor finds each planted bug, and finds none where there is none."""

import json
import random
from typing import NamedTuple

import numpy as np
import pytest
import torch
from sampler_corpus import (
    CORRECT,
    CORRECT_IN_TRAINING,
    WRONG,
    WRONG_IN_TRAINING,
    Remembering,
    centres,
    clamp,
    first_frames_only,
    lesson,
    middle_window,
)

from zoo import sampling
from zoo.audit import RULES, audit_sampler
from zoo.audit.conventions import (
    from_mmaction,
    from_pytorchvideo,
    from_seconds,
    from_seek,
    from_tensors,
    from_torchvision,
    from_transformers,
)

ALL_WRONG = [(s, False, r) for s, r in WRONG.items()]
ALL_WRONG += [(s, True, r) for s, r in WRONG_IN_TRAINING.items()]


def name(value):
    return getattr(value, "__name__", "")


def test_the_corpus_is_as_large_as_promised():
    assert len(ALL_WRONG) + 1 >= 30
    assert len(CORRECT) + len(CORRECT_IN_TRAINING) >= 10
    # An auditor that always says the same would pass no such corpus.
    assert len({rule for _, _, rule in ALL_WRONG}) >= 20


@pytest.mark.parametrize(("sampler", "train", "rule"), ALL_WRONG, ids=name)
def test_each_bug_is_found(sampler, train, rule):
    report = audit_sampler(sampler, train=train)
    assert rule in report.names()
    assert report.ok == (not report.names("error"))


def test_a_sampler_with_a_memory_is_found():
    assert "seed_ignored" in audit_sampler(Remembering()).names("error")


@pytest.mark.parametrize("sampler", CORRECT, ids=name)
def test_no_false_alarm(sampler):
    report = audit_sampler(sampler)
    assert report.names("error") | report.names("warning") == set()


@pytest.mark.parametrize("sampler", CORRECT_IN_TRAINING, ids=name)
def test_no_false_alarm_in_training(sampler):
    report = audit_sampler(sampler, train=True)
    assert report.names("error") | report.names("warning") == set()


@pytest.mark.parametrize(
    ("sampler", "train"),
    [
        (sampling.uniform, False),
        (sampling.segments, False),
        (sampling.segments, True),
        (sampling.dense, False),
        (sampling.dense, True),
        (lambda total, t: sampling.dense(total, t, stride=4), False),
        (lambda total, t: sampling.multi_clip(total, t, 10, stride=2), False),
    ],
)
def test_the_samplers_of_the_zoo_pass(sampler, train):
    report = audit_sampler(sampler, train=train)
    assert report.names("error") | report.names("warning") == set()


def test_the_lessons_rule_passes_with_a_note_on_its_left_alignment():
    report = audit_sampler(lesson)
    assert report.ok
    assert "left_aligned" in report.names("note")


def test_the_example_is_the_smallest_one():
    finding = next(f for f in audit_sampler(first_frames_only).findings if f.rule == "one_end")
    assert finding.level == "warning"

    def off_by_one(total, num_frames):
        return [i * (total + 1) // num_frames for i in range(num_frames)]

    finding = audit_sampler(off_by_one).errors[0]
    # By hand: T = 2 and one frame give 0 * 2 // 2 = 0 and 1 * 2 // 2 = 1, of a video with frame 0.
    assert (finding.rule, finding.example) == ("out_of_range", "sampler(1, 2) -> [0, 1]")


def test_training_and_testing_are_compared():
    report = audit_sampler(middle_window, evaluation=centres)
    assert "train_test_differ" in report.names("warning")
    assert audit_sampler(lesson, evaluation=centres).names("warning") == set()
    # Half as many frames over the same span.
    half = audit_sampler(lesson, evaluation=lambda total, t: lesson(total, t)[:: t - 1])
    assert "train_test_differ" in half.names("warning")


def test_other_conventions():
    def places_of(count):
        return lambda video: video[:, [i * video.shape[1] // count for i in range(count)]]

    report = audit_sampler(from_tensors(places_of))
    assert report.names("error") | report.names("warning") == set()
    assert "left_aligned" in report.names("note")
    moments = from_seconds(lambda duration, t: [duration * (i + 0.5) / t for i in range(t)])
    assert audit_sampler(moments).names("error") == set()
    # The arguments stand the other way round, so that the wrong reading is found.
    assert audit_sampler(from_seek(lambda t, _, total: sampling.uniform(total, t))).ok
    assert not audit_sampler(lambda t, total: sampling.uniform(total, t)).ok


class SampleFrames:
    """mmaction2's transform as far as its dict goes: windows of T in a row, evenly spread.

    Its `frame_inds` is flat, clip after clip, and counts from `start_index`.
    """

    def __init__(self, clip_len, num_clips=1, extra=0):
        self.clip_len, self.num_clips, self.extra = clip_len, num_clips, extra

    def __call__(self, results):
        room = max(results["total_frames"] - self.clip_len, 0)
        starts = [k * room // max(self.num_clips - 1, 1) for k in range(self.num_clips)]
        rows = [clamp(range(s, s + self.clip_len), results["total_frames"]) for s in starts]
        flat = np.concatenate([*rows, [0] * self.extra]).astype(int)
        return {**results, "frame_inds": flat + results["start_index"]}


def test_mmactions_dict_is_read_clip_by_clip():
    sampler = from_mmaction(lambda t: SampleFrames(t, num_clips=3))
    assert sampler(20, 4).tolist() == [[0, 1, 2, 3], [8, 9, 10, 11], [16, 17, 18, 19]]
    assert audit_sampler(sampler).ok
    long = audit_sampler(from_mmaction(lambda t: SampleFrames(t, extra=1)))
    assert long.names("error") == {"wrong_count"}


def test_clips_in_seconds_hold_the_frames_that_start_in_them():
    class Cut(NamedTuple):
        clip_start_sec: float
        clip_end_sec: float
        is_last_clip: bool

    def second_by_second(end, duration, _):
        return Cut(end, end + 1, end + 2 > duration)

    sampler = from_pytorchvideo(lambda: second_by_second)
    # At 30 frames a second; pytorchvideo takes frames from the start on and before the end.
    assert sampler(75, 30) == [[*range(30)], [*range(30, 60)]]
    assert sampler(75, 2) == [[0, 29], [30, 59]]


def test_torchvisions_clips_are_frames_in_a_row():
    sampler = from_torchvision(lambda clips: [0, len(clips) - 1], step=3)
    assert sampler(11, 4) == [[0, 1, 2, 3], [6, 7, 8, 9]]


def test_a_seeking_function_is_told_the_distance():
    sampler = from_seek(lambda t, rate, total: [min(i * rate, total - 1) for i in range(t)], rate=2)
    assert sampler(10, 3) == [0, 2, 4]


@pytest.mark.slow
def test_transformers_samplers_are_told_the_duration():
    pytest.importorskip("transformers.video_utils")
    told = []
    sampler = from_transformers(lambda metadata, num_frames: told.append((metadata, num_frames)))
    sampler(60, 4)
    ((facts, num_frames),) = told
    assert (facts.total_num_frames, facts.fps, facts.duration, num_frames) == (60, 30, 2, 4)


def test_an_audit_leaves_every_generator_as_it_was():
    def draws():
        return random.random(), float(np.random.rand()), float(torch.rand(()))

    def sampler(total, num_frames):
        draws()
        return lesson(total, num_frames)

    state = torch.get_rng_state(), np.random.get_state(), random.getstate()
    expected = draws()
    torch.set_rng_state(state[0])
    np.random.set_state(state[1])
    random.setstate(state[2])
    audit_sampler(sampler, lengths=(4,))
    assert draws() == expected


def test_a_report_says_what_and_why_and_how_to_mend():
    report = audit_sampler(first_frames_only, name="mine")
    text = report.text()
    for part in ("mine: takes a window", "why it matters: ", "mend: ", RULES["one_end"].mend):
        assert part in text
    data = json.loads(json.dumps(report.to_json()))
    assert data["ok"] is True
    assert [item["level"] for item in data["findings"]] == ["warning", "note"]


def test_lengths_that_tell_nothing_are_refused():
    with pytest.raises(ValueError, match="one above 1"):
        audit_sampler(lesson, lengths=(1,))
