"""Trains and measures a small network on videos that are held in memory.

The project's training loop reads files, goes on after a kill and spreads over machines. Here a
few hundred tiny videos are drawn once and shown to several networks under one budget, and every
batch holds whole groups of videos; this loop does that and nothing else.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from registry.records import Preprocess
from zoo.datasets.moving_balls import MovingBalls, ReversedPairs
from zoo.evaluation.metrics import average_views, clip_accuracy, video_accuracy
from zoo.sampling import dense, multi_clip

__all__ = [
    "Budget",
    "ClipAndVideo",
    "Epoch",
    "Videos",
    "draw_videos",
    "fit",
    "measure",
    "measure_pairs",
    "pair_answers",
]

SAME_LOGITS = 1e-4
"""Two clips whose logits differ by less than this part of the largest have the same logits."""


@dataclass(frozen=True, slots=True)
class Videos:
    """Videos of one size in memory.

    Attributes:
        frames: Decoded, uint8 (V, T, H, W, C).
        labels: Label index of each, (V,).
        group_size: Videos that follow one another and show the same things, one a direction.
    """

    frames: Tensor
    labels: Tensor
    group_size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """What every network is given alike.

    Attributes:
        epochs: Times that every training video is seen, in a clip sampled anew.
        learning_rates: Peaks that are tried, each in a whole run of its own.
        groups: Groups of videos in a batch.
        num_frames: Frames T of a clip.
        frame_stride: Distance between neighbouring frames of a clip.
        num_clips: Clips of a video that is tested.
        weight_decay: Of kernels and matrices; one-dimensional parameters have none.
        clip_gradient: Largest norm of the gradient of all parameters together.
        warmup: Part of the steps on which the learning rate rises; then it falls as a cosine.
    """

    epochs: int
    learning_rates: tuple[float, ...] = (3e-4, 1e-3)
    groups: int = 4
    num_frames: int = 8
    frame_stride: int = 2
    num_clips: int = 2
    weight_decay: float = 0.05
    clip_gradient: float = 2.0
    warmup: float = 0.1


@dataclass(frozen=True, slots=True)
class ClipAndVideo:
    """Parts of 1 that were right: of single clips, and of videos whose clips vote together."""

    clip: float
    video: float


@dataclass(frozen=True, slots=True)
class Epoch:
    """What one pass over the training videos came to."""

    loss: float
    validation: ClipAndVideo


def draw_videos(balls: MovingBalls) -> Videos:
    """Draw every video of a data set."""
    items = [balls[index] for index in range(len(balls))]
    return Videos(
        torch.stack([frames for frames, _ in items]),
        torch.tensor([label for _, label in items]),
        len(balls.directions),
    )


def fit(
    model: nn.Module,
    train: Videos,
    validation: Videos,
    *,
    recipe: Preprocess,
    budget: Budget,
    learning_rate: float,
    seed: int,
) -> Iterator[Epoch]:
    """Train a model in place, epoch by epoch.

    Args:
        model: From clips (N, C, T, H, W) to logits (N, K).
        train: Videos to learn from.
        validation: Videos to measure after every epoch.
        recipe: Its mean and standard deviation are taken.
        budget: Of the training.
        learning_rate: Its peak.
        seed: Of the order of groups and of the sampled frames, which are the same for every model.

    Yields:
        The epoch that has just ended.

    Raises:
        ValueError: The loss is not a number; a smaller learning rate may help.
    """
    num_groups = len(train.labels) // train.group_size
    batches = -(-num_groups // budget.groups)
    optimiser, schedule = _optimiser(model, budget, learning_rate, budget.epochs * batches)
    order, draw = torch.Generator().manual_seed(seed), random.Random(seed)  # noqa: S311
    for number in range(budget.epochs):
        model.train()
        losses = []
        for groups in torch.split(torch.randperm(num_groups, generator=order), budget.groups):
            # Whole groups: what differs within a batch is then the motion, and little else.
            chosen = (groups[:, None] * train.group_size + torch.arange(train.group_size)).flatten()
            clips = _sample(train.frames[chosen], budget, draw)
            loss = F.cross_entropy(model(_normalise(clips, recipe)), train.labels[chosen])
            optimiser.zero_grad()
            torch.autograd.backward(loss)
            nn.utils.clip_grad_norm_(model.parameters(), budget.clip_gradient)
            optimiser.step()
            schedule.step()
            losses.append(float(loss.detach()))
        mean_loss = sum(losses) / len(losses)
        if mean_loss != mean_loss:
            raise ValueError(
                f"The loss of epoch {number + 1} is not a number at a learning rate of "
                f"{learning_rate:g}; give smaller ones."
            )
        yield Epoch(mean_loss, measure(model, validation, recipe=recipe, budget=budget))


def measure(
    model: nn.Module, videos: Videos, *, recipe: Preprocess, budget: Budget
) -> ClipAndVideo:
    """Accuracy of single clips, and of videos by the mean of their clips' probabilities."""
    windows = _windows(videos.frames.shape[1], budget)
    logits = torch.stack(
        [_predict(model, videos.frames[:, window], recipe) for window in windows], dim=1
    )  # (V, num_clips, K)
    return ClipAndVideo(
        clip_accuracy(logits, videos.labels),
        video_accuracy(logits, videos.labels, average="probabilities"),
    )


