"""The folder of a run: what is in it, and whether a new run or an old one may use it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from converters.checkpoint import replacing
from zoo.datasets.sources import VideoDataset
from zoo.training.recipe import differences
from zoo.training.resuming import read_state

__all__ = ["TrainResult", "data_facts", "find_state", "only_run_in", "write_recipe"]


LOCK_FILE = ".lock"


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainResult:
    """What a finished run left.

    Attributes:
        best: Folder of the best model, for `zoo.create("local-dir:...")`.
        best_epoch: The epoch it is of, counted from 1.
        epochs: Epochs done.
        steps: Steps done.
        metrics: What the last validation measured, in percent; empty without one.
    """

    best: Path
    best_epoch: int
    epochs: int
    steps: int
    metrics: Mapping[str, float]


def data_facts(dataset: VideoDataset) -> dict[str, Any]:
    """What identifies the videos of a run: their names and labels, and not where they lie."""
    rows = [
        (item.video_id, item.label, item.start_seconds, item.end_seconds) for item in dataset.items
    ]
    return {
        "name": dataset.name,
        "split": dataset.split,
        "labels": list(dataset.labels),
        "videos": len(rows),
        "videos_sha256": hashlib.sha256(json.dumps(rows).encode()).hexdigest(),
    }


def find_state(out: Path, facts: Mapping[str, Any], *, resume: bool) -> dict[str, Any] | None:
    """The checkpoint that a run goes on from; None where it begins.

    Args:
        out: The run's folder.
        facts: What identifies the run.
        resume: Whether it may go on from what is there.

    Raises:
        ValueError: The folder holds something and is not to be resumed, the run in it was started
            otherwise, or its checkpoint is damaged.
        NotADirectoryError: It is a file.
    """
    if out.exists() and not out.is_dir():
        raise NotADirectoryError(f"'{out}' is a file; give a folder for the run.")
    path = out / "last" / "state.pt"
    if not resume:
        if out.exists() and any(out.iterdir()):
            raise ValueError(
                f"'{out}' is not empty; give a new folder, or --resume if the run in it is to go "
                f"on."
            )
        return None
    if not path.exists():
        # Killed before its first checkpoint, or never started: a script may always say --resume.
        others = out.exists() and any(item.name != LOCK_FILE for item in out.iterdir())
        if others and not (out / "recipe.json").exists():
            raise ValueError(f"'{out}' holds other things than a run; give the folder of a run.")
        return None
    state = read_state(path)
    found = differences(json.loads(state["facts"]), json.loads(json.dumps(facts)))
    if found:
        raise ValueError(
            f"The run in '{out}' was started otherwise: {'; '.join(found)}; resume it as it was "
            f"started (recipe.json tells), or begin another in a new folder."
        )
    return state


@contextmanager
def only_run_in(out: Path) -> Iterator[None]:
    """Keep other runs out of a folder, as long as this process lives.

    Raises:
        ValueError: Another run is in it.
        OSError: The folder cannot be written.
    """
    out.mkdir(parents=True, exist_ok=True)
    lock = FileLock(out / LOCK_FILE)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise ValueError(
            f"Another run is writing into '{out}'; wait until it has ended, or give a new folder."
        ) from None
    try:
        yield
    finally:
        lock.release()


def write_recipe(out: Path, facts: Mapping[str, Any]) -> None:
    """Write `recipe.json`: what the run was told, and by which version.

    Raises:
        OSError: It cannot be written.
    """
    out.mkdir(parents=True, exist_ok=True)
    content = {"videozoo": version("videozoo"), **facts}
    with replacing(out / "recipe.json") as (part,):
        part.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
