"""Train a small model to name motion, and test it on motion it has never seen.

    python examples/train_motion.py --model r2p1d_nano --out weights/

Trains on drawn scenes only (`zoo.datasets.MotionClips`), then measures three things: accuracy on
held-out drawn scenes, accuracy on windows that slide over the real pictures of
`examples/pictures` after one mp4 round trip, and how a reversed clip changes the answer. Writes
`MODEL.motion.safetensors` and `MODEL.motion.json`. The same seed on the same machine with the
same number of threads gives the same file.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.utils.data import DataLoader

import zoo
from zoo.datasets import DIRECTIONS, LABELS, ORDER_BLIND_CEILING, MotionClips
from zoo.datasets.pans import choose_start, slide_window, write_mp4

PICTURES = Path(__file__).parent / "pictures"

# The test on pictures, fixed before the first training run.
PICTURE_WINDOWS = (128, 160, 192)
PICTURE_SPEEDS = (0.75, 1.5, 3.0)  # pixels a sampled frame, at the model's input
PICTURE_FRAMES = 24
PICTURE_FPS = 30
PICTURE_SEED = 2026

TEST_SEED = 1_000_003
TEST_CLIPS = 1800

# Motion is learned late and suddenly: on hard clips alone a model stays at chance for most of the
# time that is given here. So it starts on clean pans of medium speed, in small batches.
EASY = {"scenes": ("pan",), "speeds": (1.0, 3.0), "degraded": False}
EASY_STEPS, EASY_BATCH = 400, 16
BATCH = 32
FRESH = 12  # new clips a step; the others of the batch are older ones under other symmetries
POOL = 168 * FRESH
STEPS = {"framepool_nano": 400}  # after the easy ones
DEFAULT_STEPS = 1500


def main() -> None:
    """Train, test, save."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="r2p1d_nano")
    parser.add_argument("--out", type=Path, default=Path("weights"))
    parser.add_argument("--steps", type=int, help="steps after the easy ones")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(arguments.seed)
    arguments.out.mkdir(parents=True, exist_ok=True)

    model = zoo.create(arguments.model, num_classes=len(LABELS))
    steps = arguments.steps or STEPS.get(arguments.model, DEFAULT_STEPS)
    started, cpu_started = time.time(), _cpu_seconds()
    train(model, steps=steps, seed=arguments.seed)
    report: dict[str, Any] = {
        "model": arguments.model,
        "labels": LABELS,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "steps": EASY_STEPS + steps,
        "batch": BATCH,
        "seed": arguments.seed,
        "threads": arguments.threads,
        "torch": torch.__version__,
        "train_seconds": round(time.time() - started),
        "train_cpu_seconds": round(_cpu_seconds() - cpu_started),
    }
    path = arguments.out / f"{arguments.model}.motion.safetensors"
    save_file({key: value.contiguous() for key, value in model.state_dict().items()}, path)
    report["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    report |= evaluate(model)
    report["total_seconds"] = round(time.time() - started)
    path.with_suffix(".json").write_text(json.dumps(report, indent=2) + "\n")
    print(json.dumps(report, indent=2))


def train(model: nn.Module, *, steps: int, seed: int) -> None:
    """Fit the model to synthetic motion, in place.

    A pool of drawn clips is renewed a few at a time, and every clip is seen under another of the
    symmetries of the task, so drawing does not hold the training up. The pool starts easy.

    Args:
        model: Nine-way classifier from `zoo.create`.
        steps: Optimiser steps after the easy ones.
        seed: Seed of the clips and of their order.
    """
    draw = random.Random(seed)
    clips, labels = (torch.cat(part) for part in zip(*_drawn(POOL, seed, **EASY), strict=True))
    fresh = _drawn(steps * FRESH, seed)
    optimiser, schedule = _optimiser(model, EASY_STEPS + steps)
    model.train()
    started, losses, hits = time.time(), [], []
    for step in range(EASY_STEPS + steps):
        size = EASY_BATCH
        if step >= EASY_STEPS:
            size, slot = BATCH, (step - EASY_STEPS) * FRESH % POOL
            clips[slot : slot + FRESH], labels[slot : slot + FRESH] = next(fresh)
        chosen = torch.tensor(draw.sample(range(POOL), size))
        batch, answers = transform(clips[chosen], labels[chosen], draw)
        with torch.autocast("cpu", torch.bfloat16):
            logits = model(to_input(batch, model)).float()  # (N, K)
        loss = F.cross_entropy(logits, answers, label_smoothing=0.05)
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 2.0)
        optimiser.step()
        schedule.step()
        losses.append(float(loss.detach()))
        hits.append(float((logits.argmax(1) == answers).float().mean()))
        if (step + 1) % 50 == 0:
            mean_loss, top1 = sum(losses[-50:]) / 50, 2 * sum(hits[-50:])
            seconds = time.time() - started
            print(
                f"step {step + 1}: loss {mean_loss:.3f}, top1 {top1:.1f} %, {seconds:.0f} s",
                flush=True,
            )
    model.eval()


