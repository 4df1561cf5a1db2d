"""Which parameters are trained, at which rate, and how that rate goes over a run."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from registry.names import did_you_mean
from zoo.models._base import VideoModel
from zoo.training.recipe import RunRecipe

__all__ = ["freeze", "learning_rate_factor", "make_optimizer", "set_learning_rate", "train_mode"]

Norm = nn.modules.batchnorm._BatchNorm


def freeze(model: VideoModel, prefixes: Sequence[str]) -> None:
    """Take parameters out of the training.

    What `forward` does not reach (`pretraining_weights`) is taken out too: it has no gradient.

    Args:
        model: Changed in place.
        prefixes: What their names begin with, whole parts between dots.

    Raises:
        ValueError: A prefix fits no parameter, or no parameter is left.
    """
    names = [name for name, _ in model.named_parameters()]
    for prefix in prefixes:
        if not any(_begins(name, prefix) for name in names):
            tops = list(dict.fromkeys(name.partition(".")[0] for name in names))
            raise ValueError(
                f"No parameter's name begins with {prefix!r}, which is to be frozen; they begin "
                f"with {', '.join(tops)}.{did_you_mean(prefix.partition('.')[0], tops)}"
            )
    for name, parameter in model.named_parameters():
        unreached = name.startswith(model.pretraining_weights)
        if unreached or any(_begins(name, prefix) for prefix in prefixes):
            parameter.requires_grad_(False)
    if not any(parameter.requires_grad for parameter in model.parameters()):
        frozen = ", ".join(prefixes) or "requires_grad=False"
        raise ValueError(
            f"All {len(names)} parameters are frozen ({frozen}), so there is nothing to train; "
            f"leave out one of them."
        )


def _begins(name: str, prefix: str) -> bool:
    return f"{name}.".startswith(f"{prefix.rstrip('.')}.")


def train_mode(model: nn.Module) -> None:
    """Set training mode, except that a frozen BatchNorm keeps its statistics."""
    model.train()
    for module in model.modules():
        own = list(module.parameters(recurse=False))
        if isinstance(module, Norm) and own and not any(p.requires_grad for p in own):
            module.eval()


def make_optimizer(model: VideoModel, recipe: RunRecipe) -> torch.optim.Optimizer:
    """The optimiser over a model's trainable parameters, timm's groups.

    One-dimensional parameters and what the model excepts are not decayed; with `layer_decay` a
    group for each layer carries its `lr_scale`.
    """
    import timm.optim

    timms: Any = timm.optim  # it does not say which of its names are public
    exceptions = model.no_weight_decay()
    if recipe.layer_decay is None:
        groups = timms.param_groups_weight_decay(
            model, recipe.weight_decay, no_weight_decay_list=exceptions
        )
    else:
        groups = timms.param_groups_layer_decay(
            model,
            recipe.weight_decay,
            no_weight_decay_list=exceptions,
            layer_decay=recipe.layer_decay,
        )
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(
            groups, lr=recipe.lr, momentum=recipe.momentum, nesterov=recipe.momentum > 0
        )
    return torch.optim.AdamW(groups, lr=recipe.lr, betas=(recipe.momentum, recipe.beta2))


def learning_rate_factor(step: int, *, warmup_steps: int, total_steps: int) -> float:
    """Part of the learning rate at a step: a linear rise, then half a cosine towards 0.

    Args:
        step: Steps done before, from 0.
        warmup_steps: Steps of the rise; the first one is not 0, the last one is 1.
        total_steps: Steps of the whole run.
    """
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    done = (step - warmup_steps) / max(1, total_steps - warmup_steps)
    return 0.5 * (1 + math.cos(math.pi * min(1.0, done)))


def set_learning_rate(
    optimizer: torch.optim.Optimizer, recipe: RunRecipe, step: int, *, steps_per_epoch: int
) -> float:
    """Set the rates of a step; they depend on nothing but its number.

    Returns:
        The learning rate of the last layers.
    """
    factor = learning_rate_factor(
        step,
        warmup_steps=round(recipe.rising_epochs * steps_per_epoch),
        total_steps=recipe.epochs * steps_per_epoch,
    )
    lr = recipe.min_lr + (recipe.lr - recipe.min_lr) * factor
    for group in optimizer.param_groups:
        group["lr"] = lr * group.get("lr_scale", 1.0)
    return lr
