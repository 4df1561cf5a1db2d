"""The static index: what is written of a record, read back, and kept up to date."""

import json
from dataclasses import replace

import pytest

import registry
from converters.unfilled import shapes_only
from registry import index
from registry.records import (
    UNKNOWN,
    Architecture,
    ImageSource,
    Metric,
    PackageSource,
    Paper,
    Preprocess,
    Sampling,
    UpstreamSource,
    Weights,
)
from zoo import _generate
from zoo.counting import count

SAMPLING = Sampling(
    rule="dense",
    num_frames=8,
    frame_stride=8,
    fps=29.97,
    num_clips=10,
    num_crops=3,
    average="probabilities",
)
PREPROCESS = Preprocess(
    img_size=224,
    resize=(256, 320),
    interpolation="bicubic",
    antialias=True,
    mean=(0.45, 0.46, 0.47),
    std=(0.225, 0.226, 0.227),
    channel_order="bgr",
)
SOURCES = (
    PackageSource(file="a.safetensors", sha256="12ab"),
    UpstreamSource(layout="torchvision", filename="a.pth", url="https://a.org/a", sha256="12ab"),
    UpstreamSource(layout="hub", filename="a.bin", repo_id="a/b", revision=UNKNOWN, sha256=UNKNOWN),
    ImageSource(library="timm", model="resnet18.a1_in1k", layout="timm", inflation=None),
)
METRIC = Metric(
    name="top1",
    value=67.25,
    dataset="kinetics400",
    split="validation",
    level="video",
    num_clips=10,
    num_crops=3,
    measured_by="upstream",
    note="ä",
)
RECORD = Architecture(
    name="push_net",
    family="pushes",
    module="lab.pushes",
    summary="A model of pushes.",
    paper=Paper(title="On pushes", url="https://example.org", year=2024),
    order="reversal_blind",
    num_classes=174,
    sampling=replace(SAMPLING, fps=None),
    preprocess=replace(PREPROCESS, resize=256),
    weights=tuple(
        Weights(
            tag=f"tag_{number}",
            source=source,
            licence=UNKNOWN if number else "MIT",
            data="UNKNOWN data is still text" if number else UNKNOWN,
            num_classes=174,
            labels=None if number else "something_something_v2",
            sampling=SAMPLING,
            preprocess=PREPROCESS,
            arguments=(("stem", "inflated"), ("rate", 0.5), ("deep", True), ("x", None)),
            metrics=(METRIC, replace(METRIC, name="top5", note="")),
            note="a note",
        )
        for number, source in enumerate(SOURCES)
    ),
    params=123,
    gflops=4.5,
)


def through_json(record):
    return index.architecture_from_json(json.loads(json.dumps(index.to_json(record))))


@pytest.mark.parametrize(
    "record", [RECORD, replace(RECORD, paper=None, weights=(), params=None, gflops=None)]
)
def test_a_record_is_the_same_after_json(record):
    again = through_json(record)
    assert again == record
    # Equality takes 1 for True and a list for nothing; the text shows every type.
    assert repr(again) == repr(record)


def test_unknown_is_read_as_the_value_and_nothing_else():
    first, second, third, _ = through_json(RECORD).weights
    assert first.data is UNKNOWN
    assert second.licence is UNKNOWN
    assert third.source.revision is UNKNOWN
    assert third.source.sha256 is UNKNOWN
    assert second.data == "UNKNOWN data is still text"


def test_what_is_written_of_a_source_tells_its_form():
    kinds = [item["source"]["kind"] for item in index.to_json(RECORD)["weights"]]
    assert kinds == ["package", "upstream", "upstream", "image"]
    assert index.to_json(RECORD)["weights"][2]["source"]["sha256"] == "UNKNOWN"


@pytest.mark.parametrize("name", sorted(index.read_index()))
def test_an_indexed_record_is_the_one_that_its_family_registers(name):
    indexed = index.architecture_from_json(index.read_index()[name])
    registered = registry.load(name).architecture
    bare = tuple(replace(item, params=None, gflops=None, proofs=()) for item in indexed.weights)
    assert replace(indexed, params=None, gflops=None, weights=bare) == registered
    assert (indexed.name, indexed.module) == (name, registry.load(name).builder.__module__)
    assert through_json(indexed) == indexed


def test_weights_are_counted_at_their_own_frames_and_size():
    found = {record.tag: record for record in registry.info("slow_r50").weights}
    assert found["k400_4x16"].gflops == pytest.approx(found["k400"].gflops / 2, rel=1e-3)
    assert found["ssv2"].params < found["k400"].params
    mvit = {record.tag: record for record in registry.info("mvit_v1_b").weights}
    assert mvit["k400_32x3"].gflops > 2 * mvit["k400"].gflops


# Counted by torchvision on its own models and published with their weights.
@pytest.mark.parametrize(
    ("name", "published"),
    [
        ("r3d_18", "R3D_18_Weights"),
        ("mc3_18", "MC3_18_Weights"),
        ("r2p1d_18", "R2Plus1D_18_Weights"),
    ],
)
def test_figures_and_metrics_are_those_that_torchvision_publishes(name, published):
    from torchvision.models import video

    weights = getattr(video, published).KINETICS400_V1
    found = registry.info(name)
    assert found.params == weights.meta["num_params"]
    # Published to three decimals.
    assert found.gflops == pytest.approx(weights.meta["_ops"], abs=6e-4)
    record = registry.find_weights(found, "k400")
    metrics = {item.name: item.value for item in record.metrics}
    theirs = weights.meta["_metrics"]["Kinetics-400"]
    assert metrics == {"top1": theirs["acc@1"], "top5": theirs["acc@5"]}
    assert record.source.url == weights.url
    assert weights.url.endswith(f"-{record.source.sha256}.pth")


