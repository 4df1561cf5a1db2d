"""Cards of repositories: every record gives one that the Hub reads, with nothing made up."""

import csv
import dataclasses
import re
import shutil

import pytest
from fresh_python import ROOT
from hub_cards import check
from huggingface_hub import ModelCard

import registry
import zoo
from converters.hub_cards import hub_metadata, repository_card
from converters.wording import CODE_LICENCE
from registry.records import UNKNOWN, UpstreamSource
from zoo.factory import record_config
from zoo.folder import contents_of

NAMES = registry.list_pretrained()


def _contents(full, *, unchanged=True):
    name, _, tag = full.partition(".")
    entry = registry.load(name)
    weights = registry.find_weights(entry.architecture, tag)
    return contents_of(record_config(entry, weights), unchanged=unchanged)


def _card(contents, name="hf-hub:org/x"):
    return ModelCard(repository_card(contents, title="x", name=name))


@pytest.mark.parametrize("full", NAMES)
def test_every_record_has_a_card_that_the_hub_takes(full):
    contents = _contents(full)
    text = repository_card(contents, title=full, name=f"hf-hub:org/{full}")
    assert check(text) == ([], [])
    card, record = ModelCard(text), contents.weights
    assert card.data.library_name == "videozoo"
    assert card.data.pipeline_tag == "video-classification"
    assert card.data.license != "other"
    drawn = str(record.data).startswith("drawn scenes")
    assert bool(card.data.datasets) != drawn
    results = card.data.eval_results or []
    assert len(results) == len(record.metrics)
    for result in results:
        metric = next(item for item in record.metrics if item.value == result.metric_value)
        assert result.metric_args["measured_by"]
        assert result.metric_args["num_clips"] * result.metric_args["num_crops"] > 0
        assert result.dataset_split
        assert f"{metric.value:g} on {metric.dataset} ({metric.split})" in card.text
    code = card.text.partition("```python\n")[2].partition("```")[0].splitlines()
    assert code[:2] == ["import zoo", f'model = zoo.create("hf-hub:org/{full}")']
    assert len(code) == 3
    assert f"{record.params / 1e6:.2f} M" in card.text
    assert f"| {record.gflops:.2f} |" in card.text
    assert f"The code of videozoo is {CODE_LICENCE}." in card.text
    assert f"Licence of the weights: {record.licence}." in card.text
    assert contents.architecture.paper.title in card.text
    assert not re.search(r"None|TODO|UNKNOWN|PLACEHOLDER|PATH|\bnan\b|\[\]", card.text)


def test_every_upstream_record_tells_its_proof_and_the_deviation_that_was_measured():
    with (ROOT / "MODEL_CARDS" / "deviations.csv").open(encoding="utf-8", newline="") as file:
        measured = {row["proof"]: float(row["deviation"]) for row in csv.DictReader(file)}
    proved = 0
    for full in NAMES:
        record = _contents(full).weights
        assert bool(record.proofs) == isinstance(record.source, UpstreamSource)
        text = _card(_contents(full)).text
        for proof in record.proofs:
            assert measured[proof.test] == proof.deviation
            assert f"by `{proof.test}`" in text
            told = f"deviate by {proof.deviation:.1e} of" if proof.deviation else "bit for bit"
            assert told in text
            proved += 1
    assert proved > 150


def test_weights_that_were_trained_on_claim_nothing_of_their_record():
    contents = _contents("timesformer_divided.k400", unchanged=False)
    card = _card(contents)
    assert card.data.eval_results is None
    assert card.data.base_model == [contents.weights.source.repo_id]
    assert "Nobody measured these tensors" in card.text
    assert "Kinetics-400, and maybe other data since" in card.text
    assert f"{contents.weights.metrics[0].value:g} on" not in card.text
    assert "## Conversion\n\nOf the weights that it started from:\n\n- Source: " in card.text


@pytest.mark.parametrize(
    ("full", "bases"),
    [
        ("i3d_r18.in1k_inflated", ["timm/resnet18.a1_in1k"]),
        ("timesformer_divided.in21k_inflated", ["timm/vit_base_patch16_224.augreg_in21k"]),
        ("timesformer_divided.k400", None),  # converted, not trained further
        ("r2p1d_nano.motion", None),
    ],
)
def test_the_base_of_inflated_weights_is_named(full, bases):
    assert _card(_contents(full)).data.base_model == bases


