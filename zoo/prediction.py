"""`predict`: from a video to its most probable labels."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from registry.records import Preprocess
from zoo.clips import iter_clips
from zoo.models._base import VideoModel
from zoo.video import Video

__all__ = ["Prediction", "predict"]


@dataclass(frozen=True, slots=True)
class Prediction:
    """One class with its probability in [0, 1]."""

    label: str
    index: int
    probability: float


def predict(
    model: VideoModel,
    video: str | os.PathLike[str] | Video | Tensor,
    *,
    topk: int | None = None,
    num_clips: int | Literal["all"] = 1,
    num_crops: int = 1,
) -> list[Prediction]:
    """Name what happens in a video.

    One clip at a time is decoded and forgotten, so that memory does not grow with the video. What
    is averaged over the views, logits or probabilities, is what the model's record says.

    Args:
        model: A model that `zoo.create` made.
        video: Path of a video, an open `Video`, or clips as `load_clip` makes them, float
            (V, C, T, H, W).
        topk: Predictions wanted; the five best if left out, or all where there are fewer classes.
        num_clips: Clips spread over the video; "all" for windows over the whole of it.
        num_crops: 1 for the centre, 3 along the longer side.

    Returns:
        Predictions, best first. A class without a known name is called by its index.

    Raises:
        ValueError: The video cannot be read, the clips hold NaN, the model has no classifier, or
            `topk` is beyond its classes.
        FileNotFoundError: There is no such file.
    """
    topk = check_request(model, topk)
    config = model.record
    assert config is not None
    clips: Iterable[Tensor]
    if isinstance(video, Tensor):
        if (num_clips, num_crops) != (1, 1):
            raise ValueError(
                "num_clips and num_crops are for videos; these clips are made already."
            )
        model.check_input(video)
        _check_pixels(video, config.preprocess)
        clips = [video]
    else:
        clips = iter_clips(video, model, num_clips=num_clips, num_crops=num_crops)
    scores = _average(model, clips, config.sampling.average)
    best = scores.topk(topk)
    return [
        Prediction(config.labels[index] if config.labels else str(index), index, probability)
        for index, probability in zip(best.indices.tolist(), best.values.tolist(), strict=True)
    ]


def check_request(model: VideoModel, topk: int | None) -> int:
    """The number of labels to give, if this model can give that many.

    Raises:
        ValueError: The model was not made by `create`, has no classes, or has fewer.
    """
    config = getattr(model, "record", None)
    if config is None:
        raise ValueError(
            f"This {type(model).__name__} was not made by zoo.create, so its input is not known; "
            f"give what zoo.create returned, not what wraps it."
        )
    classes: int = model.num_classes
    if classes == 0:
        raise ValueError(
            f"{config.name!r} was made with num_classes=0 and returns features; give it classes "
            f"with model.reset_classifier(K) or zoo.create(..., num_classes=K)."
        )
    if topk is None:
        return min(5, classes)
    if isinstance(topk, bool) or not isinstance(topk, int) or not 1 <= topk <= classes:
        raise ValueError(f"topk must be between 1 and the {classes} classes, not {topk!r}.")
    return topk


def _average(
    model: VideoModel, clips: Iterable[Tensor], average: Literal["logits", "probabilities"]
) -> Tensor:
    """Probabilities of a video, (K,), from the views of it, each (V, C, T, H, W)."""
    parameter = next(model.parameters())
    # Each module's mode is put back: a frozen BatchNorm inside a training model stays frozen.
    training = [module for module in model.modules() if module.training]
    model.eval()
    total, views = torch.zeros(model.num_classes, dtype=torch.float64), 0
    try:
        with torch.inference_mode():
            for clip in clips:
                logits = model(clip.to(parameter.device, parameter.dtype)).double().cpu()
                total += (logits.softmax(dim=1) if average == "probabilities" else logits).sum(0)
                views += len(logits)
    finally:
        for module in training:
            module.training = True
    mean = total / views
    if not mean.isfinite().all():
        raise ValueError(
            "The model's outputs are not finite; its weights are damaged, or its precision is too "
            "low for this input."
        )
    return mean if average == "probabilities" else mean.softmax(dim=0)


def _check_pixels(clips: Tensor, recipe: Preprocess) -> None:
    """Refuse NaN; warn of values that no normalised pixel has."""
    if clips.shape[0] == 0:
        raise ValueError(f"There is no clip in a tensor of shape {tuple(clips.shape)}.")
    if not clips.isfinite().all():
        bad = clips.numel() - int(clips.isfinite().sum())
        raise ValueError(
            f"The clip holds {bad} values that are NaN or infinite; check how it was made, or let "
            f"zoo.load_clip make it."
        )
    low = min(-mean / std for mean, std in zip(recipe.mean, recipe.std, strict=True))
    high = max((1 - mean) / std for mean, std in zip(recipe.mean, recipe.std, strict=True))
    slack = 0.5 * (high - low)
    found_low, found_high = (float(value) for value in clips.aminmax())
    if found_low < low - slack or found_high > high + slack:
        warnings.warn(
            f"The clip's values span [{found_low:.3g}, {found_high:.3g}] where this model's "
            f"normalised pixels lie in [{low:.3g}, {high:.3g}]; if these are pixels in 0-255, let "
            f"zoo.load_clip normalise them.",
            stacklevel=3,
        )
