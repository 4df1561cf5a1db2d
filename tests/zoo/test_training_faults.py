"""What goes wrong in a run ends in one clear sentence and leaves the last good checkpoint."""

import contextlib
import json
import math
import re
import resource
import sys
from dataclasses import replace

import pytest
from accelerate import Accelerator, DistributedType
from training_runs import PLAIN, assert_same_run, run, write_classes

import zoo
from zoo import cli
from zoo.augmentation import Augmentation
from zoo.training import TrainingStoppedError, classifier_for, train
from zoo.training.logs import read_log
from zoo.training.resuming import read_state


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_classes(tmp_path_factory.mktemp("videos"))


@pytest.fixture(scope="module")
def whole(data, tmp_path_factory):
    """A run that nothing interrupted."""
    out = tmp_path_factory.mktemp("whole") / "run"
    run(data, PLAIN, out)
    return out


SMALL = ("--from-scratch", "--epochs", 1, "--batch-size", 3, "--no-augment", "--cpu")


def test_the_command_trains_and_says_where_the_best_is(data, tmp_path, run_zoo):
    root = data.items[0].path.parents[1]
    train_ = ("train", "test_r2p1d", "--data", root, "--val", f"folder:{root}", *SMALL)
    code, out, err = run_zoo(*train_, "--out", tmp_path / "run", "--freeze", "stem", "--flip", 0.5)
    assert (code, out) == (0, f"{tmp_path / 'run' / 'best'}\n")
    assert "zoo: epoch 1 of 1: loss " in err
    assert "val_video_top1" in err
    written = json.loads((tmp_path / "run" / "recipe.json").read_text())
    assert written["recipe"]["freeze"] == ["stem"]
    assert written["recipe"]["augmentation"] == {
        **json.loads(json.dumps(PLAIN.to_json()))["augmentation"],
        "flip": 0.5,
    }
    model = zoo.create(f"local-dir:{tmp_path / 'run' / 'best'}")
    assert model.record.labels == ("a", "b", "c")


def test_command_and_recipe_have_the_same_defaults(run_zoo):
    from typer.main import get_command

    from zoo.training import PretrainRecipe, TrainRecipe

    program = get_command(cli.app)
    for name, recipe in (("train", TrainRecipe()), ("pretrain", PretrainRecipe())):
        found = {option.name: option.default for option in program.commands[name].params}
        for key in recipe.to_json():
            if key not in ("augmentation", "freeze", "normalise_targets"):
                assert found[key] == getattr(recipe, key), key


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (["--lr", "0"], "error: lr must be above 0, not 0.0"),
        (["--optimizer", "lion"], "error: optimizer must be 'adamw' or 'sgd', not 'lion'"),
        (["--mixup", "-1"], "error: mixup is 0 (none) or an alpha above"),
        (["--labels", "LIST"], "the label 'b' is not one of the 2 classes"),
        (["--freeze", "head"], "error: No parameter's name begins with 'head', which is to be"),
        (["--drop-path", "0.1"], "drop_path_rate"),
        (["--split", "test"], "test"),
        (["--checkpoint", "nowhere.pt"], "error: No checkpoint file at 'nowhere.pt'"),
    ],
)
def test_a_wrong_command_is_one_sentence(data, tmp_path, run_zoo, change, sentence):
    (tmp_path / "list.txt").write_text("a\nc\n")
    root = tmp_path / "videos"
    for item in data.items[::3]:
        path = root / "train" / item.path.parent.name / item.path.name
        path.parent.mkdir(parents=True)
        path.symlink_to(item.path)
    change = [str(tmp_path / "list.txt") if word == "LIST" else word for word in change]
    code, out, err = run_zoo(
        "train",
        "test_r2p1d",
        "--data",
        f"folder:{root}",
        "--out",
        tmp_path / "run",
        *SMALL,
        *change,
    )
    assert (code, out) == (1, "")
    assert sentence in err
    assert len(err.splitlines()) == 1
    assert not (tmp_path / "run").exists()


