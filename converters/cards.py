"""Model cards and tables in Markdown, made from records."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from registry.names import natural_key
from registry.records import (
    Architecture,
    ImageSource,
    Metric,
    PackageSource,
    Preprocess,
    Sampling,
    Source,
    Unknown,
    Weights,
)

__all__ = [
    "architecture_card",
    "checkpoints_page",
    "family_table",
    "folder_card",
    "weights_table",
]

_ORDER_TEXT = {
    "ignored": "The order of the frames is not seen: any shuffle gives the same logits.",
    "reversal_blind": "A clip and its reverse give the same logits; other shuffles do not.",
    "used": "The order of the frames is seen: a shuffle changes the logits.",
}


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
        f"| {architecture.family} | {_millions(architecture)} | {_gflops(architecture)} "
        f"| {_input(architecture.sampling, architecture.preprocess)} |",
        "",
        "GFLOPs are 10^9 multiply-adds, as papers count them.",
        _ORDER_TEXT[architecture.order],
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
    return "\n".join(lines).rstrip() + "\n"


def _weights_lines(record: Weights) -> list[str]:
    arguments = ", ".join(f"{key}={value!r}" for key, value in record.arguments)
    facts = [
        ("trained on", str(record.data)),
        ("classes", str(record.num_classes) if record.num_classes else "none, the head is new"),
        ("source", "; also ".join(map(source_text, (record.source, *record.mirrors)))),
        ("hash", _hash(record.source)),
        ("licence", str(record.licence)),
        ("parameters", _millions(record)),
        ("GFLOPs a view", _gflops(record)),
        ("arguments", f"`{arguments}`" if arguments else "the defaults"),
        ("frames", sampling_text(record.sampling)),
        ("pixels", preprocess_text(record.preprocess)),
        *((metric.name, metric_text(metric)) for metric in record.metrics),
    ]
    rows = ["| | |", "|---|---|", *(f"| {key} | {text} |" for key, text in facts)]
    return [*rows, "", record.note] if record.note else rows


def folder_card(architecture: Architecture, config: Mapping[str, Any], *, title: str) -> str:
    """The card of saved weights, with the metadata that the Hub reads.

    Args:
        architecture: The model's record.
        config: What `config.json` holds.
        title: What the card is called.
    """
    from huggingface_hub import ModelCardData

    licence = str(config["licence"])
    data = ModelCardData(
        library_name="videozoo",
        pipeline_tag="video-classification",
        tags=["video", "videozoo", architecture.family],
        license=licence.lower() if licence != Unknown.UNKNOWN.value else None,
    )
    name = f"{config['architecture']}.{config['tag']}".rstrip(".")
    arguments = json.dumps(dict(config["arguments"]))
    source = config["source"] or {}
    origin = "It was built with random weights."
    if config["tag"]:
        origin = f"It started from `{name}`, whose licence this card shows."
    elif "checkpoint" in source:
        origin = f"It started from a file, `{source['checkpoint']}`."
    lines = [
        "---",
        data.to_yaml(),
        "---",
        "",
        f"# {title}",
        "",
        f"{config['architecture']}: {architecture.summary}",
        origin,
        "",
        f"Arguments: `{arguments}`.",
        "",
        "```python",
        "import zoo",
        "",
        'model = zoo.create("local-dir:PATH_OF_THIS_FOLDER")',
        'print(zoo.predict(model, "video.mp4"))',
        "```",
        "",
        _ORDER_TEXT[architecture.order],
    ]
    return "\n".join(lines) + "\n"


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
                f"| [{architecture.name}.{record.tag}]{link} | {_frames(sampling)} "
                f"| {record.preprocess.img_size} | {views} | {_millions(record)} "
                f"| {_gflops(record)} | {_top1(record)} | {record.licence} |"
            )
        if not architecture.weights:
            rows.append(
                f"| [{architecture.name}]{link} | {_frames(architecture.sampling)} "
                f"| {architecture.preprocess.img_size} | – | {_millions(architecture)} "
                f"| {_gflops(architecture)} | – | no weights |"
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
            (metric.value, f"{metric.value:g} ({item.name}.{record.tag}, {_views(metric)})")
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


def source_text(source: Source) -> str:
    """Where weights come from, in words."""
    if isinstance(source, PackageSource):
        return "trained by this project, in the package"
    if isinstance(source, ImageSource):
        how = f", kernels inflated by `{source.inflation}`" if source.inflation else ""
        return f"{source.library}'s `{source.model}`{how}"
    place = source.url or f"https://huggingface.co/{source.repo_id}"
    return f"[{source.filename}]({place}), {source.layout}'s layout"


def sampling_text(sampling: Sampling) -> str:
    """A sampling recipe in words."""
    frames = f"{sampling.num_frames} frames"
    if sampling.rule == "uniform":
        rule = f"{frames} spread over the video"
    elif sampling.rule == "segments":
        rule = f"{frames}, the centres of equal parts of the video"
    elif sampling.rule == "span":
        window = sampling.num_frames * sampling.frame_stride
        rate = f" at {sampling.fps:g} frames per second" if sampling.fps else ""
        rule = f"{frames}, from the first to the last of a window of {window}{rate}"
    else:
        rate = f"at {sampling.fps:g} frames per second" if sampling.fps else "as the video has them"
        rule = f"{frames}, {sampling.frame_stride} apart {rate}"
    views = f"{sampling.num_clips}x{sampling.num_crops} views (clips x crops)"
    return f"{rule}; {views}, {sampling.average} averaged"


def preprocess_text(recipe: Preprocess) -> str:
    """A preprocessing recipe in words."""
    resize = (
        f"short side to {recipe.resize}"
        if isinstance(recipe.resize, int)
        else f"resized to {recipe.resize[0]}x{recipe.resize[1]}"
    )
    filter_ = f"{recipe.interpolation}{', antialiased' if recipe.antialias else ''}"
    mean, std = (", ".join(f"{x:g}" for x in values) for values in (recipe.mean, recipe.std))
    return (
        f"{resize} ({filter_}), centre crop {recipe.img_size}, {recipe.channel_order.upper()}, "
        f"mean ({mean}), std ({std})"
    )


def metric_text(metric: Metric) -> str:
    """A figure with its protocol in words."""
    text = (
        f"{metric.value:g} on {metric.dataset} ({metric.split}), {metric.level} level, "
        f"{_views(metric)}, measured by {metric.measured_by}"
    )
    return f"{text}; {metric.note}" if metric.note else text


def _views(metric: Metric) -> str:
    return f"{metric.num_clips}x{metric.num_crops} views"


def _frames(sampling: Sampling) -> str:
    if sampling.rule in ("dense", "span"):
        # Strides are counted at 30 frames a second unless another rate stands beside them.
        rate = f" at {sampling.fps:g}/s" if sampling.fps not in (None, 30.0) else ""
        return f"{sampling.num_frames}x{sampling.frame_stride}{rate}"
    return f"{sampling.num_frames} {sampling.rule}"


def _top1(record: Weights) -> str:
    return next((f"{m.value:g} ({m.dataset})" for m in record.metrics if m.name == "top1"), "–")


def _millions(counted: Architecture | Weights) -> str:
    return "–" if counted.params is None else f"{counted.params / 1e6:.2f} M"


def _gflops(counted: Architecture | Weights) -> str:
    return "–" if counted.gflops is None else f"{counted.gflops:.2f}"


def _input(sampling: Sampling, preprocess: Preprocess) -> str:
    side = preprocess.img_size
    return f"{len(preprocess.mean)}, {sampling.num_frames}, {side}, {side}"


def _hash(source: Source) -> str:
    if not isinstance(source, ImageSource) and not isinstance(source.sha256, Unknown):
        return f"SHA-256 {source.sha256}"
    return f"{Unknown.UNKNOWN}; that of the first download is kept and compared"
