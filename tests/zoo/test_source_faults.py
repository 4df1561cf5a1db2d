"""Whatever goes wrong between a record's source and the cache: right weights, or one sentence."""

import signal
import subprocess
import sys
import textwrap

import pytest
import torch
from disk_faults import files_up_to, read_only
from fresh_python import ROOT
from tiny_records import scrambled, sha256_of, upstream_file, with_record

import registry
import zoo
from registry.records import UNKNOWN
from zoo.pretrained import cache_folder

NAME = "test_r2p1d.tiny"


@pytest.fixture(scope="module")
def model():
    return scrambled("test_r2p1d")


@pytest.fixture(scope="module")
def content(model):
    return upstream_file(model)


@pytest.fixture
def record(hub, cache, content, tmp_path, monkeypatch):
    """The record, registered, of a file on the server."""
    hub.files["tiny.pth"] = content
    hub.point_client(monkeypatch, tmp_path)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DOWNLOAD_TIMEOUT", 0.5)
    return register(monkeypatch, hub, sha256_of(content))


def register(monkeypatch, hub, sha256):
    entry = with_record("test_r2p1d", f"{hub.url}/tiny.pth", sha256)
    monkeypatch.setitem(registry.catalogue._registered, "test_r2p1d", entry)
    return entry.architecture.weights[0]


def assert_same(found, wanted):
    state, other = found.state_dict(), wanted.state_dict()
    assert state.keys() == other.keys()
    assert all(torch.equal(state[key], other[key]) for key in state)


def assert_one_sentence(error):
    text = str(error.value)
    assert "\n" not in text
    assert len(text) < 700


def kept(record):
    """Files of the cache that a later call would take for good or stumble over."""
    return {path.name for path in cache_folder("test_r2p1d", record).iterdir()} - {"lock"}


def test_a_connection_cut_in_the_middle_is_resumed(hub, record, content, model):
    hub.fail("GET /tiny", cut=30_000)
    hub.fail("GET /tiny", cut=20_000)
    assert_same(zoo.create(NAME, pretrained=True), model)
    found = hub.asked("GET /tiny")
    assert [one.headers.get("range") for one in found] == [None, "bytes=30000-", "bytes=50000-"]
    assert sum(one.sent for one in found) == len(content)


def test_a_file_that_changes_before_the_rest_is_fetched_is_not_joined(
    hub, record, content, model, monkeypatch
):
    register(monkeypatch, hub, UNKNOWN)
    hub.files["tiny.pth"] = bytes(len(content))
    hub.fail("GET /tiny", cut=30_000)
    hub.fail("GET /tiny", call=lambda: hub.files.update({"tiny.pth": content}))
    assert_same(zoo.create(NAME, pretrained=True), model)
    assert [one.status for one in hub.asked("GET /tiny")] == [200, 200]


@pytest.mark.parametrize("effects", [{"whole": True}, {"late": 7}, {"status": 416}])
def test_a_server_that_gives_another_range_is_asked_from_the_start(hub, record, model, effects):
    hub.fail("GET /tiny", cut=30_000)
    hub.fail("GET /tiny", **effects)
    assert_same(zoo.create(NAME, pretrained=True), model)


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_errors_that_pass_are_waited_out(hub, record, model, status, caplog):
    fault = hub.fail("GET /tiny", status=status, times=2, retry_after=1)
    assert_same(zoo.create(NAME, pretrained=True), model)
    assert (fault.hits, caplog.text) == (2, "")


@pytest.mark.parametrize(
    ("effects", "reason"),
    [
        ({"status": 503}, "503"),
        ({"status": 404}, "404"),
        ({"status": 403}, "403"),
        ({"cut": 0}, ""),
        ({"hang": 20}, "time"),
    ],
)
def test_errors_that_stay_are_told(hub, record, model, effects, reason):
    fault = hub.fail("GET /tiny", times=None, **effects)
    sentence = rf"Cannot fetch the weights '{NAME}' from {hub.url}/tiny.pth \(.*{reason}.*PATH"
    with pytest.raises(ConnectionError, match=sentence) as error:
        zoo.create(NAME, pretrained=True)
    assert_one_sentence(error)
    assert fault.hits == 1 if effects.get("status") in (403, 404) else 1 < fault.hits < 20
    assert not {name for name in kept(record) if not name.endswith(".part")}
    fault.times = fault.hits
    assert_same(zoo.create(NAME, pretrained=True), model)


@pytest.mark.parametrize("effects", [{"corrupt": True}, {"length": 5000}])
def test_a_body_that_lies_is_refused_or_fetched_again(hub, record, model, effects):
    fault = hub.fail("GET /tiny", times=None, **effects)
    with pytest.raises((ValueError, ConnectionError)) as error:
        zoo.create(NAME, pretrained=True)
    assert_one_sentence(error)
    assert not {name for name in kept(record) if not name.endswith(".part")}
    fault.times = fault.hits
    assert_same(zoo.create(NAME, pretrained=True), model)


