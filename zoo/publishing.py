"""Models into Hub repositories: one with `push`, the whole zoo with `publish`."""

from __future__ import annotations

import gc
import json
import logging
import re
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, TypeAlias

import torch
from torch import Tensor

import registry
from converters.hub_cards import repository_card
from converters.hub_upload import (
    File,
    Push,
    check_target,
    check_token,
    plan_push,
    push_files,
    read_header,
    remote_weights,
)
from converters.sharding import INDEX_FILE, WEIGHTS_FILE, is_weights_file
from registry.names import LIFTING, parse_name
from registry.records import Weights
from zoo.config import ModelConfig
from zoo.factory import create, record_config
from zoo.folder import (
    CARD_FILE,
    CONFIG_FILE,
    config_text,
    contents_of,
    state_to_save,
    write_folder,
)
from zoo.models._base import VideoModel
from zoo.pretrained import record_digest
from zoo.stored import read_folder

__all__ = [
    "Published",
    "Status",
    "iter_published",
    "names_to_publish",
    "publish",
    "push",
    "record_state",
]

logger = logging.getLogger(__name__)

Status: TypeAlias = Literal["published", "card renewed", "already there", "to publish", "failed"]

_MAX_SHARD_SIZE = "5GB"


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """What became of one set of weights.

    Attributes:
        name: `name.tag`.
        repo_id: Its repository.
        status: What happened.
        detail: The commit's page, or the reason of a failure.
    """

    name: str
    repo_id: str
    status: Status
    detail: str = ""


def push(
    model: VideoModel | str | Path,
    repo_id: str,
    *,
    private: bool = False,
    revision: str | None = None,
    create_pr: bool = False,
    dry_run: bool | str | Path = False,
) -> Push:
    """Put a model into a Hub repository, in one commit; nothing is sent of what is there already.

    Args:
        model: A model that `zoo.create` made; or a folder that `zoo.save` wrote; or a name that
            `zoo.create` takes, whose weights are fetched and converted first.
        repo_id: `org/name`; made if there is no such repository.
        private: Whether a new repository is seen by its owners only.
        revision: Branch to commit to, made if there is none; the main one if left out.
        create_pr: Offer the commit as a pull request.
        dry_run: Send nothing; write what would be sent into this folder, or for True into one
            called after the repository, here. A folder that is pushed is not written again.

    Returns:
        What was, or would be, sent; its `changes` is False where everything was there already.

    Raises:
        ValueError: `repo_id` names no repository, the model has no record, or the Hub refuses it.
        LookupError: Unknown name, or one without weights.
        PermissionError: There is no token, or it may not write there.
        ConnectionError: The weights cannot be fetched, or the Hub cannot be reached.
        RuntimeError: Somebody else changed the repository at the same time.
    """
    check_target(repo_id, revision)
    title = repo_id.partition("/")[2]
    if not dry_run:
        # What can be refused is refused before gigabytes are fetched and converted.
        check_token(repo_id)
        plan_push({}, repo_id, private=private, revision=revision)
    with tempfile.TemporaryDirectory(prefix="videozoo-") as temporary:
        folder = _folder_named(model)
        if folder is not None:
            files, name = _files_of_folder(folder, repo_id)
        else:
            folder = Path(temporary) / title
            if dry_run:
                folder = Path(title) if dry_run is True else Path(dry_run)
                _check_is_ours(folder)
            assert not isinstance(model, Path)
            name = _write(model, folder, repo_id)
            files = _files(folder)
        if dry_run:
            plan = _plan(files, repo_id, private=private, revision=revision)
            return replace(plan, folder=str(folder))
        return push_files(
            files,
            repo_id,
            private=private,
            revision=revision,
            create_pr=create_pr,
            message=f"{name}, by videozoo",
        )


def _check_is_ours(folder: Path) -> None:
    """Refuse to write a README.md into a folder that holds something else."""
    if folder.is_dir() and any(folder.iterdir()) and not (folder / CONFIG_FILE).is_file():
        raise FileExistsError(
            f"'{folder}' holds other things than a model; go where there is no such folder, or "
            f"remove it."
        )


