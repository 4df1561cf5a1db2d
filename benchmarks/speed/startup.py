"""From nothing: whole processes that list the models, and the import of the package.

    PYTHONPATH=. python benchmarks/speed/startup.py [--rounds N]

The import is timed inside fresh processes, without the interpreter's own start; whole processes,
start included, are a second row, and how much of them a bare interpreter takes a third.
"""

from __future__ import annotations

import subprocess
import sys

from _measure import compare, interleave_processes, parse, tell, write

PYTHON = [sys.executable, "-c"]
LIST = [sys.executable, "-m", "zoo", "list"]
TIMED = """
import sys, time
started = time.perf_counter()
import {name}
seconds = time.perf_counter() - started
assert "torch" not in sys.modules or "{name}" != "zoo", "import zoo imports torch"
print(seconds)
"""


def main() -> None:
    """Measure, and write the rows."""
    rounds = parse(__doc__, rounds=9).rounds
    tell("zoo list")
    listing = "import timm; timm.list_models()"
    seconds = interleave_processes(LIST, [*PYTHON, listing], rounds=rounds)
    rows = [
        compare("zoo list", "python -m zoo list", f"python -c '{listing}'", *seconds, at_most=0.05)
    ]
    bare = interleave_processes(LIST, [*PYTHON, "pass"], rounds=rounds)
    rows.append(compare("zoo list", "python -m zoo list", "python -c pass", *bare))
    tell("import zoo")
    pairs = [(import_seconds("zoo"), import_seconds("timm")) for _ in range(rounds + 1)]
    ours, theirs = zip(*pairs[1:], strict=True)
    rows.append(compare("import zoo", "import zoo", "import timm", ours, theirs, at_most=0.02))
    seconds = interleave_processes([*PYTHON, "import zoo"], [*PYTHON, "import timm"], rounds=rounds)
    note = "whole processes, the interpreter's start in both"
    rows.append(compare("import zoo", "import zoo", "import timm", *seconds, note=note))
    write(rows, "startup")


def import_seconds(name: str) -> float:
    """Seconds of an import statement in a process of its own."""
    done = subprocess.run(  # noqa: S603 -- our own interpreter
        [*PYTHON, TIMED.format(name=name)], check=True, capture_output=True, text=True
    )
    return float(done.stdout)


if __name__ == "__main__":
    main()
