"""`zoo evaluate` and `zoo embed`: how good a model is, and its features for videos."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

import typer

import registry
from registry.names import parse_name
from zoo.commands._console import say
from zoo.commands._videos import video_files

if TYPE_CHECKING:
    from accelerate import PartialState

    from registry.records import Weights
    from zoo.evaluation.published import Comparison
    from zoo.evaluation.results import EvaluationReport

__all__ = ["embed_", "evaluate_"]

_LONGEST_WAIT = timedelta(hours=6)
"""How long a process that is done waits for the slowest; torch's ten minutes are too few."""


def evaluate_(
    model: Annotated[str, typer.Argument(help="Name, name.tag or local-dir:PATH.")],
    data: Annotated[
        str, typer.Option(help="The videos, as k400:ROOT, folder:ROOT or csv:FILE; see docs.")
    ],
    split: Annotated[str, typer.Option(help="Split of the data.")] = "val",
    clips: Annotated[
        int | None, typer.Option(help="Clips a video; as in the model's record if left out.")
    ] = None,
    crops: Annotated[
        int | None, typer.Option(help="Crops a clip, 1 or 3; as in the record if left out.")
    ] = None,
    batch_size: Annotated[int, typer.Option(help="Views that go through at once.")] = 8,
    workers: Annotated[int, typer.Option(help="Processes that decode, for each GPU.")] = 0,
    bf16: Annotated[bool, typer.Option("--bf16", help="Compute in bfloat16.")] = False,
    device: Annotated[
        str | None, typer.Option(help="cpu, or cuda; the GPU if there is one if left out.")
    ] = None,
    on_error: Annotated[
        str, typer.Option(help="'skip' names missing and broken videos, 'raise' stops at one.")
    ] = "skip",
    checkpoint: Annotated[
        Path | None, typer.Option(help="Take the model's weights from this file.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for tables, report and confusion matrix.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Write the figures as JSON.")] = False,
) -> None:
    """Measure clip and video accuracy on a data set, beside what is published.

    The same command runs on many processes under `torchrun` or `accelerate launch`.
    """
    if on_error not in ("skip", "raise"):
        raise typer.BadParameter(
            f"{on_error!r} is neither 'skip' nor 'raise'.", param_hint="--on-error"
        )
    from zoo.datasets import open_dataset
    from zoo.evaluation import evaluate
    from zoo.evaluation.files import figures_text, make_folder, write_report
    from zoo.evaluation.published import compare
    from zoo.factory import create

    with _processes(device) as state:
        if out is not None and state.is_main_process:
            make_folder(out)
        load = ":" not in model and checkpoint is None
        network = create(model, pretrained=load, checkpoint=checkpoint).to(state.device)
        videos = open_dataset(data, split=split)
        try:
            with _bar("Evaluating", shown=state.is_main_process) as progress:
                report = evaluate(
                    network,
                    videos,
                    num_clips=clips,
                    num_crops=crops,
                    batch_size=batch_size,
                    workers=workers,
                    bf16=bf16,
                    on_error=cast("Literal['skip', 'raise']", on_error),
                    name=_title(model, checkpoint),
                    progress=progress,
                )
        except KeyboardInterrupt as interruption:
            say(f"interrupted: {interruption or 'nothing was done.'} No file was written.")
            raise typer.Exit(130) from None
        if not state.is_main_process:
            return
        weights = _weights(model, checkpoint)
        comparisons = [] if weights is None else compare(report, weights)
        for name, reason in report.failures:
            say(f"not evaluated: {name}: {reason}")
        if out is not None:
            files = write_report(report, out, comparisons)
            say(f"'{out}' holds {', '.join(file.name for file in files)}.")
        if as_json:
            sys.stdout.write(json.dumps(_as_json(report, comparisons), ensure_ascii=False) + "\n")
        else:
            sys.stdout.write(figures_text(report, comparisons))


def _title(name: str, checkpoint: Path | None) -> str:
    """What the report calls weights that no record knows; nothing for those that one does."""
    if checkpoint is not None:
        return f"{name} ({checkpoint.name})"
    return name if parse_name(name).scheme else ""


