"""`create`: names, tags, arguments and checkpoints; what is wrong is said in one sentence."""

import dataclasses
import warnings

import pytest
import torch
import torchvision
from scrambling import assert_close, random_clip, scramble

import converters
import registry
import zoo


def test_a_model_is_ready_for_use():
    model = zoo.create("test_r2p1d")
    assert not model.training
    assert model.record.name == "test_r2p1d"
    assert model.record.source is None


def test_a_tag_selects_the_recipe_without_loading():
    with pytest.warns(UserWarning, match=r"'timesformer_divided.k600' .* pass pretrained=True"):
        model = zoo.create("timesformer_divided.k600", img_size=32, num_frames=2)
    assert model.record.tag == ""
    assert model.num_classes == 600
    assert model.record.labels is None


def test_labels_of_ones_own(tmp_path, trained):
    names = ("wave", "clap", "nod")
    model = zoo.create("test_r2p1d", labels=names)
    assert model.num_classes == 3
    again = zoo.create(f"local-dir:{zoo.save(model, tmp_path / 'own')}")
    assert again.record.labels == names
    with pytest.warns(UserWarning, match="is new: 3 classes"):
        assert zoo.create(f"local-dir:{trained[1]}", labels=names).record.labels == names
    with pytest.raises(ValueError, match="there are 3 labels for 4 classes"):
        zoo.create("test_r2p1d", labels=names, num_classes=4)


@pytest.mark.parametrize(
    ("name", "kind", "sentence"),
    [
        ("r2p1d_81", LookupError, r"Unknown model 'r2p1d_81'. Did you mean 'r2p1d_18'\?"),
        ("r2p1d_18.k40", LookupError, r"Unknown tag 'k40' for 'r2p1d_18'. .*mean 'k400'\?"),
        ("i4d:resnet50", ValueError, "Unknown scheme 'i4d:'"),
        ("", ValueError, "A model name is text"),
        ("local-dir:/nowhere/at/all", FileNotFoundError, "takes a folder that zoo.save wrote"),
    ],
)
def test_wrong_names(name, kind, sentence):
    with pytest.raises(kind, match=sentence):
        zoo.create(name, pretrained="." in name and not name.startswith("local"))


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"drop_rat": 0.1}, r"takes no argument 'drop_rat'. Allowed: .*mean 'drop_rate'\?"),
        ({"widths": (1, 2)}, "takes no argument 'widths'"),
        ({"num_frames": 0}, "num_frames must be a whole number of 1 or more, not 0"),
        ({"num_classes": -1}, "num_classes must be a whole number of 0 or more"),
        ({"in_chans": 2.5}, "in_chans must be a whole number"),
        ({"stem": "4d"}, "Unknown stem '4d'. Known: 3d, 2plus1d, inflated"),
        ({"pretrained": True}, "has no pretrained weights"),
        ({"pretrained": True, "checkpoint": "x"}, "Both pretrained=True and checkpoint='x'"),
        ({"pretrained": ""}, "True, False or a tag"),
        ({"pretrained": None}, "True, False or a tag"),
    ],
)
def test_wrong_arguments(arguments, sentence):
    with pytest.raises((ValueError, LookupError), match=sentence):
        zoo.create("test_r2p1d", **arguments)


def test_a_size_that_the_patch_does_not_divide():
    with pytest.raises(ValueError, match="img_size=30 is no multiple of the patch of 8"):
        zoo.create("test_timesformer_divided", img_size=30)


def test_a_clip_of_another_length_than_the_tables_is_refused():
    model = zoo.create("test_timesformer_joint")
    with pytest.raises(ValueError, match=r"made for clips of \(T, H, W\) = \(4, 32, 32\)"):
        model(torch.randn(1, 3, 8, 32, 32))


def test_drop_rate_reaches_the_model():
    assert zoo.create("test_r3d", drop_rate=0.3).drop.p == 0.3
    blocks = zoo.create("test_timesformer_space", drop_path_rate=0.2).blocks
    assert [block.drop_path.rate for block in blocks] == [0.0, 0.2]


