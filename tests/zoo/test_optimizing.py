"""Inference copies: the same logits, fewer layers, and a model that is left as it was."""

import copy
import json
import pickle
import warnings
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scrambling import assert_close, random_clip, scramble
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from typer.testing import CliRunner

import registry
import zoo
from zoo.cli import app
from zoo.folding import fold_batch_norms
from zoo.lifting.convolution import FrameConv3d, TemporalConv

VIDEO = Path(__file__).parents[2] / "examples/clips/cup-right-to-left.mp4"
NAMES = registry.list_models("test_*")
# Branches of MobileOne that are a BatchNorm and nothing before it.
LEFT = {"test_tsm_mobileone": 6}
# Lifted networks and the BatchNorms that stay: those before a convolution, after a sum, a
# concatenation or a split, or after a linear layer over more than rows.
LIFTED = {
    "r2p1d:resnet18": 0,
    "i3d:resnet18": 0,
    "tsm:resnet18": 0,
    "r2p1d:resnext26ts": 0,
    "r2p1d:efficientnet_b0": 0,
    "i3d:mobilenetv3_small_050": 0,
    "i3d:regnety_002": 0,
    "i3d:ghostnet_100": 1,
    "framepool:dla34": 0,
    "framepool:repvgg_a0": 17,
    "framepool:res2net50_26w_4s": 0,
    "framepool:resnetv2_50": 17,
    "i3d:densenet121": 62,
    "framepool:nf_regnet_b0": 0,
    "divided:vit_tiny_patch16_224": 0,
}


def _norms(model):
    return sum(isinstance(module, _BatchNorm) for module in model.modules())


def _shape(model, n=2):
    return (n, model.in_chans, model.num_frames, model.img_size, model.img_size)


def _scrambled(name, **sizes):
    torch.manual_seed(0)
    model = zoo.create(name, **sizes)
    return scramble(model, torch.zeros(_shape(model, 4)))


def _snapshot(model):
    """All that a copy must leave alone: values, where they lie, modes, hooks, gradients."""
    return (
        {key: value.clone() for key, value in model.state_dict().items()},
        {key: (value.data_ptr(), value.stride()) for key, value in model.state_dict().items()},
        {name: (p.requires_grad, p.grad is None) for name, p in model.named_parameters()},
        {
            name: (type(m), m.training, [*m._forward_hooks, *m._forward_pre_hooks])
            for name, m in model.named_modules()
        },
    )


@pytest.mark.parametrize("name", NAMES)
def test_the_copy_gives_the_same_logits_and_features_without_batch_norms(name):
    model = _scrambled(name)
    before = _snapshot(model)
    clip = random_clip(_shape(model), seed=1)
    fast = zoo.optimize(model)
    assert _norms(fast) == LEFT.get(name, 0)
    assert isinstance(fast, type(model))
    own = {p.untyped_storage().data_ptr() for p in fast.parameters() if p.numel()}
    assert not own & {p.untyped_storage().data_ptr() for p in model.parameters() if p.numel()}
    with torch.no_grad():
        wanted, features = model(clip), model.forward_features(clip)
        levels = model.forward_intermediates(clip, intermediates_only=True)
        assert_close(fast(clip), wanted, tolerance=2e-5)
        assert_close(fast.forward_features(clip), features, tolerance=2e-5)
        found = fast.forward_intermediates(clip, intermediates_only=True)
        for ours, theirs in zip(found, levels, strict=True):
            assert_close(ours, theirs, tolerance=2e-5)
    after = _snapshot(model)
    assert before[1:] == after[1:]
    assert all(torch.equal(before[0][key], value) for key, value in after[0].items())


