"""Every code block of every page runs, in order, in a folder with a few small videos.

Python blocks of a page share one namespace. Shell blocks are run command by command through the
real command line, against a Hub on the loopback address.
"""

import contextlib
import io
import re
import shutil
import sys
import warnings
from pathlib import Path

import pytest
import torch
from documents import PAGES, ROOT, blocks_of, commands
from fresh_python import fresh_python
from hub_repository import Token
from hub_server import WRITER, hub_serving

import converters
import registry
import zoo
from registry import catalogue
from zoo import cli

NO_RUN = {
    "docs/experiments.md": "trains for hours, and times for minutes",
    "docs/training.md": "needs two machines",
}
"""Pages with a block that truly cannot run here, and why; each has one."""

SLOW = {
    "docs/conversion.md",
    "README.md",
    "docs/training.md",
    "docs/start.md",
    "docs/evaluation.md",
}
"""Pages that train, start several processes, or build larger models."""

SMALLER = (
    # Real weights come over the network, and take minutes of one core.
    ("r2p1d_18.k400 --data k400:data/kinetics400", "r2p1d_nano --data folder:clips"),
    ("r2p1d_18.k400 --data k400:/data/kinetics400", "r2p1d_nano --data folder:clips"),
    ("r2p1d_18.k400", "r2p1d_nano.motion"),
    ("zoo export r2p1d_18 ", "zoo export mc3_18 --checkpoint file.pth "),
    ("videomae_pretrain_b", "test_videomae_pretrain"),
    ("zoo train videomae_b", "zoo train test_videomae"),
    ("--lr 3e-4", "--lr 3e-4 --cpu"),
    ("--lr 6e-4", "--lr 6e-4 --cpu"),
    ("--epochs 20", "--epochs 1"),
    ("--epochs 800", "--epochs 1"),
    ("--out runs/first", "--out runs/first --epochs 1"),  # a page's own --epochs comes later
    ("--out runs/masked", "--out runs/masked --epochs 1"),
    ("--workers 8", "--workers 1"),
    ("--workers 6", "--workers 1"),
    ("--nproc-per-node 8", "--nproc-per-node 2"),
    ("--num_processes 8", "--num_processes 1 --num_machines 1 --mixed_precision no --cpu"),
    ("-m zoo train ...", "-m zoo train r2p1d_nano --data folder:clips --out runs/many --epochs 1"),
    ("zoo publish --org", "zoo publish '*_nano' --org"),
    ('zoo publish "timesformer_*" --org', "zoo publish 'framepool_n*' --org"),
    ('mirror hub "r2p1d_*"', "mirror hub r2p1d_nano"),
    ("zoo experiment motion  ", "zoo experiment motion --help"),
    # The other peers are no part of a plain installation.
    ("zoo bench r2p1d_18 s3d --against", "zoo bench mc3_18 --rounds 1 --against"),
    ("zoo bench r2p1d_18 --against torchvision", "zoo bench test_r2p1d --rounds 1"),
    ("zoo bench 'x3d_*' --against pytorchvideo", "zoo bench test_x3d --rounds 1"),
    ("zoo bench videomae_b --against transformers", "zoo bench test_videomae --rounds 1"),
    ("zoo bench i3d:resnet50", "zoo bench i3d:test_resnet --rounds 1"),
    # Counting takes as long as a model has layers.
    ("zoo flops tsm:resnet50", "zoo flops tsm:test_resnet"),
    ("zoo flops timesformer_divided", "zoo flops test_timesformer_divided"),
)
"""What would take minutes or the network, and what is run in its place."""


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with what the pages suppose at hand, and a Hub that knows their user."""
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    for clip in sorted((ROOT / "examples" / "clips").glob("*.mp4")):
        motion = clip.stem.partition("-")[2]
        for folder in (f"clips/train/{motion}", f"clips/val/{motion}", "videos", "folder"):
            (tmp_path / folder).mkdir(parents=True, exist_ok=True)
            shutil.copy(clip, tmp_path / folder)
    shutil.copy(clip, tmp_path / "video.mp4")
    _write_kinetics(tmp_path / "data" / "kinetics400", clip)
    for name in ("loader.py", "my_loader.py"):
        (tmp_path / name).write_text(LOADER)
    with hub_serving(tmp_path) as hub:
        hub.storage.tokens[WRITER] = Token("me", ("me", "my-team"))
        hub.point_client(monkeypatch, tmp_path / "home", token=WRITER)
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        monkeypatch.setenv("GLOO_SOCKET_IFNAME", "lo")
        monkeypatch.setenv("PYTHONPATH", str(ROOT))
        monkeypatch.chdir(tmp_path)
        yield tmp_path
    # What a page registers is forgotten after it; the zoo's own modules stay imported.
    for name, entry in list(catalogue._registered.items()):
        if entry.architecture.module == "page":
            del catalogue._registered[name]


LOADER = """
import random

