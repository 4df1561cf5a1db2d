"""`zoo convert` and `zoo export`: from one layout into another."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from zoo.commands._console import say

__all__ = ["convert_", "export_"]


def convert_(
    file: Annotated[Path, typer.Argument(help="A checkpoint in any layout that the zoo knows.")],
    to: Annotated[
        str, typer.Option(help="safetensors (our layout), onnx, or a layout such as torchvision.")
    ] = "safetensors",
    model: Annotated[
        str | None, typer.Option(help="Name of the model; found by the tensors if left out.")
    ] = None,
    source: Annotated[
        str | None, typer.Option(help="Layout of the file; found by its keys if left out.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="File to write; beside the checkpoint if left out.")
    ] = None,
) -> None:
    """Turn a checkpoint file from one layout into another."""
    from zoo.conversion import convert_file

    suffix = {"safetensors": ".safetensors", "onnx": ".onnx"}.get(to, f".{to}.safetensors")
    out = out or file.with_suffix(suffix)
    if out.exists() and file.exists() and out.samefile(file):
        raise ValueError(f"'{out}' is the checkpoint itself; name another file with --out.")
    found = convert_file(file, out, target=to, name=model, source=source)
    sys.stdout.write(f"{out}\n")
    say(f"{found.name}, read from the layout {found.found.layout!r}, is written to '{out}'.")


def export_(
    name: Annotated[str, typer.Argument(help="Name, name.tag or local-dir:PATH.")],
    to: Annotated[str, typer.Option(help="onnx, safetensors, or a layout such as torchvision.")],
    out: Annotated[
        Path | None, typer.Option(help="File to write; NAME-LAYOUT in this folder if left out.")
    ] = None,
    checkpoint: Annotated[
        Path | None, typer.Option(help="Take the model's weights from this file.")
    ] = None,
) -> None:
    """Write a model with its weights for another program."""
    from zoo.conversion import export_file, targets
    from zoo.factory import create

    if ":" not in name:
        known = targets(name.partition(".")[0])
        if to not in known:
            raise LookupError(f"{name!r} cannot be written as {to!r}. Known: {', '.join(known)}.")
    network = create(name, pretrained=":" not in name and checkpoint is None, checkpoint=checkpoint)
    assert network.record is not None
    ending = {"onnx": ".onnx", "safetensors": ".safetensors"}.get(to, f"-{to}.safetensors")
    out = out or Path(f"{network.record.name}{ending}")
    export_file(network, out, target=to)
    sys.stdout.write(f"{out}\n")