@pytest.mark.parametrize("name", NAMES)
def test_bfloat16_takes_and_gives_float32_and_stays_near(name):
    model = _scrambled(name)
    clip = random_clip(_shape(model), seed=1)
    fast = zoo.optimize(model, dtype=torch.bfloat16)
    assert {p.dtype for p in fast.parameters()} == {torch.bfloat16}
    with torch.no_grad():
        logits, features = fast(clip), fast.forward_features(clip)
        assert logits.dtype == features.dtype == torch.float32
        # Noise on all weights is harsher than training: see docs/speed.md for trained ones.
        assert_close(logits, model(clip), tolerance=0.2)
        assert_close(fast.forward_head(features), logits, tolerance=1e-6)


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=[pytest.mark.slow] if i % 2 else []) for i, n in enumerate(LIFTED)],
)
def test_lifted_image_models_are_folded_by_what_they_do(name):
    model = zoo.create(name, num_frames=2, img_size=224 if "vit" in name else 64)
    rng = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            if key.startswith("temporal."):
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=rng))
        for norm in model.modules():
            if isinstance(norm, _BatchNorm):
                norm.running_mean.normal_(0, 0.2, generator=rng)
                norm.running_var.uniform_(0.5, 1.5, generator=rng)
                norm.weight.uniform_(0.5, 1.2, generator=rng)
                norm.bias.normal_(0, 0.2, generator=rng)
    fast = zoo.optimize(model)
    assert _norms(fast) == LIFTED[name]
    clip = random_clip(_shape(model, 1), seed=1)
    with torch.no_grad():
        assert_close(fast(clip), model(clip), tolerance=2e-5)


class _Tiny(zoo.StagedModel):
    """One convolution and one BatchNorm, joined as a test says."""

    classifier_name = "fc"

    def __init__(self, join):
        super().__init__()
        self.in_chans, self.num_frames, self.img_size = 3, 4, 8
        self.num_features = self.num_classes = 6
        self.conv = nn.Conv3d(3, 6, 3, padding=1, padding_mode="circular", groups=3)
        self.bn = nn.BatchNorm3d(6)
        self.drop, self.fc = nn.Dropout(0.0), nn.Identity()
        self.feature_info = [{"num_chs": 6, "reduction": 1, "module": "conv"}]
        self.join = join

    def forward_features(self, x):
        return self.join(self, x)

    def forward_intermediates(self, x, *_, **__):
        return [self.join(self, x)]


def _read_twice(model, x):
    x = model.conv(x)
    return model.bn(x) + x


def _run_twice(model, x):
    return model.bn(model.conv(x)) + model.conv(x.flip(2))


def _normed_twice(model, x):
    return model.bn(model.bn(model.conv(x)))


def _changed_between(model, x):
    return model.bn(model.conv(x).mul_(2.0).relu_())


def _without_offset(model, x):
    return model.bn(nn.functional.conv3d(x, model.conv.weight, None, padding=1, groups=3))


def _scaled_weights(model, x):
    return model.bn(nn.functional.conv3d(x, model.conv.weight * 2, model.conv.bias, groups=3))


@pytest.mark.parametrize(
    ("join", "folded"),
    [
        (lambda model, x: model.bn(model.conv(x)), 1),
        (_read_twice, 0),
        (_run_twice, 0),
        (_normed_twice, 0),
        (_changed_between, 0),
        (_without_offset, 0),
        (_scaled_weights, 0),
    ],
)
def test_a_batch_norm_stays_where_folding_it_would_change_something(join, folded):
    torch.manual_seed(0)
    model = _Tiny(join)
    scramble(model, torch.zeros(4, 3, 4, 8, 8))
    fast = zoo.optimize(model)
    assert _norms(fast) == 1 - folded
    clip = random_clip((2, 3, 4, 8, 8), seed=1)
    with torch.no_grad():
        assert_close(fast(clip), model(clip), tolerance=1e-5)


class _Shown(_Tiny):
    """Its levels show what the convolution gives before the BatchNorm."""

    def __init__(self):
        super().__init__(lambda model, x: model.bn(model.conv(x)))

    def forward_intermediates(self, x, *_, **__):
        shown = self.conv(x)
        self.bn(shown)
        return [shown]


