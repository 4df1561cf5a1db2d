"""What `zoo bench` measured on this machine, kept in the user's cache for `zoo pick` and others."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from converters.disk import assets, cache_error
from zoo.benchmarking.machine import processor_name

__all__ = ["FILE", "append", "latencies", "read"]

FILE = "latencies.jsonl"
"""Name of the file in our part of the cache: one JSON object a line, the newest last."""

PLAIN = {"dtype": "float32", "compile": False, "optimize": False, "train": False}
"""How a model runs that nobody has done anything to."""


def append(rows: Sequence[Mapping[str, Any]]) -> Path:
    """Keep measurements.

    Args:
        rows: Each with `name`, `device`, `processor`, `dtype`, `compile`, `optimize`, `train`,
            `batch_size` and `ms`, an object of `min`, `median` and `max`.

    Returns:
        The file.

    Raises:
        OSError: The cache cannot be written.
    """
    path = _path()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(row) + "\n" for row in rows)
    except OSError as error:
        raise cache_error(path.parent, error) from error
    return path


def read() -> list[dict[str, Any]]:
    """Every measurement that was kept, the oldest first; none where there is no file.

    A line that cannot be read, left by a machine that stopped while it wrote, is passed over.
    """
    path = _path()
    found = []
    if path.is_file():
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                row = json.loads(line)
            except ValueError:
                continue
            if isinstance(row, dict) and isinstance(row.get("ms"), dict):
                found.append(row)
    return found


def latencies(device: str = "cpu") -> dict[str, float]:
    """What one clip takes by each model that was measured on this machine.

    Only plain float32 forward passes of single clips count, at the model's own clip size, and of
    several the newest.

    Args:
        device: As `zoo bench --device` was told.

    Returns:
        Milliseconds, the median of the rounds, by the name that was measured.
    """
    wanted = PLAIN | {"device": device, "batch_size": 1, "processor": processor_name()}
    return {
        str(row["name"]): float(row["ms"]["median"])
        for row in read()
        if all(row.get(key) == value for key, value in wanted.items())
    }


def _path() -> Path:
    return assets("bench") / FILE
