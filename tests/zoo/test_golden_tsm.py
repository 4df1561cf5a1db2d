"""Logits of mmaction2's own TSM as numbers; `tests/golden` names its version."""

from functools import cache

import pytest
import torch
from golden_rule import clip, filled, golden
from scrambling import assert_close, random_clip

import converters
import zoo
from zoo.layers import TemporalShift

GOLDEN = golden("tsm")
CASES = [
    pytest.param(
        case,
        marks=() if case["name"].startswith("test_") else pytest.mark.slow,
        id=f"{case['name']}-{case['clip']}",
    )
    for case in GOLDEN["logits"]
]
TINY = [name for name in GOLDEN["shapes"] if name.startswith("test_")]


GAINS = {case["name"]: case["gains"] for case in GOLDEN["logits"]}


@cache
def _state(name):
    shapes = GOLDEN["shapes"][name]
    state = filled(GOLDEN["shapes"][shapes] if isinstance(shapes, str) else shapes)
    for end, gain in GAINS[name].items():
        state |= {key: value * gain for key, value in state.items() if key.endswith(end)}
    return state


def _model(name):
    classes = len(_state(name)["cls_head.fc_cls.bias"])
    model = zoo.create(name, num_classes=classes)
    state = converters.convert(_state(name), name=name, num_classes=classes)
    model.load_state_dict(state, strict=True)
    return model


@pytest.mark.parametrize("case", CASES)
def test_tsm_gives_mmaction2s_logits(case):
    shape, scale = case["clip"], case["scale"]
    model = _model(case["name"])
    wanted = torch.tensor(case["values"])
    with torch.no_grad():
        other = model(scale * random_clip(shape, seed=1))
        assert (other - wanted).abs().max() > 0.01 * wanted.abs().max()
        assert_close(model(scale * clip(shape)), wanted)
        block = model.layer2[1] if len(model.layer2) > 1 else model.layer2[0]
        next(p for p in block.parameters() if p.ndim == 4).mul_(1.1)
        error = (model(scale * clip(shape)) - wanted).abs().max() / wanted.abs().max()
    assert error > 1e-4


@pytest.mark.parametrize("name", TINY)
def test_export_gives_back_identical_tensors(name):
    model = _model(name)
    back = converters.export(model, target="mmaction2", name=name)
    assert back.keys() == _state(name).keys()
    kernels = [key for key in back if not key.endswith("num_batches_tracked")]
    assert all(torch.equal(back[key], _state(name)[key]) for key in kernels)


@pytest.mark.parametrize("name", TINY)
def test_without_the_shift_the_logits_are_others(name):
    """It holds no tensors: a network of pictures would load as cleanly."""
    model, shape = _model(name), (2, 3, 8, 32, 32)
    with torch.no_grad():
        wanted = model(clip(shape))
        for module in model.modules():
            if isinstance(module, TemporalShift):
                module.shift_div = 10**6
        error = (model(clip(shape)) - wanted).abs().max() / wanted.abs().max()
    assert error > 1e-3
