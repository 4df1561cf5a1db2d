"""`train` on real videos: the steps of a plain loop, and the same end after an interruption."""

import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from training_runs import PLAIN, assert_same_run, differences, run, write_classes

import zoo
from zoo.augmentation import Augmentation
from zoo.clip_dataset import ClipDataset
from zoo.datasets import open_dataset
from zoo.training import TrainingInterruptedError, classifier_for
from zoo.training.batches import plan_epoch
from zoo.training.logs import read_log
from zoo.training.resuming import read_state
from zoo.training.steps import Stepper

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_classes(tmp_path_factory.mktemp("videos"))


@pytest.fixture(scope="module")
def whole(data, tmp_path_factory):
    """A run that nothing interrupted."""
    out = tmp_path_factory.mktemp("whole") / "run"
    run(data, PLAIN, out)
    return out


class KilledError(BaseException):
    """Stands for a kill: nothing that handles errors handles it."""


def kill_at(monkeypatch, step):
    take = Stepper.take

    def killed(self, batches, *, number, stop):
        if number == step:
            raise KilledError
        return take(self, batches, number=number, stop=stop)

    monkeypatch.setattr(Stepper, "take", killed)


def by_hand(model, data, recipe):
    """The same training as a plain loop over whole steps: losses and norms of the gradients."""
    choices = {"augmentation": recipe.augmentation, "seed": recipe.seed}
    clips = ClipDataset(data, model.record, train=True, **choices)
    decayed = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim <= 1]
    optimizer = torch.optim.SGD(
        [{"params": decayed, "weight_decay": recipe.weight_decay}, {"params": others}],
        lr=recipe.lr,
        momentum=recipe.momentum,
        nesterov=True,
    )
    losses, norms = [], []
    model.train()
    for epoch in range(recipe.epochs):
        clips.set_epoch(epoch)
        sizes = {"batch_size": recipe.batch_size, "accumulate": recipe.accumulate, "processes": 1}
        plan = plan_epoch(len(data), seed=recipe.seed, epoch=epoch, **sizes)
        for step in plan:
            samples = [clips[i] for batch in step for i in batch[0]]
            inputs = torch.cat([sample.clip for sample in samples])
            labels = torch.tensor([sample.label for sample in samples])
            loss = F.cross_entropy(model(inputs), labels, label_smoothing=recipe.label_smoothing)
            optimizer.zero_grad()
            loss.backward()
            norm = torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.clip_grad)
            optimizer.step()
            losses.append(float(loss.detach()))
            norms.append(float(norm))
    return losses, norms


def test_accumulated_steps_are_those_of_a_plain_loop_over_whole_batches(data, tmp_path):
    recipe = replace(
        PLAIN,
        batch_size=2,
        accumulate=2,
        warmup_epochs=0.0,
        min_lr=PLAIN.lr,  # a constant rate
        clip_grad=2.5,
        label_smoothing=0.1,
        weight_decay=0.1,
        augmentation=Augmentation(rand_augment_ops=0),  # other crops in each epoch
    )
    result, model = run(data, recipe, tmp_path / "run", name="test_videomae")
    other = classifier_for("test_videomae", data.labels, pretrained=False)
    losses, norms = by_hand(other, data, recipe)
    assert result.steps == len(losses) == 6  # nine clips, four a step at most, twice
    assert min(norms) < recipe.clip_grad < max(norms)  # some are clipped and some are not
    lines = [x for x in read_log(tmp_path / "run" / "log.jsonl") if x["event"] == "step"]
    assert [line["loss"] for line in lines] == pytest.approx(losses, rel=1e-5)
    assert [line["grad_norm"] for line in lines] == pytest.approx(norms, rel=1e-4)
    before = classifier_for("test_videomae", data.labels, pretrained=False).state_dict()
    for (name, found), expected in zip(
        model.state_dict().items(), other.state_dict().values(), strict=True
    ):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6, msg=name)
        assert not torch.equal(found, before[name]), name


