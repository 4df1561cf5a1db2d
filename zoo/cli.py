"""The command line: the `zoo` program and its commands.

Data goes to stdout, words to stderr. What a user did wrong ends in one sentence and exit code 1, a
command line that cannot be understood in exit code 2.
"""

from __future__ import annotations

import os
import sys
import warnings
from typing import Annotated

import typer

from zoo.commands._console import say, say_warning, sentence
from zoo.commands.auditing import audit_
from zoo.commands.benchmarking import bench_
from zoo.commands.conversion import convert_, export_
from zoo.commands.counting import cost_
from zoo.commands.evaluation import embed_, evaluate_
from zoo.commands.experiments import flops_, motion_
from zoo.commands.hub import cache_, mirror_, pull_
from zoo.commands.listing import info_, list_
from zoo.commands.picking import pick_
from zoo.commands.prediction import predict_
from zoo.commands.publishing import publish_, push_
from zoo.commands.site import site_
from zoo.commands.training import pretrain_, train_

__all__ = ["app", "main"]

app = typer.Typer(
    help="The model zoo for video.",
    no_args_is_help=True,
    invoke_without_command=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)


def main() -> None:
    """Run the command line; the entry point of the `zoo` script."""
    warnings.showwarning = say_warning
    try:
        app(prog_name="zoo")
    except BrokenPipeError:
        # The reader of our output left (`zoo list | head`), which is no error of ours.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except Exception as error:  # noqa: BLE001 -- a user is never shown a traceback
        say(f"error: {sentence(error)}")
        raise SystemExit(1) from None


@app.callback()
def _program(
    version: Annotated[bool, typer.Option("--version", help="Say which version this is.")] = False,
) -> None:
    """The model zoo for video."""
    if version:
        from importlib.metadata import version as installed

        sys.stdout.write(f"videozoo {installed('videozoo')}\n")
        raise typer.Exit


app.command("list")(list_)
app.command("info")(info_)
app.command("predict")(predict_)
app.command("train")(train_)
app.command("pretrain")(pretrain_)
app.command("evaluate")(evaluate_)
app.command("embed")(embed_)
app.command("bench")(bench_)
app.command("convert")(convert_)
app.command("export")(export_)
app.command("push")(push_)
app.command("publish")(publish_)
app.command("pull")(pull_)
app.command("mirror")(mirror_)
app.add_typer(cache_, name="cache")
experiment = typer.Typer(help="Make the documentation's measurements again.", no_args_is_help=True)
experiment.command("motion")(motion_)
experiment.command("flops")(flops_)
app.add_typer(experiment, name="experiment")
app.command("audit")(audit_)
app.command("flops")(cost_)
app.command("pick")(pick_)
app.command("site")(site_)


if __name__ == "__main__":
    main()
