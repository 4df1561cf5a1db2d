"""The Hub of the tests answers the real client as the real Hub does, and fails as it is told."""

import time
from pathlib import Path

import pytest
from hub_server import EXPIRED, READER, STRANGER, WRITER, as_json, hub_serving
from huggingface_hub import (
    CommitOperationAdd,
    CommitOperationDelete,
    HfApi,
    ModelCard,
    constants,
    hf_hub_download,
    list_models,
    model_info,
    snapshot_download,
)
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

WEIGHTS = bytes(range(256)) * 400
CONFIG = as_json({"a": 1})
CARD = "---\nlicense: apache-2.0\ntags:\n- video\n---\n# A model\n"
FILES = {"config.json": CONFIG, "model.safetensors": WEIGHTS, "more/notes.txt": b"notes"}


@pytest.fixture
def hub(tmp_path, monkeypatch):
    with hub_serving(tmp_path) as hub:
        hub.point_client(monkeypatch, tmp_path / "home", token=WRITER)
        yield hub


@pytest.fixture
def api(hub):
    return HfApi(token=WRITER)


@pytest.fixture
def folder(tmp_path):
    place = tmp_path / "folder"
    for path, content in FILES.items():
        (place / path).parent.mkdir(parents=True, exist_ok=True)
        (place / path).write_bytes(content)
    (place / "README.md").write_text(CARD, encoding="utf-8")
    return place


def test_a_folder_is_one_commit_with_large_files_in_the_store(hub, api, folder):
    url = api.create_repo("org/name", private=True)
    assert (url.repo_id, url.endpoint) == ("org/name", hub.url)
    made = api.upload_folder(repo_id="org/name", folder_path=folder, commit_message="first")
    repository = hub.storage.repositories["org/name"]
    assert repository.branches["main"] == made.oid
    assert [one.title for one in repository.history("main")] == ["first", "initial commit"]
    assert {path: hub.content("org/name", path) for path in FILES} == FILES
    (stored,) = hub.asked("PUT /store/")
    assert stored.place == "store"
    assert "authorization" not in stored.headers
    assert len(hub.asked("POST .*/verify")) == 1
    assert repository.private


def test_what_has_not_changed_is_neither_sent_nor_committed(hub, api, folder):
    api.create_repo("org/name")
    first = api.upload_folder(repo_id="org/name", folder_path=folder)
    hub.requests.clear()
    again = api.upload_folder(repo_id="org/name", folder_path=folder)
    assert again.oid == first.oid
    assert hub.asked("PUT|/commit/") == []
    (folder / "config.json").write_bytes(b"{}")
    changed = api.upload_folder(repo_id="org/name", folder_path=folder)
    assert changed.oid != first.oid
    assert hub.asked("PUT") == []
    assert hub.content("org/name", "config.json", revision=first.oid) == CONFIG


def test_a_long_file_goes_in_parts(hub, api):
    hub.seed("org/name", {})
    hub.part_size = 50_000
    api.upload_file(repo_id="org/name", path_or_fileobj=WEIGHTS, path_in_repo="x.safetensors")
    assert hub.content("org/name", "x.safetensors") == WEIGHTS
    assert [one.path.split("?")[0][-2:] for one in hub.asked("PUT")] == ["/1", "/2", "/3"]


def test_files_and_folders_are_deleted_and_a_conflict_is_seen(hub, api):
    first = hub.seed("org/name", FILES)
    deletions = [CommitOperationDelete("more/"), CommitOperationDelete("config.json")]
    api.create_commit("org/name", deletions, commit_message="less", parent_commit=first)
    assert api.list_repo_files("org/name") == [".gitattributes", "model.safetensors"]
    added = [CommitOperationAdd("new.txt", b"new")]
    with pytest.raises(HfHubHTTPError, match="A commit has happened since"):
        api.create_commit("org/name", added, commit_message="more", parent_commit=first)
    with pytest.raises(EntryNotFoundError, match="doesn't exist"):
        api.delete_file("gone.txt", "org/name")
    api.delete_repo("org/name")
    assert not api.repo_exists("org/name")


