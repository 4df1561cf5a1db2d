"""`embed`: features equal to those by hand, whatever stops it and however it is shared out."""

import csv
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from fresh_python import ROOT
from safetensors.torch import load_file
from scrambling import scramble
from videos import write_video

import zoo
from zoo.evaluation import embed
from zoo.evaluation.feature_files import CannotWriteError, FeatureWriter, read_finished, writing
from zoo.video import Video


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")
    (folder / "deep").mkdir()
    return [
        write_video(folder / "a b.mp4", 20),
        write_video(folder / "deep" / "a b.mp4", 75, rate=25),
        write_video(folder / "c.mp4", 40),
    ]


@pytest.fixture
def model():
    torch.manual_seed(0)
    made = scramble(zoo.create("test_r2p1d"), torch.zeros(4, 3, 8, 32, 32))
    made.reset_classifier(0)
    return made


def table(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def read(path):
    if path.suffix == ".npz":
        with np.load(path) as arrays:
            return {name: torch.from_numpy(arrays[name]) for name in arrays if name != "about"}
    # load_file maps the file, which a test may damage later
    return {name: tensor.clone() for name, tensor in load_file(path).items()}


def everything(out):
    """All features by video and start, from the index."""
    rows = table(out / "index.csv")
    files = {row["file"]: read(out / row["file"])["features"] for row in rows}
    return {
        (row["video"], float(row["start_seconds"])): files[row["file"]][int(row["row"])]
        for row in rows
    }


@pytest.mark.parametrize("file_format", ["safetensors", "npz"])
@pytest.mark.parametrize("num_clips", ["all", 3])
def test_features_equal_those_by_hand(model, videos, tmp_path, file_format, num_clips):
    found = embed(model, videos, tmp_path, num_clips=num_clips, file_format=file_format)
    assert (found.done, found.kept, found.failures) == (3, 0, ())
    rows = table(found.index)
    for path in videos:
        own = [row for row in rows if row["video"] == str(path)]
        clips = zoo.load_clip(path, model, num_clips=num_clips)
        with torch.no_grad():
            wanted = torch.cat([model(clip[None]) for clip in clips])
        file = read(tmp_path / own[0]["file"])
        assert file["features"].shape == (len(clips), model.num_features)
        assert file["features"].dtype == torch.float32
        assert (file["features"] - wanted).abs().max() < 1e-5 * wanted.abs().max()
        assert [int(row["row"]) for row in own] == list(range(len(clips)))
        starts = [float(row["start_seconds"]) for row in own]
        assert starts == pytest.approx(file["start_seconds"].tolist(), abs=1e-6)
        assert len(clips) > 1 or len(Video(path)) == 20
    assert sorted(path.name for path in tmp_path.glob(f"*.{file_format}")) == sorted(
        {row["file"] for row in rows}
    )


def test_times_are_those_of_the_frames_that_were_seen(model, videos, tmp_path):
    embed(model, videos[1:2], tmp_path)
    rows = table(tmp_path / "index.csv")
    sampling = model.record.sampling
    assert sampling.rule == "dense"
    # 75 frames at 25 a second, in windows of T frames, stride apart at the record's own rate.
    gap = sampling.frame_stride / (sampling.fps or 25)
    for place, row in enumerate(rows[:-1]):
        start = place * sampling.num_frames * gap
        assert float(row["start_seconds"]) == pytest.approx(start, abs=1 / 25)
        last = start + (sampling.num_frames - 1) * gap
        assert float(row["end_seconds"]) == pytest.approx(last + 1 / 25, abs=1 / 25)
    assert float(rows[-1]["end_seconds"]) == pytest.approx(3.0, abs=1e-3)


def test_what_is_done_is_not_done_again(model, videos, tmp_path, monkeypatch):
    first = embed(model, videos[:2], tmp_path)
    before = everything(tmp_path)
    calls = []
    model.register_forward_hook(lambda *_: calls.append(1))
    again = embed(model, [*videos[:2], videos[0].parent / "deep" / ".." / "a b.mp4"], tmp_path)
    assert (first.done, again.done, again.kept) == (2, 0, 2)
    assert calls == []
    more = embed(model, videos, tmp_path, batch_size=1)
    assert (more.done, more.kept) == (1, 2)
    after = everything(tmp_path)
    assert before.keys() < after.keys()
    assert {video for video, _ in after} == set(map(str, videos))


def test_a_video_that_changed_is_done_again(model, tmp_path):
    path = write_video(tmp_path / "v.mp4", 30)
    embed(model, [path], tmp_path / "out")
    write_video(path, 90)
    assert embed(model, [path], tmp_path / "out").done == 1
    assert float(table(tmp_path / "out" / "index.csv")[-1]["end_seconds"]) == pytest.approx(3.0)


def test_another_recipe_needs_another_folder(model, videos, tmp_path):
    embed(model, videos[:1], tmp_path)
    with pytest.raises(ValueError, match=r"\(num_clips differ\); choose another folder"):
        embed(model, videos[:1], tmp_path, num_clips=2)
    with pytest.raises(ValueError, match=r"\(format differ\)"):
        embed(model, videos[:1], tmp_path, file_format="npz")
    with torch.no_grad():
        model.stem.bn.weight[0] += 1e-3
    with pytest.raises(ValueError, match=r"features of 'test_r2p1d' made.*\(weights_sha256 differ"):
        embed(model, videos[:1], tmp_path)


def test_files_of_another_recipe_or_damaged_ones_are_done_again(model, videos, tmp_path):
    embed(model, videos[:2], tmp_path)
    wanted = everything(tmp_path)
    files = sorted(tmp_path.glob("*.safetensors"))
    found = read_finished(files[0])
    with FeatureWriter(files[0], found.spans, found.about | {"weights_sha256": "another"}) as file:
        file.add(np.zeros((len(found.spans), 4), np.float32))
        file.finish()
    files[1].write_bytes(files[1].read_bytes()[:100])
    assert embed(model, videos[:2], tmp_path).done == 2
    again = everything(tmp_path)
    assert again.keys() == wanted.keys()
    assert all(torch.equal(again[key], wanted[key]) for key in wanted)


def test_broken_videos_are_named_and_the_rest_done(model, videos, tmp_path):
    broken = tmp_path / "b.mp4"
    broken.write_bytes(b"this is no video")
    gone = tmp_path / "gone.mp4"
    found = embed(model, [broken, videos[0], gone, videos[2]], tmp_path / "out")
    assert found.done == 2
    assert [name for name, _ in found.failures] == [str(broken), str(gone)]
    assert "no video" in found.failures[0][1]
    assert {row["video"] for row in table(found.index)} == {str(videos[0]), str(videos[2])}


def test_memory_does_not_grow_with_the_video(model, tmp_path, monkeypatch):
    path = write_video(tmp_path / "long.mp4", 400)
    batches, ahead = [], 0
    iter_clips = zoo.iter_clips

    def counted(*arguments, **options):
        nonlocal ahead
        for clip in iter_clips(*arguments, **options):
            ahead += 1
            assert ahead <= 3
            yield clip

    def watch(_model, args, _out):
        nonlocal ahead
        batches.append(len(args[0]))
        ahead -= len(args[0])

    monkeypatch.setattr("zoo.evaluation._embedding_jobs.iter_clips", counted)
    added = []
    add = FeatureWriter.add
    monkeypatch.setattr(
        FeatureWriter, "add", lambda self, rows: (added.append(len(rows)), add(self, rows))
    )
    model.register_forward_hook(watch)
    embed(model, [path], tmp_path / "out", batch_size=3)
    assert len(batches) > 5
    assert max(batches) == 3
    assert added == batches  # rows go to disk as they come


def test_a_full_disk_ends_it_and_keeps_what_is_done(model, videos, tmp_path, monkeypatch):
    writes = 0
    finish = FeatureWriter.finish

    def full(self):
        nonlocal writes
        writes += 1
        if writes == 2:
            with writing(self._path):
                raise OSError(28, "No space left on device")
        finish(self)

    monkeypatch.setattr(FeatureWriter, "finish", full)
    with pytest.raises(CannotWriteError, match=r"No space left on device.*what is done is kept"):
        embed(model, videos, tmp_path / "out")
    assert {row["video"] for row in table(tmp_path / "out" / "index.csv")} == {str(videos[0])}
    left = {path.suffix for path in (tmp_path / "out").iterdir()}
    assert ".partial" not in left
    monkeypatch.undo()
    assert embed(model, videos, tmp_path / "out").kept == 1


def test_an_index_that_cannot_be_written_is_named(model, videos, tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("zoo.evaluation.embedding.csv.writer", full)
    with pytest.raises(CannotWriteError, match=r"Cannot write '.*index.csv' \(No space left"):
        embed(model, videos[:1], tmp_path)
    monkeypatch.undo()
    assert embed(model, videos[:1], tmp_path).kept == 1
    assert len(table(tmp_path / "index.csv")) > 0


def test_one_folder_is_written_by_one_at_a_time(model, videos, tmp_path):
    def second(_done, _total):
        with pytest.raises(ValueError, match="Another process writes features into"):
            embed(model, videos[:1], tmp_path)

    embed(model, videos[:1], tmp_path, progress=second)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"num_clips": 0}, "num_clips=0"),
        ({"file_format": "csv"}, "safetensors, npz, not 'csv'"),
        ({"batch_size": 0}, "batch_size is a whole number of 1 or more, not 0"),
        ({"processes": 1.5}, "processes is a whole number of 1 or more, not 1.5"),
    ],
)
def test_wrong_numbers(model, videos, tmp_path, arguments, sentence):
    with pytest.raises(ValueError, match=sentence):
        embed(model, videos, tmp_path, **arguments)


