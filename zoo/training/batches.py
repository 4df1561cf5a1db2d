"""Which clips each process sees at each step: a function of seed, epoch and number of processes."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader

from zoo.clip_dataset import Batch, ClipDataset, Sample, collate

__all__ = ["batch_loader", "plan_epoch", "steps_per_epoch"]


def steps_per_epoch(count: int, step_size: int) -> int:
    """Steps in which `count` clips are seen, up to `step_size` a step."""
    return -(-count // step_size)


def plan_epoch(
    count: int, *, seed: int, epoch: int, batch_size: int, accumulate: int, processes: int
) -> list[list[list[list[int]]]]:
    """Deal the clips of an epoch out, each one exactly once.

    The steps of an epoch are of one size, give or take a clip: what is left over makes all of
    them a little smaller, and no last batch of a single clip (whose BatchNorm would be useless).
    A step holds the same clips however many processes and batches it is split into.

    Args:
        count: Clips of the data set.
        seed: Seed of the run.
        epoch: Epochs done before.
        batch_size: Clips at most in a batch of one process.
        accumulate: Batches at most of one process in a step.
        processes: Processes.

    Returns:
        For each step its batches, for each batch the indices of each process; some may be empty.
    """
    order = np.random.default_rng((seed, epoch)).permutation(count)
    together = batch_size * processes
    plan = []
    for step in np.array_split(order, steps_per_epoch(count, together * accumulate)):
        batches = np.array_split(step, steps_per_epoch(len(step), together))
        plan.append(
            [[batch[rank::processes].tolist() for rank in range(processes)] for batch in batches]
        )
    return plan


def batch_loader(
    dataset: ClipDataset, batches: Sequence[Sequence[int]], *, workers: int
) -> DataLoader[Batch | None]:
    """Decode batches in order; one without indices is None.

    Args:
        dataset: The clips, its epoch set.
        batches: Indices of each batch.
        workers: Processes that decode; 0 for this one.
    """
    loader: DataLoader[Any] = DataLoader(
        dataset,
        batch_sampler=[list(batch) for batch in batches],
        num_workers=workers,
        collate_fn=_collate,
        worker_init_fn=_leave_interrupts,
        # Without one of its own, a loader draws from the generator that dropout uses, so that a
        # resumed run would go another way.
        generator=torch.Generator(),
    )
    return loader


def _collate(samples: list[Sample]) -> Batch | None:
    return collate(samples) if samples else None


def _leave_interrupts(_: int) -> None:
    """Ctrl-C reaches all processes of a terminal; the main one ends its workers in good order."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # the main one's handler would ignore it here