def test_what_was_cut_short_is_not_taken_for_the_file_of_an_unknown_hash(
    hub, cache, record, content, monkeypatch
):
    record = register(monkeypatch, hub, UNKNOWN)
    hub.fail("GET /tiny", times=None, length=len(content) - 4000)
    with pytest.raises((ValueError, ConnectionError)):
        zoo.create(NAME, pretrained=True)
    assert "model.safetensors" not in kept(record)


@pytest.mark.parametrize("size", [50_000, 108_000])
def test_a_disk_that_fills_up(hub, record, model, content, size):
    """While the file is fetched, or while what it was converted to is written."""
    assert len(content) > 108_000
    with files_up_to(size), pytest.raises(OSError, match=r"(W|w)rit") as error:
        zoo.create(NAME, pretrained=True)
    assert_one_sentence(error)
    assert not isinstance(error.value, ConnectionError)
    assert not {name for name in kept(record) if not name.endswith(".part")}
    assert_same(zoo.create(NAME, pretrained=True), model)


def test_a_cache_that_cannot_be_written_is_told(hub, record, cache):
    cache.mkdir()
    with read_only(cache), pytest.raises(OSError, match=r"cannot be written.*HF_HOME") as error:
        zoo.create(NAME, pretrained=True)
    assert_one_sentence(error)
    cache.rmdir()
    cache.write_text("a file in its place", encoding="utf-8")
    with pytest.raises(OSError, match=r"cannot be written.*HF_HOME") as error:
        zoo.create(NAME, pretrained=True)
    assert_one_sentence(error)
    assert hub.asked("GET /tiny") == []


def test_a_full_cache_that_cannot_be_written_is_read(hub, record, cache, model):
    zoo.create(NAME, pretrained=True)
    with read_only(cache):
        assert_same(zoo.create(NAME, pretrained=True), model)
    assert len(hub.asked("GET /tiny")) == 1


PROGRAM = textwrap.dedent("""
    import time
    import registry, zoo
    import converters.checkpoint as checkpoint
    from tiny_records import with_record
    entry = with_record("test_r2p1d", {url!r}, {sha256!r})
    registry.catalogue._registered["test_r2p1d"] = entry
    if {stop!r}:
        save_file = checkpoint.save_file

        def stop(tensors, path, **options):
            save_file(tensors, path, **options)
            path.write_bytes(path.read_bytes()[:60_000])
            print("writing", flush=True)
            time.sleep(60)

        checkpoint.save_file = stop
    print(zoo.create("test_r2p1d.tiny", pretrained=True).fc.weight.sum().item())
""")


def start(hub, tmp_path, content, *, stop):
    url = f"{hub.url}/tiny.pth"
    program = PROGRAM.format(url=url, sha256=sha256_of(content), stop=stop)
    settings = hub.environment(tmp_path, PYTHONPATH=f"{ROOT}:{ROOT / 'tests'}")
    settings["PYTHONDONTWRITEBYTECODE"] = "1"
    return subprocess.Popen(
        [sys.executable, "-c", program], env=settings, stdout=subprocess.PIPE, text=True
    )


@pytest.mark.slow
def test_a_process_that_is_killed_while_it_converts(hub, tmp_path, content, model, record, cache):
    process = start(hub, tmp_path, content, stop=True)
    assert process.stdout.readline() == "writing\n"
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=300)
    assert process.returncode == -signal.SIGKILL
    assert "model.safetensors" not in kept(record)
    assert_same(zoo.create(NAME, pretrained=True), model)
    assert {name for name in kept(record) if name.endswith(".part")} == set()


@pytest.mark.slow
def test_a_process_that_is_killed_while_it_fetches(hub, tmp_path, content, model, record, cache):
    fault = hub.fail("GET /tiny", cut=60_000, hang=60)
    process = start(hub, tmp_path, content, stop=False)
    while not fault.hits or hub.asked("GET /tiny")[0].sent < 60_000:
        assert process.poll() is None
    process.kill()
    process.communicate(timeout=300)
    assert "model.safetensors" not in kept(record)
    assert_same(zoo.create(NAME, pretrained=True), model)


@pytest.mark.slow
def test_two_processes_that_ask_at_once_download_once(hub, tmp_path, content, record, cache):
    hub.fail("GET /tiny", pause=0.3)
    running = [start(hub, tmp_path, content, stop=False) for _ in range(2)]
    outputs = [process.communicate(timeout=300)[0] for process in running]
    assert [process.returncode for process in running] == [0, 0]
    assert outputs[0] == outputs[1]
    assert len(hub.asked("GET /tiny")) == 1
