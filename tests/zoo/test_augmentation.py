"""Training transforms: one choice a clip, values against torchvision's functions frame by frame."""

import math

import pytest
import torch
from torchvision.transforms.v2 import functional as F

from registry.records import Preprocess
from zoo.augmentation import Augmentation, augment, mix, seed_of
from zoo.preprocessing import crops

RECIPE = Preprocess(
    img_size=32,
    resize=40,
    interpolation="bilinear",
    antialias=True,
    mean=(0.5, 0.5, 0.5),
    std=(0.5, 0.5, 0.5),
)
NONE = Augmentation.none()
ALL = Augmentation(erasing=1.0, mixup=0.8, cutmix=1.0)


def only(**change):
    """An augmentation that does nothing else."""
    from dataclasses import replace

    return replace(NONE, **change)


def run(frames, augmentation, seed=0, *, may_flip=True):
    return augment(frames, augmentation, RECIPE, seed=seed, may_flip=may_flip)


@pytest.fixture
def frames():
    """Decoded frames that differ from each other: uint8 (T, H, W, C)."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.randint(0, 256, (4, 3, 6, 8), dtype=torch.uint8, generator=generator)
    return F.resize(coarse, [48, 64]).permute(0, 2, 3, 1)


@pytest.fixture
def ramp():
    """A frame whose first two channels are the column and the row: uint8 (1, 200, 250, 3)."""
    rows, columns = torch.meshgrid(torch.arange(200), torch.arange(250), indexing="ij")
    return torch.stack([columns, rows, rows], dim=-1).byte()[None]


def test_every_frame_of_a_clip_is_changed_alike(frames):
    for seed in range(60):
        whole, flipped = run(frames, ALL, seed)
        assert whole.shape == (4, 32, 32, 3)
        for t in range(4):
            alone, flipped_alone = run(frames[t : t + 1], ALL, seed)
            assert torch.equal(whole[t], alone[0])
            assert flipped == flipped_alone


def test_still_clips_stay_still(frames):
    still = frames[:1].expand(5, -1, -1, -1)
    for seed in range(60):
        clip, _ = run(still, ALL, seed)
        assert torch.equal(clip, clip[:1].expand_as(clip))


def test_choices_follow_the_seed_and_leave_torch_alone(frames):
    before = torch.get_rng_state()
    clips = [run(frames, ALL, seed)[0] for seed in (1, 1, 2)]
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(clips[0], clips[1])
    assert not torch.equal(clips[0], clips[2])
    seeds = {seed_of(seed, epoch, index) for seed in (0, 1) for epoch in (0, 1) for index in (0, 1)}
    assert len(seeds) == 8


def test_no_augmentation_is_the_resize_and_centre_crop_of_evaluation(frames):
    clip, flipped = run(frames, NONE)
    assert not flipped
    assert torch.equal(clip, crops(frames, RECIPE)[0])


def test_a_flip_mirrors_every_frame_where_it_may(frames):
    plain = crops(frames, RECIPE)[0]
    clip, flipped = run(frames, only(flip=1.0))
    assert flipped
    assert torch.equal(clip, plain.flip(2))
    clip, flipped = run(frames, only(flip=1.0), may_flip=False)
    assert not flipped
    assert torch.equal(clip, plain)
    count = sum(run(frames, only(flip=0.25), seed)[1] for seed in range(400))
    assert 60 < count < 140
    # what else is chosen does not tell whether the label allowed a flip
    for seed in range(20):
        may, flipped = run(frames, ALL, seed)
        may_not, _ = run(frames, ALL, seed, may_flip=False)
        assert flipped or torch.equal(may, may_not)


def test_crops_have_the_area_and_ratio_that_were_asked_for(ramp):
    areas, ratios, lefts = [], [], []
    for seed in range(150):
        clip, _ = run(ramp, only(crop_scale=(0.2, 0.7), crop_ratio=(0.6, 1.1)), seed)
        columns, rows = clip[0, 16, :, 0].double(), clip[0, :, 16, 1].double()
        # 32 samples lie in the middles of 32 equal parts
        width, height = (float(line[-1] - line[0]) * 32 / 31 for line in (columns, rows))
        areas.append(width * height / (200 * 250))
        ratios.append(width / height)
        lefts.append(float(columns[0]) - width / 64)
    assert 0.18 < min(areas) < 0.24
    assert 0.62 < max(areas) < 0.72
    assert 0.58 < min(ratios) < 0.65
    assert 1.03 < max(ratios) < 1.13
    assert min(lefts) < 8
    assert max(lefts) > 100


@pytest.mark.parametrize(("interpolation", "antialias"), [("bilinear", False), ("bicubic", True)])
def test_a_crop_is_resized_as_the_recipe_says(interpolation, antialias, frames):
    from dataclasses import replace

    recipe = replace(RECIPE, interpolation=interpolation, antialias=antialias)
    whole = only(crop_scale=(1.0, 1.0), crop_ratio=(64 / 48, 64 / 48))
    clip, _ = augment(frames, whole, recipe, seed=0, may_flip=False)
    for t in range(4):
        wanted = F.resized_crop(
            frames[t].permute(2, 0, 1),
            *(0, 0, 48, 64),
            size=[32, 32],
            interpolation=F.InterpolationMode(interpolation),
            antialias=antialias,
        )
        assert torch.equal(clip[t].permute(2, 0, 1), wanted)


def test_one_box_is_erased_in_every_frame(frames):
    plain = crops(frames, RECIPE)[0]
    areas, ratios = [], []
    for seed in range(100):
        clip, _ = run(frames, only(erasing=1.0), seed)
        changed = (clip != plain).any(-1)  # (T, H, W)
        rows, columns = (changed.any(0).any(axis).nonzero().flatten() for axis in (1, 0))
        height, width = (int(line[-1] - line[0]) + 1 for line in (rows, columns))
        box = clip[:, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        # the same noise in every frame; by chance a pixel may keep its value
        assert torch.equal(box, box[:1].expand_as(box))
        assert changed.any(0).sum() > 0.98 * height * width
        areas.append(height * width / 32**2)
        ratios.append(height / width)
        if height * width > 100:
            assert 90 < box.double().mean() < 165
            assert 60 < box.double().std() < 88
    assert 0.01 < min(areas) < 0.05
    assert 0.28 < max(areas) < 0.36
    assert min(ratios) < 0.5
    assert max(ratios) > 2
    touched = [
        not torch.equal(run(frames, only(erasing=0.25), seed)[0], plain) for seed in range(400)
    ]
    assert 60 < sum(touched) < 140


def test_rand_augment_changes_most_clips_and_more_at_a_higher_magnitude(frames):
    plain = crops(frames, RECIPE)[0].double()
    distances = []
    for magnitude in (1, 28):
        some = only(rand_augment_ops=2, rand_augment_magnitude=magnitude)
        clips = [run(frames, some, seed)[0].double() for seed in range(60)]
        distances.append(sum((clip - plain).abs().mean() for clip in clips) / 60)
    assert 1 < distances[0] < 0.7 * distances[1]


def batch(count=6, classes=4):
    """Clips of one value each, (N, C, T, H, W), and labels."""
    values = torch.arange(count).float() + 1
    return values.view(-1, 1, 1, 1, 1).expand(-1, 3, 2, 16, 16).clone(), torch.arange(
        count
    ) % classes


def test_mixup_mixes_pixels_and_targets_in_one_ratio():
    clips, labels = batch()
    before = torch.get_rng_state()
    for seed in range(20):
        mixed, targets = mix(clips, labels, only(mixup=0.8), num_classes=4, seed=seed)
        assert type(mixed) is torch.Tensor
        share = (mixed[1, 0, 0, 0, 0] - 1).item()  # between values 1 and 2: the share of the second
        assert torch.allclose(mixed, share * clips + (1 - share) * clips.roll(1, 0), atol=1e-5)
        wanted = torch.zeros(6, 4)
        for n in range(6):
            wanted[n, labels[n]] += share
            wanted[n, labels[n - 1]] += 1 - share
        assert torch.allclose(targets, wanted, atol=1e-5)
        assert torch.allclose(targets.sum(1), torch.ones(6))
    assert torch.equal(torch.get_rng_state(), before)


def test_cutmix_puts_one_box_into_every_frame_and_counts_its_pixels():
    clips, labels = batch()
    shares = []
    for seed in range(40):
        mixed, targets = mix(clips, labels, only(cutmix=1.0), num_classes=4, seed=seed)
        for n in range(6):
            own, other = (mixed[n] == clips[n]), (mixed[n] == clips[n - 1])
            assert bool((own ^ other).all())
            # one box, the same in every channel and frame
            assert torch.equal(other, other[:1, :1].expand_as(other))
            rows, columns = (other[0, 0].any(axis).sum() for axis in (1, 0))
            assert rows * columns == other[0, 0].sum()
            share = other.double().mean().item()
            assert math.isclose(float(targets[n, labels[n - 1]]), share, abs_tol=1e-6)
            assert math.isclose(float(targets[n, labels[n]]), 1 - share, abs_tol=1e-6)
        shares.append(share)
    assert min(shares) < 0.1
    assert max(shares) > 0.5


def test_both_kinds_of_mixing_take_turns_and_none_is_one_hot():
    clips, labels = batch()
    kinds = set()
    for seed in range(30):
        mixed, _ = mix(clips, labels, ALL, num_classes=4, seed=seed)
        again, _ = mix(clips, labels, ALL, num_classes=4, seed=seed)
        assert torch.equal(mixed, again)
        kinds.add(bool((mixed == mixed.round()).all()))
    assert kinds == {True, False}
    same, targets = mix(clips, labels, NONE, num_classes=5, seed=0)
    assert torch.equal(same, clips)
    assert torch.equal(targets, torch.eye(5)[labels])
    with pytest.raises(ValueError, match="Labels from -1 to 2 are given for 4 classes; .* 0 to 3"):
        mix(clips[:2], torch.tensor([-1, 2]), NONE, num_classes=4, seed=0)
    with pytest.raises(ValueError, match="Labels from 0 to 3 are given for 3 classes"):
        mix(clips, labels, NONE, num_classes=3, seed=0)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"flip": 1.5}, "flip is a probability, 0 to 1, not 1.5"),
        ({"erasing": -0.1}, "erasing is a probability"),
        ({"erasing": math.nan}, "erasing is a probability"),
        ({"mixup": -1.0}, r"mixup is 0 \(none\) or an alpha above, not -1.0"),
        ({"cutmix": math.nan}, "cutmix is 0"),
        ({"crop_scale": (0.5, 0.2)}, r"crop_scale is \(least, most\) of the area, up to 1, not"),
        ({"crop_scale": (0.0, 1.0)}, "crop_scale"),
        ({"erasing_scale": (0.1, 1.1)}, "erasing_scale"),
        ({"crop_ratio": (0.0, 1.0)}, r"crop_ratio is \(least, most\), above 0"),
        ({"erasing_ratio": (2.0, 1.0)}, "erasing_ratio"),
        ({"rand_augment_ops": -1}, r"rand_augment_ops is 0 \(none\) or more, not -1"),
        ({"rand_augment_ops": 1.5}, "rand_augment_ops"),
        ({"rand_augment_magnitude": 31}, "rand_augment_magnitude is a whole number, 0 to 30, not"),
    ],
)
def test_impossible_options_are_refused(option, message):
    with pytest.raises(ValueError, match=message):
        Augmentation(**option)
