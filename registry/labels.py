"""Class names in index order, one list a file in `registry/labels`."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from registry.names import did_you_mean

__all__ = ["labels", "list_labels"]

_FOLDER = Path(__file__).parent / "labels"


def list_labels() -> list[str]:
    """Names of the label lists."""
    return sorted(path.stem for path in _FOLDER.glob("*.txt"))


@cache
def labels(name: str) -> tuple[str, ...]:
    """The class names of one list; line k of its file is class k - 1.

    Raises:
        LookupError: There is no such list.
    """
    path = _FOLDER / f"{name}.txt"
    if not path.is_file():
        known = list_labels()
        raise LookupError(
            f"Unknown label list {name!r}. Known: {', '.join(known)}.{did_you_mean(name, known)}"
        )
    return tuple(path.read_text(encoding="utf-8").splitlines())
