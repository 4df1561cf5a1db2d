"""`preprocess` against torchvision's presets and transformers' processors, on three photographs.

The processors are set as the hub's own configurations say. They shrink frames with an antialias
filter where the authors' training code had none; such records follow the training code and say so,
and are compared here with the filter put on.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torchvision
from fresh_python import ROOT
from PIL import Image

import registry
import zoo

pytestmark = pytest.mark.peer
HEIGHT, WIDTH = 360, 480
IMAGENET = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}


@pytest.fixture(scope="module")
def frames():
    """Three photographs as the frames of a clip, uint8 (T, H, W, C)."""
    pictures = []
    for name in ("raccoon", "astronaut", "hubble"):
        with Image.open(ROOT / "examples" / "pictures" / f"{name}.jpg") as picture:
            pictures.append(np.asarray(picture.convert("RGB"))[:HEIGHT, :WIDTH])
    return np.stack(pictures)


def grey_levels(found, wanted, recipe):
    """The largest difference of two inputs (C, T, H, W) in steps of 1/255 before normalising."""
    std = torch.tensor(recipe.std)[:, None, None, None]
    return ((found - wanted) * std * 255).abs().max().item()


def _presets():
    """Each record with a file of torchvision's, and torchvision's own record of that file."""
    known = {
        weights.url: weights
        for name in torchvision.models.list_models(torchvision.models.video)
        for weights in torchvision.models.get_model_weights(name)
    }
    for name in registry.list_models(exclude=("test_*",)):
        for record in registry.info(name).weights:
            url = getattr(record.source, "url", "")
            if url in known:
                yield pytest.param(record, known[url], id=f"{name}.{record.tag}")


PRESETS = list(_presets())


def test_every_file_of_torchvision_has_a_record():
    names = torchvision.models.list_models(torchvision.models.video)
    files = [w for name in names for w in torchvision.models.get_model_weights(name)]
    assert len(PRESETS) == len({weights.url for weights in files})


@pytest.mark.parametrize(("record", "theirs"), PRESETS)
def test_frames_are_those_of_torchvisions_preset(record, theirs, frames):
    wanted = theirs.transforms()(torch.from_numpy(frames).permute(0, 3, 1, 2))  # (C, T, H, W)
    found = zoo.preprocess(frames, record.preprocess)[0]
    assert found.shape == wanted.shape
    assert grey_levels(found, wanted, record.preprocess) <= 1
    assert theirs.meta["num_params"] > 0
    categories = theirs.meta["categories"]
    assert list(registry.labels(record.labels)) == categories


def _videomae(side, **norm):
    from transformers import VideoMAEImageProcessor

    return VideoMAEImageProcessor(
        size={"shortest_edge": side}, crop_size={"height": side, "width": side}, **norm
    )


def _vivit(**options):
    from transformers import VivitImageProcessor

    return VivitImageProcessor(
        size={"shortest_edge": 256},
        crop_size={"height": 224, "width": 224},
        rescale_factor=1 / 127.5,
        offset=True,
        **options,
    )


def _vjepa2(side):
    from transformers import VJEPA2VideoProcessor

    return VJEPA2VideoProcessor(crop_size=side)


FAIR = {"image_mean": [0.45] * 3, "image_std": [0.225] * 3}
PROCESSORS = {
    "timesformer_divided.k400": lambda: _videomae(224, **FAIR),
    "timesformer_divided_hr.k400": lambda: _videomae(448, **FAIR),
    "videomae_b.k400": lambda: _videomae(224, **IMAGENET),
    "videomae_b.ssv2": lambda: _videomae(224, **IMAGENET),
    "vivit_b.k400": lambda: _vivit(do_normalize=False),
    "vjepa2_l.ssv2": lambda: _vjepa2(256),
    "vjepa2_g.ssv2": lambda: _vjepa2(384),
    "xclip_b16.k400": lambda: _videomae(224, **IMAGENET),
}


def _processed(processor, frames):
    """What a processor of transformers makes of a clip, (C, T, H, W)."""
    if "Video" in type(processor).__name__.replace("VideoMAE", ""):
        out = processor(torch.from_numpy(frames).permute(0, 3, 1, 2), return_tensors="pt")
    else:
        out = processor(list(frames), return_tensors="pt")
    return next(iter(out.values()))[0].transpose(0, 1)


@pytest.mark.parametrize("name", PROCESSORS)
def test_frames_are_those_of_transformers_processor(name, frames):
    model, _, tag = name.partition(".")
    record = registry.find_weights(registry.info(model), tag)
    recipe = record.preprocess
    wanted = _processed(PROCESSORS[name](), frames)
    # For three crops V-JEPA 2's frames are smaller than for the processor's one.
    one_crop = 256 * recipe.img_size // 224 if model.startswith("vjepa2") else recipe.resize
    filtered = replace(recipe, antialias=True, resize=one_crop)
    found = zoo.preprocess(frames, filtered)[0]
    assert found.shape == wanted.shape
    # transformers rescales in another order, which costs a rounding of its own.
    assert grey_levels(found, wanted, recipe) <= 1.01
    plain = zoo.preprocess(frames, replace(recipe, resize=one_crop))[0]
    assert grey_levels(plain, wanted, recipe) > 1  # so that the filter is heard
    assert not recipe.antialias
    assert "antialias" in record.note


def test_the_hubs_vivit_processor_normalises_twice_and_the_record_does_not(frames):
    record = registry.find_weights(registry.info("vivit_b"), "k400")
    found = zoo.preprocess(frames, record.preprocess)[0]
    twice = _processed(_vivit(image_mean=[0.5] * 3, image_std=[0.5] * 3), frames)
    assert twice.min() < -2.5
    assert found.min() >= -1
    assert found.max() <= 1
    assert "normalise" in record.note
