"""Hiera's mask units and position tables, and clips of other lengths and sizes."""

import pytest
import torch
import torch.nn.functional as F
from scrambling import assert_close, random_clip, scramble

import converters
import registry
import zoo


@pytest.fixture
def tiny():
    torch.manual_seed(0)
    return scramble(zoo.create("test_hiera"), torch.zeros(1, 3, 4, 64, 64))


@pytest.fixture
def file(tiny, tmp_path):
    """The tiny model as its authors would save it."""
    path = tmp_path / "hiera.pth"
    torch.save({"model_state": converters.export(tiny, target="hiera")}, path)
    return path


def test_tokens_of_early_stages_see_their_own_mask_unit_alone(tiny):
    clip = random_clip((1, 3, 4, 64, 64), seed=1)
    other = clip.clone()
    other[:, :, 2, 40:48, 8:16] += 1.0  # within the third unit of frames 2 and 3, by the patches
    with torch.no_grad():
        before, after = (
            tiny.forward_intermediates(x, intermediates_only=True) for x in (clip, other)
        )
    for level, unit in ((0, 8), (1, 4)):
        changed = (before[level] != after[level]).any(dim=1)[0]  # (T', H', W')
        assert changed[1, unit:, :unit].any()
        changed[1, unit:, :unit] = False
        assert not changed.any()
    for level in (2, 3):
        assert (before[level] != after[level]).any(dim=1).all()


def test_each_kind_of_block_is_in_the_tiny_model(tiny):
    kinds = [(block.attn.unit, block.attn.pooled) for block in tiny.blocks]
    assert kinds == [(8, False), (8, True), (4, False), (4, True), (0, False), (0, True)]


def test_norms_have_the_authors_epsilon(tiny):
    norms = [module for module in tiny.modules() if isinstance(module, torch.nn.LayerNorm)]
    assert len(norms) == 13
    assert {norm.eps for norm in norms} == {1e-6}


def test_a_fresh_model_starts_as_the_authors(tiny):
    torch.manual_seed(0)
    fresh = zoo.create("test_hiera")
    assert (fresh.fc_norm.bias == 0.02).all()
    assert_close(fresh.head.bias, torch.full((7,), 0.02 * 0.001))
    assert 0 < fresh.head.weight.std() < 0.03 * 0.001


def test_a_still_clip_gives_one_answer_at_any_length(file):
    # The first patch of a clip sees padding; without that tap, and with one position for all
    # frames, copies of a frame change no mean and no attention.
    frame = random_clip((1, 3, 1, 64, 64), seed=1)
    answers = []
    for t in (4, 8, 16, 32):
        model = zoo.create("test_hiera", checkpoint=file, num_frames=t)
        model.patch_embed.proj.weight.data[:, :, 0] = 0
        model.pos_embed_temporal.data.fill_(0.1)
        with torch.no_grad():
            answers.append(model(frame.expand(-1, -1, t, -1, -1)))
    for answer in answers[1:]:
        assert_close(answer, answers[0], tolerance=1e-5)


@pytest.mark.parametrize("frames", [8, 16, 32])
@pytest.mark.parametrize("size", [64, 96])
def test_tables_are_resampled_from_the_trained_grid(tiny, file, frames, size):
    made = zoo.create("test_hiera", checkpoint=file, num_frames=frames, img_size=size)
    side = size // 4
    space = tiny.pos_embed_spatial.detach().unflatten(1, (16, 16)).permute(0, 3, 1, 2)
    space = F.interpolate(space, size=(side, side), mode="bicubic", antialias=True)
    wanted = space.flatten(2).transpose(1, 2) if side != 16 else tiny.pos_embed_spatial
    assert torch.equal(made.pos_embed_spatial, wanted)
    time = F.interpolate(
        tiny.pos_embed_temporal.detach().transpose(1, 2), size=frames // 2, mode="linear"
    )
    assert torch.equal(made.pos_embed_temporal, time.transpose(1, 2))
    with torch.no_grad():
        assert made(random_clip((1, 3, frames, size, size), seed=1)).isfinite().all()


def test_the_native_size_is_exact_and_read_off_the_file(tiny, file):
    again = zoo.create("test_hiera", checkpoint=file)
    clip = random_clip((1, 3, 4, 64, 64), seed=1)
    with torch.no_grad():
        assert torch.equal(again(clip), tiny(clip))
    larger = zoo.create("test_hiera", num_frames=8, img_size=96)
    found = larger.infer_arguments(larger.state_dict())
    assert found == {"in_chans": 3, "num_classes": 7, "num_frames": 8, "img_size": 96}


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"img_size": 80}, "img_size=80 is no multiple of 32, .* give 64 for instance"),
        ({"img_size": 16}, "give 32 for instance"),
        ({"num_frames": 5}, "num_frames=5 is no multiple of 2, .* give 4 for instance"),
    ],
)
def test_sizes_that_units_do_not_divide_are_refused(change, sentence):
    with pytest.raises(ValueError, match=sentence):
        zoo.create("test_hiera", **change)


def test_a_clip_of_another_size_is_refused(tiny):
    for shape in ((1, 3, 8, 64, 64), (1, 3, 4, 96, 96), (1, 3, 4, 64, 96)):
        with pytest.raises(ValueError, match=r"made for clips of \(T, H, W\) = \(4, 64, 64\)"):
            tiny(torch.zeros(shape))


def test_conversion_goes_both_ways_and_is_told_apart(tiny):
    exported = converters.export(tiny, target="hiera")
    assert "head.projection.weight" in exported
    shapes = {key: tuple(value.shape) for key, value in tiny.state_dict().items()}
    assert converters.layouts.detect(exported, registry.load("test_hiera"), shapes) == "hiera"
    state = converters.convert(exported, name="test_hiera")
    assert state.keys() == tiny.state_dict().keys()
    assert all(torch.equal(state[key], value) for key, value in tiny.state_dict().items())
    with pytest.raises(ValueError, match="stray"):
        converters.convert(exported | {"stray": torch.zeros(1)}, name="test_hiera", source="hiera")
    del exported["blocks.3.attn.qkv.bias"]
    with pytest.raises(ValueError, match="missing keys: blocks.3.attn.qkv.bias"):
        converters.convert(exported, name="test_hiera", source="hiera")
