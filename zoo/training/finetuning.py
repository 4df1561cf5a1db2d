"""`train`: a classifier from labelled videos."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.augmentation import Augmentation, mix
from zoo.clip_dataset import ClipDataset
from zoo.datasets.sources import VideoDataset
from zoo.evaluation import evaluate
from zoo.factory import create
from zoo.models._base import VideoModel
from zoo.training.folders import TrainResult, data_facts, find_state
from zoo.training.loop import Task, run_task
from zoo.training.optimisers import freeze
from zoo.training.recipe import TrainRecipe
from zoo.training.team import Team

__all__ = ["classifier_for", "train"]

logger = logging.getLogger(__name__)


def classifier_for(
    name: str,
    labels: Sequence[str],
    *,
    pretrained: bool | str = True,
    checkpoint: str | Path | None = None,
    seed: int = 0,
    **arguments: Any,
) -> VideoModel:
    """Create a model for the classes of a data set.

    The classifier of the weights stays if its classes have these names in this order; else it is
    a new one, with random weights.

    Args:
        name: As `zoo.create` takes it.
        labels: Class names in index order.
        pretrained: As `zoo.create` takes it; a folder or a Hub repository brings its weights.
        checkpoint: A file of weights, or a folder that holds `model.safetensors`.
        seed: Decides the weights of new layers.
        **arguments: What else `zoo.create` takes.

    Raises:
        LookupError: See `zoo.create`.
        ValueError: Likewise.
    """
    path = Path(checkpoint) if checkpoint is not None else None
    if path is not None and path.is_dir():
        path /= "model.safetensors"
    own = path is None and not name.startswith(("local-dir:", "hf-hub:"))
    with torch.random.fork_rng(devices=()), warnings.catch_warnings(record=True) as notes:
        warnings.simplefilter("always")
        torch.default_generator.manual_seed(seed)
        model = create(name, pretrained if own else False, checkpoint=path, **arguments)
        assert model.record is not None
        if model.record.labels != tuple(labels):
            if not model.reads_class_names:
                model.reset_classifier(len(labels))
            model.set_class_names(labels)
    for note in notes:
        logger.info("%s", note.message)
    return model


class Classification(nn.Module):
    """The loss of a classifier's clips.

    Args:
        model: The classifier.
        label_smoothing: Part of the target that is spread over all classes.
    """

    def __init__(self, model: VideoModel, label_smoothing: float) -> None:
        super().__init__()
        self.model, self.label_smoothing = model, label_smoothing

    def forward(self, clips: Tensor, targets: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Losses (N,) and hits (N,) of clips (N, C, T, H, W).

        Args:
            clips: Model inputs.
            targets: Share of each class in them, (N, K).
            labels: The class to be hit, (N,).
        """
        logits = self.model(clips).float()  # (N, K)
        losses = F.cross_entropy(
            logits, targets, label_smoothing=self.label_smoothing, reduction="none"
        )
        return losses, (logits.detach().argmax(dim=1) == labels).float()


def train(
    model: VideoModel | str,
    data: VideoDataset,
    recipe: TrainRecipe,
    out: str | Path,
    *,
    val: VideoDataset | None = None,
    resume: bool = False,
    cpu: bool = False,
    progress: bool = False,
) -> TrainResult:
    """Fine-tune a model on labelled videos, on as many processes as were started.

    `out` then holds `best/` (the model with the highest top-1 accuracy on `val`'s videos, the last
    one without `val`), `last/` (what a killed run goes on from), `log.jsonl` and `recipe.json`.
    Several machines need a folder that all of them see. Every random number generator of the
    process is seeded, and the model given ends with the weights of the last step.

    Args:
        model: A model whose classes are the data's, as `classifier_for` makes it; or a name, whose
            pretrained weights are then taken.
        data: What to train on.
        recipe: How.
        out: Folder of the run; new or empty unless resumed.
        val: What to measure after each epoch.
        resume: Whether to go on from the last checkpoint in `out`, if there is one. The run then
            ends with the weights it would have had uninterrupted.
        cpu: Whether to stay on the processor where there is an accelerator.
        progress: Whether to draw a bar on stderr if a person is looking.

    Raises:
        ValueError: Model, data, recipe and folder do not fit together.
        TrainingStoppedError: The run ended early; its last checkpoint is kept.
    """
    team, out = Team(cpu=cpu), Path(out)
    augmentation = recipe.augmentation or Augmentation()
    recipe = replace(recipe, augmentation=augmentation)
    with team.together():
        if isinstance(model, str):
            model = classifier_for(model, data.labels, seed=recipe.seed)
        val = val.with_labels(data.labels) if val is not None else None
        _check(model, data, val, recipe)
        freeze(model, recipe.freeze)
        assert model.record is not None
        facts = {
            "kind": "train",
            "model": model.record.to_json(),
            "data": data_facts(data),
            "val": data_facts(val) if val is not None else None,
            "recipe": recipe.to_json(),
            "processes": team.size,
        }
        clips = ClipDataset(
            data,
            model.record,
            train=True,
            augmentation=augmentation,
            seed=recipe.seed,
        )
        state = find_state(out, facts, resume=resume)
    logger.info(
        "%d videos of %d classes to train on, %d to measure.",
        *(len(data.items), len(data.labels), len(val.items) if val is not None else 0),
    )
    task = Task(
        objective=Classification(model, recipe.label_smoothing),
        prepare=_mixer(augmentation, len(data.labels)),
        validate=partial(_measure, model, val, recipe) if val is not None else None,
        score="val_video_top1",
    )
    return run_task(
        task, model, clips, recipe, out, team=team, facts=facts, state=state, progress=progress
    )