def test_a_run_that_ends_in_nan_names_step_and_videos_and_keeps_the_checkpoint(data, tmp_path):
    recipe = replace(PLAIN, lr=1e30, warmup_epochs=0.0, save_steps=1, epochs=3)
    with pytest.raises(TrainingStoppedError) as caught:
        run(data, recipe, tmp_path)
    step = read_state(tmp_path / "last" / "state.pt")["position"]["step"]
    text = re.fullmatch(
        rf"The (loss|gradient) of step {step + 1} is (nan|inf), so training stopped before it "
        r"spoiled the weights, and the last checkpoint is kept; the step saw (.*): look at them, "
        r"or begin again with a lower learning rate or a limit on gradients\.",
        str(caught.value),
    )
    named = set(re.findall("'(.*?)'", text[3]))
    assert 1 <= len(named) <= 2
    assert named <= {item.video_id for item in data.items}


def test_a_clip_with_nan_is_named_and_spoils_nothing(data, tmp_path, monkeypatch):
    from zoo.clip_dataset import ClipDataset

    take, wrong = ClipDataset.__getitem__, 7

    def spoiled(self, index):
        sample = take(self, index)
        return replace(sample, clip=sample.clip * math.nan) if index == wrong else sample

    with monkeypatch.context() as patch:
        patch.setattr(ClipDataset, "__getitem__", spoiled)
        sentence = (
            rf"The loss of step \d is nan, .*; the step saw '{data.items[wrong].video_id}': look"
        )
        # Without BatchNorm, a clip does not spoil its neighbours.
        with pytest.raises(TrainingStoppedError, match=sentence):
            run(data, replace(PLAIN, save_steps=1), tmp_path / "run", name="test_videomae")
    path = tmp_path / "run" / "last" / "state.pt"
    if path.exists():
        assert all(value.isfinite().all() for value in read_state(path)["model"].values())
    run(data, replace(PLAIN, save_steps=1), tmp_path / "run", name="test_videomae", resume=True)
    run(data, replace(PLAIN, save_steps=1), tmp_path / "whole", name="test_videomae")
    assert_same_run(tmp_path / "run", tmp_path / "whole")


