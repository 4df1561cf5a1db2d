"""Logits of mmaction2's own C3D as numbers; `tests/golden` names its version."""

import pytest
import torch
from golden_rule import clip, filled, golden
from scrambling import assert_close, random_clip

import converters
import registry
import zoo

GOLDEN = golden("c3d")
CASES = [
    pytest.param(case, marks=pytest.mark.slow if case["name"] == "c3d" else (), id=case["name"])
    for case in GOLDEN["logits"]
]


def _state(name):
    return filled(GOLDEN["shapes_tiny" if name == "test_c3d" else "shapes"])


@pytest.mark.parametrize("case", CASES)
def test_c3d_gives_mmaction2s_logits(case):
    name, shape, scale = case["name"], case["clip"], GOLDEN["clip_scale"]
    model = zoo.create(name)
    model.load_state_dict(converters.convert(_state(name), name=name))
    wanted = torch.tensor(case["values"])
    with torch.no_grad():
        other = model(scale * random_clip(shape, seed=1))
        assert (other - wanted).abs().max() > 0.01 * wanted.abs().max()
        assert_close(model(scale * clip(shape)), wanted)
        model.layer2[1].weight.mul_(1.1)
        error = (model(scale * clip(shape)) - wanted).abs().max() / wanted.abs().max()
    assert error > 1e-4


def test_export_gives_back_identical_tensors():
    state = _state("test_c3d")
    model = zoo.create("test_c3d")
    model.load_state_dict(converters.convert(state, name="test_c3d", source="mmaction2"))
    back = converters.export(model, target="mmaction2")
    assert back.keys() == state.keys()
    assert all(torch.equal(back[key], state[key]) for key in state)


@pytest.mark.parametrize("shape", [(8, 32), (32, 32), (16, 64)])
def test_other_clips_are_refused_in_a_sentence(shape):
    t, size = shape
    model = zoo.create("test_c3d")
    with pytest.raises(ValueError, match=r"made for clips of \(T, H, W\) = \(16, 32, 32\)"):
        model(torch.randn(1, 3, t, size, size))


def test_pixels_are_bytes_less_caffes_means():
    """The means are on 0-255 pixels and nothing is divided: black is -104, not -0.41."""
    pixels = registry.info("c3d").weights[0].preprocess
    black = [-mean / std for mean, std in zip(pixels.mean, pixels.std, strict=True)]
    assert black == pytest.approx([-104, -117, -128])
    assert pixels.channel_order == "rgb"
