"""Our part of the Hub client's caches on this disk, and what to say when the disk fails."""

from __future__ import annotations

import errno
import shutil
from pathlib import Path

__all__ = [
    "CHECKED",
    "CONVERTED",
    "DISK_ERRORS",
    "OUR_REPOSITORIES",
    "assets",
    "cache_error",
    "check_free_space",
]

CONVERTED = "converted"
"""Folder of our part of the assets cache, with one folder for each set of converted weights."""

OUR_REPOSITORIES = "repositories"
"""Likewise, with one empty file for each repository that we fetched."""

CHECKED = "checked"
"""Likewise, with the notes on files that were found good."""

DISK_ERRORS = frozenset(
    {
        errno.EACCES,
        errno.EDQUOT,
        errno.EEXIST,
        errno.EFBIG,
        errno.EISDIR,
        errno.ENOSPC,
        errno.ENOTDIR,
        errno.EPERM,
        errno.EROFS,
    }
)
"""What an OSError carries where it is about a file, and not about a connection."""


def assets(name: str) -> Path:
    """A folder of our part of the client's assets cache; it need not exist."""
    from huggingface_hub import constants

    return Path(constants.HF_ASSETS_CACHE) / "videozoo" / name


def check_free_space(folder: Path, size: int, what: str) -> None:
    """Refuse to begin what the disk cannot hold.

    Args:
        folder: Where it will be written; it need not exist.
        size: Bytes.
        what: What to call it in a message.

    Raises:
        OSError: There is less room than that.
    """
    there = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    free = shutil.disk_usage(there).free
    if free < size:
        raise OSError(
            f"'{what}' takes {size} bytes and {free} are free at '{folder}'; make room, or set "
            f"HF_HOME to a folder on another disk."
        )


def cache_error(folder: Path, error: Exception) -> OSError:
    """The sentence for a cache that cannot be written."""
    reason = getattr(error, "strerror", None) or str(error)
    return OSError(
        f"The cache '{folder}' cannot be written ({reason}); make room in it, or set HF_HOME to a "
        f"folder that can."
    )
