"""From a video file to a model's input: decode, sample and preprocess as its weights want."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from typing import Literal, Protocol, get_args

import torch
from torch import Tensor

from registry.names import did_you_mean
from registry.records import Preprocess, Sampling, SamplingRule
from zoo.preprocessing import check_sizes, check_takes_frames, preprocess_resized, resize_frame
from zoo.sampling import clip_indices
from zoo.video import Video

__all__ = ["HasRecipe", "Recipe", "check_views", "iter_clips", "load_clip", "views_of"]


class Recipe(Protocol):
    """What a record must tell about a model's input."""

    @property
    def sampling(self) -> Sampling: ...

    @property
    def preprocess(self) -> Preprocess: ...


class HasRecipe(Protocol):
    """Anything with a record: every model that `create` returns."""

    @property
    def record(self) -> Recipe | None: ...


def load_clip(
    video: str | os.PathLike[str] | Video,
    model: HasRecipe,
    *,
    sampling: SamplingRule | Sampling | None = None,
    num_clips: int | Literal["all"] = 1,
    num_crops: int = 1,
) -> Tensor:
    """Load the views of one video as a model's weights want them.

    A video shorter than a clip gives the frames it has, and its last one repeated.

    Args:
        video: Path of a video file, or an open `Video`.
        model: A model, for the recipe in its record.
        sampling: Another rule by its name, or a whole recipe, than the record's.
        num_clips: Clips spread over the video, or "all" for windows over the whole of it; those
            of a long video do not fit into memory together (see `iter_clips`).
        num_crops: 1 for the centre, 3 along the longer side.

    Returns:
        float32 (V, C, T, H, W), V = clips x crops, the crops of one clip side by side.
    """
    clips = list(
        iter_clips(video, model, sampling=sampling, num_clips=num_clips, num_crops=num_crops)
    )
    return clips[0] if len(clips) == 1 else torch.cat(clips)


def iter_clips(
    video: str | os.PathLike[str] | Video,
    model: HasRecipe,
    *,
    sampling: SamplingRule | Sampling | None = None,
    num_clips: int | Literal["all"] = 1,
    num_crops: int = 1,
) -> Iterator[Tensor]:
    """Load the clips of one video one by one, for videos of any length.

    The video is decoded once, forward. Frames are held only while a clip that has begun needs
    them: one clip for consecutive windows, more where clips overlap.

    Args:
        video: Path of a video file, or an open `Video`.
        model: A model, for the recipe in its record.
        sampling: Another rule by its name, or a whole recipe, than the record's.
        num_clips: Clips spread over the video, or "all" for windows over the whole of it.
        num_crops: 1 for the centre, 3 along the longer side.

    Returns:
        An iterator over clips, float32 (num_crops, C, T, H, W).
    """
    record = getattr(model, "record", None)
    if record is None:
        raise ValueError(
            f"This {type(model).__name__} has no record of its input; build it with zoo.create, "
            f"and give what that returned, not what wraps it."
        )
    recipe, pixels = _sampling(record.sampling, sampling), record.preprocess
    channels = getattr(model, "in_chans", len(pixels.mean))
    if channels != len(pixels.mean):
        raise ValueError(
            f"This model takes {channels} channels; a video gives 3, or 1 in gray: make the clip "
            f"yourself, or build the model with in_chans=3 or 1."
        )
    check_views(num_clips, num_crops)
    opened = video if isinstance(video, Video) else Video(video)
    # a video that came open stays open
    closing = nullcontext() if opened is video else opened

    def clips() -> Iterator[Tensor]:
        with closing:
            indices = clip_indices(recipe, opened.times, num_clips)
            yield from views_of(opened, indices, pixels, num_crops=num_crops)

    return clips()


def check_views(num_clips: int | Literal["all"], num_crops: int) -> None:
    """Refuse numbers of views that do not exist.

    Args:
        num_clips: Clips a video, or "all".
        num_crops: Crops a clip.

    Raises:
        ValueError: No such views can be taken.
    """
    if num_crops not in (1, 3):
        raise ValueError(
            f"num_crops={num_crops!r} is given; 1 (centre) and 3 (along the longer side) exist."
        )
    if num_clips != "all" and (not isinstance(num_clips, int) or num_clips < 1):
        raise ValueError(f"num_clips={num_clips!r} is given; give 1 or more, or 'all'.")


def views_of(
    video: Video, clips: Iterator[list[int]], recipe: Preprocess, *, num_crops: int
) -> Iterator[Tensor]:
    """Make the views of clips in order; every frame of the video is decoded and resized once.

    Args:
        video: An open video.
        clips: T indices for each clip, ascending; clips in the order of their first frames.
        recipe: What the weights were trained on.
        num_crops: Crops a clip.

    Returns:
        An iterator over clips, float32 (num_crops, C, T, H, W).
    """
    check_takes_frames(recipe)
    check_sizes(recipe)
    held: dict[int, Tensor] = {}
    begun: deque[list[int]] = deque()
    ahead = next(clips, None)
    while begun or ahead is not None:
        if not begun and ahead is not None:
            begun.append(ahead)
            ahead = next(clips, None)
        end = begun[0][-1]
        while ahead is not None and ahead[0] <= end:
            begun.append(ahead)
            ahead = next(clips, None)
        needed = {index for clip in begun for index in clip if index <= end}
        goes_on = ahead is not None or len(begun) > 1
        for index, frame in video.frames(needed - held.keys(), goes_on=goes_on):
            held[index] = resize_frame(frame, recipe)
        clip = begun.popleft()
        yield preprocess_resized([held[index] for index in clip], recipe, num_crops=num_crops)
        still = {index for later in begun for index in later}
        held = {index: frame for index, frame in held.items() if index in still}


def _sampling(own: Sampling, wanted: SamplingRule | Sampling | None) -> Sampling:
    """Choose the record's recipe, another rule with its number of frames, or a given recipe."""
    if wanted is None:
        return own
    if isinstance(wanted, Sampling):
        return wanted
    rules = get_args(SamplingRule)
    if wanted not in rules:
        raise ValueError(
            f"Unknown sampling {wanted!r}. Known: {', '.join(rules)}."
            f"{did_you_mean(str(wanted), rules)}"
        )
    if wanted == own.rule:
        return own
    if wanted in ("dense", "span"):
        return replace(own, rule=wanted)
    return replace(own, rule=wanted, frame_stride=1, fps=None)
