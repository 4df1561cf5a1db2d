"""`zoo train` and `zoo pretrain`: on one process, or on as many as a launcher starts."""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from zoo.commands._console import say
from zoo.training.recipe import PretrainRecipe, TrainRecipe

if TYPE_CHECKING:
    from zoo.augmentation import Augmentation
    from zoo.training.team import Team

__all__ = ["pretrain_", "train_"]

TRAIN: dict[str, Any] = {field.name: field.default for field in fields(TrainRecipe)}
PRETRAIN: dict[str, Any] = {field.name: field.default for field in fields(PretrainRecipe)}


def _option(text: str, *names: str) -> Any:
    return typer.Option(*names, help=text)


# The options that both commands have.
Data = Annotated[str, _option("What to train on, such as k400:ROOT, folder:ROOT or csv:FILE.")]
Out = Annotated[Path, _option("Folder of the run: best/, last/, log.jsonl, recipe.json.")]
Split = Annotated[str, _option("Split of --data.")]
Epochs = Annotated[int, _option("Passes over the data.")]
BatchSize = Annotated[int, _option("Clips at a time, for each process.")]
Accumulate = Annotated[int, _option("Batches that a step of the optimiser is made of.")]
Optimizer = Annotated[str, _option("adamw or sgd.")]
Lr = Annotated[float, _option("Highest learning rate.")]
MinLr = Annotated[float, _option("Learning rate at the end of the cosine.")]
WeightDecay = Annotated[float, _option("Weight decay, of matrices and kernels only.")]
Momentum = Annotated[float, _option("SGD's momentum, or AdamW's first beta.")]
Beta2 = Annotated[float, _option("AdamW's second beta.")]
_RISING = "Epochs in which the learning rate rises"
Warmup = Annotated[float, _option(f"{_RISING}.")]
PretrainWarmup = Annotated[float | None, _option(f"{_RISING}; else a twentieth of all.")]
LayerDecay = Annotated[
    float | None, _option("Factor of the learning rate from each layer to the one before.")
]
ClipGrad = Annotated[float | None, _option("Largest norm of all gradients together.")]
Ema = Annotated[float | None, _option("Decay of an average of the weights, such as 0.9999.")]
Bf16 = Annotated[bool, _option("Compute in bfloat16.", "--bf16")]
Checkpointing = Annotated[
    bool, _option("Save memory: compute activations twice.", "--grad-checkpointing")
]
Seed = Annotated[int, _option("Decides every random choice.")]
Workers = Annotated[int, _option("Processes that decode, for each one that trains.")]
OnError = Annotated[str, _option("What a video does that cannot be read: skip or raise.")]
SaveSteps = Annotated[int, _option("Steps between checkpoints, besides the one of each epoch.")]
LogSteps = Annotated[int, _option("Steps that a line of the log sums up.")]
TensorBoard = Annotated[bool, _option("Write TensorBoard's events too.", "--tensorboard")]
Resume = Annotated[bool, _option("Go on from the last checkpoint in --out.", "--resume")]
Cpu = Annotated[bool, _option("Stay on the processor.", "--cpu")]
NumFrames = Annotated[int | None, _option("Frames of a clip; else as the weights want.")]
ImgSize = Annotated[int | None, _option("Side of the pictures; else as the weights want.")]
DropPath = Annotated[float | None, _option("Stochastic depth at the last block.")]
CropScale = Annotated[
    tuple[float, float] | None, _option("Least and most part of the frame in a random crop.")
]
Flip = Annotated[float | None, _option("Probability of a flip from left to right.")]


