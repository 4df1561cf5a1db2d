"""The whole speed table with one command: every script in a fresh process, then the page.

python benchmarks/speed/run.py [SCRIPT...] [--rounds N]

With names of scripts, only those are measured again; the others keep their results and their date.
`run.py page` writes the page alone. `--rounds` is how often every script times each side, instead
of its own number. Reasons for missed goals are in `reasons.csv`.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from _measure import RESULTS, read, tell
from _page import into_readme, page, read_reasons, summary, unexplained

HERE = Path(__file__).parent
SCRIPTS = ("startup", "loading", "forward", "training", "decoding", "evaluating", "windows")
PAGE = "page"


def main() -> None:
    """Run the scripts that are asked for; write README.md, and the summary in the project's."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("scripts", nargs="*", choices=[*SCRIPTS, PAGE, []], metavar="SCRIPT")
    parser.add_argument("--rounds", type=int, help="times that each side is timed, in every script")
    options = parser.parse_args()
    chosen = options.scripts or SCRIPTS
    more = [] if options.rounds is None else ["--rounds", str(options.rounds)]
    failed = [name for name in SCRIPTS if name in chosen and not run(name, more)]
    results = {name: read(name) for name in SCRIPTS if (RESULTS / f"{name}.csv").is_file()}
    reasons = read_reasons(HERE / "reasons.csv")
    (HERE / "README.md").write_text(page(results, reasons), encoding="utf-8")
    readme = HERE.parents[1] / "README.md"
    text = into_readme(readme.read_text(encoding="utf-8"), summary(results))
    readme.write_text(text, encoding="utf-8")
    for row in unexplained(results, reasons):
        tell(f"missed, and no reason in reasons.csv: {row}")
    if failed:
        raise SystemExit(f"failed: {', '.join(failed)}")


def run(name: str, options: Sequence[str]) -> bool:
    """Run one script with these options; whether it went well."""
    tell(f"{name} ...")
    started = time.monotonic()
    paths = [str(HERE.parents[1]), os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))}
    done = subprocess.run(  # noqa: S603 -- a script of this folder
        [sys.executable, str(HERE / f"{name}.py"), *options], env=environment, check=False
    )
    tell(f"{name}: {time.monotonic() - started:.0f} s")
    return done.returncode == 0


if __name__ == "__main__":
    main()
