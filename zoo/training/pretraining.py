"""`pretrain`: an encoder from videos without labels, by hiding most of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from zoo.augmentation import Augmentation, seed_of
from zoo.clip_dataset import ClipDataset
from zoo.datasets.sources import VideoDataset
from zoo.factory import create
from zoo.models._base import VideoModel
from zoo.models.videomae_pretrain import VideoMAEPretrain
from zoo.training.finetuning import check_videos
from zoo.training.folders import TrainResult, data_facts, find_state
from zoo.training.loop import Task, run_task
from zoo.training.recipe import PretrainRecipe
from zoo.training.team import Team

__all__ = ["AUGMENTATION", "autoencoder_for", "pretrain"]

AUGMENTATION = replace(Augmentation.none(), crop_scale=(0.43, 1.0))
"""VideoMAE crops at several scales; the side of the smallest crop is 0.66 of the frame's."""


class Reconstruction(nn.Module):
    """The loss of a masked autoencoder's clips.

    Args:
        model: The autoencoder.
        normalise: Whether each tubelet's pixels get mean 0 and deviation 1.
    """

    def __init__(self, model: VideoMAEPretrain, normalise: bool) -> None:
        super().__init__()
        self.model, self.normalise = model, normalise

    def forward(self, clips: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Losses (N,), and zeros (N,) since nothing is classified.

        Args:
            clips: Model inputs, (N, C, T, H, W).
            mask: What is hidden of them, (N, L) of bool.
        """
        predictions = self.model.forward_pretrain(clips, mask).float()  # (N, M, P)
        with torch.no_grad():
            targets = self.model.targets(clips, mask, normalise=self.normalise)
        losses = (predictions - targets).square().mean(dim=(1, 2))
        return losses, torch.zeros_like(losses)


def autoencoder_for(name: str, *, seed: int = 0, **arguments: Any) -> VideoModel:
    """Create a masked autoencoder: with random weights, or those of the folder that is named.

    Args:
        name: As `zoo.create` takes it.
        seed: Decides the weights.
        **arguments: What else `zoo.create` takes.
    """
    with torch.random.fork_rng(devices=()):
        torch.default_generator.manual_seed(seed)
        return create(name, **{"num_classes": 0} | arguments)


def pretrain(
    model: VideoModel | str,
    data: VideoDataset,
    recipe: PretrainRecipe,
    out: str | Path,
    *,
    resume: bool = False,
    cpu: bool = False,
    progress: bool = False,
) -> TrainResult:
    """Train a masked autoencoder on videos, whose labels are not looked at.

    `out` is as `train` leaves it, `best/` holding the model of the last epoch. Its encoder starts
    a classifier: `classifier_for("videomae_b", labels, checkpoint=out / "best")`.

    Args:
        model: A `videomae_pretrain` model, or the name of one, which then starts from random
            weights.
        data: What to train on.
        recipe: How.
        out: Folder of the run; new or empty unless resumed.
        resume: Whether to go on from the last checkpoint in `out`, if there is one.
        cpu: Whether to stay on the processor where there is an accelerator.
        progress: Whether to draw a bar on stderr if a person is looking.

    Raises:
        ValueError: Model, data, recipe and folder do not fit together.
        TrainingStoppedError: The run ended early; its last checkpoint is kept.
    """
    team, out = Team(cpu=cpu), Path(out)
    recipe = replace(recipe, augmentation=recipe.augmentation or AUGMENTATION)
    with team.together():
        if isinstance(model, str):
            model = autoencoder_for(model, seed=recipe.seed)
        if not isinstance(model, VideoMAEPretrain) or model.record is None:
            raise ValueError(
                f"Only a videomae_pretrain model has a decoder to pre-train with, not this "
                f"{type(model).__name__}; `zoo list videomae_pretrain` shows them."
            )
        check_videos(data, on_error=recipe.on_error)
        facts = {
            "kind": "pretrain",
            "model": model.record.to_json(),
            "data": data_facts(data),
            "recipe": recipe.to_json(),
            "processes": team.size,
        }
        model.tube_mask(1, recipe.mask_ratio, generator=torch.Generator())  # refuses a wrong ratio
        clips = ClipDataset(
            data,
            model.record,
            train=True,
            augmentation=recipe.augmentation,
            seed=recipe.seed,
        )
        state = find_state(out, facts, resume=resume)
    network = model

    def prepare(batch: Tensor, _: Tensor, indices: Tensor, seed: int) -> tuple[Tensor, ...]:
        masks = [
            network.tube_mask(
                1,
                recipe.mask_ratio,
                generator=torch.Generator().manual_seed(seed_of(seed, index)),
            )
            for index in indices.tolist()
        ]
        return batch, torch.cat(masks)

    objective = Reconstruction(model, recipe.normalise_targets)
    task = Task(objective=objective, prepare=prepare, classifies=False)
    return run_task(
        task, model, clips, recipe, out, team=team, facts=facts, state=state, progress=progress
    )
