"""Weights asked for load or raise: fetched from a real server, converted once, cached, checked."""

import dataclasses
import hashlib
import io
import subprocess
import sys
import textwrap
import warnings

import pytest
import timm
import torch
import torchvision
from mapped_memory import mapped_from, needs_maps
from scrambling import assert_close, random_clip, scramble

import converters
import registry
import zoo
from converters import read_checkpoint
from registry.records import UNKNOWN
from zoo.pretrained import cache_folder, load_weights

SHAPE = (1, 3, 8, 56, 56)


def _saved(state):
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def upstream():
    """torchvision's mc3_18 (the smallest), scrambled, and its file."""
    torch.manual_seed(0)
    reference = torchvision.models.video.mc3_18(weights=None)
    scramble(reference, torch.zeros(2, 3, 8, 56, 56))
    return reference, _saved(reference.state_dict())


def _point_to(monkeypatch, name, *, tag="k400", **source):
    """Let a record's source be another address or hash, as a mirror would."""
    entry = registry.load(name)
    weights = tuple(
        dataclasses.replace(record, source=dataclasses.replace(record.source, **source))
        if record.tag == tag
        else record
        for record in entry.architecture.weights
    )
    architecture = dataclasses.replace(entry.architecture, weights=weights)
    changed = dataclasses.replace(entry, architecture=architecture)
    monkeypatch.setitem(registry.catalogue._registered, name, changed)
    return changed, registry.find_weights(architecture, tag)


def _prefix(content):
    return hashlib.sha256(content).hexdigest()[:8]


def test_upstream_weights_are_converted_once_and_give_upstreams_logits(
    hub, cache, monkeypatch, upstream
):
    reference, content = upstream
    hub.files["mc3_18.pth"] = content
    source = {"url": f"{hub.url}/mc3_18.pth", "sha256": _prefix(content)}
    _, record = _point_to(monkeypatch, "mc3_18", **source)
    model = zoo.create("mc3_18", pretrained=True)
    again = zoo.create("mc3_18.k400", pretrained=True)
    third = zoo.create("mc3_18", pretrained="k400")
    assert len(hub.requests) == 1
    clip = random_clip(SHAPE, seed=1)
    with torch.no_grad():
        wanted = reference(clip)
        for made in (model, again, third):
            assert_close(made(clip), wanted)
    assert model.record.name == "mc3_18.k400"
    assert model.record.labels[0] == "abseiling"
    folder = cache_folder("mc3_18", record)
    assert sorted(path.name for path in folder.iterdir()) == [
        "lock",
        "model.safetensors",
        "source.sha256",
    ]
    assert folder.is_relative_to(cache)


@needs_maps
def test_converted_weights_are_the_mapped_file_of_the_cache(hub, cache, monkeypatch, upstream):
    hub.files["mc3_18.pth"] = upstream[1]
    source = {"url": f"{hub.url}/mc3_18.pth", "sha256": _prefix(upstream[1])}
    _, record = _point_to(monkeypatch, "mc3_18", **source)
    zoo.create("mc3_18", pretrained=True)
    again = zoo.create("mc3_18", pretrained=True)
    file = str((cache_folder("mc3_18", record) / "model.safetensors").resolve())
    assert {mapped_from(parameter) for parameter in again.parameters()} == {file}


def test_a_hub_repository_in_transformers_layout_loads(hub, cache, monkeypatch, tmp_path):
    torch.manual_seed(0)
    ours = scramble(zoo.create("test_timesformer_divided"), torch.zeros(2, 3, 4, 32, 32))
    import converters

    exported = converters.export(ours, target="transformers")
    entry = registry.load("test_timesformer_divided")
    tiny = dataclasses.replace(
        registry.info("timesformer_divided").weights[0],
        num_classes=7,
        labels=None,
        sampling=entry.architecture.sampling,
        preprocess=entry.architecture.preprocess,
    )
    hub.seed(tiny.source.repo_id, {tiny.source.filename: _saved(exported)})
    hub.point_client(monkeypatch, tmp_path)
    found = load_weights(entry, tiny).state
    asked = len(hub.requests)
    load_weights(entry, tiny)
    assert len(hub.requests) == asked
    state = ours.state_dict()
    assert found.keys() == state.keys()
    assert all(torch.equal(found[key], state[key]) for key in state)


