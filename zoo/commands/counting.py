"""`zoo flops`: what a model costs, layer by layer."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from zoo.counting import LayerCost, ModelCost

__all__ = ["cost_"]


def cost_(
    name: Annotated[
        str,
        typer.Argument(help="A model, such as r2p1d_18, timesformer_divided.k400, tsm:resnet50."),
    ] = "",
    num_frames: Annotated[
        int | None, typer.Option(min=1, help="Frames of the clip; the model's if left out.")
    ] = None,
    img_size: Annotated[
        int | None, typer.Option(min=1, help="Height and width in pixels, likewise.")
    ] = None,
    depth: Annotated[
        int | None,
        typer.Option(min=1, help="Add layers up under so many parts of their names."),
    ] = None,
    families: Annotated[
        bool, typer.Option("--families", help="Compare the families at one clip of 8 frames.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Write everything as JSON.")] = False,
) -> None:
    """Count multiply-adds, operations, parameters and memory; nothing is computed or fetched."""
    if families == bool(name):
        raise ValueError("Give a model's name, or --families to compare the families.")
    if families:
        if depth is not None:
            raise ValueError("--depth folds the layers of one model, and --families shows none.")
        _families(num_frames, img_size, as_json=as_json)
        return
    from zoo.counting import flops

    cost = flops(name, num_frames=num_frames, img_size=img_size)
    if as_json:
        _write_json(cost.to_json(depth))
    else:
        _write_page(_page(cost, depth))


def _families(num_frames: int | None, img_size: int | None, *, as_json: bool) -> None:
    from zoo.experiments import compare_families, families_page
    from zoo.experiments.families import NUM_FRAMES

    costs = compare_families(num_frames=num_frames or NUM_FRAMES, img_size=img_size)
    if as_json:
        _write_json([cost.to_json(depth=1) for cost in costs])
    else:
        _write_page(families_page(costs))


def _page(cost: ModelCost, depth: int | None) -> str:
    """The layers and the totals in Markdown."""
    layers = cost.layers if depth is None else cost.folded(depth)
    shown = [layer for layer in layers if layer.macs or layer.params or depth is not None]
    rows = [
        f"`{cost.name}` on one clip (N, C, T, H, W) = {cost.clip}",
        "",
        "| layer | kind | calls | parameters | MACs | FLOPs | activations |",
        "|---|---|---:|---:|---:|---:|---:|",
        *(_row(layer) for layer in shown),
        _total(cost),
        "",
        *(
            f"- activations in {name}: {memory.sum_bytes:,} bytes made in all, at most "
            f"{memory.peak_bytes:,} at once, the clip included"
            for name, memory in cost.activations.items()
        ),
        "",
        f"{cost.macs / 1e9:.2f} x 10^9 multiply-adds (MACs) are what papers and the records of this"
        f" zoo call {cost.macs / 1e9:.2f} GFLOPs a view; as two operations each they are "
        f"{cost.flops / 1e9:.2f} x 10^9 FLOPs. Layers without multiply-adds and parameters are "
        f"left out of the table unless they are folded.",
    ]
    return "\n".join(rows) + "\n"


def _row(layer: LayerCost) -> str:
    name = f"`{layer.name}`" if layer.name else "(the model itself)"
    return (
        f"| {name} | {layer.kind} | {layer.calls} | {layer.params:,} | {layer.macs:,} "
        f"| {layer.flops:,} | {layer.activation_bytes:,} B |"
    )


def _total(cost: ModelCost) -> str:
    made = cost.activations["float32"].sum_bytes
    return f"| all | | | {cost.params:,} | {cost.macs:,} | {cost.flops:,} | {made:,} B |"


def _write_page(page: str) -> None:
    if sys.stdout.isatty():
        from rich.console import Console
        from rich.markdown import Markdown

        Console().print(Markdown(page))
    else:
        sys.stdout.write(page)


def _write_json(record: Any) -> None:
    sys.stdout.write(json.dumps(record, indent=1) + "\n")