def _rows_are_channels(model, x):
    rows = model.mix(x.flatten(3).mean(dim=3).mean(dim=1)[:, None].expand(-1, 6, -1))
    return model.rows(rows)[..., None, None]  # BatchNorm1d takes the axis before the last


def test_a_batch_norm_stays_where_a_caller_or_another_axis_would_notice():
    torch.manual_seed(0)
    across = _Tiny(_rows_are_channels)
    across.mix, across.rows = nn.Linear(4, 6), nn.BatchNorm1d(6)
    for model in (_Shown(), across):
        assert fold_batch_norms(model.eval()) == 0


def _plain(model, x):
    return model.bn(model.conv(x))


def test_batch_norms_without_statistics_or_with_hooks_and_computed_weights_stay():
    loose = _Tiny(_plain)
    loose.bn = nn.BatchNorm3d(6, track_running_stats=False)
    hooked = _Tiny(_plain)
    hooked.bn.register_forward_hook(lambda _, __, output: output * 2)
    computed = _Tiny(_plain)
    nn.utils.parametrizations.weight_norm(computed.conv)
    for model in (loose, hooked, computed):
        assert fold_batch_norms(model.eval()) == 0


def _alias_norm(model):
    model.outer = nn.Sequential(model.bn)
    model.join = lambda model, x: model.outer(model.conv(x))


def _alias_layer(model):
    model.outer = nn.Sequential(model.conv)


def _alias_both(model):
    model.outer = nn.Sequential(model.conv, model.bn)
    model.join = lambda model, x: model.outer(x)


@pytest.mark.parametrize("alias", [_alias_norm, _alias_layer, _alias_both])
def test_what_has_two_names_stays(alias):
    torch.manual_seed(0)
    model = _Tiny(_plain)
    alias(model)
    scramble(model, torch.zeros(4, 3, 4, 8, 8))
    clip = random_clip((2, 3, 4, 8, 8), seed=1)
    fast = zoo.optimize(model)
    with torch.no_grad():
        assert_close(fast(clip), model(clip), tolerance=1e-5)
    assert _norms(fast) == 1


def _keep_output(model, keep):
    model.conv.register_forward_hook(lambda _, __, output: keep(output))


def _keep_output_of_a_parent(model, keep):
    model.outer = nn.Sequential(model.conv)
    del model.conv
    model.outer.register_forward_hook(lambda _, __, output: keep(output))
    model.join = lambda model, x: model.bn(model.outer(x))


def _keep_input_by_name(model, keep):
    model.next = nn.Identity()
    model.next.register_forward_pre_hook(
        lambda _, __, given: keep(given["input"]), with_kwargs=True
    )
    model.join = lambda model, x: model.bn(model.next(input=model.conv(x)))


@pytest.mark.parametrize("hook", [_keep_output, _keep_output_of_a_parent, _keep_input_by_name])
def test_hooks_are_given_in_a_copy_what_they_are_given_in_the_model(hook):
    torch.manual_seed(0)
    seen = []
    model = _Tiny(_plain)
    hook(model, seen.append)
    scramble(model, torch.zeros(4, 3, 4, 8, 8))
    clip = random_clip((2, 3, 4, 8, 8), seed=1)
    fast = zoo.optimize(model)
    seen.clear()
    with torch.no_grad():
        assert_close(fast(clip), model(clip), tolerance=1e-5)
    found, wanted = seen
    assert_close(found, wanted, tolerance=1e-5)


@pytest.mark.parametrize("method", ["i3d", "r2p1d"])
def test_a_hook_that_changes_what_a_lifted_layer_gives_is_no_part_of_its_weights(method):
    model = zoo.create(f"{method}:resnet10t", num_frames=2, img_size=32)
    scramble(model, torch.zeros(_shape(model, 4)))
    layers = [m for m in model.modules() if isinstance(m, FrameConv3d | TemporalConv)]
    layers[-1].register_forward_hook(lambda _, __, output: output * 2)
    fast = zoo.optimize(model)
    assert _norms(fast) == 1
    clip = random_clip(_shape(model, 1), seed=1)
    with torch.no_grad():
        assert_close(fast(clip), model(clip), tolerance=2e-5)


