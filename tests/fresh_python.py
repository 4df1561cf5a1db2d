"""Runs code in an interpreter of its own, for tests of what is imported and when."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def fresh_python(*arguments, cwd, paths=(), ours=True):
    """Run Python, where nothing is imported yet.

    Args:
        arguments: Its command line, such as `"-c", "import zoo"`.
        cwd: Folder it runs in; with `-c` the first place that it imports from.
        paths: Folders before those of our packages.
        ours: Whether our packages are put on the path.

    Returns:
        The finished process, its output as text.
    """
    places = [*map(str, paths), *([str(ROOT)] if ours else [])]
    # Bytecode of the packages under test would be written beside them, outside of tmp_path.
    settings = {"PYTHONPATH": os.pathsep.join(places), "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd,
        env=os.environ | settings,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
