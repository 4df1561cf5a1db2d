"""The README says nothing that does not run."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

import zoo

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
PROGRAMS = {path.read_text(encoding="utf-8"): path for path in ROOT.glob("examples/*.py")}


def test_the_readme_fits_its_limit():
    assert len(TEXT.splitlines()) <= 200
    assert TEXT.index("make demo") < TEXT.index("make test") < TEXT.index("## ")


def _program(block):
    """A program of the README, or one it links to; the one that trains is slow."""
    name = PROGRAMS.get(block, Path("?")).stem
    return pytest.param(block, id=name, marks=[pytest.mark.slow] if name == "finetune" else [])


FINETUNE = (ROOT / "examples" / "finetune.py").read_text(encoding="utf-8")


@pytest.mark.parametrize("block", [_program(block) for block in [*BLOCKS, FINETUNE]])
def test_every_program_in_the_readme_is_an_example_that_runs(block, tmp_path):
    path = PROGRAMS[block]
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    done = subprocess.run(
        [sys.executable, str(path)], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    if path.stem != "from_torchvision":
        assert done.stdout
    if path.stem == "predict":
        assert "label='left-to-right'" in done.stdout
        promised = float(re.search(r"with a probability of (0\.\d+)", TEXT).group(1))
        probability = float(re.search(r"probability=([\d.]+)", done.stdout).group(1))
        assert round(probability, 2) == promised
    if path.stem == "finetune":
        assert "[Prediction(label='left'" in done.stdout
    # The shapes that the comments promise are those printed.
    for shape in re.findall(r"print\(.*# .*?(\(\d+(?:, \d+)+\))", block):
        assert f"torch.Size([{shape[1:-1]}])" in done.stdout, shape


def test_every_model_named_in_the_readme_exists():
    named = set(re.findall(r"[\"` ]((?:r2p1d|r3d|mc3|i3d|framepool|timesformer)_\w+)", TEXT))
    assert named - {"r3d_10"} <= set(zoo.list_models())
    assert len(named) > 3


COMMANDS = sorted(set(re.findall(r"^zoo (\w+)", TEXT, re.MULTILINE)) - {"experiment"})


def test_every_command_line_option_named_in_the_readme_exists():
    options = set(re.findall(r"--[a-z]+", TEXT))
    helps = "".join(
        subprocess.run(
            [sys.executable, "-m", "zoo.cli", command, "--help"],
            capture_output=True,
            text=True,
            check=True,
            env={"COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"},
        ).stdout
        for command in COMMANDS
    )
    # torchrun's own, and this file's.
    options -= {"--nproc"}
    assert options <= set(re.findall(r"--[a-z]+", helps))
    assert len(COMMANDS) > 8
    assert options