import zoo

model = zoo.create("r2p1d_nano", pretrained=True)


def sample_frames(total, num_frames):
    return [min(i * total // num_frames, total - 1) for i in range(num_frames)]


def sample_train(total, num_frames):
    start = random.randint(0, max(total - num_frames, 0))
    return [min(start + i, total - 1) for i in range(num_frames)]


def load(path):
    return zoo.load_clip(path, model)[0]
"""


def _page(path):
    name = path.relative_to(ROOT).as_posix()
    return pytest.param(path, id=name, marks=[pytest.mark.slow] if name in SLOW else [])


@pytest.mark.parametrize("page", [_page(path) for path in PAGES])
def test_every_block_runs(page, place, monkeypatch):
    namespace = {"__name__": "page"}
    if "file.pth" in _smaller(page.read_text(encoding="utf-8")):
        _write_weights(place / "file.pth")
    for block in blocks_of(page):
        if not block.runs or block.language == "text":
            continue
        try:
            if block.language == "python":
                _run_python(block, namespace)
            else:
                for command in commands(_smaller(block.text)):
                    _run_command(command, monkeypatch)
        except BaseException as error:
            raise AssertionError(f"{block.where} does not run: {error!r}") from error


def test_the_programs_of_the_readme_run(place):
    # Its commands take longer, and run with those of the other slow pages.
    namespace = {"__name__": "page"}
    for block in blocks_of(ROOT / "README.md"):
        if block.language == "python":
            _run_python(block, namespace)


def _smaller(text):
    for found, instead in SMALLER:
        text = text.replace(found, instead)
    return text


def _write_weights(path):
    """A file in torchvision's layout, of the smallest model that has one."""
    torch.manual_seed(0)
    torch.save(converters.export(zoo.create("mc3_18"), target="torchvision"), path)


def _write_kinetics(folder, clip):
    """Two videos as the ActivityNet crawler writes them."""
    lines = ["label,youtube_id,time_start,time_end,split"]
    for number, label in enumerate(registry.labels("kinetics400")[:2]):
        lines.append(f"{label},{number:011d},0,2,val")
        name = f"{number:011d}_000000_000002.mp4"
        (folder / "val").mkdir(parents=True, exist_ok=True)
        shutil.copy(clip, folder / "val" / name)
    (folder / "annotations").mkdir()
    (folder / "annotations" / "val.csv").write_text("\n".join(lines) + "\n")


def _run_python(block, namespace):
    """Run a block; the shapes that comments promise are those that are printed."""
    code = compile("\n" * (block.line - 1) + _smaller(block.text), str(block.page), "exec")
    printed = io.StringIO()
    with warnings.catch_warnings(), contextlib.redirect_stdout(printed):
        warnings.simplefilter("ignore", UserWarning)  # a new classifier, for one
        exec(code, namespace)
    said = re.sub(r"torch\.Size\(\[([\d, ]+)\]\)", r"(\1)", printed.getvalue())
    for shape in re.findall(r"^print\(.*#.*?(\(\d+(?:, \d+)+\))", block.text, re.MULTILINE):
        assert shape in said, f"{shape} is not what is printed"
    for line in re.findall(r"^print\(.*\)  # (\S+|\[.*\]|\([^()]*\))$", block.text, re.MULTILINE):
        assert line in said.splitlines(), f"{line} is not what is printed"


def _run_command(command, monkeypatch):
    program, *words = Path(command.words[0]).name, *command.words[1:]
    for name, value in command.settings.items():
        monkeypatch.setenv(name, value)
    if program == "zoo":
        code, said = _zoo(words, monkeypatch)
    elif words[:2] == ["-m", "pytest"]:  # the tests are run anyway
        missing = [word for word in words if word.endswith(".py") and not (ROOT / word).is_file()]
        code, said = len(missing), f"there is no {missing}"
    elif program in ("python", "torchrun", "accelerate"):
        start = {
            "python": [],
            "torchrun": ["-m", "torch.distributed.run", "--standalone"],
            "accelerate": ["-m", "accelerate.commands.accelerate_cli"],
        }[program]
        done = fresh_python(*start, *words, cwd=".")
        code, said = done.returncode, done.stderr
    else:
        code, said = _set_up(program, words)
    for name in command.settings:
        monkeypatch.delenv(name)
    assert code == 0, f"`{' '.join(command.words)}` ends with {code}: {said}"


def _zoo(words, monkeypatch):
    """Run `zoo WORDS` in this process: exit code, what it said."""
    monkeypatch.setattr(sys, "argv", ["zoo", *words])
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)  # `main` sets its own
    said = io.StringIO()
    with (
        warnings.catch_warnings(),
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(said),
        pytest.raises(SystemExit) as exit_,
    ):
        warnings.simplefilter("ignore", UserWarning)
        cli.main()
    return exit_.value.code, said.getvalue()


def _set_up(program, words):
    """What changes a machine is not run: that it names what exists is all that is checked."""
    if program == "make":
        known = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
        return int(not set(words) <= set(known)), f"the Makefile has {known}"
    if program == "pip":
        project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
        extras = project.partition("[project.optional-dependencies]\n")[2].partition("\n[")[0]
        known = set(re.findall(r"^(\w+) = ", extras, re.MULTILINE))
        named = {extra for word in words for extra in re.findall(r"\[(.*)\]", word)}
        return int(not {e for one in named for e in one.split(",")} <= known), f"extras: {known}"
    if program == "git":
        return 0, ""
    return 1, f"nobody knows how to run {program!r} in a test"


@pytest.mark.slow
def test_the_family_that_contributors_copy_keeps_the_contract(tmp_path):
    blocks = [block.text for block in blocks_of(ROOT / "CONTRIBUTING.md")]
    (family,) = [text for text in blocks if "class Tiny3D" in text]
    (tmp_path / "tiny3d.py").write_text(family)
    contract = ROOT / "tests" / "zoo" / "test_contract.py"
    pytest_ = ("-m", "pytest", "-q", "-p", "no:cacheprovider", f"--rootdir={ROOT}")
    # The record's size is counted when the index is written, which takes a minute.
    chosen = ("-p", "tiny3d", "-k", "tiny3d and not record_agrees", str(contract))
    chosen += ("-c", str(ROOT / "pyproject.toml"))
    done = fresh_python(*pytest_, *chosen, cwd=tmp_path, paths=[tmp_path])
    assert done.returncode == 0, done.stdout
    assert int(re.search(r"(\d+) passed", done.stdout).group(1)) > 20


def test_what_is_not_run_is_listed_with_its_reason():
    marked = [
        block.page.relative_to(ROOT).as_posix()
        for page in PAGES
        for block in blocks_of(page)
        if not block.runs
    ]
    assert sorted(marked) == sorted(NO_RUN)
    assert len(NO_RUN) < 5


def test_nothing_is_made_smaller_that_no_page_says():
    said = "".join(
        block.text for page in PAGES for block in blocks_of(page) if block.language == "bash"
    )
    assert [found for found, _ in SMALLER if found not in said] == []


def test_the_blocks_are_found():
    # What is above holds trivially for blocks that are not found.
    blocks = [block for page in PAGES for block in blocks_of(page)]
    assert sum(block.language == "python" for block in blocks) > 20
    assert sum(len(commands(block.text)) for block in blocks if block.language == "bash") > 60


def test_a_page_that_is_wrong_is_found(place, monkeypatch, tmp_path):
    for text, error in (
        ("```python\nimport zoo\nzoo.creat('r2p1d_18')\n```\n", "has no attribute 'creat'"),
        ("```python\nprint('(1, 2)')  # (3, 2)\n```\n", r"\(3, 2\) is not what is printed"),
        ("```bash\nzoo info r2p1d_19\n```\n", "ends with 1: .*Unknown model 'r2p1d_19'"),
        ("```\nzoo list --pretraind\n```\n", "ends with 2"),
        ("```bash\nmake tset\n```\n", "the Makefile has"),
        ("```bash\nfrobnicate\n```\n", "nobody knows how to run"),
    ):
        page = ROOT / "docs" / "none.md"
        monkeypatch.setattr(type(page), "read_text", lambda *_, text=text, **__: text)
        with pytest.raises(AssertionError, match=error):
            test_every_block_runs(page, place, monkeypatch)
