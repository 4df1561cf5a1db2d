"""Repositories of the Hub, read through its own client and cache, with errors in one sentence.

What the client fetches is checked against the hash by which the Hub names it. Errors that pass are
waited out a few times, in silence.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from converters.disk import DISK_ERRORS, OUR_REPOSITORIES, assets, cache_error, check_free_space
from converters.stamps import is_stamped, stamp
from registry.names import did_you_mean

__all__ = [
    "LONGEST_WAIT_SECONDS",
    "PASSING_STATUSES",
    "REPOSITORY",
    "REVISION",
    "WAITS_SECONDS",
    "Repository",
    "is_commit",
    "open_repository",
    "parse_repository",
    "quiet",
]

logger = logging.getLogger(__name__)

T = TypeVar("T")

PASSING_STATUSES = (408, 429, 500, 502, 503, 504)
WAITS_SECONDS = (0.5, 1.0, 2.0)
LONGEST_WAIT_SECONDS = 30.0
# The client makes folders of both.
_NAME = r"[A-Za-z0-9](?:[\w.-]{0,94}[A-Za-z0-9_])?"
REPOSITORY = re.compile(rf"(?!.*(?:\.\.|--)){_NAME}/{_NAME}", re.ASCII)
REVISION = re.compile(r"(?!.*\.\.)\w[\w./-]{0,249}", re.ASCII)


def parse_repository(text: str) -> tuple[str, str]:
    """`org/name` and the revision of `org/name@revision`; `main` where none is named.

    Raises:
        ValueError: It is no such text.
    """
    repo_id, at, revision = text.partition("@")
    if not REPOSITORY.fullmatch(repo_id):
        raise ValueError(
            f"{text!r} names no repository; write 'hf-hub:ORG/NAME' or 'hf-hub:ORG/NAME@REVISION'."
        )
    if at and not REVISION.fullmatch(revision):
        raise ValueError(f"{revision!r} is no branch, tag or commit, in {text!r}.")
    return repo_id, revision or "main"


def is_commit(revision: str) -> bool:
    """Whether a revision is a whole commit hash, which always names the same files."""
    return re.fullmatch("[0-9a-f]{40}", revision) is not None


@dataclass(frozen=True, slots=True)
class Repository:
    """One commit of a repository.

    Attributes:
        repo_id: `org/name`.
        commit: Its hash.
        outdated: Why the Hub could not say whether this is still what the revision names; empty if
            it did, or need not.
    """

    repo_id: str
    commit: str
    outdated: str = ""

    @property
    def origin(self) -> str:
        """How the repository is called in messages."""
        return f"hf-hub:{self.repo_id}"

    def fetch(self, filename: str, *, limit: int | None = None) -> Path:
        """A file of the repository, from the cache or from the Hub.

        Args:
            filename: Its path in the repository.
            limit: Bytes above which it is refused before it is fetched.

        Raises:
            FileNotFoundError: The repository has no such file.
            ValueError: It is larger than it may be, or is not what the Hub names it by.
            ConnectionError: The Hub cannot be reached.
            PermissionError: The Hub refuses it.
            OSError: The cache cannot be written.
        """
        path = _in_cache(self.repo_id, filename, self.commit)
        if path is not None:
            _check_size(path.stat().st_size, limit, f"{self.origin}/{filename}")
            if _is_intact(path):
                return path
            logger.warning("'%s' is damaged; fetched anew.", path)
        return _Wish(self.repo_id, filename, self.commit).download(limit, anew=path is not None)

    def file_names(self) -> list[str]:
        """The paths of its files; empty where the Hub cannot be asked."""
        from huggingface_hub import HfApi

        try:
            with quiet():
                return HfApi().list_repo_files(self.repo_id, revision=self.commit)
        except _transport_errors():
            return []


def open_repository(
    repo_id: str, revision: str = "main", *, filename: str = "config.json", hints: bool = True
) -> Repository:
    """Find out which commit a revision is.

    A whole commit hash is taken as it is, and nobody is asked. For a branch or tag the Hub is
    asked once; where it cannot be reached, what it last named is taken from the cache.

    Args:
        repo_id: `org/name`.
        revision: Branch, tag or commit.
        filename: A file that the repository has.
        hints: Whether to ask for the nearest names where there is no such repository.

    Raises:
        LookupError: No such repository or revision.
        FileNotFoundError: The repository has no such file.
        PermissionError: A token is missing, wrong or expired.
        ConnectionError: The Hub cannot be reached, and the cache has nothing.
        OSError: The cache cannot be written.
    """
    if is_commit(revision):
        return Repository(repo_id, revision)
    known = _in_cache(repo_id, filename, revision)
    wish = _Wish(repo_id, filename, revision, hints)
    try:
        facts = wish.metadata(patient=known is None)
    except ConnectionError as error:
        if known is None:
            raise
        return Repository(repo_id, _commit_of(known, filename), outdated=str(error))
    if known is None or _commit_of(known, filename) != facts.commit_hash:
        # By the revision's name, so that the client writes down which commit it is.
        known = wish.download(None, anew=False)
    return Repository(repo_id, _commit_of(known, filename))


def _commit_of(path: Path, filename: str) -> str:
    """The commit in the path of a file in the client's cache."""
    return path.parents[filename.count("/")].name


