"""`zoo evaluate`, on one process and on several."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from functools import partial

import pytest
from fresh_python import ROOT
from launching import launch
from videos import write_video

import registry
import zoo
from zoo.datasets import open_dataset
from zoo.evaluation import evaluate
from zoo.evaluation.files import figures_text, write_report
from zoo.evaluation.published import compare

CLIPS = ROOT / "examples" / "clips"
MODEL = "r2p1d_nano.motion"
FILES = ("report.json", "report.md", "predictions.csv", "clips.csv", "classes.csv", "confusion.png")


@pytest.fixture
def run(run_zoo):
    """Run `zoo evaluate ARGUMENTS` in this process: exit code, stdout, stderr."""
    return partial(run_zoo, "evaluate")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The four example clips, three other videos, one of them broken, in folders by their class."""
    folder = tmp_path_factory.mktemp("data") / "clips"
    labels = zoo.create(MODEL, pretrained=True).record.labels
    for path in sorted(CLIPS.glob("*.mp4")):
        label = next(label for label in labels if path.stem.endswith(label))
        (folder / label).mkdir(parents=True)
        shutil.copy(path, folder / label)
    write_video(folder / "still" / "noise.mp4", 30)
    write_video(folder / "right-to-left" / "noise.mp4", 50)
    (folder / "still" / "broken.mp4").write_bytes(b"this is no video")
    return folder


def test_it_prints_what_the_library_measures(run, folder, tmp_path):
    arguments = (MODEL, "--data", f"folder:{folder}", "--clips", 2, "--crops", 3)
    code, out, err = run(*arguments, "--out", tmp_path / "out")
    assert code == 0
    report = evaluate(
        zoo.create(MODEL, pretrained=True),
        open_dataset(f"folder:{folder}", split="val"),
        num_clips=2,
        num_crops=3,
    )
    first = out.splitlines()[0]
    assert first == (
        f"{MODEL} on clips, val: 6 of 7 videos, 2 x 3 views (clips x crops), logits averaged"
    )
    for accuracy in (report.clip_top1, report.clip_top5, report.video_top1, report.video_top5):
        assert f"{accuracy.share:7.2%}  ({accuracy.low:.2%} to {accuracy.high:.2%}; " in out
    assert report.video_top1.total == 6
    assert report.video_top1.correct >= 4  # the clips that the model was shown to name
    assert "published clip top-1 97.74% (12 photographs, sliding windows, 1 x 1 views" in out
    assert "- 2 x 3 views, published with 1 x 1" in out
    assert "not evaluated: still/broken.mp4: " in err
    assert all((tmp_path / "out" / name).is_file() for name in FILES)


def test_it_writes_json(run, folder, trained):
    found = json.loads(run(MODEL, "--data", folder, "--json")[1])
    assert found["videos"] == 7
    assert found["video_top1"]["total"] == 6
    assert [item["published"]["value"] for item in found["published"]] == [
        metric.value for metric in zoo.info("r2p1d_nano").weights[0].metrics
    ]
    _, path = trained
    other = folder.parent / "letters"
    (other / "a").mkdir(parents=True)
    write_video(other / "a" / "v.mp4", 12)
    found = json.loads(run(f"local-dir:{path}", "--data", other, "--json")[1])
    assert found["published"] == []  # what is in a folder has figures of its own
    assert found["model"] == f"local-dir:{path}"
    assert found["evaluated"] == 1


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (("no_such", "--data", "{}"), 1, "Unknown model 'no_such'"),
        ((MODEL, "--data", "k9:{}"), 1, "known scheme"),
        ((MODEL, "--data", "{}", "--device", "tpu"), 1, "--device tpu is asked for, and this"),
        ((MODEL, "--data", "{}", "--on-error", "stop"), 2, "neither 'skip' nor 'raise'"),
        ((MODEL, "--data", "{}", "--on-error", "raise"), 1, "'still/broken.mp4' cannot be"),
        ((MODEL, "--data", "{}", "--crops", "2"), 1, "num_crops=2"),
        ((MODEL, "--data", "{}", "--batch-size", "0"), 1, "batch_size is a whole number"),
        ((MODEL,), 2, "--data"),
    ],
)
def test_mistakes_end_in_a_sentence(run, folder, arguments, code, sentence):
    found, out, err = run(*(text.format(folder) for text in arguments))
    assert (found, out) == (code, "")
    assert sentence in err


def test_a_folder_that_cannot_be_written_is_refused_before_any_work(run, folder, tmp_path):
    (tmp_path / "file").touch()
    code, out, err = run(MODEL, "--data", folder, "--out", tmp_path / "file")
    assert (code, out) == (1, "")
    assert err == f"zoo: error: Cannot make the folder '{tmp_path / 'file'}' (File exists).\n"


