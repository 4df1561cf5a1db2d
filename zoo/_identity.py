"""Makes sure that `registry` and `converters` are ours, since other packages use those names."""

from __future__ import annotations

import importlib
from importlib.util import find_spec
from pathlib import Path

__all__ = ["check_identity"]


def check_identity() -> None:
    """Compare the place, then the marker of each of our packages.

    The place comes first: a foreign module that is imported may fail in its own ways.

    Raises:
        ImportError: Another module of that name stands before ours or overwrote it, or ours is
            gone.
    """
    for name in ("registry", "converters"):
        ours = Path(__file__).parents[1] / name / "__init__.py"
        found = _place(name)
        if found is not None and found.parent.resolve() == ours.parent.resolve():
            marker, cause = _marker(name)
            if marker != name:
                raise ImportError(
                    f"videozoo's package {name!r} ({ours}) was overwritten by another "
                    f"distribution's, so {__file__} cannot work; uninstall that one and install "
                    f"videozoo again."
                ) from cause
        elif ours.is_file():
            raise ImportError(
                f"videozoo's package {name!r} ({ours}) is hidden by another module of that name, "
                f"{found or 'which has no file'}; uninstall or rename that one."
            )
        else:
            raise ImportError(
                f"videozoo's package {name!r} ({ours}) is gone, so {__file__} cannot work; "
                f"install videozoo again."
            )


def _place(name: str) -> Path | None:
    """The file that `import name` reads, or the folder where it has none; nothing is imported."""
    try:
        spec = find_spec(name)
    except ValueError:  # a module made by hand
        return None
    if spec is None:
        return None
    return Path(spec.origin or next(iter(spec.submodule_search_locations or ()), ""))


def _marker(name: str) -> tuple[str, ImportError | None]:
    """What the package says it is, and why it says nothing."""
    try:
        return getattr(importlib.import_module(name), "VIDEOZOO", ""), None
    except ImportError as error:
        return "", error
