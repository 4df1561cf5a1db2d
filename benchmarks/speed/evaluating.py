"""Video-level evaluation with 10 clips x 3 crops, against the sum of its forward passes."""

from __future__ import annotations

import torch
from _measure import compare, interleave, parse, tell, write
from _videos import describe, panorama

import zoo
from zoo.clips import load_clip
from zoo.datasets import VideoDataset, VideoItem
from zoo.evaluation import evaluate

BATCH_SIZE = 8


def main() -> None:
    """Measure, and write results/evaluating.csv."""
    options = parse(__doc__, rounds=3)
    path = panorama(width=340, height=256, num_frames=300, keyframe_every=250)
    tell(f"{path.name}: {describe(path)}")
    model = zoo.create("slow_r50").eval()
    item = VideoItem(path=path, label=0, video_id="a")
    labels = tuple(str(index) for index in range(model.num_classes))
    data = VideoDataset(name="one video", split="test", labels=labels, items=(item,))
    batches = load_clip(path, model, num_clips=10, num_crops=3).split(BATCH_SIZE)

    def ours() -> None:
        evaluate(model, data, num_clips=10, num_crops=3, batch_size=BATCH_SIZE)

    def passes() -> None:
        with torch.inference_mode():
            for batch in batches:
                model(batch)

    seconds = interleave(ours, passes, rounds=options.rounds)
    row = compare(
        "video-level evaluation",
        "slow_r50, 10 clips x 3 crops of ten seconds at 340x256",
        "its forward passes",
        *seconds,
        at_most=1.1,
        note=describe(path),
    )
    write([row], "evaluating")


if __name__ == "__main__":
    main()
