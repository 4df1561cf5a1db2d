"""What can be picked: every record with weights, lifted image models, and untrained networks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

import registry
from registry.records import Architecture, ImageSource, Metric, PackageSource, Weights
from zoo.picking.networks import ATTENTION, LIFTED, approach_of
from zoo.picking.wishes import Wishes

__all__ = ["Candidate", "candidates", "figure_on"]

Start: TypeAlias = Literal["videos", "pictures", "drawings", "nothing"]
"""What weights have seen."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A model with one set of weights, by what the rules look at.

    Attributes:
        name: What `zoo.create` takes.
        approach: One of `APPROACHES`; empty where no rule knows the family.
        attention: How tokens look at each other; empty for convolutions.
        order: What shuffled frames do to the logits.
        params: Parameters.
        gflops: 10^9 multiply-adds of one view.
        num_frames: Frames T of a view.
        seconds_apart: Between neighbouring frames as trained; None where frames are spread over
            the whole video.
        licence: Of the weights; empty where none are taken.
        data: What they were trained on.
        start: What they have seen.
        from_clip: Whether they began as CLIP.
        many_pictures: Whether they saw more pictures than ImageNet-1k.
        classes: Name of the list of classes, or None.
        reads_class_names: Whether the model classifies by names, with no training.
        modality: `rgb` or `flow`.
        metrics: Published and measured figures.
        untagged: Name without the tag where the same network then runs on the same clip, so that
            what was measured of it holds; else empty.
    """

    name: str
    approach: str
    attention: str
    order: str
    params: int
    gflops: float
    num_frames: int
    seconds_apart: float | None
    licence: str
    data: str
    start: Start
    from_clip: bool = False
    many_pictures: bool = False
    classes: str | None = None
    reads_class_names: bool = False
    modality: str = "rgb"
    metrics: tuple[Metric, ...] = ()
    untagged: str = ""


def candidates(wishes: Wishes) -> list[Candidate]:
    """Everything that a wish could mean; imports neither torch nor any model.

    Untrained networks where no weights may be used; lifted image models only where there is
    something to train, since their classifier is of pictures.
    """
    if wishes.from_scratch:
        records = [registry.info(name) for name in registry.list_models()]
        return [_untrained(record) for record in records if record.gflops is not None]
    found = []
    for name in registry.list_models(pretrained=True):
        record = registry.info(name)
        found += [_trained(record, item) for item in record.weights if item.gflops is not None]
    if wishes.labels == "new" and wishes.videos != 0:
        found += _lifted()
    return found


def figure_on(candidate: Candidate, dataset: str | None) -> Metric | None:
    """The top-1 that counts on a data set: of videos of its validation split, most views first.

    Of an untrained network these are what its published weights reached, the highest of them.
    """
    figures = [
        metric
        for metric in candidate.metrics
        if (metric.name, metric.dataset) == ("top1", dataset)
        and (metric.split, metric.level) == ("validation", "video")
    ]
    if candidate.start == "nothing":
        return max(figures, key=lambda metric: metric.value, default=None)
    return max(figures, key=lambda metric: metric.num_clips * metric.num_crops, default=None)


def _trained(record: Architecture, weights: Weights) -> Candidate:
    data = str(weights.data)
    assert weights.params is not None and weights.gflops is not None
    start: Start = "videos"
    if isinstance(weights.source, ImageSource):
        start = "pictures"
    elif isinstance(weights.source, PackageSource):
        start = "drawings"
    return Candidate(
        name=f"{record.name}.{weights.tag}",
        approach=approach_of(record.name, record.family, record.order),
        attention=_attention(record, ATTENTION),
        order=record.order,
        params=weights.params,
        gflops=weights.gflops,
        num_frames=weights.sampling.num_frames,
        seconds_apart=_seconds_apart(weights.sampling),
        licence=str(weights.licence),
        data=data,
        start=start,
        from_clip="from CLIP" in data,
        many_pictures=_many_pictures(data),
        classes=weights.labels,
        reads_class_names=weights.tag == "zero_shot",
        modality="flow" if len(weights.preprocess.mean) == 2 else "rgb",
        metrics=weights.metrics,
        untagged=record.name if _is_as_built(record, weights) else "",
    )


def _is_as_built(record: Architecture, weights: Weights) -> bool:
    """Whether weights run on the clip, and in the network, of the architecture's defaults."""
    return (
        not weights.arguments
        and weights.sampling.num_frames == record.sampling.num_frames
        and weights.preprocess.img_size == record.preprocess.img_size
    )


def _untrained(record: Architecture) -> Candidate:
    assert record.params is not None and record.gflops is not None
    return Candidate(
        name=record.name,
        approach=approach_of(record.name, record.family, record.order),
        attention=_attention(record, ATTENTION),
        order=record.order,
        params=record.params,
        gflops=record.gflops,
        num_frames=record.sampling.num_frames,
        seconds_apart=_seconds_apart(record.sampling),
        licence="",
        data="",
        start="nothing",
        modality="flow" if len(record.preprocess.mean) == 2 else "rgb",
        # What its published weights reached is the best that is known of the network.
        metrics=tuple(metric for weights in record.weights for metric in weights.metrics),
    )


def _lifted() -> list[Candidate]:
    return [
        Candidate(
            name=item.name,
            approach=item.approach,
            attention=item.attention,
            order=item.order,
            params=item.params,
            gflops=item.gflops,
            num_frames=8,
            seconds_apart=None,
            licence=item.licence,
            data=item.data,
            start="pictures",
            many_pictures=_many_pictures(item.data),
        )
        for item in LIFTED
    ]


def _attention(record: Architecture, patterns: Mapping[str, str]) -> str:
    if approach_of(record.name, record.family, record.order) != "transformer":
        return ""
    return patterns.get(record.name) or patterns.get(record.family, "")


def _seconds_apart(sampling: registry.Sampling) -> float | None:
    if sampling.rule in ("uniform", "segments"):
        return None
    # A stride in the video's own frames is one at their usual rate.
    return sampling.frame_stride / (sampling.fps or 30.0)


def _many_pictures(data: str) -> bool:
    return any(name in data for name in ("ImageNet-21k", "ImageNet-22k", "CLIP"))
