"""One step of the optimiser over all processes, and what may go wrong in it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from zoo.augmentation import seed_of
from zoo.clip_dataset import Batch
from zoo.models._base import VideoModel
from zoo.training.optimisers import train_mode
from zoo.training.recipe import RunRecipe
from zoo.training.resuming import Sums
from zoo.training.stopping import TrainingStoppedError
from zoo.training.team import Team

__all__ = ["Prepare", "Step", "Stepper"]

Prepare = Callable[[Tensor, Tensor, Tensor, int], tuple[Tensor, ...]]

NAMED = 8
"""Videos that a message names before it counts the others."""


@dataclass(slots=True, kw_only=True)
class Step:
    """What a step did.

    Attributes:
        sums: Over the clips of all processes.
        grad_norm: Norm of all gradients together, before clipping.
        stop: Whether some process is asked to end.
        failures: Reasons by video id, of this process's videos that could not be read.
    """

    sums: Sums
    grad_norm: float = 0.0
    stop: bool = False
    failures: dict[str, str] = field(default_factory=dict)


class Stepper:
    """Takes steps.

    The gradient of a step is that of the mean loss over all of its clips, whichever process and
    batch they were in and however many could be read.

    Args:
        objective: Maps what `prepare` gives to losses (N,) and hits (N,); it holds the model.
        prepare: From clips (N, C, T, H, W), labels (N,), indices (N,) and a seed of the batch to
            the arguments of `objective`.
        model: The model inside it.
        optimizer: Over the model's parameters.
        recipe: Precision, clipping, seed, what a broken video does.
        video_ids: Names by index.
        team: The processes.
    """

    def __init__(
        self,
        objective: nn.Module,
        prepare: Prepare,
        *,
        model: VideoModel,
        optimizer: torch.optim.Optimizer,
        recipe: RunRecipe,
        video_ids: Sequence[str],
        team: Team,
    ) -> None:
        self._objective, self._prepare, self._model = objective, prepare, model
        self._optimizer, self._recipe, self._team = optimizer, recipe, team
        self._video_ids = video_ids
        self._parameters = [p for p in model.parameters() if p.requires_grad]
        # DistributedDataParallel, where there are several processes.
        self._shared: Any = team.accelerator.prepare(objective)

    def take(self, batches: Sequence[Batch | None], *, number: int, stop: bool) -> Step:
        """Take one step.

        Args:
            batches: This process's; None or one without clips contributes nothing.
            number: Steps done before.
            stop: Whether this process is asked to end.

        Raises:
            TrainingStoppedError: The loss or its gradient is not finite, or a video cannot be read
                where that is to end the run; the weights are those before the step.
        """
        self._optimizer.zero_grad(set_to_none=True)
        done: list[tuple[Tensor, Tensor, Tensor]] = []  # indices, losses, hits of each batch
        failures: dict[str, str] = {}
        for place, batch in enumerate(batches):
            last = place == len(batches) - 1
            wait = nullcontext() if last else self._team.accelerator.no_sync(self._shared)
            with wait:
                result = self._run(batch, seed_of(self._recipe.seed, number, place))
            done += [result] if result is not None else []
            failures |= dict(batch.failures) if batch is not None else {}
        own = [float(sum(part[k].sum() for part in done)) for k in (1, 2)]
        own += [float(sum(len(part[0]) for part in done)), len(failures), stop]
        loss, hits, clips, broken, stops = self._team.sum(own)
        step = Step(sums=Sums(loss=loss, hits=hits, clips=clips), failures=failures)
        step.stop = stops > 0
        if broken and self._recipe.on_error == "raise":
            self._end_over_videos(failures, number)
        if clips:
            self._update(step, done, number)
        return step

    def _run(self, batch: Batch | None, seed: int) -> tuple[Tensor, Tensor, Tensor] | None:
        """Add a batch's gradient, summed over its clips; give indices, losses and hits."""
        if batch is None or not len(batch.labels):
            if self._team.size > 1:
                self._accompany()
            return None
        device = self._team.device
        clips = batch.clips[:, 0].to(device, non_blocking=True)  # (N, C, T, H, W)
        arguments = self._prepare(clips, batch.labels.to(device), batch.indices, seed)
        losses, hits = self._forward(*arguments)
        # Gradients are averaged over processes; times their number, it is the sum that is left.
        # accelerate's own backward() would divide by what a launcher says about accumulation.
        torch.autograd.backward(losses.sum() * self._team.size)
        return batch.indices, losses.detach(), hits.detach()

    def _forward(self, *arguments: Tensor) -> tuple[Tensor, Tensor]:
        """Losses (N,) in float32 and hits (N,)."""
        kind = self._team.device.type
        with torch.autocast(kind, dtype=torch.bfloat16, enabled=self._recipe.bf16):
            losses, hits = self._shared(*arguments)
        return losses.float(), hits

    def _accompany(self) -> None:
        """Take part in the exchange of gradients with none of one's own.

        A still clip goes through in evaluation mode, so that no BatchNorm counts it.
        """
        config = self._model.record
        assert config is not None
        frames, side = config.sampling.num_frames, config.preprocess.img_size
        clip = torch.zeros(1, self._model.in_chans, frames, side, side, device=self._team.device)
        none = torch.zeros(1, dtype=torch.int64)
        self._objective.eval()
        losses, _ = self._forward(*self._prepare(clip, none.to(self._team.device), none, 0))
        torch.autograd.backward(losses.sum() * 0.0)
        train_mode(self._objective)

    def _update(self, step: Step, done: list[tuple[Tensor, Tensor, Tensor]], number: int) -> None:
        """Scale, check and clip the gradients, and let the optimiser use them."""
        gradients = [p.grad for p in self._parameters if p.grad is not None]
        torch._foreach_div_(gradients, step.sums.clips)
        norm = nn.utils.get_total_norm(gradients)
        step.grad_norm = float(norm)
        if not math.isfinite(step.sums.loss) or not math.isfinite(step.grad_norm):
            self._end_over_numbers(step, done, number)
        if self._recipe.clip_grad is not None:
            nn.utils.clip_grads_with_norm_(self._parameters, self._recipe.clip_grad, norm)
        self._optimizer.step()

    def _end_over_numbers(
        self, step: Step, done: list[tuple[Tensor, Tensor, Tensor]], number: int
    ) -> None:
        """Say where numbers that are not finite came from."""
        bad = [int(i) for indices, losses, _ in done for i in indices[~losses.isfinite().cpu()]]
        every = [int(i) for indices, _, _ in done for i in indices]
        guilty = [i for part in self._team.gather(bad) for i in part]
        culprits = guilty or [i for part in self._team.gather(every) for i in part]
        what = "loss" if not math.isfinite(step.sums.loss) else "gradient"
        value = step.sums.mean_loss if what == "loss" else step.grad_norm
        self._team.agree(
            TrainingStoppedError(
                f"The {what} of step {number + 1} is {value}, so training stopped before it "
                f"spoiled the weights, and the last checkpoint is kept; the step saw "
                f"{self._named(culprits)}: look at them, or begin again with a lower learning rate "
                f"or a limit on gradients."
            )
        )

    def _end_over_videos(self, failures: dict[str, str], number: int) -> None:
        """Say which video cannot be read, as one of the processes found."""
        error = None
        if failures:
            name, reason = next(iter(failures.items()))
            error = TrainingStoppedError(
                f"The video {name!r} cannot be read in step {number + 1} ({reason}); the last "
                f"checkpoint is kept: mend or remove the video, or let on_error='skip' leave such "
                f"ones out."
            )
        self._team.agree(error)

    def _named(self, indices: Sequence[int]) -> str:
        names = ", ".join(repr(self._video_ids[index]) for index in indices[:NAMED])
        more = len(indices) - NAMED
        return f"{names} and {more} more" if more > 0 else names