def figures(path):
    """What every file of an evaluation says."""
    return {name: (path / name).read_bytes() for name in FILES}


@pytest.mark.slow
@pytest.mark.parametrize(("processes", "batch_size"), [(2, 2), (3, 2), (3, 8)])
def test_several_processes_lose_and_repeat_nothing(folder, tmp_path, processes, batch_size):
    """Seven videos, one broken, in batches of one video and of four: equal to the last byte."""
    model = zoo.create(MODEL, pretrained=True)
    data = open_dataset(f"folder:{folder}", split="val")
    report = evaluate(model, data, num_clips=2, num_crops=1, batch_size=batch_size)
    assert len(report) == 6
    weights = registry.find_weights(registry.info("r2p1d_nano"), "motion")
    write_report(report, tmp_path / "one", compare(report, weights))
    found = launch(
        *(processes, "-m", "zoo.cli", "evaluate", MODEL, "--data", f"folder:{folder}"),
        *("--clips", 2, "--crops", 1, "--batch-size", batch_size, "--out", tmp_path / "many"),
    )
    assert found.returncode == 0, found.stderr
    assert found.stdout == figures_text(report, compare(report, weights))  # said once
    assert found.stderr.count("not evaluated: still/broken.mp4") == 1
    assert figures(tmp_path / "many") == figures(tmp_path / "one")
    with (tmp_path / "many" / "predictions.csv").open(newline="") as file:
        names = [row["video_id"] for row in csv.DictReader(file)]
    assert len(names) == len(set(names)) == 6


@pytest.mark.slow
def test_a_broken_video_can_end_all_processes(folder):
    found = launch(
        *(2, "-m", "zoo.cli", "evaluate", MODEL, "--data", folder),
        *("--on-error", "raise", "--batch-size", 1),
    )
    assert found.returncode != 0
    assert "zoo: error: The video 'still/broken.mp4' cannot be evaluated" in found.stderr
    assert found.stdout == ""


DIFFERENT = """
import os, sys
import torch.distributed as dist
import zoo
from zoo.datasets import open_dataset
from zoo.evaluation import evaluate

dist.init_process_group("gloo")
data = open_dataset(sys.argv[1 + dist.get_rank()], split="val")
try:
    evaluate(zoo.create("r2p1d_nano.motion", pretrained=True), data)
except ValueError as error:
    print(error)
dist.destroy_process_group()
"""


@pytest.mark.slow
def test_processes_that_see_different_files_are_refused(folder, tmp_path):
    other = shutil.copytree(folder, tmp_path / "other" / "clips")
    (other / "still" / "noise.mp4").unlink()
    (tmp_path / "script.py").write_text(DIFFERENT)
    found = launch(2, tmp_path / "script.py", folder, other)
    assert found.returncode == 0, found.stderr
    assert found.stdout.count("The processes see different videos of 'clips' (7, 6 of them)") == 2


@pytest.mark.slow
def test_ctrl_c_says_what_was_done(tmp_path):
    # So many that a busy machine cannot be done with them before the signal comes.
    folder = tmp_path / "data" / "still"
    folder.mkdir(parents=True)
    first = write_video(folder / "000.mp4", 60)
    for place in range(1, 900):
        (folder / f"{place:03}.mp4").hardlink_to(first)
    process = subprocess.Popen(
        [
            *(sys.executable, "-c", WATCHED, "zoo", "evaluate", MODEL, "--batch-size", "1"),
            *("--data", str(tmp_path / "data"), "--clips", "10", "--out", str(tmp_path / "out")),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert process.stdout.readline() == "begun\n"
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 130, err
    assert out == ""
    assert "zoo: interrupted: " in err
    assert " of 900 videos were done, of which " in err
    assert "Traceback" not in err
    assert list((tmp_path / "out").iterdir()) == []


WATCHED = """
import sys
sys.argv = sys.argv[1:]
from zoo import cli
from zoo.evaluation.results import score_video
import zoo.evaluation.evaluation as evaluation
def scored(*arguments, **options):
    if not scored.begun:
        print("begun", flush=True)
        scored.begun = True
    return score_video(*arguments, **options)
scored.begun = False
evaluation.score_video = scored
cli.main()
"""


def test_only_the_weights_of_a_record_have_published_figures():
    from zoo.commands.evaluation import _weights

    assert _weights("r2p1d_18.k400", None).tag == "k400"
    assert _weights("r2p1d_18", None).tag == "k400"
    # The file of a tag is that tag's; a file alone may have been trained further.
    assert _weights("r2p1d_18.k400", "w.pth").tag == "k400"
    assert _weights("r2p1d_18", "w.pth") is None
    assert _weights("local-dir:folder", None) is None
