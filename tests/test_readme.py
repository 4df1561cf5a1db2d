"""The README's length, its programs, and the figures that it promises; the blocks themselves run
in `test_documents.py`."""

import re
import subprocess
import sys

import pytest
from documents import ROOT, blocks_of

import zoo

README = ROOT / "README.md"
TEXT = README.read_text(encoding="utf-8")
PROGRAMS = {path.read_text(encoding="utf-8"): path for path in ROOT.glob("examples/*.py")}


def test_the_readme_fits_its_limit():
    assert len(TEXT.splitlines()) <= 200
    assert TEXT.index("make demo") < TEXT.index("make test") < TEXT.index("## ")


def test_every_program_in_the_readme_is_an_example():
    blocks = [block.text for block in blocks_of(README) if block.language == "python"]
    assert len(blocks) >= 3
    assert [block for block in blocks if block not in PROGRAMS] == []


def test_the_probability_that_the_readme_promises_is_found():
    promised = re.search(r"`([a-z-]+)` with a probability of (0\.\d+)", TEXT)
    model = zoo.create("r2p1d_nano", pretrained=True)
    (best,) = zoo.predict(model, ROOT / "examples/clips/coffee-left-to-right.mp4", topk=1)
    assert (best.label, f"{best.probability:.2f}") == promised.groups()


@pytest.mark.slow
def test_the_program_that_trains_learns(tmp_path):
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    done = subprocess.run(
        [sys.executable, ROOT / "examples" / "finetune.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "[Prediction(label='left'" in done.stdout
