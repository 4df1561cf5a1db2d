"""The contract of DESIGN, over every family's test variant; a new family adds no code here."""

import copy
import re
from functools import cache

import pytest
import torch
from scrambling import assert_close, assert_listens, random_clip, scramble

import registry
import zoo

NAMES = registry.list_models("test_*")


def _shape(model, n=2):
    return (n, model.in_chans, model.num_frames, model.img_size, model.img_size)


@cache
def _scrambled(name):
    torch.manual_seed(0)
    made = zoo.create(name)
    return scramble(made, torch.zeros(_shape(made, 4)))


@pytest.fixture(params=NAMES)
def model(request):
    return copy.deepcopy(_scrambled(request.param))


def test_every_family_has_a_test_variant():
    tested = {registry.info(name).family for name in NAMES}
    assert tested == {registry.info(name).family for name in registry.list_models()}


def test_logits_depend_on_the_clip_and_are_finite(model):
    assert_listens(model, _shape(model))
    logits = model(random_clip(_shape(model), seed=1))
    assert logits.shape == (2, model.record.arguments["num_classes"])
    assert logits.isfinite().all()


def test_every_parameter_gets_a_gradient(model):
    model.train()
    features = model.forward_features(random_clip(_shape(model, 4), seed=1))
    loss = model.forward_head(features).square().sum()
    if model.num_prefix_tokens:  # the last block's patches may be no concern of the class token
        loss = loss + features.square().sum()
    loss.backward()
    silent = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert [n for n in silent if not n.startswith(model.pretraining_weights)] == []


def test_two_passes_are_equal_and_a_batch_equals_its_items(model):
    clip = random_clip(_shape(model, 3), seed=1)
    with torch.no_grad():
        whole = model(clip)
        assert torch.equal(whole, model(clip))
        items = torch.cat([model(item[None]) for item in clip])
    assert_close(items, whole, tolerance=1e-5)


def test_forward_is_features_then_head(model):
    clip = random_clip(_shape(model), seed=1)
    with torch.no_grad():
        features = model.forward_features(clip)
        pooled = model.forward_head(features, pre_logits=True)
        logits = model.forward_head(features)
        assert pooled.shape == (2, model.num_features)
        if not model.reads_class_names:  # which compare names with more than the pooled features
            assert torch.equal(model.get_classifier()(pooled), logits)
        assert torch.equal(model(clip), logits)


def test_features_have_the_layout_of_the_family(model):
    with torch.no_grad():
        features = model.forward_features(random_clip(_shape(model), seed=1))
        last = model.forward_intermediates(
            random_clip(_shape(model), seed=1), indices=1, norm=True, intermediates_only=True
        )[0]
    if features.ndim == 3:  # a family of tokens
        t, h, w = last.shape[2:]
        prefix = model.num_prefix_tokens
        assert features.shape == (2, prefix + t * h * w, last.shape[1])
        patches = features[:, prefix:].transpose(1, 2).reshape(last.shape)  # time slowest
        assert_close(patches, last, tolerance=1e-5)
    else:
        assert torch.equal(features, last)