def test_a_wrong_hash_is_refused_and_leaves_nothing(hub, cache, monkeypatch, upstream):
    _, content = upstream
    hub.files["mc3_18.pth"] = content + b"x"
    source = {"url": f"{hub.url}/mc3_18.pth", "sha256": _prefix(content)}
    _, record = _point_to(monkeypatch, "mc3_18", **source)
    with pytest.raises(ValueError, match=r"'mc3_18-.*pth' has SHA-256 .* tampered"):
        zoo.create("mc3_18", pretrained=True)
    assert [path.name for path in cache_folder("mc3_18", record).iterdir()] == ["lock"]


def test_a_cut_connection_is_refused(hub, cache, monkeypatch, upstream):
    _, content = upstream
    hub.files["mc3_18.pth"] = content
    monkeypatch.setattr("converters.download.WAITS_SECONDS", (0.0, 0.0, 0.0))
    hub.fail("GET /mc3_18", times=None, cut=1000)
    source = {"url": f"{hub.url}/mc3_18.pth", "sha256": _prefix(content)}
    _, record = _point_to(monkeypatch, "mc3_18", **source)
    with pytest.raises((ValueError, ConnectionError), match="cut short|Cannot fetch"):
        zoo.create("mc3_18", pretrained=True)
    assert not (cache_folder("mc3_18", record) / "model.safetensors").exists()


def test_an_unknown_hash_is_remembered_and_compared(hub, cache, monkeypatch, upstream):
    _, content = upstream
    hub.files["mc3_18.pth"] = content
    source = {"url": f"{hub.url}/mc3_18.pth", "sha256": UNKNOWN}
    _, record = _point_to(monkeypatch, "mc3_18", **source)
    zoo.create("mc3_18", pretrained=True)
    (cache_folder("mc3_18", record) / "model.safetensors").unlink()
    hub.files["mc3_18.pth"] = _saved({"changed": torch.zeros(1)})
    with pytest.raises(ValueError, match="changed upstream"):
        zoo.create("mc3_18", pretrained=True)


def test_a_damaged_cache_is_made_anew(hub, cache, monkeypatch, upstream, caplog):
    _, content = upstream
    hub.files["mc3_18.pth"] = content
    source = {"url": f"{hub.url}/mc3_18.pth", "sha256": _prefix(content)}
    _, record = _point_to(monkeypatch, "mc3_18", **source)
    first = zoo.create("mc3_18", pretrained=True)
    path = cache_folder("mc3_18", record) / "model.safetensors"
    path.write_bytes(path.read_bytes()[:5000])
    second = zoo.create("mc3_18", pretrained=True)
    assert len(hub.asked("GET /mc3_18.pth")) == 2
    assert "is damaged; made anew" in caplog.text
    assert torch.equal(first.fc.weight, second.fc.weight)


def test_a_cache_of_other_facts_is_made_anew(hub, cache, monkeypatch, upstream, caplog):
    import converters

    reference, content = upstream
    hub.files["mc3_18.pth"] = content
    source = {"url": f"{hub.url}/mc3_18.pth", "sha256": _prefix(content)}
    _, record = _point_to(monkeypatch, "mc3_18", **source)
    zoo.create("mc3_18", pretrained=True)
    path = cache_folder("mc3_18", record) / "model.safetensors"
    state = {key: torch.zeros_like(value) for key, value in read_checkpoint(path).items()}
    converters.write_safetensors(state, path, metadata={"digest": "of another record"})
    model = zoo.create("mc3_18", pretrained=True)
    assert torch.equal(model.fc.weight, reference.fc.weight)
    assert "was written for other facts" in caplog.text


@pytest.mark.parametrize("name", ["mc3_18", "timesformer_divided.k400", "i3d_r18"])
def test_without_a_network_the_ways_out_are_named(cache, monkeypatch, name):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ConnectionError, match=r"Cannot fetch the weights .*checkpoint=PATH"):
        zoo.create(name, pretrained=True)


