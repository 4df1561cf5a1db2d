"""`zoo predict`: names for what happens in videos."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from zoo.commands._console import say, sentence
from zoo.commands._videos import video_files

if TYPE_CHECKING:
    import torch

    from zoo.models._base import VideoModel
    from zoo.prediction import Prediction

__all__ = ["predict_"]

DEFAULT_MODEL = "r2p1d_nano.motion"


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
    optimized: Annotated[
        bool, typer.Option("--optimize", help="Make an inference copy first, for many videos.")
    ] = False,
    dtype: Annotated[
        str | None, typer.Option(help="With --optimize: bfloat16 or float16 instead of float32.")
    ] = None,
) -> None:
    """Name what happens in videos; goes on after a broken one, and says so at the end."""
    from zoo.factory import create
    from zoo.optimizing import optimize
    from zoo.prediction import check_request

    for video in videos:
        if not video or "://" in video:
            raise typer.BadParameter(
                f"{video!r} is no path of a file or folder.", param_hint="VIDEOS"
            )
    files, empty = video_files([Path(video) for video in videos])
    _check_views(clips, crops)
    precision = _precision(dtype, optimized=optimized)
    if sheet is not None:
        if len(files) != 1 or empty:
            raise typer.BadParameter("A sheet shows one video; name one.", param_hint="--sheet")
        from zoo.sheet import check_sheet_path

        check_sheet_path(sheet)
    broken = list(empty)
    load = ":" not in model and checkpoint is None
    network = create(model, pretrained=load, checkpoint=checkpoint)
    check_request(network, topk)
    if optimized:
        network = optimize(network, dtype=precision)
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
                say(f"error: {sentence(error)}")
    except KeyboardInterrupt:
        say(f"interrupted: {done} of {len(files)} videos were done; what is above is theirs.")
        raise typer.Exit(130) from None
    if broken:
        names = ", ".join(map(str, broken))
        if len(files) + len(empty) > 1:
            say(f"{done} of {len(files) + len(empty)} were done; failed: {names}.")
        raise typer.Exit(1)


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


def _precision(name: str | None, *, optimized: bool) -> torch.dtype | None:
    if name is None:
        return None
    if not optimized:
        raise typer.BadParameter("It is the dtype of --optimize; give both.", param_hint="--dtype")
    from zoo.optimizing import DTYPES

    known = {str(dtype).removeprefix("torch."): dtype for dtype in DTYPES}
    if name not in known:
        raise typer.BadParameter(f"{name!r} is none of {', '.join(known)}.", param_hint="--dtype")
    return known[name]


def _check_views(clips: str, crops: int) -> None:
    number = clips.isascii() and clips.isdecimal() and int(clips) > 0
    if not number and clips != "all":
        raise typer.BadParameter(
            f"{clips!r} is neither a number of 1 or more nor 'all'.", param_hint="--clips"
        )
    if crops not in (1, 3):
        raise typer.BadParameter(f"{crops} is neither 1 nor 3.", param_hint="--crops")


def _progress(files: list[Path]) -> Any:
    """The files, with a bar on stderr where there are several and a person is looking."""
    if len(files) < 2 or not sys.stderr.isatty():
        return files
    from rich.console import Console
    from rich.progress import track

    return track(files, "Predicting", console=Console(stderr=True))
