"""Which file a tensor's memory is mapped from, as Linux tells it."""

from pathlib import Path

import pytest

_MAPS = Path("/proc/self/maps")

needs_maps = pytest.mark.skipif(
    not _MAPS.exists(),
    reason="no other system tells a process which file its memory is mapped from",
)


def mapped_from(tensor):
    """The file that a tensor's memory is mapped from; empty where it is the process's own."""
    place = tensor.data_ptr()
    for line in _MAPS.read_text(encoding="utf-8").splitlines():
        span, *_, last = line.split(maxsplit=5)
        start, end = (int(side, 16) for side in span.split("-"))
        if start <= place < end:
            return last if last.startswith("/") else ""
    raise AssertionError(hex(place))