def train_(
    name: Annotated[str, typer.Argument(help="Name, name.tag, i3d:IMAGE-MODEL, local-dir:PATH.")],
    data: Data,
    out: Out,
    val: Annotated[str | None, _option("What to measure after each epoch, as --data.")] = None,
    split: Split = "train",
    val_split: Annotated[str, _option("Split of --val.")] = "val",
    labels: Annotated[
        str | None, _option("Class names: a list of the zoo, or a file of one a line.")
    ] = None,
    scratch: Annotated[bool, _option("Begin with random weights.", "--from-scratch")] = False,
    checkpoint: Annotated[
        Path | None, _option("Begin with this file of weights, or the best/ of another run.")
    ] = None,
    num_frames: NumFrames = None,
    img_size: ImgSize = None,
    drop_path: DropPath = None,
    drop_rate: Annotated[float | None, _option("Dropout before the classifier.")] = None,
    freeze: Annotated[
        list[str] | None, _option("Do not train what is named so at the beginning; repeatable.")
    ] = None,
    no_augment: Annotated[
        bool, _option("Only what the options beside ask for.", "--no-augment")
    ] = False,
    crop_scale: CropScale = None,
    flip: Flip = None,
    rand_augment: Annotated[int | None, _option("Operations of RandAugment.")] = None,
    rand_magnitude: Annotated[int | None, _option("Their strength, 0 to 30.")] = None,
    erasing: Annotated[float | None, _option("Probability of random erasing.")] = None,
    mixup: Annotated[float | None, _option("Alpha of mixup.")] = None,
    cutmix: Annotated[float | None, _option("Alpha of cutmix.")] = None,
    label_smoothing: Annotated[float, _option("Label smoothing.")] = TRAIN["label_smoothing"],
    val_clips: Annotated[int, _option("Clips of a video in validation.")] = TRAIN["val_clips"],
    val_crops: Annotated[int, _option("Crops of a clip in validation.")] = TRAIN["val_crops"],
    epochs: Epochs = TRAIN["epochs"],
    batch_size: BatchSize = TRAIN["batch_size"],
    accumulate: Accumulate = TRAIN["accumulate"],
    optimizer: Optimizer = TRAIN["optimizer"],
    lr: Lr = TRAIN["lr"],
    min_lr: MinLr = TRAIN["min_lr"],
    weight_decay: WeightDecay = TRAIN["weight_decay"],
    momentum: Momentum = TRAIN["momentum"],
    beta2: Beta2 = TRAIN["beta2"],
    warmup_epochs: Warmup = TRAIN["warmup_epochs"],
    layer_decay: LayerDecay = TRAIN["layer_decay"],
    clip_grad: ClipGrad = TRAIN["clip_grad"],
    ema: Ema = TRAIN["ema"],
    bf16: Bf16 = TRAIN["bf16"],
    grad_checkpointing: Checkpointing = TRAIN["grad_checkpointing"],
    seed: Seed = TRAIN["seed"],
    workers: Workers = TRAIN["workers"],
    on_error: OnError = TRAIN["on_error"],
    save_steps: SaveSteps = TRAIN["save_steps"],
    log_steps: LogSteps = TRAIN["log_steps"],
    tensorboard: TensorBoard = TRAIN["tensorboard"],
    resume: Resume = False,
    cpu: Cpu = False,
) -> None:
    """Fine-tune a model on labelled videos; on many processes under torchrun or accelerate."""
    given = locals()
    with _launched(cpu=cpu) as team:
        from zoo.augmentation import Augmentation
        from zoo.datasets import open_dataset
        from zoo.training import classifier_for, train

        with team.together():
            start = Augmentation.none() if no_augment else Augmentation()
            recipe = TrainRecipe(
                **_chosen(given, TrainRecipe)
                | {"freeze": tuple(freeze or ()), "augmentation": _augmentation(start, given)}
            )
            options = {} if labels is None else {"labels": labels}
            videos = open_dataset(data, split=split, **options)
            held_out = open_dataset(val, split=val_split, **options) if val is not None else None
            model = classifier_for(
                name,
                videos.labels,
                pretrained=not scratch and checkpoint is None,
                checkpoint=checkpoint,
                seed=seed,
                **_arguments(given),
            )
        result = train(
            model, videos, recipe, out, val=held_out, resume=resume, cpu=cpu, progress=True
        )
        if team.is_main:
            sys.stdout.write(f"{result.best}\n")


