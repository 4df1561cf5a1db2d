"""The command line: `zoo list`, `info`, `predict`, `convert`, `export`.

Data goes to stdout, words to stderr. What a user did wrong ends in one sentence and exit code 1, a
command line that cannot be understood in exit code 2.
"""

from __future__ import annotations

import json
import os
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from registry import info, list_models, list_pretrained
from registry.catalogue import summary
from registry.index import to_json

if TYPE_CHECKING:
    from zoo.models._base import VideoModel
    from zoo.prediction import Prediction

__all__ = ["app", "main"]

DEFAULT_MODEL = "r2p1d_nano.motion"
_VIDEO_SUFFIXES = (
    *(".3gp", ".asf", ".avi", ".flv", ".gif", ".h264", ".m2ts", ".m4v", ".mjpeg", ".mkv"),
    *(".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".ogv", ".ts", ".webm", ".wmv"),
)

app = typer.Typer(
    help="The model zoo for video.",
    no_args_is_help=True,
    invoke_without_command=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)


def main() -> None:
    """Run the command line; the entry point of the `zoo` script."""
    warnings.showwarning = _say_warning
    try:
        app(prog_name="zoo")
    except BrokenPipeError:
        # The reader of our output left (`zoo list | head`), which is no error of ours.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except Exception as error:  # noqa: BLE001 -- a user is never shown a traceback
        _say(f"error: {_sentence(error)}")
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


@app.command("list")
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
        _say(f"no model named like {pattern!r}{wish}; the families are {', '.join(families)}.")
        raise typer.Exit(1)


@app.command("info")
def info_(
    name: Annotated[str, typer.Argument(help="A model, such as r2p1d_18 or r2p1d_18.k400.")],
    as_json: Annotated[bool, typer.Option("--json", help="Write the record as JSON.")] = False,
) -> None:
    """Show a model's record: paper, size, input, weights with licence and figures."""
    from registry.names import parse_name

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


@app.command("predict")
def predict_(
    videos: Annotated[list[str], typer.Argument(help="Video files, or folders of them.")],
    model: Annotated[str, typer.Option(help="Name, name.tag or local-dir:PATH.")] = DEFAULT_MODEL,
    topk: Annotated[int | None, typer.Option(help="Labels a video; 5 if left out.")] = None,
    clips: Annotated[
        str, typer.Option(help="Clips spread over each video, or 'all' of it window by window.")
    ] = "1",
    crops: Annotated[int, typer.Option(help="1 for the centre, 3 along the longer side.")] = 1,
    as_json: Annotated[
        bool, typer.Option("--json", help="Write one JSON object a video and line.")
    ] = False,
    checkpoint: Annotated[
        Path | None, typer.Option(help="Take the model's weights from this file.")
    ] = None,
    sheet: Annotated[
        Path | None, typer.Option(help="Draw the sampled frames and labels of one video here.")
    ] = None,
) -> None:
    """Name what happens in videos; goes on after a broken one, and says so at the end."""
    from zoo.factory import create
    from zoo.prediction import check_request

    for video in videos:
        if not video or "://" in video:
            raise typer.BadParameter(
                f"{video!r} is no path of a file or folder.", param_hint="VIDEOS"
            )
    files, empty = _video_files([Path(video) for video in videos])
    _check_views(clips, crops)
    if sheet is not None:
        if len(files) != 1 or empty:
            raise typer.BadParameter("A sheet shows one video; name one.", param_hint="--sheet")
        from zoo.sheet import check_sheet_path

        check_sheet_path(sheet)
    broken = list(empty)
    load = ":" not in model and checkpoint is None
    network = create(model, pretrained=load, checkpoint=checkpoint)
    check_request(network, topk)
    done = 0
    try:
        for path in _progress(files):
            try:
                found = _predict_one(network, path, topk, clips, crops, sheet)
                _write_found(path, model, found, as_json=as_json)
                done += 1
            except BrokenPipeError:
                raise
            except Exception as error:  # noqa: BLE001 -- the other videos go on
                broken.append(path)
                _say(f"error: {_sentence(error)}")
    except KeyboardInterrupt:
        _say(f"interrupted: {done} of {len(files)} videos were done; what is above is theirs.")
        raise typer.Exit(130) from None
    if broken:
        names = ", ".join(map(str, broken))
        if len(files) + len(empty) > 1:
            _say(f"{done} of {len(files) + len(empty)} were done; failed: {names}.")
        raise typer.Exit(1)


@app.command("convert")
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
    _say(f"{found.name}, read from the layout {found.found.layout!r}, is written to '{out}'.")


@app.command("export")
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


def _predict_one(
    network: VideoModel,
    path: Path,
    topk: int | None,
    clips: str,
    crops: int,
    sheet: Path | None,
) -> list[Prediction]:
    from zoo.prediction import predict
    from zoo.video import Video

    num_clips: Any = clips if clips == "all" else int(clips)
    with Video(path) as video:
        found = predict(network, video, topk=topk, num_clips=num_clips, num_crops=crops)
        assert network.record is not None
        if sheet is not None:
            from zoo.sheet import draw_sheet

            draw_sheet(video, network.record, found, sheet, num_clips=num_clips, num_crops=crops)
    return found


def _write_found(path: Path, model: str, found: list[Prediction], *, as_json: bool) -> None:
    if as_json:
        labels = [
            {"label": item.label, "index": item.index, "probability": round(item.probability, 6)}
            for item in found
        ]
        line = {"video": str(path), "model": model, "predictions": labels}
        sys.stdout.write(json.dumps(line, ensure_ascii=False) + "\n")
    else:
        width = max(len(item.label) for item in found)
        sys.stdout.write(f"{path}\n")
        sys.stdout.writelines(
            f"  {item.label:<{width}}  {item.probability:6.1%}\n" for item in found
        )
    sys.stdout.flush()


def _check_views(clips: str, crops: int) -> None:
    number = clips.isascii() and clips.isdecimal() and int(clips) > 0
    if not number and clips != "all":
        raise typer.BadParameter(
            f"{clips!r} is neither a number of 1 or more nor 'all'.", param_hint="--clips"
        )
    if crops not in (1, 3):
        raise typer.BadParameter(f"{crops} is neither 1 nor 3.", param_hint="--crops")


def _video_files(paths: list[Path]) -> tuple[list[Path], list[Path]]:
    """The files named, and those in folders named; and the folders without any."""
    files, broken = [], []
    for path in paths:
        if not path.is_dir():
            files.append(path)
            continue
        inside = sorted(
            item
            for item in path.rglob("*")
            if item.suffix.lower() in _VIDEO_SUFFIXES and item.is_file()
        )
        if not inside:
            _say(f"error: the folder '{path}' holds no video files.")
            broken.append(path)
        files += inside
    return files, broken


def _progress(files: list[Path]) -> Any:
    """The files, with a bar on stderr where there are several and a person is looking."""
    if len(files) < 2 or not sys.stderr.isatty():
        return files
    from rich.console import Console
    from rich.progress import track

    return track(files, "Predicting", console=Console(stderr=True))


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


def _say(text: str) -> None:
    sys.stderr.write(f"zoo: {text}\n")


def _say_warning(message: Warning | str, category: type[Warning], *_: object, **__: object) -> None:
    if issubclass(category, UserWarning):
        _say(f"warning: {message}")


def _sentence(error: BaseException) -> str:
    """An error's text on one line; libraries' own messages may have several."""
    text = " ".join(str(error).split())
    meant_for_users = (ValueError, OSError, RuntimeError, MemoryError)
    if isinstance(error, meant_for_users) or type(error) is LookupError:
        return text or type(error).__name__
    return f"this is a bug of videozoo, please report it: {type(error).__name__}: {text}"


if __name__ == "__main__":
    main()
