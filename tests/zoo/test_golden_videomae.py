"""VideoMAE's logits by its authors' own code, recorded; `tests/golden` names version and rule."""

import pytest
import torch
from golden_rule import clip, filled, golden
from scrambling import assert_close, assert_listens

import converters
import registry
import zoo
from zoo.models.videomae import VideoMAE

MODELS = golden("videomae")["models"]


def _load(name, **arguments):
    """Our model with the weights that the authors' was given, by their keys."""
    state = converters.convert(
        filled(MODELS[name]["shapes"]), name=name, source="videomae", **arguments
    )
    model = zoo.create(name, **arguments)
    model.load_state_dict(state)
    return model


def _assert_golden(model, facts):
    assert_listens(model, facts["clip"])
    wanted = torch.tensor(facts["logits"])
    with torch.no_grad():
        assert_close(model(clip(facts["clip"])), wanted)
        model.blocks[1].attn.proj.weight.mul_(1.1)
        error = (model(clip(facts["clip"])) - wanted).abs().max() / wanted.abs().max()
        model.blocks[1].attn.proj.weight.div_(1.1)
    assert error > 1e-3


@pytest.mark.parametrize("name", ["test_videomae", "test_videomae_v2"])
def test_videomae_gives_its_authors_logits(name):
    _assert_golden(_load(name), MODELS[name])


def test_biases_of_queries_and_values_reach_the_logits():
    facts = MODELS["test_videomae"]
    wanted = torch.tensor(facts["logits"])
    for bias in ("q_bias", "v_bias"):
        model = _load("test_videomae")
        with torch.no_grad():
            for block in model.blocks:
                assert getattr(block.attn, bias).abs().max() > 0.1
                getattr(block.attn, bias).zero_()
            error = (model(clip(facts["clip"])) - wanted).abs().max() / wanted.abs().max()
        assert error > 1e-3


@pytest.mark.slow
def test_the_whole_vit_s_has_six_heads_and_its_authors_logits():
    model = _load("videomae_s")
    assert model.blocks[0].attn.num_heads == 6
    _assert_golden(model, MODELS["videomae_s"])


@pytest.mark.slow
def test_two_blocks_of_the_vit_g_give_its_authors_logits():
    facts = MODELS["videomae_v2_g"]
    model = VideoMAE(
        1408,
        2,
        16,
        14,
        48 / 11,
        num_classes=710,
        num_frames=4,
        img_size=56,
        native_frames=4,
        native_size=56,
    ).eval()
    shapes = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    with torch.device("meta"):
        whole = registry.load("videomae_v2_g").build().state_dict()
    for key in shapes.keys() - {"pos_embed"}:
        assert shapes[key] == tuple(whole[key].shape)
    layout = registry.load("videomae_v2_g").layouts["videomae"]
    model.load_state_dict(layout.convert(filled(facts["shapes"]), shapes))
    _assert_golden(model, facts)
