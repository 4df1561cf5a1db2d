"""From a hub to a model: whole paths in fresh processes, and what is asked of the network."""

import json
import os
import subprocess
import sys
import warnings
from dataclasses import replace

import pytest
import torch
from fresh_python import ROOT
from hub_server import READER, WRITER
from safetensors.torch import load_file, save_file
from scrambling import assert_close, random_clip, scramble

import registry
import zoo
from zoo.hub import chosen_hub

SHAPE = (1, 3, 8, 32, 32)
CREATE = """
import sys, warnings
import torch, zoo
clip = torch.load("clip.pt")
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    model = zoo.create(sys.argv[1], pretrained=":" not in sys.argv[1])
with torch.no_grad():
    found = {"logits": model(clip), "labels": model.record.labels, "state": model.state_dict()}
torch.save(found | {"warned": [str(one.message) for one in caught]}, "found.pt")
"""


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A scrambled model with labels, and its folder."""
    torch.manual_seed(0)
    model = scramble(zoo.create("test_r2p1d", labels=list("abcdefg")), torch.zeros(2, *SHAPE[1:]))
    return model, zoo.save(model, tmp_path_factory.mktemp("saved") / "tiny")


@pytest.fixture
def there(hub, tiny, tmp_path, monkeypatch):
    """A client of a hub that has it, at `org/tiny`; its commit."""
    hub.point_client(monkeypatch, tmp_path / "home")
    return hub.seed("org/tiny", contents(tiny[1]))


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def assert_same(found, wanted):
    state, other = found.state_dict(), wanted.state_dict()
    assert state.keys() == other.keys()
    assert all(torch.equal(state[key], other[key]) for key in state)


def created(name, tmp_path, environment, clip):
    """What `zoo.create` makes in a process of its own."""
    torch.save(clip, tmp_path / "clip.pt")
    more = {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-c", CREATE, name]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment | more, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return torch.load(tmp_path / "found.pt")


@pytest.mark.slow
def test_what_was_pushed_comes_back_everywhere(hub, tmp_path, monkeypatch):
    """Pushed, then from the hub with an empty cache, offline, and from a mirror on no network."""
    model = zoo.create("r2p1d_nano.motion", pretrained=True)
    clip = random_clip((2, 3, 8, 64, 64), seed=1)
    with torch.no_grad():
        logits = model(clip)
    hub.point_client(monkeypatch, tmp_path / "pusher", token=WRITER)
    zoo.push(model, "org/name")
    home, nowhere = tmp_path / "home", tmp_path / "empty"
    zoo.mirror(tmp_path / "mirror", "r2p1d_nano.motion")
    places = {
        "hub": ("hf-hub:org/name", hub.environment(home)),
        "offline": ("hf-hub:org/name", hub.environment(home, HF_HUB_OFFLINE="1")),
        "mirror": (
            "r2p1d_nano.motion",
            hub.environment(nowhere, HF_HUB_OFFLINE="1", ZOO_HUB=str(tmp_path / "mirror")),
        ),
        "folder": (
            f"local-dir:{tmp_path}/mirror/r2p1d_nano.motion",
            hub.environment(nowhere, HF_HUB_OFFLINE="1"),
        ),
    }
    for place, (name, environment) in places.items():
        asked = len(hub.requests)
        found = created(name, tmp_path, environment, clip)
        assert_same(ModelState(found["state"]), model)
        assert torch.equal(found["logits"], logits)
        assert found["labels"] == model.record.labels
        assert (len(hub.requests) > asked) == (place == "hub")
        assert [text[:40] for text in found["warned"]] == (
            ["'hf-hub:org/name' is taken from the cach"] if place == "offline" else []
        )


class ModelState:
    def __init__(self, state):
        self.state_dict = lambda: state


@pytest.mark.slow
def test_the_hub_of_a_team_gives_the_weights_of_r2p1d_18(hub, tmp_path):
    torch.manual_seed(0)
    model = zoo.create("r2p1d_18")
    entry = registry.load("r2p1d_18")
    record = registry.find_weights(entry.architecture, "k400")
    with torch.no_grad():
        model.fc.bias.normal_()
    model.record = replace(model.record, tag="k400", labels=registry.labels(record.labels))
    hub.seed("team/r2p1d_18.k400", contents(zoo.save(model, tmp_path / "r2p1d_18.k400")))
    environment = hub.environment(tmp_path / "home", ZOO_HUB="hf://team")
    clip = random_clip((1, 3, 4, 32, 32), seed=1)
    found = created("r2p1d_18", tmp_path, environment, clip)
    assert_same(ModelState(found["state"]), model)
    assert found["labels"] == registry.labels("kinetics400")
    assert found["warned"] == []


def test_an_unpinned_name_asks_once(there, hub, tiny):
    assert_same(zoo.create("hf-hub:org/tiny"), tiny[0])
    cold = len(hub.requests)
    assert_same(zoo.create("hf-hub:org/tiny"), tiny[0])
    assert [one.method for one in hub.requests[cold:]] == ["HEAD"]


def test_only_what_is_needed_is_fetched(there, hub, tiny):
    hub.seed("org/tiny", {"training.log": b"x", "optimizer.bin": b"x" * 100})
    zoo.create("hf-hub:org/tiny")
    fetched = [one.path.partition("?")[0] for one in hub.requests if one.method == "GET"]
    assert len(fetched) == len(set(fetched)) == 2  # the config and the weights
    assert not hub.asked("training|optimizer|README")


@pytest.mark.parametrize("shards", [False, True])
def test_a_pinned_commit_with_a_warm_cache_asks_nobody(there, hub, tiny, tmp_path, shards):
    if shards:
        folder = zoo.save(tiny[0], tmp_path / "sharded", max_shard_size="20KB")
        assert len(list(folder.glob("model-*.safetensors"))) > 2
        there = hub.seed("org/shards", contents(folder))
    name = f"hf-hub:org/{'shards' if shards else 'tiny'}@{there}"
    assert_same(zoo.create(name), tiny[0])
    cold = len(hub.requests)
    assert_same(zoo.create(name), tiny[0])
    assert len(hub.requests) == cold


def test_what_was_checked_is_not_read_again_to_be_checked(there, tiny, tmp_path, monkeypatch):
    """Until it changes, even where its length and its date are put back."""
    zoo.create("hf-hub:org/tiny")
    looked = []
    for place in ("converters.hub._hash_of", "converters.places.check_finite"):
        monkeypatch.setattr(place, lambda *_, place=place, **__: looked.append(place) or 1 / 0)
    assert_same(zoo.create("hf-hub:org/tiny"), tiny[0])
    assert looked == []
    (snapshot,) = (tmp_path / "home").rglob("model.safetensors")
    blob = snapshot.resolve()
    before, content = blob.stat(), bytearray(blob.read_bytes())
    content[-1] ^= 1
    blob.write_bytes(content)
    os.utime(blob, ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(ZeroDivisionError):
        zoo.create("hf-hub:org/tiny")
    assert looked == ["converters.hub._hash_of"]


def test_a_branch_moves_and_a_commit_does_not(there, hub, tiny, tmp_path, monkeypatch):
    zoo.create("hf-hub:org/tiny")
    state = load_file(tiny[1] / "model.safetensors")
    state["fc.bias"] += 1
    save_file(state, tmp_path / "changed.safetensors")
    changed = (tmp_path / "changed.safetensors").read_bytes()
    hub.seed("org/tiny", {"model.safetensors": changed}, revision="next")
    assert_same(zoo.create(f"hf-hub:org/tiny@{there}"), tiny[0])
    assert_same(zoo.create("hf-hub:org/tiny"), tiny[0])
    assert torch.equal(zoo.create("hf-hub:org/tiny@next").fc.bias, state["fc.bias"])
    hub.seed("org/tiny", {"model.safetensors": changed})
    assert torch.equal(zoo.create("hf-hub:org/tiny").fc.bias, state["fc.bias"])
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.warns(UserWarning, match="HF_HUB_OFFLINE is set") as caught:
        again = zoo.create("hf-hub:org/tiny")
    assert torch.equal(again.fc.bias, state["fc.bias"])
    assert caught[0].filename == __file__


def test_arguments_change_it_as_they_do_a_folder(there, tiny):
    with pytest.warns(UserWarning, match="classifier of 'test_r2p1d' is new: 3 classes"):
        new = zoo.create("hf-hub:org/tiny", labels=["x", "y", "z"], in_chans=1, img_size=64)
    with pytest.warns(UserWarning):
        wanted = zoo.create(f"local-dir:{tiny[1]}", labels=["x", "y", "z"], in_chans=1, img_size=64)
    assert new.record == wanted.record
    same = {key: value for key, value in new.state_dict().items() if not key.startswith("fc.")}
    assert all(torch.equal(wanted.state_dict()[key], value) for key, value in same.items())
    with pytest.raises(ValueError, match="takes no argument 'steam'"):
        zoo.create("hf-hub:org/tiny", steam=1)
    with pytest.raises(ValueError, match="brings its own weights"):
        zoo.create("hf-hub:org/tiny", pretrained=True)


def test_a_lifted_model_comes_back(hub, tmp_path, monkeypatch):
    hub.point_client(monkeypatch, tmp_path / "home")
    torch.manual_seed(0)
    model = zoo.create("divided:test_vit", num_frames=3, num_classes=4, img_size=32)
    scramble(model, torch.zeros(1, 3, 3, 32, 32))
    hub.seed("org/lifted", contents(zoo.save(model, tmp_path / "lifted")))
    assert_same(zoo.create("hf-hub:org/lifted"), model)
    longer = zoo.create("hf-hub:org/lifted", num_frames=6)
    assert longer.num_frames == 6


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_read_for_what_it_is(tiny, tmp_path, dtype):
    folder = tmp_path / "half"
    folder.mkdir()
    for name, content in contents(tiny[1]).items():
        (folder / name).write_bytes(content)
    state = {
        key: value.to(dtype) if value.is_floating_point() else value
        for key, value in tiny[0].state_dict().items()
    }
    save_file(state, folder / "model.safetensors")
    found = zoo.create(f"local-dir:{folder}").state_dict()
    assert all(torch.equal(found[key], value.to(found[key].dtype)) for key, value in state.items())
    assert found["fc.weight"].dtype == torch.float32


@pytest.mark.parametrize(
    "text",
    ["name", "a/b/c", "../x/y", "org/..", "org/na--me", "org/n@a b", "org/name@../../x", "org/n@"],
)
def test_what_names_no_repository_is_refused(text, hub, tmp_path, monkeypatch):
    hub.point_client(monkeypatch, tmp_path)
    with pytest.raises(ValueError, match="names no repository; write|is no branch, tag or commit"):
        zoo.create(f"hf-hub:{text}")
    assert hub.requests == []


def test_a_token_opens_what_is_private(hub, tiny, tmp_path, monkeypatch):
    hub.seed("org/secret", contents(tiny[1]), private=True)
    hub.point_client(monkeypatch, tmp_path / "home")
    with pytest.raises(LookupError, match=r"or it is private and you gave no token \(HF_TOKEN\)"):
        zoo.create("hf-hub:org/secret")
    monkeypatch.setenv("HF_TOKEN", READER)
    assert_same(zoo.create("hf-hub:org/secret"), tiny[0])


class TestHubOfOnesOwn:
    @pytest.fixture
    def ours(self, tmp_path):
        """Other weights under the name of the embedded ones, as a folder."""
        model = zoo.create("r2p1d_nano", pretrained=True)
        with torch.no_grad():
            model.fc.bias.add_(1)
        return model, zoo.save(model, tmp_path / "team" / "r2p1d_nano.motion")

    @pytest.fixture(params=["argument", "variable"])
    def ask(self, request, monkeypatch):
        def create(hub, name="r2p1d_nano", **arguments):
            if request.param == "argument":
                return zoo.create(name, pretrained=True, hub=hub, **arguments)
            monkeypatch.setenv("ZOO_HUB", str(hub))
            return zoo.create(name, pretrained=True, **arguments)

        return create

    def test_a_folder_is_asked_first_and_the_source_then(self, ours, ask):
        model, folder = ours
        found = ask(folder.parent)
        assert_same(found, model)
        assert found.record == model.record
        embedded = zoo.create("framepool_nano", pretrained=True, hub=folder.parent)
        wanted = load_file(ROOT / "zoo" / "weights" / "framepool_nano.motion.safetensors")
        assert torch.equal(embedded.head.weight, wanted["head.weight"])

    def test_an_organisation_is_asked_first(self, ours, ask, hub, tmp_path, monkeypatch):
        model, folder = ours
        hub.point_client(monkeypatch, tmp_path / "home", token=READER)
        hub.seed("team/r2p1d_nano.motion", contents(folder))
        assert_same(ask("hf://team"), model)
        before = len(hub.requests)
        embedded = ask("hf://team", "framepool_nano")
        assert [one.status for one in hub.requests[before:]] == [404]
        assert embedded.record.tag == "motion"

    def test_without_a_token_what_is_missing_is_told(self, hub, tmp_path, monkeypatch):
        hub.point_client(monkeypatch, tmp_path / "home")
        with pytest.warns(UserWarning, match=r"shows no 'team/r2p1d_nano.motion' to somebody"):
            zoo.create("r2p1d_nano", pretrained=True, hub="hf://team")

    def test_a_hub_that_cannot_be_reached_gives_what_is_in_the_cache(
        self, ours, hub, tmp_path, monkeypatch
    ):
        model, folder = ours
        hub.point_client(monkeypatch, tmp_path / "home")
        hub.seed("team/r2p1d_nano.motion", contents(folder))
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
        with pytest.raises(
            ConnectionError,
            match=r"^The hub 'hf://team' does not give '.*`zoo mirror DIR r2p1d_nano.motion`",
        ):
            zoo.create("r2p1d_nano", pretrained=True, hub="hf://team")
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
        zoo.create("r2p1d_nano", pretrained=True, hub="hf://team")
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
        with pytest.warns(UserWarning, match=r"'hf-hub:team/r2p1d_nano.motion' is taken from the"):
            found = zoo.create("r2p1d_nano", pretrained=True, hub="hf://team")
        assert_same(found, model)

    def test_a_new_head_and_other_sizes(self, ours):
        with pytest.warns(UserWarning, match="is new: 3 classes"):
            new = zoo.create(
                "r2p1d_nano", pretrained=True, hub=ours[1].parent, num_classes=3, num_frames=4
            )
        assert torch.equal(new.layer1[0].bn1.weight, ours[0].layer1[0].bn1.weight)

    @pytest.mark.parametrize(
        ("hub", "kind", "sentence"),
        [
            ("hf://", ValueError, "write 'hf://ORG'"),
            ("hf://a/b", ValueError, "write 'hf://ORG'"),
            ("https://hub.example", ValueError, "write 'hf://ORG'"),
            ("/nowhere/at/all", FileNotFoundError, "fill one with `zoo mirror"),
        ],
    )
    def test_what_is_no_hub_is_refused(self, hub, kind, sentence, ask):
        with pytest.raises(kind, match=sentence):
            ask(hub)

    def test_a_hub_that_nobody_asks_is_refused(self, tmp_path):
        for name, pretrained in (("r2p1d_nano", False), ("local-dir:x", False)):
            with pytest.raises(ValueError, match="keeps the weights of registered names"):
                zoo.create(name, pretrained, hub=tmp_path)

    def test_names_that_are_no_names_do_not_leave_the_folder(self, tmp_path):
        (tmp_path / "hub").mkdir()
        with pytest.raises(ValueError, match="is no NAME.TAG"):
            chosen_hub(tmp_path / "hub").find("../x.y/..")


def test_an_image_model_says_how_to_lift_it(hub, tmp_path, monkeypatch):
    config = {"architecture": "resnet50", "num_classes": 1000, "pretrained_cfg": {"tag": "a1_in1k"}}
    hub.seed("timm/resnet50.a1_in1k", {"config.json": json.dumps(config).encode()})
    hub.point_client(monkeypatch, tmp_path / "home")
    with pytest.raises(ValueError, match=r"zoo.create\('i3d:hf-hub:timm/resnet50.a1_in1k'\)"):
        zoo.create("hf-hub:timm/resnet50.a1_in1k")


def test_a_video_model_in_timms_style_loads(tiny, tmp_path):
    folder = tmp_path / "timm_style"
    folder.mkdir()
    facts = {
        "input_size": [3, 8, 48, 48],
        "mean": [0.5] * 3,
        "std": [0.25] * 3,
        "crop_pct": 0.9,
        "interpolation": "bicubic",
        "label_names": list("abcdefg"),
        "license": "mit",
    }
    config = {"architecture": "test_r2p1d", "num_classes": 7, "pretrained_cfg": facts}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "model.safetensors").write_bytes((tiny[1] / "model.safetensors").read_bytes())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = zoo.create(f"local-dir:{folder}")
    assert_same(model, tiny[0])
    record, recipe = model.record, model.record.preprocess
    assert (record.labels, record.licence) == (tuple("abcdefg"), "mit")
    assert (recipe.img_size, recipe.resize, recipe.mean[0]) == (48, 53, 0.5)
    assert (recipe.interpolation, record.sampling.num_frames) == ("bicubic", 8)
    clip = random_clip(SHAPE, seed=1)
    with torch.no_grad():
        assert_close(model(clip), tiny[0](clip))
