import weakref
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
import videos

from registry.records import Preprocess, Sampling
from zoo import clips
from zoo._frame_decoder import FrameDecoder
from zoo.clips import iter_clips, load_clip
from zoo.preprocessing import preprocess
from zoo.sampling import clip_indices, multi_clip, uniform
from zoo.video import Video

SAMPLING = Sampling(
    rule="dense",
    num_frames=8,
    frame_stride=2,
    fps=None,
    num_clips=10,
    num_crops=3,
    average="logits",
)
# raw pixels in [0, 1] at the video's own size, so that frames can be read back
PIXELS = Preprocess(
    img_size=48,
    resize=48,
    interpolation="bilinear",
    antialias=False,
    mean=(0.0, 0.0, 0.0),
    std=(1.0, 1.0, 1.0),
)


def model(**sampling):
    record = SimpleNamespace(sampling=replace(SAMPLING, **sampling), preprocess=PIXELS)
    return SimpleNamespace(record=record)


def numbers(view):
    """Read the frames' numbers from one left crop (C, T, 48, 48) of a 64x48 video."""
    frames = (view * 255).round().byte().permute(1, 2, 3, 0)
    padded = torch.zeros(len(frames), 48, 64, 3, dtype=torch.uint8)
    padded[:, :, :48] = frames
    return videos.numbers_of(padded.numpy())


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return videos.write_video(tmp_path_factory.mktemp("clips") / "a.mp4", 100)


def test_one_clip_is_the_central_one(path):
    views = load_clip(path, model())
    assert (views.shape, views.dtype) == ((1, 3, 8, 48, 48), torch.float32)
    assert views.is_contiguous(memory_format=torch.channels_last_3d)
    left = load_clip(path, model(), num_crops=3)[0]
    assert numbers(left) == multi_clip(100, 8, 1, stride=2)[0]


def test_views_are_clips_by_crops(path):
    views = load_clip(path, model(), num_clips=4, num_crops=3)
    assert views.shape == (12, 3, 8, 48, 48)
    assert views.is_contiguous(memory_format=torch.channels_last_3d)
    assert [numbers(view) for view in views[::3]] == multi_clip(100, 8, 4, stride=2)
    with Video(path) as video:
        (first, *_) = video.read([0])
    whole = first.permute(2, 0, 1) / 255  # (C, H, W)
    for view, start in zip(views[:3], (0, 8, 16), strict=True):
        assert torch.equal(view[:, 0], whole[:, :, start : start + 48])


def test_sampling_is_changed_by_name_or_record(path):
    by_name = load_clip(path, model(), sampling="uniform", num_crops=3)
    assert numbers(by_name[0]) == uniform(100, 8)
    timed = replace(SAMPLING, rule="dense", num_frames=4, frame_stride=1, fps=15.0)
    by_record = load_clip(path, model(), sampling=timed, num_crops=3)
    assert numbers(by_record[0]) == [46, 48, 50, 52]
    assert numbers(load_clip(path, model(), sampling="segments", num_crops=3)[0])[0] == 6
    assert numbers(load_clip(path, model(), sampling="dense", num_crops=3)[0])[:2] == [42, 44]


def test_a_short_video_repeats_its_last_frame(tmp_path):
    short = videos.write_video(tmp_path / "a.mp4", 5)
    for rule in ("uniform", "segments"):
        views = load_clip(short, model(), sampling=rule, num_crops=3)
        assert numbers(views[0]) == [0, 1, 2, 3, 4, 4, 4, 4]
    assert numbers(load_clip(short, model(), num_crops=3)[0]) == [0, 2, 4, 4, 4, 4, 4, 4]
    timed = load_clip(short, model(fps=30.0), num_crops=3)
    assert numbers(timed[0]) == [0, 2, 4, 4, 4, 4, 4, 4]
    assert len(load_clip(short, model(), num_clips="all")) == 1