def test_a_pull_request_leaves_the_branch_alone(hub, api):
    before = hub.seed("org/name", FILES)
    added = [CommitOperationAdd("new.txt", b"new")]
    made = api.create_commit("org/name", added, commit_message="more", create_pr=True)
    assert (made.pr_num, made.pr_revision) == (1, "refs/pr/1")
    assert api.model_info("org/name").sha == before
    assert api.file_exists("org/name", "new.txt", revision="refs/pr/1")
    refs = api.list_repo_refs("org/name", include_pull_requests=True)
    assert [one.name for one in refs.pull_requests] == ["refs/pr/1"]


def test_branches_tags_and_commits_are_revisions(hub, api):
    first = hub.seed("org/name", {"a.txt": b"1"})
    api.create_branch("org/name", branch="dev/two")
    api.create_tag("org/name", tag="v1")
    second = hub.seed("org/name", {"a.txt": b"2"}, revision="dev/two")
    for revision, commit in {"main": first, "v1": first, "dev/two": second, second: second}.items():
        assert api.model_info("org/name", revision=revision).sha == commit
        path = hf_hub_download("org/name", "a.txt", revision=revision)
        assert f"/{commit}/" in path
    assert api.model_info("org/name", revision=second[:8]).sha == second
    assert next(iter(api.list_repo_commits("org/name"))).commit_id == first
    with pytest.raises(HfHubHTTPError, match="409"):
        api.create_tag("org/name", tag="v1")
    api.create_branch("org/name", branch="dev/two", exist_ok=True)
    api.delete_tag("org/name", tag="v1")
    api.delete_branch("org/name", branch="dev/two")
    with pytest.raises(RevisionNotFoundError, match="Invalid rev id: v1"):
        hf_hub_download("org/name", "a.txt", revision="v1")
    with pytest.raises(RevisionNotFoundError, match="Invalid rev id: dev/two"):
        api.upload_file(
            repo_id="org/name", path_or_fileobj=b"", path_in_repo="b", revision="dev/two"
        )


def test_listings_are_in_pages_and_say_what_is_large(hub, api):
    hub.seed("org/name", FILES)
    hub.page_size = 2
    found = {one.path: one for one in api.list_repo_tree("org/name", recursive=True, expand=True)}
    assert list(found) == [
        *(".gitattributes", "config.json", "model.safetensors", "more", "more/notes.txt"),
    ]
    assert len(hub.asked("GET .*/tree/")) == 3
    weights = found["model.safetensors"]
    assert (weights.size, weights.lfs.size) == (len(WEIGHTS), len(WEIGHTS))
    assert weights.lfs.sha256 != weights.blob_id
    assert found["config.json"].lfs is None
    assert found["config.json"].last_commit.title == "seeded"
    (notes,) = api.list_repo_tree("org/name", "more")
    assert notes.path == "more/notes.txt"
    infos = api.get_paths_info("org/name", ["config.json", "more", "gone"])
    assert [one.path for one in infos] == ["config.json", "more"]
    siblings = model_info("org/name", files_metadata=True).siblings
    assert {one.rfilename: one.size for one in siblings}["model.safetensors"] == len(WEIGHTS)
    with pytest.raises(EntryNotFoundError):
        list(api.list_repo_tree("org/name", "none"))


def test_models_are_listed_by_author_and_search(hub):
    for repo_id in ("org/x3d_s.k400", "org/x3d_m.k400", "other/x3d_s"):
        hub.seed(repo_id, {})
    hub.seed("stranger/secret", {}, private=True)
    hub.page_size = 1
    assert [one.id for one in list_models(author="org")] == ["org/x3d_m.k400", "org/x3d_s.k400"]
    assert [one.id for one in list_models(search="X3D_S")] == ["org/x3d_s.k400", "other/x3d_s"]
    assert [one.id for one in list_models(author="org", limit=1)] == ["org/x3d_m.k400"]
    assert list(list_models(author="stranger")) == []


def test_a_snapshot_is_downloaded_once_and_used_without_a_network(hub, monkeypatch):
    commit = hub.seed("org/name", FILES)
    place = snapshot_download("org/name")
    assert place.endswith(commit)
    for path, content in FILES.items():
        assert Path(place, path).read_bytes() == content
    (stored,) = hub.asked("GET /store/")
    assert "authorization" not in stored.headers
    hub.requests.clear()
    assert snapshot_download("org/name", revision=commit) == place
    assert hub.requests == []
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert snapshot_download("org/name") == place
    with pytest.raises(LocalEntryNotFoundError, match="outgoing traffic has been disabled"):
        snapshot_download("org/other")


