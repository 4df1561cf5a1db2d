"""Every choice of a training run, as frozen data: what is asked for, compared and written down."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

if TYPE_CHECKING:  # the command line reads the defaults of this file, and must not wait for torch
    from zoo.augmentation import Augmentation

__all__ = ["OnError", "Optimizer", "PretrainRecipe", "RunRecipe", "TrainRecipe", "differences"]

Optimizer = Literal["adamw", "sgd"]
OnError = Literal["skip", "raise"]

FREE_CHOICES = ("recipe.workers", "recipe.save_steps", "recipe.log_steps", "recipe.tensorboard")
"""What a resumed run may choose anew, since it changes no weight."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecipe:
    """What every kind of training can be told.

    Attributes:
        epochs: Passes over the data.
        batch_size: Clips at most that one process handles at a time.
        accumulate: Batches of every process that one step of the optimiser is made of; a step
            sees up to batch_size x accumulate x processes clips.
        optimizer: AdamW, or SGD with Nesterov's momentum.
        lr: Highest learning rate; of the last layers, where `layer_decay` lowers the others'.
        min_lr: Learning rate at the very end.
        weight_decay: Decoupled for AdamW; none for biases, norms and what the model excepts.
        momentum: Of SGD; the first beta of AdamW.
        beta2: The second beta of AdamW.
        warmup_epochs: Epochs, not necessarily whole, in which the learning rate rises linearly;
            None for a twentieth of all.
        layer_decay: Factor of the learning rate from each layer to the one before it; None for
            one rate everywhere.
        clip_grad: Largest norm of all gradients together; None for no limit.
        ema: Decay of the moving average of the weights that is validated and kept as best;
            None for no average.
        bf16: Whether the network computes in bfloat16 where autocast finds that safe; the
            weights stay float32.
        grad_checkpointing: Whether activations are computed again instead of kept.
        seed: Decides the new layers, the order of the data and every random choice.
        workers: Processes that decode videos, for each process that trains; 0 for none.
        on_error: What a video that cannot be read does: it is left out and named, or ends the run.
        save_steps: Steps from one checkpoint to the next within an epoch; 0 for one an epoch.
        log_steps: Steps that a line of the log sums up.
        tensorboard: Whether to write TensorBoard's events too.
        augmentation: What training clips go through; None for what is usual in this kind of
            training, `Augmentation()` or `pretraining.AUGMENTATION`.
    """

    epochs: int = 10
    batch_size: int = 8
    accumulate: int = 1
    optimizer: Optimizer = "adamw"
    lr: float = 1e-4
    min_lr: float = 0.0
    weight_decay: float = 0.05
    momentum: float = 0.9
    beta2: float = 0.999
    warmup_epochs: float | None = 1.0
    layer_decay: float | None = None
    clip_grad: float | None = None
    ema: float | None = None
    bf16: bool = False
    grad_checkpointing: bool = False
    seed: int = 0
    workers: int = 0
    on_error: OnError = "skip"
    save_steps: int = 0
    log_steps: int = 10
    tensorboard: bool = False
    augmentation: Augmentation | None = None

    def __post_init__(self) -> None:
        """Refuse values that no run can have.

        Raises:
            ValueError: One is of another kind or out of its range.
        """
        for name, least in (
            *(("epochs", 1), ("batch_size", 1), ("accumulate", 1), ("log_steps", 1)),
            *(("seed", 0), ("workers", 0), ("save_steps", 0)),
        ):
            _check_whole(name, getattr(self, name), least)
        _check_range("lr", self.lr, 0.0, math.inf, open_low=True)
        for name, low, high in (
            ("min_lr", 0.0, self.lr),
            ("weight_decay", 0.0, math.inf),
            ("momentum", 0.0, 1.0),
            ("beta2", 0.0, 1.0),
        ):
            _check_range(name, getattr(self, name), low, high)
        for name, high in (("layer_decay", 1.0), ("clip_grad", math.inf), ("ema", 1.0)):
            value = getattr(self, name)
            if value is not None:
                _check_range(name, value, 0.0, high, open_low=True)
        _check_range("warmup_epochs", self.rising_epochs, 0.0, float(self.epochs))
        _check_choice("optimizer", self.optimizer, get_args(Optimizer))
        _check_choice("on_error", self.on_error, get_args(OnError))

    @property
    def rising_epochs(self) -> float:
        """Epochs in which the learning rate rises."""
        return self.epochs / 20 if self.warmup_epochs is None else self.warmup_epochs

    def to_json(self) -> dict[str, Any]:
        """The object that `recipe.json` holds."""
        return {**asdict(self), "warmup_epochs": self.rising_epochs}


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainRecipe(RunRecipe):
    """How a classifier is fine-tuned, or trained from scratch.

    Attributes:
        freeze: What the names of parameters begin with that are not trained, such as `stem` or
            `blocks.0`; whole parts between dots. Their BatchNorms keep their statistics.
        label_smoothing: Part of the target that is spread over all classes.
        val_clips: Clips of a video in validation.
        val_crops: Crops of a clip in validation.
    """

    freeze: tuple[str, ...] = ()
    label_smoothing: float = 0.0
    val_clips: int = 1
    val_crops: int = 1

    def __post_init__(self) -> None:
        """See `RunRecipe`."""
        # The plain form of super() does not know the class that slots=True made anew.
        RunRecipe.__post_init__(self)
        _check_range("label_smoothing", self.label_smoothing, 0.0, 1.0)
        _check_whole("val_clips", self.val_clips, 1)
        _check_choice("val_crops", self.val_crops, (1, 3))


