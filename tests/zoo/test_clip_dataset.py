"""Clips of a data set's videos: the views of `load_clip`, or a random, augmented one."""

from dataclasses import replace
from itertools import pairwise
from types import SimpleNamespace

import pytest
import torch
import videos
from torch.utils.data import DataLoader

from registry.records import Preprocess, Sampling
from zoo.augmentation import Augmentation
from zoo.clip_dataset import ClipDataset, UnreadableVideoError, collate
from zoo.clips import load_clip
from zoo.datasets import VideoDataset, VideoItem
from zoo.preprocessing import preprocess
from zoo.video import Video

SAMPLING = Sampling(
    rule="dense", num_frames=4, frame_stride=3, fps=None, num_clips=1, num_crops=1, average="logits"
)
# raw pixels at the video's own size, so that frames can be read back
PIXELS = Preprocess(
    img_size=48,
    resize=48,
    interpolation="bilinear",
    antialias=False,
    mean=(0.0, 0.0, 0.0),
    std=(1.0, 1.0, 1.0),
)
RULES = {
    "dense": SAMPLING,
    "dense by time": replace(SAMPLING, fps=15.0, frame_stride=2),
    "span": replace(SAMPLING, rule="span", fps=30.0),
    "segments": replace(SAMPLING, rule="segments", frame_stride=1),
    "uniform": replace(SAMPLING, rule="uniform", frame_stride=1),
}


def recipe(sampling=SAMPLING, **pixels):
    return SimpleNamespace(sampling=sampling, preprocess=replace(PIXELS, **pixels))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")
    for name, total in (("a", 100), ("b", 40), ("short", 3)):
        videos.write_video(folder / f"{name}.mp4", total)
    # no crop cuts its numbers off
    videos.write_video(folder / "square.mp4", 100, size=(48, 48))
    (folder / "broken.mp4").write_bytes((folder / "a.mp4").read_bytes()[:500])
    return folder


def dataset(folder, *names, **change):
    items = tuple(
        VideoItem(path=folder / f"{name}.mp4", label=index % 2, video_id=name)
        for index, name in enumerate(names)
    )
    return VideoDataset(name="x", split="train", labels=("left", "right"), items=items, **change)


def part(folder, start, end, name="square"):
    item = VideoItem(
        path=folder / f"{name}.mp4", label=0, video_id="p", start_seconds=start, end_seconds=end
    )
    return VideoDataset(name="x", split="train", labels=("a",), items=(item,))


def numbers(clip):
    """Read the frames' numbers from a clip (C, T, 48, 48) of the square video."""
    return videos.numbers_of((clip * 255).round().byte().permute(1, 2, 3, 0).numpy())


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("views", [(1, 1), (3, 1), (2, 3), ("all", 1)])
def test_evaluation_gives_the_views_of_load_clip(rule, views, folder):
    how = recipe(RULES[rule], mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.4), img_size=40, resize=44)
    names = ("a", "short", "b")
    num_clips, num_crops = views
    clips = ClipDataset(
        dataset(folder, *names), how, train=False, num_clips=num_clips, num_crops=num_crops
    )
    assert len(clips) == 3
    for index, name in enumerate(names):
        sample = clips[index]
        wanted = load_clip(
            folder / f"{name}.mp4",
            SimpleNamespace(record=how),
            num_clips=num_clips,
            num_crops=num_crops,
        )
        assert torch.equal(sample.clip, wanted)
        assert (sample.label, sample.index, sample.video_id) == (index % 2, index, name)
        assert sample.error == ""
        assert torch.equal(torch.cat(list(clips.views(index))), wanted)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("train", [False, True])
def test_only_the_part_is_seen(rule, train, folder):
    clips = ClipDataset(part(folder, 1.0, 2.0), recipe(RULES[rule]), train=train)
    seen = set()
    for epoch in range(30 if train else 1):
        clips.set_epoch(epoch)
        seen |= set(numbers(clips[0].clip[0]))
    assert min(seen) >= 30
    assert max(seen) < 60
    assert not train or (min(seen) < 34 and max(seen) > 55)