@pytest.fixture
def trained(tmp_path):
    """A scrambled model saved as a folder, with labels."""
    torch.manual_seed(0)
    model = scramble(zoo.create("test_r2p1d"), torch.zeros(4, 3, 8, 32, 32))
    labels = tuple("abcdefg")
    model.record = dataclasses.replace(model.record, labels=labels)
    return model, zoo.save(model, tmp_path / "trained")


def test_other_classes_give_a_new_head_and_one_warning(trained):
    model, folder = trained
    with pytest.warns(UserWarning, match="is new: 3 classes with random weights") as caught:
        new = zoo.create(f"local-dir:{folder}", num_classes=3)
    assert len(caught) == 1
    assert new.record.labels is None
    clip = random_clip((1, 3, 8, 32, 32), seed=1)
    with torch.no_grad():
        wanted = model.forward_features(clip)
        assert torch.equal(new.forward_features(clip), wanted)
        pooled = zoo.create(f"local-dir:{folder}", num_classes=0)(clip)
    assert torch.equal(pooled, model.forward_head(wanted, pre_logits=True))


def test_the_same_number_of_classes_keeps_the_head_and_labels(trained):
    _, folder = trained
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        new = zoo.create(f"local-dir:{folder}", num_classes=7)
    assert new.record.labels == tuple("abcdefg")


def test_one_channel_sees_gray_as_three_do(trained):
    model, folder = trained
    gray = zoo.create(f"local-dir:{folder}", in_chans=1)
    clip = random_clip((1, 1, 8, 32, 32), seed=1)
    with torch.no_grad():
        assert_close(gray(clip), model(clip.repeat(1, 3, 1, 1, 1)))


def test_position_tables_are_resampled_from_the_trained_grid(tmp_path):
    torch.manual_seed(0)
    model = zoo.create("test_timesformer_divided")
    scramble(model, torch.zeros(2, 3, 4, 32, 32))
    folder = zoo.save(model, tmp_path / "m")
    new = zoo.create(f"local-dir:{folder}", num_frames=8, img_size=64)
    assert torch.equal(
        new.pos_embed,
        converters.resize_spatial_table(
            model.pos_embed, old=(4, 4), new=(8, 8), num_prefix_tokens=1
        ),
    )
    assert torch.equal(
        new.time_embed, converters.resize_temporal_table(model.time_embed, num_frames=8)
    )
    assert new(torch.randn(1, 3, 8, 64, 64)).isfinite().all()


def test_a_still_clip_gives_the_same_answer_for_any_number_of_frames(tmp_path):
    torch.manual_seed(0)
    model = zoo.create("test_timesformer_factorised")
    scramble(model, torch.zeros(2, 3, 4, 32, 32), keep=("temporal", "time_embed"))
    folder = zoo.save(model, tmp_path / "m")
    frame = random_clip((1, 3, 1, 32, 32), seed=1)
    with torch.no_grad():
        wanted = model(frame.repeat(1, 1, 4, 1, 1))
        for t in (1, 8, 16):
            new = zoo.create(f"local-dir:{folder}", num_frames=t)
            assert_close(new(frame.repeat(1, 1, t, 1, 1)), wanted)


@pytest.mark.parametrize("form", ["ours.safetensors", "ours.pth", "torchvision.pth", "wrapped.pth"])
def test_a_checkpoint_file_in_any_known_layout(tmp_path, trained, form):
    model, _ = trained
    state = model.state_dict()
    if form.startswith(("torchvision", "wrapped")):
        state = converters.export(model, target="torchvision")
    path = tmp_path / form
    if form.endswith("safetensors"):
        converters.write_safetensors(state, path, metadata={})
    elif form.startswith("wrapped"):
        torch.save({"state_dict": {f"module.{key}": value for key, value in state.items()}}, path)
    else:
        torch.save(state, path)
    new = zoo.create("test_r2p1d", checkpoint=path)
    clip = random_clip((1, 3, 8, 32, 32), seed=1)
    with torch.no_grad():
        assert torch.equal(new(clip), model(clip))
    assert new.record.source == {"checkpoint": form}


