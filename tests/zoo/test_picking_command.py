"""The picker's command and its picture."""

import dataclasses
import json
import math
from functools import partial

import pytest
from fresh_python import fresh_python
from PIL import Image

import zoo
from zoo.picking import RULES, Wishes, pick, rules_table
from zoo.picking.plot import FITS, MARK, PALE, draw_answer


def ask(**wishes):
    """An answer as on a machine where nothing was measured."""
    return pick(latencies={}, **wishes)


@pytest.fixture
def run(run_zoo, cache):
    """Run `zoo pick ARGUMENTS` in this process: exit code, stdout, stderr."""
    return partial(run_zoo, "pick")


# ---- the command ----


def test_the_command_answers(run):
    code, out, err = run(
        *("--motion", "high", "--videos", 5000, "--train-gpu-hours", 20, "--gflops", 60),
        *("--latency-ms", 200, "--device", "cpu", "--licence", "permissive"),
    )
    assert (code, err) == (0, "")
    assert "1. tsm_r50.ssv2 (2d_shift)" in out
    assert "62.72 top-1 on something_something_v2 validation, 2x3 views, by mmaction2" in out
    assert "latency not measured: run zoo bench tsm_r50.ssv2" in out
    assert "(an estimate)" in out
    assert "Trade-off: tsm_r50.ssv2 against slow_r50.ssv2" in out


def test_the_command_shows_the_rules(run):
    assert run("--rules") == (0, rules_table(), "")
    shown = json.loads(run("--rules", "--json")[1])
    assert [item["rule"] for item in shown] == [rule.key for rule in RULES]


SCHEMA = {
    "name": str,
    "approach": str,
    "attention": str,
    "way": str,
    "score": float,
    "accuracy": (dict, type(None)),
    "params": int,
    "gflops_view": float,
    "windows": int,
    "gflops_answer": float,
    "latency_ms": (float, type(None)),
    "train_hours_estimate": (float, type(None)),
    "num_frames": int,
    "licence": str,
    "data": str,
    "reasons": list,
}


def check_plan(plan, **more):
    assert set(plan) == set(SCHEMA) | set(more)
    for key, kind in (SCHEMA | more).items():
        assert isinstance(plan[key], kind), key
    assert all(set(reason) == {"rule", "points", "reason"} for reason in plan["reasons"])
    assert plan["score"] == pytest.approx(sum(item["points"] for item in plan["reasons"]), abs=0.01)


