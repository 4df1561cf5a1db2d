"""Puts the files of a site into a folder without ever leaving half of one there."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

__all__ = ["write_site"]

_LIST = "videozoo-site.json"
"""Names the files of a site that are ours; also what a folder is known by to be a site."""

_STAGING = ".videozoo-new"


def write_site(folder: Path, texts: Mapping[str, str]) -> None:
    """Write a site, or bring one up to date.

    All files are written beside the others first and then moved to their places, each as a whole.
    Files that an earlier site had and this one has not are removed; what else is there stays.

    Args:
        folder: A new or empty folder, or one that this function wrote before.
        texts: The files by their path in the folder.

    Raises:
        FileExistsError: The folder holds something else, or a file of somebody else's has a name
            that the site needs.
        OSError: The folder cannot be written.
    """
    known = _files_of_site(folder)
    for name in texts:
        if name not in known and (folder / name).exists():
            raise FileExistsError(
                f"'{folder / name}' is in the way and is not of the site; move it elsewhere."
            )
    staging = folder / _STAGING
    shutil.rmtree(staging, ignore_errors=True)  # of a run that was killed
    try:
        for name, text in texts.items():
            _write(staging / name, text)
        # While files are moved, those of both sites are ours.
        _put_list(folder, known | set(texts))
        for name in texts:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (staging / name).replace(folder / name)
        for name in known - set(texts):
            (folder / name).unlink(missing_ok=True)
        _put_list(folder, set(texts))
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _files_of_site(folder: Path) -> set[str]:
    """The files that an earlier run wrote into a folder; none in a new or empty one."""
    if folder.exists() and not folder.is_dir():
        raise FileExistsError(f"'{folder}' is a file; name a folder for the site.")
    if not folder.is_dir() or not any(folder.iterdir()):
        return set()
    if not (folder / _LIST).is_file():
        left = [path.name for path in folder.iterdir()]
        if left == [_STAGING]:
            return set()
        raise FileExistsError(
            f"'{folder}' holds files and is no site of the zoo; name a new or an empty folder."
        )
    try:
        names = json.loads((folder / _LIST).read_text(encoding="utf-8"))
    except ValueError as error:
        raise FileExistsError(
            f"'{folder / _LIST}' cannot be read ({error}); remove the folder, or name another."
        ) from error
    # The list may have been written by anybody, and its files are removed.
    inside = [name for name in map(str, names) if ".." not in Path(name).parts]
    return {name for name in inside if not Path(name).is_absolute()}


def _put_list(folder: Path, names: set[str]) -> None:
    staged = folder / _STAGING / _LIST
    _write(staged, json.dumps(sorted(names), indent=1) + "\n")
    staged.replace(folder / _LIST)


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8", newline="\n")