def test_cards_are_pushed_checked_and_loaded(hub, api):
    hub.seed("org/name", {})
    ModelCard(CARD).push_to_hub("org/name", token=WRITER)
    assert ModelCard.load("org/name").data.license == "apache-2.0"
    assert (model_info("org/name").tags, model_info("org/name").card_data.license) == (
        ["video"],
        "apache-2.0",
    )
    wrong = ModelCard("---\nlicense: mine\nbase_model: a b\n---\n")
    with pytest.raises(
        ValueError, match=r"license.* must be one of .*base_model.* is not the id of"
    ):
        wrong.push_to_hub("org/name", token=WRITER)
    unmeasured = b"---\nmodel-index:\n- name: x\n  results:\n  - dataset: {name: k400}\n---\n"
    required = r"task.type\" is required(.|\n)*dataset.type\" is(.|\n)*metrics.value\" is"
    with pytest.raises(ValueError, match=required):
        api.upload_file(repo_id="org/name", path_or_fileobj=unmeasured, path_in_repo="README.md")
    with pytest.warns(UserWarning, match="empty or missing yaml metadata"):
        api.upload_file(repo_id="org/name", path_or_fileobj=b"Hi", path_in_repo="README.md")


@pytest.mark.parametrize("token", [None, STRANGER])
def test_a_private_repository_is_not_found_by_others(hub, monkeypatch, token):
    hub.seed("org/secret", FILES, private=True)
    monkeypatch.delenv("HF_TOKEN")
    for repo_id in ("org/secret", "org/none"):
        with pytest.raises(RepositoryNotFoundError, match="404" if token else "401"):
            hf_hub_download(repo_id, "config.json", token=token)
        with pytest.raises(RepositoryNotFoundError):
            model_info(repo_id, token=token)
    assert hf_hub_download("org/secret", "config.json", token=READER)


@pytest.mark.parametrize(("token", "status"), [(None, 401), (STRANGER, 403)])
def test_a_gated_repository_is_seen_but_not_read(hub, monkeypatch, token, status):
    hub.seed("org/gated", FILES, gated=True)
    monkeypatch.delenv("HF_TOKEN")
    assert model_info("org/gated", token=token).gated == "manual"
    with pytest.raises(GatedRepoError, match=f"{status} .*(.|\n)*is restricted"):
        hf_hub_download("org/gated", "model.safetensors", token=token)


def test_tokens_are_checked(hub, folder):
    hub.seed("org/name", {})
    assert HfApi(token=WRITER).whoami()["orgs"][0]["name"] == "org"
    with pytest.raises(HfHubHTTPError, match="Invalid user token"):
        HfApi(token="hf_wrong").whoami()
    with pytest.raises(HfHubHTTPError, match="Invalid credentials in Authorization header"):
        hf_hub_download("org/name", "config.json", token="hf_wrong")
    with pytest.raises(RepositoryNotFoundError, match="is expired"):
        hf_hub_download("org/name", "config.json", token=EXPIRED)
    with pytest.raises(HfHubHTTPError, match="403 Forbidden: .* write token"):
        HfApi(token=READER).upload_folder(repo_id="org/name", folder_path=folder)
    with pytest.raises(HfHubHTTPError, match="403 Forbidden: You don't have the rights"):
        HfApi(token=STRANGER).create_repo("org/other")
    with pytest.raises(HfHubHTTPError, match="409"):
        HfApi(token=WRITER).create_repo("org/name")
    assert list(hub.storage.repositories) == ["org/name"]


def test_missing_files_and_revisions_have_their_own_errors(hub):
    hub.seed("org/name", FILES)
    with pytest.raises(EntryNotFoundError, match="Entry Not Found"):
        hf_hub_download("org/name", "none.json")
    with pytest.raises(RevisionNotFoundError, match="Invalid rev id: none"):
        snapshot_download("org/name", revision="none")


def test_a_cut_download_is_resumed_where_it_stopped(hub, monkeypatch):
    hub.seed("org/name", FILES)
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 1000)
    fault = hub.fail("GET /store/", cut=30_000)
    path = hf_hub_download("org/name", "model.safetensors")
    assert Path(path).read_bytes() == WEIGHTS
    first, second = hub.asked("GET /store/")
    assert fault.hits == 1
    assert (first.status, first.sent) == (200, 30_000)
    assert second.headers["range"] == "bytes=30000-"
    assert (second.status, second.sent) == (206, len(WEIGHTS) - 30_000)