def _folder_named(model: VideoModel | str | Path) -> Path | None:
    """The folder that is to be pushed; None for a model and for the name of one."""
    if isinstance(model, str):
        if model.startswith("local-dir:"):
            return Path(model.partition(":")[2])
        looks_like_one = "/" in model and ":" not in model
        return Path(model) if looks_like_one or (Path(model) / CONFIG_FILE).is_file() else None
    return model if isinstance(model, Path) else None


def _plan(files: dict[str, File], repo_id: str, *, private: bool, revision: str | None) -> Push:
    """What would be sent; all of it, where the Hub cannot be asked."""
    try:
        return plan_push(files, repo_id, private=private, revision=revision)
    except ConnectionError as error:
        logger.warning("Not compared with what is there: %s", error)
    sent = {name: file.stat().st_size for name, file in files.items() if isinstance(file, Path)}
    return Push(
        repo_id=repo_id,
        revision=revision,
        sent=sent,
        removed=(),
        kept=(),
        parent=None,
        is_new=False,
        is_new_branch=False,
    )


def _write(model: VideoModel | str, folder: Path, repo_id: str) -> str:
    """Write the folder that is to be pushed, and tell the model's name."""
    digest, unchanged = "", False
    if isinstance(model, str):
        parsed = parse_name(model)
        if parsed.scheme:
            made = create(model, pretrained=parsed.scheme in LIFTING)
            state, config = state_to_save(made)
        else:
            entry = registry.load(parsed.target)
            weights = registry.find_weights(entry.architecture, parsed.tag)
            # Not from the user's own hub, where this may be going.
            state, config = record_state(entry, weights, hub="")
            digest, unchanged = record_digest(parsed.target, weights), True
    else:
        state, config = state_to_save(model)
    write_folder(
        folder,
        state,
        config,
        card=_card(config, repo_id, unchanged=unchanged),
        digest=digest,
        max_shard_size=_MAX_SHARD_SIZE,
    )
    return config.name


def _card(config: ModelConfig, repo_id: str, *, unchanged: bool) -> str:
    contents = contents_of(config, unchanged=unchanged)
    return repository_card(contents, title=repo_id.partition("/")[2], name=f"hf-hub:{repo_id}")


def record_state(
    entry: registry.Entry, weights: Weights, *, hub: str | Path | None
) -> tuple[dict[str, Tensor], ModelConfig]:
    """The tensors of a record, and the config that builds a model of them and no others.

    Layers that a source does not bring are drawn with one seed, so that they are the same for
    everyone, and each time.

    Args:
        entry: The model.
        weights: One of its records.
        hub: Where they are looked for first, as for `create`.
    """
    config = record_config(entry, weights)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = create(config.name, pretrained=True, num_classes=weights.num_classes, hub=hub)
    assert model.record == config
    return state_to_save(model)


def _files(folder: Path) -> dict[str, File]:
    """The files of a model's folder by name; others that lie there are not sent."""
    names = [WEIGHTS_FILE]
    if (folder / INDEX_FILE).is_file():
        index = json.loads((folder / INDEX_FILE).read_text(encoding="utf-8"))
        names = [INDEX_FILE, *sorted(set(index["weight_map"].values()))]
    return {name: folder / name for name in (*names, CONFIG_FILE, CARD_FILE)}


def _files_of_folder(folder: Path, repo_id: str) -> tuple[dict[str, File], str]:
    """The files of a folder that `save` wrote, once they are found good, and the model's name.

    A card as `save`, `mirror` or a dry run wrote it is made anew for the repository; one written
    by hand is sent as it is.
    """
    config, state = read_folder(folder)
    del state
    files, path = _files(folder), folder / CARD_FILE
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    title = next((line[2:] for line in text.splitlines() if line.startswith("# ")), "")
    named = re.search(r'zoo\.create\("([^"]+)"\)', text)
    for unchanged in (False, True):
        contents = contents_of(config, unchanged=unchanged)
        name = named[1] if named else ""
        if not text or text == repository_card(contents, title=title, name=name):
            files[CARD_FILE] = _card(config, repo_id, unchanged=unchanged).encode()
            break
    return files, config.name


