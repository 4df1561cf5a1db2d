"""The weights that this project trained to name motion; what two families have in common.

`examples/train_motion.py` writes the tensors and, beside them, a report with their hash and every
figure that a record shows, so that none is typed by hand.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from registry import Metric, PackageSource, Preprocess, Sampling, Weights

__all__ = ["motion_weights"]

_FOLDER = Path(__file__).parents[1] / "weights"

MOTION_SAMPLING = Sampling(
    rule="dense",
    num_frames=8,
    frame_stride=2,
    fps=30.0,
    num_clips=1,
    num_crops=1,
    average="logits",
)
MOTION_PREPROCESS = Preprocess(
    img_size=64,
    resize=64,
    interpolation="bilinear",
    antialias=True,
    mean=(0.5, 0.5, 0.5),
    std=(0.25, 0.25, 0.25),
)


def motion_weights(architecture: str, *, note: str) -> Weights:
    """The record of an architecture's motion weights, with the figures of its training report.

    Args:
        architecture: Name of the model.
        note: What a user must know; `{ceiling}` stands for the best that an order-blind model can
            reach, in percent.
    """
    stem = f"{architecture}.motion"
    report: dict[str, Any] = json.loads((_FOLDER / f"{stem}.json").read_text(encoding="utf-8"))
    drawn, pictures = report["synthetic"], report["pictures"]
    protocol: dict[str, Any] = {
        "name": "top1",
        "level": "clip",
        "num_clips": 1,
        "num_crops": 1,
        "measured_by": "videozoo",
    }
    return Weights(
        tag="motion",
        source=PackageSource(file=f"{stem}.safetensors", sha256=report["sha256"]),
        licence="Apache-2.0",
        data="drawn scenes in motion (zoo.datasets.MotionClips)",
        num_classes=len(report["labels"]),
        labels="motion",
        sampling=MOTION_SAMPLING,
        preprocess=MOTION_PREPROCESS,
        metrics=(
            Metric(
                value=pictures["top1"],
                dataset="12 photographs",
                split="sliding windows",
                note=f"{pictures['clips']} clips, through mp4; per label: {_shares(pictures)}",
                **protocol,
            ),
            Metric(
                value=drawn["top1"],
                dataset="drawn scenes",
                split="held out",
                note=f"{drawn['clips']} clips of seed {drawn['seed']}; per label: {_shares(drawn)}",
                **protocol,
            ),
        ),
        note=note.format(ceiling=report["order_blind_ceiling"]),
    )


def _shares(part: dict[str, Any]) -> str:
    return ", ".join(f"{label} {share:g}" for label, share in part["per_label"].items())
