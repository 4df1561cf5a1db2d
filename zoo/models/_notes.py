"""What users of several families must know in the same words."""

from __future__ import annotations

__all__ = ["UNFILTERED", "joined"]

UNFILTERED = (
    "transformers' processor shrinks frames with an antialias filter, the authors' training code "
    "did not; the recipe here follows the training code."
)


def joined(*notes: str) -> str:
    """The notes that are not empty, one after another."""
    return " ".join(note for note in notes if note)
