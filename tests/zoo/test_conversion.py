"""Checkpoint files from layout to layout, through the command line as a user has it."""

import numpy as np
import pytest
import torch
import torchvision
from scrambling import assert_close, random_clip, scramble

import registry
import zoo
from converters import read_checkpoint, read_metadata
from zoo.conversion import recognise, targets

SHAPE = (1, 3, 8, 56, 56)


@pytest.fixture(scope="module")
def theirs(tmp_path_factory):
    """torchvision's mc3_18 with scrambled weights, and a training program's file of it."""
    torch.manual_seed(0)
    model = scramble(torchvision.models.video.mc3_18(weights=None), torch.zeros(2, *SHAPE[1:]))
    path = tmp_path_factory.mktemp("theirs") / "mc3.pth"
    wrapped = {f"module.{key}": value for key, value in model.state_dict().items()}
    torch.save({"state_dict": wrapped, "epoch": 3}, path)
    return model, path


@pytest.fixture
def run(run_zoo, monkeypatch, tmp_path):
    """Run `zoo ARGUMENTS` in an empty folder: exit code, stdout, stderr."""
    monkeypatch.chdir(tmp_path)
    return run_zoo


def test_a_file_is_recognised_converted_and_written_back_bit_for_bit(run, theirs, tmp_path):
    reference, path = theirs
    code, out, err = run("convert", path, "--out", "ours.safetensors")
    assert (code, out) == (0, "ours.safetensors\n")
    assert "mc3_18, read from the layout 'torchvision', is written to 'ours.safetensors'" in err
    facts = read_metadata(tmp_path / "ours.safetensors")
    assert (facts["name"], facts["source"]) == ("mc3_18", "torchvision")
    model = zoo.create("mc3_18", checkpoint="ours.safetensors")
    clip = random_clip(SHAPE, seed=1)
    with torch.no_grad():
        assert_close(model(clip), reference(clip))
    assert run("convert", "ours.safetensors", "--to", "torchvision", "--out", "back.pth")[0] == 0
    back, wanted = read_checkpoint(tmp_path / "back.pth"), reference.state_dict()
    assert back.keys() == wanted.keys()
    assert all(torch.equal(back[key], wanted[key]) for key in wanted)
    reference.load_state_dict(back, strict=True)


def test_a_name_with_its_weights_is_exported(run, theirs, tmp_path):
    reference, path = theirs
    code, out, _ = run("export", "mc3_18", "--to", "torchvision", "--checkpoint", path)
    assert (code, out) == (0, "mc3_18-torchvision.safetensors\n")
    state = read_checkpoint(tmp_path / out.strip())
    assert all(torch.equal(state[key], value) for key, value in reference.state_dict().items())


def test_a_model_without_classes_is_recognised(theirs):
    state = {key: v for key, v in theirs[0].state_dict().items() if not key.startswith("fc")}
    found = recognise(state)
    assert (found.name, found.arguments["num_classes"]) == ("mc3_18", 0)
    assert found.build().num_classes == 0


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--model", "r3d_18"), "does not fit 'r3d_18' from 'torchvision': wrong shapes: layer2"),
        (("--model", "r3d_81"), "Unknown model 'r3d_81'"),
        (("--source", "zoo"), "No model of the zoo has these"),
        (("--model", "mc3_18", "--source", "zoo"), "is in the layout 'torchvision' of 'mc3_18'"),
        (("--model", "mc3_18", "--source", "tv"), "Unknown layout 'tv' for 'mc3_18'"),
        (("--to", "pytorchvideo"), "Unknown layout 'pytorchvideo' for 'mc3_18'"),
        (("--to", "torchvision", "--out", "x.npz"), "'x.npz' tells no format"),
    ],
)
def test_what_cannot_be_converted_is_said_and_leaves_no_file(
    run, theirs, tmp_path, arguments, sentence
):
    code, out, err = run("convert", theirs[1], "--out", "x.safetensors", *arguments)
    assert (code, out) == (1, "")
    assert sentence in err
    assert list(tmp_path.iterdir()) == []


def test_a_checkpoint_is_not_overwritten_by_its_conversion(run, theirs, tmp_path):
    run("convert", theirs[1], "--out", "ours.safetensors")
    before = (tmp_path / "ours.safetensors").read_bytes()
    code, _, err = run("convert", "ours.safetensors")
    assert code == 1
    assert "is the checkpoint itself; name another file with --out" in err
    assert (tmp_path / "ours.safetensors").read_bytes() == before


def test_tensors_that_fit_several_models_need_a_name(monkeypatch, theirs):
    monkeypatch.setattr(registry, "list_models", lambda **_: ["mc3_18", "r3d_18", "mc3_18"])
    with pytest.raises(ValueError, match="fit several models: mc3_18, mc3_18; give the name"):
        recognise(theirs[0].state_dict())


def test_a_model_is_written_only_as_what_it_can_be(run):
    assert targets("r2p1d_18") == ["safetensors", "onnx", "torchvision"]
    code, _, err = run("export", "r2p1d_18", "--to", "timm")
    assert code == 1
    assert "'r2p1d_18' cannot be written as 'timm'. Known: safetensors, onnx, torchvision." in err


@pytest.mark.peer
@pytest.mark.parametrize("name", registry.list_models("test_*"))
def test_onnxruntime_gives_our_logits(name, tmp_path):
    import onnxruntime

    from zoo.onnx import write_onnx

    torch.manual_seed(0)
    model = zoo.create(name)
    shape = (3, model.in_chans, model.num_frames, model.img_size, model.img_size)
    scramble(model, torch.zeros(shape))
    write_onnx(model, tmp_path / "model.onnx")
    assert not model.training
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    for batch in (1, 3):
        clip = random_clip((batch, *shape[1:]), seed=1)
        (found,) = session.run(["logits"], {"clip": clip.numpy()})
        with torch.no_grad():
            wanted = model(clip)
        assert found.dtype == np.float32
        assert_close(torch.from_numpy(found), wanted, tolerance=1e-3)


def test_onnx_without_its_packages_says_what_to_install(monkeypatch, tmp_path):
    from zoo import onnx

    monkeypatch.setattr(onnx, "find_spec", lambda _: None)
    with pytest.raises(ImportError, match=r"pip install 'videozoo\[onnx\]'"):
        onnx.write_onnx(zoo.create("test_r2p1d"), tmp_path / "model.onnx")


@pytest.mark.parametrize(
    "name", ["timesformer_divided", "timesformer_divided_hr", "i3d_inception", "i3d_inception_flow"]
)
def test_models_of_one_kind_are_told_apart_by_their_own_sizes(name):
    with torch.device("meta"):
        state = registry.load(name).build().state_dict()
    assert recognise(state).name == name


def test_coloured_weights_are_no_start_for_optical_flow(tmp_path):
    path = tmp_path / "rgb.pth"
    torch.save(zoo.create("i3d_inception").state_dict(), path)
    with pytest.raises(ValueError, match=r"was made for 3 channels, .* takes 2"):
        zoo.create("i3d_inception_flow", checkpoint=path)