@contextlib.contextmanager
def largest_file(size):
    """No file grows beyond so many bytes: the kernel ends a write as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize(
    ("writer", "call", "what"),
    [
        ("write_state", 3, "After step 5 the checkpoint cannot be written to '.*last'"),
        ("save", 2, "After step 10 the best model cannot be written to '.*best'"),
    ],
)
def test_a_full_disk_keeps_the_checkpoint_before(
    data, tmp_path, monkeypatch, writer, call, what, whole
):
    import zoo.training.loop as loop

    recipe = replace(PLAIN, save_steps=2)
    write, calls = getattr(loop, writer), []

    def limited(*arguments):
        calls.append(arguments)
        if len(calls) < call:
            return write(*arguments)
        before.update({p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()})
        with largest_file(30_000):
            return write(*arguments)

    before = {}
    with monkeypatch.context() as patch:
        patch.setattr(loop, writer, limited)
        with pytest.raises(TrainingStoppedError, match=f"{what} .*File too large.*is kept"):
            run(data, recipe, tmp_path / "full")
    after = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    assert before
    assert after == before  # no half-written file is left either
    run(data, recipe, tmp_path / "full", resume=True)
    assert_same_run(tmp_path / "full", whole)


def test_a_log_that_cannot_be_written_ends_the_run(data, tmp_path, monkeypatch, whole):
    from zoo.training.logs import RunLog

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(RunLog, "write", full)
        with pytest.raises(TrainingStoppedError, match="No space left on device"):
            run(data, PLAIN, tmp_path / "full")
    run(data, PLAIN, tmp_path / "full", resume=True)
    assert_same_run(tmp_path / "full", whole)


def with_broken_video(data, tmp_path, *, all_of_them=False):
    path = tmp_path / "broken.mp4"
    path.write_bytes(b"not a video")
    items = [
        replace(item, path=path) if all_of_them or number == 4 else item
        for number, item in enumerate(data.items)
    ]
    return replace(data, items=tuple(items))


def test_a_broken_video_is_left_out_and_named(data, tmp_path, caplog):
    broken = with_broken_video(data, tmp_path)
    recipe = replace(PLAIN, epochs=1)
    run(broken, recipe, tmp_path / "run", name="test_videomae", val=broken)
    (line,) = (x for x in read_log(tmp_path / "run" / "log.jsonl") if x["event"] == "epoch")
    assert [failure["video"] for failure in line["failures"]] == ["b/1.mp4"]
    assert "broken.mp4" in line["failures"][0]["reason"]
    assert "the video 'b/1.mp4' was left out: " in caplog.text
    # What remains counts as if the video were not in the list.
    assert line["clip_top1"] in [100 * k / 8 for k in range(9)]


def test_a_step_without_any_video_changes_nothing_but_the_rate(data, tmp_path):
    broken = with_broken_video(data, tmp_path)
    recipe = replace(PLAIN, epochs=1, batch_size=1)
    run(broken, recipe, tmp_path / "run", name="test_videomae")
    state = read_state(tmp_path / "run" / "last" / "state.pt")
    assert state["position"]["step"] == 9
    assert all(value.isfinite().all() for value in state["model"].values())


def test_a_broken_video_ends_the_run_where_it_is_to(data, tmp_path):
    broken = with_broken_video(data, tmp_path)
    recipe = replace(PLAIN, on_error="raise", save_steps=1)
    sentence = r"The video 'b/1.mp4' cannot be read in step \d \(.*broken.mp4.*\); the last"
    with pytest.raises(TrainingStoppedError, match=sentence):
        run(broken, recipe, tmp_path / "run")


def test_a_data_set_of_broken_videos_is_refused(data, tmp_path):
    broken = with_broken_video(data, tmp_path, all_of_them=True)
    with pytest.raises(
        TrainingStoppedError, match="None of the 9 videos can be read: .*broken.mp4"
    ):
        run(broken, PLAIN, tmp_path / "run")


def test_missing_videos_are_named_or_end_the_run(data, tmp_path, caplog):
    items, gone = data.items[:-2], data.items[-2:]
    lost = replace(data, items=items, missing=gone)
    run(lost, replace(PLAIN, epochs=1), tmp_path / "run")
    sentence = "2 videos of the split 'train' of 'tiny' do not exist, the first is '.*1.mp4'"
    assert (
        f"2 videos of the split 'train' of 'tiny' do not exist, the first is '{gone[0].path}'"
        in caplog.text
    )
    with pytest.raises(ValueError, match=sentence):
        run(lost, replace(PLAIN, on_error="raise"), tmp_path / "other")


def test_validation_on_what_is_trained_on_is_said(data, tmp_path, caplog):
    train_on, measured = (replace(data, items=data.items[part]) for part in (slice(6), slice(4, 9)))
    run(train_on, replace(PLAIN, epochs=1), tmp_path, val=measured)
    assert "2 of the 5 videos that are measured are trained on too" in caplog.text


def test_what_was_found_is_said(data, tmp_path, caplog):
    measured = replace(data, items=data.items[:4])
    with caplog.at_level("INFO", "zoo.training"):
        run(data, replace(PLAIN, epochs=1), tmp_path, val=measured)
    assert "9 videos of 3 classes to train on, 4 to measure." in caplog.text


def test_one_class_is_refused(data, tmp_path):
    items = tuple(replace(item, label=0) for item in data.items)
    lonely = replace(data, items=items, labels=("jump",))
    with pytest.raises(ValueError, match="'tiny' has one class, 'jump', .* nothing to tell apart"):
        run(lonely, PLAIN, tmp_path)


def test_two_runs_do_not_share_a_folder(data, tmp_path):
    from zoo.training.folders import only_run_in

    with (
        only_run_in(tmp_path / "run"),
        pytest.raises(ValueError, match=r"Another run is writing into '.*run'; wait until it has"),
    ):
        run(data, replace(PLAIN, epochs=1), tmp_path / "run", resume=True)
    assert not (tmp_path / "run" / "recipe.json").exists()
    run(data, replace(PLAIN, epochs=1), tmp_path / "other")
    run(data, replace(PLAIN, epochs=1), tmp_path / "other", resume=True)


def test_flips_that_the_data_forbids_are_told(data, tmp_path, caplog):
    flipping = replace(PLAIN, epochs=1, augmentation=replace(PLAIN.augmentation, flip=0.5))
    run(replace(data, flips_allowed=False), flipping, tmp_path)
    assert "no video of 'tiny' is flipped from left to right: the data forbids it" in caplog.text


def test_a_folder_that_is_not_empty_is_refused_unless_resumed(data, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match="is not empty; give a new folder, or --resume if the run"):
        run(data, PLAIN, tmp_path)
    with pytest.raises(ValueError, match="holds other things than a run"):
        run(data, PLAIN, tmp_path, resume=True)
    with pytest.raises(NotADirectoryError, match=r"notes.txt' is a file; give a folder"):
        run(data, PLAIN, tmp_path / "notes.txt")
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


@pytest.mark.parametrize(
    ("recipe", "videos", "name", "sentence"),
    [
        (
            replace(PLAIN, lr=0.2, ema=0.9),
            9,
            "test_r2p1d",
            "recipe.lr was 0.1 and is 0.2; recipe.ema was None and is 0.9",
        ),
        (PLAIN, 8, "test_r2p1d", "data.videos was 9 and is 8"),
        (PLAIN, 9, "test_videomae", "model.architecture was 'test_r2p1d' and is 'test_videomae'"),
        (
            replace(PLAIN, augmentation=Augmentation()),
            9,
            "test_r2p1d",
            "recipe.augmentation.flip was 0.0 and is 0.5",
        ),
    ],
)
def test_a_run_is_not_resumed_as_another(data, whole, recipe, videos, name, sentence):
    state = (whole / "last" / "state.pt").read_bytes()
    with pytest.raises(ValueError, match=f"was started otherwise: .*{sentence}"):
        run(replace(data, items=data.items[:videos]), recipe, whole, name=name, resume=True)
    assert (whole / "last" / "state.pt").read_bytes() == state


def test_a_run_may_be_resumed_with_other_workers_and_lines(data, whole):
    run(data, replace(PLAIN, workers=1, log_steps=3, save_steps=2), whole, resume=True)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda d: replace(d, items=()), "The split 'train' of 'tiny' has no videos"),
        (
            lambda d: replace(d, items=tuple(replace(i, label=-1) for i in d.items)),
            "9 videos of 'tiny' have no label, the first is 'a/0.mp4'",
        ),
        (lambda d: replace(d, labels=("a", "b", "c", "d")), "has 3 classes and 'tiny' has 4"),
    ],
)
def test_data_that_do_not_fit_are_refused(data, tmp_path, make, sentence):
    model = classifier_for("test_r2p1d", data.labels, pretrained=False)
    with pytest.raises(ValueError, match=sentence):
        train(model, make(data), PLAIN, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_validation_of_other_classes_is_refused(data, tmp_path):
    other = replace(data, labels=("a", "b", "z"))
    with pytest.raises(ValueError, match="'z'"):
        run(data, PLAIN, tmp_path / "run", val=other)


def test_a_single_video_is_enough_for_a_model_with_batchnorm(data, tmp_path):
    one = replace(data, items=data.items[:1])
    run(one, PLAIN, tmp_path)
    state = read_state(tmp_path / "last" / "state.pt")
    assert all(value.isfinite().all() for value in state["model"].values())


def test_a_missing_tensorboard_is_said(data, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(ValueError, match=r"install 'videozoo\[tensorboard\]'"):
        run(data, replace(PLAIN, tensorboard=True), tmp_path)


def test_a_launcher_that_splits_the_model_is_refused(data, tmp_path, monkeypatch):
    monkeypatch.setattr(Accelerator, "distributed_type", DistributedType.FSDP)
    with pytest.raises(ValueError, match="asks for FSDP, which splits a model over processes"):
        run(data, PLAIN, tmp_path / "run")


def test_a_launchers_own_accumulation_changes_nothing(data, tmp_path, monkeypatch, whole):
    monkeypatch.setenv("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "4")
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    run(data, PLAIN, tmp_path / "run")
    assert_same_run(whole, tmp_path / "run")
