"""`zoo pick`: which model for which task, by rules that can be read."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from zoo.commands._console import say

__all__ = ["pick_"]


def pick_(
    motion: Annotated[
        str,
        typer.Option(help="How much of a label lies in motion: none, low, medium or high."),
    ] = "medium",
    labels: Annotated[
        str, typer.Option(help="new: your own classes; kinetics: a model as it is.")
    ] = "new",
    videos: Annotated[int | None, typer.Option(help="Labelled videos to train on.")] = None,
    train_gpu_hours: Annotated[
        float | None, typer.Option(help="What training may take; judged by an estimate.")
    ] = None,
    gflops: Annotated[
        float | None, typer.Option(help="10^9 multiply-adds that one answer may take.")
    ] = None,
    latency_ms: Annotated[
        float | None, typer.Option(help="Milliseconds that one answer may take, as measured.")
    ] = None,
    device: Annotated[str, typer.Option(help="Where latency was measured: cpu or cuda.")] = "cpu",
    licence: Annotated[str, typer.Option(help="Of the weights: any or permissive.")] = "any",
    clip_seconds: Annotated[
        float | None, typer.Option(help="How long the thing lasts that one answer is about.")
    ] = None,
    num_frames: Annotated[
        int | None, typer.Option(help="Frames that may be decoded for one answer.")
    ] = None,
    modality: Annotated[str, typer.Option(help="rgb, or flow that you compute.")] = "rgb",
    approach: Annotated[
        str | None,
        typer.Option(help="Only 2d_pool, 2d_shift, 3d, 2plus1d or transformer."),
    ] = None,
    from_scratch: Annotated[
        bool, typer.Option("--from-scratch", help="Use no trained weights.")
    ] = False,
    gpu_tflops: Annotated[
        float, typer.Option(help="10^12 operations a second that the training GPU sustains.")
    ] = 20.0,
    top: Annotated[int, typer.Option(help="How many to show.")] = 5,
    plot: Annotated[
        Path | None, typer.Option(help="Picture to draw: accuracy against GFLOPs.")
    ] = None,
    rules: Annotated[bool, typer.Option("--rules", help="Show the rules and stop.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Write the answer as JSON.")] = False,
) -> None:
    """Rank the zoo's models by what you need; exit code 1 where nothing fulfils every wish."""
    from zoo.picking import RULES, pick, rules_table

    if rules:
        shown = json.dumps([_rule(rule) for rule in RULES], indent=1) + "\n"
        sys.stdout.write(shown if as_json else rules_table())
        return
    if plot is not None:
        from zoo.sheet import check_sheet_path

        check_sheet_path(plot)
    answer = pick(
        top=top,
        motion=motion,
        labels=labels,
        videos=videos,
        train_gpu_hours=train_gpu_hours,
        gflops=gflops,
        latency_ms=latency_ms,
        device=device,
        licence=licence,
        clip_seconds=clip_seconds,
        num_frames=num_frames,
        modality=modality,
        approach=approach,
        from_scratch=from_scratch,
        gpu_tflops=gpu_tflops,
    )
    if plot is not None:
        from zoo.picking.plot import draw_answer

        draw_answer(answer, plot)
        say(f"'{plot}' shows accuracy against GFLOPs.")
    if as_json:
        sys.stdout.write(json.dumps(answer.to_json(), indent=1, ensure_ascii=False) + "\n")
    else:
        sys.stdout.write(answer.page())
    if not answer.best:
        raise typer.Exit(1)


def _rule(rule: Any) -> dict[str, str]:
    return {"rule": rule.key, "kind": rule.kind, "says": rule.says, "source": rule.source}