def _in_cache(repo_id: str, filename: str, revision: str) -> Path | None:
    """A file's place in the cache; None where it was not fetched.

    Raises:
        FileNotFoundError: The cache knows that this commit has no such file.
    """
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(repo_id, filename, revision=revision)
    if found is not None and not isinstance(found, str) and is_commit(revision):
        raise FileNotFoundError(f"The repository {repo_id!r} has no file {filename!r}.")
    return Path(found) if isinstance(found, str) else None


@dataclass(frozen=True, slots=True)
class _Wish:
    """One file of a repository that the Hub is asked for."""

    repo_id: str
    filename: str
    revision: str
    hints: bool = True

    def metadata(self, *, patient: bool = True) -> Any:
        """What the Hub says of the file: commit, hash, size."""
        from huggingface_hub import get_hf_file_metadata, hf_hub_url

        url = hf_hub_url(self.repo_id, self.filename, revision=self.revision)
        return self._patiently(lambda: get_hf_file_metadata(url), patient=patient)

    def download(self, limit: int | None, *, anew: bool) -> Path:
        """The file in the client's cache, fetched and compared with its hash."""
        from huggingface_hub import constants, hf_hub_download

        origin = f"hf-hub:{self.repo_id}/{self.filename}"
        try:
            size = self.metadata().size or 0
        except FileNotFoundError:
            # The client notes what a commit does not have, so that nobody asks again.
            with contextlib.suppress(*_transport_errors()), quiet():
                hf_hub_download(self.repo_id, self.filename, revision=self.revision)
            raise
        _check_size(size, limit, origin)
        check_free_space(Path(constants.HF_HUB_CACHE), size, origin)

        def call() -> Path:
            place = self.repo_id, self.filename
            return Path(hf_hub_download(*place, revision=self.revision, force_download=anew))

        for _ in range(2):
            path = self._patiently(call)
            anew = True
            if _is_intact(path):
                _remember(self.repo_id)
                return path
        path.resolve().unlink()
        path.unlink(missing_ok=True)
        raise ValueError(
            f"'{origin}' does not have the hash by which the Hub names it; it was changed on the "
            f"way, twice, and is not used."
        )

    def _patiently(self, call: Callable[[], T], *, patient: bool = True) -> T:
        """Call the client, again after errors that pass; say in a sentence which one stayed."""
        waits = list(WAITS_SECONDS) if patient else []
        while True:
            try:
                with quiet():
                    return call()
            except _transport_errors() as error:
                if not waits or not _passes(error):
                    raise self._explained(error) from error
                time.sleep(max(waits.pop(0), _wished_wait(error)))

    def _explained(self, error: Exception) -> Exception:
        """The same error as a sentence for people."""
        from huggingface_hub import constants, get_token
        from huggingface_hub.errors import (
            EntryNotFoundError,
            GatedRepoError,
            LocalEntryNotFoundError,
            OfflineModeIsEnabled,
            RepositoryNotFoundError,
            RevisionNotFoundError,
        )

        place = f"{constants.ENDPOINT}/{self.repo_id}"
        if _is_about_disk(error):
            return cache_error(Path(constants.HF_HUB_CACHE), error)
        if isinstance(error, GatedRepoError):
            return PermissionError(
                f"{place} is open only to those who were let in; ask for access on that page, and "
                f"log in with `hf auth login` or HF_TOKEN."
            )
        # Whom the Hub knows it tells 404: to a token 401 means that the token is bad.
        if isinstance(error, RepositoryNotFoundError) and not (
            _status(error) == 401 and get_token()
        ):
            hidden = "your token cannot see it" if get_token() else "you gave no token (HF_TOKEN)"
            return LookupError(
                f"Unknown repository {self.repo_id!r} at {constants.ENDPOINT}, or it is private "
                f"and {hidden}.{_nearest_repository(self.repo_id) if self.hints else ''}"
            )
        if isinstance(error, RevisionNotFoundError):
            return LookupError(
                f"The repository {self.repo_id!r} has no revision {self.revision!r}."
                f"{_nearest_revision(self.repo_id, self.revision)}"
            )
        if isinstance(error, EntryNotFoundError) and not isinstance(error, LocalEntryNotFoundError):
            return FileNotFoundError(
                f"The repository {self.repo_id!r} has no file {self.filename!r}."
            )
        if _status(error) == 401:
            return PermissionError(
                f"{constants.ENDPOINT} refuses your token for {self.repo_id!r}: it is wrong or has "
                f"expired; log in with `hf auth login`, or set HF_TOKEN to a good one."
            )
        if _status(error) == 403:
            return PermissionError(
                f"Your token does not allow to read {self.repo_id!r} at {constants.ENDPOINT}; give "
                f"one that does, in HF_TOKEN."
            )
        reason = str(error).strip().split("\n")[0] or type(error).__name__
        if isinstance(error, OfflineModeIsEnabled) or constants.HF_HUB_OFFLINE:
            reason = "HF_HUB_OFFLINE is set"
        elif isinstance(error, LocalEntryNotFoundError) and error.__cause__ is not None:
            reason = str(error.__cause__).strip().split("\n")[0] or type(error.__cause__).__name__
        return ConnectionError(f"Cannot fetch {self.filename!r} of {place} ({reason}).")


