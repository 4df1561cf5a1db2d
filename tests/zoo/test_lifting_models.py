"""`create("i3d:NAME")` and what it gives: the contract, names, sizes, saving, timm's weights."""

import copy
import json
import pickle
import warnings

import pytest
import timm
import torch
from safetensors.torch import save, save_file
from scrambling import assert_close, random_clip, scramble
from timm.models import save_for_hf
from timm_files import MEMBERS

import zoo
from converters.unfilled import unset
from zoo.lifting import LiftedModel

NAMES = (
    "i3d:test_resnet",
    "r2p1d:test_efficientnet",
    "tsm:test_convnext",
    "divided:test_vit",
    "joint:test_vit",
    "factorised:test_vit",
    "framepool:test_resnet",
)


def made(name, **arguments):
    torch.manual_seed(0)
    model = zoo.create(name, **{"num_frames": 4, "img_size": 64, **arguments})
    return scramble(model, torch.zeros(4, model.in_chans, 4, 64, 64))


def clip(model, n=2):
    return random_clip((n, model.in_chans, model.num_frames, 64, 64), seed=1)


@pytest.fixture(params=NAMES)
def model(request):
    return made(request.param)


@pytest.fixture
def timm_folder(tmp_path):
    """A scrambled image model in timm's own layout, and its model."""
    torch.manual_seed(0)
    image = scramble(timm.create_model("test_resnet"), torch.zeros(2, 3, 64, 64))
    folder = tmp_path / "timm"
    folder.mkdir()
    save_file(image.state_dict(), folder / "model.safetensors")
    config = {
        "architecture": "test_resnet",
        "num_classes": 1000,
        "num_features": 96,
        "pretrained_cfg": {
            k: v for k, v in image.pretrained_cfg.items() if k not in ("hf_hub_id", "url", "file")
        },
    }
    (folder / "config.json").write_text(json.dumps(config, default=list))
    return folder, image


@torch.no_grad()
def test_the_contract(model):
    x = clip(model)
    logits = model(x)
    features = model.forward_features(x)
    assert_close(model.forward_head(features), logits, tolerance=1e-5)
    pooled = model.forward_head(features, pre_logits=True)
    assert pooled.shape == (2, model.num_features)
    assert_close(model.get_classifier()(pooled), logits, tolerance=1e-5)
    assert_close(torch.cat([model(item[None]) for item in x]), logits, tolerance=1e-5)
    final, levels = model.forward_intermediates(x)
    assert_close(final, features, tolerance=1e-5)
    assert len(levels) == len(model.feature_info)
    for level, facts in zip(levels, model.feature_info, strict=True):
        assert level.shape[:3] == (2, facts["num_chs"], 4)
        model.get_submodule(facts["module"])
    if features.ndim == 3:
        prefix = model.num_prefix_tokens
        last = model.forward_intermediates(x, indices=1, norm=True, intermediates_only=True)[0]
        patches = features[:, prefix:].transpose(1, 2).reshape(last.shape)  # time slowest
        assert_close(patches, last, tolerance=1e-5)
    model.reset_classifier(5)
    assert model(x).shape == (2, 5)
    model.reset_classifier(0)
    assert_close(model(x), pooled, tolerance=1e-5)


@torch.no_grad()
def test_save_and_load_by_name_alone(model, tmp_path):
    folder = zoo.save(model, tmp_path / "saved")
    again = zoo.create(f"local-dir:{folder}")
    assert again.record.to_json() == model.record.to_json()
    assert torch.equal(again(clip(model)), model(clip(model)))
    with pytest.warns(UserWarning, match="is new: 3 classes"):
        other = zoo.create(
            f"local-dir:{folder}", num_classes=3, in_chans=1, num_frames=2, img_size=96
        )
    assert other(torch.randn(1, 1, 2, 96, 96)).shape == (1, 3)
    still = clip(model, 1)[:, :, :1]
    if model.method != "i3d":  # which also reads the colours' sum over another number of frames
        same = zoo.create(f"local-dir:{folder}", num_frames=2)
        assert same(still.expand(-1, -1, 2, -1, -1)).isfinite().all()


