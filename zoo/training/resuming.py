"""What a run must remember to go on after a kill as if nothing had happened."""

from __future__ import annotations

import os
import random
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from converters.checkpoint import replacing

__all__ = ["Position", "Sums", "get_rng", "read_state", "seed_rng", "set_rng", "write_state"]


@dataclass(slots=True, kw_only=True)
class Sums:
    """What was added up over clips of every process.

    Attributes:
        loss: Of the clips' losses.
        hits: Clips whose best class is their label.
        clips: Clips.
    """

    loss: float = 0.0
    hits: float = 0.0
    clips: float = 0.0

    def add(self, other: Sums) -> None:
        self.loss += other.loss
        self.hits += other.hits
        self.clips += other.clips

    @property
    def mean_loss(self) -> float:
        return self.loss / self.clips if self.clips else float("nan")

    @property
    def top1(self) -> float:
        """Share of hits, in percent."""
        return 100 * self.hits / self.clips if self.clips else float("nan")


@dataclass(slots=True, kw_only=True)
class Position:
    """Where a run is.

    Attributes:
        epoch: Epochs done.
        epoch_step: Steps of the next epoch that are done.
        step: Steps done in all.
        best: Highest score so far; None before the first validation.
        best_epoch: Epochs done when it was reached.
        epoch_sums: What the steps of this epoch added up.
        log_sums: What the steps since the last line of the log added up.
        failures: Reasons by video id, of the videos that could not be read in this epoch.
        metrics: What the last validation measured.
    """

    epoch: int = 0
    epoch_step: int = 0
    step: int = 0
    best: float | None = None
    best_epoch: int = 0
    epoch_sums: Sums = field(default_factory=Sums)
    log_sums: Sums = field(default_factory=Sums)
    failures: dict[str, str] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Plain data, as the state file holds it."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Position:
        """Inverse of `to_json`."""
        sums = {key: Sums(**data[key]) for key in ("epoch_sums", "log_sums")}
        return cls(**{**data, **sums})


def get_rng(device: torch.device) -> dict[str, Any]:
    """The states of this process's random number generators, as tensors and plain data."""
    kind, keys, *rest = np.random.get_state(legacy=True)  # noqa: NPY002 -- others may use it
    version, words, gauss = random.getstate()
    state: dict[str, Any] = {
        "torch": torch.get_rng_state(),
        "numpy": [kind, torch.from_numpy(np.asarray(keys).astype(np.int64)), *rest],
        "python": [version, torch.tensor(words), gauss],
    }
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    return state


def seed_rng(seed: int) -> None:
    """Begin all of them anew from a seed."""
    torch.manual_seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002
    random.seed(seed)


def set_rng(state: Mapping[str, Any], device: torch.device) -> None:
    """Put back what `get_rng` gave."""
    torch.set_rng_state(state["torch"])
    kind, keys, *rest = state["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), *rest))  # noqa: NPY002
    version, words, gauss = state["python"]
    random.setstate((version, tuple(words.tolist()), gauss))
    if device.type == "cuda" and "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"], device)


def write_state(state: Mapping[str, Any], path: Path) -> None:
    """Replace the state file as a whole: whoever is killed meanwhile leaves the one before.

    Raises:
        OSError: It cannot be written, for instance since the disk is full.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # A file object, so that a full disk is an OSError; torch's own writer raises another.
    with replacing(path) as (part,), part.open("wb") as file:
        try:
            torch.save(dict(state), file)
        except RuntimeError as error:
            cause = error.__context__
            raise cause if isinstance(cause, OSError) else OSError(str(error)) from error
        file.flush()
        os.fsync(file.fileno())


def read_state(path: Path) -> dict[str, Any]:
    """What `write_state` wrote; no code from the file is run.

    Raises:
        ValueError: The file is damaged.
    """
    try:
        found: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, ValueError, LookupError, OSError) as error:
        raise ValueError(
            f"The checkpoint '{path}' is damaged and cannot be resumed from; begin again in "
            f"another folder, from the weights in best/ if there are some."
        ) from error
    return found