def publish(
    org: str,
    pattern: str | Sequence[str] = "",
    *,
    private: bool = False,
    dry_run: bool = False,
) -> list[Published]:
    """Put every set of weights of the zoo into `ORG/NAME.TAG`, one after the other.

    What is there with the same digest is not fetched again, so that a run that was cut short goes
    on where it stopped; only its card and config are renewed where the record has changed. A
    failure is told, and the next one follows.

    Args:
        org: Organisation or user on the Hub.
        pattern: Pattern or patterns of names, as for `zoo.list_pretrained`.
        private: Whether new repositories are seen by their owners only.
        dry_run: Fetch and send nothing; only say what would be done.

    Returns:
        What became of each.

    Raises:
        LookupError: No weights are called like this.
        ValueError: `org` is no name of an organisation.
        PermissionError: There is no token.
    """
    return list(iter_published(org, pattern, private=private, dry_run=dry_run))


def iter_published(
    org: str, pattern: str | Sequence[str], *, private: bool, dry_run: bool
) -> Iterator[Published]:
    """The same as `publish`, one by one as they are done."""
    names = names_to_publish(org, pattern)
    if not dry_run:
        check_token(org)
    refused = ""
    for full in names:
        repo_id = f"{org}/{full}"
        if refused:
            yield Published(name=full, repo_id=repo_id, status="failed", detail=refused)
            continue
        try:
            status, url = _publish_one(full, repo_id, private=private, dry_run=dry_run)
        except (LookupError, OSError, RuntimeError, ValueError, MemoryError) as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            # A token that is refused once is refused for all of them.
            refused = reason if isinstance(error, PermissionError) else ""
            yield Published(name=full, repo_id=repo_id, status="failed", detail=reason)
        else:
            yield Published(name=full, repo_id=repo_id, status=status, detail=url)
        gc.collect()  # a module's parts know one another; its gigabytes shall not wait


def names_to_publish(org: str, pattern: str | Sequence[str]) -> list[str]:
    """Every `name.tag` that `publish` takes.

    Raises:
        LookupError: No weights are called like this.
        ValueError: `org` is no name of an organisation.
    """
    check_target(f"{org}/name", None)
    names = registry.list_pretrained(pattern)
    if not names:
        raise LookupError(f"No weights are called like {pattern!r}; see `zoo list --pretrained`.")
    return names


def _publish_one(full: str, repo_id: str, *, private: bool, dry_run: bool) -> tuple[Status, str]:
    name, _, tag = full.partition(".")
    entry = registry.load(name)
    weights = registry.find_weights(entry.architecture, tag)
    there = remote_weights(repo_id)
    if not _is_there(repo_id, there, record_digest(name, weights)):
        if dry_run:
            return "to publish", ""
        return "published", push(full, repo_id, private=private).url
    config = record_config(entry, weights)
    files: dict[str, File] = {
        **dict.fromkeys(there),
        CONFIG_FILE: config_text(config).encode(),
        CARD_FILE: _card(config, repo_id, unchanged=True).encode(),
    }
    message = f"{full}, card and config, by videozoo"
    if dry_run:
        plan = plan_push(files, repo_id, private=private, revision=None)
        return ("to publish" if plan.changes else "already there"), ""
    done = push_files(
        files, repo_id, private=private, revision=None, create_pr=False, message=message
    )
    return ("card renewed" if done.changes else "already there"), done.url


def _is_there(repo_id: str, names: Sequence[str], digest: str) -> bool:
    """Whether a repository has the tensors of a record, as the header of its weights says."""
    shards = [name for name in names if is_weights_file(name) and name != INDEX_FILE]
    if not shards or (len(shards) > 1 and INDEX_FILE not in names):
        return False
    return read_header(repo_id, shards[0]).get("digest") == digest