@torch.no_grad()
def test_copies_are_apart(model):
    x = clip(model)
    logits = model(x)
    twin, pickled = copy.deepcopy(model), pickle.loads(pickle.dumps(model))
    for parameter in twin.parameters():
        parameter.add_(0.5)
    assert torch.equal(model(x), logits)
    assert torch.equal(pickled(x), logits)
    assert not torch.allclose(twin(x), logits)


def test_exports_with_a_dynamic_batch(model):
    batch = torch.export.Dim("batch", min=1, max=64)
    exported = torch.export.export(
        model, (clip(model),), dynamic_shapes=({0: batch},), strict=False
    )
    with torch.no_grad():
        assert_close(exported.module()(clip(model, 3)), model(clip(model, 3)), tolerance=1e-5)


@pytest.mark.slow
def test_compiles_in_one_graph(model):
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    with torch.no_grad():
        assert_close(compiled(clip(model)), model(clip(model)))


def test_checkpointing_changes_no_gradient(model):
    model.train()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eval()
    gradients = []
    for enable in (False, True):
        model.set_grad_checkpointing(enable)
        model.zero_grad()
        torch.manual_seed(0)
        model(clip(model)).square().sum().backward()
        assert all(p.grad is not None for p in model.parameters())
        gradients.append([p.grad.clone() for p in model.parameters()])
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(*gradients, strict=True))


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("r2p1d:test_resnet", {}),
        ("tsm:test_resnet", {}),
        ("i3d:test_resnet", {"temporal_stride": 2}),
    ],
)
def test_checkpointed_clips_of_two_lengths(name, options):
    model = made(name, **options).train()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eval()
    clips = [random_clip((n, 3, t, 64, 64), seed=t) for n, t in ((1, 8), (2, 4))]  # rows are equal
    gradients = []
    for enable, split in ((False, False), (True, False), (True, True)):
        model.set_grad_checkpointing(enable)
        model.zero_grad()
        losses = [model(x).square().sum() for x in clips]
        for loss in losses if split else [sum(losses)]:
            loss.backward()
        gradients.append([p.grad.clone() for p in model.parameters()])
    for other in gradients[1:]:
        for found, wanted in zip(other, gradients[0], strict=True):
            assert_close(found, wanted, tolerance=1e-4)


@pytest.mark.parametrize("name", ["framepool:test_vit", "tsm:test_resnet"])
@torch.no_grad()
def test_features_of_two_lengths_keep_their_frames(name):
    model = made(name)
    long, short = (random_clip((2, 3, t, 64, 64), seed=t) for t in (8, 2))
    logits, features = model(long), model.forward_features(long)
    model(short)
    assert_close(model.forward_head(features), logits, tolerance=1e-5)


def test_layer_decay_groups_cover_every_parameter(model):
    from timm.optim import param_groups_layer_decay

    names = {id(p): name for name, p in model.named_parameters()}
    asked = model.no_weight_decay()
    assert asked <= set(names.values())
    groups = param_groups_layer_decay(
        model, weight_decay=0.1, layer_decay=0.5, no_weight_decay_list=asked
    )
    scales = {names[id(p)]: (g["lr_scale"], g["weight_decay"]) for g in groups for p in g["params"]}
    assert scales.keys() == set(names.values())
    lowest, highest = min(scales.values())[0], max(scales.values())[0]
    assert lowest < highest
    assert scales[model.stem_weights[0]][0] == lowest
    assert scales[f"{model.classifier_name}.weight"][0] == highest
    assert all(scales[name][1] == 0 for name in asked)
    assert {n for n in names.values() if n.endswith("time_embed")} <= asked
    for name, (scale, _) in scales.items():  # what is new learns as fast as what it stands beside
        if name.startswith("temporal."):
            place = name.removeprefix("temporal.").rpartition(".")[0]
            beside = {s for n, (s, _) in scales.items() if n.startswith(f"image.{place}.")}
            assert not beside or scale in beside, name


@torch.no_grad()
def test_half_precision_and_memory_format(model):
    x = clip(model)
    last = x.contiguous(memory_format=torch.channels_last_3d)
    assert_close(model(last), model(x), tolerance=1e-4)
    assert_close(model.bfloat16()(x.bfloat16()).float(), model.float()(x), tolerance=0.2)