@dataclass(frozen=True, slots=True, kw_only=True)
class PretrainRecipe(RunRecipe):
    """How a masked autoencoder is pre-trained; the defaults are VideoMAE's for Kinetics-400.

    Its learning rate is 1.5e-4 for 256 clips a step, and grows with them.

    Attributes:
        mask_ratio: Part of the places that is hidden.
        normalise_targets: Whether each tubelet's pixels get mean 0 and deviation 1.
    """

    epochs: int = 800
    lr: float = 1.5e-4
    beta2: float = 0.95
    warmup_epochs: float | None = None
    mask_ratio: float = 0.9
    normalise_targets: bool = True

    def __post_init__(self) -> None:
        """See `RunRecipe`."""
        RunRecipe.__post_init__(self)
        _check_range("mask_ratio", self.mask_ratio, 0.0, 1.0, open_low=True)


def _check_whole(name: str, value: object, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f"{name} must be a whole number of {least} or more, not {value!r}.")


def _check_range(
    name: str, value: object, low: float, high: float, *, open_low: bool = False
) -> None:
    if (
        isinstance(value, bool)
        or not isinstance(value, (int, float))
        or not math.isfinite(value)
        or not low <= value <= high
        or (open_low and value == low)
    ):
        start = f"above {low:g}" if open_low else f"{low:g} or more"
        end = "" if high == math.inf else f" and at most {high:g}"
        raise ValueError(f"{name} must be {start}{end}, not {value!r}.")


def _check_choice(name: str, value: object, known: tuple[object, ...]) -> None:
    if value not in known:
        choices = " or ".join(repr(choice) for choice in known)
        raise ValueError(f"{name} must be {choices}, not {value!r}.")


def differences(then: Any, now: Any, *, at: str = "") -> list[str]:
    """What a run was told when it began and what it is told now, where that differs.

    Args:
        then: What was written down, as JSON holds it.
        now: What is asked for, in the same form.
        at: Where in it, for the texts.

    Returns:
        One text for each difference, such as `lr was 0.1 and is 0.2`.
    """
    if isinstance(then, dict) and isinstance(now, dict):
        places = {key: f"{at}.{key}" if at else key for key in {**then, **now}}
        return [
            text
            for key, place in places.items()
            if place not in FREE_CHOICES
            for text in differences(then.get(key), now.get(key), at=place)
        ]
    if isinstance(then, (list, tuple)) and isinstance(now, (list, tuple)):
        then, now = list(then), list(now)
    return [] if then == now else [f"{at} was {then!r} and is {now!r}"]
