"""`zoo bench`: what models cost on this machine, beside another library's."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from typing import TYPE_CHECKING, Annotated

import typer

from zoo.commands._console import say, sentence

if TYPE_CHECKING:
    from zoo.benchmarking.measuring import Measurement, Setting

__all__ = ["bench_"]


class _Dtype(str, Enum):
    float32 = "float32"
    bfloat16 = "bfloat16"


def bench_(
    names: Annotated[
        list[str],
        typer.Argument(metavar="NAME...", help="Models, parts of names, or patterns with * and ?."),
    ],
    against: Annotated[
        str | None,
        typer.Option(
            metavar="LIBRARY",
            help="torchvision, pytorchvideo, transformers or hiera: its own module with the same "
            "weights is timed in the same rounds.",
        ),
    ] = None,
    dtype: Annotated[
        _Dtype, typer.Option(help="Of ours; the peer runs in float32.")
    ] = _Dtype.float32,
    compile_: Annotated[
        bool, typer.Option("--compile", help="Compile both sides with torch.compile.")
    ] = False,
    optimize: Annotated[
        bool, typer.Option("--optimize", help="Take what zoo.optimize makes of ours.")
    ] = False,
    train: Annotated[
        bool, typer.Option("--train", help="Time a step: forward, backward and SGD.")
    ] = False,
    batch_size: Annotated[int, typer.Option(min=1, help="Clips at once.")] = 1,
    rounds: Annotated[int, typer.Option(min=1, help="Times that each side is timed.")] = 10,
    threads: Annotated[
        int | None,
        typer.Option(
            min=1, help="Threads to compute with, not kept; torch's choice, kept, if left out."
        ),
    ] = None,
    device: Annotated[str, typer.Option(help="Such as cpu or cuda.")] = "cpu",
    as_json: Annotated[
        bool, typer.Option("--json", help="Write the measurements as JSON.")
    ] = False,
) -> None:
    """Measure latency, memory and, beside another library, the ratio and whether logits agree.

    Weights are random where the name brings none. What is measured is kept for `zoo pick`, unless
    `--threads` is given: models run with torch's own number.
    """
    from zoo.benchmarking import measuring, records, table

    setting = measuring.Setting(
        against=against,
        dtype=dtype.value,
        compile=compile_,
        optimize=optimize,
        train=train,
        batch_size=batch_size,
        rounds=rounds,
        device=device,
    )
    measuring.check_device(device)
    with _threads(threads):
        done, failed = _measure(names, setting)
        rows = [item.as_json() for item in done]  # which tell the threads
    if as_json:
        sys.stdout.write(json.dumps(table.as_json(rows), indent=1) + "\n")
    elif done:
        _print_table(*table.as_rows(done))
    if said := table.summary(done):
        say(said)
    try:
        if threads is None:
            records.append(rows)
    except OSError as error:  # a table that is shown is worth more than one that is kept
        say(f"warning: {sentence(error)}")
    if failed:
        raise typer.Exit(1)


def _measure(patterns: list[str], setting: Setting) -> tuple[list[Measurement], int]:
    """Measure each name; one that fails is said and counted, and the others are measured."""
    from zoo.benchmarking.measuring import expand_name, measure

    done, failed, wanted = [], 0, dict[str, None]()
    for pattern in patterns:
        try:
            wanted |= dict.fromkeys(expand_name(pattern))
        except (LookupError, ValueError) as error:
            failed += 1
            say(sentence(error))
    for name in wanted:
        if sys.stderr.isatty():
            say(f"{name} ...")
        try:
            done.append(measure(name, setting))
        except Exception as error:  # noqa: BLE001 -- one model's failure is not the others'
            failed += 1
            say(f"{name}: {sentence(error)}")
    return done, failed


@contextmanager
def _threads(number: int | None) -> Iterator[None]:
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(number or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _print_table(titles: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    """A table where a person is looking, else columns that tabs divide."""
    if not sys.stdout.isatty():
        sys.stdout.writelines("\t".join(row) + "\n" for row in (titles, *rows))
        return
    from rich.console import Console
    from rich.table import Table

    shown = Table(box=None, header_style="bold")
    for title in titles:
        shown.add_column(title, justify="left" if title in ("model", "clip") else "right")
    for row in rows:
        shown.add_row(*row)
    Console().print(shown)
