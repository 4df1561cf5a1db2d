"""Conversion proved against torchvision and timm, with scrambled weights."""

import pytest
import timm
import torch
import torchvision
from scrambling import assert_close, assert_listens, random_clip, scramble

import converters
import registry
import zoo

PAIRS = [("r3d_18", "r3d_18"), ("mc3_18", "mc3_18"), ("r2p1d_18", "r2plus1d_18")]
SHAPE = (2, 3, 8, 32, 32)  # the last map has two rows, so that every tap of a kernel reads


@pytest.fixture(scope="module", params=PAIRS, ids=[ours for ours, _ in PAIRS])
def pair(request):
    """Our name and torchvision's own module, scrambled."""
    ours, theirs = request.param
    torch.manual_seed(0)
    reference = getattr(torchvision.models.video, theirs)(weights=None)
    return ours, scramble(reference, torch.zeros(SHAPE))


def test_torchvisions_state_dict_gives_torchvisions_logits(pair):
    name, reference = pair
    assert_listens(reference, SHAPE)
    model = zoo.create(name)
    state = reference.state_dict()
    model.load_state_dict(converters.convert(state, name=name, source="torchvision"), strict=True)
    clip = random_clip(SHAPE, seed=1)
    with torch.no_grad():
        assert_close(model(clip), reference(clip))
        planted = model.layer3[0].conv2
        weight = getattr(planted, "temporal", planted).weight
        weight.mul_(1.1)
        error = (model(clip) - reference(clip)).abs().max() / reference(clip).abs().max()
    assert error > 1e-4  # a 10 % error in one layer would be seen


def test_export_gives_back_identical_tensors(pair):
    name, reference = pair
    state = reference.state_dict()
    model = zoo.create(name)
    model.load_state_dict(converters.convert(state, name=name))
    back = converters.export(model, target="torchvision")
    assert back.keys() == state.keys()
    assert all(torch.equal(back[key], state[key]) for key in state)
    reference.load_state_dict(back, strict=True)


def test_the_source_is_found_by_itself_and_wrong_ones_are_refused(pair):
    name, reference = pair
    entry = registry.load(name)
    state = reference.state_dict()
    model = zoo.create(name)
    shapes = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    assert converters.layouts.detect(state, entry, shapes) == "torchvision"
    assert converters.layouts.detect(model.state_dict(), entry, shapes) == "zoo"
    with pytest.raises(LookupError, match=r"Unknown layout 'caffe2' .* Known: zoo, torchvision"):
        converters.convert(state, name=name, source="caffe2")
    for harm in ("stray", "missing"):
        harmed = dict(state)
        if harm == "stray":
            harmed["layer9.0.conv1.0.weight"] = torch.zeros(1)
        else:
            del harmed["layer4.0.conv1.1.bias"]
        key = "layer9.0.conv1.0.weight" if harm == "stray" else "layer4.0.bn1.bias"
        with pytest.raises(ValueError, match=key.replace(".", r"\.")):
            converters.convert(harmed, name=name, source="torchvision")
        with pytest.raises(ValueError, match="fits none of the layouts"):
            converters.convert(harmed, name=name)


def test_an_inflation_that_nothing_reads_is_refused(pair):
    name, reference = pair
    with pytest.raises(ValueError, match="is not inflated; leave out inflation='mean'"):
        converters.convert(
            reference.state_dict(), name=name, source="torchvision", inflation="mean"
        )


def _still(frame, t):
    return frame[:, :, None].repeat(1, 1, t, 1, 1)


def _resnet18():
    torch.manual_seed(0)
    return scramble(timm.create_model("resnet18"), torch.zeros(4, 3, 64, 64))