def measure_pairs(
    model: nn.Module, balls: MovingBalls, *, recipe: Preprocess, budget: Budget
) -> ClipAndVideo:
    """Accuracy on clips and their reverses, where the answer is one direction or its opposite.

    Args:
        model: Its first classes are those of `balls`; others are no answer here.
        balls: Videos of two opposite directions.
        recipe: Its mean and standard deviation are taken.
        budget: Says how clips are sampled; each is then reversed.
    """
    found = []
    for window in _windows(balls.num_frames, budget):
        pairs = ReversedPairs(balls, partial(_given, window))
        items = [pairs[index] for index in range(len(pairs))]
        labels = torch.tensor([label for _, label in items])
        logits = _predict(model, torch.stack([clip for clip, _ in items]), recipe)
        found.append(logits[:, : len(balls.directions)])
    logits = torch.stack(found, dim=1)  # (2V, num_clips, K)
    by_clip = torch.stack([pair_answers(clip) for clip in logits.unbind(dim=1)], dim=1)
    by_video = pair_answers(average_views(logits, "probabilities"))
    return ClipAndVideo(_share(by_clip == labels[:, None]), _share(by_video == labels))


def pair_answers(logits: Tensor) -> Tensor:
    """The answers to clips and their reverses.

    A model that ignores order adds up the same numbers for both, in another order: its logits then
    differ by rounding. Such a pair has one answer, that to the clip.

    Args:
        logits: Of items 2k, a clip, and 2k + 1, its reverse: (2V, K).

    Returns:
        Class indices, (2V,).
    """
    pairs = logits.reshape(-1, 2, logits.shape[1])  # (V, 2, K)
    answers = pairs.argmax(dim=2)
    difference = (pairs[:, 0] - pairs[:, 1]).abs().amax(dim=1)
    same = difference <= SAME_LOGITS * pairs.abs().amax(dim=(1, 2))
    answers[same, 1] = answers[same, 0]
    return answers.flatten()


def _windows(total: int, budget: Budget) -> list[list[int]]:
    """The frames of every clip that a video of `total` frames is tested on."""
    return multi_clip(total, budget.num_frames, budget.num_clips, stride=budget.frame_stride)


def _given(window: list[int], total: int) -> list[int]:
    """A sampler that takes the frames of a window."""
    assert window[-1] < total
    return window


def _sample(videos: Tensor, budget: Budget, draw: random.Random) -> Tensor:
    """One clip of each video (N, F, H, W, C) at a random place: (N, T, H, W, C)."""
    total = videos.shape[1]
    return torch.stack(
        [
            video[dense(total, budget.num_frames, stride=budget.frame_stride, rng=draw)]
            for video in videos
        ]
    )


def _normalise(clips: Tensor, recipe: Preprocess) -> Tensor:
    """Decoded clips, uint8 (N, T, H, W, C), as input of a model, float (N, C, T, H, W)."""
    normal = (clips.float() / 255 - torch.tensor(recipe.mean)) / torch.tensor(recipe.std)
    return normal.permute(0, 4, 1, 2, 3)  # (N, C, T, H, W)


@torch.inference_mode()
def _predict(model: nn.Module, clips: Tensor, recipe: Preprocess) -> Tensor:
    """Logits (N, K) of decoded clips, uint8 (N, T, H, W, C)."""
    model.eval()
    return torch.cat([model(_normalise(part, recipe)) for part in torch.split(clips, 50)])


def _optimiser(
    model: nn.Module, budget: Budget, learning_rate: float, steps: int
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
    parameters: Sequence[nn.Parameter] = list(model.parameters())
    optimiser = torch.optim.AdamW(
        [
            {"params": [p for p in parameters if p.ndim > 1], "weight_decay": budget.weight_decay},
            {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
        ]
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser,
        max_lr=learning_rate,
        total_steps=steps,
        pct_start=budget.warmup,
        cycle_momentum=False,
    )
    return optimiser, schedule


def _share(right: Tensor) -> float:
    """Part of 1 that is true."""
    return int(right.sum()) / right.numel()
