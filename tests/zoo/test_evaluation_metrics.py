"""Accuracy by clip and by video and its intervals, against figures computed otherwise."""

import numpy as np
import pytest
import torch

from zoo.evaluation import clip_accuracy, video_accuracy
from zoo.evaluation.metrics import (
    average_views,
    clustered_accuracy,
    rank_classes,
    wilson_interval,
)


def by_hand(logits, labels, topk, average):
    """Clip and video accuracy, one video and one view at a time, in NumPy."""
    clips, videos = [], []
    for views, label in zip(logits.double().numpy(), labels.tolist(), strict=True):
        shares = np.exp(views - views.max(1, keepdims=True))
        shares /= shares.sum(1, keepdims=True)
        clips += [label in np.argsort(-view)[:topk] for view in views]
        whole = views.mean(0) if average == "logits" else shares.mean(0)
        videos.append(label in np.argsort(-whole)[:topk])
    return np.mean(clips), np.mean(videos)


@pytest.mark.parametrize("topk", [1, 2, 5])
@pytest.mark.parametrize("average", ["logits", "probabilities"])
def test_both_accuracies_equal_those_by_hand(topk, average):
    generator = torch.Generator().manual_seed(topk)
    logits = 3 * torch.randn(40, 6, 7, generator=generator)
    labels = torch.randint(7, (40,), generator=generator)
    logits[torch.arange(40), :, labels] += 1  # a model that has learnt something
    clips, videos = by_hand(logits, labels, topk, average)
    assert clip_accuracy(logits, labels, topk=topk) == pytest.approx(clips)
    assert video_accuracy(logits, labels, topk=topk, average=average) == pytest.approx(videos)
    assert clips != videos


def test_the_average_decides():
    # One sure view for class 0, three unsure ones for class 1: the logits' means are 0.5 and -0.5,
    # but in probabilities the three win.
    logits = torch.tensor([[[5.0, -5.0], [-1.0, 1.0], [-1.0, 1.0], [-1.0, 1.0]]])
    zero, one = torch.tensor([0]), torch.tensor([1])
    assert video_accuracy(logits, zero) == 1
    assert video_accuracy(logits, one, average="probabilities") == 1
    assert clip_accuracy(logits, one) == 0.75


def test_one_view_makes_the_two_levels_one():
    logits = torch.randn(50, 1, 4, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(50) % 4
    for average in ("logits", "probabilities"):
        assert video_accuracy(logits, labels, average=average) == clip_accuracy(logits, labels)


def test_a_model_that_calls_all_classes_equal_is_not_right_by_luck():
    labels = torch.arange(10)
    assert clip_accuracy(torch.zeros(10, 3, 10), labels) == 0.1
    assert video_accuracy(torch.zeros(10, 3, 10), labels, topk=5) == 0.5
    assert rank_classes(torch.zeros(2, 4)).tolist() == [[0, 1, 2, 3]] * 2


def test_averaged_views_are_probabilities():
    logits = 50 * torch.randn(3, 4, 5, generator=torch.Generator().manual_seed(1))
    for average in ("logits", "probabilities"):
        found = average_views(logits, average)
        assert found.shape == (3, 5)
        assert found.sum(-1) == pytest.approx(np.ones(3))
        assert found.min() >= 0


@pytest.mark.parametrize(
    ("right", "total", "low", "high"),
    # Newcombe (1998), Statistics in Medicine 17, table I, method 3.
    [
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_s_interval_is_the_published_one(right, total, low, high):
    assert wilson_interval(right / total, total) == pytest.approx((low, high), abs=5e-5)


def correlated(videos, views, *, seed):
    """Right answers a video, where videos differ in how easy they are."""
    rng = np.random.default_rng(seed)
    return rng.binomial(views, rng.beta(0.7, 0.4, videos))


@pytest.mark.parametrize("views", [5, 10, 30])
def test_the_interval_of_clips_is_that_of_a_bootstrap_over_videos(views):
    right = correlated(400, views, seed=views)
    rng = np.random.default_rng(1)
    drawn = right[rng.integers(0, 400, (4000, 400))].sum(1) / (400 * views)
    low, high = np.percentile(drawn, [2.5, 97.5])
    found = clustered_accuracy(right.tolist(), [views] * 400)
    assert (found.correct, found.total) == (right.sum(), 400 * views)
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.05 * (high - low))
    naive_low, naive_high = wilson_interval(found.share, found.total)
    assert high - low > 1.5 * (naive_high - naive_low)  # or the test could not fail


def test_the_interval_of_clips_with_unequal_videos():
    rng = np.random.default_rng(5)
    sizes = rng.integers(1, 20, 500)
    right = rng.binomial(sizes, rng.beta(1, 1, 500))
    picks = rng.integers(0, 500, (4000, 500))
    drawn = right[picks].sum(1) / sizes[picks].sum(1)
    low, high = np.percentile(drawn, [2.5, 97.5])
    found = clustered_accuracy(right.tolist(), sizes.tolist())
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.05 * (high - low))


def test_clips_that_agree_count_as_their_videos_do():
    found = clustered_accuracy([10] * 30 + [0] * 20, [10] * 50)
    assert (found.low, found.high) == pytest.approx(wilson_interval(0.6, 50))
    one = clustered_accuracy([1] * 30 + [0] * 20, [1] * 50)
    assert (one.low, one.high) == pytest.approx(wilson_interval(0.6, 50))


@pytest.mark.parametrize("right", [0, 10])
def test_all_right_and_all_wrong_are_as_sure_as_videos_are(right):
    found = clustered_accuracy([right] * 8, [10] * 8)
    assert (found.low, found.high) == pytest.approx(wilson_interval(right / 10, 8))
    assert 0 <= found.low <= found.share <= found.high <= 1


def test_clips_never_count_more_than_they_are():
    found = clustered_accuracy([5] * 20, [10] * 20)  # each video half right: nothing clusters
    assert (found.low, found.high) == pytest.approx(wilson_interval(0.5, 200))
    assert found.share == 0.5


@pytest.mark.parametrize(
    ("shape", "labels", "topk", "sentence"),
    [
        ((4, 7), torch.zeros(4, dtype=torch.int64), 1, r"Logits \(4, 7\) and labels \(4,\)"),
        ((4, 2, 7), torch.zeros(3, dtype=torch.int64), 1, r"labels \(3,\) are given"),
        ((0, 2, 7), torch.zeros(0, dtype=torch.int64), 1, "none of them empty"),
        ((4, 2, 7), torch.full((4,), 7), 1, "Labels span 7 to 7; 7 classes have indices 0 to 6"),
        ((4, 2, 7), torch.full((4,), -1), 1, "Labels span -1 to -1"),
        ((4, 2, 7), torch.zeros(4), 1, "class indices, not torch.float32"),
        ((4, 2, 7), torch.zeros(4, dtype=torch.int64), 8, "between 1 and the 7 classes, not 8"),
    ],
)
def test_what_is_refused(shape, labels, topk, sentence):
    for accuracy in (clip_accuracy, video_accuracy):
        with pytest.raises(ValueError, match=sentence):
            accuracy(torch.zeros(shape), labels, topk=topk)
    with pytest.raises(ValueError, match="no answer to count"):
        clustered_accuracy([], [])
