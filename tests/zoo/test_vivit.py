"""ViViT: its records, clips of other lengths and sizes, and ViTs of pictures lifted into it."""

import pytest
import timm
import torch
from scrambling import assert_close, random_clip, scramble
from torch import nn

import converters
import registry
import zoo

BOTH = ("test_vivit", "test_vivit_factorised")


def _fitted(ours, **arguments):
    """The same weights in a model made for other clips."""
    made = zoo.create(ours.record.architecture, **arguments)
    state = ours.state_dict()
    made.resize_positions(state, trained=ours.record)
    made.load_state_dict(state, strict=True)
    return made


def test_the_record_follows_scenics_configuration():
    record = registry.info("vivit_b").weights[0]
    sampling, preprocess = record.sampling, record.preprocess
    assert (record.tag, record.labels, record.num_classes) == ("k400", "kinetics400", 400)
    assert (sampling.num_frames, sampling.frame_stride, sampling.fps) == (32, 2, 25.0)
    assert (sampling.num_clips, sampling.num_crops) == (4, 3)
    assert (preprocess.mean, preprocess.std) == ((0.5,) * 3, (0.5,) * 3)
    assert (preprocess.resize, preprocess.img_size) == (256, 224)


@pytest.mark.parametrize("name", BOTH)
def test_norms_and_activations_are_those_of_flax(name):
    model = zoo.create(name)
    norms = [m for m in model.modules() if isinstance(m, nn.LayerNorm)]
    assert {norm.eps for norm in norms} == {1e-6}
    assert {m.approximate for m in model.modules() if isinstance(m, nn.GELU)} == {"tanh"}


def test_the_public_sizes_are_the_authors():
    """Numbers of parameters as scenic's configurations give them."""
    with torch.device("meta"):
        joint, base, large = (
            registry.load(name).build()
            for name in ("vivit_b", "vivit_b_factorised", "vivit_l_factorised")
        )
    assert sum(p.numel() for p in joint.parameters()) == pytest.approx(88.954e6, rel=1e-4)
    assert joint.pos_embed.shape == (1, 1 + 16 * 14 * 14, 768)
    assert (len(base.blocks), len(base.temporal_blocks)) == (12, 4)
    assert (len(large.blocks), len(large.temporal_blocks)) == (24, 24)
    assert (large.num_features, large.blocks[0].attn.num_heads) == (1024, 16)
    assert base.pos_embed.shape == (1, 1 + 14 * 14, 768)
    assert base.temporal_pos_embed.shape == (1, 1 + 16, 768)


