"""Peak memory of `predict` by windows: an hour of video against ten seconds, fresh processes.

Of each process it is measured whole, which is mostly torch, and above what the process held before
it predicted; both are held to the goal, for only the second would show a leak of some megabytes.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from _measure import Row, compare, parse, tell, write
from _videos import describe, hour, panorama

MODEL = "x3d_xs"
WHOLE, ABOVE = "whole process", "above what the process held"
CHILD = """
import resource, sys
import torch
import zoo
from zoo.benchmarking.memory import peak_bytes
def most():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
model = zoo.create(sys.argv[1])
before = most()  # Linux forgets it with the peak that peak_bytes resets
used = peak_bytes(lambda: zoo.predict(model, sys.argv[2], num_clips="all"), torch.device("cpu"))
print(max(before, most()), "" if used is None else used)
"""


def main() -> None:
    """Measure, and write results/windows.csv."""
    options = parse(__doc__, rounds=2)
    short = panorama(width=160, height=120, num_frames=300, keyframe_every=250)
    long = hour(short)
    tell(f"{long.name}: {describe(long)}")
    ours: list[dict[str, float]] = []
    theirs: list[dict[str, float]] = []
    for _ in range(options.rounds):
        theirs.append(_peaks(short))
        ours.append(_peaks(long))
        tell(f"{ours[-1]}, {theirs[-1]} bytes")
        # A round takes minutes; it is kept if the next is cut short.
        write([_row(kind, ours, theirs, describe(long)) for kind in ours[0]], "windows")


def _row(kind: str, ours: list[dict[str, float]], theirs: list[dict[str, float]], note: str) -> Row:
    return compare(
        "one hour by windows",
        f"predict with {MODEL}, one hour, {kind}",
        "ten seconds",
        [found[kind] for found in ours],
        [found[kind] for found in theirs],
        at_most=1.1,
        unit="bytes",
        note=note,
    )


def _peaks(path: Path) -> dict[str, float]:
    """The most resident bytes of a process that predicts one video.

    Under `WHOLE`, and on Linux, which alone tells it, above what it held before under `ABOVE`.
    """
    command = [sys.executable, "-c", CHILD, MODEL, str(path)]
    found = subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603
    whole, *above = found.stdout.split()
    # Linux counts in KiB, macOS in bytes
    peaks = {WHOLE: float(whole) * (1 if sys.platform == "darwin" else 1024)}
    return {**peaks, ABOVE: float(above[0])} if above else peaks


if __name__ == "__main__":
    main()