def test_a_checkpoint_with_other_classes_at_another_length(tmp_path):
    torch.manual_seed(0)
    made = zoo.create("test_timesformer_joint", num_classes=3)
    torch.save(made.state_dict(), tmp_path / "3.pth")
    path = tmp_path / "3.pth"
    longer = zoo.create("test_timesformer_joint", checkpoint=path, num_classes=3, num_frames=8)
    assert torch.equal(longer.head.weight, made.head.weight)
    assert longer.time_embed.shape[1] == 8


def test_a_checkpoint_with_other_classes(tmp_path):
    torch.manual_seed(0)
    for classes in (7, 3):
        made = zoo.create("test_r2p1d", num_classes=classes)
        torch.save(made.state_dict(), tmp_path / f"{classes}.pth")
    kept = zoo.create("test_r2p1d", checkpoint=tmp_path / "3.pth", num_classes=3)
    assert torch.equal(kept.fc.weight, made.fc.weight)
    with pytest.warns(UserWarning, match="is new: 3 classes"):
        zoo.create("test_r2p1d", checkpoint=tmp_path / "7.pth", num_classes=3)


@pytest.mark.parametrize(
    ("harm", "named"),
    [
        (lambda s: s.pop("layer1.0.bn1.bias"), r"missing keys: layer1\.0\.bn1\.bias"),
        (lambda s: s.update(stray=torch.zeros(1)), "unknown keys: stray"),
        (
            lambda s: s.update({"stem.bn.bias": torch.zeros(99)}),
            r"wrong shapes: stem\.bn\.bias is \(99,\)",
        ),
    ],
)
def test_a_checkpoint_that_does_not_fit_is_named(tmp_path, trained, harm, named):
    state = trained[0].state_dict()
    harm(state)
    torch.save(state, tmp_path / "bad.pth")
    with pytest.raises(ValueError, match=rf"bad\.pth.*{named}"):
        zoo.create("test_r2p1d", checkpoint=tmp_path / "bad.pth")


def test_a_checkpoint_takes_the_labels_of_the_tag_it_is_said_to_be(tmp_path):
    torch.manual_seed(0)
    torch.save(torchvision.models.video.mc3_18(weights=None).state_dict(), tmp_path / "m.pth")
    named = zoo.create("mc3_18.k400", checkpoint=tmp_path / "m.pth")
    assert named.record.labels[0] == "abseiling"
    assert zoo.create("mc3_18", checkpoint=tmp_path / "m.pth").record.labels is None


def test_picture_weights_from_a_path_start_a_video_model(tmp_path):
    torch.manual_seed(0)
    image = torchvision.models.resnet18(weights=None)
    torch.save(image.state_dict(), tmp_path / "resnet18.pth")
    with pytest.warns(UserWarning, match="is new: 400 classes"):
        model = zoo.create("r2p1d_18", stem="inflated", checkpoint=tmp_path / "resnet18.pth")
    assert torch.allclose(model.stem.conv.weight.sum(2), image.conv1.weight, atol=1e-6)


@pytest.mark.parametrize("tag", ["in1k_inflated", "in1k_inflated_center"])
def test_picture_weights_from_a_path_are_inflated_as_the_tag_says(tmp_path, tag):
    torch.manual_seed(0)
    image = torchvision.models.resnet18(weights=None)
    torch.save(image.state_dict(), tmp_path / "resnet18.pth")
    made = zoo.create(f"i3d_r18.{tag}", checkpoint=tmp_path / "resnet18.pth", num_classes=0)
    share = 1.0 if tag.endswith("center") else 1 / 3
    assert torch.allclose(made.conv1.weight[:, :, 1], share * image.conv1.weight, atol=1e-6)


