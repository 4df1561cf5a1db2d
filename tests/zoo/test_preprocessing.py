from dataclasses import replace

import numpy as np
import pytest
import torch
from torchvision.transforms import functional as F
from torchvision.transforms._presets import VideoClassification

from registry.records import Preprocess
from zoo.preprocessing import preprocess, resized

RECIPE = Preprocess(
    img_size=112,
    resize=(128, 171),
    interpolation="bilinear",
    antialias=False,
    mean=(0.43216, 0.394666, 0.37645),
    std=(0.22803, 0.22145, 0.216989),
)


def scene(height, width, num_frames=3):
    """Draw smooth shapes with sharp edges and grain, as a camera gives: uint8 (T, H, W, C)."""
    y, x = np.mgrid[:height, :width]
    grain = np.random.default_rng(0).normal(0, 6, (num_frames, height, width, 3))
    frames = []
    for t in range(num_frames):
        wave = [127 + 110 * np.sin(x / (7 + c) + t) * np.cos(y / (11 + c)) for c in range(3)]
        frame = np.stack(wave, -1)
        frame[height // 3 : height // 2, width // 4 + 5 * t : width // 2 + 5 * t] = (250, 10, 90)
        frames.append(frame)
    return torch.from_numpy((np.stack(frames) + grain).clip(0, 255).astype(np.uint8))


def torchvision_values(frames, recipe):
    """What torchvision's own preset gives: float32 (C, T, S, S)."""
    resize = recipe.resize if isinstance(recipe.resize, tuple) else (recipe.resize,)
    preset = VideoClassification(
        crop_size=(recipe.img_size, recipe.img_size),
        resize_size=resize,
        mean=recipe.mean,
        std=recipe.std,
    )
    return preset(frames.permute(0, 3, 1, 2).contiguous())


@pytest.mark.parametrize("size", [(240, 320), (240, 427), (361, 202), (100, 90)])
@pytest.mark.parametrize("resize", [(128, 171), (112, 112), 128, 113])
def test_values_are_those_of_torchvision(size, resize):
    frames, recipe = scene(*size), replace(RECIPE, resize=resize)
    clip = preprocess(frames, recipe)
    assert clip.shape == (1, 3, 3, 112, 112)
    assert torch.equal(clip[0], torchvision_values(frames, recipe))


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("antialias", [False, True])
def test_filters_are_those_of_the_record(interpolation, antialias):
    frames = scene(240, 320)
    recipe = replace(RECIPE, resize=128, interpolation=interpolation, antialias=antialias)
    small = F.resize(
        frames.permute(0, 3, 1, 2),
        [128],
        interpolation=F.InterpolationMode(interpolation),
        antialias=antialias,
    )
    expected = F.center_crop(small, [112, 112]).float().div(255)
    expected = F.normalize(expected, RECIPE.mean, RECIPE.std).transpose(0, 1)
    clip = preprocess(frames, recipe)[0]
    assert torch.equal(clip, expected)
    other = preprocess(frames, replace(recipe, antialias=not antialias))[0]
    assert (clip - other).abs().max() > 0.1


@pytest.mark.parametrize("num_crops", [1, 3])
def test_clips_are_channels_last_in_memory(num_crops):
    views = preprocess(scene(60, 90), replace(RECIPE, resize=112), num_crops=num_crops)
    assert views.dtype == torch.float32
    for view in views.split(1):
        assert view.is_contiguous(memory_format=torch.channels_last_3d)
    assert views.is_contiguous(memory_format=torch.channels_last_3d)


@pytest.mark.parametrize(("size", "axis"), [((112, 200), -1), ((200, 112), -2)])
def test_three_crops_lie_along_the_longer_side(size, axis):
    frames = scene(*size)
    recipe = replace(RECIPE, resize=112, mean=(0, 0, 0), std=(1, 1, 1))
    crops = preprocess(frames, recipe, num_crops=3)
    whole = frames.permute(3, 0, 1, 2) / 255  # (C, T, H, W)
    for crop, start in zip(crops, (0, 44, 88), strict=True):
        assert torch.equal(crop, whole.narrow(axis, start, 112))
    assert torch.equal(crops[1], preprocess(frames, recipe)[0])


def test_bgr_flips_channels_before_mean_and_std():
    frames = scene(120, 160)
    rgb = preprocess(frames, replace(RECIPE, mean=(0, 0, 0), std=(1, 1, 1)))
    bgr = preprocess(
        frames,
        replace(RECIPE, mean=(0.1, 0.2, 0.3), std=(0.5, 0.25, 0.125), channel_order="bgr"),
    )
    expected = (rgb[0].flip(0) - torch.tensor([0.1, 0.2, 0.3]).view(3, 1, 1, 1)) / torch.tensor(
        [0.5, 0.25, 0.125]
    ).view(3, 1, 1, 1)
    assert torch.allclose(bgr[0], expected, atol=1e-6)
    assert bgr.is_contiguous(memory_format=torch.channels_last_3d)


def test_arrays_and_tensors_give_the_same_and_stay_as_they_are():
    frames = scene(120, 160)
    before = frames.clone()
    assert torch.equal(preprocess(frames, RECIPE), preprocess(frames.numpy(), RECIPE))
    assert torch.equal(frames, before)


def test_resized_keeps_the_field_of_view():
    assert resized(RECIPE, 224).resize == (256, 342)
    assert resized(RECIPE, 224).img_size == 224
    assert resized(replace(RECIPE, resize=128), 56).resize == 64
    assert resized(replace(RECIPE, resize=112), 37).resize == 37
    assert resized(RECIPE, 112) == RECIPE


@pytest.mark.parametrize(
    ("frames", "given"),
    [
        (torch.zeros(3, 20, 20, 3), "float32"),
        (torch.zeros(20, 20, 3, dtype=torch.uint8), r"\(20, 20, 3\)"),
        (torch.zeros(3, 3, 20, 20, dtype=torch.uint8), r"\(3, 3, 20, 20\)"),
        (torch.zeros(0, 20, 20, 3, dtype=torch.uint8), r"\(0, 20, 20, 3\)"),
    ],
)
def test_other_layouts_are_refused(frames, given):
    with pytest.raises(ValueError, match=rf"{given}.*uint8 \(T, H, W, 3\)"):
        preprocess(frames, RECIPE)


def test_impossible_crops_are_refused():
    with pytest.raises(ValueError, match="num_crops=2 is given; 1"):
        preprocess(scene(20, 20), RECIPE, num_crops=2)
    with pytest.raises(ValueError, match="too small for a crop of 112 pixels"):
        preprocess(scene(20, 20), replace(RECIPE, resize=(128, 100)))
    with pytest.raises(ValueError, match="img_size=0"):
        resized(RECIPE, 0)
