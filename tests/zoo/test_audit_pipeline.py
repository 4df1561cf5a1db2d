"""Whole pipelines with a planted bug each, beside the recipe of a model."""

import warnings
from dataclasses import replace

import pytest
import torch
from torch.nn.functional import interpolate

import zoo
from zoo.audit import audit_pipeline
from zoo.preprocessing import preprocess
from zoo.video import Video


class Model:
    """A model, as far as its input goes."""

    def __init__(self, name):
        with warnings.catch_warnings(), torch.device("meta"):
            warnings.simplefilter("ignore")  # that its weights are random
            self.record = zoo.create(name).record


@pytest.fixture(scope="module")
def nano():
    """A record that spreads frames over the video."""
    model = Model("r2p1d_nano")
    sampling = replace(model.record.sampling, rule="uniform", frame_stride=1, fps=None)
    model.record = replace(model.record, sampling=sampling)
    return model


@pytest.fixture(scope="module")
def timed():
    """A record that counts frames by time."""
    model = Model("r2p1d_nano")
    sampling = replace(model.record.sampling, rule="dense", frame_stride=4, fps=30.0)
    model.record = replace(model.record, sampling=sampling)
    return model


def clip_of(path, record, *, indices=None, pixels=None):
    """Frames by their numbers, prepared: (C, T, H, W)."""
    with Video(path) as video:
        total, t = len(video), record.sampling.num_frames
        chosen = indices(total, t) if indices else [i * total // t for i in range(t)]
        return preprocess(video.read(chosen), pixels or record.preprocess)[0]


def normalise(clip, record):
    mean, std = (
        torch.tensor(v)[:, None, None, None]
        for v in (record.preprocess.mean, record.preprocess.std)
    )
    return (clip - mean) / std


def raw(clip, record):
    mean, std = (
        torch.tensor(v)[:, None, None, None]
        for v in (record.preprocess.mean, record.preprocess.std)
    )
    return clip * std + mean


def squeezed(path, record):
    with Video(path) as video:
        frames = video.read([i * len(video) // 8 for i in range(8)])
    small = interpolate(frames.permute(0, 3, 1, 2).float() / 255, record.preprocess.img_size)
    return normalise(small.transpose(0, 1), record)


def uncropped(path, record):
    side = record.preprocess.img_size
    with Video(path) as video:
        frames = video.read([i * len(video) // 8 for i in range(8)]).float() / 255
    top, left = (video.height - side) // 2, (video.width - side) // 2
    return normalise(frames[:, top : top + side, left : left + side].permute(3, 0, 1, 2), record)


def sometimes_reversed(clip):
    return clip.flip(1) if torch.rand(()) < 0.5 else clip


def sometimes_mirrored(clip):
    return clip.flip(-1) if torch.rand(()) < 0.5 else clip


BUGS = {
    "wrong_channel_order": lambda p, r: clip_of(p, r).flip(0),
    "mirrored": lambda p, r: clip_of(p, r).flip(-1),
    "wrong_axes": lambda p, r: clip_of(p, r).transpose(0, 1),
    "wrong_range": lambda p, r: clip_of(p, r) * 255,
    "normalised_twice": lambda p, r: normalise(clip_of(p, r), r),
    "wrong_normalisation": lambda p, r: raw(clip_of(p, r), r),
    "wrong_frame_count": lambda p, r: clip_of(p, r)[:, ::2],
    "wrong_frames": lambda p, r: clip_of(p, r, indices=lambda total, t: list(range(t))),
    "wrong_size": lambda p, r: clip_of(p, r)[..., :-8, :-8],
    "aspect_changed": squeezed,
    "wrong_scale": uncropped,
    "not_repeatable": lambda p, r: sometimes_reversed(clip_of(p, r)),
    "views_repeated": lambda p, r: torch.stack([clip_of(p, r)] * 3),
    "pipeline_crash": lambda p, r: clip_of(p, r)[:, :, :, 1000:].max(),
}


@pytest.mark.parametrize(
    "rule", [pytest.param(r, marks=() if r == "wrong_range" else pytest.mark.slow) for r in BUGS]
)
def test_each_bug_is_found_and_nothing_else(nano, rule):
    report = audit_pipeline(lambda path: BUGS[rule](path, nano.record), nano)
    assert report.names("error") | report.names("warning") == {rule}


@pytest.mark.slow
def test_frames_chosen_by_number_where_time_is_asked_for(timed):
    def by_number(path):
        return clip_of(
            path,
            timed.record,
            indices=lambda total, t: [(total - 4 * (t - 1) - 1) // 2 + 4 * i for i in range(t)],
        )

    assert audit_pipeline(by_number, timed).names("error") == {"fps_ignored"}
    assert audit_pipeline(lambda path: zoo.load_clip(path, timed), timed).findings == ()


def test_frames_in_step_with_the_rate_end_no_audit(timed):
    def every_tenth(path):
        return clip_of(path, timed.record, indices=lambda total, _: list(range(0, total, 10)))

    report = audit_pipeline(every_tenth, timed)
    assert report.names("error") == {"wrong_frame_count"}


@pytest.mark.slow
def test_flips_where_labels_name_a_side(nano):
    def flips(path):
        return sometimes_mirrored(clip_of(path, nano.record))

    labels = ("waving", "moving from left to right")
    found = audit_pipeline(flips, nano, train=True, labels=labels)
    assert found.names("error") == {"flips_direction_labels"}
    assert audit_pipeline(flips, nano, train=True, labels=("waving",)).ok
    assert audit_pipeline(flips, nano).names("error") == {"not_repeatable"}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["r2p1d_18.k400", "slow_r50.k400", "c3d", "videomae_b.ssv2"])
def test_the_pipelines_of_the_zoo_pass(name):
    model = Model(name)
    assert audit_pipeline(lambda path: zoo.load_clip(path, model), model).findings == ()


@pytest.mark.slow
def test_torchvisions_own_transforms_pass_for_its_weights():
    from torchvision.models.video import R2Plus1D_18_Weights

    model = Model("r2p1d_18.k400")
    transforms = R2Plus1D_18_Weights.KINETICS400_V1.transforms()

    def pipeline(path):
        with Video(path) as video:
            start = (len(video) - 15 - 1) // 2
            frames = video.read(range(start, start + 16))
        return transforms(frames.permute(0, 3, 1, 2))

    report = audit_pipeline(pipeline, model)
    # The record counts frames at torchvision's rate, which this pipeline does not.
    assert report.names("error") <= {"fps_ignored", "wrong_frames"}


def test_a_model_without_a_record_is_refused():
    with pytest.raises(ValueError, match="zoo.create made"):
        audit_pipeline(lambda path: path, type("Bare", (), {"record": None})())
