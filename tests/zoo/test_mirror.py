"""`pull` and `mirror`: weights onto this machine, and a folder that is a hub without network."""

import json
import sys
from dataclasses import replace

import pytest
import torch
from scrambling import assert_close, random_clip, scramble

import converters
import registry
import zoo
from converters import read_checkpoint, read_metadata
from zoo.cli import main
from zoo.pretrained import record_digest

EMBEDDED = "r2p1d_nano.motion"


@pytest.fixture
def offline(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


def run(monkeypatch, capsys, *arguments):
    """The exit code and the two outputs of `zoo ...`."""
    monkeypatch.setattr(sys, "argv", ["zoo", *map(str, arguments)])
    with pytest.raises(SystemExit) as done:
        main()
    found = capsys.readouterr()
    return done.value.code or 0, found.out, found.err


def test_a_mirror_is_a_hub_without_network(cache, offline, tmp_path):
    rows = zoo.mirror(tmp_path / "mirror", "*_nano.motion")
    names = registry.list_pretrained("*_nano.motion")
    assert [row.name for row in rows] == names
    assert {row.status for row in rows} == {"written"}
    for full in names:
        folder, wanted = tmp_path / "mirror" / full, zoo.create(full, pretrained=True)
        for made in (
            zoo.create(full, pretrained=True, hub=tmp_path / "mirror"),
            zoo.create(f"local-dir:{folder}"),
        ):
            assert made.record == wanted.record
            state = made.state_dict()
            assert all(torch.equal(state[k], value) for k, value in wanted.state_dict().items())
        name, _, tag = full.partition(".")
        record = registry.find_weights(registry.info(name), tag)
        metadata = read_metadata(folder / "model.safetensors")
        assert metadata["digest"] == record_digest(name, record)
    assert sorted(path.name for path in (tmp_path / "mirror").iterdir()) == sorted(names)


def test_a_mirror_goes_on_where_it_was_stopped(cache, offline, tmp_path):
    place = tmp_path / EMBEDDED
    zoo.mirror(tmp_path, EMBEDDED)
    before = (place / "model.safetensors").stat().st_mtime_ns
    assert zoo.mirror(tmp_path, EMBEDDED)[0].status == "already there"
    assert (place / "model.safetensors").stat().st_mtime_ns == before
    content = (place / "model.safetensors").read_bytes()
    (place / "model.safetensors").write_bytes(content[:-1000])
    assert zoo.mirror(tmp_path, EMBEDDED)[0].status == "written"
    assert (place / "model.safetensors").read_bytes() == content
    state = read_checkpoint(place / "model.safetensors")
    converters.write_safetensors(state, place / "model.safetensors", metadata={"digest": "older"})
    assert zoo.mirror(tmp_path, EMBEDDED)[0].status == "written"
    assert [path.name for path in tmp_path.iterdir() if path.name != "assets"] == [EMBEDDED]


def test_what_cannot_be_fetched_is_a_row_and_the_rest_goes_on(
    cache, offline, tmp_path, monkeypatch, capsys
):
    arguments = ("mirror", tmp_path / "m", "r2p1d_*[8o].[mk]*")
    code, out, err = run(monkeypatch, capsys, *arguments)
    rows = [line.split(maxsplit=2) for line in out.splitlines()]
    assert [row[:2] for row in rows] == [["r2p1d_18.k400", "failed"], [EMBEDDED, "written"]]
    assert "Cannot fetch the weights 'r2p1d_18.k400'" in rows[0][2]
    assert code == 1
    assert "[2/2] r2p1d_nano.motion: written" in err
    assert "1 of 2 failed; the same command tries these again." in err
    code, out, _ = run(monkeypatch, capsys, *arguments, "--json")
    assert code == 1
    assert [row["status"] for row in json.loads(out)] == ["failed", "already there"]
    code, _, err = run(monkeypatch, capsys, "mirror", tmp_path / "m", "r2p1d_nano")
    assert code == 0
    assert f"ZOO_HUB={(tmp_path / 'm').resolve()}" in err
    code, _, err = run(monkeypatch, capsys, "mirror", tmp_path / "m", "nothing_such")
    assert code == 1
    assert "No weights are called like 'nothing_such'" in err


def test_a_failure_while_writing_leaves_what_was_there(cache, offline, tmp_path, monkeypatch):
    zoo.mirror(tmp_path, EMBEDDED)
    kept = {path.name: path.read_bytes() for path in (tmp_path / EMBEDDED).iterdir()}

    def fail(*_, **__):
        raise OSError("No space left on device")

    monkeypatch.setattr("zoo.mirroring._is_there", lambda *_: False)
    monkeypatch.setattr("zoo.folder.write_weights", fail)
    assert zoo.mirror(tmp_path, EMBEDDED)[0].detail == "No space left on device"
    assert {path.name: path.read_bytes() for path in (tmp_path / EMBEDDED).iterdir()} == kept
    assert [path.name for path in tmp_path.iterdir() if path.name != "assets"] == [EMBEDDED]


def test_inflated_weights_have_no_head_in_a_mirror_and_a_new_one_in_create(
    cache, tmp_path, monkeypatch
):
    """An image model's file, read once; then from the mirror alone."""
    import timm

    torch.manual_seed(0)
    image = scramble(timm.create_model("resnet18"), torch.zeros(4, 3, 64, 64))
    monkeypatch.setattr(timm, "create_model", lambda *_, **__: image)
    row, _ = zoo.mirror(tmp_path / "m", "i3d_r18.in1k_inflated*")
    assert row.status == "written"
    monkeypatch.setattr(timm, "create_model", None)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.warns(UserWarning, match="classifier of 'i3d_r18.in1k_inflated' is new: 400"):
        model = zoo.create("i3d_r18", pretrained=True, hub=tmp_path / "m")
    pooled = zoo.create(f"local-dir:{row.detail}")
    assert (model.num_classes, pooled.num_classes) == (400, 0)
    still = random_clip((1, 3, 1, 64, 64), seed=1).repeat(1, 1, 3, 1, 1)
    with torch.no_grad():
        wanted = image.forward_head(image.forward_features(still[:, :, 0]), pre_logits=True)
        assert_close(pooled(still), wanted)
        assert_close(model.forward_head(model.forward_features(still), pre_logits=True), wanted)


def test_what_is_in_the_package_lies_there(offline):
    done = zoo.pull("r2p1d_nano")
    assert (done.name, done.path.name) == (EMBEDDED, f"{EMBEDDED}.safetensors")
    assert done.size_bytes == done.path.stat().st_size


def test_a_repository_is_pulled_and_create_asks_for_no_file(
    hub, trained, tmp_path, monkeypatch, capsys
):
    hub.point_client(monkeypatch, tmp_path / "home")
    files = {path.name: path.read_bytes() for path in trained[1].iterdir()}
    commit = hub.seed("org/mine", files)
    code, out, err = run(monkeypatch, capsys, "pull", "hf-hub:org/mine")
    assert code == 0
    assert out.strip().endswith(f"models--org--mine/snapshots/{commit}")
    assert "hf-hub:org/mine is on this machine" in err
    code, out, _ = run(monkeypatch, capsys, "pull", "hf-hub:org/mine", "--json")
    facts = json.loads(out)
    assert facts["name"] == "hf-hub:org/mine"
    assert facts["size_bytes"] == sum(len(files[n]) for n in ("config.json", "model.safetensors"))
    before = len(hub.asked("GET "))
    zoo.create(f"hf-hub:org/mine@{commit}")
    assert len(hub.asked("GET ")) == before


def test_upstream_weights_are_pulled_once(hub, cache, monkeypatch, tmp_path, trained):
    """From a plain address, in another layout, into the cache."""
    record = registry.info("r2p1d_18").weights[0]
    content = (trained[1] / "model.safetensors").read_bytes()
    hub.files["tiny.safetensors"] = content
    entry = registry.load("test_r2p1d")
    source = replace(
        record.source,
        url=f"{hub.url}/tiny.safetensors",
        filename="tiny.safetensors",
        layout="torchvision",
        sha256=registry.UNKNOWN,
    )
    torchvision = converters.export(trained[0], target="torchvision")
    converters.write_safetensors(torchvision, tmp_path / "tiny.safetensors", metadata={})
    hub.files["tiny.safetensors"] = (tmp_path / "tiny.safetensors").read_bytes()
    tiny = replace(
        record,
        source=source,
        tag="tiny",
        num_classes=7,
        labels=None,
        sampling=entry.architecture.sampling,
        preprocess=entry.architecture.preprocess,
    )
    architecture = replace(entry.architecture, weights=(tiny,))
    changed = replace(entry, architecture=architecture)
    monkeypatch.setitem(registry.catalogue._registered, "test_r2p1d", changed)
    done = zoo.pull("test_r2p1d.tiny")
    assert done.path.is_relative_to(cache)
    model = zoo.create("test_r2p1d.tiny", pretrained=True)
    assert torch.equal(model.fc.weight, trained[0].fc.weight)
    assert len(hub.asked("GET /tiny")) == 1


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("r2p1d_nan", r"Did you mean 'r2p1d_nano'\?"),
        ("r2p1d_nano.motoin", r"Did you mean 'motion'\?"),
        ("local-dir:x", "no place that weights are pulled from"),
        ("i3d:resnet18", "no place that weights are pulled from"),
        ("test_r2p1d", "has no pretrained weights"),
    ],
)
def test_what_cannot_be_pulled_is_told(name, sentence):
    with pytest.raises((LookupError, ValueError), match=sentence):
        zoo.pull(name)
