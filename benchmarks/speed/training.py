"""A step of training beside every peer that has the architecture: forward, backward, plain SGD.

python benchmarks/speed/training.py [NAME...] [--rounds N]

Both sides are float32, start from the same weights, and see the same clip: ours in the memory
format that `zoo.load_clip` delivers, the peer's contiguous, as torch makes it.
"""

from __future__ import annotations

from functools import partial

from _clips import NOT_TRAINED, TRAINING, left_out, measure_all
from _measure import Row, compare, geometric_row, interleave, parse, tell, write

from zoo.benchmarking.measuring import Side, create_pair, random_clip

TABLE, GOAL = "training step, float32", 1.2


def main() -> None:
    """Measure, and write the rows."""
    arguments = parse(__doc__, rounds=2, names=True)
    rows, failed = measure_all(
        partial(measure, rounds=arguments.rounds), arguments.names, but=NOT_TRAINED
    )
    if not arguments.names:
        note = left_out(NOT_TRAINED)
        write([*rows, geometric_row(TABLE, rows, at_least=GOAL, note=note)], "training")
    if failed:
        raise SystemExit(f"not measured: {', '.join(failed)}")


def measure(library: str, name: str, *, rounds: int) -> list[Row]:
    """The row of one architecture beside one library."""
    model, peer = create_pair(name, library, **TRAINING.get(name, {}))
    assert peer is not None
    clip = random_clip(model, batch_size=1)
    ours = Side(model, [clip]).stepper()
    theirs = Side(peer.module, peer.prepare(clip.contiguous())).stepper()
    seconds = interleave(ours, theirs, rounds=rounds)
    _, _, t, h, w = clip.shape
    row = compare(TABLE, name, library, *seconds, at_least=1.0, note=f"clip of {t} x {h} x {w}")
    tell(f"{library} {name}: {row.spread.median:.2f}")
    return [row]


if __name__ == "__main__":
    main()