FEATURES = {
    "ema": {"ema": 0.9, "optimizer": "adamw", "layer_decay": 0.7},
    "mixing": {"augmentation": Augmentation(mixup=0.8, cutmix=1.0)},
    "workers": {"workers": 1, "accumulate": 2},
    "frozen": {"freeze": ("stem", "layer1"), "bf16": True, "clip_grad": 1.0},
}


@pytest.mark.parametrize(
    "feature",
    [
        "ema",
        "mixing",
        pytest.param("workers", marks=pytest.mark.slow),
        pytest.param("frozen", marks=pytest.mark.slow),
    ],
)
def test_a_resumed_run_ends_as_an_uninterrupted_one(data, tmp_path, monkeypatch, feature):
    recipe = replace(PLAIN, save_steps=2, **FEATURES[feature])
    run(data, recipe, tmp_path / "whole", val=data)
    kill = 5 if recipe.accumulate > 1 else 9  # in the second epoch, a step after a checkpoint
    with monkeypatch.context() as patch:
        kill_at(patch, kill)
        with pytest.raises(KilledError):
            run(data, recipe, tmp_path / "killed", val=data)
    saved = read_state(tmp_path / "killed" / "last" / "state.pt")["position"]
    assert (saved["epoch"], saved["epoch_step"] > 0, saved["step"]) == (1, True, kill - 1)
    torch.rand(17)  # the process that resumes is in another state
    run(data, recipe, tmp_path / "killed", val=data, resume=True)
    assert_same_run(tmp_path / "whole", tmp_path / "killed")


def test_dropout_goes_on_where_it_was(data, tmp_path, monkeypatch):
    recipe = replace(PLAIN, save_steps=1, log_steps=4)
    model = {"name": "test_videomae", "arguments": {"drop_rate": 0.5, "drop_path_rate": 0.5}}
    run(data, recipe, tmp_path / "whole", **model)
    with monkeypatch.context() as patch:
        kill_at(patch, 3)
        with pytest.raises(KilledError):
            run(data, recipe, tmp_path / "killed", **model)
    run(data, recipe, tmp_path / "killed", resume=True, **model)
    assert_same_run(tmp_path / "whole", tmp_path / "killed")


def test_a_run_resumed_after_each_of_its_steps_is_the_same(data, tmp_path, monkeypatch, whole):
    recipe = replace(PLAIN, save_steps=1)
    for step in range(1, 10):
        with monkeypatch.context() as patch:
            kill_at(patch, step)
            with pytest.raises(KilledError):
                run(data, recipe, tmp_path / "killed", resume=True)
    run(data, recipe, tmp_path / "killed", resume=True)
    assert_same_run(whole, tmp_path / "killed")


def test_a_finished_run_that_is_resumed_does_nothing(data, tmp_path):
    result, _ = run(data, PLAIN, tmp_path, val=data)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    again, _ = run(data, PLAIN, tmp_path, val=data, resume=True)
    assert again == result
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


KILLED = """
import os, signal, sys
from pathlib import Path
from zoo.augmentation import Augmentation
from zoo.datasets import open_dataset
from zoo.training import TrainRecipe, classifier_for, train
from zoo.training import resuming
from zoo.training.steps import Stepper

root, out, when = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
steps = 0

def kill(*_):
    os.kill(os.getpid(), signal.SIGKILL)

def take(self, batches, *, number, stop, take=Stepper.take):
    if number == 4 and when == "step":
        kill()
    if number == 3 and when == "saving":
        resuming.os.fsync = kill  # all is written, and nothing renamed
    return take(self, batches, number=number, stop=stop)

Stepper.take = take
data = open_dataset(f"folder:{root}", split="train")
recipe = TrainRecipe(epochs=2, batch_size=2, optimizer="sgd", lr=0.1, warmup_epochs=0.5,
                     log_steps=1, save_steps=2, augmentation=Augmentation.none())
train(classifier_for("test_r2p1d", data.labels, pretrained=False), data, recipe, out)
"""