@pytest.fixture(scope="module")
def generated():
    """The text of every generated file as the families stand, by path."""
    return _generate.generated_files()


def test_every_generated_file_is_up_to_date(generated):
    stale = [
        str(path.relative_to(_generate.ROOT))
        for path, text in generated.items()
        if not path.is_file() or path.read_text(encoding="utf-8") != text
    ]
    assert stale == [], "run `make generate`"
    cards = set((_generate.ROOT / "MODEL_CARDS").glob("*.md"))
    assert cards <= set(generated), "a card of a model that is gone"


def test_the_index_holds_every_family_in_natural_order(generated):
    text = generated[_generate.ROOT / "registry" / "index.json"]
    written = json.loads(text)
    assert list(written) == sorted(written, key=registry.names.natural_key)
    folder = _generate.ROOT / "zoo" / "models"
    families = {path.stem for path in folder.glob("*.py") if not path.name.startswith("_")}
    assert {item["family"] for item in written.values()} == families
    cards = {path.stem for path in generated if path.parent.name == "MODEL_CARDS"}
    assert cards == {name for name in written if not name.startswith("test_")} | {
        "README",
        "CHECKPOINTS",
    }
    assert all(item["params"] > 0 and item["gflops"] > 0 for item in written.values())


@pytest.mark.parametrize("name", ["c2d_r50", "movinet_a0_stream", "mvit_v1_b"])
def test_what_is_passed_over_while_counting_counts_for_nothing(name):
    entry = registry.load(name)
    with shapes_only():
        model = entry.build(**entry.defaults).eval()
    params, gflops = count(model)
    with _generate._passing_over():
        assert count(model) == (params, gflops)
    assert gflops > 1


@pytest.fixture
def checkout(tmp_path, monkeypatch, generated):
    """A folder of generated files, all fresh, that the generator takes for the checkout."""
    texts = {tmp_path / path.relative_to(_generate.ROOT): text for path, text in generated.items()}
    for path, text in texts.items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    monkeypatch.setattr(_generate, "ROOT", tmp_path)
    monkeypatch.setattr(_generate, "generated_files", lambda: texts)
    return tmp_path


def test_fresh_files_pass_the_check(checkout, capsys):
    assert _generate.main(["--check"]) == 0
    assert _generate.main([]) == 0
    assert capsys.readouterr().err == ""


def test_stale_missing_and_left_over_files_are_found_and_mended(checkout, capsys):
    stale = checkout / "registry" / "index.json"
    missing = checkout / "MODEL_CARDS" / "r3d_18.md"
    left_over = checkout / "MODEL_CARDS" / "gone_18.md"
    fresh = stale.read_text(encoding="utf-8"), missing.read_text(encoding="utf-8")
    stale.write_text(fresh[0].replace('"order": "used"', '"order": "ignored"', 1), encoding="utf-8")
    missing.unlink()
    left_over.write_text("# gone_18\n")
    before = stale.read_text(encoding="utf-8")
    assert _generate.main(["--check"]) == 1
    assert sorted(capsys.readouterr().err.splitlines()) == [
        "MODEL_CARDS/gone_18.md: is stale, run `make generate`",
        "MODEL_CARDS/r3d_18.md: is stale, run `make generate`",
        "registry/index.json: is stale, run `make generate`",
    ]
    # A check only looks.
    assert stale.read_text(encoding="utf-8") == before
    assert (missing.exists(), left_over.exists()) == (False, True)
    assert _generate.main([]) == 0
    assert len(capsys.readouterr().err.splitlines()) == 3
    assert (stale.read_text(encoding="utf-8"), missing.read_text(encoding="utf-8")) == fresh
    assert not left_over.exists()
    assert _generate.main(["--check"]) == 0


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: replace(SAMPLING, rule="dence"), "rule is one of uniform, dense, segments, span"),
        (lambda: replace(SAMPLING, num_frames=0), "num_frames is a whole number of 1 or more"),
        (lambda: replace(SAMPLING, fps=0), "fps is a number above 0 or None, not 0"),
        (lambda: replace(PREPROCESS, std=(1.0, 0.0, 1.0)), "std must be above 0"),
        (lambda: replace(PREPROCESS, mean=(1.0,) * 4), "mean holds a number a channel, 1 to 3"),
        (lambda: replace(PREPROCESS, resize=(1, 2, 3)), "resize is a short side or"),
        (lambda: replace(METRIC, dataset=""), "A figure needs its dataset, split and who"),
        (lambda: replace(METRIC, num_clips=0), "num_clips is a whole number of 1 or more"),
        (lambda: replace(RECORD, order="usd"), "order is one of ignored, reversal_blind, used"),
        (
            lambda: UpstreamSource(layout="x", filename="x", sha256=UNKNOWN),
            "A source has either url or repo_id",
        ),
    ],
)
def test_a_record_that_cannot_hold_is_refused(make, sentence):
    with pytest.raises(ValueError, match=sentence):
        make()
