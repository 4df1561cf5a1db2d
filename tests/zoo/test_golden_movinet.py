"""MoViNet's logits in the port whose weights are read, recorded as numbers, and its padding."""

import hashlib
import json

import pytest
import torch
import torch.nn.functional as F
from golden_rule import clip, fill, filled, golden
from scrambling import assert_close, assert_listens

import converters
import registry
import zoo
from zoo.layers import same_padding

RECORDED = golden("movinet")["models"]
DEEP = golden("movinet")["deep"]
SIZED = [
    pytest.param(name, marks=[] if name.startswith("test") else [pytest.mark.slow])
    for name in RECORDED
]


def _filled(shapes):
    """The rule's tensors with halved variances, or deep networks would not hear the clip."""
    state = filled(shapes)
    return {key: t * 0.5 if key.endswith("running_var") else t for key, t in state.items()}


def _converted(name, shapes):
    state = converters.convert(_filled(shapes), name=name, source="movinet-pytorch")
    model = zoo.create(name)
    model.load_state_dict(state)
    return model.eval()


@pytest.mark.parametrize("name", SIZED)
def test_the_ports_weights_give_its_logits_at_even_and_odd_sizes(name):
    model = _converted(name, RECORDED[name]["shapes"])
    for record in RECORDED[name]["logits"]:
        assert_listens(model, record["clip"])
        with torch.no_grad():
            assert_close(model(clip(record["clip"])), torch.tensor(record["value"]))


@pytest.mark.parametrize("name", ["test_movinet", "test_movinet_stream"])
def test_a_planted_error_is_seen(name):
    model = _converted(name, RECORDED[name]["shapes"])
    record = RECORDED[name]["logits"][0]
    with torch.no_grad():
        model.layer2[1].deep.conv.weight.mul_(1.1)
        found = model(clip(record["clip"]))
    with pytest.raises(AssertionError, match="deviates"):
        assert_close(found, torch.tensor(record["value"]))


def test_pieces_of_a_stream_give_the_ports_logits():
    model = _converted("test_movinet_stream", RECORDED["test_movinet_stream"]["shapes"])
    frames = clip(RECORDED["test_movinet_stream"]["logits"][0]["clip"])
    state = model.initial_state(frames.shape[0])
    for record in RECORDED["test_movinet_stream"]["pieces"]:
        start, end = record["frames"]
        with torch.no_grad():
            logits, state = model.forward_stream(frames[:, :, start:end], state)
        assert_close(logits, torch.tensor(record["value"]))


@pytest.mark.parametrize("name", SIZED)
def test_export_gives_the_ports_layout_back(name):
    state = _filled(RECORDED[name]["shapes"])
    exported = converters.export(
        _converted(name, RECORDED[name]["shapes"]), target="movinet-pytorch"
    )
    assert exported.keys() == state.keys()
    for key, tensor in state.items():
        assert exported[key].shape == tensor.shape
        if not key.endswith("num_batches_tracked"):
            assert torch.equal(exported[key], tensor)


@pytest.mark.slow
@pytest.mark.parametrize("name", DEEP)
def test_deeper_networks_have_the_ports_keys_and_give_its_logits(name):
    with torch.device("meta"):
        model = registry.load(name).build()
    exported = converters.export(model, target="movinet-pytorch", name=name)
    shapes = {key: list(value.shape) for key, value in exported.items()}
    digest = hashlib.sha256(json.dumps(sorted(shapes.items())).encode()).hexdigest()
    assert digest == DEEP[name]["keys_sha256"]
    model = _converted(name, shapes)
    assert_listens(model, DEEP[name]["clip"])
    with torch.no_grad():
        assert_close(model(clip(DEEP[name]["clip"])), torch.tensor(DEEP[name]["value"]))


def _as_in_tensorflow(name):
    """Our model, filled under our own keys, which were copied to the authors' layer by layer."""
    model = zoo.create(name)
    state = model.state_dict()
    fill(state)
    for key, tensor in state.items():
        if key.endswith("running_var"):
            tensor.mul_(0.5)
    return model.eval()


