"""Notes that a file was found good, so that gigabytes are not read again to find out the same.

A note tells where the file lies, how long it is and when it was last changed; a file that differs
in any of it is looked at again.
"""

from __future__ import annotations

import contextlib
import hashlib
from pathlib import Path
from typing import Literal, TypeAlias

from converters.disk import CHECKED, assets

__all__ = ["Found", "forget_deleted", "is_stamped", "stamp"]

Found: TypeAlias = Literal["intact", "finite"]
"""What a file was found: to have its hash, or to hold no NaN and nothing infinite."""


def is_stamped(path: Path, found: Found) -> bool:
    """Whether a file was found good earlier and is the same since."""
    try:
        return _note(path, found).read_text(encoding="utf-8") == _facts(path)
    except (OSError, ValueError):
        return False


def stamp(path: Path, found: Found) -> None:
    """Note that a file was found good; a cache that cannot be written keeps no notes."""
    with contextlib.suppress(OSError):
        note = _note(path, found)
        note.parent.mkdir(parents=True, exist_ok=True)
        note.write_text(_facts(path), encoding="utf-8")


def forget_deleted() -> None:
    """Delete the notes on files that are no longer there."""
    for note in assets(CHECKED).glob("*.*"):
        with contextlib.suppress(OSError, ValueError):
            if not Path(note.read_text(encoding="utf-8").partition("\n")[0]).exists():
                note.unlink()


def _note(path: Path, found: Found) -> Path:
    name = hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:32]
    return assets(CHECKED) / f"{name}.{found}"


def _facts(path: Path) -> str:
    # The last is set by the system alone: whoever puts a file's old date back changes it.
    facts = path.stat()
    return f"{path.resolve()}\n{facts.st_size} {facts.st_mtime_ns} {facts.st_ctime_ns}\n"
