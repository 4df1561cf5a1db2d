"""Logits of scenic's own Flax code, recorded as numbers; `tests/golden` names its version."""

import pytest
import torch
from golden_rule import clip, filled, golden
from scrambling import assert_close, assert_listens

import converters
import zoo

SHAPE = (2, 3, 8, 32, 32)
MODELS = {"joint": "test_vivit", "factorised": "test_vivit_factorised"}


@pytest.fixture(params=MODELS)
def pair(request):
    """Our model with scenic's parameters, those, and the logits that scenic gave."""
    recorded, name = golden("vivit"), MODELS[request.param]
    state = filled(recorded["shapes"][request.param])
    model = zoo.create(name)
    model.load_state_dict(converters.convert(state, name=name, source="scenic"), strict=True)
    return model, state, torch.tensor(recorded["logits"][request.param])


def _error(model, wanted):
    with torch.no_grad():
        return float((model(clip(SHAPE)) - wanted).abs().max() / wanted.abs().max())


def test_vivit_gives_its_authors_logits(pair):
    model, _, wanted = pair
    assert_listens(model, SHAPE)
    with torch.no_grad():
        assert_close(model(clip(SHAPE)), wanted)


@pytest.mark.parametrize("part", ["qkv", "proj", "fc1", "fc2"])
def test_a_planted_error_is_seen(pair, part):
    model, _, wanted = pair
    with torch.no_grad():
        for block in (*model.blocks[:1], *getattr(model, "temporal_blocks", ())[:1]):
            layer = getattr(block.attn if part in ("qkv", "proj") else block.mlp, part)
            layer.weight.mul_(1.1)
            assert _error(model, wanted) > 1e-3
            layer.weight.div_(1.1)
    assert _error(model, wanted) < 1e-4


def test_the_tables_and_tokens_are_heard(pair):
    model, _, wanted = pair
    for name in model.no_weight_decay():
        tensor = model.get_parameter(name)
        kept = tensor.detach().clone()
        with torch.no_grad():
            tensor.zero_()
            assert _error(model, wanted) > 1e-3, name
            tensor.copy_(kept)


def test_the_tanh_approximation_of_gelu_is_told_from_the_exact_one(pair):
    """Flax's default; with the other one the logits are off by more than the tolerance."""
    model, _, wanted = pair
    for module in model.modules():
        if isinstance(module, torch.nn.GELU):
            module.approximate = "none"
    assert _error(model, wanted) > 1e-4


def test_scenics_layout_is_found_and_written_back(pair):
    model, state, _ = pair
    name = model.record.architecture
    found = converters.convert(state, name=name)
    assert all(torch.equal(found[key], value) for key, value in model.state_dict().items())
    back = converters.export(model, target="scenic")
    assert back.keys() == state.keys()
    assert all(torch.equal(back[key], state[key]) for key in state)
