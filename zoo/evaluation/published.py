"""Measured figures beside published ones, and in what the two protocols differ."""

from __future__ import annotations

from dataclasses import dataclass

from registry.records import Metric, Weights
from zoo.evaluation.metrics import Accuracy
from zoo.evaluation.results import EvaluationReport

__all__ = ["Comparison", "compare"]

_SPLITS = {"val": "validation"} | {f"test{fold}": f"test split {fold}" for fold in (1, 2, 3)}
"""Splits as data sets are opened by, and as records call them."""
_FIGURES = ("top1", "top5")


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """One published figure with the one that was measured.

    Attributes:
        published: The figure of the record, in percent.
        measured: The figure of the same name and level.
        differences: In what the measurement's protocol differs; empty where it is the same.
    """

    published: Metric
    measured: Accuracy
    differences: tuple[str, ...]

    @property
    def agrees(self) -> bool:
        """Whether the published figure lies in the measured one's interval.

        Where the protocols differ, neither answer says anything about the weights.
        """
        return self.measured.low <= self.published.value / 100 <= self.measured.high


def compare(report: EvaluationReport, weights: Weights) -> list[Comparison]:
    """Put what was measured beside every published top-1 and top-5 of the weights.

    Args:
        report: What was measured with these weights.
        weights: Their record.

    Returns:
        A comparison for each published figure, in the record's order; figures of other kinds,
        such as mAP, are left out.
    """
    return [
        Comparison(
            published=metric,
            measured=getattr(report, f"{metric.level}_{metric.name}"),
            differences=tuple(_differences(report, weights, metric)),
        )
        for metric in weights.metrics
        if metric.name in _FIGURES
    ]


def _differences(report: EvaluationReport, weights: Weights, metric: Metric) -> list[str]:
    ours, found = report.protocol, []
    if ours.dataset != metric.dataset:
        found.append(f"data {ours.dataset}, published for {metric.dataset}")
    if _SPLITS.get(ours.split, ours.split) != metric.split:
        found.append(f"split {ours.split}, published for {metric.split}")
    if (ours.num_clips, ours.num_crops) != (metric.num_clips, metric.num_crops):
        found.append(
            f"{ours.num_clips} x {ours.num_crops} views, published with "
            f"{metric.num_clips} x {metric.num_crops}"
        )
    if (ours.sampling.num_frames, ours.sampling.frame_stride) != (
        weights.sampling.num_frames,
        weights.sampling.frame_stride,
    ):
        found.append(
            f"{ours.sampling.num_frames} frames x {ours.sampling.frame_stride}, trained with "
            f"{weights.sampling.num_frames} x {weights.sampling.frame_stride}"
        )
    if ours.preprocess.img_size != weights.preprocess.img_size:
        found.append(
            f"pictures of {ours.preprocess.img_size} pixels, trained with "
            f"{weights.preprocess.img_size}"
        )
    if report.failures:
        asked = len(report.results) + len(report.failures)
        found.append(f"{len(report.failures)} of {asked} videos missing or broken")
    classes = len(report.per_class)
    if classes < len(report.labels):
        found.append(f"videos of {classes} of the {len(report.labels)} classes")
    if ours.bf16:
        found.append("computed in bfloat16")
    return found
