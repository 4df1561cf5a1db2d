"""Video Swin against its authors' own code, as numbers; `tests/golden` names its version."""

import pytest
import torch
from golden_rule import clip, filled, golden
from scrambling import assert_close, assert_listens

import converters
import zoo

SLOW = ("swin3d_t", "swin3d_t_window_16")


@pytest.mark.parametrize(
    "case",
    [
        "native",
        "padded",
        "long_window",
        *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW),
    ],
)
def test_swin3d_gives_its_authors_logits(case):
    facts = golden("swin3d")["cases"][case]
    arguments = facts["arguments"]
    state = filled(facts["shapes"])
    converted = converters.convert(state, name=facts["model"], source="video-swin", **arguments)
    model = zoo.create(facts["model"], **arguments)
    model.load_state_dict(converted)
    exported = converters.export(model, target="video-swin")
    assert {key: list(value.shape) for key, value in exported.items()} == facts["shapes"]
    assert_listens(model, (1, 3, 8, 64, 64))
    wanted = torch.tensor(facts["logits"])
    with torch.no_grad():
        assert_close(model(clip(facts["clip"])), wanted)
        if case in SLOW:
            return
        model.stages[1].blocks[1].attn.proj.weight.mul_(1.1)
        error = (model(clip(facts["clip"])) - wanted).abs().max()
    assert error > 1e-3
