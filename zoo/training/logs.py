"""What a run tells while it goes on: lines of JSON, TensorBoard, and a bar for whoever looks."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from converters.checkpoint import replacing

if TYPE_CHECKING:
    from rich.progress import Progress
    from torch.utils.tensorboard import SummaryWriter

__all__ = ["RunLog", "read_log"]


def read_log(path: Path) -> list[dict[str, Any]]:
    """The lines of a log; what a kill left of a last line is not one."""
    if not path.exists():
        return []
    lines = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            lines.append(json.loads(line))
        except ValueError:
            break
    return lines


class RunLog:
    """Writes `log.jsonl` and what else was asked for; the main process's only.

    Lines that were written after the checkpoint which is resumed from are taken out, so that the
    log reads like that of one run.

    Args:
        folder: The run's folder.
        step: Step that is resumed from; 0 for a new run.
        tensorboard: Whether to write TensorBoard's events into `folder/tensorboard`.
        progress: Whether to draw a bar on stderr if a person is looking.

    Raises:
        ValueError: TensorBoard is asked for and not installed.
    """

    def __init__(self, folder: Path, *, step: int, tensorboard: bool, progress: bool) -> None:
        self._path = folder / "log.jsonl"
        kept = [line for line in read_log(self._path) if line["step"] <= step]
        with replacing(self._path) as (part,):
            part.write_text("".join(map(_line, kept)), encoding="utf-8")
        self._events = _tensorboard(folder / "tensorboard", step) if tensorboard else None
        self._bar = _bar() if progress and sys.stderr.isatty() else None
        self._task: Any = None

    def __enter__(self) -> RunLog:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
        if self._events is not None:
            self._events.close()

    def write(self, event: str, *, step: int, epoch: int, **facts: Any) -> None:
        """Add one line.

        Args:
            event: `step`, `epoch` or another word for what happened.
            step: Steps done.
            epoch: The epoch, counted from 1.
            **facts: Whatever JSON holds; TensorBoard gets the numbers.

        Raises:
            OSError: The disk is full.
        """
        line = {"event": event, "step": step, "epoch": epoch, **facts}
        with self._path.open("a", encoding="utf-8") as file:
            file.write(_line(line))
        if self._events is not None:
            for key, value in facts.items():
                if isinstance(value, (int, float)) and not isinstance(value, bool):
                    self._events.add_scalar(f"{event}/{key}", value, step)

    def start_epoch(self, title: str, *, total: int, done: int) -> None:
        """Begin a bar of `total` steps, `done` of them done before."""
        if self._bar is not None:
            if self._task is not None:
                self._bar.remove_task(self._task)
            self._task = self._bar.add_task(title, total=total, completed=done, note="")

    def advance(self, note: str) -> None:
        """Move the bar by a step, with a few words beside it."""
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, advance=1, note=note)


def _line(facts: Mapping[str, Any]) -> str:
    return json.dumps(facts, ensure_ascii=False) + "\n"


def _tensorboard(folder: Path, step: int) -> SummaryWriter:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise ValueError(
            "TensorBoard's events are asked for, but it is not installed; install "
            "'videozoo[tensorboard]', or leave out --tensorboard (log.jsonl has the same)."
        ) from error
    # What was written after the checkpoint is hidden by the viewer.
    return SummaryWriter(str(folder), purge_step=step + 1 if step else None)


def _bar() -> Progress:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
        console=Console(stderr=True),
    )
