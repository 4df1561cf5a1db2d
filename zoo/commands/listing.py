"""`zoo list` and `zoo info`: what there is, from the index alone."""

from __future__ import annotations

import json
import sys
from typing import Annotated, Any

import typer

from registry import info, list_models, list_pretrained
from registry.catalogue import summary
from registry.index import to_json
from registry.names import parse_name
from zoo.commands._console import say

__all__ = ["info_", "list_"]


def list_(
    pattern: Annotated[
        str, typer.Argument(help="Part of a name, or a whole name with * and ?.")
    ] = "",
    family: Annotated[str | None, typer.Option(help="Only this family.")] = None,
    pretrained: Annotated[
        bool, typer.Option("--pretrained", help="Show every name.tag that has weights.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Write records as JSON.")] = False,
) -> None:
    """List the models, one a line; a table where a person is looking."""
    listing = list_pretrained if pretrained else list_models
    names = listing(pattern, family=family)
    if as_json:
        sys.stdout.write(json.dumps([_row(name) for name in names], indent=1) + "\n")
    elif sys.stdout.isatty():
        _print_table([_row(name) for name in names])
    else:
        sys.stdout.writelines(f"{name}\n" for name in names)
    if not names:
        families = sorted({summary(name)["family"] for name in list_models()})
        wish = f" in family {family!r}" if family else ""
        say(f"no model named like {pattern!r}{wish}; the families are {', '.join(families)}.")
        raise typer.Exit(1)


def info_(
    name: Annotated[str, typer.Argument(help="A model, such as r2p1d_18 or r2p1d_18.k400.")],
    as_json: Annotated[bool, typer.Option("--json", help="Write the record as JSON.")] = False,
) -> None:
    """Show a model's record: paper, size, input, weights with licence and figures."""
    if parse_name(name).scheme:
        raise ValueError(f"{name!r} is a folder; `zoo info` shows registered models.")
    architecture = info(name)
    if as_json:
        sys.stdout.write(json.dumps(to_json(architecture), indent=1, ensure_ascii=False) + "\n")
        return
    from converters.cards import architecture_card

    card = architecture_card(architecture)
    if sys.stdout.isatty():
        from rich.console import Console
        from rich.markdown import Markdown

        Console().print(Markdown(card))
    else:
        sys.stdout.write(card)


def _row(name: str) -> dict[str, Any]:
    """What a listing shows of a name or a name.tag, without importing the model."""
    architecture, _, tag = name.partition(".")
    return summary(architecture) | {"name": name} | ({"weights": [tag]} if tag else {})


def _print_table(rows: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, header_style="bold")
    for title in ("model", "family", "weights", "params", "GFLOPs"):
        table.add_column(title, justify="right" if title in ("params", "GFLOPs") else "left")
    for row in rows:
        table.add_row(
            row["name"],
            row["family"],
            ", ".join(row["weights"]),
            f"{row['params'] / 1e6:.1f} M" if row["params"] else "",
            f"{row['gflops']:.1f}" if row["gflops"] else "",
        )
    Console().print(table)