def _weights(name: str, checkpoint: Path | None) -> Weights | None:
    """The record whose figures these weights should reach; None where there is none.

    What stands in a folder or a file may have been trained further, so its figures are its own; a
    file that is given for a tag is the file of that tag.
    """
    parsed = parse_name(name)
    if parsed.scheme or (checkpoint is not None and not parsed.tag):
        return None
    return registry.find_weights(registry.info(parsed.target), parsed.tag)


def _as_json(report: EvaluationReport, comparisons: list[Comparison]) -> dict[str, Any]:
    from registry.index import to_json

    rows = [{**to_json(item), "agrees": item.agrees} for item in comparisons]
    return {**report.to_json(), "published": rows}


def embed_(
    videos: Annotated[list[str], typer.Argument(help="Video files, or folders of them.")],
    model: Annotated[str, typer.Option(help="Name, name.tag or local-dir:PATH.")],
    out: Annotated[Path, typer.Option(help="Folder for the features and their index.")],
    clips: Annotated[
        str, typer.Option(help="Clips spread over each video, or 'all' of it window by window.")
    ] = "all",
    file_format: Annotated[
        str, typer.Option("--format", help="safetensors, or npz for NumPy alone.")
    ] = "safetensors",
    batch_size: Annotated[int, typer.Option(help="Clips that go through at once.")] = 4,
    processes: Annotated[int, typer.Option(help="Videos done at the same time.")] = 1,
    device: Annotated[
        str | None, typer.Option(help="cpu, or cuda; the GPU if there is one if left out.")
    ] = None,
    checkpoint: Annotated[
        Path | None, typer.Option(help="Take the model's weights from this file.")
    ] = None,
) -> None:
    """Write the features of every clip of videos, of any length; run again, it goes on."""
    if clips != "all" and not (clips.isascii() and clips.isdecimal() and int(clips) > 0):
        raise typer.BadParameter(
            f"{clips!r} is neither a number of 1 or more nor 'all'.", param_hint="--clips"
        )
    from zoo.evaluation import embed
    from zoo.factory import create

    files, empty = video_files([Path(video) for video in videos])
    load = ":" not in model and checkpoint is None
    network = create(model, pretrained=load, checkpoint=checkpoint, num_classes=0)
    try:
        with _processes(device) as state, _bar("Embedding", shown=True) as progress:
            found = embed(
                network.to(state.device),
                files,
                out,
                num_clips="all" if clips == "all" else int(clips),
                file_format=cast("Literal['safetensors', 'npz']", file_format),
                batch_size=batch_size,
                processes=processes,
                progress=progress,
            )
    except KeyboardInterrupt as interruption:
        say(f"interrupted: {interruption or 'nothing was done.'}")
        raise typer.Exit(130) from None
    sys.stdout.write(f"{found.index}\n")
    for name, reason in found.failures:
        say(f"error: {name}: {reason}")
    broken = [name for name, _ in found.failures] + [str(folder) for folder in empty]
    say(
        f"{found.done} videos embedded, {found.kept} done before"
        f"{'; failed: ' + ', '.join(broken) if broken else ''}."
    )
    if broken:
        raise typer.Exit(1)


@contextmanager
def _processes(device: str | None) -> Iterator[PartialState]:
    """Join the other processes, where a launcher started several, and leave them at the end.

    Raises:
        ValueError: There is no such device.
    """
    import torch
    from accelerate import PartialState

    # Left to itself, accelerate does not join processes that have no GPU.
    cpu = device == "cpu" or not torch.accelerator.is_available()
    state = PartialState(cpu=cpu, timeout=_LONGEST_WAIT)
    if device is not None and state.device.type != device:
        raise ValueError(
            f"--device {device} is asked for, and this machine offers {state.device.type}."
        )
    yield state
    # After an error the others may never come: only a process that is done says goodbye.
    state.destroy_process_group()


@contextmanager
def _bar(title: str, *, shown: bool) -> Iterator[Callable[[int, int], object] | None]:
    """A progress bar on stderr where a person is looking."""
    if not shown or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True)) as bar:
        task = bar.add_task(title, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
