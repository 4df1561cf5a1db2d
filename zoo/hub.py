"""Where models are kept: folders, repositories of the Hub, and the hub that a user set up."""

from __future__ import annotations

import inspect
import os
import re
import warnings
from dataclasses import dataclass
from pathlib import Path

from converters.hub import Repository, open_repository, parse_repository
from converters.places import LocalFolder, Place

__all__ = ["UserHub", "chosen_hub", "open_place"]

_VARIABLE = "ZOO_HUB"


def open_place(scheme: str, target: str) -> Place:
    """What `local-dir:PATH` or `hf-hub:org/name@revision` names.

    Raises:
        LookupError: No such repository or revision.
        ValueError: The text names no repository.
        PermissionError: A token is missing, wrong or expired.
        ConnectionError: The Hub cannot be reached, and the cache has nothing.
        OSError: The cache cannot be written.
    """
    if scheme == "local-dir":
        return LocalFolder(Path(target))
    repository = open_repository(*parse_repository(target))
    if repository.outdated:
        _warn_of_cache(repository)
    return repository


def _warn_of_cache(repository: Repository) -> None:
    _warn(
        f"'{repository.origin}' is taken from the cache, as of commit {repository.commit[:12]}: "
        f"{repository.outdated}"
    )


def _warn(text: str) -> None:
    """Warn whoever called the zoo, however deep the call went."""
    here, level, frame = str(Path(__file__).parent), 1, inspect.currentframe()
    while frame is not None and frame.f_code.co_filename.startswith(here):
        level, frame = level + 1, frame.f_back
    warnings.warn(text, stacklevel=level)


def chosen_hub(hub: str | Path | None) -> UserHub | None:
    """The hub that is asked before the sources of records: the one given, or ZOO_HUB's.

    An empty text asks none.

    Raises:
        ValueError: It is neither hf://ORG nor a folder.
        FileNotFoundError: There is no such folder.
    """
    if hub is not None:
        return _parse(str(hub), "hub=") if str(hub) else None
    text = os.environ.get(_VARIABLE, "")
    return _parse(text, _VARIABLE) if text else None


def _parse(text: str, setting: str) -> UserHub:
    if "://" in text:
        org = text.removeprefix("hf://").removesuffix("/")
        if not text.startswith("hf://") or not re.fullmatch(r"[A-Za-z0-9][\w.-]{0,95}", org):
            raise ValueError(
                f"{setting} is {text!r}; write 'hf://ORG' for an organisation of the Hub, or the "
                f"path of a folder that `zoo mirror` filled."
            )
        return UserHub(text, org=org)
    folder = Path(text)
    if not folder.is_dir():
        raise FileNotFoundError(
            f"{setting} is the folder '{folder}', which does not exist; fill one with `zoo mirror "
            f"{folder}`."
        )
    return UserHub(text, folder=folder)


@dataclass(frozen=True, slots=True)
class UserHub:
    """An organisation of the Hub or a folder, with one place a `NAME.TAG`.

    Attributes:
        text: How the user wrote it.
        org: The organisation; empty for a folder.
        folder: The folder; None for an organisation.
    """

    text: str
    org: str = ""
    folder: Path | None = None

    def find(self, name: str) -> Place | None:
        """The place of `NAME.TAG`, or None where the hub does not have it.

        Raises:
            ValueError: The name is none.
            PermissionError: The hub refuses the user's token.
            ConnectionError: It cannot be reached, and the cache has nothing.
            OSError: The cache cannot be written.
        """
        if not re.fullmatch(r"\w+\.[\w.-]+", name, re.ASCII):
            raise ValueError(f"{name!r} is no NAME.TAG, under which a hub keeps weights.")
        if self.folder is not None:
            folder = self.folder / name
            return LocalFolder(folder) if folder.is_dir() else None
        repo_id = f"{self.org}/{name}"
        try:
            repository = open_repository(repo_id, hints=False)
        except LookupError as error:
            # The Hub says of what is private the same as of what does not exist.
            if _status(error) == 401:
                _warn(
                    f"The hub '{self.text}' shows no {repo_id!r} to somebody without a token; the "
                    f"weights are taken from their record's source."
                )
            return None
        except OSError as error:
            way_out = ""
            if isinstance(error, ConnectionError):
                way_out = (
                    f" Without a network, fill a folder elsewhere with `zoo mirror DIR {name}` "
                    f"and name it in {_VARIABLE} or hub=."
                )
            raise type(error)(
                f"The hub '{self.text}' does not give {name!r}: {error}{way_out}"
            ) from error
        if repository.outdated:
            _warn_of_cache(repository)
        return repository


def _status(error: Exception) -> int | None:
    response = getattr(error.__cause__, "response", None)
    return getattr(response, "status_code", None)
