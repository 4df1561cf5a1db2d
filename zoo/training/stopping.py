"""Ends of a run other than its last epoch."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = [
    "StopRequest",
    "ToldElsewhereError",
    "TrainingInterruptedError",
    "TrainingStoppedError",
    "stop_requests",
]


class TrainingStoppedError(RuntimeError):
    """A run ended early, on all of its processes; its last good checkpoint is kept."""


class TrainingInterruptedError(TrainingStoppedError):
    """Somebody asked the run to end; it did after a step, and saved a checkpoint."""


class ToldElsewhereError(TrainingStoppedError):
    """A run ended early, and the main process says why."""


class StopRequest:
    """Whether somebody asked this process to end."""

    made = False

    def handle(self, number: int, _: FrameType | None) -> None:
        """Note the first signal; a second Ctrl-C interrupts at once."""
        if self.made and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.made = True


@contextmanager
def stop_requests() -> Iterator[StopRequest]:
    """Turn Ctrl-C, and the SIGTERM of a cluster's scheduler, into a request to end after a step."""
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request  # only the main thread receives signals
        return
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, request.handle) for number in numbers]
    try:
        yield request
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
