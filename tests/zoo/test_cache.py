"""`zoo cache`: what the zoo keeps on the disk, and nothing that is not its own."""

import io
import json
import sys

import pytest

import converters
import registry
import zoo
from zoo.cache import list_cached, remove_cached
from zoo.cli import main
from zoo.pretrained import cache_folder, record_digest


def run(monkeypatch, capsys, *arguments):
    """The exit code and the two outputs of `zoo cache ...`."""
    monkeypatch.setattr(sys, "argv", ["zoo", "cache", *map(str, arguments)])
    with pytest.raises(SystemExit) as done:
        main()
    found = capsys.readouterr()
    return done.value.code or 0, found.out, found.err


@pytest.fixture
def filled(hub, trained, tmp_path, monkeypatch):
    """Converted weights, a repository of ours, and one that somebody else fetched."""
    from huggingface_hub import hf_hub_download

    hub.point_client(monkeypatch, tmp_path / "home")
    files = {path.name: path.read_bytes() for path in trained[1].iterdir()}
    for repo in ("org/mine", "org/theirs"):
        hub.seed(repo, files)
    zoo.create("hf-hub:org/mine")
    hf_hub_download("org/theirs", "config.json")
    record = registry.info("mc3_18").weights[0]
    path = cache_folder("mc3_18", record) / "model.safetensors"
    metadata = {"digest": record_digest("mc3_18", record)}
    converters.write_safetensors(trained[0].state_dict(), path, metadata=metadata)
    return files, path


def test_what_the_zoo_made_is_listed(filled, monkeypatch, capsys):
    files, path = filled
    repository, converted = list_cached()
    assert (repository.name, repository.kind) == ("hf-hub:org/mine", "repository")
    assert (converted.name, converted.kind) == ("mc3_18.k400", "converted")
    assert converted.path == path.parent
    assert converted.size_bytes == path.stat().st_size
    needed = sum(len(files[name]) for name in ("config.json", "model.safetensors"))
    assert needed <= repository.size_bytes < needed + 200
    code, out, _ = run(monkeypatch, capsys, "list")
    assert code == 0
    assert [line.split()[0] for line in out.splitlines()] == ["hf-hub:org/mine", "mc3_18.k400"]
    _, out, _ = run(monkeypatch, capsys, "list", "mc3*", "--json")
    assert [item["name"] for item in json.loads(out)] == ["mc3_18.k400"]
    _, out, _ = run(monkeypatch, capsys, "size", "--json")
    total = repository.size_bytes + converted.size_bytes
    assert json.loads(out) == {"items": 2, "size_bytes": total}
    _, out, _ = run(monkeypatch, capsys, "size")
    assert out == f"{total / 1000:.3g} kB\n"


def test_weights_that_could_not_be_fetched_are_not_listed(filled):
    folder = cache_folder("r3d_18", registry.info("r3d_18").weights[0])
    (folder / "lock").touch()
    assert [item.name for item in list_cached()] == ["hf-hub:org/mine", "mc3_18.k400"]


def test_what_fits_is_deleted_and_the_rest_stays(filled, hub, tmp_path, monkeypatch, capsys):
    _, path = filled
    code, out, err = run(monkeypatch, capsys, "rm", "mc3_18", "--yes")
    assert (code, out) == (0, "mc3_18.k400\n")
    assert "1 deleted" in err
    assert not path.parent.exists()
    assert [item.name for item in list_cached()] == ["hf-hub:org/mine"]
    code, out, _ = run(monkeypatch, capsys, "rm", "--yes", "--json")
    assert [item["name"] for item in json.loads(out)] == ["hf-hub:org/mine"]
    assert list_cached() == []
    assert (tmp_path / "home" / "hub" / "models--org--theirs").is_dir()
    before = len(hub.asked("GET /store/"))
    zoo.create("hf-hub:org/mine")
    assert len(hub.asked("GET /store/")) == before + 1
    assert [item.name for item in list_cached()] == ["hf-hub:org/mine"]


@pytest.mark.parametrize(("answer", "gone"), [("y\n", True), ("n\n", False), ("", False)])
def test_a_person_is_asked(filled, monkeypatch, capsys, answer, gone):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setattr(sys, "stdin", Terminal(answer))
    code, out, err = run(monkeypatch, capsys, "rm", "mc3*")
    assert "mc3_18.k400, " in err
    assert "Delete these 1?" in err
    assert (code == 0, out == "mc3_18.k400\n") == (gone, gone)
    assert len(list_cached("mc3*")) == (not gone)


def test_nobody_to_ask_deletes_nothing(filled, monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n"))
    code, _, err = run(monkeypatch, capsys, "rm")
    assert code == 1
    assert "2 would be deleted, and there is nobody to ask; give --yes" in err
    assert len(list_cached()) == 2


def test_an_empty_cache(cache, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    code, out, err = run(monkeypatch, capsys, "list")
    assert (code, out) == (0, "")
    assert "it is empty" in err
    _, out, _ = run(monkeypatch, capsys, "size")
    assert out == "0 B\n"
    code, _, err = run(monkeypatch, capsys, "rm", "x", "--yes")
    assert code == 1
    assert "Nothing in the cache is called like 'x'" in err
    assert remove_cached([]) == 0
