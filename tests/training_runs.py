"""Runs on small folders of real videos, and what differs between two of them."""

from pathlib import Path

import torch
from safetensors.torch import load_file
from videos import write_video

from zoo.augmentation import Augmentation
from zoo.datasets.sources import VideoDataset, VideoItem
from zoo.training import TrainRecipe, classifier_for, train
from zoo.training.logs import read_log
from zoo.training.resuming import read_state

PLAIN = TrainRecipe(
    epochs=2,
    batch_size=2,
    optimizer="sgd",
    lr=0.1,
    warmup_epochs=0.5,
    log_steps=1,
    augmentation=Augmentation.none(),
)


def write_classes(root: Path, *, classes: str = "abc", videos: int = 3) -> VideoDataset:
    """Write `videos` mp4 files a class into ROOT/CLASS, and list them as a data set."""
    items = []
    for label, name in enumerate(classes):
        (root / name).mkdir(parents=True)
        for number in range(videos):
            path = write_video(root / name / f"{number}.mp4", 12 + 5 * label + number)
            items.append(VideoItem(path=path, label=label, video_id=f"{name}/{number}.mp4"))
    return VideoDataset(name="tiny", split="train", labels=tuple(classes), items=tuple(items))


def differences(one, other, at="state"):
    """Places where two nested structures with tensors differ in any bit."""
    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        same = one.dtype == other.dtype and torch.equal(one, other)
        return [] if same else [at]
    if type(one) is not type(other):
        return [at]
    if isinstance(one, dict):
        if one.keys() != other.keys():
            return [f"keys of {at}"]
        return [text for key in one for text in differences(one[key], other[key], f"{at}.{key}")]
    if isinstance(one, (list, tuple)):
        if len(one) != len(other):
            return [f"length of {at}"]
        pairs = enumerate(zip(one, other, strict=True))
        return [text for i, (a, b) in pairs for text in differences(a, b, f"{at}[{i}]")]
    return [] if one == other else [at]


def run(data, recipe, out, *, name="test_r2p1d", arguments=None, **choices):
    """Train a model with random weights; the result, and the model as it ended."""
    model = classifier_for(name, data.labels, pretrained=False, seed=recipe.seed, **arguments or {})
    return train(model, data, recipe, out, **choices), model


def assert_same_run(one, other):
    """Weights, averages, optimiser, random state, best model and log are the same in every bit."""
    states = [read_state(folder / "last" / "state.pt") for folder in (one, other)]
    for state in states:
        del state["facts"]  # they may differ in what changes nothing, such as when it was saved
    assert differences(*states) == []
    best = [load_file(folder / "best" / "model.safetensors") for folder in (one, other)]
    assert differences(*best) == []
    logs = [
        [{k: v for k, v in line.items() if k != "clips_per_second"} for line in read_log(path)]
        for path in (one / "log.jsonl", other / "log.jsonl")
    ]
    assert logs[0] == logs[1]