def test_models_that_give_no_features_are_refused(videos, tmp_path):
    with pytest.raises(ValueError, match="gives logits of 7 classes; for features, make it with"):
        embed(zoo.create("test_r2p1d"), videos, tmp_path)
    with pytest.raises(ValueError, match="give what zoo.create returned"):
        embed(torch.nn.Linear(2, 2), videos, tmp_path)
    model = zoo.create("test_r2p1d", num_classes=0)
    with torch.no_grad():
        model.stem.bn.bias[0] = float("nan")
    found = embed(model, videos[:1], tmp_path)
    assert "are not finite" in found.failures[0][1]
    (tmp_path / "file").touch()
    with pytest.raises(CannotWriteError, match="Cannot write into '.*file'"):
        embed(model, videos, tmp_path / "file")


def test_interrupted_it_says_so_and_goes_on_later(model, videos, tmp_path):
    def stop(_done, _total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt, match="1 of 3 videos are done; the same command goes on"):
        embed(model, videos, tmp_path, progress=stop)
    assert len({row["video"] for row in table(tmp_path / "index.csv")}) == 1
    told = []
    found = embed(model, videos, tmp_path, progress=lambda *pair: told.append(pair))
    assert (found.done, found.kept) == (2, 1)
    assert told == [(2, 3), (3, 3)]


