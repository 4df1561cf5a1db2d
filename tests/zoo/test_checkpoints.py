"""Weights from files and folders: what fits is loaded whole, what does not is refused by name."""

import dataclasses

import pytest
import torch
import torchvision
from scrambling import random_clip

import converters
import registry
import zoo


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
    with pytest.warns(
        UserWarning, match=r"is new: 400 classes.*block}.conv1, .* layers are random"
    ):
        model = zoo.create("r2p1d_18", stem="inflated", checkpoint=tmp_path / "resnet18.pth")
    assert torch.allclose(model.stem.conv.weight.sum(2), image.conv1.weight, atol=1e-6)


@pytest.mark.parametrize("pattern", ["space", "joint"])
def test_a_vit_under_a_picture_tag_gives_no_picture_classes(pattern):
    """The keys of a ViT and of timesformer_space are the same; the tag tells what the file is."""
    import timm

    vit = timm.create_model("vit_base_patch16_224", depth=1, num_classes=1000)
    found, made_with = converters.layouts.convert_unsized(
        vit.state_dict(), _one_block(pattern), {}, expected="timm"
    )
    assert "head.weight" not in found.state
    assert "num_classes" not in made_with  # so that the model's own number stands


def _one_block(pattern):
    """timesformer of ViT-B's width and one block."""
    from zoo.models.timesformer import TimeSformer

    entry = registry.load(f"test_timesformer_{pattern}")
    return dataclasses.replace(
        entry, builder=lambda **kwargs: TimeSformer(pattern, depth=1, **kwargs | {"img_size": 224})
    )


@pytest.mark.parametrize("override", ["inflation", "expected", "arguments"])
def test_an_unknown_override_is_refused_with_a_file_too(tmp_path, override):
    torch.save(zoo.create("test_i3d").state_dict(), tmp_path / "m.pth")
    with pytest.raises(ValueError, match=f"takes no argument '{override}'"):
        zoo.create("test_i3d", checkpoint=tmp_path / "m.pth", **{override: "center"})


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
        (lambda c: c["preprocess"].update(mean=[0.5] * 4), "mean holds a number a channel"),
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
            r"wrong tensors: layer1\.0\.bn1\.bias is float32 \(99,\), must be float32 \(8,\)",
        ),
    ],
)
def test_harmed_tensors_in_a_folder_are_refused(trained, harm, sentence):
    _, folder = trained
    path = folder / "model.safetensors"
    state = converters.read_checkpoint(path)
    harm(state)
    converters.write_safetensors(state, path, metadata={})
    with pytest.raises(ValueError, match=f"the tensors that its config.json tells of: {sentence}"):
        zoo.create(f"local-dir:{folder}")


def test_an_override_that_changes_the_tensors_is_refused(trained):
    _, folder = trained
    with pytest.raises(ValueError, match=r"missing keys: stem\.conv\.weight"):
        zoo.create(f"local-dir:{folder}", stem="inflated")


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