@pytest.mark.parametrize("when", ["step", pytest.param("saving", marks=pytest.mark.slow)])
def test_a_process_that_is_killed_is_resumed_to_the_same_end(data, tmp_path, when, whole):
    root = tmp_path / "videos"
    shutil.copytree(data.items[0].path.parents[1], root)
    done = subprocess.run(
        [sys.executable, "-c", KILLED, root, tmp_path / "killed", when],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert (done.returncode, done.stderr) == (-signal.SIGKILL, "")
    state = tmp_path / "killed" / "last" / "state.pt"
    assert read_state(state)["position"]["step"] == (4 if when == "step" else 2)
    same = open_dataset(f"folder:{root}", split="train")
    run(same, replace(PLAIN, save_steps=2), tmp_path / "killed", resume=True)
    assert_same_run(whole, tmp_path / "killed")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_saves_a_checkpoint_and_says_so(
    data, tmp_path, monkeypatch, number, whole
):
    take = Stepper.take

    def interrupted(self, batches, *, number: int, stop, signal_=number):
        step = take(self, batches, number=number, stop=stop)
        if number == 1:
            os.kill(os.getpid(), signal_)
        return step

    handlers = [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)]
    with monkeypatch.context() as patch:
        patch.setattr(Stepper, "take", interrupted)
        sentence = "Training was interrupted; after step 3 its checkpoint was saved in '.*last'"
        with pytest.raises(TrainingInterruptedError, match=sentence):
            run(data, PLAIN, tmp_path / "stopped")
    assert [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)] == handlers
    assert read_state(tmp_path / "stopped" / "last" / "state.pt")["position"]["step"] == 3
    run(data, PLAIN, tmp_path / "stopped", resume=True)
    assert_same_run(whole, tmp_path / "stopped")


def test_the_best_epoch_is_a_folder_that_predicts(data, tmp_path, monkeypatch):
    scores = iter([40.0, 70.0, 70.0, 10.0])
    kept = []

    def measured(model, *_):
        kept.append({k: v.clone() for k, v in model.state_dict().items()})
        score = next(scores)
        return {"val_video_top1": score}

    monkeypatch.setattr("zoo.training.finetuning._measure", measured)
    result, model = run(data, replace(PLAIN, epochs=4, ema=0.5), tmp_path, val=data)
    assert (result.best_epoch, result.epochs) == (3, 4)
    assert [
        line["best"] for line in read_log(tmp_path / "log.jsonl") if line["event"] == "epoch"
    ] == [True, True, True, False]
    best = zoo.create(f"local-dir:{result.best}")
    assert best.record.labels == data.labels
    assert differences(dict(best.state_dict()), kept[2]) == []  # the average's, not the model's
    assert differences(dict(model.state_dict()), kept[3]) != []
    found = zoo.predict(best, data.items[0].path)
    assert {item.label for item in found} == set(data.labels)


def test_without_validation_the_last_epoch_is_the_best(data, tmp_path):
    result, model = run(data, PLAIN, tmp_path)
    best = zoo.create(f"local-dir:{result.best}")
    assert differences(dict(best.state_dict()), dict(model.state_dict())) == []
    assert (result.best_epoch, result.metrics) == (2, {})
    card = (result.best / "README.md").read_text(encoding="utf-8")
    assert "It started from random weights." in card
    assert f"Naming which of its {len(data.labels)} classes short videos show" in card


def test_validation_is_the_evaluation(data, tmp_path):
    from zoo.evaluation import evaluate

    result, model = run(data, replace(PLAIN, val_clips=2), tmp_path, val=data)
    report = evaluate(model, data, num_clips=2, num_crops=1)
    assert result.metrics == {
        "val_clip_top1": 100 * report.clip_top1.share,
        "val_clip_top5": 100 * report.clip_top5.share,
        "val_video_top1": 100 * report.video_top1.share,
        "val_video_top5": 100 * report.video_top5.share,
    }
    (line,) = (
        x for x in read_log(tmp_path / "log.jsonl") if x["event"] == "epoch" and x["epoch"] == 2
    )
    assert line["val_video_top1"] == result.metrics["val_video_top1"]


