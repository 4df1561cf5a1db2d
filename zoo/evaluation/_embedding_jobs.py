"""The work of `embed`: one video, one file; in this process or in several."""

from __future__ import annotations

import copy
import hashlib
import multiprocessing
import os
import re
import signal
import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from itertools import islice
from multiprocessing.connection import wait
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from zoo.clips import iter_clips
from zoo.evaluation.feature_files import CannotWriteError, FeatureWriter, read_finished
from zoo.models._base import VideoModel
from zoo.sampling import clip_indices
from zoo.video import Video

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Embedder", "Job", "in_processes", "in_turn"]


@dataclass(frozen=True, slots=True)
class Job:
    """One video and the file for its features.

    Attributes:
        video: Its path, as the user wrote it.
        target: The file.
        about: What the file says of itself when it is complete.
    """

    video: str
    target: Path
    about: dict[str, str]

    @classmethod
    def of(cls, path: Path, folder: Path, recipe: dict[str, str]) -> Job:
        """The job for a video; a file that is not there is found out when it is opened."""
        place = path.resolve()
        mark = hashlib.sha256(str(place).encode()).hexdigest()[:8]
        stem = re.sub(r"[^\w.-]", "_", path.stem)[:80]
        about = {**recipe, "video": str(path), "state": ""}
        if place.is_file():
            found = place.stat()
            about["state"] = f"{found.st_size} bytes of {found.st_mtime_ns}"
        return cls(str(path), folder / f"{stem}-{mark}.{recipe['format']}", about)

    def is_done(self) -> bool:
        """Whether the features are there, of this recipe and of the video as it is now."""
        found = read_finished(self.target) if self.target.is_file() else None
        same = self.about.keys() - {"video"}
        return found is not None and all(found.about.get(k) == self.about[k] for k in same)


class Embedder:
    """Turns one video after the other into a file.

    Args:
        model: Gives pooled features.
        num_clips: Clips of each video, or "all".
        batch_size: Clips at once.
    """

    def __init__(self, model: VideoModel, num_clips: int | Literal["all"], batch_size: int) -> None:
        self.model, self._num_clips, self._batch_size = model, num_clips, batch_size

    def __call__(self, job: Job, stopped: Callable[[], bool] = lambda: False) -> str:
        """Write the features of a video.

        Args:
            job: The video and its file.
            stopped: Asked before each batch whether to give up.

        Returns:
            Why the video cannot be read, or an empty text.

        Raises:
            CannotWriteError: The file cannot be written.
        """
        try:
            with Video(job.video) as video:
                spans = list(self._spans(video))
                with FeatureWriter(job.target, spans, job.about) as writer:
                    for features in self._features(video):
                        if stopped():
                            return "interrupted"
                        writer.add(features)
                    writer.finish()
        except CannotWriteError:
            raise
        except Exception as error:  # noqa: BLE001 -- the other videos go on
            return " ".join(str(error).split()) or type(error).__name__
        return ""

    def _spans(self, video: Video) -> Iterator[tuple[float, float]]:
        """When each clip's first frame begins and its last one ends, seconds."""
        assert self.model.record is not None
        ends = [*video.times[1:], video.duration]
        for clip in clip_indices(self.model.record.sampling, video.times, self._num_clips):
            yield video.times[clip[0]], ends[clip[-1]]

    def _features(self, video: Video) -> Iterator[NDArray[np.float32]]:
        """Features of clips in their order, (n, D) at a time."""
        parameter = next(self.model.parameters())
        clips = iter_clips(video, self.model, num_clips=self._num_clips)
        while batch := list(islice(clips, self._batch_size)):
            with torch.inference_mode():
                features: Tensor = self.model(
                    torch.cat(batch).to(parameter.device, parameter.dtype)
                ).float()
            if not features.isfinite().all():
                raise ValueError(
                    f"The model's features of '{video.path}' are not finite; its weights are "
                    f"damaged, or its precision is too low for this input."
                )
            yield features.cpu().numpy()


def in_turn(embedder: Embedder, jobs: Iterable[Job]) -> Generator[tuple[Job, str], None, None]:
    """Do the jobs in this process; gives each with the reason why it failed, if it did."""
    training = [module for module in embedder.model.modules() if module.training]
    embedder.model.eval()
    try:
        for job in jobs:
            yield job, embedder(job)
    finally:
        for module in training:
            module.training = True


def in_processes(
    embedder: Embedder, jobs: Sequence[Job], processes: int
) -> Generator[tuple[Job, str], None, None]:
    """Do the jobs in processes of their own, whichever is free taking the next."""
    context = multiprocessing.get_context("spawn")
    device = next(embedder.model.parameters()).device
    # Tensors on a GPU cannot be handed to another process safely; each moves its own copy there.
    plain = copy.copy(embedder)
    plain.model = copy.deepcopy(embedder.model).cpu().eval()
    devices: Queue[str] = context.Queue()
    for number in range(processes):
        gpu = device.type == "cuda"
        devices.put(f"cuda:{number % torch.cuda.device_count()}" if gpu else str(device))
    stop = context.Event()
    with ProcessPoolExecutor(processes, context, _begin, (plain, devices, stop, processes)) as pool:
        futures = {pool.submit(_do, job): job for job in jobs}
        try:
            for future in as_completed(futures):
                yield futures[future], future.result()
        except BrokenProcessPool as error:
            raise RuntimeError(
                "A process that embedded videos was killed, perhaps because memory ran out; what "
                "is done is kept, run the same again with fewer processes or a smaller batch."
            ) from error
        finally:
            stop.set()
            pool.shutdown(cancel_futures=True)


_ours: tuple[Embedder, Event] | None = None
"""What a process of `in_processes` works with."""


def _begin(embedder: Embedder, devices: Queue[str], stop: Event, processes: int) -> None:
    """Prepare a process for its jobs."""
    global _ours
    # Ctrl-C reaches every process of a terminal; the first one tells the others what to do.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(max(1, (os.cpu_count() or 1) // processes))
    embedder.model.to(devices.get())
    _ours = embedder, stop


def _end_with_parent() -> None:
    """End this process when the one that started it is gone, even if it was killed."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)


def _do(job: Job) -> str:
    assert _ours is not None
    embedder, stop = _ours
    return embedder(job, stop.is_set)