@pytest.mark.parametrize("num_frames", [8, 16, 32])
@pytest.mark.parametrize("img_size", [32, 64])
def test_the_joint_table_is_resampled_at_its_own_places_and_moments(num_frames, img_size):
    """A table that grows evenly along one axis still does, but for the borders; not the other."""
    ours = zoo.create("test_vivit")
    t, h, w = ours.grid_size
    moments = torch.arange(float(t))[:, None, None].expand(t, h, w)
    columns = torch.arange(float(w))[None, None, :].expand(t, h, w)
    with torch.no_grad():
        ours.pos_embed[0, 1:, 0] = moments.reshape(-1)
        ours.pos_embed[0, 1:, 1] = columns.reshape(-1)
    made = _fitted(ours, num_frames=num_frames, img_size=img_size)
    if (num_frames, img_size) == (8, 32):
        assert torch.equal(made.pos_embed, ours.pos_embed)
    assert torch.equal(made.pos_embed[:, :1], ours.pos_embed[:, :1])
    new_t, new_h, new_w = made.grid_size
    found = made.pos_embed[0, 1:, :2].unflatten(0, (new_t, new_h, new_w))
    for axis, channel, count, old in ((0, 0, new_t, t), (2, 1, new_w, w)):
        line = found[..., channel].movedim(axis, 0).flatten(1)  # (count, places of the others)
        assert (line - line[:, :1]).abs().max() < 1e-5
        wanted = (torch.arange(count) + 0.5) * old / count - 0.5
        assert (line[:, 0] - wanted).abs().max() < 0.4
        inner = slice(count // 4, -(count // 4))
        assert (line[inner, 0] - wanted[inner]).abs().max() < 0.1


@pytest.mark.parametrize("num_frames", [8, 16, 32])
def test_a_still_clip_gives_the_same_at_every_length(num_frames):
    """Moments alike, told by a table that tells none, are as one: but for the class token's."""
    torch.manual_seed(0)
    ours = scramble(zoo.create("test_vivit_factorised"), torch.zeros(2, 3, 8, 32, 32))
    frame = random_clip((2, 3, 1, 32, 32), seed=1)
    with torch.no_grad():
        table = ours.temporal_pos_embed
        table[:, 1:] = table[:, 1:2].clone()
        made = _fitted(ours, num_frames=num_frames)
        assert_close(made.temporal_pos_embed[:, -1:], table[:, -1:])
        found = made.forward_features(frame.expand(-1, -1, num_frames, -1, -1))
        wanted = ours.forward_features(frame.expand(-1, -1, 8, -1, -1))
    assert_close(found[:, 1:17], wanted[:, 1:17])
    assert_close(found[:, -16:], wanted[:, 1:17])
    if num_frames == 8:
        assert torch.equal(found, wanted)


@pytest.mark.parametrize("name", BOTH)
def test_clips_of_another_shape_are_refused(name):
    model = zoo.create(name)
    for shape in ((1, 3, 16, 32, 32), (1, 3, 8, 64, 64)):
        with pytest.raises(ValueError, match=r"made for clips of \(T, H, W\) = \(8, 32, 32\)"):
            model(torch.zeros(shape))
    with pytest.raises(ValueError, match="num_frames=7 is no multiple .* 2 frames; give 6"):
        zoo.create(name, num_frames=7)
    with pytest.raises(ValueError, match="img_size=30 is no multiple .* 8 pixels; give 24"):
        zoo.create(name, img_size=30)


@pytest.mark.parametrize("name", BOTH)
@pytest.mark.parametrize("made_for", [{"num_frames": 12}, {"img_size": 40}, {}])
def test_a_file_tells_its_frames_and_size(name, made_for, tmp_path):
    torch.manual_seed(0)
    theirs = zoo.create(name, **made_for, num_classes=3)
    path = tmp_path / "weights.pth"
    torch.save(theirs.state_dict(), path)
    ours = zoo.create(name, checkpoint=path, **made_for, num_classes=3)
    clip = random_clip((1, 3, theirs.num_frames, theirs.img_size, theirs.img_size), seed=1)
    with torch.no_grad():
        assert torch.equal(ours(clip), theirs(clip))


def test_a_table_that_could_be_of_two_clips_is_refused(tmp_path):
    """Four times as many places: four times the frames, or twice the side."""
    path = tmp_path / "weights.pth"
    torch.save(zoo.create("test_vivit", num_frames=32).state_dict(), path)
    with pytest.raises(ValueError, match="does not tell how many frames and which size"):
        zoo.create("test_vivit", checkpoint=path, num_frames=32)


def _tiny_vit():
    torch.manual_seed(0)
    vit = timm.models.VisionTransformer(
        img_size=32, patch_size=8, embed_dim=32, depth=2, num_heads=2, act_layer="gelu_tanh"
    )
    return scramble(vit, torch.zeros(2, 3, 32, 32))


@pytest.mark.parametrize("mode", ["center", "mean"])
def test_a_still_clip_through_a_lifted_vit_is_the_picture_through_the_vit(mode):
    vit = _tiny_vit()
    model = zoo.create("test_vivit_factorised")
    state = converters.convert(
        vit.state_dict(), name="test_vivit_factorised", source="timm", inflation=mode
    )
    missing, unexpected = model.load_state_dict(state, strict=False)
    assert unexpected == []
    assert all(key.startswith(("head", "temporal_")) for key in missing)
    kernel, picture = state["patch_embed.proj.weight"], vit.patch_embed.proj.weight
    assert_close(kernel.sum(2), picture, tolerance=1e-6)
    # The two differ on moving clips: one looks at a frame, the other at the mean of two.
    assert (not kernel[:, :, 0].any()) == (mode == "center")

    seen = []
    model.temporal_blocks[0].register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    frame = random_clip((2, 3, 1, 32, 32), seed=1)
    with torch.no_grad():
        wanted = vit.forward_features(frame[:, :, 0])  # (N, 1 + L, D)
        features = model.forward_features(frame.expand(-1, -1, 8, -1, -1))
        moments = seen[0][:, 1:] - model.temporal_pos_embed[:, 1:]  # (N, T', D)
        for t in range(4):
            assert_close(moments[:, t], wanted[:, 0])
            assert_close(features[:, 1 + 16 * t : 17 + 16 * t], wanted[:, 1:])
        model.blocks[1].attn.proj.weight.mul_(1.1)
        harmed = model.forward_features(frame.expand(-1, -1, 8, -1, -1))[:, 1:17]
    assert (harmed - wanted[:, 1:]).abs().max() > 1e-3 * wanted.abs().max()


def test_weights_lifted_from_pictures_say_what_is_new():
    for name in ("vivit_b_factorised", "vivit_l_factorised"):
        (record,) = registry.info(name).weights
        assert (record.tag, record.source.inflation, record.metrics) == (
            "in21k_inflated",
            "center",
            (),
        )
    assert registry.load("vivit_b_factorised").layouts["timm"].random == ("temporal_blocks",)
