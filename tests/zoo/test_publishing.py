"""`push` and `publish` with the real client against a Hub on the loopback address."""

import json
import shutil
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch
from fresh_python import ROOT
from hub_server import EXPIRED, READER, STRANGER, WRITER, hub_serving
from huggingface_hub import HfApi, ModelCard, hf_hub_download, snapshot_download
from safetensors.torch import load_file

import registry
import zoo
from converters import read_metadata
from zoo.pretrained import record_digest

FILES = ["README.md", "config.json", "model.safetensors"]


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A Hub that this process may write to, without waiting."""
    with hub_serving(tmp_path) as server:
        server.point_client(monkeypatch, tmp_path / "home", token=WRITER)
        clock = SimpleNamespace(sleep=lambda _: None)
        monkeypatch.setattr("converters.hub_upload.time", clock)
        monkeypatch.chdir(tmp_path)
        yield server


def _commits(hub, repo_id, *, branch="main"):
    return [item.title for item in HfApi().list_repo_commits(repo_id, revision=branch)]


def _names(repo_id, **where):
    return sorted(set(HfApi().list_repo_files(repo_id, **where)) - {".gitattributes"})


def _writes(hub):
    return hub.asked("^(POST|PUT|DELETE) ")


def test_what_is_pushed_is_read_back_bit_for_bit_by_the_plain_client(hub, trained):
    model, _ = trained
    done = zoo.push(model, "org/mine")
    assert done.changes
    assert list(done.sent) == ["model.safetensors", "config.json", "README.md"]
    assert done.url.startswith(f"{hub.url}/org/mine/commit/")
    assert _names("org/mine") == FILES
    assert _commits(hub, "org/mine") == ["test_r2p1d, by videozoo", "initial commit"]
    path = hf_hub_download("org/mine", "model.safetensors")
    found, state = load_file(path), model.state_dict()
    assert found.keys() == state.keys()
    assert all(torch.equal(found[key], state[key]) for key in state)
    assert read_metadata(path)["name"] == "test_r2p1d"
    config = json.loads(hub.content("org/mine", "config.json"))
    assert config == model.record.to_json()
    assert not HfApi().model_info("org/mine").private
    card = ModelCard.load("org/mine")
    assert card.data.library_name == "videozoo"
    assert card.data.pipeline_tag == "video-classification"
    assert 'zoo.create("hf-hub:org/mine")' in card.text


def test_what_is_there_already_is_not_sent_again(hub, trained):
    model, _ = trained
    zoo.push(model, "org/mine")
    before = len(_writes(hub))
    again = zoo.push(model, "org/mine")  # written anew, to the same bytes
    assert not again.changes
    assert (again.sent, again.removed, again.url) == ({}, (), "")
    assert sorted(again.kept) == FILES
    assert len(_writes(hub)) == before
    assert len(_commits(hub, "org/mine")) == 2


def test_only_what_changed_is_sent_in_one_commit(hub, trained):
    model, _ = trained
    zoo.push(model, "org/mine")
    with torch.no_grad():
        model.fc.bias.add_(1)
    done = zoo.push(model, "org/mine")
    assert list(done.sent) == ["model.safetensors"]
    assert len(_commits(hub, "org/mine")) == 3
    found = load_file(hf_hub_download("org/mine", "model.safetensors"))
    assert torch.equal(found["fc.bias"], model.fc.bias)


def test_shards_go_and_their_successor_removes_them(hub, trained):
    model, folder = trained
    zoo.save(model, folder, max_shard_size=20_000)
    (folder / "optimizer.pt").write_bytes(b"mine")
    zoo.push(folder, "org/mine")
    HfApi().upload_file(path_or_fileobj=b"{}", path_in_repo="notes.json", repo_id="org/mine")
    there = _names("org/mine")
    assert "model.safetensors.index.json" in there
    assert "optimizer.pt" not in there
    path = snapshot_download("org/mine")
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    for key, name in index["weight_map"].items():
        assert torch.equal(load_file(f"{path}/{name}")[key], model.state_dict()[key])
    done = zoo.push(model, "org/mine")
    assert set(done.removed) == set(there) - {*FILES, "notes.json"}
    assert _names("org/mine") == sorted([*FILES, "notes.json"])


@pytest.mark.parametrize("written_by", ["mirror", "dry_run"])
def test_our_card_in_a_folder_names_the_repository_that_it_goes_to(hub, tmp_path, written_by):
    folder = tmp_path / "r2p1d_nano.motion"
    if written_by == "mirror":
        zoo.mirror(tmp_path, "r2p1d_nano.motion")
    else:
        zoo.push("r2p1d_nano.motion", "org/first", dry_run=folder)
    zoo.push(folder, "org/second")
    card = hub.content("org/second", "README.md").decode()
    zoo.push("r2p1d_nano.motion", "org/second")
    assert card == hub.content("org/second", "README.md").decode()
    assert 'zoo.create("hf-hub:org/second")' in card


def test_a_card_by_hand_is_sent_as_it_is_and_ours_is_made_for_the_repository(hub, trained):
    _, folder = trained
    zoo.push(str(folder), "org/mine")
    ours = hub.content("org/mine", "README.md").decode()
    assert 'zoo.create("hf-hub:org/mine")' in ours
    assert "local-dir" not in ours
    text = "---\nlicense: mit\n---\n\n# By hand\n"
    (folder / "README.md").write_text(text)
    done = zoo.push(f"local-dir:{folder}", "org/mine")
    assert list(done.sent) == ["README.md"]
    assert hub.content("org/mine", "README.md").decode() == text


def test_a_branch_is_made_and_written_to(hub, trained):
    model, _ = trained
    zoo.push(model, "org/mine")
    same = zoo.push(model, "org/mine", revision="next")
    assert (same.sent, same.is_new_branch) == ({}, True)
    before = model.fc.bias.detach().clone()
    with torch.no_grad():
        model.fc.bias.add_(1)
    zoo.push(model, "org/mine", revision="next")
    main, following = (
        load_file(hf_hub_download("org/mine", "model.safetensors", revision=branch))
        for branch in ("main", "next")
    )
    assert torch.equal(following["fc.bias"], model.fc.bias)
    assert torch.equal(main["fc.bias"], before)
    assert not zoo.push(model, "org/mine", revision="next").changes
    zoo.push(model, "org/other", revision="first")
    assert _names("org/other", revision="first") == FILES
    assert _names("org/other") == []


def test_a_pull_request_leaves_the_branch_alone(hub, trained):
    model, _ = trained
    zoo.push(model, "org/mine")
    before = model.fc.bias.detach().clone()
    with torch.no_grad():
        model.fc.bias.add_(1)
    done = zoo.push(model, "org/mine", create_pr=True)
    assert done.url == f"{hub.url}/org/mine/discussions/1"
    offered = hf_hub_download("org/mine", "model.safetensors", revision="refs/pr/1")
    assert torch.equal(load_file(offered)["fc.bias"], model.fc.bias)
    kept = load_file(hf_hub_download("org/mine", "model.safetensors"))
    assert torch.equal(kept["fc.bias"], before)
    with pytest.raises(LookupError, match="has no branch 'gone' to offer a change to"):
        zoo.push(model, "org/mine", create_pr=True, revision="gone")


def test_a_private_repository_stays_private(hub, trained, monkeypatch):
    model, _ = trained
    zoo.push(model, "org/secret", private=True)
    assert HfApi().model_info("org/secret").private
    assert not zoo.push(model, "org/secret").changes
    zoo.push(model, "org/open")
    with pytest.raises(ValueError, match="'org/open' exists and everyone can see it"):
        zoo.push(model, "org/open", private=True)
    monkeypatch.setenv("HF_TOKEN", STRANGER)
    with pytest.raises(PermissionError, match="may not write to 'org/secret'"):
        zoo.push(model, "org/secret")


@pytest.mark.parametrize(
    ("model", "repo_id", "more", "kind", "sentence"),
    [
        ("r2p1d_nano", "nano", {}, ValueError, "'nano' names no repository; write 'ORG/NAME'"),
        ("r2p1d_nano", "a/b/c", {}, ValueError, "names no repository"),
        ("r2p1d_nano", "org/../x", {}, ValueError, "names no repository"),
        ("r2p1d_nano", "org/x", {"revision": "0" * 40}, ValueError, "is a commit, which nothing"),
        ("r2p1d_nano", "org/x", {"revision": "a..b"}, ValueError, "'a..b' is no branch that"),
        ("r2p1d_nano", "org/x", {"revision": "-b"}, ValueError, "'-b' is no branch that"),
        ("r2p1d_nan", "org/x", {}, LookupError, "Unknown model 'r2p1d_nan'.*mean 'r2p1d_nano'"),
        ("r2p1d_nano.k400", "org/x", {}, LookupError, "Unknown tag 'k400'"),
        ("ip_csn_r101", "org/x", {}, LookupError, "has no pretrained weights"),
        ("local-dir:gone", "org/x", {}, FileNotFoundError, "'gone' does not exist"),
        ("./gone", "org/x", {}, FileNotFoundError, "'gone' does not exist"),
        ("i3d:resnet999", "org/x", {}, LookupError, "timm .* has no model 'resnet999'"),
    ],
)
def test_what_cannot_be_pushed_is_refused_before_anything_is_sent(
    hub, model, repo_id, more, kind, sentence
):
    with pytest.raises(kind, match=sentence):
        zoo.push(model, repo_id, **more)
    assert _writes(hub) == []


def test_a_module_without_a_record_is_refused(hub):
    with pytest.raises(ValueError, match="was not made by zoo.create"):
        zoo.push(registry.load("test_r3d").build(), "org/x")
    assert _writes(hub) == []


@pytest.mark.parametrize(
    ("token", "sentence"),
    [
        (None, "There is no token to write to 'org/x'; log in"),
        (EXPIRED, "refuses your token for 'org/x': it is wrong or has expired"),
        ("hf_nonsense", "refuses your token for 'org/x': it is wrong or has expired"),
        (READER, "may not write to 'org/x'; take one with write permission for 'org'"),
        (STRANGER, "may not write to 'org/x'"),
    ],
)
def test_a_token_that_does_not_do_is_named_in_one_sentence(
    hub, trained, monkeypatch, token, sentence
):
    monkeypatch.delenv("HF_TOKEN")
    if token:
        monkeypatch.setenv("HF_TOKEN", token)
    with pytest.raises(PermissionError, match=sentence) as caught:
        zoo.push(trained[0], "org/x")
    assert "\n" not in str(caught.value)
    assert "org/x" not in hub.storage.repositories


def test_a_refused_token_is_found_out_before_weights_are_fetched(hub, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", EXPIRED)
    monkeypatch.setattr("zoo.publishing.create", lambda *_, **__: pytest.fail("fetched"))
    with pytest.raises(PermissionError, match="refuses your token"):
        zoo.push("r2p1d_nano", "org/x")


@pytest.mark.parametrize(
    ("where", "status"),
    [
        ("GET /api/models/org/x", 503),
        ("POST .*/repos/create", 500),
        ("POST .*/preupload/", 502),
        ("POST .*/objects/batch", 503),
        ("PUT /store/", 500),
        ("POST .*/commit/", 503),
    ],
)
def test_errors_that_pass_are_tried_again(hub, trained, where, status):
    rule = hub.fail(where, status=status, times=2)
    done = zoo.push(trained[0], "org/x")
    assert rule.hits == 2
    assert done.changes
    assert _names("org/x") == FILES
    assert _commits(hub, "org/x") == ["test_r2p1d, by videozoo", "initial commit"]


@pytest.mark.parametrize("where", ["GET /api/models/org/x", "PUT /store/", "POST .*/commit/"])
def test_errors_that_stay_are_one_sentence_and_leave_no_half(hub, trained, where):
    hub.fail(where, status=500, times=None)
    with pytest.raises(
        ConnectionError, match=r"Cannot push to 'org/x' at .*; push again"
    ) as caught:
        zoo.push(trained[0], "org/x")
    assert "\n" not in str(caught.value)
    hub.faults.rules.clear()
    assert "org/x" not in hub.storage.repositories or _names("org/x") == []
    zoo.push(trained[0], "org/x")
    assert _names("org/x") == FILES


def test_a_commit_of_somebody_else_in_between_is_not_overwritten(hub, trained, monkeypatch):
    model, _ = trained
    zoo.push(model, "org/x")
    with torch.no_grad():
        model.fc.bias.add_(1)
    from converters import hub_upload

    commit = hub_upload._commit

    def beaten(*args):
        hub.seed("org/x", {"theirs.txt": b"theirs"})
        return commit(*args)

    monkeypatch.setattr(hub_upload, "_commit", beaten)
    with pytest.raises(RuntimeError, match="Somebody else changed 'org/x'.*push again"):
        zoo.push(model, "org/x")
    monkeypatch.setattr(hub_upload, "_commit", commit)
    zoo.push(model, "org/x")
    assert _names("org/x") == sorted([*FILES, "theirs.txt"])


def test_a_repository_that_somebody_else_makes_in_between_gets_nothing(hub, trained):
    hub.fail("POST /api/repos/create", call=lambda: hub.seed("org/x", {"theirs.txt": b"theirs"}))
    with pytest.raises(RuntimeError, match="Somebody else changed 'org/x'"):
        zoo.push(trained[0], "org/x", private=True)
    assert _names("org/x") == ["theirs.txt"]


def test_a_card_that_the_hub_refuses_is_told_and_nothing_is_committed(hub, trained):
    _, folder = trained
    (folder / "README.md").write_text("---\nlicense: nonsense\n---\n# By hand\n")
    with pytest.raises(ValueError, match=r"license.* must be one of"):
        zoo.push(folder, "org/x")
    assert _names("org/x") == []


def test_without_a_network_it_says_so(hub, trained, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ConnectionError, match=r"Cannot push to 'org/x' at .*HF_HUB_OFFLINE is set"):
        zoo.push(trained[0], "org/x")
    done = zoo.push(trained[0], "org/x", dry_run="here")
    assert sorted(done.sent) == FILES


def test_a_dry_run_writes_the_folder_and_sends_nothing(hub, tmp_path, monkeypatch):
    monkeypatch.delenv("HF_TOKEN")
    done = zoo.push("r2p1d_nano", "org/nano", dry_run=True)
    assert _writes(hub) == []
    assert (done.changes, done.is_new, done.folder) == (True, True, "nano")
    folder = tmp_path / "nano"
    assert done.sent == {path.name: path.stat().st_size for path in folder.iterdir()}
    assert sorted(done.sent) == FILES
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "README.md").write_text("of another program")
    with pytest.raises(FileExistsError, match="'src' holds other things than a model"):
        zoo.push("r2p1d_nano", "org/src", dry_run=True)
    monkeypatch.setenv("HF_TOKEN", WRITER)
    zoo.push("r2p1d_nano", "org/nano")
    assert not zoo.push("r2p1d_nano", "org/nano", dry_run=True).changes
    assert not zoo.push(folder, "org/nano").changes


def test_a_named_record_carries_its_digest_and_its_figures(hub):
    zoo.push("r2p1d_nano.motion", "org/nano")
    path = hf_hub_download("org/nano", "model.safetensors")
    (weights,) = registry.info("r2p1d_nano").weights
    header = read_metadata(path)
    assert header["digest"] == record_digest("r2p1d_nano", weights)
    assert json.loads(header["source"])["kind"] == "package"
    card = ModelCard.load("org/nano")
    assert [result.metric_value for result in card.data.eval_results] == [97.74, 92.5]
    assert card.data.eval_results[0].metric_args["measured_by"] == "videozoo"
    original = load_file(ROOT / "zoo/weights/r2p1d_nano.motion.safetensors")
    found = load_file(path)
    assert all(torch.equal(found[key], value) for key, value in original.items())


def test_the_lines_on_the_card_of_a_repository_run(hub, monkeypatch, tmp_path, capsys):
    zoo.push("r2p1d_nano", "org/nano")
    code = ModelCard.load("org/nano").text.partition("```python\n")[2].partition("```")[0]
    assert len(code.splitlines()) == 3
    shutil.copy(ROOT / "examples/clips/coffee-left-to-right.mp4", tmp_path / "video.mp4")
    exec(code, {})
    model = zoo.create("r2p1d_nano", pretrained=True)
    assert capsys.readouterr().out == f"{zoo.predict(model, 'video.mp4')}\n"


def test_a_repository_is_pushed_on_under_another_name(hub):
    zoo.push("r2p1d_nano", "org/nano")
    done = zoo.push("hf-hub:org/nano", "org/copy")
    first, second = (
        load_file(hf_hub_download(f"org/{name}", "model.safetensors")) for name in ("nano", "copy")
    )
    assert done.changes
    assert all(torch.equal(second[key], value) for key, value in first.items())


def test_lifted_models_are_pushed(hub):
    model = zoo.create("tsm:test_resnet", num_classes=3, labels=("a", "b", "c"))
    zoo.push(model, "org/lifted")
    found = zoo.create("hf-hub:org/lifted")
    assert found.record == model.record
    state = found.state_dict()
    assert all(torch.equal(state[key], value) for key, value in model.state_dict().items())
    card = ModelCard.load("org/lifted")
    assert card.data.base_model is None  # random weights have none
    assert "lifted by tsm" in card.text


def test_publish_goes_on_where_it_stopped_and_fetches_nothing_twice(hub, monkeypatch):
    hub.fail("POST .*/r2p1d_nano.motion/commit/", status=400, times=None)
    first = zoo.publish("org", "*_nano")
    assert [(row.name, row.status) for row in first] == [
        ("framepool_nano.motion", "published"),
        ("r2p1d_nano.motion", "failed"),
    ]
    hub.faults.rules.clear()
    made = []
    from zoo import publishing

    create = publishing.create
    monkeypatch.setattr(
        publishing, "create", lambda name, **more: made.append(name) or create(name, **more)
    )
    second = zoo.publish("org", "*_nano")
    assert [row.status for row in second] == ["already there", "published"]
    assert made == ["r2p1d_nano.motion"]
    before = len(_writes(hub))
    assert {row.status for row in zoo.publish("org", "*_nano")} == {"already there"}
    assert len(_writes(hub)) == before


def test_publish_renews_the_card_without_the_weights(hub, monkeypatch):
    zoo.publish("org", "framepool_nano")
    hub.seed("org/framepool_nano.motion", {"README.md": b"old"})
    monkeypatch.setattr("zoo.publishing.create", lambda *_, **__: pytest.fail("fetched"))
    assert [row.status for row in zoo.publish("org", "framepool_nano", dry_run=True)] == [
        "to publish"
    ]
    (row,) = zoo.publish("org", "framepool_nano")
    assert row.status == "card renewed"
    assert b"framepool_nano" in hub.content("org/framepool_nano.motion", "README.md")
    assert len(hub.asked("PUT /store/")) == 1


def test_publish_replaces_weights_of_another_digest(hub):
    zoo.push(zoo.create("framepool_nano", pretrained=True), "org/framepool_nano.motion")
    assert [row.status for row in zoo.publish("org", "framepool_nano")] == ["published"]
    assert [row.status for row in zoo.publish("org", "framepool_nano")] == ["already there"]


def test_publish_takes_nothing_from_the_hub_that_it_fills(hub, monkeypatch):
    changed = zoo.create("framepool_nano", pretrained=True)
    with torch.no_grad():
        changed.get_classifier().bias.add_(1)
    zoo.push(changed, "org/framepool_nano.motion")
    monkeypatch.setenv("ZOO_HUB", "hf://org")
    assert [row.status for row in zoo.publish("org", "framepool_nano")] == ["published"]
    found = load_file(hf_hub_download("org/framepool_nano.motion", "model.safetensors"))
    original = load_file(ROOT / "zoo/weights/framepool_nano.motion.safetensors")
    assert all(torch.equal(found[key], value) for key, value in original.items())


def test_publish_tells_what_cannot_be_fetched_and_goes_on(hub, cache):
    rows = zoo.publish("org", ("i3d_r18", "framepool_nano"))
    assert [row.status for row in rows] == ["published", "failed", "failed"]
    assert "Cannot fetch the weights 'i3d_r18.in1k_inflated'" in rows[1].detail
    assert "org/i3d_r18.in1k_inflated" not in hub.storage.repositories


def test_publish_asks_no_second_time_with_a_token_that_is_refused(hub, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", READER)
    rows = zoo.publish("org", "*_nano")
    assert [row.status for row in rows] == ["failed", "failed"]
    assert {row.detail for row in rows} == {rows[0].detail}
    assert "may not write to 'org/framepool_nano.motion'" in rows[0].detail
    assert len(hub.asked("repos/create")) == 1
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(PermissionError, match="There is no token to write to 'org'"):
        zoo.publish("org", "*_nano")
    with pytest.raises(LookupError, match="No weights are called like 'nonsense'"):
        zoo.publish("org", "nonsense")
    with pytest.raises(ValueError, match="names no repository"):
        zoo.publish("org/x", "*_nano")


@pytest.mark.slow
def test_layers_that_a_source_does_not_bring_are_the_same_each_time(hub, cache, monkeypatch):
    import timm

    make = timm.create_model

    def seeded(name, pretrained=False, **more):
        with torch.random.fork_rng():
            torch.manual_seed(7)
            return make(name, pretrained=False, **more)

    monkeypatch.setattr(timm, "create_model", seeded)
    with pytest.warns(UserWarning, match="these layers are random"):
        zoo.push("r2p1d_18.in1k_inflated", "org/x")
    torch.manual_seed(99)
    with pytest.warns(UserWarning, match="these layers are random"):
        assert not zoo.push("r2p1d_18.in1k_inflated", "org/x").changes
    config = json.loads(hub.content("org/x", "config.json"))
    assert config["arguments"]["num_classes"] == 0
    assert ModelCard.load("org/x").data.base_model == ["timm/resnet18.a1_in1k"]
    (row,) = zoo.publish("org", "r2p1d_18.in1k_inflated", dry_run=True)
    assert row.status == "to publish"
    with pytest.warns(UserWarning, match="these layers are random"):
        (row,) = zoo.publish("org", "r2p1d_18.in1k_inflated")
    assert row.status == "published"
    monkeypatch.setattr(timm, "create_model", lambda *_, **__: pytest.fail("fetched"))
    monkeypatch.setenv("ZOO_HUB", "hf://org")
    with pytest.warns(UserWarning, match="is new: 5 classes"):
        made = zoo.create("r2p1d_18.in1k_inflated", pretrained=True, num_classes=5)
    sent = load_file(hf_hub_download("org/x", "model.safetensors"))
    assert sent.keys() == made.state_dict().keys() - {"fc.weight", "fc.bias"}
    assert all(torch.equal(made.state_dict()[key], value) for key, value in sent.items())


def _zoo(hub, tmp_path, *arguments, token=WRITER):
    environment = hub.environment(tmp_path / "cli", token=token, PYTHONPATH=str(ROOT))
    return subprocess.run(
        [sys.executable, "-m", "zoo.cli", *arguments],
        cwd=tmp_path,
        env=environment | {"PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.mark.slow
def test_the_commands_in_processes_of_their_own(hub, tmp_path):
    push = ("push", "framepool_nano", "--repo", "org/nano", "--private")
    done = _zoo(hub, tmp_path, *push, "--dry-run")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "nano" / "config.json").is_file()
    assert "nothing is sent; this, in 'nano', would go to 'org/nano', a new" in done.stderr
    done = _zoo(hub, tmp_path, *push)
    assert done.stdout.splitlines()[0].startswith("send    model.safetensors ")
    assert "sent to 'org/nano': http" in done.stderr
    done = _zoo(hub, tmp_path, *push, "--json")
    assert json.loads(done.stdout)["sent"] == {}
    assert done.stderr == "zoo: 'org/nano' has all of it already; nothing is sent.\n"
    done = _zoo(hub, tmp_path, *push, token=None)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("zoo: error: There is no token")
    hub.fail("POST .*/r2p1d_nano.motion/commit/", status=400, times=None)
    done = _zoo(hub, tmp_path, "publish", "*_nano", "--org", "org")
    assert done.returncode == 1
    lines = done.stdout.splitlines()
    assert lines[0].startswith("org/framepool_nano.motion  published  http")
    assert lines[1].startswith("org/r2p1d_nano.motion      failed     ")
    assert "[1/2] framepool_nano.motion: published" in done.stderr
    assert "1 of 2 failed; the same command tries these again." in done.stderr
    hub.faults.rules.clear()
    done = _zoo(hub, tmp_path, "publish", "*_nano", "--org", "org", "--json")
    assert done.returncode == 0, done.stderr
    assert [row["status"] for row in json.loads(done.stdout)] == ["already there", "published"]
