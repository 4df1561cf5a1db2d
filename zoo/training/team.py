"""The processes of a run, and how they stay in step when one of them fails."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

import torch
from accelerate import Accelerator, DistributedType
from accelerate.utils import gather_object
from torch import Tensor

from zoo.training.stopping import ToldElsewhereError, TrainingStoppedError

__all__ = ["Team", "leave"]

Thing = TypeVar("Thing")


def leave() -> None:
    """Part from the other processes; without it, torch warns at the end of the program."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


class Team:
    """What the processes of a run do together; each method is called by all of them.

    Args:
        cpu: Whether to stay on the processor where there is an accelerator.

    Raises:
        ValueError: The launcher asks for a way to share the work that is not ours.

    Attributes:
        accelerator: Device and processes, as `torchrun` or `accelerate launch` started them.
        rank: Number of this process, from 0; that one is the main process.
        size: How many there are.
    """

    def __init__(self, *, cpu: bool) -> None:
        # Precision is the recipe's: a launcher's default must not change what a run computes.
        # Told nothing, accelerate takes processes without an accelerator for strangers.
        cpu = cpu or not torch.accelerator.is_available()
        self.accelerator = Accelerator(cpu=cpu, mixed_precision="no")
        kind = self.accelerator.distributed_type
        if kind in (DistributedType.FSDP, DistributedType.DEEPSPEED, DistributedType.MEGATRON_LM):
            raise ValueError(
                f"The launcher asks for {kind.value}, which splits a model over processes; here "
                f"each process holds the whole model: start them with torchrun, or with "
                f"accelerate's --multi_gpu."
            )
        self.rank, self.size = self.accelerator.process_index, self.accelerator.num_processes
        assert self.size == int(os.environ.get("WORLD_SIZE", "1")), "the launcher started more"

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    @property
    def device(self) -> torch.device:
        return self.accelerator.device

    def sum(self, values: Sequence[float]) -> list[float]:
        """Sums over the processes, one for each value."""
        if self.size == 1:
            return list(values)
        tensor = torch.tensor(values, dtype=torch.float64, device=self.device)
        torch.distributed.all_reduce(tensor)
        return tensor.tolist()

    def gather(self, thing: Thing) -> list[Thing]:
        """What every process gives, in the order of their numbers."""
        return gather_object([thing]) if self.size > 1 else [thing]

    def copy_from_main(self, tensors: Iterable[Tensor]) -> None:
        """Overwrite tensors by the main process's."""
        if self.size > 1:
            for tensor in tensors:
                torch.distributed.broadcast(tensor, src=0)

    def agree(self, error: Exception | None) -> None:
        """End all processes if one has an error; the main one says what it is.

        Raises:
            TrainingStoppedError: Another process has an error; this is the main one.
            ToldElsewhereError: Some process has an error; this is not the main one.
        """
        found = self.gather(str(error) if error is not None else None)
        if not any(text is not None for text in found):
            return
        if not self.is_main:
            raise ToldElsewhereError("Training ended; the main process says why.") from error
        if error is not None:
            raise error
        raise TrainingStoppedError(next(text for text in found if text is not None))

    @contextmanager
    def together(self) -> Iterator[None]:
        """End all processes if one fails inside, where none may wait for another."""
        error = None
        try:
            yield
        except Exception as caught:  # noqa: BLE001 -- raised again, on all processes
            error = caught
        self.agree(error)
