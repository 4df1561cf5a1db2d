"""The run that every kind of training shares: epochs, checkpoints, and how it ends."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from zoo.augmentation import seed_of
from zoo.clip_dataset import ClipDataset
from zoo.folder import save
from zoo.models._base import VideoModel
from zoo.training.batches import batch_loader, plan_epoch, steps_per_epoch
from zoo.training.ema import MovingAverage
from zoo.training.folders import TrainResult, only_run_in, write_recipe
from zoo.training.logs import RunLog
from zoo.training.optimisers import make_optimizer, set_learning_rate, train_mode
from zoo.training.recipe import RunRecipe
from zoo.training.resuming import Position, Sums, get_rng, seed_rng, set_rng, write_state
from zoo.training.steps import Prepare, Step, Stepper
from zoo.training.stopping import TrainingInterruptedError, TrainingStoppedError, stop_requests
from zoo.training.team import Team

__all__ = ["Task", "run_task"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What is learned.

    Attributes:
        objective: Maps what `prepare` gives to losses (N,) and hits (N,); it holds the model.
        prepare: See `Stepper`.
        validate: Measures the model, on all processes together; None where nothing is measured,
            and the last epoch counts as the best.
        score: Which of these figures, the higher the better, decides which epoch is the best.
        classifies: Whether clips have classes, so that hits tell an accuracy.
    """

    objective: nn.Module
    prepare: Prepare
    validate: Callable[[], dict[str, float]] | None = None
    score: str = ""
    classifies: bool = True


def run_task(
    task: Task,
    model: VideoModel,
    dataset: ClipDataset,
    recipe: RunRecipe,
    out: Path,
    *,
    team: Team,
    facts: Mapping[str, Any],
    state: Mapping[str, Any] | None,
    progress: bool,
) -> TrainResult:
    """Train a model from the start, or from a checkpoint, to the last epoch.

    Args:
        task: What is learned.
        model: The model inside `task.objective`.
        dataset: The clips to train on.
        recipe: How.
        out: Folder of the run.
        team: The processes.
        facts: What identifies the run; written with each checkpoint.
        state: A checkpoint to go on from.
        progress: Whether to draw a bar if a person is looking.

    Raises:
        ValueError: Another run is in the folder.
        TrainingStoppedError: A fault ended the run on all processes; the last checkpoint is kept.
        TrainingInterruptedError: Somebody ended it; a checkpoint is saved.
    """
    with ExitStack() as held:
        with team.together():
            if team.is_main:
                held.enter_context(only_run_in(out))
                if state is None:
                    write_recipe(out, facts)
        model.to(team.device)
        loop = Loop(
            task,
            model,
            dataset,
            recipe,
            out,
            team=team,
            facts=facts,
            state=state,
            progress=progress,
        )
        done = loop.run()
    model.eval()
    return TrainResult(
        best=out / "best",
        best_epoch=done.best_epoch,
        epochs=done.epoch,
        steps=done.step,
        metrics=done.metrics,
    )