def test_intermediates_agree_with_feature_info(model):
    clip = random_clip(_shape(model), seed=1)
    with torch.no_grad():
        final, levels = model.forward_intermediates(clip)
        assert torch.equal(final, model.forward_features(clip))
        assert len(levels) == len(model.feature_info)
        for level, facts in zip(levels, model.feature_info, strict=True):
            assert level.shape[:2] == (2, facts["num_chs"])
            assert level.shape[3] == -(-model.img_size // facts["reduction"])
            model.get_submodule(facts["module"])
        only = model.forward_intermediates(
            clip, indices=[0, -1], stop_early=True, intermediates_only=True
        )
        assert torch.equal(only[0], levels[0])
        assert torch.equal(only[1], levels[-1])
    with pytest.raises(ValueError, match="outside the"):
        model.forward_intermediates(clip, indices=[99])
    with pytest.raises(ValueError, match="names no level"):
        model.forward_intermediates(clip, indices=[], stop_early=True)


def test_stopping_early_leaves_later_levels_uncomputed(model):
    clip = random_clip(_shape(model), seed=1)
    last = model.get_submodule(model.feature_info[-1]["module"])
    calls = []
    hook = last.register_forward_hook(lambda *_: calls.append(1))
    with torch.no_grad():
        model.forward_intermediates(clip, indices=[0], stop_early=True)
        assert calls == []
        model.forward_intermediates(clip, indices=[0])
    hook.remove()
    assert calls == [1]


@pytest.mark.parametrize("change", ["reversed", "shuffled"])
def test_order_of_frames_does_what_the_record_says(model, change):
    clip = random_clip(_shape(model), seed=1)
    t = model.num_frames
    order = list(range(t))[::-1]
    if change == "shuffled":
        order = [*range(1, t, 2), *range(0, t, 2)]
    with torch.no_grad():
        logits, changed = model(clip), model(clip[:, :, order])
    difference = (logits - changed).abs().max() / logits.abs().max()
    says = registry.info(model.record.architecture).order
    blind = says == "ignored" or (says == "reversal_blind" and change == "reversed")
    if blind:
        assert difference < 1e-5
    else:
        assert difference > 1e-3


def test_save_and_load_give_equal_values(model, tmp_path):
    folder = zoo.save(model, tmp_path / "saved")
    again = zoo.create(f"local-dir:{folder}")
    clip = random_clip(_shape(model), seed=1)
    with torch.no_grad():
        assert torch.equal(again(clip), model(clip))
    assert again.record.to_json() == model.record.to_json()
    assert {path.name for path in folder.iterdir()} == {
        "README.md",
        "config.json",
        "model.safetensors",
    }


@pytest.mark.parametrize("name", NAMES)
def test_checkpointing_changes_no_value_and_no_gradient(name):
    model = copy.deepcopy(_scrambled(name))
    clip = random_clip(_shape(model), seed=1)
    gradients, statistics, calls = [], [], []
    last = model.get_submodule(model.feature_info[-1]["module"])
    block = next(m for m in last.modules() if any(True for _ in m.parameters(recurse=False)))
    start = copy.deepcopy(model.state_dict())
    for enable in (False, True):
        model.load_state_dict(start)
        model.train()
        model.set_grad_checkpointing(enable)
        model.zero_grad()
        seen = []
        hook = block.register_forward_pre_hook(lambda *_, seen=seen: seen.append(1))
        model(clip).square().sum().backward()
        hook.remove()
        calls.append(len(seen))
        gradients.append([p.grad.clone() for p in model.parameters() if p.grad is not None])
        statistics.append([b.clone() for b in model.buffers()])
    assert calls[1] == 2 * calls[0]  # the backward pass computes it once more
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(*gradients, strict=True))
    if not name.endswith("framepool"):  # timm's own checkpointing counts clips twice
        assert all(torch.equal(a, b) for a, b in zip(*statistics, strict=True))


def test_layer_decay_groups_cover_every_parameter(model):
    from timm.optim import param_groups_layer_decay

    groups = param_groups_layer_decay(
        model, weight_decay=0.1, layer_decay=0.5, no_weight_decay_list=model.no_weight_decay()
    )
    scale_of = {
        id(p): (group["lr_scale"], group["weight_decay"])
        for group in groups
        for p in group["params"]
    }
    scales = {name: scale_of[id(p)] for name, p in model.named_parameters()}
    lowest, highest = min(scales.values())[0], max(scales.values())[0]
    assert lowest < highest
    for key in model.stem_weights:
        assert scales[key][0] == lowest
        norm = key.replace("conv.spatial", "conv.norm").replace("conv1", "bn1")
        assert scales.get(norm, (lowest,))[0] == lowest
    classifier = [name for name in scales if name.startswith(f"{model.classifier_name}.")]
    assert {scales[name][0] for name in classifier} == {highest}
    for key in model.no_weight_decay():
        assert scales[key][1] == 0
    tables = {name for name in scales if name.endswith(("_embed", "_token"))}
    assert tables <= model.no_weight_decay() <= scales.keys()


