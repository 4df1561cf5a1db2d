"""The command line as a user meets it: output, sentences, exit codes; never a traceback."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest
import torch
from PIL import Image
from scrambling import scramble
from videos import write_video

import zoo


@pytest.fixture(scope="module")
def model_name(tmp_path_factory):
    torch.manual_seed(0)
    model = scramble(zoo.create("test_r2p1d"), torch.zeros(4, 3, 8, 32, 32))
    return f"local-dir:{zoo.save(model, tmp_path_factory.mktemp('model') / 'm')}"


def test_list_is_one_name_a_line(run_zoo):
    code, out, _ = run_zoo("list")
    assert code == 0
    assert out.split() == zoo.list_models()
    assert run_zoo("list", "r2p1d*")[1].split() == zoo.list_models("r2p1d*")
    assert run_zoo("list", "--family", "i3d")[1].split() == ["i3d_r18"]
    assert "r2p1d_18.k400" in run_zoo("list", "--pretrained")[1].split()


def test_list_as_json(run_zoo):
    rows = json.loads(run_zoo("list", "r2p1d_18", "--json")[1])
    assert rows[0]["name"] == "r2p1d_18"
    assert rows[0]["weights"] == ["k400", "in1k_inflated"]
    assert rows[0]["params"] == 31505325  # torchvision's count


def test_list_without_a_match(run_zoo):
    code, out, err = run_zoo("list", "resnext")
    assert (code, out) == (1, "")
    assert "no model named like 'resnext'; the families are c3d, csn, framepool" in err


def test_info_tells_what_the_record_holds(run_zoo):
    code, out, _ = run_zoo("info", "r2p1d_18.k400")
    assert code == 0
    for fact in ("31.51 M", "40.52", "67.463", "BSD-3-Clause", "91a641e6", "arxiv.org"):
        assert fact in out
    assert "in1k_inflated" not in out  # one tag was asked for
    record = json.loads(run_zoo("info", "r2p1d_18", "--json")[1])
    assert [item["tag"] for item in record["weights"]] == ["k400", "in1k_inflated"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("info", "r2p1d_81"), "Unknown model 'r2p1d_81'. Did you mean 'r2p1d_18'?"),
        (("info", "r2p1d_18.k40"), "Unknown tag 'k40' for 'r2p1d_18'"),
        (("info", "local-dir:x"), "`zoo info` shows registered models"),
        (("predict", "x.mp4", "--model", "no_such"), "Unknown model 'no_such'"),
        (("predict", "x.mp4", "--model", "i9d:resnet"), "Unknown scheme 'i9d:'"),
    ],
)
def test_unknown_names(run_zoo, arguments, sentence):
    code, out, err = run_zoo(*arguments)
    assert (code, out) == (1, "")
    assert err.startswith("zoo: error: ")
    assert err.count("\n") == 1
    assert sentence in err


def test_a_command_line_that_cannot_be_understood_exits_with_2(run_zoo, model_name):
    assert run_zoo("predict")[0] == 2
    assert run_zoo("predict", "")[0] == 2
    assert run_zoo("predict", "https://example.com/a.mp4")[0] == 2
    assert run_zoo("predict", "x.mp4", "--clips", "²", "--model", model_name)[0] == 2
    assert run_zoo("list", "--no-such-option")[0] == 2
    assert run_zoo("predict", "x.mp4", "--clips", "many", "--model", model_name)[0] == 2


def test_predict_prints_labels_best_first(run_zoo, model_name, tmp_path):
    path = write_video(tmp_path / "v.mp4", 20)
    code, out, err = run_zoo("predict", path, "--model", model_name, "--topk", 3)
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0] == str(path)
    shares = [float(line.split()[-1].rstrip("%")) for line in lines[1:]]
    assert len(shares) == 3
    assert shares == sorted(shares, reverse=True)


def test_predict_as_json_equals_the_library(run_zoo, model_name, tmp_path):
    path = write_video(tmp_path / "v.mp4", 20)
    arguments = ("--model", model_name, "--clips", 2, "--crops", 3, "--json")
    found = json.loads(run_zoo("predict", path, *arguments)[1])
    wanted = zoo.predict(zoo.create(model_name), path, num_clips=2, num_crops=3)
    assert [item["index"] for item in found["predictions"]] == [item.index for item in wanted]
    assert found["predictions"][0]["probability"] == pytest.approx(wanted[0].probability, abs=1e-6)
    assert found["video"] == str(path)
    assert found["model"] == model_name


def test_predict_with_weights_from_a_file(run_zoo, model_name, tmp_path):
    path = write_video(tmp_path / "v.mp4", 20)
    model = zoo.create(model_name)
    torch.save(model.state_dict(), tmp_path / "w.pth")
    arguments = ("--model", "test_r2p1d", "--checkpoint", tmp_path / "w.pth", "--json")
    found = json.loads(run_zoo("predict", path, *arguments)[1])
    wanted = zoo.predict(model, path)
    assert [item["index"] for item in found["predictions"]] == [item.index for item in wanted]


def test_a_folder_goes_on_after_a_broken_file(run_zoo, model_name, tmp_path):
    folder = tmp_path / "videos" / "deep"
    folder.mkdir(parents=True)
    write_video(folder / "a.mp4", 12)
    (folder / "b.mp4").write_bytes(b"this is no video")
    write_video(folder / "c.MP4", 12)
    (folder / "notes.txt").write_text("not a video, not tried")
    (folder / "._a.mp4").write_bytes(b"what a Mac leaves beside a file, not tried")
    code, out, err = run_zoo("predict", tmp_path / "videos", "--model", model_name, "--json")
    assert code == 1
    assert [json.loads(line)["video"][-5:] for line in out.splitlines()] == ["a.mp4", "c.MP4"]
    assert err.count("b.mp4") == 2  # its sentence, and the summary
    assert "2 of 3 were done; failed: " in err


def test_an_empty_folder_and_a_missing_file(run_zoo, model_name, tmp_path):
    (tmp_path / "empty").mkdir()
    code, _, err = run_zoo("predict", tmp_path / "empty", "--model", model_name)
    assert code == 1
    assert "holds no video files" in err
    code, _, err = run_zoo("predict", tmp_path / "gone.mp4", "--model", model_name)
    assert code == 1
    assert "gone.mp4" in err


def test_wrong_numbers_end_in_a_sentence(run_zoo, model_name, tmp_path):
    path = write_video(tmp_path / "v.mp4", 12)
    code, out, err = run_zoo("predict", path, "--model", model_name, "--topk", 99)
    assert (code, out) == (1, "")
    assert err == "zoo: error: topk must be between 1 and the 7 classes, not 99.\n"
    for option, value in (("--clips", 0), ("--crops", 2)):
        code, out, err = run_zoo("predict", path, "--model", model_name, option, value)
        assert (code, out) == (2, "")
        assert f"{value}" in err


def test_the_sheet_shows_the_sampled_frames_and_the_bars(run_zoo, model_name, tmp_path):
    path = write_video(tmp_path / "v.mp4", 30)
    sheet = tmp_path / "sheet.png"
    code, _, err = run_zoo("predict", path, "--model", model_name, "--topk", 4, "--sheet", sheet)
    assert (code, err) == (0, "")
    pixels = np.asarray(Image.open(sheet))
    accent = (pixels == np.array(cli_accent())).all(axis=-1)
    marks = accent[60:80].any(axis=0)  # the time line
    starts = int((marks[1:] & ~marks[:-1]).sum())
    assert starts == 8  # a mark for each sampled frame
    found = zoo.predict(zoo.create(model_name), path, topk=4)
    top = pixels.shape[0] - 24 - 4 * 30  # where the first bar starts
    widths = [int(accent[top + 30 * place + 10].sum()) for place in range(4)]
    wanted = [item.probability / found[0].probability for item in found]
    assert [width / widths[0] for width in widths] == pytest.approx(wanted, abs=0.01)


def test_the_sheet_frames_what_the_model_saw(run_zoo, model_name, tmp_path):
    # Five frames of 64 x 48, resized to 42 x 32, of which the model sees columns 5 to 37.
    path = write_video(tmp_path / "v.mp4", 8)
    sheet = tmp_path / "sheet.png"
    run_zoo("predict", path, "--model", model_name, "--sheet", sheet)
    accent = (np.asarray(Image.open(sheet)) == np.array(cli_accent())).all(axis=-1)
    frames = accent[24 + 96 + 10]  # a row of pixels through the frames
    edges = np.flatnonzero(frames[1:] & ~frames[:-1]) + 1
    tile = (1200 - 2 * 24 - 4 * 6) // 5
    assert len(edges) == 10
    assert edges[:2] - 24 == pytest.approx([tile * 5 / 42, tile * 37 / 42], abs=3)


def test_the_sheet_marks_the_frames_of_every_clip(run_zoo, model_name, tmp_path):
    path = write_video(tmp_path / "v.mp4", 90)
    marks = []
    for clips in (1, 3):
        run_zoo(
            "predict", path, "--model", model_name, "--clips", clips, "--sheet", tmp_path / "s.png"
        )
        line = (np.asarray(Image.open(tmp_path / "s.png"))[60:80] == cli_accent()).all(-1).any(0)
        marks.append(int((line[1:] & ~line[:-1]).sum()))
    assert marks[0] == 8
    assert marks[1] > 20


def cli_accent():
    from zoo import sheet

    return sheet._ACCENT


@pytest.mark.parametrize("target", ["no/such/folder/x.png", "x.docx", "x.grib", "."])
def test_a_sheet_that_cannot_be_written_is_refused_before_any_work(
    run_zoo, model_name, tmp_path, target, monkeypatch
):
    path = write_video(tmp_path / "v.mp4", 12)
    monkeypatch.setattr("zoo.prediction.predict", lambda *_, **__: pytest.fail("worked in vain"))
    code, out, err = run_zoo("predict", path, "--model", model_name, "--sheet", tmp_path / target)
    assert (code, out) == (1, "")
    assert err.startswith("zoo: error: ")


def test_a_sheet_of_several_videos_is_refused(run_zoo, model_name, tmp_path):
    paths = [write_video(tmp_path / f"{name}.mp4", 12) for name in "ab"]
    code, _, err = run_zoo("predict", *paths, "--model", model_name, "--sheet", tmp_path / "s.png")
    assert code == 2
    assert "one video" in err


def test_a_warning_is_one_line_on_stderr():
    program = """
        import sys, warnings, zoo.factory
        from zoo import cli
        def warn(*_, **__):
            warnings.warn("take care")
            raise ValueError("two\\nlines")
        zoo.factory.create = warn
        sys.argv = ["zoo", "predict", "x.mp4"]
        cli.main()
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True
    )
    assert done.stderr == "zoo: warning: take care\nzoo: error: two lines\n"
    assert done.returncode == 1


