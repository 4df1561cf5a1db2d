"""`zoo audit`: bugs in a sampler or a pipeline."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import json
import sys
import warnings
from pathlib import Path
from typing import Annotated, Any

import typer

from registry.names import did_you_mean

__all__ = ["audit_"]


def audit_(
    target: Annotated[
        str,
        typer.Argument(help="module:function or file.py:function, of this folder or installed."),
    ],
    convention: Annotated[
        str,
        typer.Option(
            help="How the sampler is called: indices is (frames, T) -> indices; or seconds, "
            "tensors, seek, torchvision, pytorchvideo, mmaction, transformers."
        ),
    ] = "indices",
    model: Annotated[
        str | None,
        typer.Option(help="Audit a pipeline, (path) -> clip, beside the recipe of this model."),
    ] = None,
    evaluation: Annotated[
        str | None, typer.Option(help="The sampler used for testing, to be compared with.")
    ] = None,
    train: Annotated[bool, typer.Option("--train", help="It may draw at random.")] = False,
    num_frames: Annotated[
        int | None, typer.Option(help="The one T that it is for; several are tried if left out.")
    ] = None,
    sheet: Annotated[
        Path | None, typer.Option(help="Draw which frames of the time line it chooses here.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Write the report as JSON.")] = False,
) -> None:
    """Look for bugs in a frame sampler or a whole pipeline; exit code 1 if there are errors."""
    if model is not None and (sheet or evaluation or num_frames or convention != "indices"):
        raise typer.BadParameter(
            "A pipeline takes its frames from the model; leave out --convention, --evaluation, "
            "--num-frames and --sheet.",
            param_hint="--model",
        )
    function = _load(target)
    if model is not None:
        from zoo.audit import audit_pipeline
        from zoo.factory import create

        _check_takes(
            *(target, function, 1),
            "a pipeline takes the path of a video; for a sampler, leave out --model",
        )
        with warnings.catch_warnings():
            # That the weights of a tag were not loaded is what is wanted: the recipe is enough.
            warnings.simplefilter("ignore", UserWarning)
            network = create(model)
        labels = (network.record and network.record.labels) or ()
        report = audit_pipeline(function, network, train=train, labels=labels, name=target)
    else:
        report = _audit_sampler(target, function, convention, evaluation, train, num_frames, sheet)
    if as_json:
        sys.stdout.write(json.dumps(report.to_json(), indent=1, ensure_ascii=False) + "\n")
    else:
        sys.stdout.write(report.text())
    if not report.ok:
        raise typer.Exit(1)


def _audit_sampler(
    target: str,
    function: Any,
    convention: str,
    evaluation: str | None,
    train: bool,
    num_frames: int | None,
    sheet: Path | None,
) -> Any:
    from zoo.audit import audit_sampler
    from zoo.audit.conventions import CONVENTIONS
    from zoo.audit.sheet import draw_timelines

    if convention not in CONVENTIONS:
        raise LookupError(
            f"Unknown convention {convention!r}. Known: {', '.join(CONVENTIONS)}."
            f"{did_you_mean(convention, tuple(CONVENTIONS))}"
        )
    tested = _load(evaluation) if evaluation else None
    if convention == "indices":
        for name, called in ((target, function), (evaluation or "", tested)):
            if called is not None:
                _check_takes(
                    *(name, called, 2),
                    "a sampler takes the frames of a video and T; for a pipeline, add --model, and "
                    "for another way of calling --convention",
                )
    adapt = CONVENTIONS[convention]
    sampler = adapt(function)
    beside = adapt(tested) if tested is not None else None
    lengths = {} if num_frames is None else {"lengths": (num_frames,)}
    report = audit_sampler(sampler, train=train, evaluation=beside, name=target, **lengths)
    if sheet is not None:
        shown = num_frames or 8
        draw_timelines(sampler, sheet, num_frames=shown, train=train, title=target)
    return report


def _check_takes(target: str, function: Any, count: int, usage: str) -> None:
    """Refuse what cannot be called with so many arguments, besides those for chance and rate."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # functions written in C may tell nothing
        return
    named = [word for word in ("seed", "rng", "generator", "fps") if word in signature.parameters]
    try:
        signature.bind(*[0] * count, **dict.fromkeys(named))
    except TypeError:
        raise ValueError(f"{target!r} takes {signature}; {usage}.") from None


def _load(target: str) -> Any:
    """The function that `module:function` or `file.py:function` names."""
    place, separator, name = target.rpartition(":")
    if not (separator and place and name):
        raise ValueError(f"{target!r} names no function; give module:function or file.py:function.")
    try:
        if place.endswith(".py"):
            module = _from_file(Path(place))
        else:
            sys.path.insert(0, "")
            module = importlib.import_module(place)
    except ImportError as error:
        raise ValueError(f"{place!r} cannot be imported ({error}).") from error
    found: Any = module
    for part in name.split("."):
        if not hasattr(found, part):
            public = [word for word in dir(found) if not word.startswith("_")]
            raise LookupError(f"{place!r} has no {name!r}.{did_you_mean(part, public)}")
        found = getattr(found, part)
    if not callable(found):
        raise ValueError(f"{target!r} is of the type {type(found).__name__}, and cannot be called.")
    return found


def _from_file(path: Path) -> Any:
    if not path.is_file():
        raise FileNotFoundError(f"There is no file '{path}'.")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
