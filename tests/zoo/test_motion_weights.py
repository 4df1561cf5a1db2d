"""The embedded weights do what their records say, measured again."""

import importlib.util
import json
from pathlib import Path

import pytest
import torch

import zoo
from zoo.datasets import MotionClips

ROOT = Path(__file__).parents[2]


def _script():
    spec = importlib.util.spec_from_file_location(
        "train_motion", ROOT / "examples" / "train_motion.py"
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _report(name):
    return json.loads((ROOT / "zoo" / "weights" / f"{name}.motion.json").read_text())


@pytest.mark.parametrize("name", ["r2p1d_nano", "framepool_nano"])
def test_the_record_shows_the_figures_of_the_training_report(name):
    report, record = _report(name), zoo.info(name).weights[0]
    assert [metric.value for metric in record.metrics] == [
        report["pictures"]["top1"],
        report["synthetic"]["top1"],
    ]
    assert f"still {report['pictures']['per_label']['still']:g}" in record.metrics[0].note
    assert record.source.sha256 == report["sha256"]
    assert zoo.create(name, pretrained=True).record.labels == tuple(report["labels"])
    if name == "framepool_nano":
        assert f"{report['order_blind_ceiling']} %" in record.note


@pytest.mark.slow
def test_r2p1d_nano_names_drawn_motion_and_framepool_nano_cannot_tell_its_sense():
    dataset = MotionClips(180, seed=77)
    clips, labels = zip(*(dataset[index] for index in range(len(dataset))), strict=True)
    clips, labels = torch.stack(clips), torch.tensor(labels)
    to_input = _script().to_input
    with torch.no_grad():
        answers = {
            name: (model := zoo.create(name, pretrained=True))(to_input(clips, model)).argmax(1)
            for name in ("r2p1d_nano", "framepool_nano")
        }
    assert (answers["r2p1d_nano"] == labels).float().mean() > 0.85
    pairs = answers["framepool_nano"].view(-1, 2)
    assert torch.equal(pairs[:, 0], pairs[:, 1])  # a clip and its reverse are one to it
    assert (answers["framepool_nano"] == labels).float().mean() <= 5 / 9


@pytest.mark.slow
def test_windows_over_real_pictures_are_named_nine_times_in_ten():
    found = _script().evaluate_pictures(zoo.create("r2p1d_nano", pretrained=True))
    assert len(found["per_picture"]) >= 10
    assert found["top1"] >= 90
    assert found["top1"] == pytest.approx(_report("r2p1d_nano")["pictures"]["top1"], abs=1.0)
    assert min(found["per_label"].values()) >= 90


def test_the_weights_in_the_wheel_stay_small():
    files = (ROOT / "zoo" / "weights").iterdir()
    assert sum(path.stat().st_size for path in files) < 6e6