def test_classifier_can_be_replaced_and_removed(model):
    clip = random_clip(_shape(model), seed=1)
    with torch.no_grad():
        pooled = model.forward_head(model.forward_features(clip), pre_logits=True)
        model.reset_classifier(5)
        assert model(clip).shape == (2, 5)
        assert model.record.arguments["num_classes"] == 5
        assert model.record.labels is None
        model.reset_classifier(0)
        assert torch.equal(model(clip), pooled)
    model.double().reset_classifier(2)
    assert {p.dtype for p in model.get_classifier().parameters()} == {torch.float64}


@pytest.mark.parametrize("name", NAMES)
def test_other_classes_channels_frames_and_size(name):
    torch.manual_seed(0)
    default = zoo.create(name)
    t, size = 2 * default.num_frames, 2 * default.img_size
    if default.fixed_input:
        for other in ({"num_frames": t}, {"img_size": size}):
            with pytest.raises(ValueError, match="made for clips of"):
                zoo.create(name, **other)
        t, size = default.num_frames, default.img_size
    for in_chans in (1, 4):
        made = zoo.create(name, num_classes=3, in_chans=in_chans, num_frames=t, img_size=size)
        assert (made.num_frames, made.img_size, made.in_chans) == (t, size, in_chans)
        assert made.record.sampling.num_frames == t
        assert made.record.preprocess.img_size == size
        with torch.no_grad():
            assert made(torch.randn(1, in_chans, t, size, size)).shape == (1, 3)


def test_record_agrees_with_the_module(model):
    facts = registry.info(model.record.architecture)
    assert facts.params == sum(p.numel() for p in model.parameters())
    assert facts.num_classes == model.num_classes
    assert facts.sampling.num_frames == model.num_frames
    assert facts.preprocess.img_size == model.img_size


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda x: x.transpose(1, 2), r"if this is \(N, T, C, H, W\), call x.transpose\(1, 2\)"),
        (lambda x: x.permute(0, 2, 3, 4, 1), r"if this is \(N, T, H, W, C\), call x.permute"),
        (lambda x: x[0], r"x.unsqueeze\(0\)"),
        (lambda x: (x * 50).to(torch.uint8), "got torch.uint8; zoo.load_clip"),
        (lambda x: torch.cat([x, x], dim=1), r"in_chans=6"),
        (lambda x: x[0, 0], "zoo.load_clip makes them"),
        (lambda x: x.numpy(), "got a ndarray"),
    ],
)
def test_a_wrong_clip_is_refused_in_a_sentence(model, change, sentence):
    with pytest.raises(ValueError, match=sentence):
        model(change(torch.randn(_shape(model))))


def test_no_frames_are_refused(model):
    with pytest.raises(ValueError, match="holds no frames"):
        model(torch.randn(1, 3, 0, model.img_size, model.img_size))


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_exports_with_a_dynamic_batch(name):
    model = copy.deepcopy(_scrambled(name))
    batch = torch.export.Dim("batch", min=1, max=64)
    exported = torch.export.export(
        model, (torch.randn(_shape(model)),), dynamic_shapes=({0: batch},), strict=False
    )
    clip = random_clip(_shape(model, 3), seed=1)
    with torch.no_grad():
        assert_close(exported.module()(clip), model(clip), tolerance=1e-5)


@pytest.mark.parametrize("num_frames", [8, 16, 32])
@pytest.mark.parametrize("img_size", [64, 96])
@pytest.mark.parametrize("name", NAMES)
def test_usual_frames_and_sizes_work_or_are_refused(name, num_frames, img_size):
    trained = _scrambled(name)
    try:
        made = zoo.create(name, num_frames=num_frames, img_size=img_size)
    except ValueError as refusal:
        assert re.search(r"made for clips of|is no multiple of the patch", str(refusal))
        return
    assert not trained.fixed_input
    state = copy.deepcopy(trained.state_dict())
    made.resize_positions(state, trained=trained.record)
    made.load_state_dict(state)
    shape = (1, made.in_chans, num_frames, img_size, img_size)
    still = random_clip((*shape[:2], 1, *shape[3:]), seed=1).expand(shape)
    with torch.no_grad():
        logits, moving = made(still), made(random_clip(shape, seed=1))
    assert logits.shape == (1, trained.num_classes)
    assert logits.isfinite().all()
    assert (logits - moving).abs().max() > 1e-3 * logits.abs().max()