def test_a_part_counts_as_a_video_of_its_own(folder):
    # 30 frames, four of them three apart in the middle: the first start is 30 + (30 - 10) / 2
    clips = ClipDataset(part(folder, 1.0, 2.0), recipe(), train=False, num_clips=2)
    assert numbers(clips[0].clip[0]) == [30, 33, 36, 39]
    assert numbers(clips[0].clip[1]) == [50, 53, 56, 59]
    assert numbers(ClipDataset(part(folder, 1.0, 2.0), recipe(), train=False)[0].clip[0])[0] == 40
    late = ClipDataset(part(folder, 9.0, 10.0), recipe(), train=False)[0]
    assert (late.clip.shape, late.index) == ((0,), 0)
    assert "from 9 s on is not in the video: its last frame is at 3.30 s" in late.error


def test_training_clips_follow_the_seed_the_epoch_and_the_index_alone(folder):
    videos_of = dataset(folder, *["square"] * 6)
    how = recipe(img_size=32, resize=40)

    def clips(seed=0, epoch=0):
        made = ClipDataset(videos_of, how, train=True, augmentation=Augmentation(), seed=seed)
        made.set_epoch(epoch)
        return made

    first = [clips()[index].clip for index in range(6)]
    for again in ([clips()[index].clip for index in (5, 4, 3, 2, 1, 0)][::-1], first):
        assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    others = [*first, clips(seed=1)[0].clip, clips(epoch=1)[0].clip, clips(0, 2)[0].clip]
    assert len({clip.double().sum().item() for clip in others}) == 9


def test_workers_that_stay_alive_see_the_epoch(folder):
    made = ClipDataset(dataset(folder, *["square"] * 4), recipe(), train=True)
    loader = DataLoader(
        made, batch_size=4, num_workers=2, persistent_workers=True, collate_fn=collate
    )
    for epoch in (0, 3):
        made.set_epoch(epoch)
        (batch,) = loader
        alone = [made[index].clip for index in range(4)]
        assert torch.equal(batch.clips, torch.stack(alone))


def test_training_without_augmentation_changes_nothing_but_the_frames(folder):
    made = ClipDataset(dataset(folder, "square"), recipe(), train=True)
    starts = set()
    for epoch in range(60):
        made.set_epoch(epoch)
        clip = made[0].clip
        assert clip.is_contiguous(memory_format=torch.channels_last_3d)
        found = numbers(clip[0])
        assert [b - a for a, b in pairwise(found)] == [3, 3, 3]
        with Video(folder / "square.mp4") as video:
            assert torch.equal(clip, preprocess(video.read(found), PIXELS))
        starts.add(found[0])
    assert len(starts) > 30


@pytest.mark.parametrize(
    ("change", "swapped"),
    [
        ({}, {0: 0, 1: 1}),
        ({"mirrored": {0: 1, 1: 0}}, {0: 1, 1: 0}),
        ({"mirrored": {1: 1}}, {1: 1}),
        ({"flips_allowed": False}, {}),
    ],
    ids=["free", "swapped", "one refused", "all refused"],
)
def test_a_flip_asks_the_data_set(change, swapped, folder):
    always = replace(Augmentation.none(), flip=1.0)
    videos_of = dataset(folder, "a", "a", **change)
    plain = ClipDataset(videos_of, recipe(), train=True)
    made = ClipDataset(videos_of, recipe(), train=True, augmentation=always)
    for index in (0, 1):
        clip, wanted = made[index].clip, plain[index].clip
        assert torch.equal(clip, wanted.flip(-1) if index in swapped else wanted)
        assert made[index].label == swapped.get(index, index)


