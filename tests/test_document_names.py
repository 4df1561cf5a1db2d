"""The documents name only what exists: models, weights, commands, options, Python names, files."""

import importlib
import re

import pytest
import typer
from documents import PAGES, ROOT, blocks_of, commands, links_of, spans_of
from fresh_python import fresh_python

import registry
from zoo import cli

DOCUMENTS = (*PAGES, ROOT / "CHANGELOG.md")
MODELS = {*registry.list_models(), *registry.index.read_index()}
FAMILIES = {name.partition("_")[0] for name in registry.list_models()}
# What is no model, though it begins like one.
OTHERS = {
    "docs/elsewhere.md": {
        "mvit_base_16x4",  # pytorchvideo's spelling
        "r2plus1d_18",  # torchvision's
    },
}
THEIR_OPTIONS = {
    *("--nproc-per-node", "--nnodes", "--rdzv-backend", "--rdzv-endpoint", "--num_processes"),
    *("--write-deviations", "--check", "--cfg", "--rounds"),
}
"""Options of torchrun, accelerate, pytest, SlowFast and scripts of this repository."""

PROGRAM = typer.main.get_command(cli.app)
FOLDERS = ("registry", "converters", "zoo", "MODEL_CARDS", "outputs", "examples", "benchmarks")
FOLDERS += ("tests", "docs")


def ids(page):
    return page.relative_to(ROOT).as_posix()


def texts_of(page):
    """What a page says in code: its spans, and the lines of its blocks."""
    fenced = blocks_of(page) if page in PAGES else []
    return [*spans_of(page), *(line for block in fenced for line in block.text.splitlines())]


def defined_in(page):
    """The builders that a page's own blocks define."""
    blocks = blocks_of(page) if page in PAGES else []
    return {
        name for block in blocks for name in re.findall(r"^def (\w+)", block.text, re.MULTILINE)
    }


def unknown_models(page):
    text = "\n".join(texts_of(page))
    allowed = OTHERS.get(ids(page), set()) | defined_in(page)
    # Not within a path, a Python name or a longer word.
    pattern = (
        rf"(?<![\w./-])((?:{'|'.join(sorted(FAMILIES))})(?:_\w+)?)(\.[a-z]\w*)?(?![\w/(*-]|\.\w)"
    )
    wrong = []
    for name, tag in re.findall(pattern, text):
        whole = name + tag
        if tag in (".py", ".md", ".svg", ".png") or name in allowed:
            continue
        if not tag and ("_" not in name or name in MODELS):
            continue
        if whole not in registry.list_pretrained() and not (name in MODELS and not tag):
            wrong.append(whole)
    for prefix, star in re.findall(rf"((?:{'|'.join(sorted(FAMILIES))})\w*)(\*)", text):
        if not registry.list_models(prefix + star):
            wrong.append(prefix + star)
    return wrong


@pytest.mark.parametrize("page", DOCUMENTS, ids=ids)
def test_every_model_exists(page):
    assert unknown_models(page) == []


def find_command(words):
    """The command of `zoo WORDS` and how many words name it; None where there is none."""
    found = PROGRAM
    for count, word in enumerate(words):
        if not hasattr(found, "commands"):
            return found, count
        if word.startswith("-"):
            return found, count
        if word not in found.commands:
            return None, count
        found = found.commands[word]
    return found, len(words)


def options_of(command):
    return {name for option in command.params for name in (*option.opts, *option.secondary_opts)}


def all_options(command=PROGRAM):
    inner = command.commands.values() if hasattr(command, "commands") else ()
    return options_of(command).union(*map(all_options, inner))


def wrong_in(words):
    """What is wrong with `zoo WORDS`."""
    # A page may name several commands at once: `zoo cache list|size|rm`.
    words = [word for word in words if "|" not in word]
    command, count = find_command(words)
    if command is None:
        return [f"zoo {' '.join(words[: count + 1])}"]
    known = options_of(command) | {"--help"}
    given = [word.partition("=")[0] for word in words[count:] if word.startswith("--")]
    return [f"zoo {' '.join(words[:count])} {option}" for option in given if option not in known]


def wrong_commands(page):
    wrong = []
    for span in spans_of(page):
        if span.startswith("zoo ") and not span.startswith("zoo ..."):
            wrong += wrong_in([word.strip("[]().,") for word in span.split()[1:]])
    for block in blocks_of(page) if page in PAGES else []:
        for command in commands(block.text) if block.language == "bash" else []:
            words = list(command.words)
            if "zoo" in words and words[0] in ("zoo", "torchrun", "accelerate"):
                wrong += wrong_in([w for w in words[words.index("zoo") + 1 :] if w != "..."])
    known = all_options() | {"--help"} | THEIR_OPTIONS
    named = {name for text in texts_of(page) for name in re.findall(r"(?<!\S)--[a-z][\w-]*", text)}
    return [*wrong, *sorted(named - known)]


@pytest.mark.parametrize("page", DOCUMENTS, ids=ids)
def test_every_command_and_option_exists(page):
    assert wrong_commands(page) == []