@pytest.mark.parametrize(
    ("name", "kind", "layout"),
    [
        ("test_r3d", nn.Conv3d, torch.channels_last_3d),
        ("i3d:resnet10t", FrameConv3d, torch.channels_last_3d),
        ("framepool:resnet10t", nn.Conv2d, torch.channels_last),
    ],
)
def test_kernels_lie_channels_last_in_the_copy_alone(name, kind, layout):
    model = zoo.create(name)
    fast = zoo.optimize(model)

    def lying():
        return [
            [
                module.weight.is_contiguous(memory_format=layout)
                for module in network.modules()
                if isinstance(module, kind)
                and module.weight.shape[1] > 1 < module.weight[0, 0].numel()
            ]
            for network in (fast, model)
        ]

    ours, given = lying()
    assert len(ours) == len(given) > 1
    assert all(ours)
    assert not any(given)


def test_it_is_a_model_of_its_class_that_predicts_copies_and_pickles():
    model = zoo.create("r2p1d_nano", pretrained=True)
    fast = zoo.optimize(model, dtype=torch.bfloat16)
    assert fast.record == model.record
    assert zoo.load_clip(VIDEO, fast).shape == zoo.load_clip(VIDEO, model).shape
    labels = [item.label for item in zoo.predict(model, VIDEO)]
    assert zoo.predict(fast, VIDEO)[0].label == labels[0]
    clip = zoo.load_clip(VIDEO, fast)
    with torch.no_grad():
        for twin in (copy.deepcopy(fast), pickle.loads(pickle.dumps(fast))):
            assert torch.equal(twin(clip), fast(clip))
    assert not fast.eval().training


def test_streams_go_on_in_a_copy():
    model = _scrambled("test_movinet_stream_positional")
    clip = random_clip(_shape(model), seed=1)
    for dtype, tolerance in ((None, 1e-5), (torch.bfloat16, 0.1)):
        fast = zoo.optimize(model, dtype=dtype)
        state = fast.initial_state(batch_size=2)
        with torch.no_grad():
            for piece in clip.split(3, dim=2):
                logits, state = fast.forward_stream(piece, state)
            assert logits.dtype == torch.float32
            assert_close(logits, model(clip), tolerance=tolerance)
        assert all(
            value.dtype == torch.float32
            for key, value in state.items()
            if key.endswith("se") or key == "pool"
        )
    whole = zoo.optimize(zoo.create("test_movinet"))
    with pytest.raises(ValueError, match="whole clips"):
        whole.forward_stream(clip, {})
    with pytest.raises(AttributeError, match="A VideoResNet takes whole clips"):
        zoo.optimize(zoo.create("test_r3d")).forward_stream(clip, {})


def test_what_a_copy_cannot_do_is_refused_in_a_sentence(tmp_path):
    model = zoo.create("test_r3d")
    fast = zoo.optimize(model)
    with pytest.raises(ValueError, match="inference copy, whose BatchNorms are gone"):
        fast.train()
    with pytest.raises(ValueError, match="no new classifier of 5 classes"):
        fast.reset_classifier(5)
    with pytest.raises(ValueError, match="save the model that zoo.optimize was given"):
        zoo.save(fast, tmp_path / "fast")
    with pytest.raises(ValueError, match="optimised already"):
        zoo.optimize(fast)
    with pytest.raises(TypeError, match="not a Linear"):
        zoo.optimize(nn.Linear(2, 2))
    with pytest.raises(TypeError, match="not a OptimizedModule"):
        zoo.optimize(torch.compile(model))
    with pytest.raises(ValueError, match="dtype=torch.float64 is given; known are torch.float32"):
        zoo.optimize(model, dtype=torch.float64)
    with pytest.raises(ValueError, match=r"uint8; zoo\.load_clip"):
        fast(torch.zeros(1, 3, 8, 32, 32, dtype=torch.uint8))


