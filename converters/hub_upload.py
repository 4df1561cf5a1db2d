"""Files into a Hub repository: one commit of what is new there, or none.

Large files go through Xet where `hf_xet` is installed, as the Hub client decides; the tests know
the older way only, with HF_HUB_DISABLE_XET=1.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

from converters.hub import REPOSITORY, REVISION, is_commit, quiet
from converters.sharding import is_weights_file

__all__ = [
    "File",
    "Push",
    "check_target",
    "check_token",
    "plan_push",
    "push_files",
    "read_header",
    "remote_weights",
]

T = TypeVar("T")

File: TypeAlias = Path | bytes | None

_WAITS_SECONDS = (1.0, 2.0, 4.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Push:
    """What goes, or went, into a repository.

    Attributes:
        repo_id: `org/name`.
        revision: Branch; None is the main one.
        sent: Bytes by name of the files that are new there or differ.
        removed: Weights of an earlier push that no longer belong to it.
        kept: Names of the files that are there already, byte for byte.
        parent: Commit that it was compared with; None where there is none yet.
        is_new: Whether there is no such repository yet.
        is_new_branch: Whether the repository has no such branch yet.
        url: Page of the commit or pull request; empty where nothing was sent.
        folder: Where a dry run left the files; empty where it was none.
    """

    repo_id: str
    revision: str | None
    sent: Mapping[str, int]
    removed: tuple[str, ...]
    kept: tuple[str, ...]
    parent: str | None
    is_new: bool
    is_new_branch: bool
    url: str = ""
    folder: str = ""

    @property
    def changes(self) -> bool:
        """Whether the repository lacks anything."""
        return bool(self.sent or self.removed or self.is_new or self.is_new_branch)


class _PassingError(ConnectionError):
    """A failure that may be over soon."""


def check_target(repo_id: str, revision: str | None) -> None:
    """Refuse what names no repository or no branch.

    Raises:
        ValueError: It does not.
    """
    if not REPOSITORY.fullmatch(repo_id) or repo_id.endswith(".git"):
        raise ValueError(f"{repo_id!r} names no repository; write 'ORG/NAME'.")
    if revision is not None and not REVISION.fullmatch(revision):
        raise ValueError(f"{revision!r} is no branch that `create` could read; name another.")
    if revision is not None and is_commit(revision):
        raise ValueError(f"{revision!r} is a commit, which nothing can be added to; name a branch.")


def check_token(place: str) -> None:
    """Refuse to write without a token, before anything is fetched for it.

    Args:
        place: A repository or organisation, for the message.

    Raises:
        PermissionError: There is none.
    """
    from huggingface_hub import get_token

    if get_token() is None:
        raise PermissionError(
            f"There is no token to write to {place!r}; log in with `hf auth login`, or set "
            f"HF_TOKEN to a token with write permission."
        )


def plan_push(
    files: Mapping[str, File], repo_id: str, *, private: bool, revision: str | None
) -> Push:
    """Compare files with a repository, by hash.

    Args:
        files: Paths or contents by name in the repository; None for what is known to be there.
        repo_id: `org/name`.
        private: Whether only its owners may see it.
        revision: Branch; None is the main one.

    Raises:
        ValueError: `private` is asked for a repository that everyone sees.
        PermissionError: The token is wrong, or may not see the repository.
        ConnectionError: The Hub cannot be reached.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

    api, info, is_new_branch = HfApi(), None, False

    def ask(branch: str | None) -> Any:
        return _call(lambda: api.model_info(repo_id, revision=branch, files_metadata=True), repo_id)

    try:
        try:
            info = ask(revision)
        except RevisionNotFoundError:
            info, is_new_branch = ask(None), True  # it will start with what the main one has
    except RepositoryNotFoundError:
        is_new_branch = revision is not None
    if info is not None and private and not info.private:
        raise ValueError(
            f"{repo_id!r} exists and everyone can see it; make it private in its settings first, "
            f"or leave out private."
        )
    there = {item.rfilename: _remote_hash(item) for item in info.siblings} if info else {}
    kept = {name for name, file in files.items() if _is_same(file, there.get(name))}
    stale = [name for name in there if is_weights_file(name) and name not in files]
    return Push(
        repo_id=repo_id,
        revision=revision,
        sent={
            name: _size(file)
            for name, file in files.items()
            if file is not None and name not in kept
        },
        removed=tuple(sorted(stale)),
        kept=tuple(sorted(kept)),
        parent=info.sha if info else None,
        is_new=info is None,
        is_new_branch=is_new_branch,
    )


