"""Accuracy by clip and by video, and how far to trust it.

Clip-level accuracy asks of every view of every video by itself whether its label is found; video-
level accuracy averages the views of a video first and asks once a video. The second is what papers
print; the first is what a user gets who shows the model one clip.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt

import torch
from torch import Tensor

from registry.records import Average

__all__ = [
    "Accuracy",
    "average_views",
    "clip_accuracy",
    "clustered_accuracy",
    "rank_classes",
    "video_accuracy",
    "wilson_interval",
]

_NORMAL_95 = 1.959963984540054
"""Quantile of the normal distribution that leaves 2.5 % above it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Accuracy:
    """A share of right answers with its 95 % confidence interval.

    Attributes:
        correct: Right answers.
        total: Answers.
        low: Lower end of the interval, in [0, 1].
        high: Upper end.
    """

    correct: int
    total: int
    low: float
    high: float

    @property
    def share(self) -> float:
        """The measured accuracy, in [0, 1]."""
        return self.correct / self.total


def clip_accuracy(logits: Tensor, labels: Tensor, *, topk: int = 1) -> float:
    """Share of views whose label is among their `topk` best classes.

    Args:
        logits: Outputs for the views of each video, (N, V, K).
        labels: Class index of each video, (N,).
        topk: Classes that count as named.

    Returns:
        The share, in [0, 1].

    Raises:
        ValueError: The shapes do not fit, there is nothing to count, or `topk` is beyond K.
    """
    _check(logits, labels, topk)
    ranked = rank_classes(logits)[..., :topk]  # (N, V, topk)
    return float((ranked == labels[:, None, None]).any(dim=-1).double().mean())


def video_accuracy(
    logits: Tensor, labels: Tensor, *, topk: int = 1, average: Average = "logits"
) -> float:
    """Share of videos whose label is among the `topk` best classes of their averaged views.

    Args:
        logits: Outputs for the views of each video, (N, V, K).
        labels: Class index of each video, (N,).
        topk: Classes that count as named.
        average: What is averaged over the views; a record's `sampling.average` says which.

    Returns:
        The share, in [0, 1].

    Raises:
        ValueError: The shapes do not fit, there is nothing to count, or `topk` is beyond K.
    """
    _check(logits, labels, topk)
    ranked = rank_classes(average_views(logits, average))[:, :topk]  # (N, topk)
    return float((ranked == labels[:, None]).any(dim=-1).double().mean())


def average_views(logits: Tensor, average: Average) -> Tensor:
    """Probabilities of a video from the outputs for its views.

    Args:
        logits: (..., V, K).
        average: Whether logits are averaged, or the probabilities that each view gives.

    Returns:
        Probabilities, float64 (..., K).
    """
    if average == "probabilities":
        return logits.double().softmax(dim=-1).mean(dim=-2)
    return logits.double().mean(dim=-2).softmax(dim=-1)


def rank_classes(scores: Tensor) -> Tensor:
    """Sort the classes, best first; of equal ones the lower index comes first.

    Without that rule a model that gives every class one score would be right by the luck of the
    sorting.

    Args:
        scores: Logits or probabilities, (..., K).

    Returns:
        Class indices, int64 (..., K).
    """
    return scores.argsort(dim=-1, descending=True, stable=True)


def wilson_interval(share: float, size: float) -> tuple[float, float]:
    """The 95 % score interval of a share (Wilson, 1927), which stays inside [0, 1].

    Args:
        share: Measured share, in [0, 1].
        size: Independent trials; a fraction where it is an effective number.

    Returns:
        Lower and upper end.
    """
    z2 = _NORMAL_95**2
    middle = (share + z2 / (2 * size)) / (1 + z2 / size)
    half = _NORMAL_95 / (1 + z2 / size) * sqrt(share * (1 - share) / size + z2 / (4 * size**2))
    return max(middle - half, 0.0), min(middle + half, 1.0)


def clustered_accuracy(correct: Sequence[int], sizes: Sequence[int]) -> Accuracy:
    """Accuracy of answers that come in clusters, such as the clips of a video.

    The clips of one video succeed or fail together, so that thirty of them tell less than thirty
    videos do. The variance of the share between clusters, sum((c - p m)^2) / sum(m)^2 for c right
    answers of m (the linearised variance of a ratio, Cochran, Sampling Techniques, 1977), tells to
    how many independent answers they amount; Wilson's interval is taken for that number. It is
    never more than there are answers, and it is the number of clusters where all clips of a video
    agree, as they do when every answer is right or every one wrong.

    Args:
        correct: Right answers in each cluster.
        sizes: Answers in each cluster, each 1 or more; all 1 give Wilson's own interval.

    Returns:
        The accuracy of all answers together.

    Raises:
        ValueError: There is no answer to count.
    """
    right, total = sum(correct), sum(sizes)
    if total == 0:
        raise ValueError("There is no answer to count; an accuracy needs one at least.")
    share = right / total
    # In whole numbers, times total^2: exact, so that the order of the clusters cannot matter.
    spread = sum((c * total - right * m) ** 2 for c, m in zip(correct, sizes, strict=True))
    if spread == 0 and 0 < right < total:
        effective = float(total)  # every video has the same share: nothing clusters
    elif right in (0, total):
        effective = float(len(sizes))
    else:
        variance = spread / total**4
        effective = min(share * (1 - share) / variance, float(total))
    low, high = wilson_interval(share, effective)
    return Accuracy(correct=right, total=total, low=low, high=high)


def _check(logits: Tensor, labels: Tensor, topk: int) -> None:
    if logits.ndim != 3 or labels.shape != logits.shape[:1] or 0 in logits.shape:
        raise ValueError(
            f"Logits {tuple(logits.shape)} and labels {tuple(labels.shape)} are given; accuracy "
            f"needs (N, V, K), the views of each video, and (N,), none of them empty."
        )
    if labels.dtype == torch.bool or labels.is_floating_point():
        raise ValueError(f"Labels are class indices, not {labels.dtype}.")
    if int(labels.min()) < 0 or int(labels.max()) >= logits.shape[2]:
        raise ValueError(
            f"Labels span {int(labels.min())} to {int(labels.max())}; {logits.shape[2]} classes "
            f"have indices 0 to {logits.shape[2] - 1}."
        )
    if not 1 <= topk <= logits.shape[2]:
        raise ValueError(f"topk must be between 1 and the {logits.shape[2]} classes, not {topk}.")