def test_frozen_parts_stay_as_they_were(data, tmp_path):
    before = classifier_for("test_r2p1d", data.labels, pretrained=False).state_dict()
    _, model = run(data, replace(PLAIN, freeze=("stem", "layer1")), tmp_path)
    for name, value in model.state_dict().items():
        frozen = name.startswith(("stem.", "layer1."))
        assert torch.equal(value, before[name]) == frozen, name


def test_recomputed_activations_change_nothing(data, tmp_path):
    _, one = run(data, PLAIN, tmp_path / "one")
    _, two = run(data, replace(PLAIN, grad_checkpointing=True), tmp_path / "two")
    assert two.grad_checkpointing
    for name, value in one.state_dict().items():
        torch.testing.assert_close(two.state_dict()[name], value, msg=name)


def test_bfloat16_computes_in_it_and_keeps_weights(data, tmp_path, monkeypatch):
    seen = []
    forward = torch.nn.Linear.forward
    monkeypatch.setattr(
        torch.nn.Linear,
        "forward",
        lambda self, x: (seen.append(out := forward(self, x)), out)[1],
    )
    _, model = run(data, replace(PLAIN, epochs=1, bf16=True), tmp_path)
    # Saving counts operations on the meta device.
    assert {out.dtype for out in seen if out.device.type == "cpu"} == {torch.bfloat16}
    assert {value.dtype for value in model.parameters()} == {torch.float32}


def test_the_recipe_is_written_down(data, tmp_path):
    run(data, PLAIN, tmp_path)
    written = json.loads((tmp_path / "recipe.json").read_text())
    assert written["recipe"]["lr"] == 0.1
    assert written["recipe"]["augmentation"]["flip"] == 0.0
    assert written["model"]["architecture"] == "test_r2p1d"
    assert written["data"]["labels"] == ["a", "b", "c"]
    assert (written["kind"], written["processes"], written["data"]["videos"]) == ("train", 1, 9)


def test_a_classifier_of_other_names_is_new_and_one_of_the_same_names_stays(data, trained):
    model, folder = trained
    name = f"local-dir:{folder}"
    same = classifier_for(name, tuple("abcdefg"))
    assert differences(dict(same.state_dict()), dict(model.state_dict())) == []
    for labels in (tuple("gfedcba"), tuple("abc")):
        other = classifier_for(name, labels)
        assert other.record.labels == labels
        assert not torch.equal(other.fc.weight[:3], model.fc.weight[:3])
        body = {key: value for key, value in model.state_dict().items() if "fc." not in key}
        assert differences(body, {key: other.state_dict()[key] for key in body}) == []
        assert torch.equal(other.fc.weight, classifier_for(name, labels).fc.weight)  # the seed's
    state = torch.get_rng_state()
    assert not torch.equal(classifier_for(name, labels, seed=1).fc.weight, other.fc.weight)
    assert torch.equal(torch.get_rng_state(), state)


def test_a_lifted_image_model_is_trained_and_read_again(data, tmp_path):
    arguments = {"num_frames": 2, "img_size": 32}
    recipe = replace(PLAIN, epochs=1, batch_size=5)
    result, model = run(data, recipe, tmp_path, name="tsm:test_resnet", arguments=arguments)
    again = zoo.create(f"local-dir:{result.best}")
    assert differences(dict(again.state_dict()), dict(model.state_dict())) == []
    assert again.record.labels == data.labels


@pytest.mark.peer
def test_tensorboard_gets_the_same_figures(data, tmp_path):
    loading = import_module("tensorboard.backend.event_processing.event_accumulator")
    run(data, replace(PLAIN, tensorboard=True), tmp_path)
    events = loading.EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    found = [(event.step, event.value) for event in events.Scalars("step/loss")]
    lines = [x for x in read_log(tmp_path / "log.jsonl") if x["event"] == "step"]
    assert found == [(line["step"], pytest.approx(line["loss"], rel=1e-6)) for line in lines]