@pytest.mark.parametrize("mode", ["mean", "center"])
def test_a_still_clip_through_i3d_r18_is_the_picture_through_resnet18(mode):
    image = _resnet18()
    assert_picture_listens(image, 64)
    model = zoo.create("i3d_r18", num_frames=4, img_size=64)
    state = converters.convert(image.state_dict(), name="i3d_r18", source="timm", inflation=mode)
    missing, unexpected = model.load_state_dict(state, strict=False)
    assert (missing, unexpected) == (["fc.weight", "fc.bias"], [])
    error, pooled_error = _still_clip_errors(model, image, 64)
    assert max(error) < 1e-4
    assert pooled_error < 1e-4
    with torch.no_grad():
        model.layer2[0].conv1.weight.mul_(1.1)
    error, pooled_error = _still_clip_errors(model, image, 64)
    assert min(error) > 1e-4
    assert pooled_error > 1e-4


def test_a_picture_network_is_told_from_ours_by_its_axes():
    """The keys of ResNet-18 and of i3d_r18 are the same; only their kernels differ."""
    state = _resnet18().state_dict()
    found = converters.convert(state, name="i3d_r18")
    assert torch.allclose(found["conv1.weight"].sum(2), state["conv1.weight"], atol=1e-6)


def test_zero_padding_in_time_would_not_be_exact():
    image = _resnet18()
    model = zoo.create("i3d_r18", num_frames=4, img_size=64, temporal_padding="zeros")
    state = converters.convert(image.state_dict(), name="i3d_r18", source="timm")
    model.load_state_dict(state, strict=False)
    assert max(_still_clip_errors(model, image, 64)[0]) > 0.01


def assert_picture_listens(image, side):
    with torch.no_grad():
        a, b = (image(random_clip((1, 3, 1, side, side), seed=s)[:, :, 0]) for s in (11, 12))
    assert (a - b).abs().max() > 0.01 * a.abs().max()


def _still_clip_errors(model, image, side, t=4):
    """Largest deviation of each output frame's features, and of the pooled vector."""
    frame = random_clip((2, 3, 1, side, side), seed=1)[:, :, 0]
    with torch.no_grad():
        wanted = image.forward_features(frame)
        features = model.forward_features(_still(frame, t))
        pooled = model.forward_head(features, pre_logits=True)
        wanted_pooled = image.forward_head(wanted, pre_logits=True)
    if wanted.ndim == 3:  # tokens: class token, then patches
        patches = features[:, 1:].unflatten(1, (t, -1)).unbind(1)
        frames = [torch.cat([features[:, :1], patch], dim=1) for patch in patches]
    else:
        frames = features.unbind(2)
    assert len(frames) == t
    scale = wanted.abs().max()
    error = [float((found - wanted).abs().max() / scale) for found in frames]
    return error, float((pooled - wanted_pooled).abs().max() / wanted_pooled.abs().max())


PATTERNS = ("divided", "space", "factorised")


def _tiny_vit():
    return timm.models.VisionTransformer(
        img_size=32, patch_size=8, embed_dim=32, depth=2, num_heads=2, num_classes=10
    )


@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_still_clip_through_a_lifted_vit_is_the_picture_through_the_vit(pattern):
    _check_vit(_tiny_vit(), f"test_timesformer_{pattern}", side=32, t=4)


@pytest.mark.slow
@pytest.mark.parametrize("pattern", PATTERNS)
def test_the_same_at_the_size_of_vit_b16(pattern):
    vit = timm.create_model("vit_base_patch16_224")
    _check_vit(vit, f"timesformer_{pattern}", side=224, t=2)


def _check_vit(vit, name, *, side, t):
    torch.manual_seed(0)
    scramble(vit, torch.zeros(2, 3, side, side))
    assert_picture_listens(vit, side)
    model = zoo.create(name, num_frames=t)
    state = converters.convert(vit.state_dict(), name=name, source="timm", num_frames=t)
    missing, unexpected = model.load_state_dict(state, strict=False)
    assert unexpected == []
    assert all(part.startswith(("head", "time_embed", "blocks.")) for part in missing)
    error, pooled_error = _still_clip_errors(model, vit, side, t)
    assert max(error) < 1e-4
    assert pooled_error < 1e-4
    block = getattr(model.blocks[1], "spatial", model.blocks[1])
    with torch.no_grad():
        block.attn.proj.weight.mul_(1.1)
    error, pooled_error = _still_clip_errors(model, vit, side, t)
    assert min(error) > 1e-4
    assert pooled_error > 1e-4