class Loop:
    """One run, from its start or from a checkpoint; `run_task` explains the arguments."""

    def __init__(
        self,
        task: Task,
        model: VideoModel,
        dataset: ClipDataset,
        recipe: RunRecipe,
        out: Path,
        *,
        team: Team,
        facts: Mapping[str, Any],
        state: Mapping[str, Any] | None,
        progress: bool,
    ) -> None:
        self._task, self._model, self._dataset, self._recipe = task, model, dataset, recipe
        self._out, self._team, self._facts = out, team, facts
        step_size = recipe.batch_size * recipe.accumulate * team.size
        self._steps_per_epoch = steps_per_epoch(len(dataset), step_size)
        if recipe.grad_checkpointing:
            model.set_grad_checkpointing(True)
        self._optimizer = make_optimizer(model, recipe)
        self._ema = MovingAverage(model, recipe.ema) if recipe.ema is not None else None
        self._position = Position() if state is None else self._load(state)
        self._stepper = Stepper(
            task.objective,
            task.prepare,
            model=model,
            optimizer=self._optimizer,
            recipe=recipe,
            video_ids=[item.video_id for item in dataset.dataset.items],
            team=team,
        )
        if state is None:
            seed_rng(seed_of(recipe.seed, team.rank))
        else:
            set_rng(state["rng"][team.rank], team.device)
        self._lr, self._since, self._clips_since = 0.0, 0.0, 0.0
        self._log: RunLog | None = None
        self._log_error: OSError | None = None
        with team.together():
            if team.is_main:
                step = self._position.step
                self._log = RunLog(
                    out, step=step, tensorboard=recipe.tensorboard, progress=progress
                )

    def _load(self, state: Mapping[str, Any]) -> Position:
        self._model.load_state_dict(state["model"])
        self._optimizer.load_state_dict(state["optimizer"])
        if self._ema is not None:
            self._ema.load(state["ema"])
        return Position.from_json(state["position"])

    def run(self) -> Position:
        """Train until the last epoch, and say where that is."""
        with self._log or nullcontext(), stop_requests() as request:
            while self._position.epoch < self._recipe.epochs:
                for step in self._steps(lambda: request.made):
                    self._after_step(step)
                self._end_epoch()
        return self._position

    def _steps(self, asked: Callable[[], bool]) -> Iterator[Step]:
        """Take the steps of the epoch that are not done yet."""
        recipe, at, rank = self._recipe, self._position, self._team.rank
        plan = plan_epoch(
            len(self._dataset),
            seed=recipe.seed,
            epoch=at.epoch,
            batch_size=recipe.batch_size,
            accumulate=recipe.accumulate,
            processes=self._team.size,
        )[at.epoch_step :]
        self._dataset.set_epoch(at.epoch)
        mine = [batch[rank] for step in plan for batch in step]
        batches = iter(batch_loader(self._dataset, mine, workers=recipe.workers))
        if self._log is not None:
            title = f"epoch {at.epoch + 1} of {recipe.epochs}"
            self._log.start_epoch(title, total=self._steps_per_epoch, done=at.epoch_step)
        train_mode(self._task.objective)
        self._since, self._clips_since = time.perf_counter(), 0.0
        for planned in plan:
            self._lr = set_learning_rate(
                self._optimizer, recipe, at.step, steps_per_epoch=self._steps_per_epoch
            )
            own = [next(batches) for _ in planned]
            yield self._stepper.take(own, number=at.step, stop=asked())

    def _after_step(self, step: Step) -> None:
        """Count, log, and save a checkpoint where one is due."""
        recipe, at = self._recipe, self._position
        at.epoch_step += 1
        at.step += 1
        if self._ema is not None:
            self._ema.update(at.step)
        at.epoch_sums.add(step.sums)
        at.log_sums.add(step.sums)
        at.failures |= step.failures
        self._clips_since += step.sums.clips
        if at.step % recipe.log_steps == 0:
            self._log_step(step)
        if self._log is not None:
            self._log.advance(f"loss {step.sums.mean_loss:.3f}")
        due = recipe.save_steps > 0 and at.step % recipe.save_steps == 0
        if step.stop or (due and at.epoch_step < self._steps_per_epoch):
            self._save_state()
        if step.stop:
            self._team.agree(
                TrainingInterruptedError(
                    f"Training was interrupted; after step {at.step} its checkpoint was saved in "
                    f"'{self._out / 'last'}', from which --resume goes on."
                )
            )

    def _log_step(self, step: Step) -> None:
        at, now = self._position, time.perf_counter()
        self._write(
            "step",
            **self._figures(at.log_sums),
            lr=self._lr,
            grad_norm=step.grad_norm,
            clips_per_second=self._clips_since / max(now - self._since, 1e-9),
        )
        at.log_sums = Sums()
        self._since, self._clips_since = now, 0.0

    def _figures(self, sums: Sums) -> dict[str, float]:
        accuracy = {"clip_top1": sums.top1} if self._task.classifies else {}
        return {"loss": sums.mean_loss} | accuracy

    def _write(self, event: str, **facts: Any) -> None:
        """Add a line to the log; that the disk is full is told where all processes meet."""
        at = self._position
        epoch = at.epoch if event == "epoch" else at.epoch + 1
        if self._log is not None:
            try:
                self._log.write(event, step=at.step, epoch=epoch, **facts)
            except OSError as error:
                self._log_error = error

    def _end_epoch(self) -> None:
        """Measure, keep the best model, log and save a checkpoint."""
        at, failures = self._position, self._gather_failures()
        count = len(self._dataset)
        if not at.epoch_sums.clips:
            reason = next(iter(failures.values()), "")
            raise_all = TrainingStoppedError(f"None of the {count} videos can be read: {reason}")
            self._team.agree(raise_all)
        at.epoch += 1
        with self._averaged():
            at.metrics = self._measure()
            score = at.metrics.get(self._task.score)
            # Of equals the later one: on few videos the first to be right is hardly trained.
            better = score is None or at.best is None or score >= at.best
            if better:
                at.best, at.best_epoch = score, at.epoch
                with self._kept("best model", "best"):
                    if self._team.is_main:
                        save(self._model, self._out / "best")
        self._write(
            "epoch",
            **self._figures(at.epoch_sums),
            **at.metrics,
            best=better,
            failures=[{"video": name, "reason": why} for name, why in failures.items()],
        )
        self._tell(better=better, failures=failures)
        at.epoch_step, at.epoch_sums, at.failures = 0, Sums(), {}
        self._save_state()

    @contextmanager
    def _averaged(self) -> Iterator[None]:
        """Give the model the weights that are measured, the same on every process."""
        # Each process's BatchNorms counted their own clips; the main one's statistics are kept.
        with torch.no_grad():
            self._team.copy_from_main(self._model.buffers())
            if self._ema is not None:
                self._team.copy_from_main(self._ema.state.values())
        with self._ema.applied() if self._ema is not None else nullcontext():
            yield

    def _measure(self) -> dict[str, float]:
        """What validation finds; it leaves the random number generators as they were."""
        if self._task.validate is None:
            return {}
        rng = get_rng(self._team.device)
        found = self._task.validate()
        set_rng(rng, self._team.device)
        return found

    def _gather_failures(self) -> dict[str, str]:
        merged: dict[str, str] = {}
        for failures in self._team.gather(self._position.failures):
            merged |= failures
        return merged

    def _tell(self, *, better: bool, failures: Mapping[str, str]) -> None:
        """Sum an epoch up for whoever listens to the log of this module."""
        if not self._team.is_main:
            return
        at = self._position
        figures = {**self._figures(at.epoch_sums), **at.metrics}
        logger.info(
            "epoch %d of %d: %s%s",
            *(at.epoch, self._recipe.epochs),
            ", ".join(f"{name} {value:.4g}" for name, value in figures.items()),
            " (best so far)" if better and at.metrics else "",
        )
        for name, reason in failures.items():
            logger.warning("the video %r was left out: %s", name, reason)

    def _save_state(self) -> None:
        """Replace the checkpoint; on a full disk the one before stays."""
        at = self._position
        at.failures = self._gather_failures()
        rng = self._team.gather(get_rng(self._team.device))
        with self._kept("checkpoint", "last"):
            if self._log_error is not None:
                raise self._log_error
            if self._team.is_main:
                state = {
                    "facts": json.dumps(self._facts),
                    "position": at.to_json(),
                    "model": self._model.state_dict(),
                    "optimizer": self._optimizer.state_dict(),
                    "ema": self._ema.state if self._ema is not None else {},
                    "rng": rng,
                }
                write_state(state, self._out / "last" / "state.pt")

    @contextmanager
    def _kept(self, what: str, folder: str) -> Iterator[None]:
        """Say on all processes what could not be written, and that the one before is kept."""
        with self._team.together():
            try:
                yield
            except OSError as error:
                raise TrainingStoppedError(
                    f"After step {self._position.step} the {what} cannot be written to "
                    f"'{self._out / folder}' ({error}); the one before is kept if there was one: "
                    f"make room, and --resume goes on from the last checkpoint."
                ) from error
