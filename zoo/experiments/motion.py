"""The lesson's experiment: which networks see motion, and which only where things have been.

Three networks learn the three directions of `MovingBalls` under one budget. FramePool averages over
frames and cannot tell left-to-right from right-to-left, so it ends at two thirds; on clips
that are each followed by their reverse it is right on exactly half. R(2+1)D and a small TimeSformer
see the order.
"""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn

from registry.records import Preprocess
from zoo.benchmarking.machine import Stopwatch
from zoo.datasets.moving_balls import LESSON_DIRECTIONS, MovingBalls
from zoo.experiments.fitting import (
    Budget,
    ClipAndVideo,
    Epoch,
    Videos,
    draw_videos,
    fit,
    measure,
    measure_pairs,
)
from zoo.factory import create
from zoo.models._base import VideoModel
from zoo.models.timesformer import TimeSformer

__all__ = ["Contestant", "Outcome", "Plan", "Run", "lesson_contestants", "run_motion"]

Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The videos, and the budget of each network.

    Attributes:
        budget: Of the training.
        seed: Of the networks' first weights; the videos' seeds follow from it.
        num_train: Videos to learn from.
        num_validation: Videos that choose the learning rate and draw the curves.
        num_test: Videos that are looked at once, when everything is chosen.
        num_pairs: Videos of the paired set, each tested forwards and reversed.
        video_frames: Frames of a video.
        img_size: Height and width of a video, pixels.
        weights: File of a 2D ResNet-18 in timm's or torchvision's layout; None trains one on
            single frames of the training videos first.
    """

    budget: Budget
    seed: int = 0
    num_train: int = 600
    num_validation: int = 150
    num_test: int = 300
    num_pairs: int = 150
    video_frames: int = 24
    img_size: int = 32
    weights: Path | None = None

    @property
    def seeds(self) -> dict[str, int]:
        """The seed of each set of videos; no two sets of any two plans share one."""
        names = ("train", "validation", "test", "pairs")
        return {name: len(names) * self.seed + index for index, name in enumerate(names)}

    def balls(self, name: str) -> MovingBalls:
        """One of the sets of videos, by its name in `seeds`."""
        lengths = {
            "train": self.num_train,
            "validation": self.num_validation,
            "test": self.num_test,
            "pairs": self.num_pairs,
        }
        return MovingBalls(
            lengths[name],
            seed=self.seeds[name],
            directions=LESSON_DIRECTIONS[:2] if name == "pairs" else LESSON_DIRECTIONS,
            num_frames=self.video_frames,
            size=self.img_size,
        )


@dataclass(frozen=True, slots=True)
class Contestant:
    """A network that takes part.

    Attributes:
        name: In tables and curves.
        start: Where its first weights come from, in words.
        build: Makes it with its first weights.
    """

    name: str
    start: str
    build: Callable[[], VideoModel]


@dataclass(frozen=True, slots=True)
class Run:
    """One training from beginning to end."""

    learning_rate: float
    epochs: tuple[Epoch, ...]

    @property
    def score(self) -> tuple[float, float]:
        """What the learning rate is chosen by: accuracy after the last epoch, then the loss."""
        last = self.epochs[-1]
        return last.validation.clip, -last.loss


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a contestant came to.

    Attributes:
        name: Of the contestant.
        start: Where its first weights came from.
        parameters: Numbers that it learned.
        runs: One a learning rate.
        best: Index of the run that the validation videos chose.
        test: Accuracy of that run's network on the test videos.
        pairs: Accuracy on the paired set.
        seconds: On the clock, everything together.
        processor_seconds: Of all threads.
    """

    name: str
    start: str
    parameters: int
    runs: tuple[Run, ...]
    best: int
    test: ClipAndVideo
    pairs: ClipAndVideo
    seconds: float
    processor_seconds: float


def run_motion(plan: Plan, *, tell: Tell) -> list[Outcome]:
    """Train and test every network.

    Args:
        plan: What to train on, and for how long.
        tell: Is given a sentence after every epoch.

    Returns:
        One outcome a network; a 2D network that had to be trained comes first.

    Raises:
        OSError: The file cannot be read.
        ValueError: The file holds no ResNet-18, or a loss is not a number.
    """
    train, validation = (draw_videos(plan.balls(name)) for name in ("train", "validation"))
    with tempfile.TemporaryDirectory() as folder:
        outcomes = []
        if plan.weights is None:
            weights, source = Path(folder) / "resnet18.safetensors", "2D ResNet-18 of the first row"
            outcomes.append(_train_image_model(plan, train, validation, weights, tell))
        else:
            weights, source = plan.weights, plan.weights.name
        for contestant in lesson_contestants(plan, weights, source):
            outcome, _ = _compete(contestant, plan, plan.budget, train, validation, tell)
            outcomes.append(outcome)
    return outcomes