def test_attention_over_time_starts_as_a_copy_of_that_over_space():
    state = converters.convert(
        _tiny_vit().state_dict(), name="test_timesformer_divided", source="timm"
    )
    for part in ("qkv.weight", "proj.bias"):
        assert torch.equal(state[f"blocks.1.temporal_attn.{part}"], state[f"blocks.1.attn.{part}"])


@pytest.mark.parametrize("pooling", ["avg", "max", "attention"])
def test_a_still_clip_through_framepool_is_the_picture_through_resnet18(pooling):
    image = _resnet18()
    model = zoo.create("framepool_r18", pooling=pooling)
    state = converters.convert(
        image.state_dict(), name="framepool_r18", source="timm", pooling=pooling
    )
    model.load_state_dict(state, strict=False)
    error, pooled_error = _still_clip_errors(model, image, 64)
    assert max(error) < 1e-4
    assert pooled_error < 1e-4


def test_the_inflated_stem_of_r2p1d_is_that_of_resnet18():
    image = _resnet18()
    model = zoo.create("r2p1d_18", stem="inflated")
    state = converters.convert(image.state_dict(), name="r2p1d_18", source="timm", stem="inflated")
    model.load_state_dict(state, strict=False)
    frame = random_clip((2, 3, 1, 64, 64), seed=1)[:, :, 0]
    with torch.no_grad():
        wanted = image.act1(image.bn1(image.conv1(frame)))
        found = model.stem(_still(frame, 5))
    for index in range(5):
        assert_close(found[:, :, index], wanted)
    assert torch.equal(
        state["layer2.0.downsample.0.weight"][:, :, 0],
        image.state_dict()["layer2.0.downsample.0.weight"],
    )


def test_the_second_convolution_keeps_the_first_ones_middle_width():
    """VMZ's Caffe2 networks recompute it there: 288, 576 and 1152 instead."""
    model = zoo.create("r2p1d_18")
    for layer, theirs in ((model.layer2, 288), (model.layer3, 576), (model.layer4, 1152)):
        first, second = layer[0].conv1.spatial, layer[0].conv2.spatial
        assert first.out_channels == second.out_channels
        assert second.out_channels != theirs
        assert layer[1].conv2.spatial.out_channels == theirs


def test_a_checkpoint_is_recognised_by_shapes_and_its_values_are_joined_once(monkeypatch):
    seen = []
    attempt = converters.KeyMap.attempt

    def watched(keymap, state, *args, **kwargs):
        seen.append(any(not tensor.is_meta for tensor in state.values()))
        return attempt(keymap, state, *args, **kwargs)

    monkeypatch.setattr(converters.KeyMap, "attempt", watched)
    model, entry = zoo.create("test_vivit", num_classes=5), registry.load("test_vivit")
    state = converters.export(model, target="transformers")
    found, made_with = converters.layouts.convert_unsized(state, entry, {})
    assert made_with["num_classes"] == 5
    assert seen.count(True) == 1
    wanted = model.state_dict()
    assert found.state.keys() == wanted.keys()
    assert all(torch.equal(found.state[key], value) for key, value in wanted.items())


def test_a_plan_made_from_shapes_refuses_other_tensors():
    entry = registry.load("test_vivit")
    state = converters.export(zoo.create("test_vivit"), target="transformers")
    header = {key: value.to("meta") for key, value in state.items()}
    outline = converters.layouts.build_outline(entry, {})
    plan = converters.layouts.plan_unsized(header, entry, {}, outline)
    first, *others = state
    with pytest.raises(
        ValueError, match=r"torch\.float16, where its header speaks of torch\.float32"
    ):
        plan.convert({**state, first: state[first].half()})
    with pytest.raises(ValueError, match="wrong shapes"):
        plan.convert({**state, first: state[first][..., :1]})
    with pytest.raises(ValueError, match="missing keys"):
        plan.convert({key: state[key] for key in others})
