"""Whatever goes wrong while a folder is filled: what is there is whole, and the rest follows."""

import pytest
import torch
from disk_faults import files_up_to, read_only
from tiny_records import scrambled, sha256_of, upstream_file, with_record

import registry
import zoo
from zoo.mirroring import iter_mirrored

NAMES = ("test_r3d.tiny", "test_r2p1d.tiny")


@pytest.fixture(scope="module")
def models():
    return {name: scrambled(name.partition(".")[0]) for name in NAMES}


@pytest.fixture(autouse=True)
def _records(hub, cache, models, tmp_path, monkeypatch):
    hub.point_client(monkeypatch, tmp_path)
    for name, model in models.items():
        content, architecture = upstream_file(model), name.partition(".")[0]
        hub.files[f"{name}.pth"] = content
        entry = with_record(architecture, f"{hub.url}/{name}.pth", sha256_of(content))
        monkeypatch.setitem(registry.catalogue._registered, architecture, entry)


def assert_serves(folder, models, names):
    """The folder holds these models, whole, and nothing else."""
    assert sorted(path.name for path in folder.iterdir()) == sorted(names)
    for name in names:
        found = zoo.create(name, pretrained=True, hub=folder).state_dict()
        assert all(
            torch.equal(found[key], value) for key, value in models[name].state_dict().items()
        )


def statuses(folder):
    return {row.name: row.status for row in iter_mirrored(folder, NAMES)}


@pytest.mark.parametrize(
    "effects",
    [
        {"status": 503},
        *(pytest.param(one, marks=pytest.mark.slow) for one in ({"corrupt": True}, {"cut": 0})),
    ],
)
def test_one_that_fails_is_told_and_the_next_follows(hub, models, tmp_path, effects):
    fault = hub.fail("GET /test_r3d", times=None, **effects)
    folder = tmp_path / "mirror"
    first, second = iter_mirrored(folder, NAMES)
    assert (first.status, second.status) == ("failed", "written")
    assert first.name == NAMES[0]
    assert "\n" not in first.detail
    assert_serves(folder, models, NAMES[1:])
    fault.times = fault.hits
    hub.requests.clear()
    assert list(statuses(folder).values()) == ["written", "already there"]
    assert hub.asked("GET /test_r2p1d") == []
    assert_serves(folder, models, NAMES)


def test_a_disk_that_fills_up_leaves_no_half_folder(hub, models, tmp_path):
    list(map(zoo.pull, NAMES))
    folder = tmp_path / "mirror"
    with files_up_to(100_000):
        first, second = iter_mirrored(folder, NAMES)
    assert (first.status, second.status) == ("written", "failed")
    assert "too large" in second.detail
    assert_serves(folder, models, NAMES[:1])


def test_a_run_that_is_stopped_leaves_no_half_folder_and_goes_on(models, tmp_path, monkeypatch):
    folder = tmp_path / "mirror"
    with monkeypatch.context() as patch:

        def stop(*_, **__):
            raise KeyboardInterrupt

        patch.setattr("zoo.folder.config_text", stop)
        with pytest.raises(KeyboardInterrupt):
            statuses(folder)
    assert list(folder.iterdir()) == []
    assert set(statuses(folder).values()) == {"written"}
    assert_serves(folder, models, NAMES)


@pytest.mark.slow
def test_a_folder_that_cannot_be_written_is_told(models, tmp_path):
    folder = tmp_path / "mirror"
    folder.mkdir()
    with read_only(folder):
        rows = list(iter_mirrored(folder, NAMES))
    assert [row.status for row in rows] == ["failed", "failed"]
    assert all("Permission denied" in row.detail and str(folder) in row.detail for row in rows)


def test_a_file_where_the_folder_should_be_is_told(models, tmp_path):
    place = tmp_path / "mirror"
    place.write_text("mine")
    with pytest.raises(NotADirectoryError, match=r"mirror' is a file; give a folder to mirror"):
        list(iter_mirrored(place, NAMES))
    assert place.read_text() == "mine"


@pytest.mark.slow
def test_what_was_damaged_in_the_folder_is_written_again(hub, models, tmp_path):
    folder = tmp_path / "mirror"
    statuses(folder)
    weights = folder / NAMES[0] / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    assert list(statuses(folder).values()) == ["written", "already there"]
    assert_serves(folder, models, NAMES)
