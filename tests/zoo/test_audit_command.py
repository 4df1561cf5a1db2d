"""`zoo audit` on the command line."""

import json
import sys

import pytest
from PIL import Image

from zoo import cli

LOADER = """
def spread(total, num_frames):
    return [int(i * total / num_frames) for i in range(num_frames)]

def seeded(total, num_frames, *, seed):
    return spread(total, num_frames)

def over(total, num_frames):
    return [1 + int(i * total / num_frames) for i in range(num_frames)]

def moments(duration, num_frames):
    return [i * duration / num_frames for i in range(num_frames)]

def clip(path):
    raise OSError(f"no {path}")

one = 1
"""


@pytest.fixture
def audit(monkeypatch, capsys, tmp_path):
    """Run `zoo audit my_loader.py:NAME ...` in this process: exit code, stdout, stderr."""
    (tmp_path / "my_loader.py").write_text(LOADER)
    monkeypatch.chdir(tmp_path)

    def call(name, *arguments):
        monkeypatch.setattr(sys, "argv", ["zoo", "audit", f"my_loader.py:{name}", *arguments])
        capsys.readouterr()
        with pytest.raises(SystemExit) as exit_:
            cli.main()
        return exit_.value.code, *capsys.readouterr()

    return call


def test_the_report_and_the_exit_code(audit, tmp_path):
    code, out, err = audit("spread", "--sheet", "frames.png")
    assert (code, err) == (0, "")
    assert "note: left_aligned" in out
    with Image.open(tmp_path / "frames.png") as picture:
        assert picture.width > 400
    assert audit("seeded")[0] == 0
    code, out, _ = audit("over", "--json")
    assert code == 1
    assert "out_of_range" in {finding["rule"] for finding in json.loads(out)["findings"]}
    assert audit("moments", "--convention", "seconds")[0] == 0


def test_a_pipeline_is_not_told_of_weights_that_it_does_not_need(audit):
    code, out, err = audit("clip", "--model", "r2p1d_nano.motion")
    assert (code, err) == (1, "")
    assert "error: pipeline_crash: OSError: no " in out


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["clip"], "'my_loader.py:clip' takes (path); a sampler takes the frames of a video and T"),
        (["spread", "--evaluation", "my_loader.py:clip"], "'my_loader.py:clip' takes (path); a"),
        (
            ["spread", "--model", "r2p1d_nano.motion"],
            "takes (total, num_frames); a pipeline takes the path of a video; for a sampler, leave",
        ),
        (["one"], "'my_loader.py:one' is of the type int, and cannot be called."),
        (["spred"], "has no 'spred'. Did you mean 'spread'?"),
        (["spread", "--convention", "second"], "Unknown convention 'second'. Known: indices, "),
    ],
)
def test_what_is_no_sampler_is_one_sentence(audit, arguments, sentence):
    code, out, err = audit(*arguments)
    assert (code, out) == (1, "")
    assert sentence in err
    assert len(err.splitlines()) == 1
