"""Hiera against its authors' own code, recorded as numbers; `tests/golden` names its version."""

import pytest
import torch
from golden_rule import clip, filled, golden
from scrambling import assert_close, assert_listens

import converters
import zoo


@pytest.mark.parametrize("case", ["native", "other_grid"])
def test_hiera_gives_its_authors_logits(case):
    facts = golden("hiera")["cases"][case]
    arguments = facts["arguments"]
    state = filled(facts["shapes"])
    converted = converters.convert(state, name="test_hiera", source="hiera", **arguments)
    model = zoo.create("test_hiera", **arguments)
    model.load_state_dict(converted)
    assert_listens(model, facts["clip"])
    wanted = torch.tensor(facts["logits"])
    with torch.no_grad():
        assert_close(model(clip(facts["clip"])), wanted)
        model.blocks[3].attn.proj.weight.mul_(1.1)
        error = (model(clip(facts["clip"])) - wanted).abs().max()
    assert error > 1e-3