def test_where_ranges_are_ignored_it_starts_again(hub, monkeypatch):
    hub.seed("org/name", FILES)
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 1000)
    hub.fail("GET /store/", cut=30_000)
    hub.fail("GET /store/", whole=True)
    path = hf_hub_download("org/name", "model.safetensors")
    assert Path(path).read_bytes() == WEIGHTS
    assert [one.status for one in hub.asked("GET /store/")] == [200, 200]


@pytest.mark.parametrize("status", [429, 500, 502, 503])
def test_errors_that_pass_and_errors_that_stay(hub, status):
    hub.seed("org/name", FILES)
    passing = hub.fail("HEAD .*config", status=status, times=3)
    assert hf_hub_download("org/name", "config.json")
    assert passing.hits == 3
    staying = hub.fail("HEAD .*notes", status=status, times=None, retry_after=0)
    with pytest.raises(LocalEntryNotFoundError, match="cannot find the requested files"):
        hf_hub_download("org/name", "more/notes.txt")
    assert staying.hits > 5


def test_bodies_that_lie(hub):
    commit = hub.seed("org/name", FILES)
    hub.fail("GET .*config", corrupt=True)
    found = Path(hf_hub_download("org/name", "config.json")).read_bytes()
    assert (len(found), found == CONFIG) == (len(CONFIG), False)
    hub.fail("GET .*notes", length=3, times=None)
    with pytest.raises(OSError, match="should be of size 5 but has size 3"):
        hf_hub_download("org/name", "more/notes.txt")
    with pytest.raises(OSError, match="should be of size 5 but has size 3"):
        hf_hub_download("org/name", "more/notes.txt", revision=commit)


def test_slow_and_silent_servers(hub, monkeypatch):
    hub.seed("org/name", FILES)
    monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", 0.3)
    slow = hub.fail("GET /store/", pause=0.05)
    started = time.monotonic()
    assert hf_hub_download("org/name", "model.safetensors")
    assert (slow.hits, time.monotonic() - started >= 0.4) == (1, True)
    silent = hub.fail("GET .*config", hang=30)
    halfway = hub.fail("GET .*notes", cut=2, hang=30)
    assert hf_hub_download("org/name", "config.json")
    assert hf_hub_download("org/name", "more/notes.txt")
    assert (silent.hits, halfway.hits) == (1, 1)


def test_uploads_that_fail_halfway_leave_no_commit(hub, api, folder):
    before = hub.seed("org/name", {})
    (folder / "second.safetensors").write_bytes(WEIGHTS[::-1])
    lost = hub.fail("PUT /store/", skip=1, times=None, status=500)
    with pytest.raises(RuntimeError, match="Error while uploading"):
        api.upload_folder(repo_id="org/name", folder_path=folder)
    assert lost.hits > 1
    assert api.model_info("org/name").sha == before
    hub.faults.rules.clear()
    hub.requests.clear()
    cut = hub.fail("PUT /store/", cut=1000)
    conflict = hub.fail("POST .*/commit/", status=412, message="A commit has happened since.")
    with pytest.raises(HfHubHTTPError, match="A commit has happened since"):
        api.upload_folder(repo_id="org/name", folder_path=folder)
    assert (cut.hits, conflict.hits) == (1, 1)
    assert len(hub.asked("PUT /store/")) == 2  # the one that is in the store is not sent again
    assert api.model_info("org/name").sha == before


@pytest.mark.parametrize(
    ("effects", "error"),
    [
        ({"status": 401, "code": "GatedRepo"}, GatedRepoError),
        ({"status": 403}, LocalEntryNotFoundError),
        ({"status": 404, "code": "RepoNotFound"}, RepositoryNotFoundError),
        ({"status": 404, "code": "RevisionNotFound"}, RevisionNotFoundError),
    ],
)
def test_any_error_of_the_hub_can_be_planted(hub, effects, error):
    hub.seed("org/name", FILES)
    hub.fail("HEAD .*config", **effects)
    with pytest.raises(error):
        hf_hub_download("org/name", "config.json")
