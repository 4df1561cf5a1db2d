"""An evaluation as files: tables of every prediction, figures, and a page to read."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from zoo.evaluation.confusion import draw_confusion
from zoo.evaluation.metrics import Accuracy
from zoo.evaluation.published import Comparison
from zoo.evaluation.results import EvaluationReport

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["figures_text", "make_folder", "write_report"]

_WORST = 10


def make_folder(folder: Path) -> None:
    """Make the folder that the files go to, before any work is done for them.

    Raises:
        OSError: It cannot be made or written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OSError(f"Cannot make the folder '{folder}' ({error.strerror}).") from error
    if not os.access(folder, os.W_OK):
        raise OSError(f"Cannot write into the folder '{folder}'; give another one.")


def write_report(
    report: EvaluationReport, folder: Path, comparisons: Sequence[Comparison] = ()
) -> list[Path]:
    """Write everything that was found.

    `report.md` is for people and `report.json` for programs; `predictions.csv` has a row a video,
    `clips.csv` a row a view, `classes.csv` a row a class, and `confusion.png` shows what is taken
    for what. Each file is complete or not there.

    Args:
        report: What was measured.
        folder: Where to; files of an earlier evaluation are replaced.
        comparisons: Published figures to be shown beside the measured ones.

    Returns:
        The files, in the order above.

    Raises:
        OSError: A file cannot be written.
    """
    make_folder(folder)
    page, figures = folder / "report.md", folder / "report.json"
    with _written(page) as file:
        file.write(_page(report, comparisons))
    with _written(figures) as file:
        json.dump(report.to_json(), file, indent=1, ensure_ascii=False)
        file.write("\n")
    tables = {
        "predictions.csv": _video_rows(report),
        "clips.csv": _view_rows(report),
        "classes.csv": _class_rows(report),
    }
    for name, rows in tables.items():
        with _written(folder / name) as file:
            csv.writer(file, lineterminator="\n").writerows(rows)
    picture = folder / "confusion.png"
    partial = folder / ".confusion.partial.png"
    draw_confusion(report.confusion, report.labels, partial, title=_title(report))
    partial.replace(picture)
    return [page, figures, *(folder / name for name in tables), picture]


def figures_text(report: EvaluationReport, comparisons: Sequence[Comparison] = ()) -> str:
    """The four accuracies with their intervals, and the published figures, a line each."""
    ours = report.protocol
    lines = [
        f"{ours.model} on {ours.dataset}, {ours.split}: {len(report)} of "
        f"{len(report) + len(report.failures)} videos, {ours.num_clips} x {ours.num_crops} views "
        f"(clips x crops), {ours.sampling.average} averaged",
        f"  clip level   top-1 {_interval(report.clip_top1)}",
        f"               top-5 {_interval(report.clip_top5)}",
        f"  video level  top-1 {_interval(report.video_top1)}",
        f"               top-5 {_interval(report.video_top5)}",
    ]
    if len(report.labels) <= 5:
        lines.append(f"  (of {len(report.labels)} classes, five best are always all of them)")
    lines += [f"  {line}" for item in comparisons for line in _comparison(item)]
    return "\n".join(lines) + "\n"


def _interval(accuracy: Accuracy) -> str:
    return (
        f"{accuracy.share:7.2%}  ({accuracy.low:.2%} to {accuracy.high:.2%}; "
        f"{accuracy.correct} of {accuracy.total})"
    )


def _comparison(item: Comparison) -> list[str]:
    metric = item.published
    name = {"top1": "top-1", "top5": "top-5"}[metric.name]
    line = (
        f"published {metric.level} {name} {metric.value:.2f}% ({metric.dataset}, {metric.split}, "
        f"{metric.num_clips} x {metric.num_crops} views, by {metric.measured_by}), measured "
        f"{item.measured.share:.2%}"
    )
    if item.differences:
        return [f"{line}; another protocol:", *(f"  - {part}" for part in item.differences)]
    verdict = "inside" if item.agrees else "outside of"
    return [f"{line}; the published figure is {verdict} the interval"]


def _title(report: EvaluationReport) -> str:
    ours = report.protocol
    return (
        f"{ours.model} on {ours.dataset}, {ours.split}: video top-1 {report.video_top1.share:.1%}"
    )


