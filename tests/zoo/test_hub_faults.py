"""Whatever goes wrong on the way from a Hub: the right weights, or one sentence and no more."""

import hashlib
import subprocess
import sys
import textwrap

import pytest
import torch
from disk_faults import files_up_to, read_only
from fresh_python import ROOT
from hub_server import EXPIRED, STRANGER, WRITER
from scrambling import scramble

import zoo

NAME = "hf-hub:org/tiny"


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return scramble(zoo.create("test_r2p1d"), torch.zeros(2, 3, 4, 32, 32))


@pytest.fixture(scope="module")
def files(model, tmp_path_factory):
    folder = zoo.save(model, tmp_path_factory.mktemp("saved") / "tiny")
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def home(tmp_path, hub, files, monkeypatch):
    """A client's folder, of a client that asks a hub which has the model."""
    hub.seed("org/tiny", files)
    hub.point_client(monkeypatch, tmp_path / "home")
    # So that a cut within 10 MB is one in the middle of what has been written.
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 1000)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DOWNLOAD_TIMEOUT", 0.5)
    return tmp_path / "home"


def assert_same(found, wanted):
    state, other = found.state_dict(), wanted.state_dict()
    assert state.keys() == other.keys()
    assert all(torch.equal(state[key], other[key]) for key in state)


def assert_nothing_wrong_is_kept(home, files):
    """No file that has a final name holds anything else than it should."""
    hashes = {hashlib.sha256(content).hexdigest() for content in files.values()}
    places = [path for folder in ("blobs", "snapshots") for path in home.rglob(f"{folder}/**/*")]
    # Older clients keep what they have, under another name, and go on from there.
    final = [path for path in places if path.is_file() and path.suffix != ".incomplete"]
    wrong = [p for p in final if hashlib.sha256(p.read_bytes()).hexdigest() not in hashes]
    assert wrong == []


def assert_one_sentence(error):
    text = str(error.value)
    assert "\n" not in text
    assert text.endswith((".", ")", "?"))
    assert len(text) < 500


def body_of(hub, files):
    """The requests for the weights, and how many bytes they were answered with."""
    found = hub.asked("GET /store/")
    return len(found), sum(one.sent for one in found), len(files["model.safetensors"])


def test_a_connection_cut_in_the_middle_is_resumed(hub, home, files, model):
    fault = hub.fail("GET /store/", cut=40_000)
    assert_same(zoo.create(NAME), model)
    count, sent, size = body_of(hub, files)
    assert (fault.hits, count, sent) == (1, 2, size)
    assert hub.asked("GET /store/")[1].headers["range"] == "bytes=40000-"
    assert_nothing_wrong_is_kept(home, files)


def test_a_connection_that_is_always_cut_is_given_up(hub, home, files):
    fault = hub.fail("GET /store/", times=None, cut=0)
    with pytest.raises(ConnectionError, match=r"Cannot fetch 'model\.safetensors'.*org/tiny") as e:
        zoo.create(NAME)
    assert_one_sentence(e)
    assert 1 < fault.hits < 50
    assert_nothing_wrong_is_kept(home, files)


@pytest.mark.parametrize(
    ("what", "status"),
    [
        *(("HEAD .*config", status) for status in (408, 429, 500, 502, 504)),
        *((what, 503) for what in ("GET .*config", "HEAD .*tensors", "GET /store/")),
    ],
)
def test_errors_that_pass_are_waited_out(hub, home, model, caplog, what, status):
    fault = hub.fail(what, status=status, times=2)
    assert_same(zoo.create(NAME), model)
    assert fault.hits == 2
    assert caplog.text == ""


@pytest.mark.parametrize("what", ["HEAD .*config", "GET .*config", "HEAD .*tensors", "GET /store/"])
def test_errors_that_stay_are_told(hub, home, files, what):
    fault = hub.fail(what, status=503, times=None)
    with pytest.raises(ConnectionError, match=r"Cannot fetch '.*org/tiny.*503") as error:
        zoo.create(NAME)
    assert_one_sentence(error)
    assert 1 < fault.hits < 20
    assert_nothing_wrong_is_kept(home, files)


@pytest.mark.parametrize("what", ["GET .*config", "GET /store/"])
def test_a_body_that_was_changed_on_the_way(hub, home, files, model, what):
    once = hub.fail(what, corrupt=True)
    assert_same(zoo.create(NAME), model)
    assert once.hits == 1


