"""The views of a data set as batches of bounded size, shared out to processes and workers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.data import IterableDataset, get_worker_info

from zoo.clip_dataset import ClipDataset, UnreadableVideoError

__all__ = ["ViewBatch", "ViewStream"]


class ViewBatch(NamedTuple):
    """Some views, and what went wrong while they were made.

    Attributes:
        clips: Views, float (n, C, T, H, W); (0,) where there is none.
        owners: For each view the index of its video.
        failures: Index of each video that cannot be read, with the reason; views of it may have
            come already, and count for nothing.
    """

    clips: Tensor
    owners: list[int]
    failures: list[tuple[int, str]]


class ViewStream(IterableDataset[ViewBatch]):
    """This process's share of a data set's views.

    Videos are put together into blocks that do not depend on how many processes there are, and a
    process takes whole blocks. A view then stands in the same batch whoever computes it, so that
    its logits are the same to the last bit, and so are the figures made of them.

    Args:
        clips: The data set, for evaluation.
        num_views: Views of each video.
        batch_size: Views in a batch. A video with more goes through in several.
        part: Which process this is, from 0.
        parts: How many there are.
    """

    def __init__(
        self, clips: ClipDataset, *, num_views: int, batch_size: int, part: int, parts: int
    ) -> None:
        self._clips, self._batch_size = clips, batch_size
        videos = max(1, batch_size // num_views)
        starts = range(0, len(clips), videos)
        self._blocks = [range(start, min(start + videos, len(clips))) for start in starts]
        self._part, self._parts = part, parts

    @property
    def indices(self) -> list[int]:
        """The videos of this process."""
        return [index for block in self._blocks[self._part :: self._parts] for index in block]

    def __iter__(self) -> Iterator[ViewBatch]:
        own = self._blocks[self._part :: self._parts]
        worker = get_worker_info()
        if worker is not None:
            own = own[worker.id :: worker.num_workers]
        for block in own:
            yield from self._batches(block)

    def _batches(self, block: range) -> Iterator[ViewBatch]:
        views: list[Tensor] = []
        owners: list[int] = []
        failures: list[tuple[int, str]] = []
        for index in block:
            try:
                for clip in self._clips.views(index):
                    for view in clip:
                        views.append(view)
                        owners.append(index)
                        if len(views) == self._batch_size:
                            yield ViewBatch(torch.stack(views), owners, [])
                            views, owners = [], []
            except UnreadableVideoError as error:
                failures.append((index, " ".join(str(error).split())))
        if views or failures:
            yield ViewBatch(torch.stack(views) if views else torch.empty(0), owners, failures)