@pytest.mark.parametrize(
    ("harm", "sentence"),
    [
        (lambda c: c.update(extra=1), r"unknown keys \['extra'\]"),
        (lambda c: c.pop("labels"), r"missing keys \['labels'\]"),
        (lambda c: c.update(schema_version=9), "has schema_version 9; this videozoo reads 1"),
        (lambda c: c.update(architecture="r2p1d_999"), "Unknown model 'r2p1d_999'"),
        (lambda c: c.update(sampling={"rule": 3}), "holds a wrong value: "),
        (lambda c: c["sampling"].update(rule="foo"), "rule is one of uniform, dense"),
        (lambda c: c["sampling"].update(average="foo"), "average is one of logits"),
        (lambda c: c["sampling"].update(num_frames="8"), "num_frames is a whole number"),
        (lambda c: c["preprocess"].update(mean=[0.5, 0.5]), "mean holds a number a channel"),
        (lambda c: c["preprocess"].update(std=[0.0, 1.0, 1.0]), "std must be above 0"),
        (lambda c: c.update(labels=["a", "b"]), "there are 2 labels for 7 classes"),
        (lambda c: c["arguments"].pop("in_chans"), "arguments must hold in_chans"),
    ],
)
def test_a_harmed_config_is_refused(trained, harm, sentence):
    import json

    _, folder = trained
    config = json.loads((folder / "config.json").read_text())
    harm(config)
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises((ValueError, LookupError), match=sentence):
        zoo.create(f"local-dir:{folder}")


@pytest.mark.parametrize(
    ("harm", "sentence"),
    [
        (lambda s: s.pop("layer1.0.bn1.weight"), r"missing keys: layer1\.0\.bn1\.weight"),
        (lambda s: s.pop("stem.conv.spatial.weight"), r"missing keys: stem\.conv\.spatial"),
        (lambda s: s.pop("fc.weight"), r"missing keys: fc\.weight"),
        (lambda s: s.update(zzz=torch.zeros(1)), "unknown keys: zzz"),
        (
            lambda s: s.update({"layer1.0.bn1.bias": torch.zeros(99)}),
            r"wrong shapes: layer1\.0\.bn1\.bias is \(99,\), must be \(8,\)",
        ),
    ],
)
def test_harmed_tensors_in_a_folder_are_refused(trained, harm, sentence):
    _, folder = trained
    path = folder / "model.safetensors"
    state = converters.read_checkpoint(path)
    harm(state)
    converters.write_safetensors(state, path, metadata={})
    with pytest.raises(ValueError, match=f"do not fit what is asked: {sentence}"):
        zoo.create(f"local-dir:{folder}")


def test_an_override_that_changes_the_tensors_is_refused(trained):
    _, folder = trained
    with pytest.raises(ValueError, match=r"missing keys: stem\.conv\.weight"):
        zoo.create(f"local-dir:{folder}", stem="inflated")


def test_gray_stays_gray_unless_other_channels_are_asked_for(tmp_path):
    folder = zoo.save(zoo.create("test_i3d", in_chans=1), tmp_path / "gray")
    assert zoo.create(f"local-dir:{folder}").in_chans == 1
    assert zoo.create(f"local-dir:{folder}", in_chans=3).in_chans == 3


def test_the_warning_points_at_the_caller(trained):
    _, folder = trained
    with pytest.warns(UserWarning, match="is new") as caught:
        zoo.create(f"local-dir:{folder}", num_classes=3)
    assert caught[0].filename == __file__