@pytest.mark.parametrize(
    "name",
    [
        name if name.startswith("test") else pytest.param(name, marks=pytest.mark.slow)
        for name in golden("movinet_tensorflow")["logits"]
    ],
)
def test_the_authors_own_code_gives_the_same_logits(name):
    model = _as_in_tensorflow(name)
    recorded = golden("movinet_tensorflow")["logits"][name]
    for record in recorded["clips"]:
        assert_listens(model, record["clip"])
        with torch.no_grad():
            assert_close(model(clip(record["clip"])), torch.tensor(record["value"]))
    frames = clip(recorded["clips"][0]["clip"])
    state = (
        model.initial_state(len(frames), img_size=tuple(frames.shape[3:])) if model.causal else {}
    )
    for record in recorded["pieces"]:
        start, end = record["frames"]
        with torch.no_grad():
            logits, state = model.forward_stream(frames[:, :, start:end], state)
        assert_close(logits, torch.tensor(record["value"]))


def test_norms_have_the_authors_eps_and_momentum():
    for name in ("test_movinet", "test_movinet_stream"):
        norms = [m for m in zoo.create(name).modules() if isinstance(m, torch.nn.BatchNorm3d)]
        # Keras counts what is kept, PyTorch what is taken.
        assert {(norm.eps, norm.momentum) for norm in norms} == {(1e-3, 0.01)}


@pytest.mark.parametrize(
    ("size", "kernel", "wanted"),
    # By hand: 6 pixels at stride 2 give 3, whose windows of 3 start at 0, 2 and 4 and end at 7.
    [(6, 3, (0, 1)), (7, 3, (1, 1)), (6, 5, (1, 2)), (7, 5, (2, 2)), (43, 3, (1, 1))],
)
def test_same_padding_depends_on_the_size(size, kernel, wanted):
    assert same_padding(size, kernel, 2) == wanted
    assert same_padding(size, kernel, 1) == (kernel // 2, kernel // 2)


@pytest.mark.parametrize("size", [(6, 6), (7, 7), (6, 9)])
def test_the_shortcuts_average_counts_no_padding(size):
    from zoo.models.movinet import Shortcut

    shortcut = Shortcut(2, 2, stride=2)
    shortcut.project = torch.nn.Identity()
    picture = torch.randn(1, 2, 3, *size)
    padded = F.pad(picture, (size[1] % 2, 1, size[0] % 2, 1), value=float("nan"))
    windows = padded.unfold(3, 3, 2).unfold(4, 3, 2).flatten(5)  # (N, C, T, H', W', 9)
    assert_close(shortcut(picture), windows.nanmean(dim=5), tolerance=1e-6)


def test_pixels_are_only_scaled_and_labels_are_alphabetical():
    for name in registry.list_models("movinet*"):
        facts = registry.info(name)
        assert (facts.preprocess.mean, facts.preprocess.std) == ((0.0,) * 3, (1.0,) * 3)
        assert facts.num_classes == 600
        assert {weights.labels for weights in facts.weights} <= {"kinetics600"}
    labels = registry.labels("kinetics600")
    assert list(labels) == sorted(labels)


@pytest.mark.parametrize("frames", [8, 16, 32])
@pytest.mark.parametrize("size", [32, 45])
@pytest.mark.parametrize("name", ["test_movinet", "test_movinet_stream"])
def test_a_still_clip_of_any_length_and_size_gives_the_pictures_logits(name, frames, size):
    torch.manual_seed(0)
    model = zoo.create(name, num_frames=frames, img_size=size)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, torch.nn.Conv3d) and module.kernel_size[0] > 1:
                # Only the frame itself is heard: the last one of a causal kernel.
                own = module.kernel_size[0] // 2 if module.padding[0] else -1
                kept = module.weight[:, :, own].clone()
                module.weight.zero_()[:, :, own] = kept
            if hasattr(module, "alpha"):
                module.alpha.fill_(0.5)
        picture = torch.rand(2, 3, 1, size, size)
        still = picture.expand(-1, -1, frames, -1, -1)
        assert_close(model(still), model(picture), tolerance=1e-5)