@pytest.mark.parametrize("what", ["GET .*config", "GET /store/"])
def test_a_body_that_is_always_changed_is_refused(hub, home, files, model, what):
    always = hub.fail(what, corrupt=True, times=None)
    with pytest.raises(ValueError, match="does not have the hash .* is not used") as error:
        zoo.create(NAME)
    assert_one_sentence(error)
    assert_nothing_wrong_is_kept(home, files)
    always.times = always.hits
    assert_same(zoo.create(NAME), model)


@pytest.mark.parametrize("length", [1000, 10**9])
def test_a_length_that_lies(hub, home, files, model, length):
    hub.fail("GET /store/", length=length)
    assert_same(zoo.create(NAME), model)
    assert_nothing_wrong_is_kept(home, files)


@pytest.mark.parametrize("cut", [None, 2000])
def test_a_server_that_falls_silent(hub, home, files, model, cut):
    fault = hub.fail("GET /store/", hang=20, cut=cut)
    assert_same(zoo.create(NAME), model)
    assert fault.hits == 1


def test_weights_damaged_in_the_cache_are_fetched_again(hub, home, files, model, caplog):
    zoo.create(NAME)
    digest = hashlib.sha256(files["model.safetensors"]).hexdigest()
    (blob,) = home.rglob(f"blobs/{digest}")
    blob.write_bytes(files["model.safetensors"][:-4] + b"\0\0\0\0")
    assert_same(zoo.create(NAME), model)
    assert len(hub.asked("GET /store/")) == 2
    assert_nothing_wrong_is_kept(home, files)


def test_a_disk_that_fills_up_halfway(hub, home, files, model):
    with files_up_to(50_000), pytest.raises(OSError, match="cannot be written .*HF_HOME") as error:
        zoo.create(NAME)
    assert_one_sentence(error)
    assert_nothing_wrong_is_kept(home, files)
    assert_same(zoo.create(NAME), model)


def test_a_disk_without_room_is_told_before_anything_is_fetched(hub, home, files, monkeypatch):
    usage = type("Usage", (), {"free": 60_000})
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage)
    with pytest.raises(OSError, match=r"60000 are free at '.*HF_HOME") as error:
        zoo.create(NAME)
    assert_one_sentence(error)
    assert hub.asked("GET /store/") == []


def test_a_cache_that_cannot_be_written(hub, home, files, model):
    home.mkdir()
    with read_only(home), pytest.raises(OSError, match="cannot be written .*HF_HOME") as error:
        zoo.create(NAME)
    assert_one_sentence(error)
    home.rmdir()
    home.write_text("a file in its place", encoding="utf-8")
    with pytest.raises(OSError, match="cannot be written .*HF_HOME") as error:
        zoo.create(NAME)
    assert_one_sentence(error)


def test_a_full_cache_that_cannot_be_written_is_read(hub, home, model):
    zoo.create(NAME)
    with read_only(home):
        assert_same(zoo.create(NAME), model)
    assert len(hub.asked("GET /store/")) == 1


def test_a_revision_that_is_gone(hub, home, files, model):
    commit = hub.storage.repositories["org/tiny"].branches["main"]
    hub.storage.repositories["org/tiny"].tags["v1"] = commit
    assert_same(zoo.create(f"{NAME}@v1"), model)
    del hub.storage.repositories["org/tiny"].tags["v1"]
    with pytest.raises(LookupError, match="has no revision 'v1'.*Known: main") as error:
        zoo.create(f"{NAME}@v1")
    assert_one_sentence(error)
    with pytest.raises(LookupError, match=f"has no revision '{'0' * 40}'") as error:
        zoo.create(f"{NAME}@{'0' * 40}")
    assert_one_sentence(error)
    hub.requests.clear()
    assert_same(zoo.create(f"{NAME}@{commit}"), model)
    assert hub.requests == []