def test_a_server_without_the_file_is_named(hub, cache, monkeypatch):
    _point_to(monkeypatch, "mc3_18", url=f"{hub.url}/gone.pth")
    with pytest.raises(ConnectionError, match=r"gone\.pth \(HTTP Error 404"):
        zoo.create("mc3_18", pretrained=True)


def test_image_weights_are_inflated_and_the_head_is_new(cache, monkeypatch):
    torch.manual_seed(0)
    image = scramble(timm.create_model("resnet18"), torch.zeros(4, 3, 64, 64))
    asked = []

    def pretrained(name, **options):
        asked.append((name, options))
        return image

    monkeypatch.setattr(timm, "create_model", pretrained)
    with pytest.warns(UserWarning, match="classifier of 'i3d_r18.in1k_inflated' is new: 400"):
        model = zoo.create("i3d_r18", pretrained=True)
    assert asked == [("resnet18.a1_in1k", {"pretrained": True})]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        features = zoo.create("i3d_r18.in1k_inflated_center", pretrained=True, num_classes=0)
    frame = random_clip((1, 3, 1, 64, 64), seed=1)
    with torch.no_grad():
        wanted = image.forward_head(image.forward_features(frame[:, :, 0]), pre_logits=True)
        still = frame.repeat(1, 1, 3, 1, 1)
        assert_close(features(still), wanted)
        pooled = model.forward_head(model.forward_features(still), pre_logits=True)
        assert_close(pooled, wanted)
    assert not torch.equal(features.conv1.weight, model.conv1.weight)
    record = registry.info("i3d_r18").weights[0]
    (cache_folder("i3d_r18", record) / "model.safetensors").unlink()
    with torch.no_grad():
        image.conv1.weight.mul_(1.1)
    with pytest.raises(ValueError, match=r"'resnet18.a1_in1k' has SHA-256 .* changed upstream"):
        zoo.create("i3d_r18", pretrained=True)
    assert model.record.labels is None


@pytest.mark.slow
def test_two_processes_that_ask_at_once_download_once(hub, cache, upstream):
    _, content = upstream
    hub.files["mc3_18.pth"] = content
    program = textwrap.dedent(f"""
        import dataclasses, registry, zoo
        import huggingface_hub.constants as constants
        constants.HF_ASSETS_CACHE = {str(cache)!r}
        entry = registry.load("mc3_18")
        record = entry.architecture.weights[0]
        source = dataclasses.replace(
            record.source, url="{hub.url}/mc3_18.pth", sha256="{_prefix(content)}"
        )
        record = dataclasses.replace(record, source=source)
        from zoo.pretrained import load_weights
        print(len(load_weights(entry, record).state))
    """)
    running = [
        subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    outputs = {process.communicate(timeout=120)[0] for process in running}
    assert all(process.returncode == 0 for process in running)
    assert len(outputs) == 1
    assert len(hub.asked("GET /mc3_18.pth")) == 1


def test_a_mirror_is_asked_where_the_source_is_gone(hub, cache, monkeypatch, upstream):
    reference, content = upstream
    hub.files["mirror/mc3_18.pth"] = content
    gone = f"{hub.url}/gone.pth"
    entry, record = _point_to(monkeypatch, "mc3_18", url=gone, sha256=_prefix(content))
    mirror = dataclasses.replace(record.source, url=f"{hub.url}/mirror/mc3_18.pth")
    record = dataclasses.replace(record, mirrors=(mirror,))
    found = load_weights(entry, record).state
    assert [one.path for one in hub.requests] == ["/gone.pth", "/mirror/mc3_18.pth"]
    wanted = converters.convert(reference.state_dict(), name="mc3_18")
    assert all(torch.equal(found[key], wanted[key]) for key in wanted)


def test_an_address_for_browsers_is_not_fetched(cache, monkeypatch):
    page = "https://drive.google.com/file/d/abc/view?usp=sharing"
    _point_to(monkeypatch, "mc3_18", url=page)
    with pytest.raises(ConnectionError, match=r"offered to browsers only, at https://drive.*PATH"):
        zoo.create("mc3_18", pretrained=True)
