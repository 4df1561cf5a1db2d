"""Run a whole pipeline, from a video file to a clip, beside what its weights were trained on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from zoo.audit import probes
from zoo.audit.calls import seeded_pass
from zoo.audit.findings import Finding, Report, make_report
from zoo.clips import HasRecipe, Recipe
from zoo.preprocessing import preprocess
from zoo.sampling import clip_indices

__all__ = ["Pipeline", "audit_pipeline"]

Pipeline: TypeAlias = Callable[[str], Any]
"""From the path of a video to a clip, (C, T, H, W) or (V, C, T, H, W)."""

_DRAWS = 12
_SIDES = ("left", "right")


def audit_pipeline(
    pipeline: Pipeline,
    model: HasRecipe,
    *,
    train: bool = False,
    labels: Sequence[str] = (),
    name: str = "",
) -> Report:
    """Look for bugs in how a pipeline prepares clips for certain weights.

    Small videos are written whose pixels tell which frames were taken and what was done to them.

    Args:
        pipeline: Takes a path and gives a float clip (C, T, H, W), or views (V, C, T, H, W).
        model: A model, for the recipe in its record.
        train: Whether the pipeline may draw places, crops and flips at random.
        labels: The classes that it is used for; those that name a side forbid flips.
        name: What the report calls it.

    Returns:
        The findings; `report.ok` is False where one is an error.

    Raises:
        ValueError: The model has no record, or does not take three-channel videos.
    """
    recipe = model.record
    if recipe is None or len(recipe.preprocess.mean) != 3:
        raise ValueError("A pipeline is audited for a model that zoo.create made for RGB clips.")
    subject = name or getattr(pipeline, "__qualname__", type(pipeline).__name__)
    with TemporaryDirectory() as folder:
        audit = _Audit(pipeline, recipe, Path(folder), train=train)
        try:
            findings = [*audit.run(labels)]
        except _StopError as stop:
            findings = [*audit.found, stop.finding]
    return make_report(subject, f"beside the recipe of {_words(recipe)}", findings)


class _StopError(Exception):
    """Nothing more can be looked at."""

    def __init__(self, finding: Finding) -> None:
        super().__init__(finding.what)
        self.finding = finding


@dataclass
class _Audit:
    """One audit: the pipeline, what its clips should be, and a folder for the probes."""

    pipeline: Pipeline
    recipe: Recipe
    folder: Path
    train: bool
    found: list[Finding] = field(default_factory=list)

    def run(self, labels: Sequence[str]) -> Iterator[Finding]:
        """All checks, in the order in which one needs the one before."""
        frames = [probes.flat(probes.colour_of(i)) for i in range(probes.NUM_FRAMES)]
        numbered = probes.write_probe(self.folder / "numbers.mp4", frames)
        views = self.clip(numbered)
        self.found += self.shape(views)
        square = probes.write_probe(
            self.folder / "square.mp4", [probes.geometry()] * (probes.NUM_FRAMES // 2)
        )
        self.repeatable(numbered, square)
        slopes, offsets, order = self.response()
        self.found += self.pixels(slopes, offsets, order)
        taken = self.numbers(views, slopes, offsets, order)
        self.found += self.frames(taken)
        if len(views) > 1 and bool((views == views[:1]).all()):
            self.found.append(
                Finding("views_repeated", f"all {len(views)} views are equal", self.shown(views))
            )
        double = [frame for frame in frames[:90] for _ in range(2)]
        fast = probes.write_probe(self.folder / "fast.mp4", double, fps=60)
        slow = probes.write_probe(self.folder / "slow.mp4", frames[:90])
        self.found += self.rate(slow, fast, (slopes, offsets, order))
        self.found += self.geometry(square, labels)
        yield from self.found

    def clip(self, path: Path, *, seed: int = 0) -> Tensor:
        """What the pipeline makes of a video, float (V, C, T, H, W)."""
        try:
            found = seeded_pass(seed, lambda: self.pipeline(str(path)))
            clip = torch.as_tensor(np.asarray(found))
        except Exception as error:
            what = f"{type(error).__name__}: {error}"
            raise _StopError(Finding("pipeline_crash", what, path.name)) from error
        shape = tuple(clip.shape)
        clip = clip[None] if clip.ndim == 4 else clip
        if clip.ndim != 5 or 3 not in clip.shape:
            what = f"it gives {shape}, no (C, T, H, W) with three channels"
            raise _StopError(Finding("wrong_axes", what, str(shape)))
        if clip.shape[1] != 3:
            order = (0, 2, 1, 3, 4) if clip.shape[2] == 3 else (0, 4, 1, 2, 3)
            if clip.shape[order[1]] != 3:
                raise _StopError(Finding("wrong_axes", f"it gives {shape}", str(shape)))
            self.found.append(
                Finding("wrong_axes", f"it gives {shape}, channels not before time", str(shape))
            )
            clip = clip.permute(order)
        return clip.double()

    def shown(self, views: Tensor) -> str:
        return f"a clip of {tuple(views.shape[1:])} from a video of {probes.NUM_FRAMES} frames"

    def shape(self, views: Tensor) -> Iterator[Finding]:
        """Frames and pixels of a clip."""
        want, side = self.recipe.sampling.num_frames, self.recipe.preprocess.img_size
        if views.shape[2] != want:
            what = f"{views.shape[2]} frames, where the weights take {want}"
            yield Finding("wrong_frame_count", what, self.shown(views))
        if tuple(views.shape[3:]) != (side, side):
            height, width = views.shape[3:]
            what = f"{height}x{width} pixels, where the weights take {side}x{side}"
            yield Finding("wrong_size", what, self.shown(views))

    def repeatable(self, *paths: Path) -> None:
        """Stop where a test is not repeated alike: every other figure would be chance."""
        for path in () if self.train else paths:
            first = self.clip(path)
            if any(not torch.equal(first, self.clip(path, seed=seed)) for seed in (1, 2, 3)):
                what = "two passes over one video differ"
                raise _StopError(Finding("not_repeatable", what, path.name))

    def response(self) -> tuple[NDArray[np.float64], NDArray[np.float64], list[int]]:
        """How pixels are mapped: slope and offset of each channel, and where it comes from."""
        means = []
        for bright in (None, 0, 1, 2):
            colour = [probes.BRIGHT if bright == c else probes.BASE for c in range(3)]
            path = self.folder / f"colour{bright}.mp4"
            probes.write_probe(path, [probes.flat(colour)] * (probes.NUM_FRAMES // 2))
            middle = self.clip(path)[0]
            h, w = middle.shape[2] // 2, middle.shape[3] // 2
            means.append(middle[:, :, h - 2 : h + 2, w - 2 : w + 2].mean(dim=(1, 2, 3)).numpy())
        change = np.stack([mean - means[0] for mean in means[1:]])  # (source, channel)
        order = [int(source) for source in np.abs(change).argmax(axis=0)]
        slopes = np.array([change[source, c] for c, source in enumerate(order)])
        slopes /= probes.BRIGHT - probes.BASE
        if not np.all(np.abs(slopes) > 1e-9):
            what = "its pixels do not follow those of the video"
            raise _StopError(Finding("wrong_normalisation", what, "videos of one colour"))
        return slopes, means[0] - slopes * probes.BASE, order

    def pixels(
        self, slopes: NDArray[np.float64], offsets: NDArray[np.float64], order: list[int]
    ) -> Iterator[Finding]:
        """Channel order, range and normalisation."""
        recipe = self.recipe.preprocess
        want = [0, 1, 2] if recipe.channel_order == "rgb" else [2, 1, 0]
        if order != want:
            names = "".join("RGB"[source] for source in order)
            what = f"its channels are {names}, the weights' {recipe.channel_order.upper()}"
            yield Finding("wrong_channel_order", what, "videos of one colour")
        mean, std = np.array(recipe.mean), np.array(recipe.std)
        scale, shift = 1 / (255 * std), -mean / std
        found_std, found_mean = 1 / (255 * slopes), -offsets / (255 * slopes)
        what = f"its mean is {_numbers(found_mean)} and std {_numbers(found_std)} of pixels in "
        what += f"[0, 1]; the weights' are {_numbers(mean)} and {_numbers(std)}"
        example = f"grey {probes.BASE} becomes {_numbers(offsets + slopes * probes.BASE)}"
        ratio = float(np.median(slopes / scale))
        if np.allclose(slopes, scale / std, rtol=0.03) and np.allclose(
            offsets, (shift - mean) / std, rtol=0.03, atol=0.05
        ):
            yield Finding("normalised_twice", what, example)
        elif not 0.04 < ratio < 25:
            yield Finding("wrong_range", f"pixels are {ratio:.3g} times those expected", example)
        elif not (
            np.allclose(slopes, scale, rtol=0.03)
            and np.allclose(offsets, shift, rtol=0.03, atol=0.03)
        ):
            yield Finding("wrong_normalisation", what, example)

    def numbers(
        self,
        views: Tensor,
        slopes: NDArray[np.float64],
        offsets: NDArray[np.float64],
        order: list[int],
    ) -> list[int]:
        """The frames of the first view, read off its pixels."""
        h, w = views.shape[3] // 2, views.shape[4] // 2
        colours = views[0, :, :, h - 2 : h + 2, w - 2 : w + 2].mean(dim=(2, 3)).numpy()  # (C, T)
        levels = (colours - offsets[:, None]) / slopes[:, None]
        source = np.empty_like(levels)
        source[order] = levels
        return [probes.number_of(levels) for levels in source.T]

    def frames(self, taken: list[int]) -> Iterator[Finding]:
        """Which frames were taken."""
        times = [i / 30 for i in range(probes.NUM_FRAMES)]
        want = next(clip_indices(self.recipe.sampling, times, 1))
        example = f"of {probes.NUM_FRAMES} frames at 30/s it takes {taken}"
        if len(taken) != len(want):
            return
        steps = [b - a for a, b in pairwise(taken)]
        wanted = [b - a for a, b in pairwise(want)]
        if self.train:
            off = abs(sum(steps) - sum(wanted)) > 0.25 * max(sum(wanted), 1)
        else:
            off = max(abs(a - b) for a, b in zip(taken, want, strict=True)) > 1
        if off:
            yield Finding("wrong_frames", f"the weights take {want}", example)

    def rate(
        self,
        slow: Path,
        fast: Path,
        response: tuple[NDArray[np.float64], NDArray[np.float64], list[int]],
    ) -> Iterator[Finding]:
        """Whether a video at 60 frames a second is seen as the same one at 30."""
        if self.recipe.sampling.fps is None or self.train:
            return
        first, second = (self.numbers(self.clip(path), *response) for path in (slow, fast))
        if len(first) != len(second):
            what = f"{len(first)} frames of three seconds at 30/s, {len(second)} at 60/s"
            yield Finding("wrong_frame_count", what, slow.name)
        elif max(abs(a - b) for a, b in zip(first, second, strict=True)) > 1:
            what = "the same three seconds at 60 frames a second give other moments"
            yield Finding("fps_ignored", what, f"{first} at 30/s, {second} at 60/s")

    def geometry(self, path: Path, labels: Sequence[str]) -> Iterator[Finding]:
        """Aspect, scale and side."""
        want = preprocess(probes.geometry()[None], self.recipe.preprocess)[0].double()
        clips = [self.clip(path, seed=seed)[0] for seed in range(_DRAWS if self.train else 1)]
        sides = [
            label for label in labels if set(_SIDES) & set(label.lower().replace("-", " ").split())
        ]
        turned = [clip for clip in clips if _mirrored(clip)]
        if turned and not self.train:
            yield Finding("mirrored", "left and right are exchanged", path.name)
        elif turned and sides:
            what = f"{len(turned)} of {_DRAWS} clips are mirrored, and {sides[0]!r} is a class"
            yield Finding("flips_direction_labels", what, path.name)
        if self.train:
            return  # a random crop has another scale each time
        height, width = _extent(clips[0])
        wanted = _extent(want)
        if not (height and width):
            return
        shown = f"a square of 96 pixels in 320x240 becomes {width}x{height}"
        shown += f", the weights' recipe makes {wanted[1]}x{wanted[0]}"
        stretch = (width / height) / (wanted[1] / wanted[0])
        if not 0.95 < stretch < 1.05:
            yield Finding("aspect_changed", f"stretched by {stretch:.2f} in width", shown)
        elif not 0.95 < width / wanted[1] < 1.05:
            yield Finding("wrong_scale", f"{width / wanted[1]:.2f} times as large", shown)


def _extent(clip: Tensor) -> tuple[int, int]:
    """Height and width of the bright square in a clip (C, T, H, W), pixels."""
    grey = clip[:, 0].mean(dim=0)
    if grey.max() - grey.min() < 0.02 * grey.abs().max():
        return grey.shape[0], grey.shape[1]  # the square fills all of it
    centre = grey[grey.shape[0] // 2, grey.shape[1] // 2]
    limit = (centre + grey.median().maximum(grey[0, -1]).maximum(grey[0, 0])) / 2
    bright = grey > limit if centre > limit else grey < limit
    return (
        int(bright[:, grey.shape[1] // 2].sum()),
        int(bright[grey.shape[0] // 2].sum()),
    )


def _mirrored(clip: Tensor) -> bool:
    """Whether the darker half is on the right, in a clip (C, T, H, W)."""
    edge = clip[:, 0, 0].mean(dim=0)
    return bool(edge[0] > edge[-1])


def _numbers(values: Any) -> str:
    return "(" + ", ".join(f"{value:.3g}" for value in values) + ")"


def _words(recipe: Recipe) -> str:
    sampling, pixels = recipe.sampling, recipe.preprocess
    return f"{sampling.num_frames} frames by {sampling.rule}, {pixels.img_size} pixels"
