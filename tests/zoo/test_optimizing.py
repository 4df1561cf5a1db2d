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
from scrambling import assert_close, clip_shape, count_batch_norms, random_clip, scramble
from torch import nn
from typer.testing import CliRunner

import converters
import registry
import zoo
from zoo.cli import app
from zoo.lifting.convolution import FrameConv3d

VIDEO = Path(__file__).parents[2] / "examples/clips/cup-right-to-left.mp4"
NAMES = registry.list_models("test_*")
# Branches of MobileOne that are a BatchNorm and nothing before it.
LEFT = {"test_tsm_mobileone": 6}


def _scrambled(name, **sizes):
    torch.manual_seed(0)
    model = zoo.create(name, **sizes)
    return scramble(model, torch.zeros(clip_shape(model, 4)))


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
    clip = random_clip(clip_shape(model), seed=1)
    fast = zoo.optimize(model)
    assert count_batch_norms(fast) == LEFT.get(name, 0)
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
    clip = random_clip(clip_shape(model), seed=1)
    fast = zoo.optimize(model, dtype=torch.bfloat16)
    assert {p.dtype for p in fast.parameters()} == {torch.bfloat16}
    with torch.no_grad():
        logits, features = fast(clip), fast.forward_features(clip)
        assert logits.dtype == features.dtype == torch.float32
        # Noise on all weights is harsher than training: see docs/speed.md for trained ones.
        assert_close(logits, model(clip), tolerance=0.2)
        assert_close(fast.forward_head(features), logits, tolerance=1e-6)


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
    clip = random_clip(clip_shape(model), seed=1)
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
    for name in (None, "test_r3d"):
        with pytest.raises(ValueError, match="export the model that zoo.optimize was given"):
            converters.export(fast, target="torchvision", name=name)
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
    clip = random_clip(clip_shape(fast), seed=1)
    with torch.no_grad():
        program = torch.export.export(fast, (clip,))
        assert_close(program.module()(clip), fast(clip), tolerance=1e-5 if dtype is None else 0.05)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
def test_a_copy_can_be_compiled(dtype):
    model = zoo.create("r2p1d_nano", pretrained=True)
    fast = zoo.optimize(model, dtype=dtype)
    clip = random_clip(clip_shape(fast), seed=1)
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