@torch.no_grad()
def test_another_number_of_frames(model):
    x = random_clip((1, 3, 6, 64, 64), seed=1)
    if any("time_embed" in name for name in model.new_parameters):
        with pytest.raises(ValueError, match=r"made for clips of 4 frames, got 6; zoo.create"):
            model(x)
    else:
        assert_close(model.forward_head(model.forward_features(x)), model(x), tolerance=1e-5)


@pytest.mark.parametrize("method", ["i3d", "r2p1d", "divided"])
@torch.no_grad()
def test_the_image_model_comes_back(method):
    name = "test_vit" if method == "divided" else "test_nfnet"
    torch.manual_seed(0)
    image = scramble(
        timm.create_model(name, img_size=64) if "vit" in name else timm.create_model(name),
        torch.zeros(2, 3, 64, 64),
    )
    model = zoo.inflate(copy.deepcopy(image), method=method)
    other = timm.create_model(name, img_size=64) if "vit" in name else timm.create_model(name)
    other.load_state_dict(model.image_state_dict(), strict=True)
    x = torch.randn(1, 3, 64, 64)
    assert_close(other.eval()(x), image(x))


@torch.no_grad()
def test_a_model_in_hand_is_saved(tmp_path):
    image = timm.create_model("test_resnet.r160_in1k", num_classes=7).eval()
    model = zoo.inflate(image, method="r2p1d", num_frames=4)
    assert isinstance(model, LiftedModel)
    assert not model.training
    again = zoo.create(f"local-dir:{zoo.save(model, tmp_path / 'own')}")
    assert again.record.architecture == "r2p1d:test_resnet.r160_in1k"
    assert torch.equal(again(clip(model)), model(clip(model)))


def test_first_values_that_weights_replace_are_not_drawn(timm_folder, monkeypatch):
    folder, image = timm_folder
    target = f"framepool:local-dir:{folder}"
    before = torch.get_rng_state()
    model = zoo.create(target)
    assert torch.equal(torch.get_rng_state(), before)
    # A new classifier has first values; what some weights should lack has them, too.
    with pytest.warns(UserWarning, match="is new: 9 classes"):
        head = zoo.create(target, num_classes=9).get_classifier().weight
    assert 0 < head.std() < 1
    monkeypatch.setattr(unset, "missing", lambda *_: True)
    before = torch.get_rng_state()
    again = zoo.create(target)
    assert not torch.equal(torch.get_rng_state(), before)
    for key, value in image.state_dict().items():
        assert torch.equal(model.image.state_dict()[key], value), key
        assert torch.equal(again.image.state_dict()[key], value), key


@pytest.mark.slow
@pytest.mark.parametrize("file", MEMBERS)
def test_images_with_weights_are_timms_in_every_value(file, tmp_path, monkeypatch):
    name, arguments, _ = MEMBERS[file]
    image = timm.create_model(name, **arguments)
    state = {key: value.clone() for key, value in image.state_dict().items()}  # none is shared
    save_for_hf(image, tmp_path, model_args=arguments)
    save_file(state, tmp_path / "model.safetensors")
    wanted = timm.create_model(f"local-dir:{tmp_path}", pretrained=True)
    found = zoo.create(f"framepool:local-dir:{tmp_path}").image
    for kind in ("named_parameters", "named_buffers"):
        ours = dict(getattr(found, kind)())
        for key, value in getattr(wanted, kind)():
            assert torch.equal(ours[key], value), key


def test_weights_that_cannot_be_had_are_asked_for_once(monkeypatch):
    class Absent(FileNotFoundError, ValueError):
        """As huggingface-hub 0.30 has it."""

    asked = []

    def create_model(name, **_):
        asked.append(name)
        raise Absent("no network")

    monkeypatch.setattr(timm, "create_model", create_model)
    with pytest.raises(ConnectionError, match="cannot fetch 'test_resnet'"):
        zoo.create("i3d:test_resnet", pretrained=True)
    assert asked == ["test_resnet"]


