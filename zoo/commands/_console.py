"""Words to the user, on stderr; stdout is for data."""

from __future__ import annotations

import sys

__all__ = ["say", "say_warning", "sentence"]


def say(text: str) -> None:
    sys.stderr.write(f"zoo: {text}\n")


def say_warning(message: Warning | str, category: type[Warning], *_: object, **__: object) -> None:
    if issubclass(category, UserWarning):
        say(f"warning: {message}")


def sentence(error: BaseException) -> str:
    """An error's text on one line; libraries' own messages may have several."""
    text = " ".join(str(error).split())
    meant_for_users = (ValueError, OSError, RuntimeError, MemoryError)
    # Their subclasses, KeyError and ModuleNotFoundError among them, are mistakes of ours.
    if isinstance(error, meant_for_users) or type(error) in (LookupError, ImportError):
        return text or type(error).__name__
    return f"this is a bug of videozoo, please report it: {type(error).__name__}: {text}"
