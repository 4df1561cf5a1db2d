"""A saved folder is the old one or the new one, never half of each."""

import json
import shutil

import pytest
import torch
from fresh_python import ROOT, fresh_python

import zoo
from converters import read_metadata
from converters.layouts import VERSION

FILES = {"README.md", "config.json", "model.safetensors"}


def _names(folder):
    return {path.name for path in folder.iterdir()}


def _equal(model, folder):
    again = zoo.create(f"local-dir:{folder}")
    return all(
        torch.equal(value, again.state_dict()[key]) for key, value in model.state_dict().items()
    )


def test_shards_are_read_again_and_replaced_by_the_next_save(trained):
    model, folder = trained
    (folder / "notes.txt").write_text("mine")
    zoo.save(model, folder, max_shard_size=20_000)
    shards = {name for name in _names(folder) if name.startswith("model-")}
    assert len(shards) > 2
    index = "model.safetensors.index.json"
    assert _names(folder) == (FILES - {"model.safetensors"}) | shards | {index, "notes.txt"}
    assert _equal(model, folder)
    zoo.save(model, folder)
    assert _names(folder) == FILES | {"notes.txt"}
    assert _equal(model, folder)


def test_an_index_that_names_another_file_is_refused(trained):
    model, folder = trained
    zoo.save(model, folder, max_shard_size=20_000)
    index = folder / "model.safetensors.index.json"
    facts = json.loads(index.read_text())
    facts["weight_map"]["fc.weight"] = "../../secret.safetensors"
    index.write_text(json.dumps(facts))
    with pytest.raises(ValueError, match=r"secret"):
        zoo.create(f"local-dir:{folder}")


def test_the_header_names_the_model_and_claims_no_record(trained):
    _, folder = trained
    assert read_metadata(folder / "model.safetensors") == {
        "format": "pt",
        "name": "test_r2p1d",
        "tag": "",
        "digest": "",
        "source": "null",
        "converter_version": str(VERSION),
    }


@pytest.mark.parametrize("fails", ["config.json", "README.md"])
def test_a_save_that_fails_leaves_what_was_there(trained, monkeypatch, fails):
    model, folder = trained
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    from pathlib import Path

    write = Path.write_text

    def full(path, *args, **kwargs):
        if path.name == fails:
            raise OSError(28, "No space left on device")
        return write(path, *args, **kwargs)

    monkeypatch.setattr(Path, "write_text", full)
    with torch.no_grad():
        model.fc.weight.add_(1)
    for target in (folder, folder.with_name("new")):
        with pytest.raises(OSError, match="No space left"):
            zoo.save(model, target)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert [path.name for path in folder.parent.iterdir()] == ["trained"]


KILLED = """
import os, sys
from pathlib import Path
import zoo

replace, left = Path.replace, int(sys.argv[2])

def last(self, target):
    global left
    left -= 1
    if left < 0:
        os._exit(9)
    return replace(self, target)

Path.replace = last
model = zoo.create("local-dir:" + sys.argv[1], labels=tuple("gfedcba"))
zoo.save(model, sys.argv[1])
"""


@pytest.mark.slow
@pytest.mark.parametrize("moved", [0, 1, 2])
def test_a_process_killed_while_files_change_places_leaves_no_mixture(trained, tmp_path, moved):
    _, folder = trained
    done = fresh_python("-c", KILLED, str(folder), str(moved), cwd=tmp_path)
    assert done.returncode == 9, done.stderr
    with pytest.raises(FileNotFoundError, match=r"config\.json' does not exist"):
        zoo.create(f"local-dir:{folder}")


def test_the_lines_on_the_card_of_a_folder_run(trained, monkeypatch, capsys):
    model, folder = trained
    card = (folder / "README.md").read_text()
    code = card.partition("```python\n")[2].partition("```")[0]
    assert len(code.splitlines()) == 3
    shutil.copy(ROOT / "examples/clips/coffee-left-to-right.mp4", folder.parent / "video.mp4")
    monkeypatch.chdir(folder.parent)
    exec(code, {})
    assert capsys.readouterr().out == f"{zoo.predict(model, 'video.mp4')}\n"


def test_the_card_of_trained_weights_claims_no_figure(tmp_path):
    model = zoo.create("r2p1d_nano", pretrained=True)
    text = (zoo.save(model, tmp_path / "mine") / "README.md").read_text()
    assert "It started from `r2p1d_nano.motion`, whose licence this card shows." in text
    assert "97.74" not in text
    assert "Nobody measured these tensors" in text
    assert "model-index" not in text


@pytest.mark.parametrize("name", ["test_x3d", "i3d:test_resnet", "divided:test_vit"])
def test_a_card_counts_what_the_model_costs(tmp_path, name):
    model = zoo.create(name, num_classes=5)
    text = (zoo.save(model, tmp_path / "m") / "README.md").read_text()
    params = sum(parameter.numel() for parameter in model.parameters())
    assert f"| parameters | {params / 1e6:.2f} M |" in text
    assert "| GFLOPs a view | –" not in text
    assert "| classes | 5 |" in text
