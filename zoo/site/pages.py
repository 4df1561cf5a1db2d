"""The files of the site: an index with the table and the plots, and a page a model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cache
from html import escape
from importlib.resources import files
from string import Template
from typing import TYPE_CHECKING

from converters.cards import architecture_card
from converters.wording import dataset_text, frames_text
from registry.records import Architecture, Metric
from zoo.site.plots import Point, draw_plot
from zoo.site.rows import MIN_POINTS, Protocol, Row, protocols, rows_of

if TYPE_CHECKING:
    from markdown_it import MarkdownIt
    from markdown_it.rules_core import StateCore

__all__ = ["site_files"]

_ASSETS = ("style.css", "table.js")
_NONE = '<td class="none" data-sort="">–</td>'


def site_files(architectures: Iterable[Architecture]) -> dict[str, str]:
    """The text of every file of the site, by its path in it.

    Args:
        architectures: What to show, in any order.
    """
    shown = list(architectures)
    rows = rows_of(shown)
    texts = {name: _template(name) for name in _ASSETS}
    texts["index.html"] = _index(shown, rows)
    for architecture in shown:
        texts[f"models/{architecture.name}.html"] = _page(architecture)
    return texts


@cache
def _template(name: str) -> str:
    return (files("zoo.site") / "templates" / name).read_text(encoding="utf-8")


def _index(architectures: Sequence[Architecture], rows: Sequence[Row]) -> str:
    grouped = protocols(rows)
    datasets = {metric.dataset: dataset_text(metric.dataset) for row in rows for metric in row.top1}
    licences = {str(row.weights.licence) for row in rows if row.weights}
    counts = Counter(dataset for row in rows for dataset in {m.dataset for m in row.top1})
    ((yardstick, _),) = counts.most_common(1) or [("", 0)]
    return Template(_template("index.html")).substitute(
        num_models=len(architectures),
        num_weights=sum(row.weights is not None for row in rows),
        families=_options((name, name) for name in sorted({item.family for item in architectures})),
        datasets=_options(sorted(datasets.items(), key=lambda item: item[1])),
        licences=_options((name, name) for name in sorted(licences)),
        rows="\n".join(map(_table_row, rows)),
        yardstick=escape(yardstick),
        yardstick_text=escape(dataset_text(yardstick)),
        min_points=MIN_POINTS,
        protocols=_options((f"plot-{k}", _protocol_text(p)) for k, p in enumerate(grouped)),
        plots="\n".join(_figure(k, *item) for k, item in enumerate(grouped.items())),
    )


def _options(pairs: Iterable[tuple[str, str]]) -> str:
    return "".join(
        f'<option value="{escape(value)}">{escape(text)}</option>' for value, text in pairs
    )


def _table_row(row: Row) -> str:
    licence = str(row.weights.licence) if row.weights else ""
    facts = {
        "family": row.architecture.family,
        "datasets": "|".join(metric.dataset for metric in row.top1),
        "licence": licence,
    }
    views = "".join(f"<div>{m.num_clips}x{m.num_crops}</div>" for m in row.top1)
    most = max((m.num_clips * m.num_crops for m in row.top1), default=0)
    cells = [
        f'<th scope="row"><a href="{escape(row.page)}">{_breakable(row.name)}</a></th>',
        f"<td>{escape(row.architecture.family)}</td>",
        f'<td data-sort="{row.sampling.num_frames}">{escape(frames_text(row.sampling))}</td>',
        f'<td data-sort="{row.img_size}">{row.img_size}</td>',
        f'<td data-sort="{most}">{views}</td>' if most else _NONE,
        _count(row.params and row.params / 1e6),
        _count(row.gflops),
        _figures(row.top1),
        f"<td>{escape(licence)}</td>" if licence else '<td class="none">no weights</td>',
    ]
    told = " ".join(f'data-{key}="{escape(value)}"' for key, value in facts.items())
    return f"<tr {told}>{''.join(cells)}</tr>"


def _breakable(name: str) -> str:
    """A name that a narrow column may break behind its dots and underscores."""
    return escape(name).replace("_", "_<wbr>").replace(".", ".<wbr>")


def _count(value: float | None) -> str:
    return _NONE if value is None else f'<td data-sort="{value:.6g}">{value:.2f}</td>'


def _figures(metrics: Sequence[Metric]) -> str:
    if not metrics:
        return _NONE
    return f"<td>{''.join(map(_top1, metrics))}</td>"


def _top1(metric: Metric) -> str:
    """One figure; the script sorts by those on one data set."""
    clips = ", clips" if metric.level == "clip" else ""
    where = f"{escape(dataset_text(metric.dataset))}, {escape(metric.split)}{clips}"
    value = f"{metric.value:g}"
    return (
        f'<div data-on="{escape(metric.dataset)}" data-value="{value}">{value} '
        f"<small>{where}</small></div>"
    )


def _protocol_text(protocol: Protocol) -> str:
    views = f"{protocol.num_clips}x{protocol.num_crops} views"
    return f"{dataset_text(protocol.dataset)} {protocol.split}, {protocol.level} level, {views}"


def _figure(number: int, protocol: Protocol, figures: Sequence[tuple[Row, float]]) -> str:
    """Both plots of the figures of one protocol."""
    text = _protocol_text(protocol)
    drawn = []
    for cost, label in ((_gflops, "GFLOPs a view"), (_params, "parameters, millions")):
        known = [(row, cost(row), value) for row, value in figures]
        points = [Point(row.name, row.page, at, value) for row, at, value in known if at]
        if points:
            drawn.append(draw_plot(points, title=f"top-1 against {label}: {text}", cost=label))
    return (
        f'<figure id="plot-{number}"><figcaption>{escape(text)}</figcaption>'
        f'<div class="pair">{"".join(drawn)}</div></figure>'
    )


def _gflops(row: Row) -> float | None:
    return row.gflops


def _params(row: Row) -> float | None:
    return row.params and row.params / 1e6


def _page(architecture: Architecture) -> str:
    return Template(_template("model.html")).substitute(
        name=escape(architecture.name),
        summary=escape(architecture.summary),
        card=_markdown().render(architecture_card(architecture)),
    )


@cache
def _markdown() -> MarkdownIt:
    """Renders cards; HTML in them is shown as text."""
    from markdown_it import MarkdownIt

    renderer = MarkdownIt("commonmark", {"html": False}).enable("table")
    renderer.core.ruler.push("anchors", _add_anchors)
    # A table that is wider than a phone scrolls by itself, and not the page with it.
    renderer.add_render_rule("table_open", lambda *_: '<div class="wide"><table>\n')
    renderer.add_render_rule("table_close", lambda *_: "</table></div>\n")
    return renderer


def _add_anchors(state: StateCore) -> None:
    """Let links lead to a headline by its text."""
    for opening, content in zip(state.tokens, state.tokens[1:], strict=False):
        if opening.type == "heading_open":
            opening.attrSet("id", content.content.replace(" ", "-"))
