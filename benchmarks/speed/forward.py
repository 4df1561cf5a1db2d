"""The forward pass beside every peer that has the architecture: plain, optimised, in bfloat16.

python benchmarks/speed/forward.py [NAME...] [--rounds N]

All sides of a model run in the same rounds, with the same weights and the same clip: ours as
`zoo.create` made it, what `zoo.optimize` makes of it in float32 and in bfloat16, and the peer's own
module, fed a clip as torch makes it (contiguous) and once more one in the memory format that
`zoo.load_clip` delivers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from _clips import FORWARD, NOTES, TOO_LARGE, left_out, measure_all
from _measure import Row, compare, geometric_row, parse, tell, write
from torch import Tensor

import zoo
from zoo.benchmarking.measuring import Side, create_pair, difference, random_clip
from zoo.benchmarking.timing import interleave
from zoo.datasets import LABELS, MovingBalls
from zoo.optimizing import optimize

PLAIN, FLOAT32, BFLOAT16 = "forward, float32", "optimize, float32", "optimize, bfloat16"
LAYOUT = "forward, float32, the peer fed our memory format"
GOALS = {PLAIN: 1.4, FLOAT32: 1.6, BFLOAT16: 3.0}
TOLERANCE = 1e-4
BALLS, CLIPS_OF_A_VIDEO = 480, 16
EXAMPLES = Path(__file__).parents[2] / "examples" / "clips"


def main() -> None:
    """Measure, and write the rows."""
    arguments = parse(__doc__, rounds=3, names=True)
    rows, failed = measure_all(
        partial(measure, rounds=arguments.rounds), arguments.names, but=TOO_LARGE
    )
    if not arguments.names:
        note = left_out(TOO_LARGE)
        means = [
            geometric_row(table, rows, at_least=goal, note=note) for table, goal in GOALS.items()
        ]
        layout = geometric_row(LAYOUT, rows, at_least=None)
        write([*rows, *means, layout, agreement()], "forward")
    if failed:
        raise SystemExit(f"not measured: {', '.join(failed)}")


def measure(library: str, name: str, *, rounds: int) -> list[Row]:
    """The rows of one architecture beside one library."""
    sizes = FORWARD.get(name, {})
    model, peer = create_pair(name, library, **sizes)
    assert peer is not None
    clip = random_clip(model, batch_size=1)
    ours = Side(model, [clip])
    theirs = Side(peer.module, peer.prepare(clip.contiguous()))
    sides = {
        PLAIN: ours,
        FLOAT32: Side(optimize(model), [clip]),
        BFLOAT16: Side(optimize(model, dtype=torch.bfloat16), [clip]),
    }
    wanted = theirs.forward()
    errors = {table: difference(side.forward(), wanted) for table, side in sides.items()}
    sides["peer"] = theirs
    if library != "transformers":  # which takes the frames first, and so a copy in any case
        sides[LAYOUT] = Side(peer.module, peer.prepare(clip))
        sides[LAYOUT].forward()  # as the others are warm by now
    times = interleave([side.forward for side in sides.values()], rounds=rounds, warm_up=0)
    seconds = dict(zip(sides, times, strict=True))
    _, _, t, h, w = clip.shape
    rows = []
    for table, error in errors.items():
        note = f"clip of {t} x {h} x {w}; logits differ by {error:.0e} of the largest"
        note += NOTES.get(name, "")
        goal = 1.0 if table == PLAIN else None
        row = compare(table, name, library, seconds[table], seconds["peer"], at_least=goal)
        equal = error <= TOLERANCE or table == BFLOAT16
        if not equal:
            note = f"LOGITS ARE NOT EQUAL: {note}"
        rows.append(replace(row, note=note, met=row.met if equal else False))
    if LAYOUT in seconds:
        rows.append(compare(LAYOUT, name, library, seconds[PLAIN], seconds[LAYOUT]))
    tell(f"{library} {name}: " + ", ".join(f"{row.spread.median:.2f}" for row in rows))
    return rows


def agreement() -> Row:
    """On how many clips a trained model names the same class in bfloat16."""
    model = zoo.create("r2p1d_nano", pretrained=True)
    quick = optimize(model, dtype=torch.bfloat16)
    clips = torch.cat([*balls(model), *examples(model)])
    with torch.inference_mode():
        wanted = torch.cat([model(part).argmax(1) for part in clips.split(32)])
        found = torch.cat([quick(part).argmax(1) for part in clips.split(32)])
    same, number = int((wanted == found).sum()), len(clips)
    tell(f"bfloat16 names the same class on {same} of {number} clips")
    return Row(
        table=BFLOAT16,
        subject="r2p1d_nano.motion names the same class",
        peer="itself in float32",
        goal="at least 0.99",
        kind="ours / peer",
        ratios=(same / number,),
        ours=same,
        theirs=number,
        unit="clips",
        met=same >= 0.99 * number,
        note=f"{BALLS} drawn clips of moving balls, the others from examples/clips",
    )


def balls(model: zoo.VideoModel) -> Sequence[Tensor]:
    """Drawn clips in every direction, (1, C, T, H, W) each."""
    videos = MovingBalls(BALLS, seed=7, directions=LABELS[1:], num_frames=model.num_frames)
    assert model.record is not None
    recipe = model.record.preprocess
    return [zoo.preprocess(videos[index][0], recipe) for index in range(BALLS)]


def examples(model: zoo.VideoModel) -> Sequence[Tensor]:
    """Clips of the example videos, (V, C, T, H, W) each."""
    paths = sorted(EXAMPLES.glob("*.mp4"))
    return [zoo.load_clip(path, model, num_clips=CLIPS_OF_A_VIDEO) for path in paths]


if __name__ == "__main__":
    main()