def _check(
    model: VideoModel, data: VideoDataset, val: VideoDataset | None, recipe: TrainRecipe
) -> None:
    """Refuse data that a model cannot be trained on.

    Raises:
        ValueError: A split is empty, has videos without labels, or other classes than the model;
            or a file is missing where that is to end the run.
    """
    if model.record is None:
        raise ValueError(
            f"This {type(model).__name__} was not made by zoo.create, so its input is not known; "
            f"give what zoo.create returned, not what wraps it."
        )
    if model.num_classes != len(data.labels):
        raise ValueError(
            f"{model.record.name!r} has {model.num_classes} classes and {data.name!r} has "
            f"{len(data.labels)}; give the model's name, or build it with "
            f"zoo.create(..., labels=data.labels)."
        )
    if len(data.labels) < 2:
        raise ValueError(
            f"{data.name!r} has one class, {data.labels[0]!r}, and there is nothing to tell apart; "
            f"give the folder whose folders are the classes, with two of them or more."
        )
    for dataset in (data, val):
        if dataset is None:
            continue
        check_videos(dataset, on_error=recipe.on_error)
        unlabelled = [item.video_id for item in dataset.items if item.label < 0]
        if unlabelled:
            raise ValueError(
                f"{len(unlabelled)} videos of {dataset.name!r} have no label, the first is "
                f"{unlabelled[0]!r}; to train without labels is `zoo pretrain`."
            )
    if recipe.augmentation is not None and recipe.augmentation.flip and not data.flips_allowed:
        logger.warning(
            "no video of %r is flipped from left to right: the data forbids it, as a list of bare "
            "indices does until --labels names its classes.",
            data.name,
        )
    if val is not None:
        parts = [{(i.path, i.start_seconds, i.end_seconds) for i in d.items} for d in (data, val)]
        if shared := len(parts[0] & parts[1]):
            logger.warning(
                "%d of the %d videos that are measured are trained on too, so that the accuracy "
                "says little about new ones; give others with --val or --val-split.",
                *(shared, len(parts[1])),
            )


def check_videos(dataset: VideoDataset, *, on_error: str) -> None:
    """Refuse a split without videos, and say which files are missing.

    Raises:
        ValueError: It is empty, or files are missing where that is to end the run.
    """
    if not dataset.items:
        raise ValueError(f"The split {dataset.split!r} of {dataset.name!r} has no videos.")
    if dataset.missing:
        text = (
            f"{len(dataset.missing)} videos of the split {dataset.split!r} of {dataset.name!r} do "
            f"not exist, the first is '{dataset.missing[0].path}'"
        )
        if on_error == "raise":
            raise ValueError(f"{text}; add them, or let on_error='skip' leave such ones out.")
        logger.warning("%s; they are left out.", text)


def _mixer(
    augmentation: Augmentation, num_classes: int
) -> Callable[[Tensor, Tensor, Tensor, int], tuple[Tensor, ...]]:
    """What makes the classifier's inputs and targets of a batch."""

    def prepare(clips: Tensor, labels: Tensor, _: Tensor, seed: int) -> tuple[Tensor, ...]:
        mixed, targets = mix(clips, labels, augmentation, num_classes=num_classes, seed=seed)
        return mixed, targets, labels

    return prepare


def _measure(model: VideoModel, val: VideoDataset, recipe: TrainRecipe) -> dict[str, float]:
    """Accuracies after an epoch, in percent."""
    report = evaluate(
        model,
        val,
        num_clips=recipe.val_clips,
        num_crops=recipe.val_crops,
        batch_size=recipe.batch_size,
        workers=recipe.workers,
        bf16=recipe.bf16,
        on_error=recipe.on_error,
    )
    for name, reason in report.failures:
        logger.warning("the video %r was left out of validation: %s", name, reason)
    return {
        f"val_{level}_top{k}": 100 * getattr(report, f"{level}_top{k}").share
        for level in ("clip", "video")
        for k in (1, 5)
    }