def _transport_errors() -> tuple[type[Exception], ...]:
    """What the client raises where a connection or an answer fails; its HTTP library varies."""
    from huggingface_hub.errors import HfHubHTTPError

    return (HfHubHTTPError.__bases__[0], OSError)


def _status(error: Exception) -> int | None:
    return getattr(getattr(error, "response", None), "status_code", None)


def _passes(error: Exception) -> bool:
    from huggingface_hub.errors import LocalEntryNotFoundError, OfflineModeIsEnabled

    status = _status(error)
    if status is not None:
        return status in PASSING_STATUSES
    if isinstance(error, LocalEntryNotFoundError):  # the client has waited already
        return False
    return not isinstance(error, OfflineModeIsEnabled) and not _is_about_disk(error)


def _is_about_disk(error: Exception) -> bool:
    return isinstance(error, OSError) and error.errno in DISK_ERRORS


def _wished_wait(error: Exception) -> float:
    headers = getattr(getattr(error, "response", None), "headers", {})
    wish = str(headers.get("Retry-After", ""))
    return min(float(wish), LONGEST_WAIT_SECONDS) if wish.isdecimal() else 0.0


def _nearest_repository(repo_id: str) -> str:
    from huggingface_hub import HfApi

    org = repo_id.partition("/")[0]
    with contextlib.suppress(*_transport_errors()), quiet():
        return did_you_mean(repo_id, [item.id for item in HfApi().list_models(author=org)])
    return ""


def _nearest_revision(repo_id: str, revision: str) -> str:
    from huggingface_hub import HfApi

    with contextlib.suppress(*_transport_errors()), quiet():
        refs = HfApi().list_repo_refs(repo_id)
        names = [ref.name for ref in (*refs.branches, *refs.tags)]
        return f" Known: {', '.join(names[:20])}.{did_you_mean(revision, names)}"
    return ""


def _check_size(size: int, limit: int | None, origin: str) -> None:
    if limit is not None and size > limit:
        raise ValueError(
            f"'{origin}' has {size} bytes, where what its configuration tells of takes at most "
            f"{limit}; it is not fetched."
        )


def _is_intact(path: Path) -> bool:
    """Whether a file in the client's cache has the hash that the cache files it under.

    Large files are filed under their SHA-256, others under git's SHA-1. Where the cache has no
    symbolic links the name is another, and nothing can be compared.
    """
    # One step only: the client may keep the blob in a store that repositories share.
    blob = path.parent / path.readlink() if path.is_symlink() else path
    if blob.parent.name != "blobs" or not re.fullmatch(r"[0-9a-f]{40}|[0-9a-f]{64}", blob.name):
        return True
    if is_stamped(blob, "intact"):
        return True
    intact = _hash_of(blob, git=len(blob.name) == 40) == blob.name
    if intact:
        stamp(blob, "intact")
    return intact


def _hash_of(path: Path, *, git: bool) -> str:
    digest = hashlib.sha256()
    if git:
        digest = hashlib.sha1(usedforsecurity=False)
        digest.update(f"blob {path.stat().st_size}\0".encode())
    with path.open("rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


def _remember(repo_id: str) -> None:
    """Write down that we fetched a repository, for `zoo cache`."""
    with contextlib.suppress(OSError):
        folder = assets(OUR_REPOSITORIES)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / repo_id.replace("/", "--")).touch()


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep the client from telling of every try; what stays wrong is raised."""
    client = logging.getLogger("huggingface_hub")
    level = client.level
    client.setLevel(logging.ERROR)
    try:
        yield
    finally:
        client.setLevel(level)