def _optimiser(
    model: nn.Module, steps: int
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
    """AdamW with a short warm-up and a cosine to zero; no decay of norms and biases."""
    for module in model.modules():
        if isinstance(module, nn.Conv3d):
            module.to(memory_format=torch.channels_last_3d)
    decayed = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim <= 1]
    optimiser = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": 0.05}, {"params": others, "weight_decay": 0.0}]
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, max_lr=2e-3, total_steps=steps, pct_start=0.02, cycle_momentum=False
    )
    return optimiser, schedule


def _drawn(count: int, seed: int, **choices: Any) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches of FRESH drawn clips, uint8 (FRESH, T, H, W, C), and labels (FRESH,)."""
    dataset = MotionClips(2 * count, seed=seed, **choices)
    # Every second item: its partner is its own reverse, which `transform` makes for nothing.
    loader = DataLoader(
        dataset,
        batch_size=FRESH,
        sampler=range(0, 2 * count, 2),
        num_workers=1,
        prefetch_factor=16,
    )
    yield from ((clips, labels) for clips, labels in loader)


def transform(clips: Tensor, labels: Tensor, draw: random.Random) -> tuple[Tensor, Tensor]:
    """Apply symmetries of the task, each to about half of the clips.

    Args:
        clips: Drawn clips, uint8 (N, T, H, W, C) with H = W.
        labels: Their labels, (N,).
        draw: Source of the choices.

    Returns:
        Clips and labels after mirror, flip, transposition, reversal and exchange of colours.
    """
    clips, labels = clips.clone(), labels.clone()
    for mapping, change in (
        ([DIRECTIONS.index((-x, y)) for x, y in DIRECTIONS], lambda clip: clip.flip(3)),
        ([DIRECTIONS.index((x, -y)) for x, y in DIRECTIONS], lambda clip: clip.flip(2)),
        ([DIRECTIONS.index((y, x)) for x, y in DIRECTIONS], lambda clip: clip.transpose(2, 3)),
        ([DIRECTIONS.index((-x, -y)) for x, y in DIRECTIONS], lambda clip: clip.flip(1)),
        (list(range(len(LABELS))), lambda clip: 255 - clip[..., draw.sample(range(3), 3)]),
    ):
        picked = torch.tensor([draw.random() < 0.5 for _ in labels])
        clips[picked] = change(clips[picked])
        labels[picked] = torch.tensor(mapping)[labels[picked]]
    return clips, labels


def to_input(clips: Tensor, model: nn.Module) -> Tensor:
    """Decoded clips, uint8 (N, T, H, W, C), as the model's input, float (N, C, T, H, W)."""
    recipe = model.record.preprocess
    mean, std = torch.tensor(recipe.mean), torch.tensor(recipe.std)
    normal = (clips.float() / 255 - mean) / std
    return normal.permute(0, 4, 1, 2, 3)  # (N, C, T, H, W)