@pytest.mark.slow
def test_several_processes_write_the_same(model, videos, tmp_path):
    broken = tmp_path / "b.mp4"
    broken.write_bytes(b"this is no video")
    one = embed(model, [*videos, broken], tmp_path / "one")
    two = embed(model, [*videos, broken], tmp_path / "two", processes=2)
    assert (two.done, two.kept, two.failures) == (one.done, one.kept, one.failures)
    assert two.index.read_text() == one.index.read_text()
    wanted, found = everything(tmp_path / "one"), everything(tmp_path / "two")
    assert all(torch.equal(found[key], wanted[key]) for key in wanted)


def command(*arguments):
    return subprocess.Popen(
        [sys.executable, "-m", "zoo.cli", "embed", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )


COUNT = 40
"""Videos; so many that a busy machine cannot be done with them before the signal comes."""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "processes"), [(signal.SIGKILL, 1), (signal.SIGKILL, 2), (signal.SIGINT, 2)]
)
def test_a_killed_run_is_taken_up(tmp_path, number, processes):
    paths = [write_video(tmp_path / f"{place}.mp4", 100) for place in range(COUNT)]
    out = tmp_path / "out"
    arguments = (tmp_path, "--model", "r2p1d_nano.motion", "--batch-size", 1, "--out")
    options = (out, "--processes", processes)
    run = command(*arguments, *options)
    while len(list(out.glob("*.safetensors"))) < 2 and run.poll() is None:
        time.sleep(0.02)
    run.send_signal(number)
    _, err = run.communicate(timeout=300)
    before = {path.name: path.stat().st_mtime_ns for path in out.glob("*.safetensors")}
    assert 2 <= len(before) < COUNT
    if number == signal.SIGINT:
        assert run.returncode == 130
        assert f"of {COUNT} videos are done; the same command goes on with the rest" in err
        assert "Traceback" not in err
    second = command(*arguments, *options)
    _, err = second.communicate(timeout=300)
    assert second.returncode == 0, err
    # A child of a killed run may have finished its video before it noticed.
    kept = int(err.split(" done before")[0].split()[-1])
    assert len(before) <= kept < COUNT
    for name, stamp in before.items():
        assert (out / name).stat().st_mtime_ns == stamp
    assert not list(out.glob(".*.partial"))
    model = zoo.create("r2p1d_nano.motion", pretrained=True, num_classes=0)
    embed(model, paths, tmp_path / "whole", batch_size=1)
    found, wanted = everything(out), everything(tmp_path / "whole")
    assert found.keys() == wanted.keys()
    assert len(found) == COUNT * len({start for _, start in found})
    assert all(torch.equal(found[key], wanted[key]) for key in wanted)


def test_the_command_names_broken_videos_and_exits_with_1(videos, tmp_path, model):
    folder = zoo.save(model, tmp_path / "model")
    broken = tmp_path / "b.mp4"
    broken.write_bytes(b"this is no video")
    arguments = (broken, videos[0], "--model", f"local-dir:{folder}", "--out", tmp_path / "out")
    run = command(*arguments, "--clips", 2)
    out, err = run.communicate(timeout=300)
    assert run.returncode == 1
    assert out == f"{tmp_path / 'out' / 'index.csv'}\n"
    assert f"1 videos embedded, 0 done before; failed: {broken}." in err
    assert len(table(tmp_path / "out" / "index.csv")) == 2
    recipe = json.loads((tmp_path / "out" / "recipe.json").read_text())
    assert (recipe["model"], recipe["num_clips"]) == ("test_r2p1d", "2")
    run = command(videos[0], "--model", "test_r2p1d", "--out", tmp_path / "out", "--clips", "few")
    assert "neither a number" in run.communicate(timeout=300)[1]
    assert run.returncode == 2