def test_gray_and_bgr_recipes_get_their_channels(folder):
    videos_of = dataset(folder, "a")
    for change in (
        {"mean": (0.4,), "std": (0.2,)},
        {"mean": (0.1, 0.2, 0.3), "std": (0.4, 0.5, 0.6), "channel_order": "bgr"},
    ):
        short = replace(SAMPLING, num_frames=100, frame_stride=1)  # one window only
        how = recipe(short, **change)
        wanted = load_clip(folder / "a.mp4", SimpleNamespace(record=how))
        assert torch.equal(ClipDataset(videos_of, how, train=True)[0].clip, wanted)
        crop = replace(Augmentation.none(), crop_scale=(0.5, 0.9))
        clip = ClipDataset(videos_of, how, train=True, augmentation=crop)[0].clip
        assert clip.shape == wanted.shape
        assert (clip.mean() - wanted.mean()).abs() < 0.3


@pytest.mark.parametrize("train", [False, True])
def test_a_video_that_cannot_be_read_is_named_and_never_replaced(train, folder):
    videos_of = dataset(folder, "a", "broken", "none", "b")
    made = ClipDataset(videos_of, recipe(), train=train)
    samples = [made[index] for index in range(4)]
    assert [sample.clip.shape[0] for sample in samples] == [1, 0, 0, 1]
    batch = collate(samples)
    assert torch.equal(batch.clips, torch.stack([samples[0].clip, samples[3].clip]))
    assert batch.labels.tolist() == [0, 1]
    assert batch.indices.tolist() == [0, 3]
    (broken, why), (none, nothing) = batch.failures
    assert (broken, none) == ("broken", "none")
    assert "broken.mp4 cannot be opened as a video: its index (the moov box) is missing" in why
    assert "There is no file" in nothing
    empty = collate(samples[1:3])
    assert (empty.clips.shape, empty.labels.shape) == ((0,) * 6, (0,))
    assert len(empty.failures) == 2
    with pytest.raises(UnreadableVideoError, match=r"broken\.mp4 cannot be opened"):
        list(ClipDataset(videos_of, recipe(), train=False).views(1))


def test_a_video_that_breaks_off_in_the_middle_of_its_clips_is_a_failure(folder, monkeypatch):
    from zoo._frame_decoder import FrameDecoder

    original = FrameDecoder._frame

    def failing(self, index):
        if index > 50:
            raise ValueError("damaged there")
        return original(self, index)

    monkeypatch.setattr(FrameDecoder, "_frame", failing)
    made = ClipDataset(dataset(folder, "a"), recipe(), train=False, num_clips=5)
    assert made[0].error == "damaged there"
    assert made[0].clip.shape == (0,)


def test_a_fault_of_the_recipe_is_no_fault_of_the_video(folder):
    for train in (False, True):
        made = ClipDataset(dataset(folder, "a"), recipe(img_size=60, resize=50), train=train)
        with pytest.raises(ValueError, match="too small for a crop of 60 pixels"):
            made[0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"train": True, "num_clips": 2}, "num_clips=2 and num_crops=1 are given for training"),
        ({"train": True, "num_crops": 3}, "num_clips=1 and num_crops=3 are given for training"),
        ({"train": False, "num_crops": 2}, "num_crops=2 is given; 1"),
        ({"train": False, "num_clips": 0}, "num_clips=0 is given; give 1 or more"),
        (
            {"train": False, "augmentation": Augmentation.none()},
            "An augmentation is given for evaluation",
        ),
        ({"train": True, "seed": -1}, "seed=-1 is given; give 0 or more"),
    ],
)
def test_impossible_requests_are_refused(arguments, message, folder):
    with pytest.raises(ValueError, match=message):
        ClipDataset(dataset(folder, "a"), recipe(), **arguments)


def test_optical_flow_is_refused_at_once():
    empty = VideoDataset(name="x", split="train", labels=(), items=())
    with pytest.raises(ValueError, match="This model takes optical flow"):
        ClipDataset(empty, recipe(mean=(0.5, 0.5), std=(0.5, 0.5)), train=False)