@torch.no_grad()
def test_timms_own_folder(timm_folder, tmp_path):
    folder, image = timm_folder
    x = clip(made("i3d:test_resnet"), 1)[:, :, :1]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = zoo.create(f"i3d:local-dir:{folder}", num_frames=4)
    assert_close(model(x.expand(-1, -1, 4, -1, -1)), image(x[:, :, 0]))
    assert model.record.labels[0].startswith("tench")
    with pytest.warns(UserWarning, match="is new: 3 classes") as caught:
        assert zoo.create(f"i3d:local-dir:{folder}", num_classes=3).record.labels is None
    assert len(caught) == 1
    gray = zoo.create(f"tsm:local-dir:{folder}", in_chans=1, num_classes=0)
    assert gray(torch.randn(1, 1, 4, 64, 64)).shape == (1, gray.num_features)
    zoo.save(model, tmp_path / "video")
    with pytest.raises(ValueError, match="is a video model that zoo.save wrote"):
        zoo.create(f"i3d:local-dir:{tmp_path / 'video'}")


@torch.no_grad()
def test_a_repository_of_the_hub(timm_folder, hub, monkeypatch, tmp_path):
    folder, image = timm_folder
    config = (folder / "config.json").read_bytes()
    weights = save(image.state_dict())
    hub.seed("timm/tiny", {"config.json": config, "model.safetensors": weights})
    hub.point_client(monkeypatch, tmp_path)
    model = zoo.create("r2p1d:hf-hub:timm/tiny", num_frames=4)
    x = clip(model, 1)[:, :, :1]
    assert_close(model(x.expand(-1, -1, 4, -1, -1)), image(x[:, :, 0]))


def test_drop_rates_are_the_image_models_and_are_kept(tmp_path):
    model = zoo.create("r2p1d:test_convnext", drop_rate=0.3, drop_path_rate=0.2)
    again = zoo.create(f"local-dir:{zoo.save(model, tmp_path / 'saved')}")
    wanted = timm.create_model("test_convnext", drop_rate=0.3, drop_path_rate=0.2)
    for image in (wanted, model.image, again.image):
        paths = [m.drop_prob for m in image.modules() if type(m).__name__ == "DropPath"]
        drops = [m.p for m in image.modules() if isinstance(m, torch.nn.Dropout)]
        assert max(paths) == pytest.approx(0.2)
        assert 0.3 in drops
    assert again.record.arguments["drop_path_rate"] == 0.2
    assert "drop_rate" not in zoo.create("tsm:test_resnet", drop_rate=None).record.arguments
    for rate in (2.0, -0.1, "0.1", True):
        with pytest.raises(ValueError, match="drop_path_rate must be 0 or more and less than 1"):
            zoo.create("tsm:test_resnet", drop_path_rate=rate)
    with pytest.raises(ValueError, match=r"timm's 'vgg11' takes no drop_path_rate; leave it out\."):
        zoo.create("framepool:vgg11", drop_path_rate=0.1)


def test_random_weights_have_no_labels_and_no_source():
    model = zoo.create("i3d:test_resnet.r160_in1k")
    assert (model.record.labels, model.record.source) == (None, None)
    assert (model.num_frames, model.img_size) == (8, 160)
    assert model.record.preprocess.img_size == 160


@pytest.mark.parametrize(
    ("call", "error", "sentence"),
    [
        (lambda: zoo.create("i3d:resnet5O"), LookupError, "has no model 'resnet5O'.* Did you mean"),
        (lambda: zoo.create("i3d:resnet18.a1_in1"), LookupError, "Unknown tag.* mean 'a1_in1k'"),
        (lambda: zoo.create("i3d:tsm:resnet18"), ValueError, "Unknown scheme 'tsm'"),
        (lambda: zoo.create("i3d:local-dir:/nowhere"), FileNotFoundError, "timm's layout"),
        (lambda: zoo.create("i3d:resnet18", drop=1), ValueError, "Unknown override 'drop'"),
        (lambda: zoo.create("i3d:resnet18", pretrained="k400"), ValueError, "give pretrained=True"),
        (lambda: zoo.create("3d:resnet18"), ValueError, "scheme"),
        (lambda: zoo.create("i3d:test_vit"), ValueError, "These can: framepool:, divided:"),
    ],
)
def test_wrong_names_are_told_in_a_sentence(call, error, sentence):
    with pytest.raises(error, match=sentence):
        call()


def test_without_a_network_the_way_out_is_told(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ConnectionError, match="give weights fetched elsewhere as 'local-dir:PATH'"):
        zoo.create("i3d:test_resnet.r160_in1k", pretrained=True)
