"""`embed`: the features of every clip of many videos, on disk."""

from __future__ import annotations

import csv
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from filelock import FileLock, Timeout

from registry.index import to_json
from zoo.clips import check_views
from zoo.evaluation._embedding_jobs import Embedder, Job, in_processes, in_turn
from zoo.evaluation.feature_files import (
    FORMATS,
    CannotWriteError,
    Finished,
    read_finished,
    writing,
)
from zoo.models._base import VideoModel

__all__ = ["Embedded", "embed"]

_RECIPE, _INDEX, _LOCK = "recipe.json", "index.csv", ".lock"


@dataclass(frozen=True, slots=True, kw_only=True)
class Embedded:
    """What `embed` did.

    Attributes:
        done: Videos whose features were written.
        kept: Videos that had been done before.
        failures: Videos that cannot be read, by name, with the reason.
        index: The table of all clips in the folder.
    """

    done: int
    kept: int
    failures: tuple[tuple[str, str], ...]
    index: Path


def embed(
    model: VideoModel,
    videos: Sequence[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    *,
    num_clips: int | Literal["all"] = "all",
    file_format: Literal["safetensors", "npz"] = "safetensors",
    batch_size: int = 4,
    processes: int = 1,
    progress: Callable[[int, int], object] | None = None,
) -> Embedded:
    """Write the pooled features of every clip of each video.

    Each video has a file of its own (see `FeatureWriter`), complete or not there; `index.csv` has
    a row a clip: video, start and end in seconds, file and row. Called again with the same folder
    and model, it goes on where it was stopped: a video whose file is there, and that has not
    changed, is not done again. Memory holds `batch_size` clips, whatever the videos' length.

    Args:
        model: A model that `zoo.create` made with `num_classes=0`, on the device that is to
            compute; several processes take the GPUs of the machine in turn.
        videos: Video files.
        out: Folder to write to; made if needed.
        num_clips: Clips spread over each video, or "all" for windows over the whole of it.
        file_format: Kind of the files.
        batch_size: Clips that go through the model at once.
        processes: Videos done at the same time. More than one need a main module that can be
            imported, as `multiprocessing` does.
        progress: Called with the videos done and those to do, earlier ones included.

    Returns:
        What was done.

    Raises:
        ValueError: The model has a classifier, the folder holds features of another recipe or is
            in use, or a number is wrong.
        CannotWriteError: The disk is full, or the folder cannot be written.
        RuntimeError: A process was killed.
        KeyboardInterrupt: What was done until then is its text.
    """
    recipe = _recipe(model, num_clips, file_format)
    for name, value in (("batch_size", batch_size), ("processes", processes)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ValueError(f"{name} is a whole number of 1 or more, not {value!r}.")
    folder = Path(out)
    with _locked(folder):
        _keep_recipe(folder, recipe)
        for partial in folder.glob(".*.partial"):
            partial.unlink()  # left by a run that was killed: nobody else writes here
        jobs = [Job.of(path, folder, recipe) for path in _distinct(videos)]
        todo = [job for job in jobs if not job.is_done()]
        kept = len(jobs) - len(todo)
        failures: list[tuple[str, str]] = []
        finished = 0
        embedder = Embedder(model, num_clips, batch_size)
        try:
            outcomes = (
                in_turn(embedder, todo)
                if processes == 1
                else in_processes(embedder, todo, processes)
            )
            with closing(outcomes):
                for job, reason in outcomes:
                    finished += 1
                    if reason:
                        failures.append((job.video, reason))
                    if progress is not None:
                        progress(kept + finished, len(jobs))
        except KeyboardInterrupt:
            done = kept + finished - len(failures)
            raise KeyboardInterrupt(
                f"{done} of {len(jobs)} videos are done; the same command goes on with the rest."
            ) from None
        finally:
            _write_index(folder, recipe)
    return Embedded(
        done=finished - len(failures),
        kept=kept,
        failures=tuple(sorted(failures)),
        index=folder / _INDEX,
    )


def _recipe(model: VideoModel, num_clips: int | Literal["all"], file_format: str) -> dict[str, str]:
    """All that decides what the features are, text by text."""
    config = getattr(model, "record", None)
    if config is None:
        raise ValueError(
            f"This {type(model).__name__} was not made by zoo.create, so its input is not known; "
            f"give what zoo.create returned, not what wraps it."
        )
    if model.num_classes != 0:
        raise ValueError(
            f"{config.name!r} gives logits of {model.num_classes} classes; for features, make it "
            f"with zoo.create(..., num_classes=0) or call model.reset_classifier(0)."
        )
    check_views(num_clips, 1)
    if file_format not in FORMATS:
        raise ValueError(f"file_format is one of {', '.join(FORMATS)}, not {file_format!r}.")
    return {
        "model": config.name,
        "weights_sha256": _digest(model),
        "sampling": json.dumps(to_json(config.sampling)),
        "preprocess": json.dumps(to_json(config.preprocess)),
        "num_clips": str(num_clips),
        "format": file_format,
    }


def _digest(model: VideoModel) -> str:
    """A hash of every tensor of a model with its name, type and shape."""
    found = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        plain = tensor.detach().cpu().contiguous().flatten()
        found.update(plain.view(torch.uint8).numpy().tobytes())
    return found.hexdigest()


def _distinct(videos: Sequence[str | os.PathLike[str]]) -> list[Path]:
    """The videos, each once however it is spelled."""
    return list({Path(video).resolve(): Path(video) for video in videos}.values())


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold a folder, made if needed, so that no second `embed` writes there.

    Raises:
        ValueError: Another process holds it.
        CannotWriteError: It cannot be made or written.
    """
    lock = FileLock(folder / _LOCK)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except Timeout:
        raise ValueError(
            f"Another process writes features into '{folder}'; wait for it, or choose another "
            f"folder."
        ) from None
    except OSError as error:
        raise CannotWriteError(
            f"Cannot write into '{folder}' ({error.strerror}); choose another folder."
        ) from error
    try:
        yield
    finally:
        lock.release()


def _keep_recipe(folder: Path, recipe: dict[str, str]) -> None:
    """Write down how the folder's features are made, or compare with what is written there.

    Raises:
        ValueError: The folder holds features made otherwise.
    """
    path = folder / _RECIPE
    if path.is_file():
        known: Any = json.loads(path.read_text(encoding="utf-8"))
        other = sorted(key for key in recipe if known.get(key) != recipe[key])
        if other:
            raise ValueError(
                f"'{folder}' holds features of {known.get('model')!r} made otherwise "
                f"({', '.join(other)} differ); choose another folder."
            )
        return
    partial = folder / f".{_RECIPE}.partial"
    with writing(path):
        partial.write_text(json.dumps(recipe, indent=1) + "\n", encoding="utf-8")
        partial.replace(path)


def _write_index(folder: Path, recipe: dict[str, str]) -> None:
    """Write the table of every clip of this recipe in the folder, read from its files."""
    partial = folder / f".{_INDEX}.partial"
    with writing(folder / _INDEX):
        with partial.open("w", encoding="utf-8", newline="") as file:
            table = csv.writer(file, lineterminator="\n")
            table.writerow(["video", "start_seconds", "end_seconds", "file", "row"])
            for path in sorted(folder.glob(f"*.{recipe['format']}")):
                found = read_finished(path)
                if found is not None and recipe.items() <= found.about.items():
                    table.writerows(_rows(path, found))
        partial.replace(folder / _INDEX)


def _rows(path: Path, found: Finished) -> Iterator[list[object]]:
    for row, (start, end) in enumerate(found.spans):
        yield [found.about["video"], f"{start:.6f}", f"{end:.6f}", path.name, row]