def test_a_bug_is_said_to_be_one_and_shows_no_traceback(run_zoo, monkeypatch):
    monkeypatch.setattr("zoo.factory.create", lambda *_, **__: {}["in_chans"])
    code, out, err = run_zoo("predict", "x.mp4")
    assert (code, out) == (1, "")
    assert err == "zoo: error: this is a bug of videozoo, please report it: KeyError: 'in_chans'\n"


@pytest.mark.parametrize("missing", ["onnx", "onnxscript"])
def test_a_package_that_is_not_installed_is_no_bug(
    run_zoo, model_name, monkeypatch, tmp_path, missing
):
    monkeypatch.setattr("zoo.onnx.find_spec", lambda name: None if name == missing else object())
    code, out, err = run_zoo("export", model_name, "--to", "onnx", "--out", tmp_path / "x.onnx")
    assert (code, out) == (1, "")
    assert err == (
        "zoo: error: Writing ONNX needs the packages onnx and onnxscript; install them with "
        "pip install 'videozoo[onnx]'.\n"
    )


@pytest.mark.slow
def test_ctrl_c_keeps_what_was_done_and_says_so(model_name, tmp_path):
    # So many that a busy machine cannot be done with them before the signal comes.
    first = write_video(tmp_path / "000.mp4", 60)
    for index in range(1, 900):
        (tmp_path / f"{index:03}.mp4").hardlink_to(first)
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "zoo.cli", "predict", str(tmp_path)),
            *("--model", model_name, "--clips", "all", "--json"),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    )
    first = process.stdout.readline()
    time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    done = 1 + len(out.splitlines())
    assert process.returncode == 130
    assert json.loads(first)["video"].endswith("000.mp4")
    assert f"interrupted: {done} of 900 videos were done" in err
    assert "Traceback" not in err