def test_the_command_writes_json(run):
    code, out, _ = run("--motion", "high", "--gflops", 60, "--json", "--top", 3)
    record = json.loads(out)
    assert code == 0
    assert set(record) == {
        *("wishes", "yardstick", "considered", "fitting", "recommendations", "trade_off"),
        "ways_out",
    }
    assert record["wishes"] == dataclasses.asdict(Wishes(motion="high", gflops=60.0))
    assert len(record["recommendations"]) == 3
    for plan in record["recommendations"]:
        check_plan(plan, other_weights=list)
    code, out, _ = run("--motion", "high", "--gflops", 1, "--approach", "transformer", "--json")
    record = json.loads(out)
    assert (code, record["recommendations"], record["trade_off"]) == (1, [], None)
    for way in record["ways_out"]:
        assert set(way) == {"change", "buys"}
        assert all(set(change) == {"wish", "given", "needed"} for change in way["change"])
        check_plan(way["buys"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--motion", "hihg"), "motion is one of none, low, medium, high, not 'hihg'. Did you"),
        (("--licence", "mit"), "licence is one of any, permissive, not 'mit'."),
        (("--approach", "rnn"), "approach is one of 2d_pool, 2d_shift, 3d, 2plus1d, transformer"),
        (("--device", "tpu"), "device is one of cpu, cuda, not 'tpu'."),
        (("--gflops", "nan"), "gflops is a number above 0, not nan."),
        (("--gflops", "-3"), "gflops is a number above 0, not -3.0."),
        (("--latency-ms", "0"), "latency_ms is a number above 0, not 0.0."),
        (("--clip-seconds", "inf"), "clip_seconds is a number above 0, not inf."),
        (("--videos", "-1"), "videos is a whole number of 0 or more, not -1."),
        (("--num-frames", "0"), "num_frames is a whole number of 1 or more, not 0."),
        (("--train-gpu-hours", "3"), "train_gpu_hours needs videos"),
        (("--from-scratch",), "from_scratch needs videos"),
        (("--labels", "kinetics", "--videos", "9"), "labels='kinetics' takes a model as it is"),
        (("--top", "0"), "top is a whole number of 1 or more, not 0."),
        (("--plot", "none/x.png"), "give a file name in a folder that exists"),
        (("--motion", "none", "--plot", "x.png"), "no figures count, and there is nothing to"),
    ],
)
def test_nonsense_is_one_sentence(run, arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, err = run(*arguments)
    assert (code, out) == (1, "")
    assert err.count("\n") == 1
    assert message in err


def test_a_wish_that_does_not_exist():
    with pytest.raises(ValueError, match="Unknown wish 'colour'. Known: motion, labels"):
        zoo.pick(colour="red")


def test_the_plain_answer_imports_no_torch(tmp_path):
    code = (
        "import sys; from zoo import cli; sys.argv = ['zoo', 'pick', '--motion', 'high']\n"
        "try: cli.main()\n"
        "except SystemExit as done: assert not done.code\n"
        "assert not {'torch', 'numpy', 'PIL', 'timm'} & set(sys.modules)"
    )
    done = fresh_python("-c", code, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("Wishes: motion high.")


# ---- the picture ----


def opened(path):
    with Image.open(path) as picture:
        return picture.convert("RGB")


def near(pixel, colour):
    """Whether a pixel has a colour, to within what making the picture smaller changes."""
    return max(abs(one - other) for one, other in zip(pixel, colour, strict=True)) <= 3


def pixels(picture, colour):
    """Numbers of pixels of a colour, in the left part and beside it."""
    data = picture.load()
    places = [
        (x, y)
        for x in range(picture.width)
        for y in range(picture.height)
        if near(data[x, y], colour)
    ]
    return sum(x < 770 for x, _ in places), sum(x >= 770 for x, _ in places)


def test_the_plot_marks_the_candidates(tmp_path):
    answer = ask(motion="medium", gflops=60.0, approach="3d")
    draw_answer(answer, tmp_path / "plot.png")
    picture = opened(tmp_path / "plot.png")
    assert picture.size == (1200, 640)
    for colour in (PALE, FITS, MARK):
        inside, beside = pixels(picture, colour)
        assert inside > 30, colour
        assert beside > 5, colour
    # Five marks stand in the key, and each candidate with a figure has one inside.
    shown = sum(plan.figure is not None for plan in answer.best)
    assert shown == 5
    narrow = ask(motion="medium", gflops=1.0, approach="3d")
    draw_answer(narrow, tmp_path / "narrow.png")
    assert pixels(opened(tmp_path / "narrow.png"), MARK)[0] < pixels(picture, MARK)[0]


def test_the_plot_puts_points_where_they_belong(tmp_path):
    answer = ask(motion="high", gflops=60.0, licence="permissive")
    draw_answer(answer, tmp_path / "plot.png")
    picture = opened(tmp_path / "plot.png")
    # The axes reach from 10 to 100000 GFLOPs and from 55 to 80 percent.
    left, right, top, bottom = 80, 1200 - 430, 84, 640 - 70
    x = left + (math.log10(42.707) - 1) / 4 * (right - left)
    y = top + (80 - 62.72) / 25 * (bottom - top)
    assert near(picture.getpixel((round(x) - 8, round(y))), MARK)
    assert near(picture.getpixel((round(x) + 8, round(y))), MARK)
    assert not near(picture.getpixel((round(x) + 14, round(y))), MARK)


def test_the_command_draws(run, tmp_path):
    code, out, err = run("--motion", "high", "--plot", tmp_path / "plot.png")
    assert code == 0
    assert "shows accuracy against GFLOPs" in err
    assert out.startswith("Wishes: motion high.")
    assert opened(tmp_path / "plot.png").size == (1200, 640)