@pytest.mark.parametrize(
    ("token", "kind", "sentence"),
    [
        (None, LookupError, "Unknown repository 'org/secret'.* you gave no token"),
        (STRANGER, LookupError, "Unknown repository 'org/secret'.* your token cannot see it"),
        ("hf_wrong", PermissionError, "refuses your token .* wrong or has expired"),
        (EXPIRED, PermissionError, "refuses your token .* expired"),
    ],
)
def test_a_private_repository_without_a_good_token(
    hub, home, files, model, monkeypatch, token, kind, sentence
):
    hub.seed("org/secret", files, private=True)
    monkeypatch.setenv("HF_TOKEN", WRITER)
    assert_same(zoo.create("hf-hub:org/secret"), model)
    # What is in the cache is not given out either: it may not be what the Hub has now.
    if token:
        monkeypatch.setenv("HF_TOKEN", token)
    else:
        monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(kind, match=sentence) as error:
        zoo.create("hf-hub:org/secret")
    assert_one_sentence(error)


def test_a_gated_repository_says_where_to_ask(hub, home, files):
    hub.seed("org/gated", files, gated=True)
    with pytest.raises(PermissionError, match=r"org/gated is open only to those") as error:
        zoo.create("hf-hub:org/gated")
    assert_one_sentence(error)


def test_an_unknown_repository_with_the_nearest_names(hub, home):
    with pytest.raises(LookupError, match=r"'org/tinny'.*Did you mean 'org/tiny'\?") as error:
        zoo.create("hf-hub:org/tinny")
    assert_one_sentence(error)


def test_a_file_that_is_missing(hub, home, files):
    hub.seed("org/half", {"config.json": files["config.json"]})
    with pytest.raises(FileNotFoundError, match="'org/half' has no file 'model.safetensors'") as e:
        zoo.create("hf-hub:org/half")
    assert_one_sentence(e)


def test_without_a_hub_the_cache_is_used_with_a_warning(hub, home, files, model):
    zoo.create(NAME)
    hub.fail(".", status=503, times=None)
    with pytest.warns(UserWarning, match=r"org/tiny.*503"):
        assert_same(zoo.create(NAME), model)


@pytest.mark.parametrize(
    ("effects", "kind", "sentence"),
    [
        ({"status": 503}, ConnectionError, "503"),
        ({"status": 403}, PermissionError, "does not allow to read"),
        ({"corrupt": True}, ValueError, "does not have the hash"),
    ],
)
@pytest.mark.parametrize("what", ["(HEAD|GET) .*config", "(HEAD|GET) .*(tensors|/store/)"])
def test_a_hub_of_the_users_that_fails_is_not_passed_over(
    hub, home, files, what, effects, kind, sentence
):
    hub.seed("team/r2p1d_nano.motion", files)
    hub.fail(what, times=None, **effects)
    with pytest.raises(kind, match=rf"team.*{sentence}") as error:
        zoo.create("r2p1d_nano.motion", pretrained=True, hub="hf://team")
    assert_one_sentence(error)


def test_a_hub_of_the_users_with_weights_of_another_model_is_refused(hub, home, files):
    hub.seed("team/r2p1d_nano.motion", files)
    with pytest.raises(ValueError, match=r"team.*test_r2p1d") as error:
        zoo.create("r2p1d_nano.motion", pretrained=True, hub="hf://team")
    assert_one_sentence(error)


@pytest.mark.slow
def test_two_processes_that_pull_at_once_download_once(hub, tmp_path, files):
    hub.seed("org/tiny", files)
    hub.fail("GET /store/", pause=0.3)
    program = textwrap.dedent(f"""
        import hashlib, zoo
        from safetensors.torch import save
        print("ready", flush=True)
        input()
        state = zoo.create("{NAME}").state_dict()
        print(hashlib.sha256(save(dict(state))).hexdigest())
    """)
    settings = hub.environment(tmp_path / "home", PYTHONPATH=str(ROOT))
    settings["PYTHONDONTWRITEBYTECODE"] = "1"
    pipe = subprocess.PIPE
    running = [
        subprocess.Popen(
            [sys.executable, "-c", program], env=settings, stdin=pipe, stdout=pipe, text=True
        )
        for _ in range(2)
    ]
    for process in running:
        assert process.stdout.readline() == "ready\n"
    for process in running:
        process.stdin.write("\n")
        process.stdin.flush()
    outputs = [process.communicate(timeout=300)[0] for process in running]
    assert [process.returncode for process in running] == [0, 0]
    assert outputs[0] == outputs[1] != ""
    assert len(hub.asked("GET /store/")) == 1
    assert_nothing_wrong_is_kept(tmp_path / "home", files)
