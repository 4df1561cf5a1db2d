"""The documents that people read: their code blocks, the commands in those, and the code spans."""

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGES = tuple(
    sorted(
        path
        for pattern in ("README.md", "CONTRIBUTING.md", "docs/*.md", "outputs/*.md")
        for path in ROOT.glob(pattern)
    )
)
LANGUAGES = {"python": "python", "bash": "bash", "sh": "bash"}
PROSE = ("text", "bibtex", "csv")
PROGRAMS = ("zoo", "python", "torchrun", "accelerate", "make", "pip", "git")
FENCE = re.compile(r"^( *)```([^\n`]*)\n(.*?)^\1```\s*$", re.DOTALL | re.MULTILINE)
SETTING = re.compile(r"[A-Z][A-Z_]*=")


@dataclass(frozen=True)
class Block:
    """A fenced block of a page.

    Attributes:
        page: Its page.
        line: Where its text begins, counted from 1.
        language: `python`, `bash` or `text`.
        runs: False for a block that its fence marks as `no-run`.
        text: What is in it.
    """

    page: Path
    line: int
    language: str
    runs: bool
    text: str

    @property
    def where(self):
        return f"{self.page.relative_to(ROOT)}:{self.line}"


@dataclass(frozen=True)
class Command:
    """A line of a shell block: the variables it sets, and its words."""

    settings: dict
    words: tuple


def blocks_of(page):
    """The fenced blocks of a page, in order.

    A fence without a language holds commands if its first word is a program of `PROGRAMS`, and
    something to look at otherwise.
    """
    text = page.read_text(encoding="utf-8")
    found = []
    for fence in FENCE.finditer(text):
        indent, label, body = fence.groups()
        body = re.sub(f"^{indent}", "", body, flags=re.MULTILINE)
        name, _, flag = label.strip().partition(" ")
        if flag not in ("", "no-run") or name not in ("", *LANGUAGES, *PROSE):
            raise ValueError(f"{page}: the fence '```{label}' has a language that nobody runs.")
        language = LANGUAGES.get(name, "text")
        if not name and commands(body)[:1] and _is_program(commands(body)[0]):
            language = "bash"
        line = text.count("\n", 0, fence.start(3)) + 1
        found.append(Block(page, line, language, flag != "no-run", body))
    return found


def _is_program(command):
    return command.words[:1] and command.words[0] in PROGRAMS


def commands(text):
    """The commands of a shell block: continued lines joined, comments dropped."""
    found = []
    for line in text.replace("\\\n", " ").splitlines():
        try:
            words = shlex.split(line, comments=True)
        except ValueError:  # a quotation that does not end: no command
            return []
        settings = {}
        while words and SETTING.match(words[0]):
            name, _, settings[name] = words.pop(0).partition("=")
        if words:
            found.append(Command(settings, tuple(words)))
    return found


def spans_of(page):
    """The code spans of a page's prose, outside of its fenced blocks."""
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    return [" ".join(span.split()) for span in re.findall(r"(?<!`)`([^`]+)`(?!`)", text)]


def links_of(page):
    """The targets of a page's links to other files, without those to the web."""
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    targets = re.findall(r"\]\(([^)\s]+)\)", text)
    return [target for target in targets if "://" not in target]
