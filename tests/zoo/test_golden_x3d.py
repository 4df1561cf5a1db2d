"""Logits of X3D in the authors' own code, recorded as numbers; `tests/golden` names its version."""

import hashlib
import json

import pytest
import torch
from golden_rule import clip, filled, golden
from scrambling import assert_close, assert_listens

import converters
import registry
import zoo

RECORDED, DEEP = golden("x3d")["models"], golden("x3d")["deep"]


def _converted(name, state=None):
    state = filled(RECORDED[name]["shapes"]) if state is None else state
    state = converters.convert(state, name=name, source="slowfast", shortcut_norm=True)
    model = zoo.create(name, shortcut_norm=True)
    model.load_state_dict(state)
    return model.eval()


@pytest.mark.parametrize("name", RECORDED)
def test_slowfast_weights_give_slowfasts_logits(name):
    model = _converted(name)
    for record in RECORDED[name]["logits"]:
        assert_listens(model, record["clip"])
        with torch.no_grad():
            assert_close(model(clip(record["clip"])), torch.tensor(record["value"]))


@pytest.mark.slow
@pytest.mark.parametrize("name", DEEP)
def test_larger_networks_have_slowfasts_keys_and_give_its_logits(name):
    with torch.device("meta"):
        model = registry.load(name).build(shortcut_norm=True)
    exported = converters.export(model, target="slowfast", name=name)
    shapes = {key: list(value.shape) for key, value in exported.items()}
    digest = hashlib.sha256(json.dumps(sorted(shapes.items())).encode()).hexdigest()
    assert digest == DEEP[name]["keys_sha256"]
    state = filled(shapes)
    for key, tensor in state.items():
        if key.endswith(("bn.bias", "running_mean")):
            tensor.zero_()  # or networks so deep would not hear the clip
    model = _converted(name, state)
    assert_listens(model, DEEP[name]["clip"])
    with torch.no_grad():
        assert_close(model(clip(DEEP[name]["clip"])), torch.tensor(DEEP[name]["value"]))


def test_a_planted_error_is_seen():
    model = _converted("test_x3d")
    record = RECORDED["test_x3d"]["logits"][0]
    with torch.no_grad():
        model.layer3[1].conv2.weight.mul_(1.1)
        found = model(clip(record["clip"]))
    with pytest.raises(AssertionError, match="deviates"):
        assert_close(found, torch.tensor(record["value"]))


def test_at_one_position_slowfasts_probabilities_are_the_softmax_of_our_logits():
    record = RECORDED["test_x3d"]["probabilities"][0]
    assert record["clip"][3:] == [32, 32]  # one position is left of it
    with torch.no_grad():
        found = _converted("test_x3d")(clip(record["clip"])).softmax(dim=1)
    assert_close(found, torch.tensor(record["value"]))


def test_export_gives_slowfasts_layout_back():
    state = filled(RECORDED["test_x3d"]["shapes"])
    exported = converters.export(_converted("test_x3d"), target="slowfast")
    assert exported.keys() == state.keys()
    counters = [key for key in state if key.endswith("num_batches_tracked")]
    assert all(torch.equal(exported[key], state[key]) for key in state.keys() - set(counters))


def test_only_slowfast_has_a_norm_on_the_shortcut_of_equal_widths():
    state = filled(RECORDED["test_x3d"]["shapes"])
    with pytest.raises(ValueError, match=r"s2.pathway0_res0.branch1_bn.weight"):
        converters.convert(state, name="test_x3d", source="slowfast")


def test_norms_have_the_authors_eps_and_momentum():
    norms = [m for m in zoo.create("test_x3d").modules() if isinstance(m, torch.nn.BatchNorm3d)]
    assert {(norm.eps, norm.momentum) for norm in norms} == {(1e-5, 0.1)}


@pytest.mark.parametrize(
    ("name", "crops"),
    [("x3d_xs", (160, 182)), ("x3d_s", (160, 182)), ("x3d_m", (224, 256)), ("x3d_l", (312, 356))],
)
def test_records_hold_the_authors_test_crop_and_models_their_training_crop(name, crops):
    trained, tested = crops
    assert zoo.create(name).pool_size == -(-trained // 32)
    for weights in registry.info(name).weights:
        assert (weights.preprocess.img_size, weights.preprocess.resize) == (tested, tested)
        assert (weights.preprocess.mean, weights.preprocess.std) == ((0.45,) * 3, (0.225,) * 3)
        assert (weights.sampling.num_clips, weights.sampling.num_crops) == (10, 3)


def test_every_second_block_scales_its_channels_and_strides_its_middle_convolution():
    model = zoo.create("x3d_xs")
    for stage in (model.layer1, model.layer2, model.layer3, model.layer4):
        scaled = [not isinstance(block.se, torch.nn.Identity) for block in stage]
        assert scaled == [index % 2 == 0 for index in range(len(stage))]
        assert [block.conv2.stride for block in stage][:2] == [(1, 2, 2), (1, 1, 1)]
        assert all(block.conv1.stride == (1, 1, 1) for block in stage)


@pytest.mark.parametrize("frames", [8, 16, 32])
@pytest.mark.parametrize("size", [64, 80])
def test_a_still_clip_of_any_length_and_size_keeps_the_frames_between_the_borders(frames, size):
    torch.manual_seed(0)
    model = zoo.create("test_efficient_x3d", num_frames=frames, img_size=size)
    for module in model.modules():
        if isinstance(module, torch.nn.Conv3d) and module.kernel_size[0] > 1:
            middle = module.kernel_size[0] // 2
            with torch.no_grad():  # frames no longer mix, so that a still clip stays still
                module.weight[:, :, :middle] = 0
                module.weight[:, :, middle + 1 :] = 0
    model.eval()
    picture = torch.randn(2, 3, 1, size, size)
    with torch.no_grad():
        assert_close(model(picture.expand(-1, -1, frames, -1, -1)), model(picture), tolerance=1e-5)
