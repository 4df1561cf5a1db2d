"""The most memory that a call holds above what the process held before it."""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Callable
from pathlib import Path

import torch

__all__ = ["peak_bytes"]

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def peak_bytes(call: Callable[[], object], device: torch.device) -> int | None:
    """Run a call, and tell the most memory that it held at once.

    On a CPU it is the process's resident memory, which Linux alone tells; on a CUDA device that
    of the device.

    Args:
        call: Returns when its work is done.
        device: Where it computes.

    Returns:
        Bytes above those held before, or None where the system does not tell.
    """
    if device.type == "cuda":
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        call()
        return torch.cuda.max_memory_allocated(device) - before
    if device.type != "cpu" or not _forget_peak():
        return None
    before = _status("VmRSS")
    call()
    return max(0, _status("VmHWM") - before)


def _forget_peak() -> bool:
    """Make now the process's peak; whether the system lets us."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)  # memory that the allocator kept would be used again, unseen
    try:
        _CLEAR.write_text("5")  # resets VmHWM, see proc(5)
    except OSError:
        return False
    return True


def _status(key: str) -> int:
    """A figure of /proc/self/status in bytes."""
    for line in _STATUS.read_text(encoding="ascii", errors="replace").splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1]) * 1024
    raise AssertionError(f"Linux has no {key}")