@pytest.mark.parametrize(
    ("source", "bases"),
    [
        ("resnet18.a1_in1k", ["timm/resnet18.a1_in1k"]),
        ("hf-hub:me/mine@v1", ["me/mine"]),
        ("local-dir:here", None),
        (None, None),
    ],
)
def test_the_base_of_a_lifted_model_is_named(source, bases):
    made = zoo.create("i3d:test_resnet")
    config = dataclasses.replace(made.record, source={"image": source} if source else None)
    assert _card(contents_of(config, unchanged=False)).data.base_model == bases


@pytest.mark.parametrize(
    ("licence", "wanted", "told"),
    [
        ("Apache-2.0", {"license": "apache-2.0"}, "Licence of the weights: Apache-2.0."),
        (
            "CC-BY-NC-4.0",
            {"license": "cc-by-nc-4.0"},
            "No commercial use, says the licence of `x`.",
        ),
        (UNKNOWN, {"license": "unknown"}, "Licence of the weights: not stated upstream."),
        (UNKNOWN, {"license": "unknown"}, "Upstream states no licence for `x`: ask its authors"),
        (
            "Our House Licence",
            {"license": "other", "license_name": "our-house-licence"},
            "Licence of the weights: Our House Licence.",
        ),
    ],
)
def test_licences_follow_the_hubs_rules(licence, wanted, told):
    made = zoo.create("test_r3d")
    config = dataclasses.replace(made.record, licence=licence)
    text = repository_card(contents_of(config, unchanged=False), title="x", name="hf-hub:org/x")
    assert check(text) == ([], [])
    card = ModelCard(text)
    found = {key: card.data.get(key) for key in ("license", "license_name")}
    assert {key: value for key, value in found.items() if value} == wanted
    assert told in card.text


def test_several_licences_on_one_page_are_left_to_its_text():
    item = registry.info("r2p1d_18")
    assert {record.licence for record in item.weights} == {"BSD-3-Clause", "Apache-2.0"}
    page = (ROOT / "MODEL_CARDS" / "r2p1d_18.md").read_text(encoding="utf-8")
    card = ModelCard(page)
    assert check(page) == ([], [])
    assert "license" not in card.data.to_dict()
    assert card.data.base_model == ["timm/resnet18.a1_in1k"]
    assert [result.metric_value for result in card.data.eval_results] == [67.463, 86.175]


@pytest.mark.parametrize("name", registry.list_models())
def test_the_page_of_every_architecture_is_read_by_the_hub_too(name):
    page = (ROOT / "MODEL_CARDS" / f"{name}.md").read_text(encoding="utf-8")
    assert check(page) == ([], [])
    for part in ("Intended use and limits", "Licences", "Citation"):
        assert f"\n## {part}\n" in page
    assert not re.search(r"None|TODO|UNKNOWN|PLACEHOLDER|\bnan\b", page)


def test_the_licence_of_the_code_is_the_distributions():
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert f'\nlicense = "{CODE_LICENCE}"\n' in text


@pytest.mark.parametrize(
    ("name", "classes", "line"),
    [
        ("test_r3d", 3, 'print(zoo.predict(model, "video.mp4"))'),
        ("test_r3d", 0, 'features = model(zoo.load_clip("video.mp4", model))'),
    ],
)
def test_the_third_line_is_one_that_the_model_can_run(name, classes, line):
    config = zoo.create(name, num_classes=classes).record
    assert f"\n{line}\n```" in _card(contents_of(config, unchanged=False)).text


def test_metadata_of_no_weights_claims_no_licence():
    text = hub_metadata(
        registry.info("ip_csn_r101"), licences=[], data=[], base_models=[], results=[]
    )
    assert "license" not in text


@pytest.mark.parametrize("name", ["framepool_nano", "r2p1d_nano"])
def test_the_lines_on_the_page_of_an_embedded_model_run(name, tmp_path, monkeypatch):
    page = (ROOT / "MODEL_CARDS" / f"{name}.md").read_text(encoding="utf-8")
    shutil.copy(ROOT / "examples/clips/coffee-left-to-right.mp4", tmp_path / "video.mp4")
    monkeypatch.chdir(tmp_path)
    found = {}
    exec(page.partition("```python\n")[2].partition("```")[0], found)
    assert found["clip"].shape == (1, 3, 8, 64, 64)
