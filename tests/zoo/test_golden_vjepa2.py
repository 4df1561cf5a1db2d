"""Logits of the authors' own V-JEPA 2; `tests/golden/vjepa2.json` names its version."""

import pytest
import torch
from golden_rule import clip, filled, golden
from scrambling import assert_close, assert_listens

import converters
import registry
import zoo
from zoo.models.vjepa2 import VJEPA2

GOLDEN = golden("vjepa2")


def _authors(name):
    """Our model with the authors' weights, converted from their two files' names."""
    model = zoo.create(name)
    state = filled(GOLDEN["shapes"][name])
    model.load_state_dict(converters.convert(state, name=name, source="vjepa2"), strict=True)
    return model, state


@pytest.mark.parametrize("size", ["4x32x32", "8x48x32"])
@pytest.mark.parametrize("name", ["test_vjepa2", "test_vjepa2_levels"])
def test_gives_its_authors_logits_at_any_size(name, size):
    model, _ = _authors(name)
    shape = (2, 3, *map(int, size.split("x")))
    assert_listens(model, shape)
    wanted = torch.tensor(GOLDEN["logits"][name][size])
    with torch.no_grad():
        assert_close(model(clip(shape)), wanted)
        model.blocks[1].attn.qkv.weight.mul_(1.1)
        error = (model(clip(shape)) - wanted).abs().max() / wanted.abs().max()
    assert error > 1e-3


def test_the_authors_layout_goes_back_bit_for_bit():
    model, state = _authors("test_vjepa2")
    exported = converters.export(model, target="vjepa2")
    assert exported.keys() == state.keys()
    assert all(torch.equal(exported[key], state[key]) for key in state)
    shapes = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    assert converters.layouts.detect(state, registry.load("test_vjepa2"), shapes) == "vjepa2"


def test_norms_have_the_eps_they_were_trained_with():
    model = zoo.create("test_vjepa2")
    norms = {n: m.eps for n, m in model.named_modules() if isinstance(m, torch.nn.LayerNorm)}
    assert {eps for name, eps in norms.items() if name.startswith("pooler")} == {1e-5}
    assert {eps for name, eps in norms.items() if not name.startswith("pooler")} == {1e-6}


def test_the_giants_pooler_has_sixteen_heads_and_diving_reads_four_blocks():
    with torch.device("meta"):
        giant = VJEPA2(1408, 40, 22, 48 / 11, pooled_levels=4, level_stride=5)
        large = VJEPA2(1024, 24, 16, pooled_levels=4, level_stride=2)
    assert giant.blocks[0].attn.num_heads == 22
    assert giant.pooler.cross.num_heads == giant.pooler.blocks[0].attn.num_heads == 16
    assert giant.levels == [24, 29, 34, 39]
    assert large.levels == [17, 19, 21, 23]
    for name, stride in (("vjepa2_l", 2), ("vjepa2_g", 5)):
        weights = registry.info(f"{name}.diving48").weights[0]
        assert dict(weights.arguments) == {"pooled_levels": 4, "level_stride": stride}


def test_a_clip_that_tubelets_do_not_fill_is_refused():
    model = zoo.create("test_vjepa2")
    for shape in ((1, 3, 3, 32, 32), (1, 3, 4, 40, 32)):
        with pytest.raises(ValueError, match="do not fill clips of"):
            model(torch.zeros(shape))
    with pytest.raises(ValueError, match="even number of frames"):
        zoo.create("test_vjepa2", num_frames=7)


@pytest.mark.parametrize("num_frames", [8, 16, 32])
def test_places_do_not_depend_on_how_long_the_clip_is(num_frames):
    """The first frames' rotation is the same in a longer clip, so weights need no resampling."""
    from zoo.models.vjepa2 import rotary_table

    short = rotary_table((2, 2, 2), 16, device=torch.device("cpu"))
    long = rotary_table((num_frames // 2, 2, 2), 16, device=torch.device("cpu"))
    assert torch.equal(long[:, : short.shape[1]], short)
    model = zoo.create("test_vjepa2", num_frames=num_frames)
    with torch.no_grad():
        assert model(torch.randn(1, 3, num_frames, 32, 32)).isfinite().all()


def test_tokens_of_several_clips_may_be_read_together():
    model, _ = _authors("test_vjepa2")
    clips = [clip((1, 3, 4, 32, 32)), clip((1, 3, 4, 32, 32)).flip(2)]
    with torch.no_grad():
        tokens = [model.forward_features(item) for item in clips]
        together = model.forward_head(torch.cat(tokens, dim=1))
        swapped = model.forward_head(torch.cat(tokens[::-1], dim=1))
        doubled = model.forward_head(torch.cat([tokens[0]] * 2, dim=1))
        alone = model.forward_head(tokens[0])
    assert_close(swapped, together)
    assert_close(doubled, alone)


def test_a_self_supervised_encoder_leaves_pooler_and_classifier_new(tmp_path):
    model = zoo.create("test_vjepa2")
    state = converters.export(model, target="transformers")
    encoder = {
        key.removeprefix("vjepa2."): value
        for key, value in state.items()
        if key.startswith("vjepa2.")
    }
    encoder["predictor.proj.bias"] = torch.zeros(3)
    keymap = registry.load("test_vjepa2").layouts["transformers_encoder"]
    found = converters.convert(encoder, name="test_vjepa2")
    ours = model.state_dict()
    new = {key for key in ours if key.startswith(("pooler", "head"))}
    assert found.keys() == ours.keys() - new
    assert all(torch.equal(found[key], ours[key]) for key in found)
    assert keymap.random == ("pooler",)
    assert all(keymap.is_new(key) for key in new)
    torch.save(encoder, tmp_path / "encoder.pt")
    with pytest.warns(UserWarning, match="7 classes with random weights.* has no pooler"):
        made = zoo.create("test_vjepa2", checkpoint=tmp_path / "encoder.pt")
    sample = clip((1, 3, 4, 32, 32))
    with torch.no_grad():
        assert torch.equal(made.forward_features(sample), model.forward_features(sample))
        assert made.head.weight.any()


def test_records_follow_the_authors_configurations():
    """Three crops at the crop's size; encoders at 4 frames a second, one crop of larger frames."""
    seen = {}
    for name in ("vjepa2_l", "vjepa2_h", "vjepa2_g"):
        for weights in registry.info(name).weights:
            frames, pixels = weights.sampling, weights.preprocess
            seen[f"{name}.{weights.tag}"] = (
                *(frames.num_frames, frames.frame_stride, frames.fps),
                *(frames.num_clips, frames.num_crops, pixels.img_size, pixels.resize),
            )
    assert seen == {
        "vjepa2_l.ssv2": (16, 4, None, 2, 3, 256, 256),
        "vjepa2_l.diving48": (32, 2, None, 4, 3, 256, 256),
        "vjepa2_l.vm22m": (64, 1, 4.0, 1, 1, 256, 292),
        "vjepa2_h.vm22m": (64, 1, 4.0, 1, 1, 256, 292),
        "vjepa2_g.ssv2": (64, 2, None, 2, 3, 384, 384),
        "vjepa2_g.diving48": (32, 2, None, 4, 3, 384, 384),
        "vjepa2_g.vm22m": (64, 1, 4.0, 1, 1, 256, 292),
        "vjepa2_g.vm22m_384": (64, 1, 4.0, 1, 1, 384, 438),
    }