def pretrain_(
    name: Annotated[str, typer.Argument(help="A videomae_pretrain model; see `zoo list`.")],
    data: Data,
    out: Out,
    split: Split = "train",
    num_frames: NumFrames = None,
    img_size: ImgSize = None,
    drop_path: DropPath = None,
    crop_scale: CropScale = None,
    flip: Flip = None,
    mask_ratio: Annotated[float, _option("Part of the places that is hidden.")] = PRETRAIN[
        "mask_ratio"
    ],
    plain_targets: Annotated[
        bool, _option("Predict pixels that are not normalised by tubelet.", "--plain-targets")
    ] = False,
    epochs: Epochs = PRETRAIN["epochs"],
    batch_size: BatchSize = PRETRAIN["batch_size"],
    accumulate: Accumulate = PRETRAIN["accumulate"],
    optimizer: Optimizer = PRETRAIN["optimizer"],
    lr: Lr = PRETRAIN["lr"],
    min_lr: MinLr = PRETRAIN["min_lr"],
    weight_decay: WeightDecay = PRETRAIN["weight_decay"],
    momentum: Momentum = PRETRAIN["momentum"],
    beta2: Beta2 = PRETRAIN["beta2"],
    warmup_epochs: PretrainWarmup = PRETRAIN["warmup_epochs"],
    layer_decay: LayerDecay = PRETRAIN["layer_decay"],
    clip_grad: ClipGrad = PRETRAIN["clip_grad"],
    ema: Ema = PRETRAIN["ema"],
    bf16: Bf16 = PRETRAIN["bf16"],
    grad_checkpointing: Checkpointing = PRETRAIN["grad_checkpointing"],
    seed: Seed = PRETRAIN["seed"],
    workers: Workers = PRETRAIN["workers"],
    on_error: OnError = PRETRAIN["on_error"],
    save_steps: SaveSteps = PRETRAIN["save_steps"],
    log_steps: LogSteps = PRETRAIN["log_steps"],
    tensorboard: TensorBoard = PRETRAIN["tensorboard"],
    resume: Resume = False,
    cpu: Cpu = False,
) -> None:
    """Pre-train an encoder on videos without labels, by hiding most of each."""
    given = locals()
    with _launched(cpu=cpu) as team:
        from zoo.datasets import open_dataset
        from zoo.training import autoencoder_for, pretrain
        from zoo.training.pretraining import AUGMENTATION

        with team.together():
            recipe = PretrainRecipe(**_chosen(given, PretrainRecipe))
            recipe = replace(
                recipe,
                normalise_targets=not plain_targets,
                augmentation=_augmentation(AUGMENTATION, given),
            )
            videos = open_dataset(data, split=split)
            model = autoencoder_for(name, seed=seed, **_arguments(given))
        result = pretrain(model, videos, recipe, out, resume=resume, cpu=cpu, progress=True)
        if team.is_main:
            sys.stdout.write(f"{result.best}\n")


def _chosen(given: Mapping[str, Any], kind: type) -> dict[str, Any]:
    """The options that are a recipe's own."""
    names = {field.name for field in fields(kind)}
    return {name: value for name, value in given.items() if name in names}


def _augmentation(start: Augmentation, given: Mapping[str, Any]) -> Augmentation:
    """What is usual, with what was asked for put in."""
    names = {"rand_augment": "rand_augment_ops", "rand_magnitude": "rand_augment_magnitude"}
    names |= {key: key for key in ("crop_scale", "flip", "erasing", "mixup", "cutmix")}
    asked = {names[key]: given[key] for key in names if given.get(key) is not None}
    return replace(start, **asked)


def _arguments(given: Mapping[str, Any]) -> dict[str, Any]:
    """The options that go to `zoo.create`."""
    names = {"num_frames": "num_frames", "img_size": "img_size"}
    names |= {"drop_path": "drop_path_rate", "drop_rate": "drop_rate"}
    return {names[key]: given[key] for key in names if given.get(key) is not None}


class _Words(logging.Handler):
    """Says what a run logs."""

    def emit(self, record: logging.LogRecord) -> None:
        warned = record.levelno >= logging.WARNING
        say(f"warning: {record.getMessage()}" if warned else record.getMessage())


@contextmanager
def _launched(*, cpu: bool) -> Iterator[Team]:
    """The processes that a launcher started, or the only one; the main one alone speaks."""
    from zoo.training.stopping import ToldElsewhereError, TrainingInterruptedError
    from zoo.training.team import Team, leave

    words, handler = logging.getLogger("zoo.training"), _Words()
    team = Team(cpu=cpu)
    if team.is_main:
        words.addHandler(handler)
        words.setLevel(logging.INFO)
    else:
        warnings.simplefilter("ignore")
    try:
        yield team
    except ToldElsewhereError:
        raise typer.Exit(1) from None
    except TrainingInterruptedError as error:
        say(str(error))
        raise typer.Exit(130) from None
    finally:
        words.removeHandler(handler)
        leave()
