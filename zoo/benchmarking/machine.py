"""On what and for how long something was measured: goes beside every figure."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

__all__ = ["Machine", "Stopwatch", "describe_machine", "processor_name"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """Where something was measured.

    Attributes:
        processor: The processor's name as the system gives it.
        cores: Cores that this process may use.
        threads: Threads that torch computes with.
        versions: Of Python and of the packages that decide the numbers.
    """

    processor: str
    cores: int
    threads: int
    versions: dict[str, str]

    def __str__(self) -> str:
        packages = ", ".join(f"{name} {number}" for name, number in self.versions.items())
        return f"{self.processor}, {self.cores} cores, {self.threads} threads; {packages}"


def describe_machine(packages: Sequence[str] = ("torch", "timm", "numpy")) -> Machine:
    """The machine that this runs on, and the versions of installed packages."""
    import torch

    return Machine(
        processor=processor_name(),
        cores=_cores(),
        threads=torch.get_num_threads(),
        versions={"Python": platform.python_version()}
        | {package: version(package) for package in packages},
    )


class Stopwatch:
    """Seconds since it was made, on the clock and of the processor.

    On a machine that is shared the clock goes on while others compute; the processor's seconds
    divided by its cores say what an idle machine would have taken.
    """

    def __init__(self) -> None:
        self._clock, self._processor = time.perf_counter(), time.process_time()

    def read(self) -> tuple[float, float]:
        """Seconds on the clock, and of the processor over all threads."""
        return time.perf_counter() - self._clock, time.process_time() - self._processor


def _cores() -> int:
    # Only Linux tells which cores a process is allowed.
    allowed = getattr(os, "sched_getaffinity", None)
    return len(allowed(0)) if allowed else os.cpu_count() or 1


def processor_name() -> str:
    """The name in /proc/cpuinfo; `platform` has only the architecture's on Linux."""
    listing = Path("/proc/cpuinfo")
    if listing.is_file():
        for line in listing.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