def _page(report: EvaluationReport, comparisons: Sequence[Comparison]) -> str:
    """The report as Markdown."""
    ours = report.protocol
    lines = [
        f"# {ours.model} on {ours.dataset}, {ours.split}",
        "",
        f"{len(report)} of {len(report) + len(report.failures)} videos; {ours.num_clips} x "
        f"{ours.num_crops} views (clips x crops) of {ours.sampling.num_frames} frames, "
        f"{ours.preprocess.img_size} pixels; {ours.sampling.average} averaged over the views of a "
        f"video{'; computed in bfloat16' if ours.bf16 else ''}.",
        "",
        "| level | figure | measured | 95 % interval | right | of |",
        "|---|---|---|---|---|---|",
    ]
    for level in ("clip", "video"):
        for name in ("top1", "top5"):
            found: Accuracy = getattr(report, f"{level}_{name}")
            lines.append(
                f"| {level} | {name} | {found.share:.2%} | {found.low:.2%} to {found.high:.2%} | "
                f"{found.correct} | {found.total} |"
            )
    if comparisons:
        lines += ["", "## Published", ""]
        for comparison in comparisons:
            first, *rest = _comparison(comparison)
            lines += [f"- {first}", *rest]
    worst = sorted(report.per_class, key=lambda item: item.top1 / item.videos)[:_WORST]
    lines += ["", f"## The {len(worst)} least known of {len(report.per_class)} classes", ""]
    lines += [f"- {item.label}: {item.top1} of {item.videos}" for item in worst]
    mistakes = _mistakes(report)
    if mistakes:
        lines += ["", "## Most frequent mistakes", "", *(f"- {line}" for line in mistakes)]
    if report.failures:
        lines += ["", "## Not evaluated", ""]
        lines += [f"- {name}: {reason}" for name, reason in report.failures]
    return "\n".join(lines) + "\n"


def _mistakes(report: EvaluationReport) -> list[str]:
    counts: dict[tuple[int, int], int] = {}
    for result in report.results:
        if result.place:
            pair = result.label, int(result.classes[0])
            counts[pair] = counts.get(pair, 0) + 1
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:_WORST]
    return [
        f"{report.labels[true]} taken for {report.labels[said]}: {count}"
        for (true, said), count in ordered
    ]


def _video_rows(report: EvaluationReport) -> Iterator[list[object]]:
    """A row a video: what is true, its rank among the classes from 1, and the best classes."""
    yield ["video_id", "label", "rank", *_best_header(report)]
    for result in report.results:
        true = [result.video_id, report.labels[result.label], result.place + 1]
        yield true + _best(report, result.classes, result.probabilities)


def _view_rows(report: EvaluationReport) -> Iterator[list[object]]:
    """A row a view, by its clip and its crop, both from 0."""
    yield ["video_id", "clip", "crop", "label", "rank", *_best_header(report)]
    for result in report.results:
        for view, place in enumerate(result.view_places):
            clip, crop = divmod(view, report.protocol.num_crops)
            yield [
                *(result.video_id, clip, crop, report.labels[result.label], place + 1),
                *_best(report, result.view_classes[view], result.view_probabilities[view]),
            ]


def _class_rows(report: EvaluationReport) -> Iterator[list[object]]:
    """A row a class."""
    yield ["label", "videos", "video_top1", "video_top5", "clips", "clip_top1"]
    for item in report.per_class:
        yield [item.label, item.videos, item.top1, item.top5, item.views, item.views_top1]


def _best_header(report: EvaluationReport) -> Iterable[str]:
    for k in range(1, 1 + len(report.results[0].classes)):
        yield from (f"top{k}", f"probability{k}")


def _best(
    report: EvaluationReport, classes: NDArray[np.int32], probabilities: NDArray[np.float32]
) -> list[object]:
    return [
        value
        for index, probability in zip(classes, probabilities, strict=True)
        for value in (report.labels[index], f"{probability:.6f}")
    ]


@contextmanager
def _written(path: Path) -> Iterator[TextIO]:
    """A file that appears under its name when it is complete.

    Raises:
        OSError: It cannot be written, with its name.
    """
    partial = path.with_name(f".{path.name}.partial")
    try:
        with partial.open("w", encoding="utf-8", newline="") as file:
            yield file
        partial.replace(path)
    except OSError as error:
        raise OSError(f"Cannot write '{path}' ({error.strerror or error}).") from error
    finally:
        partial.unlink(missing_ok=True)
