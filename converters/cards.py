"""Model cards and tables in Markdown, made from records."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from converters.wording import (
    citation,
    code_licence,
    frames_text,
    gflops,
    hash_text,
    limits,
    metric_text,
    millions,
    preprocess_text,
    proof_text,
    sampling_text,
    source_text,
    views_text,
)
from registry.names import natural_key
from registry.records import Architecture, Preprocess, Sampling, Weights

__all__ = [
    "architecture_card",
    "checkpoints_page",
    "family_table",
    "weights_table",
]


def architecture_card(architecture: Architecture) -> str:
    """The page of one architecture with all its weights."""
    name = architecture.name
    lines = [f"# {name}", "", architecture.summary, ""]
    if architecture.paper:
        paper = architecture.paper
        lines += [f"Paper: [{paper.title}]({paper.url}), {paper.year}.", ""]
    lines += [
        "| family | parameters | GFLOPs a view | input (C, T, H, W) |",
        "|---|---|---|---|",
        f"| {architecture.family} | {millions(architecture)} | {gflops(architecture)} "
        f"| {_input(architecture.sampling, architecture.preprocess)} |",
        "",
        "GFLOPs are 10^9 multiply-adds, as papers count them.",
        "",
        "```python",
        "import zoo",
        "",
        f'model = zoo.create("{name}"{", pretrained=True" if architecture.weights else ""})',
        'clip = zoo.load_clip("video.mp4", model)  # (V, C, T, H, W)',
        "```",
        "",
    ]
    if architecture.weights:
        lines += ["## Weights", ""]
    for record in architecture.weights:
        lines += [f"### {name}.{record.tag}", "", *_weights_lines(record), ""]
    told = limits(
        architecture.order,
        data="what its weights were trained on",
        classes=any(record.num_classes for record in architecture.weights),
        licences={f"`{name}.{record.tag}`": record.licence for record in architecture.weights},
    )
    lines += ["## Intended use and limits", "", _use(architecture), ""]
    lines += [*(f"- {line}" for line in told), ""]
    lines += ["## Licences", "", f"{code_licence()} {_licences(architecture)}", ""]
    lines += ["## Citation", "", *citation(architecture.paper, key=name)]
    return "\n".join(lines).rstrip() + "\n"


def _use(architecture: Architecture) -> str:
    if not architecture.weights:
        return "A start for training from nothing; there are no weights."
    if any(record.num_classes for record in architecture.weights):
        return (
            "Naming what short videos show, features of them, and a start for training on other "
            "classes."
        )
    return "Features of short videos, and a start for training."


def _licences(architecture: Architecture) -> str:
    if not architecture.weights:
        return "There are no weights."
    return "Each set of weights has its own licence, above."


def _weights_lines(record: Weights) -> list[str]:
    arguments = ", ".join(f"{key}={value!r}" for key, value in record.arguments)
    facts = [
        ("trained on", str(record.data)),
        ("classes", str(record.num_classes) if record.num_classes else "none, the head is new"),
        ("source", "; also ".join(map(source_text, (record.source, *record.mirrors)))),
        ("hash", hash_text(record.source)),
        ("licence", str(record.licence)),
        ("parameters", millions(record)),
        ("GFLOPs a view", gflops(record)),
        ("arguments", f"`{arguments}`" if arguments else "the defaults"),
        ("frames", sampling_text(record.sampling)),
        ("pixels", preprocess_text(record.preprocess)),
        *((metric.name, metric_text(metric)) for metric in record.metrics),
        *(("proof", proof_text(proof)) for proof in record.proofs),
    ]
    rows = ["| | |", "|---|---|", *(f"| {key} | {text} |" for key, text in facts)]
    return [*rows, "", record.note] if record.note else rows


def weights_table(architectures: Iterable[Architecture]) -> str:
    """One row for each `name.tag`, and one for each name without weights."""
    rows = [
        "| model | frames x stride | crop | views | params | GFLOPs | top-1 | weights licence |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for architecture in sorted(architectures, key=lambda item: natural_key(item.name)):
        link = f"({architecture.name}.md)"
        for record in architecture.weights:
            sampling, views = record.sampling, "–"
            if record.metrics:
                views = f"{record.metrics[0].num_clips}x{record.metrics[0].num_crops}"
            rows.append(
                f"| [{architecture.name}.{record.tag}]{link} | {frames_text(sampling)} "
                f"| {record.preprocess.img_size} | {views} | {millions(record)} "
                f"| {gflops(record)} | {_top1(record)} | {record.licence} |"
            )
        if not architecture.weights:
            rows.append(
                f"| [{architecture.name}]{link} | {frames_text(architecture.sampling)} "
                f"| {architecture.preprocess.img_size} | – | {millions(architecture)} "
                f"| {gflops(architecture)} | – | no weights |"
            )
    return "\n".join(rows) + "\n"


def family_table(architectures: Iterable[Architecture]) -> str:
    """One row for each family: its models and its best published figure."""
    families: dict[str, list[Architecture]] = {}
    for architecture in architectures:
        families.setdefault(architecture.family, []).append(architecture)
    rows = ["| family | models | weights | best top-1 on Kinetics-400 |", "|---|---|---|---|"]
    for family, members in sorted(families.items()):
        members.sort(key=lambda item: natural_key(item.name))
        names = ", ".join(f"[{item.name}](MODEL_CARDS/{item.name}.md)" for item in members)
        best = [
            (metric.value, f"{metric.value:g} ({item.name}.{record.tag}, {views_text(metric)})")
            for item in members
            for record in item.weights
            for metric in record.metrics
            if metric.name == "top1" and metric.dataset == "kinetics400"
        ]
        count = sum(len(item.weights) for item in members)
        rows.append(f"| {family} | {names} | {count} | {max(best)[1] if best else '–'} |")
    return "\n".join(rows) + "\n"


def checkpoints_page(rows: Iterable[Mapping[str, str]]) -> str:
    """Every public checkpoint in scope: its name here and its proof, or why it is refused.

    Args:
        rows: Values by column: `upstream`, `variant`, `dataset`, `weights` (our `name.tag`),
            `refused` (the reason) and `proof` (the test).
    """
    rows = list(rows)
    found = [row for row in rows if row["weights"]]
    refused = [row for row in rows if not row["weights"]]
    lines = [
        "# Public checkpoints",
        "",
        "Made from `MODEL_CARDS/checkpoints.csv` by `make generate`. The same tensors published "
        "twice are one record with two sources.",
        "",
        f"{len(found)} of {len(rows)} have a record, a conversion and a test that compares with "
        "the authors' own code.",
        "",
        "| upstream | checkpoint | trained on | here | proof |",
        "|---|---|---|---|---|",
    ]
    for row in found:
        link = f"[{row['weights']}]({row['weights'].partition('.')[0]}.md)"
        lines.append(
            f"| {row['upstream']} | {row['variant']} | {row['dataset']} | {link} "
            f"| `{row['proof']}` |"
        )
    lines += ["", "## Refused", "", "| upstream | checkpoint | trained on | reason |"]
    lines += ["|---|---|---|---|"]
    lines += [
        f"| {row['upstream']} | {row['variant']} | {row['dataset']} | {row['refused']} |"
        for row in refused
    ]
    return "\n".join(lines) + "\n"


def _top1(record: Weights) -> str:
    return next((f"{m.value:g} ({m.dataset})" for m in record.metrics if m.name == "top1"), "–")


def _input(sampling: Sampling, preprocess: Preprocess) -> str:
    side = preprocess.img_size
    return f"{len(preprocess.mean)}, {sampling.num_frames}, {side}, {side}"