def test_float16_needs_a_processor_that_has_it(monkeypatch):
    monkeypatch.setattr("zoo.optimizing._half_on_cpu", lambda: False)
    with pytest.raises(ValueError, match="no float16 arithmetic; give dtype=torch.bfloat16"):
        zoo.optimize(zoo.create("test_r3d"), dtype=torch.float16)


@pytest.mark.parametrize(
    ("built", "onednn", "avx512", "bf16", "warned"),
    [
        (True, True, True, True, False),
        (True, True, False, False, False),  # an ARM processor that has it
        (True, False, False, False, True),
        (True, True, True, False, True),  # emulated
        (False, None, False, False, True),  # torch without oneDNN, whose question is missing
    ],
)
def test_bfloat16_is_warned_of_where_the_processor_has_none(
    monkeypatch, built, onednn, avx512, bf16, warned
):
    monkeypatch.setattr("zoo.optimizing.HAS_ONEDNN", built)
    asked = SimpleNamespace(_is_mkldnn_bf16_supported=lambda: onednn) if built else None
    monkeypatch.setattr("torch.ops.mkldnn", asked)
    monkeypatch.setattr("torch.cpu._is_avx512_supported", lambda: avx512)
    monkeypatch.setattr("torch.cpu._is_avx512_bf16_supported", lambda: bf16)
    model = zoo.create("test_r3d")
    with warnings.catch_warnings(record=True) as notes:
        warnings.simplefilter("always")
        fast = zoo.optimize(model, dtype=torch.bfloat16)
    assert {p.dtype for p in fast.parameters()} == {torch.bfloat16}
    said = "This processor has no bfloat16 arithmetic, and calculates in float32 sooner; leave the"
    assert [str(note.message).startswith(said) for note in notes] == [True] * warned
    assert {(note.category, note.filename) for note in notes} <= {(UserWarning, __file__)}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        zoo.optimize(model)
        zoo.optimize(model.to("meta"), dtype=torch.bfloat16)


@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
@pytest.mark.parametrize("name", ["test_r2p1d", "test_slowfast", "r2p1d:resnet10t"])
def test_a_copy_can_be_exported(name, dtype):
    model = zoo.create(name, num_frames=8, img_size=32)
    fast = zoo.optimize(model, dtype=dtype)
    clip = random_clip(_shape(fast), seed=1)
    with torch.no_grad():
        program = torch.export.export(fast, (clip,))
        assert_close(program.module()(clip), fast(clip), tolerance=1e-5 if dtype is None else 0.05)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
def test_a_copy_can_be_compiled(dtype):
    model = zoo.create("r2p1d_nano", pretrained=True)
    fast = zoo.optimize(model, dtype=dtype)
    clip = random_clip(_shape(fast), seed=1)
    with torch.no_grad():
        assert_close(
            torch.compile(fast)(clip), fast(clip), tolerance=1e-4 if dtype is None else 0.05
        )


def test_predict_takes_an_inference_copy():
    runner = CliRunner()
    found = []
    for options in ([], ["--optimize"], ["--optimize", "--dtype", "bfloat16"]):
        result = runner.invoke(app, ["predict", str(VIDEO), "--json", *options])
        assert result.exit_code == 0, result.output
        found.append([p["probability"] for p in json.loads(result.stdout)["predictions"]])
    assert np.allclose(found[0], found[1], atol=1e-4)
    assert np.allclose(found[0], found[2], atol=0.05)
    assert found[0] != found[2]
    for options, message in (
        (["--dtype", "bfloat16"], "give both"),
        (["--optimize", "--dtype", "int8"], "'int8' is none of float32, bfloat16, float16"),
    ):
        result = runner.invoke(app, ["predict", str(VIDEO), *options])
        assert result.exit_code == 2
        assert message in " ".join(result.output.replace("│", " ").split())
