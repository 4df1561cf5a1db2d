"""Logits of the authors' own code, recorded as numbers; `tests/golden` names its version."""

import pytest
import torch
from golden_rule import clip, filled, golden
from scrambling import assert_close, assert_listens

import converters
import zoo

SHAPE = (2, 3, 4, 32, 32)
PATTERNS = ("divided", "joint", "space")


def _authors_state(pattern):
    """Tensors by the authors' keys, which stand below `model.`, and the logits they gave."""
    recorded = golden("timesformer")
    return filled(recorded["shapes"][pattern]), torch.tensor(recorded["logits"][pattern])


@pytest.mark.parametrize("pattern", PATTERNS)
def test_timesformer_gives_its_authors_logits(pattern):
    name = f"test_timesformer_{pattern}"
    state, wanted = _authors_state(pattern)
    model = zoo.create(name)
    model.load_state_dict(converters.convert(state, name=name, source="timesformer"), strict=True)
    assert_listens(model, SHAPE)
    with torch.no_grad():
        assert_close(model(clip(SHAPE)), wanted)
        model.blocks[1].attn.proj.weight.mul_(1.1)
        error = (model(clip(SHAPE)) - wanted).abs().max()
    assert error > 1e-3


@pytest.mark.parametrize("pattern", PATTERNS)
def test_the_authors_layout_is_found_and_written_back(pattern):
    name = f"test_timesformer_{pattern}"
    state, _ = _authors_state(pattern)
    model = zoo.create(name)
    model.load_state_dict(converters.convert(state, name=name), strict=True)
    back = converters.export(model, target="timesformer")
    assert back.keys() == state.keys()
    assert all(torch.equal(back[key], state[key]) for key in state)


def test_a_file_as_the_authors_save_it_is_read(tmp_path):
    """Their training loop saves weights beside the optimizer's state and the configuration."""
    state, wanted = _authors_state("divided")
    file = {
        "epoch": 15,
        "model_state": state,
        "optimizer_state": {"state": {}, "param_groups": [{"lr": 5e-5, "params": [0]}]},
        "cfg": "TEST:\n  NUM_SPATIAL_CROPS: 3\n",
    }
    path = tmp_path / "TimeSformer_divST_8x32_224_K400.pyth"
    torch.save(file, path)
    model = zoo.create("test_timesformer_divided", checkpoint=path)
    with torch.no_grad():
        assert_close(model(clip(SHAPE)), wanted)