def test_a_harmed_folder_is_refused(trained):
    _, folder = trained
    (folder / "config.json").write_text("{")
    with pytest.raises(ValueError, match=r"config\.json' is not JSON"):
        zoo.create(f"local-dir:{folder}")
    (folder / "config.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"config\.json' does not exist"):
        zoo.create(f"local-dir:{folder}")


def test_what_was_not_made_by_create_cannot_be_saved(tmp_path):
    for model in (registry.load("test_r3d").build(), torch.nn.Linear(1, 1)):
        with pytest.raises(ValueError, match="was not made by zoo.create"):
            zoo.save(model, tmp_path / "m")
    changed = zoo.create("test_r3d")
    changed.fc = torch.nn.Linear(12, 2)
    with pytest.raises(ValueError, match=r"it differs in fc\.bias, fc\.weight"):
        zoo.save(changed, tmp_path / "m")
    assert not (tmp_path / "m" / "config.json").exists()
    (tmp_path / "file").write_text("x")
    with pytest.raises(OSError, match="is a file; give a folder"):
        zoo.save(zoo.create("test_r3d"), tmp_path / "file")


def test_a_full_disk_leaves_the_good_folder(trained, monkeypatch):
    _, folder = trained
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    def fail(*_, **__):
        raise OSError("No space left on device")

    monkeypatch.setattr("zoo.folder.folder_card", lambda *_, **__: "x" * 10)
    monkeypatch.setattr("pathlib.Path.write_text", fail)
    other = zoo.create("test_r2p1d", num_classes=3)
    with pytest.raises(OSError, match="No space left"):
        zoo.save(other, folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_embedded_weights_that_were_changed_are_refused(monkeypatch, tmp_path):
    import zoo.pretrained as pretrained

    name = "r2p1d_nano.motion.safetensors"
    content = bytearray((pretrained._PACKAGE_FOLDER / name).read_bytes())
    content[-1] ^= 1
    (tmp_path / name).write_bytes(content)
    monkeypatch.setattr(pretrained, "_PACKAGE_FOLDER", tmp_path)
    with pytest.raises(ValueError, match=r"'r2p1d_nano.motion.safetensors' has SHA-256"):
        zoo.create("r2p1d_nano", pretrained=True)


def test_drop_path_drops_whole_samples_and_keeps_the_mean():
    from zoo.layers import DropPath

    torch.manual_seed(0)
    drop = DropPath(0.25).train()
    kept = drop(torch.ones(4000, 3, 2))
    assert kept.unique().tolist() == pytest.approx([0.0, 4 / 3])
    assert (kept == kept[:, :1, :1]).all()
    assert kept.mean() == pytest.approx(1.0, abs=0.05)
    assert torch.equal(drop.eval()(kept), kept)
    with pytest.raises(ValueError, match="drop_path_rate must be from 0 to below 1"):
        DropPath(1.0)


@pytest.mark.parametrize("name", ["test_r3d", "test_framepool", "test_timesformer_space"])
def test_dropout_stands_before_the_classifier(name):
    torch.manual_seed(0)
    model = zoo.create(name, drop_rate=0.9, num_classes=0).train()
    frames, size = model.num_frames, model.img_size
    pooled = model.forward_head(model.forward_features(torch.randn(2, 3, frames, size, size)))
    assert (pooled == 0).float().mean() > 0.7


def test_wrong_kinds_of_names_are_refused():
    for name in (5, None, zoo):
        with pytest.raises(ValueError, match="A model name is text"):
            zoo.create(name)


@pytest.fixture
def registered(monkeypatch):
    """Register builders for one test; give the decorator's arguments."""
    catalogue = registry.catalogue
    monkeypatch.setattr(catalogue, "_registered", dict(catalogue._registered))
    like = registry.info("test_r3d")
    recipe = {"num_classes": 7, "sampling": like.sampling, "preprocess": like.preprocess}
    return zoo.register_model(order="used", **recipe)


def test_a_builder_may_take_ordinary_arguments(registered):
    @registered
    def plain_r3d(num_classes=10, in_chans=3, num_frames=8, img_size=32):
        return registry.load("test_r3d").build(num_classes=num_classes, in_chans=in_chans)

    assert zoo.create("plain_r3d", num_classes=4).num_classes == 4
    with pytest.raises(ValueError, match="takes no argument 'drop_rate'"):
        zoo.create("plain_r3d", drop_rate=0.1)


def test_a_builder_without_a_type_of_what_it_returns_passes_arguments_on(registered):
    @registered
    def loose_r3d(**kwargs):
        return registry.load("test_r3d").build(**kwargs)

    assert zoo.create("loose_r3d", drop_rate=0.5).drop.p == 0.5
    with pytest.raises(ValueError, match="takes no argument 'drop_rat'"):
        zoo.create("loose_r3d", drop_rat=0.5)


def test_a_builder_of_something_else_is_refused(registered):
    @registered
    def not_a_model(**kwargs):
        return torch.nn.Linear(1, 1)

    with pytest.raises(ValueError, match="returned a Linear; a model of the zoo is a zoo.Video"):
        zoo.create("not_a_model")


def test_converting_with_an_unknown_argument_is_refused():
    with pytest.raises(ValueError, match=r"no argument 'num_class'.*mean 'num_classes'"):
        converters.convert({}, name="test_r3d", num_class=3)