def evaluate(model: nn.Module) -> dict[str, Any]:
    """Measure a model on drawn scenes and on real pictures.

    Args:
        model: Nine-way classifier from `zoo.create`.

    Returns:
        Accuracies in percent: `synthetic`, `pictures`, and the parts of each.
    """
    model.eval()
    return {
        "order_blind_ceiling": round(100 * ORDER_BLIND_CEILING, 2),
        "synthetic": evaluate_synthetic(model),
        "pictures": evaluate_pictures(model),
    }


@torch.no_grad()
def evaluate_synthetic(model: nn.Module) -> dict[str, Any]:
    """Accuracy on held-out drawn clips, and what reversing a clip does to the answer."""
    dataset = MotionClips(TEST_CLIPS, seed=TEST_SEED)
    answers, truths = [], []
    for clips, labels in DataLoader(dataset, batch_size=50, shuffle=False):
        answers.append(model(to_input(clips, model)).argmax(1))
        truths.append(labels)
    answer, truth = torch.cat(answers), torch.cat(truths)
    right = answer == truth
    moving = truth.view(-1, 2)[:, 0] != 0
    pairs = right.view(-1, 2)[moving]
    same = (answer.view(-1, 2)[moving][:, 0] == answer.view(-1, 2)[moving][:, 1]).float()
    return {
        "clips": len(truth),
        "seed": TEST_SEED,
        "top1": _percent(right),
        "per_label": {name: _percent(right[truth == k]) for k, name in enumerate(LABELS)},
        "moving_pairs_both_right": _percent(pairs.all(dim=1)),
        "moving_pairs_same_answer": _percent(same),
    }


@torch.no_grad()
def evaluate_pictures(model: nn.Module) -> dict[str, Any]:
    """Accuracy on windows that slide over real pictures, each written as mp4 and read back."""
    rng = np.random.default_rng(PICTURE_SEED)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "pan.mp4"
        for path in sorted(PICTURES.glob("*.jpg")):
            picture = Image.open(path).convert("RGB")
            for window in PICTURE_WINDOWS:
                for speed in PICTURE_SPEEDS:
                    for label in range(len(LABELS)):
                        _write_pan(file, picture, label, window=window, speed=speed, rng=rng)
                        clip = zoo.load_clip(file, model)  # (1, C, T, H, W)
                        answer = int(model(clip).mean(dim=0).argmax())
                        rows.append((path.stem, window, speed, label, answer))
    right = torch.tensor([label == answer for *_, label, answer in rows])

    def part(column: int, value: object) -> float:
        return _percent(right[torch.tensor([row[column] == value for row in rows])])

    return {
        "clips": len(rows),
        "top1": _percent(right),
        "per_label": {name: part(3, label) for label, name in enumerate(LABELS)},
        "per_picture": {name: part(0, name) for name in sorted({row[0] for row in rows})},
        "per_speed": {str(speed): part(2, speed) for speed in PICTURE_SPEEDS},
        "per_window": {str(window): part(1, window) for window in PICTURE_WINDOWS},
    }


def _write_pan(
    file: Path,
    picture: Image.Image,
    label: int,
    *,
    window: int,
    speed: float,
    rng: np.random.Generator,
) -> None:
    """Write a video whose content moves by `speed` pixels a sampled frame at the model's input."""
    frames_apart, side = 2, 64  # the input recipe of the motion weights
    step = speed * window / side / frames_apart
    place = {"window": (window, window), "step": step, "num_frames": PICTURE_FRAMES}
    start = choose_start(picture, label, rng=rng, **place)
    frames = slide_window(picture, label, start=start, **place)
    write_mp4(file, frames, fps=PICTURE_FPS)


def _cpu_seconds() -> float:
    """Processor time of this process and of its finished workers."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def _percent(right: Tensor) -> float:
    """Share of true entries, in percent."""
    return round(100 * float(right.float().mean()), 2)


if __name__ == "__main__":
    main()