def lesson_contestants(plan: Plan, weights: Path, source: str) -> list[Contestant]:
    """The three networks.

    Args:
        plan: Says the size of clips.
        weights: File of a 2D ResNet-18.
        source: What to call that file in words.
    """
    sizes: dict[str, Any] = {
        "num_classes": len(LESSON_DIRECTIONS),
        "num_frames": plan.budget.num_frames,
        "img_size": plan.img_size,
    }

    def from_image(name: str) -> VideoModel:
        with warnings.catch_warnings():
            # That the classifier and the factorised kernels are new is meant here, and said.
            warnings.simplefilter("ignore", UserWarning)
            return create(name, checkpoint=weights, **sizes)

    return [
        Contestant("framepool_r18", source, lambda: from_image("framepool_r18")),
        Contestant(
            'r2p1d_18(stem="inflated")',
            f"stem and shortcuts: {source}; the rest random",
            lambda: from_image("r2p1d_18.in1k_inflated"),
        ),
        Contestant(
            "TimeSformer, 4 blocks of 96",
            "random: a ResNet has nothing for it",
            lambda: _small_timesformer(sizes),
        ),
    ]


def _small_timesformer(sizes: dict[str, int]) -> VideoModel:
    """Divided attention over four patches a frame, from random weights."""
    model = TimeSformer("divided", 96, 4, 4, 16, **sizes)
    # The tables start about as large as the patches that they are added to. The usual 0.02 and 0
    # suit long training: within a few hundred steps they stay too small to tell where and when.
    nn.init.normal_(model.pos_embed, std=0.5)
    nn.init.normal_(model.time_embed, std=0.5)
    return model.eval()


def _train_image_model(
    plan: Plan, train: Videos, validation: Videos, path: Path, tell: Tell
) -> Outcome:
    """Train a 2D ResNet-18 to name the direction from one frame, and save it as timm's file.

    FramePool on clips of one frame is that network.
    """

    def build() -> VideoModel:
        return create("framepool_r18", num_classes=len(LESSON_DIRECTIONS), num_frames=1)

    budget = replace(plan.budget, num_frames=1, frame_stride=1)
    contestant = Contestant("2D ResNet-18 on single frames", "random", build)
    outcome, model = _compete(contestant, plan, budget, train, validation, tell)
    state = {
        key.replace("backbone.", "").replace("head.", "fc."): value.contiguous()
        for key, value in model.state_dict().items()
    }
    save_file(state, path)
    return outcome


def _compete(
    contestant: Contestant,
    plan: Plan,
    budget: Budget,
    train: Videos,
    validation: Videos,
    tell: Tell,
) -> tuple[Outcome, VideoModel]:
    """Train a network once a learning rate, and test the one that validates best."""
    watch = Stopwatch()
    recipe = _recipe()
    runs: list[Run] = []
    kept: VideoModel | None = None
    for rate in budget.learning_rates:
        torch.manual_seed(plan.seed)
        model = contestant.build()
        epochs: list[Epoch] = []
        for epoch in fit(
            model,
            train,
            validation,
            recipe=recipe,
            budget=budget,
            learning_rate=rate,
            seed=plan.seed,
        ):
            epochs.append(epoch)
            tell(_progress(contestant.name, rate, epochs, budget, watch))
        runs.append(Run(rate, tuple(epochs)))
        if max(runs, key=lambda run: run.score) is runs[-1]:
            kept = model
    assert kept is not None
    test = measure(kept, draw_videos(plan.balls("test")), recipe=recipe, budget=budget)
    pairs = measure_pairs(kept, plan.balls("pairs"), recipe=recipe, budget=budget)
    seconds, processor_seconds = watch.read()
    outcome = Outcome(
        name=contestant.name,
        start=contestant.start,
        parameters=sum(parameter.numel() for parameter in kept.parameters()),
        runs=tuple(runs),
        best=runs.index(max(runs, key=lambda run: run.score)),
        test=test,
        pairs=pairs,
        seconds=seconds,
        processor_seconds=processor_seconds,
    )
    return outcome, kept


def _recipe() -> Preprocess:
    """One input for all: that of pictures, which weights given by the user were trained on."""
    record = create("framepool_r18").record
    assert record is not None
    return record.preprocess


def _progress(
    name: str, rate: float, epochs: Sequence[Epoch], budget: Budget, watch: Stopwatch
) -> str:
    last = epochs[-1]
    return (
        f"{name}, learning rate {rate:g}, epoch {len(epochs)} of {budget.epochs}: "
        f"loss {last.loss:.3f}, validation {last.validation.clip:.1%} of clips and "
        f"{last.validation.video:.1%} of videos, {watch.read()[0]:.0f} s"
    )