def test_windows_over_a_whole_video_decode_it_once(path, monkeypatch):
    decoded, original = [], FrameDecoder._numbered

    def counting(self, frames):
        for item in original(self, frames):
            decoded.append(item[0])
            yield item

    monkeypatch.setattr(FrameDecoder, "_numbered", counting)
    whole = list(iter_clips(path, model(frame_stride=1), num_clips="all", num_crops=3))
    seen = [numbers(clip[0]) for clip in whole]
    assert seen[:12] == [list(range(start, start + 8)) for start in range(0, 96, 8)]
    assert seen[12:] == [list(range(92, 100))]
    assert decoded == list(range(100))
    # overlapping windows share what they decode
    decoded.clear()
    clips = list(iter_clips(path, model(), num_clips=20, num_crops=3))
    assert [numbers(clip[0]) for clip in clips] == multi_clip(100, 8, 20, stride=2)
    assert decoded == sorted(set(decoded))


@pytest.mark.parametrize("rule", ["dense", "uniform", "span", "segments"])
@pytest.mark.parametrize("num_clips", [10, "all"])
def test_every_frame_is_resized_once_and_the_values_are_those_of_each_clip(
    rule, num_clips, path, monkeypatch
):
    resized, original = [], clips.resize_frame

    def counting(frame, recipe):
        resized.append(frame)
        return original(frame, recipe)

    pixels = replace(PIXELS, img_size=32, resize=40, antialias=True, mean=(0.4,) * 3)
    stand_in = model(rule=rule)
    stand_in.record.preprocess = pixels
    monkeypatch.setattr(clips, "resize_frame", counting)
    views = load_clip(path, stand_in, num_clips=num_clips, num_crops=3)
    with Video(path) as video:
        chosen = list(clip_indices(stand_in.record.sampling, video.times, num_clips))
        assert len(resized) == len({index for clip in chosen for index in clip})
        naive = [preprocess(video.read(clip), pixels, num_crops=3) for clip in chosen]
    assert torch.equal(views, torch.cat(naive))


def test_resized_frames_are_forgotten_when_no_clip_needs_them(path, monkeypatch):
    alive, original = [], clips.resize_frame

    def watching(frame, recipe):
        small = original(frame, recipe)
        alive.append(weakref.ref(small))
        return small

    monkeypatch.setattr(clips, "resize_frame", watching)
    most = 0
    for _ in iter_clips(path, model(), num_clips=20):
        most = max(most, sum(frame() is not None for frame in alive))
    # a clip spans 15 frames, and those that begin within it end up to 14 later
    assert most <= 30


def test_few_frames_are_held_at_a_time(path, monkeypatch):
    asked = []
    original = Video.frames

    def watching(self, indices, **how):
        indices = set(indices)
        asked.append(len(indices))
        return original(self, indices, **how)

    monkeypatch.setattr(Video, "frames", watching)
    clips = iter_clips(path, model(frame_stride=1), num_clips="all")
    next(clips)
    assert asked == [8]
    assert len(list(clips)) == 12
    assert max(asked) <= 16


def test_an_open_video_stays_open_and_a_path_is_closed(path):
    with Video(path) as video:
        first = load_clip(video, model())
        assert torch.equal(load_clip(video, model()), first)
        assert video.read([0]).shape == (1, 48, 64, 3)
    assert torch.equal(load_clip(str(path), model()), first)
    with pytest.raises(ValueError, match="is closed"):
        load_clip(video, model())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_clips": 0}, "num_clips=0 is given; give 1 or more, or 'all'"),
        ({"num_clips": "al"}, "num_clips='al' is given"),
        ({"num_crops": 2}, r"num_crops=2 is given; 1 \(centre\) and 3"),
        (
            {"sampling": "unifrom"},
            "Unknown sampling 'unifrom'. .* segments, span. Did you mean 'uniform'",
        ),
        ({"sampling": "best"}, "Unknown sampling 'best'. Known: uniform, dense, segments, span.$"),
    ],
)
def test_impossible_requests_are_refused(arguments, message, path):
    with pytest.raises(ValueError, match=message):
        load_clip(path, model(), **arguments)
    with pytest.raises(ValueError, match=message):
        iter_clips(path, model(), **arguments)


def test_a_model_without_a_record_is_refused(path):
    with pytest.raises(ValueError, match=r"no record of its input; build it with zoo\.create"):
        load_clip(path, SimpleNamespace(record=None))


def test_what_cannot_be_read_is_refused_at_once(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.mp4"):
        iter_clips(tmp_path / "none.mp4", model())
