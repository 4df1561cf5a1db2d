"""Whatever goes wrong on the way to a Hub: all files in one commit, or none and one sentence."""

import pytest
import torch
from disk_faults import files_up_to
from hub_server import EXPIRED, READER, STRANGER, WRITER
from scrambling import scramble

import zoo

STEPS = [
    "GET /api/models/org/tiny",
    "POST /api/validate-yaml",
    "POST /api/repos/create",
    "POST .*/preupload/",
    "POST .*/objects/batch",
    "PUT /store/",
    "POST .*/objects/verify",
    "POST .*/commit/",
]


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return scramble(zoo.create("test_r2p1d"), torch.zeros(2, 3, 4, 32, 32))


@pytest.fixture(autouse=True)
def _client(hub, tmp_path, monkeypatch):
    hub.point_client(monkeypatch, tmp_path / "home", token=WRITER)


def assert_one_sentence(error):
    text = str(error.value)
    assert "\n" not in text
    assert len(text) < 700


def assert_pushed(hub, model):
    """All files came in one commit, after the first, which the Hub makes."""
    repository = hub.storage.repositories["org/tiny"]
    assert len(repository.commits) == 2
    assert {"config.json", "README.md", "model.safetensors"} < set(repository.find("main").files)
    found = zoo.create("hf-hub:org/tiny").state_dict()
    assert all(torch.equal(found[key], value) for key, value in model.state_dict().items())


def assert_nothing_was_sent(hub):
    repository = hub.storage.repositories.get("org/tiny")
    assert repository is None or len(repository.commits) == 1


@pytest.mark.parametrize(("step", "status"), [*((step, 503) for step in STEPS), (STEPS[-1], 429)])
def test_errors_that_pass_are_waited_out(hub, model, step, status, caplog):
    fault = hub.fail(step, times=2, status=status)
    zoo.push(model, "org/tiny")
    assert 1 <= fault.hits <= 2  # older clients leave it to us, who find the file in the store
    assert_pushed(hub, model)
    assert caplog.text == ""


# What was uploaded is in the store: the next try finds it there, and nothing is left to verify.
@pytest.mark.parametrize("step", [step for step in STEPS if "verify" not in step])
def test_errors_that_stay_are_told(hub, model, step):
    fault = hub.fail(step, times=None, status=503)
    with pytest.raises(ConnectionError, match=r"Cannot push to 'org/tiny' .*503.*again") as error:
        zoo.push(model, "org/tiny")
    assert_one_sentence(error)
    assert 1 < fault.hits < 60
    assert_nothing_was_sent(hub)
    fault.times = fault.hits
    zoo.push(model, "org/tiny")
    assert_pushed(hub, model)


@pytest.mark.parametrize("step", ["PUT /store/", "POST .*/commit/", "POST .*/preupload/"])
def test_a_connection_that_is_cut_while_something_is_sent(hub, model, step):
    fault = hub.fail(step, cut=100)
    zoo.push(model, "org/tiny")
    assert fault.hits == 1
    assert_pushed(hub, model)


def test_a_commit_whose_answer_is_lost_is_not_made_twice(hub, model):
    fault = hub.fail("POST .*/commit/", length=10**6)
    zoo.push(model, "org/tiny")
    assert fault.hits == 1
    assert_pushed(hub, model)


def test_a_pull_request_whose_answer_is_lost_is_not_opened_twice(hub, model):
    hub.seed("org/tiny", {})
    hub.fail("POST .*/commit/", length=10**6)
    with pytest.raises(ConnectionError, match="Cannot push to 'org/tiny'") as error:
        zoo.push(model, "org/tiny", create_pr=True)
    assert_one_sentence(error)
    assert len(hub.storage.repositories["org/tiny"].pulls) == 1


def test_somebody_else_pushes_at_the_same_time(hub, model):
    first = hub.seed("org/tiny", {"notes.txt": b"1"})
    hub.fail("POST .*/preupload/", call=lambda: hub.seed("org/tiny", {"notes.txt": b"2"}))
    with pytest.raises(RuntimeError, match="Somebody else changed 'org/tiny'") as error:
        zoo.push(model, "org/tiny")
    assert_one_sentence(error)
    repository = hub.storage.repositories["org/tiny"]
    assert repository.find("main").parent == first
    assert hub.content("org/tiny", "notes.txt") == b"2"
    assert "model.safetensors" not in repository.find("main").files


@pytest.mark.parametrize("there", ["nothing", "public", "private"])
@pytest.mark.parametrize(
    ("token", "sentence"),
    [
        (None, "no token to write to 'org/tiny'"),
        ("hf_wrong", "refuses your token .* wrong or has expired"),
        (EXPIRED, "refuses your token .* wrong or has expired"),
        (READER, "may not write to 'org/tiny'"),
        (STRANGER, "may not write to 'org/tiny'"),
    ],
)
def test_a_token_that_may_not_write(hub, model, monkeypatch, there, token, sentence):
    if there != "nothing":
        hub.seed("org/tiny", {}, private=there == "private")
    before = hub.storage.repositories.get("org/tiny")
    head = before and before.branches["main"]
    if token:
        monkeypatch.setenv("HF_TOKEN", token)
    else:
        monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(PermissionError, match=sentence) as error:
        zoo.push(model, "org/tiny")
    assert_one_sentence(error)
    after = hub.storage.repositories.get("org/tiny")
    assert after is before
    assert (after and after.branches["main"]) == head


def test_a_dry_run_with_a_token_that_is_over_says_so(hub, model, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    hub.seed("org/tiny", {}, private=True)
    monkeypatch.setenv("HF_TOKEN", EXPIRED)
    with pytest.raises(PermissionError, match="refuses your token .* has expired"):
        zoo.push(model, "org/tiny", dry_run=True)


def test_a_card_that_the_hub_refuses(hub, model):
    refused = {"status": 400, "message": "license must be one of"}
    hub.fail("POST /api/validate-yaml", times=None, **refused)
    with pytest.raises(ValueError, match="refuses") as error:
        zoo.push(model, "org/tiny")
    assert_one_sentence(error)
    assert_nothing_was_sent(hub)


def test_a_disk_that_fills_up_while_the_folder_is_written(hub, model):
    with files_up_to(50_000), pytest.raises(OSError, match="(C|c)annot .*writ") as error:
        zoo.push(model, "org/tiny")
    assert_one_sentence(error)
    assert_nothing_was_sent(hub)
