"""Reversible MViT: its authors' logits, recorded as numbers, and other frames and sizes."""

import pytest
import torch
from golden_rule import clip, filled, golden
from scrambling import assert_close, assert_listens, random_clip, scramble
from torch import nn

import converters
import zoo

CASES = golden("rev_mvit")["cases"]


def _loaded(name):
    _, _, frames, size, _ = CASES[name]["clip"]
    arguments = {"num_frames": frames, "img_size": size}
    model = zoo.create(name, **arguments)
    state = filled(CASES[name]["shapes"])
    converted = converters.convert(state, name=name, source="slowfast", **arguments)
    model.load_state_dict(converted, strict=True)
    exported = converters.export(model, target="slowfast")
    assert exported.keys() == state.keys()
    assert all(torch.equal(exported[key], state[key]) for key in state)
    return model.eval()


def _error(model, name):
    wanted = torch.tensor(CASES[name]["logits"])
    with torch.no_grad():
        return (model(clip(CASES[name]["clip"])) - wanted).abs().max() / wanted.abs().max()


@pytest.mark.parametrize(
    "name", ["test_rev_mvit", pytest.param("rev_mvit_b", marks=pytest.mark.slow)]
)
def test_rev_mvit_gives_its_authors_logits(name):
    model = _loaded(name)
    assert_listens(model, CASES[name]["clip"])
    with torch.no_grad():
        found = model(clip(CASES[name]["clip"]))
    assert_close(found, torch.tensor(CASES[name]["logits"]))
    with torch.no_grad():
        model.blocks[1].attn.proj.weight.mul_(1.1)
    assert _error(model, name) > 1e-3


@pytest.mark.parametrize("part", ["pos_embed_spatial", "pos_embed_temporal", "pool_q", "norm1"])
def test_every_part_is_heard(part):
    model = _loaded("test_rev_mvit")
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if part in name:
                parameter.mul_(0.5)
    assert _error(model, "test_rev_mvit") > 1e-3


def test_norms_have_the_authors_epsilon():
    model = zoo.create("test_rev_mvit")
    assert {m.eps for m in model.modules() if isinstance(m, nn.LayerNorm)} == {1e-6}


@pytest.mark.parametrize("frames", [4, 8, 16, 32])
@pytest.mark.parametrize("size", [32, 40, 64])
def test_other_frames_and_sizes_resample_the_tables(frames, size, tmp_path):
    torch.manual_seed(0)
    trained = scramble(zoo.create("test_rev_mvit"), None)
    folder = zoo.save(trained, tmp_path / "saved")
    model = zoo.create(f"local-dir:{folder}", num_frames=frames, img_size=size)
    shape = (1, 3, frames, size, size)
    assert_listens(model, shape)
    spatial, temporal = trained.pos_embed_spatial, trained.pos_embed_temporal
    wanted = converters.resize_spatial_table(
        spatial, old=(8, 8), new=(size // 4, size // 4), num_prefix_tokens=0
    )
    assert torch.equal(model.pos_embed_spatial, wanted)
    wanted = converters.resize_temporal_table(temporal, num_frames=frames // 2)
    assert torch.equal(model.pos_embed_temporal, wanted)
    assert zoo.create("test_rev_mvit").infer_arguments(model.state_dict()) == {
        "num_frames": frames,
        "img_size": size,
        "num_classes": 7,
        "in_chans": 3,
    }
    if (frames, size) == (4, 32):
        one = random_clip(shape, seed=1)
        with torch.no_grad():
            assert torch.equal(model(one), trained(one))


def test_what_cannot_be_is_refused():
    with pytest.raises(ValueError, match="num_frames=5 is no multiple of 2.*give 4"):
        zoo.create("test_rev_mvit", num_frames=5)
    with pytest.raises(ValueError, match="img_size=30 is no multiple of 4.*give 28"):
        zoo.create("test_rev_mvit", img_size=30)
    model = zoo.create("test_rev_mvit")
    with pytest.raises(ValueError, match=r"made for clips of \(T, H, W\) = \(4, 32, 32\)"):
        model(torch.zeros(1, 3, 4, 36, 36))
    with pytest.raises(ValueError, match=r"norm=True normalises a width of 64.*\[1, 2\]"):
        model.forward_intermediates(torch.zeros(1, 3, 4, 32, 32), [1, 2, 3], norm=True)


def test_the_two_streams_give_back_what_they_came_from():
    """The first streams follow from the last ones, which is what the architecture is named for."""
    block = scramble(zoo.create("test_rev_mvit"), None).blocks[1]
    x = torch.randn(1, 2 * 8 * 8, 32)
    with torch.no_grad():
        first, second = block(x).chunk(2, dim=-1)
        second = second - block.mlp(block.norm2(first))
        first = first - block.attn(block.norm1(second))
    assert_close(torch.cat([first, second], dim=-1), x, tolerance=1e-5)


def test_stochastic_depth_of_a_transition_drops_the_whole_sample():
    model = zoo.create("test_rev_mvit", drop_path_rate=0.9)
    transition = model.blocks[2].train()
    assert transition.drop_path.rate == pytest.approx(0.6)
    out = transition(torch.randn(64, 2 * 8 * 8, 32))
    dropped = out.flatten(1).abs().amax(dim=1) == 0
    assert 0 < dropped.sum() < 64