def push_files(
    files: Mapping[str, File],
    repo_id: str,
    *,
    private: bool,
    revision: str | None,
    create_pr: bool,
    message: str,
) -> Push:
    """Make one commit, or a pull request with one, of the files that a repository lacks.

    What fails for a while is tried again, after another look at what is there.

    Args:
        files: As for `plan_push`.
        repo_id: `org/name`; made if there is none.
        private: Whether a new repository is seen by its owners only.
        revision: Branch, made if there is none; None is the main one.
        create_pr: Whether the commit is offered as a pull request.
        message: First line of the commit.

    Returns:
        What was sent; nothing where everything was there.

    Raises:
        PermissionError: There is no token, or it may not write there.
        LookupError: A pull request is asked for a branch that does not exist.
        ConnectionError: The Hub cannot be reached, or fails.
        RuntimeError: Somebody else changed the repository at the same time.
        ValueError: The Hub refuses the card's metadata, or the repository is not private.
    """
    check_token(repo_id)
    # Whoever asks twice for a pull request gets two.
    waits = [] if create_pr else list(_WAITS_SECONDS)
    while True:
        plan = plan_push(files, repo_id, private=private, revision=revision)
        if create_pr and plan.is_new_branch:
            raise LookupError(f"{repo_id!r} has no branch {revision!r} to offer a change to.")
        if not plan.changes:
            return plan
        try:
            url = _call(lambda: _commit(plan, files, private, create_pr, message), repo_id, ())  # noqa: B023 -- called at once
            return replace(plan, url=url)
        except _PassingError:
            if not waits:
                raise
            time.sleep(waits.pop(0))


def _commit(
    plan: Push, files: Mapping[str, File], private: bool, create_pr: bool, message: str
) -> str:
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, constants

    api = HfApi()
    if plan.is_new:
        # Not with exist_ok: what somebody else made just now may be seen by everyone.
        api.create_repo(plan.repo_id, private=private)
    if plan.is_new_branch:
        assert plan.revision is not None
        api.create_branch(plan.repo_id, branch=plan.revision, exist_ok=True)
    if not plan.sent and not plan.removed:
        return f"{constants.ENDPOINT}/{plan.repo_id}/tree/{plan.revision}"
    done = api.create_commit(
        plan.repo_id,
        [
            *(CommitOperationAdd(name, _content(files[name])) for name in plan.sent),
            *(CommitOperationDelete(name) for name in plan.removed),
        ],
        commit_message=message,
        revision=plan.revision,
        create_pr=create_pr,
        parent_commit=plan.parent,
    )
    return str(done.pr_url if create_pr else done.commit_url)


def remote_weights(repo_id: str) -> list[str]:
    """Names of the weights files of a repository, the index too; none where there is no such one.

    Raises:
        PermissionError: The token is wrong.
        ConnectionError: The Hub cannot be reached.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import RepositoryNotFoundError

    try:
        names = _call(lambda: HfApi().list_repo_files(repo_id), repo_id)
    except RepositoryNotFoundError:
        return []
    return sorted(name for name in names if is_weights_file(name))


def read_header(repo_id: str, filename: str) -> dict[str, str]:
    """The metadata in the header of a safetensors file of a repository; its tensors stay there.

    Raises:
        ValueError: It is no safetensors file.
        ConnectionError: The Hub cannot be reached.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import SafetensorsParsingError

    def read() -> dict[str, str]:
        found = HfApi().parse_safetensors_file_metadata(repo_id, filename)
        return dict(found.metadata)

    try:
        return _call(read, repo_id)
    except SafetensorsParsingError as error:
        raise ValueError(f"'{repo_id}/{filename}' is no safetensors file ({error}).") from error


def _remote_hash(item: Any) -> tuple[str, str]:
    """How the Hub names a file: large ones by SHA-256, others as git does."""
    return ("sha256", item.lfs.sha256) if item.lfs else ("git", str(item.blob_id))


