"""Logits of piergiaj/pytorch-i3d's own code as numbers; `tests/golden` names its version."""

import pytest
import torch
from golden_rule import clip, filled, golden
from scrambling import assert_close, random_clip

import converters
import zoo

GOLDEN = golden("i3d_inception")
# Smaller clips would not fill the reference's window; odd sizes are padded otherwise.
CASES = [
    pytest.param(
        case,
        marks=() if case["name"].startswith("test_") else pytest.mark.slow,
        id=f"{case['name']}-{case['clip']}",
    )
    for case in GOLDEN["logits"]
]


def _state(name):
    shapes = dict(GOLDEN["shapes_tiny" if name.startswith("test_") else "shapes"])
    if name == "i3d_inception_flow":
        shapes["Conv3d_1a_7x7.conv3d.weight"] = (64, 2, 7, 7, 7)
    return filled(shapes)


def _model(name, state):
    classes = len(state["logits.conv3d.bias"])
    model = zoo.create(name, num_classes=classes)
    model.load_state_dict(converters.convert(state, name=name, num_classes=classes))
    return model


@pytest.mark.parametrize("case", CASES)
def test_i3d_gives_its_authors_logits(case):
    shape, scale = case["clip"], GOLDEN["clip_scale"]
    model = _model(case["name"], _state(case["name"]))
    wanted = torch.tensor(case["values"])
    with torch.no_grad():
        other = model(scale * random_clip(shape, seed=1))
        assert (other - wanted).abs().max() > 0.01 * wanted.abs().max()
        assert_close(model(scale * clip(shape)), wanted)
        model.layer3[1].branch1.conv.weight.mul_(1.1)
        error = (model(scale * clip(shape)) - wanted).abs().max() / wanted.abs().max()
    assert error > 1e-4


def test_export_gives_back_identical_tensors():
    state = _state("test_i3d_inception")
    model = _model("test_i3d_inception", state)
    back = converters.export(model, target="pytorch-i3d", name="test_i3d_inception")
    assert back.keys() == state.keys()
    kernels = [key for key in state if not key.endswith("num_batches_tracked")]
    assert all(torch.equal(back[key], state[key]) for key in kernels)
