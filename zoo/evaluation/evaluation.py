"""`evaluate`: how often a model names the videos of a data set rightly."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Literal, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.utils.data import DataLoader

from zoo.clip_dataset import ClipDataset
from zoo.clips import check_views
from zoo.config import ModelConfig
from zoo.datasets.sources import VideoDataset
from zoo.evaluation.results import (
    EvaluationReport,
    Protocol,
    VideoResult,
    in_order,
    score_video,
)
from zoo.evaluation.views import ViewBatch, ViewStream
from zoo.models._base import VideoModel
from zoo.prediction import check_request

__all__ = ["OnError", "evaluate"]

OnError = Literal["skip", "raise"]
Part = TypeVar("Part")


def evaluate(
    model: VideoModel,
    data: VideoDataset,
    *,
    num_clips: int | None = None,
    num_crops: int | None = None,
    batch_size: int = 8,
    workers: int = 0,
    bf16: bool = False,
    on_error: OnError = "skip",
    name: str = "",
    progress: Callable[[int, int], object] | None = None,
) -> EvaluationReport:
    """Measure clip-level and video-level accuracy.

    Where torch.distributed is initialised, every process must call this; each evaluates its share
    and all return the same report, which equals that of a single process. Views go through the
    model in batches, so memory does not grow with a video's length or with its number of views.

    Args:
        model: A model that `zoo.create` made, on the device that is to compute.
        data: Videos with labels, whose class names the model knows; a model without names takes
            the data's in index order.
        num_clips: Clips a video; what the model's record was tested with if left out.
        num_crops: Crops a clip, likewise.
        batch_size: Views that go through the model at once.
        workers: Processes that decode beside each process that computes.
        bf16: Whether to compute in bfloat16 where torch's autocast does.
        on_error: Whether a missing or broken video is named in the report, or ends the evaluation.
        name: What the report calls the model; else its record's name, which is that of the weights
            that its training began with.
        progress: Called with the videos that this process has done and those it has to do.

    Returns:
        The report.

    Raises:
        ValueError: The labels do not fit the model, a video is broken and `on_error` is "raise",
            no video can be read, or outputs are not finite.
        KeyboardInterrupt: What was done until then is its text.
    """
    check_request(model, None)
    config = model.record
    assert config is not None
    _check_choices(batch_size, workers, on_error)
    clips = config.sampling.num_clips if num_clips is None else num_clips
    crops = config.sampling.num_crops if num_crops is None else num_crops
    check_views(clips, crops)
    data = _in_classes_of(model, config, data)
    failures = [(item.video_id, f"there is no file {item.path}") for item in data.missing]
    if failures and on_error == "raise":
        raise ValueError(
            f"{len(failures)} of {len(failures) + len(data)} videos are missing, first "
            f"{failures[0][0]!r}: {failures[0][1]}; find them, or leave them out with "
            f'on_error="skip".'
        )
    part, parts = (dist.get_rank(), dist.get_world_size()) if _distributed() else (0, 1)
    _check_same_videos(data)
    stream = ViewStream(
        ClipDataset(data, config, train=False, num_clips=clips, num_crops=crops),
        num_views=clips * crops,
        batch_size=batch_size,
        part=part,
        parts=parts,
    )
    run = _Run(model, config, data, num_views=clips * crops, bf16=bf16, on_error=on_error)
    run.through(stream, workers=workers, progress=progress)
    own = run.results, run.failures
    results = in_order(result for part in _gathered(own) for result in part[0])
    broken = sorted(item for part in _gathered(own) for item in part[1])
    counted = sorted([result.index for result in results] + [index for index, _ in broken])
    assert counted == list(range(len(data))), "a video was lost or counted twice"
    failures += [(data.items[index].video_id, reason) for index, reason in broken]
    if not results:
        name, reason = failures[0]
        raise ValueError(
            f"None of the {len(failures)} videos of {data.name!r} could be evaluated; the first, "
            f"{name!r}: {reason}"
        )
    protocol = Protocol(
        model=name or config.name,
        dataset=data.name,
        split=data.split,
        num_clips=clips,
        num_crops=crops,
        sampling=config.sampling,
        preprocess=config.preprocess,
        bf16=bf16,
    )
    return EvaluationReport(
        protocol=protocol, labels=data.labels, results=results, failures=tuple(failures)
    )


class _Run:
    """One process's part of an evaluation.

    Args:
        model: The model.
        config: Its record.
        data: The videos, labelled by the model's classes.
        num_views: Views of each video.
        bf16: Whether to compute in bfloat16.
        on_error: Whether a broken video ends the evaluation.
    """

    def __init__(
        self,
        model: VideoModel,
        config: ModelConfig,
        data: VideoDataset,
        *,
        num_views: int,
        bf16: bool,
        on_error: OnError,
    ) -> None:
        self._model, self._config, self._data = model, config, data
        self._num_views, self._bf16, self._on_error = num_views, bf16, on_error
        self._waiting: dict[int, list[Tensor]] = {}
        self.results: list[VideoResult] = []
        self.failures: list[tuple[int, str]] = []

    def through(
        self, stream: ViewStream, *, workers: int, progress: Callable[[int, int], object] | None
    ) -> None:
        """Evaluate the videos of a stream."""
        parameter = next(self._model.parameters())
        total = len(stream.indices)
        loader: DataLoader[ViewBatch] = DataLoader(
            stream,
            batch_size=None,
            num_workers=workers,
            pin_memory=parameter.device.type == "cuda",
        )
        try:
            with _evaluation_mode(self._model), torch.inference_mode():
                for batch in loader:
                    self._take(batch, parameter)
                    if progress is not None:
                        progress(len(self.results) + len(self.failures), total)
        except KeyboardInterrupt:
            right = sum(result.place == 0 for result in self.results)
            done = len(self.results) + len(self.failures)
            raise KeyboardInterrupt(
                f"{done} of {total} videos were done, of which {right} were named rightly and "
                f"{len(self.failures)} cannot be read."
            ) from None
        assert not self._waiting

    def _take(self, batch: ViewBatch, parameter: nn.Parameter) -> None:
        """Score the videos that this batch completes."""
        if batch.owners:
            device = parameter.device
            with torch.autocast(device.type, torch.bfloat16, enabled=self._bf16):
                clips = batch.clips.to(device, parameter.dtype, non_blocking=True)
                logits = self._model(clips).double().cpu()  # (n, K)
            for owner, row in zip(batch.owners, logits, strict=True):
                self._waiting.setdefault(owner, []).append(row)
        for index, reason in batch.failures:
            self._waiting.pop(index, None)
            self.failures.append((index, reason))
            if self._on_error == "raise":
                name = self._data.items[index].video_id
                raise ValueError(
                    f"The video {name!r} cannot be evaluated: {reason} Mend it, or leave out "
                    f'broken videos with on_error="skip".'
                )
        for index in dict.fromkeys(batch.owners):
            if len(self._waiting.get(index, ())) == self._num_views:
                self._score(index, torch.stack(self._waiting.pop(index)))

    def _score(self, index: int, logits: Tensor) -> None:
        item = self._data.items[index]
        if not logits.isfinite().all():
            raise ValueError(
                f"The model's outputs for the video {item.video_id!r} are not finite; its weights "
                f"are damaged, or its precision is too low for this input."
            )
        self.results.append(
            score_video(
                logits,
                index=index,
                video_id=item.video_id,
                label=item.label,
                average=self._config.sampling.average,
            )
        )


def _in_classes_of(model: VideoModel, config: ModelConfig, data: VideoDataset) -> VideoDataset:
    """The data with its labels counted as the model counts them."""
    if not data.items:
        raise ValueError(f"The data set {data.name!r} holds no video that could be evaluated.")
    nameless = next((item.video_id for item in data.items if item.label < 0), None)
    if nameless is not None:
        raise ValueError(
            f"The video {nameless!r} of {data.name!r} has no label, so nothing can be right or "
            f"wrong of it; evaluation needs labelled videos."
        )
    if config.labels is not None:
        return _spelled_as(config.labels, data).with_labels(config.labels)
    if len(data.labels) != model.num_classes:
        raise ValueError(
            f"{config.name!r} has {model.num_classes} classes without names and {data.name!r} "
            f"{len(data.labels)}; say what the model's are called with "
            f"zoo.create(..., labels=[...])."
        )
    return data


def _spelled_as(labels: Sequence[str], data: VideoDataset) -> VideoDataset:
    """The data with class names spelled as the model does: 'brush_hair' becomes 'brush hair'.

    Only case, blanks and punctuation may differ, and only where that tells every class apart.
    """
    spellings = {_letters(name): name for name in labels}
    names = tuple(spellings.get(_letters(name), name) for name in data.labels)
    if len(spellings) < len(labels) or len(set(names)) < len(names):
        return data
    return replace(data, labels=names)


def _letters(name: str) -> str:
    return "".join(letter for letter in name.casefold() if letter.isalnum())


def _check_choices(batch_size: int, workers: int, on_error: str) -> None:
    if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
        raise ValueError(f"batch_size is a whole number of 1 or more, not {batch_size!r}.")
    if isinstance(workers, bool) or not isinstance(workers, int) or workers < 0:
        raise ValueError(f"workers is a whole number of 0 or more, not {workers!r}.")
    if on_error not in ("skip", "raise"):
        raise ValueError(f"on_error is 'skip' or 'raise', not {on_error!r}.")


@contextmanager
def _evaluation_mode(model: VideoModel) -> Iterator[None]:
    """Evaluate, then put back each module's own mode: a frozen BatchNorm stays frozen."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


def _distributed() -> bool:
    return dist.is_available() and dist.is_initialized()


def _gathered(part: Part) -> list[Part]:
    """What every process holds, in their order, on every process."""
    if not _distributed():
        return [part]
    parts: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(parts, part)
    return parts


def _check_same_videos(data: VideoDataset) -> None:
    """Refuse processes that see different files, as machines with disks of their own may.

    Raises:
        ValueError: The lists of videos differ.
    """
    names = "\n".join(f"{item.video_id}\t{item.label}" for item in data.items)
    seen = _gathered((len(data.items), hashlib.sha256(names.encode()).hexdigest()))
    if len(set(seen)) > 1:
        counts = ", ".join(str(count) for count, _ in seen)
        raise ValueError(
            f"The processes see different videos of {data.name!r} ({counts} of them); give every "
            f"machine the same files."
        )