def _is_same(file: File, remote: tuple[str, str] | None) -> bool:
    if remote is None or file is None:
        return file is None
    kind, wanted = remote
    if kind == "sha256":
        digest = hashlib.sha256()
    else:
        digest = hashlib.sha1(b"blob %d\0" % _size(file), usedforsecurity=False)
    if isinstance(file, bytes):
        digest.update(file)
    else:
        with file.open("rb") as opened:
            for block in iter(lambda: opened.read(1 << 20), b""):
                digest.update(block)
    return digest.hexdigest() == wanted


def _size(file: Path | bytes) -> int:
    return len(file) if isinstance(file, bytes) else file.stat().st_size


def _content(file: File) -> str | bytes:
    assert file is not None  # nothing is sent of what is there
    return file if isinstance(file, bytes) else str(file)


def _call(call: Callable[[], T], repo_id: str, waits: Sequence[float] = _WAITS_SECONDS) -> T:
    """Call the client, and say in one sentence what went wrong.

    Args:
        call: Calls it.
        repo_id: What the call is about.
        waits: Seconds before it is called again, where it failed for a while.

    Raises:
        RepositoryNotFoundError: There is no such repository, or the token cannot see it.
        RevisionNotFoundError: It has no such branch.
    """
    from huggingface_hub import get_token
    from huggingface_hub.errors import (
        HfHubHTTPError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    # The HTTP library varies with the client's version; its errors are the base of the client's.
    transport: Any = HfHubHTTPError.__bases__[0]
    left = list(waits)
    while True:
        try:
            with quiet():
                return call()
        except (RepositoryNotFoundError, RevisionNotFoundError) as error:
            # The client takes it for a missing repository where the token has expired.
            if _status(error) == 401 and get_token() is not None:
                raise _explained(error, repo_id) from error
            raise
        except (transport, OSError, RuntimeError) as error:
            # Of several uploads at once the client tells that one failed, and why as its cause.
            reason = error.__cause__ if type(error) is RuntimeError else error
            if not isinstance(reason, (transport, OSError)):
                raise
            explained = _explained(reason, repo_id)
            if not left or not isinstance(explained, _PassingError):
                raise explained from error
        except ValueError as error:
            explained = _explained_card(error, repo_id)
            if not left or not isinstance(explained, _PassingError):
                raise explained from error
        time.sleep(left.pop(0))


def _explained_card(error: ValueError, repo_id: str) -> Exception:
    """What the client says of a card's metadata, of which it asks the Hub first."""
    from huggingface_hub import constants

    if isinstance(error, json.JSONDecodeError):
        return _PassingError(
            f"Cannot push to {repo_id!r} at {constants.ENDPOINT} (it answers with no JSON); push "
            f"again later."
        )
    reasons = " ".join(str(error).split())
    return ValueError(f"{constants.ENDPOINT} refuses what was sent to {repo_id!r}: {reasons}")


def _status(error: Exception) -> int | None:
    return getattr(getattr(error, "response", None), "status_code", None)


def _explained(error: Exception, repo_id: str) -> Exception:
    from huggingface_hub import constants
    from huggingface_hub.errors import OfflineModeIsEnabled

    place, status = constants.ENDPOINT, _status(error)
    told = " ".join(str(getattr(error, "server_message", "") or "").split())
    if status == 401:
        return PermissionError(
            f"{place} refuses your token for {repo_id!r}: it is wrong or has expired; log in with "
            f"`hf auth login`, or set HF_TOKEN to a good one."
        )
    if status == 403:
        org = repo_id.partition("/")[0]
        return PermissionError(
            f"Your token may not write to {repo_id!r}; take one with write permission for {org!r}, "
            f"or offer a pull request with create_pr."
        )
    if status in (409, 412):
        return RuntimeError(
            f"Somebody else changed {repo_id!r} at {place} at the same time; nothing was sent, "
            f"push again."
        )
    if status is not None and 400 <= status < 500 and status not in (408, 429):
        return ValueError(f"{place} refuses what was sent to {repo_id!r}: {told or status}.")
    if isinstance(error, OSError) and status is None and error.errno is not None:
        return error  # about a file of ours, which it names
    reason = str(error).strip().split("\n")[0] or type(error).__name__
    if isinstance(error, OfflineModeIsEnabled) or constants.HF_HUB_OFFLINE:
        return ConnectionError(f"Cannot push to {repo_id!r} at {place}: HF_HUB_OFFLINE is set.")
    return _PassingError(f"Cannot push to {repo_id!r} at {place} ({reason}); push again later.")
