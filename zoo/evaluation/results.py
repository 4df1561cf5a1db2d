"""What an evaluation found: every prediction, and the figures that follow from them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from registry.index import to_json
from registry.records import Average, Preprocess, Sampling
from zoo.evaluation.metrics import Accuracy, average_views, clustered_accuracy, rank_classes

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["ClassAccuracy", "EvaluationReport", "Protocol", "VideoResult", "score_video"]

TOPK = 5


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class VideoResult:
    """What the model said of one video and of each view of it.

    k is 5, or the number of classes where there are fewer.

    Attributes:
        index: Place of the video in its data set.
        video_id: Its name there.
        label: What is true.
        place: Classes that scored better than the true one; 0 where the video is named rightly.
        classes: Best classes of the averaged views, best first, (k,).
        probabilities: Theirs, (k,).
        view_places: As `place` for each view, (V,); the crops of one clip side by side.
        view_classes: As `classes`, (V, k).
        view_probabilities: As `probabilities`, (V, k).
    """

    index: int
    video_id: str
    label: int
    place: int
    classes: NDArray[np.int32]
    probabilities: NDArray[np.float32]
    view_places: NDArray[np.int32]
    view_classes: NDArray[np.int32]
    view_probabilities: NDArray[np.float32]


def score_video(
    logits: Tensor, *, index: int, video_id: str, label: int, average: Average
) -> VideoResult:
    """Rank the classes for one video.

    Args:
        logits: Outputs for its views, (V, K).
        index: Place of the video in its data set.
        video_id: Its name there.
        label: What is true.
        average: What is averaged over the views.
    """
    views = logits.double().softmax(dim=-1)  # (V, K)
    whole = average_views(logits, average)  # (K,)
    # Views are ranked by their logits: two of them may round to one probability.
    view_ranked, ranked = rank_classes(logits), rank_classes(whole)
    k = min(TOPK, logits.shape[1])
    return VideoResult(
        index=index,
        video_id=video_id,
        label=label,
        place=int((ranked == label).nonzero()),
        classes=ranked[:k].numpy().astype(np.int32),
        probabilities=whole[ranked[:k]].numpy().astype(np.float32),
        view_places=(view_ranked == label).nonzero()[:, 1].numpy().astype(np.int32),
        view_classes=view_ranked[:, :k].numpy().astype(np.int32),
        view_probabilities=views.gather(1, view_ranked[:, :k]).numpy().astype(np.float32),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Protocol:
    """How the figures were measured, without which they mean nothing.

    Attributes:
        model: Name of the model.
        dataset: Name of the data set.
        split: Split of it.
        num_clips: Clips a video.
        num_crops: Crops a clip.
        sampling: Which frames a clip takes, and what is averaged over the views.
        preprocess: What was done to them.
        bf16: Whether the model computed in bfloat16.
    """

    model: str
    dataset: str
    split: str
    num_clips: int
    num_crops: int
    sampling: Sampling
    preprocess: Preprocess
    bf16: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassAccuracy:
    """How often the videos of one class were named.

    Attributes:
        label: The class.
        videos: Its videos.
        top1: Those whose best class it was.
        top5: Those of which it was among the five best.
        views: Views of those videos.
        views_top1: Views whose best class it was.
    """

    label: str
    videos: int
    top1: int
    top5: int
    views: int
    views_top1: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class EvaluationReport:
    """Accuracy of one model on one data set, with everything it is made of.

    Attributes:
        protocol: How it was measured.
        labels: The model's classes in index order, by name.
        results: What was said of each video, in the data set's order.
        failures: Videos that are missing or broken, by name, with the reason; none of them counts
            in any figure.
    """

    protocol: Protocol
    labels: tuple[str, ...]
    results: tuple[VideoResult, ...]
    failures: tuple[tuple[str, str], ...]

    @property
    def clip_top1(self) -> Accuracy:
        """Share of views whose best class is right."""
        return self._by_view(1)

    @property
    def clip_top5(self) -> Accuracy:
        """Share of views that have the right class among their five best."""
        return self._by_view(TOPK)

    @property
    def video_top1(self) -> Accuracy:
        """Share of videos whose best class, over all views, is right."""
        return self._by_video(1)

    @property
    def video_top5(self) -> Accuracy:
        """Share of videos that have the right class among their five best."""
        return self._by_video(TOPK)

    @property
    def confusion(self) -> NDArray[np.int64]:
        """Videos by what is true (rows) and what was said (columns), int64 (K, K)."""
        counts = np.zeros((len(self.labels), len(self.labels)), np.int64)
        for result in self.results:
            counts[result.label, result.classes[0]] += 1
        return counts

    @property
    def per_class(self) -> tuple[ClassAccuracy, ...]:
        """The classes that occur in the data, in index order."""
        found: dict[int, list[VideoResult]] = {}
        for result in self.results:
            found.setdefault(result.label, []).append(result)
        return tuple(
            ClassAccuracy(
                label=self.labels[label],
                videos=len(videos),
                top1=sum(video.place < 1 for video in videos),
                top5=sum(video.place < TOPK for video in videos),
                views=sum(len(video.view_places) for video in videos),
                views_top1=sum(int((video.view_places < 1).sum()) for video in videos),
            )
            for label, videos in sorted(found.items())
        )

    def to_json(self) -> dict[str, Any]:
        """The figures as plain values, shares in [0, 1]; without the single predictions."""
        figures = ("clip_top1", "clip_top5", "video_top1", "video_top5")
        return {
            **to_json(self.protocol),
            "classes": len(self.labels),
            "videos": len(self.results) + len(self.failures),
            "evaluated": len(self.results),
            **{name: _accuracy_to_json(getattr(self, name)) for name in figures},
            "per_class": [to_json(item) for item in self.per_class],
            "failures": [{"video": name, "reason": reason} for name, reason in self.failures],
        }

    def _by_video(self, topk: int) -> Accuracy:
        return _counted([int(video.place < topk) for video in self.results], [1] * len(self))

    def _by_view(self, topk: int) -> Accuracy:
        right = [int((video.view_places < topk).sum()) for video in self.results]
        return _counted(right, [len(video.view_places) for video in self.results])

    def __len__(self) -> int:
        return len(self.results)


def _counted(correct: Sequence[int], sizes: Sequence[int]) -> Accuracy:
    return clustered_accuracy(correct, sizes)


def _accuracy_to_json(accuracy: Accuracy) -> dict[str, Any]:
    return {"share": accuracy.share, **to_json(accuracy)}


def in_order(results: Iterable[VideoResult]) -> tuple[VideoResult, ...]:
    """Results in the order of their data set."""
    return tuple(sorted(results, key=lambda result: result.index))
