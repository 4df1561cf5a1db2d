"""The same run on two processes: nothing seen twice or lost, one log, and resumed to the bit."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from training_runs import PLAIN, assert_same_run, differences, run, write_classes

from zoo.datasets import open_dataset
from zoo.training.batches import plan_epoch
from zoo.training.logs import read_log
from zoo.training.resuming import read_state

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
LAUNCH = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
PROGRAM = """
import os, signal
from zoo import cli
from zoo.training.steps import Stepper

def take(self, batches, *, number, stop, take=Stepper.take):
    if f"{os.environ['RANK']}:{number}" == os.environ.get("KILL"):
        os.kill(os.getpid(), signal.SIGKILL)
    return take(self, batches, number=number, stop=stop)

Stepper.take = take
cli.main()
"""


@pytest.fixture
def launch(tmp_path):
    """Run `zoo train MODEL ARGUMENTS` on two processes: exit code, stdout, stderr."""
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)

    def call(name, videos, out, *arguments, kill=""):
        words = ("train", name, "--from-scratch", "--data", f"folder:{videos}", "--out", out)
        words += ("--optimizer", "sgd", "--lr", 0.1, "--warmup-epochs", 0.5, "--epochs", 2)
        words += ("--log-steps", 1, "--no-augment", *arguments)
        done = subprocess.run(
            [sys.executable, *LAUNCH, str(program), *map(str, words)],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": str(ROOT), "KILL": kill},
            capture_output=True,
            text=True,
            timeout=300,
        )
        return done.returncode, done.stdout, done.stderr

    return call


def steps_of(out):
    return [line for line in read_log(out / "log.jsonl") if line["event"] == "step"]


@pytest.mark.parametrize("batch_size", [1, 3])
def test_two_processes_train_as_one_does(tmp_path, launch, batch_size):
    # Nine videos in steps of two leave a process without a clip in some steps.
    write_classes(tmp_path / "videos")
    data = open_dataset(f"folder:{tmp_path / 'videos'}", split="train")
    one, two = tmp_path / "one", tmp_path / "two"
    val = ("--val", tmp_path / "videos", "--ema", 0.9, "--accumulate", 2)
    code, out, err = launch(
        "test_videomae", tmp_path / "videos", two, "--batch-size", batch_size, *val
    )
    assert (code, out) == (0, f"{two / 'best'}\n"), err
    assert err.count("zoo: epoch 1 of 2") == 1  # the main process alone speaks
    recipe = replace(PLAIN, batch_size=2 * batch_size, accumulate=2, ema=0.9)
    run(data, recipe, one, name="test_videomae", val=data)
    lines = [steps_of(folder) for folder in (one, two)]
    assert len(lines[0]) == len(lines[1]) == 2 * -(-9 // (4 * batch_size))
    for ours, theirs in zip(*lines, strict=True):
        for key in ("loss", "grad_norm", "lr"):
            assert theirs[key] == pytest.approx(ours[key], rel=1e-4), key
        assert theirs["clip_top1"] == ours["clip_top1"]
    found, expected = (load_file(folder / "best" / "model.safetensors") for folder in (two, one))
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-3, atol=1e-5, msg=name)
    assert differences(found, expected) != []  # they are two runs


def test_a_process_without_clips_does_not_count_in_batchnorm(tmp_path, launch):
    data = write_classes(tmp_path / "videos", videos=1)
    sizes = {"seed": 0, "batch_size": 1, "accumulate": 1, "processes": 2}
    plans = [plan_epoch(3, epoch=epoch, **sizes) for epoch in (0, 1)]
    # The main process has nothing to do when it meets this one; its statistics are what is kept.
    broken = plans[0][0][0][0][0]
    data.items[broken].path.write_bytes(b"not a video")
    out = tmp_path / "run"
    code, _, err = launch("test_r2p1d", tmp_path / "videos", out, "--batch-size", 1)
    assert code == 0, err
    state = read_state(out / "last" / "state.pt")
    counts = {int(v) for k, v in state["model"].items() if k.endswith("num_batches_tracked")}
    steps = [batch[0] for plan in plans for step in plan for batch in step]
    assert counts == {sum(step != [broken] for step in steps)}
    assert counts != {len(steps)}
    assert all(value.isfinite().all() for value in state["model"].values())


def test_a_killed_process_ends_the_run_and_a_resumed_one_is_the_same(tmp_path, launch):
    write_classes(tmp_path / "videos")
    chance = ("--drop-rate", 0.5, "--drop-path", 0.5, "--mixup", 0.8, "--batch-size", 1)
    chance += ("--save-steps", 2, "--val", tmp_path / "videos")
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert launch("test_videomae", tmp_path / "videos", whole, *chance)[0] == 0
    code, _, _ = launch("test_videomae", tmp_path / "videos", killed, *chance, kill="1:7")
    assert code != 0
    assert read_state(killed / "last" / "state.pt")["position"]["step"] == 6
    code, _, err = launch("test_videomae", tmp_path / "videos", killed, *chance, "--resume")
    assert code == 0, err
    assert_same_run(whole, killed)
    assert len(read_state(killed / "last" / "state.pt")["rng"]) == 2
    # Alone it would deal the data out otherwise.
    data = open_dataset(f"folder:{tmp_path / 'videos'}", split="train")
    with pytest.raises(ValueError, match="processes was 2 and is 1"):
        run(data, PLAIN, killed, name="test_videomae", resume=True)


def test_a_fault_of_one_process_is_told_once(tmp_path, launch):
    write_classes(tmp_path / "videos")
    broken = tmp_path / "videos" / "b" / "1.mp4"
    broken.write_bytes(b"not a video")
    out = tmp_path / "run"
    options = ("--batch-size", 1, "--on-error", "raise", "--save-steps", 1)
    code, _, err = launch("test_videomae", tmp_path / "videos", out, *options)
    assert code == 1
    said = [line for line in err.splitlines() if line.startswith("zoo: error: ")]
    assert len(said) == 1
    assert said[0].startswith("zoo: error: The video 'b/1.mp4' cannot be read in step ")
    code, _, err = launch("test_videomae", tmp_path / "videos", out, *options)
    assert code == 1
    said = [line for line in err.splitlines() if line.startswith("zoo: error: ")]
    assert len(said) == 1
    assert "is not empty; give a new folder, or --resume" in said[0]
    skipped = tmp_path / "skipped"
    code, _, err = launch("test_videomae", tmp_path / "videos", skipped, "--batch-size", 1)
    assert code == 0, err
    epochs = [line for line in read_log(skipped / "log.jsonl") if line["event"] == "epoch"]
    assert [[item["video"] for item in line["failures"]] for line in epochs] == [["b/1.mp4"]] * 2
    assert json.loads((skipped / "recipe.json").read_text())["processes"] == 2
