"""Peak memory of `predict` by windows: an hour of video against ten seconds, fresh processes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from _measure import compare, parse, tell, write
from _videos import describe, hour, panorama

MODEL = "x3d_xs"
CHILD = """
import resource, sys
import zoo
zoo.predict(zoo.create(sys.argv[1]), sys.argv[2], num_clips="all")
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def main() -> None:
    """Measure, and write results/windows.csv."""
    options = parse(__doc__, rounds=2)
    short = panorama(width=160, height=120, num_frames=300, keyframe_every=250)
    long = hour(short)
    tell(f"{long.name}: {describe(long)}")
    ours, theirs = [], []
    for _ in range(options.rounds):
        theirs.append(_peak_bytes(short))
        ours.append(_peak_bytes(long))
        tell(f"{ours[-1] / 1e6:.0f} MB, {theirs[-1] / 1e6:.0f} MB")
        row = compare(
            "one hour by windows",
            f"predict with {MODEL}, one hour",
            "ten seconds",
            ours,
            theirs,
            at_most=1.1,
            unit="bytes",
            note=describe(long),
        )
        write([row], "windows")  # a round takes minutes; it is kept if the next is cut short


def _peak_bytes(path: Path) -> float:
    """The most resident memory that a process has held which predicts one video."""
    command = [sys.executable, "-c", CHILD, MODEL, str(path)]
    found = subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603
    # Linux counts in KiB, macOS in bytes
    return float(found.stdout) * (1 if sys.platform == "darwin" else 1024)


if __name__ == "__main__":
    main()