def exists(dotted):
    """Whether a dotted name of ours, such as `zoo.evaluation.embed`, can be looked up."""
    parts = dotted.split(".")
    for count in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:count]))
        except ModuleNotFoundError:
            continue
        for part in parts[count:]:
            if not hasattr(found, part):
                return False
            found = getattr(found, part)
        return True
    return False


def unknown_names(page):
    pattern = r"(?<![\w./-])((?:zoo|converters|registry)(?:\.[A-Za-z_]\w*)+)"
    named = {name for text in texts_of(page) for name in re.findall(pattern, text)}
    files = {name for name in named if name.endswith((".py", ".md", ".json"))}
    return sorted(name for name in named - files if not exists(name))


@pytest.mark.parametrize("page", DOCUMENTS, ids=ids)
def test_every_python_name_exists(page):
    assert unknown_names(page) == []


def unknown_files(page):
    """Paths into the repository, and links, that lead nowhere."""
    wrong = []
    pattern = rf"(?<![\w./-])((?:{'|'.join(FOLDERS)})/[\w./*-]*)(?:::(\w+))?"
    for span in spans_of(page):
        for path, test in re.findall(pattern, span):
            found = list(ROOT.glob(path.rstrip("/")))
            # NAME in `registry/labels/NAME.txt` stands for any name.
            found = found or list(ROOT.glob(re.sub(r"[A-Z]{2,}", "*", path)))
            if not found and path.rpartition("/")[2].partition(".")[0] not in defined_in(page):
                wrong.append(path)
            elif test and f"def {test}(" not in found[0].read_text(encoding="utf-8"):
                wrong.append(f"{path}::{test}")
    for link in links_of(page):
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        if not target.exists() or (anchor and anchor not in anchors_of(target)):
            wrong.append(link)
    return wrong


def anchors_of(page):
    """The anchors that GitHub gives the headlines of a page."""
    titles = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", DOCUMENTS, ids=ids)
def test_every_file_and_link_exists(page):
    assert unknown_files(page) == []


def test_every_page_is_in_the_index():
    index = (ROOT / "docs" / "README.md").read_text(encoding="utf-8")
    pages = {path.name for path in ROOT.glob("docs/*.md")} - {"README.md"}
    assert {name for name in pages if f"]({name})" not in index} == set()


@pytest.mark.parametrize(
    ("text", "find", "wrong"),
    [
        ("`r2p1d_19` and `x3d_m`", unknown_models, ["r2p1d_19"]),
        ("`r2p1d_18.k401`, `r2p1d_18.k400`", unknown_models, ["r2p1d_18.k401"]),
        ('`zoo list "x3d_q*"`', unknown_models, ["x3d_q*"]),
        ("`zoo lst --json`", wrong_commands, ["zoo lst"]),
        ("`zoo info NAME --family`", wrong_commands, ["zoo info --family"]),
        ("`zoo cache list|size|rm` and `zoo cache lst`", wrong_commands, ["zoo cache lst"]),
        ("take `--epoch 3`", wrong_commands, ["--epoch"]),
        ("`zoo.creat(...)`, `zoo.evaluation.embed`", unknown_names, ["zoo.creat"]),
        ("`converters.layouts.convrt`", unknown_names, ["converters.layouts.convrt"]),
        ("`zoo/modles/x3d.py`, `zoo/models/x3d.py`", unknown_files, ["zoo/modles/x3d.py"]),
        ("`tests/test_readme.py::test_none`", unknown_files, ["tests/test_readme.py::test_none"]),
        (
            "[a](none.md) [b](docs/hub.md#nothing)",
            unknown_files,
            ["none.md", "docs/hub.md#nothing"],
        ),
    ],
)
def test_what_does_not_exist_is_found(monkeypatch, text, find, wrong):
    page = ROOT / "README.md"
    read = type(page).read_text
    monkeypatch.setattr(
        type(page), "read_text", lambda self, **k: text if self == page else read(self, **k)
    )
    assert find(page) == wrong


THEIRS = ("torchvision", "pytorchvideo", "transformers", "timm")


@pytest.mark.peer
def test_the_calls_of_other_libraries_exist_where_they_are_installed(tmp_path):
    page = ROOT / "docs" / "elsewhere.md"
    pattern = rf"(?<![\w./-])((?:{'|'.join(THEIRS)})(?:\.[A-Za-z_]\w*)+)"
    named = sorted({name for span in spans_of(page) for name in re.findall(pattern, span)})
    assert len(named) > 12
    code = (
        "import importlib, json, sys, warnings\n"
        "warnings.simplefilter('ignore')\n"
        "def exists(name):\n"
        "    first, *rest = name.split('.')\n"
        "    found = importlib.import_module(first)\n"
        "    for part in rest:\n"
        "        first += '.' + part\n"
        "        if not hasattr(found, part):\n"
        "            try:\n"
        "                importlib.import_module(first)\n"
        "            except ModuleNotFoundError:\n"
        "                return False\n"
        "        found = getattr(found, part)\n"
        "    return True\n"
        f"print([name for name in {named!r} if not exists(name)])"
    )
    done = fresh_python("-c", code, cwd=tmp_path)
    assert (done.returncode, done.stdout.strip()) == (0, "[]"), done.stderr
