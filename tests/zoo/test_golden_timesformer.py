"""Logits of the authors' own code, recorded as numbers; `tests/golden` names its version."""

import pytest
import torch
from golden_rule import clip, fill, golden
from scrambling import assert_close, assert_listens

import zoo


@pytest.mark.parametrize("pattern", ["divided", "joint", "space"])
def test_timesformer_gives_its_authors_logits(pattern):
    model = zoo.create(f"test_timesformer_{pattern}")
    fill(model.state_dict())
    shape = (2, 3, 4, 32, 32)
    assert_listens(model, shape)
    wanted = golden("timesformer")["logits"][pattern]
    with torch.no_grad():
        assert_close(model(clip(shape)), torch.tensor(wanted))
        model.blocks[1].attn.proj.weight.mul_(1.1)
        error = (model(clip(shape)) - torch.tensor(wanted)).abs().max()
    assert error > 1e-3
