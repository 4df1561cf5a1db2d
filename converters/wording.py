"""The facts of records in words, for cards and pages."""

from __future__ import annotations

from collections.abc import Mapping

from registry.records import (
    Architecture,
    ImageSource,
    Metric,
    Order,
    PackageSource,
    Paper,
    Preprocess,
    Proof,
    Sampling,
    Source,
    Unknown,
    Weights,
)

__all__ = [
    "CODE_LICENCE",
    "DATASETS",
    "ORDER_TEXT",
    "citation",
    "code_licence",
    "dataset_text",
    "frames_text",
    "gflops",
    "hash_text",
    "limits",
    "metric_text",
    "millions",
    "preprocess_text",
    "proof_text",
    "sampling_text",
    "source_text",
    "views_text",
]

CODE_LICENCE = "Apache-2.0"

DATASETS = {
    "Charades": "charades",
    "Diving48": "diving48",
    "HMDB51": "hmdb51",
    "HowTo100M": "howto100m",
    "ImageNet-1k": "imagenet-1k",
    "ImageNet-21k": "imagenet-21k",
    "ImageNet-22k": "imagenet-22k",
    "Kinetics-400": "kinetics400",
    "Kinetics-600": "kinetics600",
    "Kinetics-710": "kinetics710",
    "Something-Something v2": "something_something_v2",
    "Sports-1M": "sports-1m",
    "UCF101": "ucf101",
    "VideoMix22M": "videomix22m",
}
"""How a record writes a dataset, and the name under which the Hub's users look for it."""

ORDER_TEXT = {
    "ignored": "The order of the frames is not seen: any shuffle gives the same logits.",
    "reversal_blind": "A clip and its reverse give the same logits; other shuffles do not.",
    "used": "The order of the frames is seen: a shuffle changes the logits.",
}


def source_text(source: Source) -> str:
    """Where weights come from, in words."""
    if isinstance(source, PackageSource):
        return "trained by this project, in the package"
    if isinstance(source, ImageSource):
        how = f", kernels inflated by `{source.inflation}`" if source.inflation else ""
        return f"{source.library}'s `{source.model}`{how}"
    place = source.url or f"https://huggingface.co/{source.repo_id}"
    return f"[{source.filename}]({place}), {source.layout}'s layout"


def dataset_text(dataset: str) -> str:
    """The name of a metric's dataset as people write it."""
    return next((title for title, slug in DATASETS.items() if slug == dataset), dataset)


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


def frames_text(sampling: Sampling) -> str:
    """A sampling recipe as a table has it, frames x stride."""
    if sampling.rule in ("dense", "span"):
        # Strides are counted at 30 frames a second unless another rate stands beside them.
        rate = f" at {sampling.fps:g}/s" if sampling.fps not in (None, 30.0) else ""
        return f"{sampling.num_frames}x{sampling.frame_stride}{rate}"
    return f"{sampling.num_frames} {sampling.rule}"


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
        f"{views_text(metric)}, measured by {metric.measured_by}"
    )
    return f"{text}; {metric.note}" if metric.note else text


def views_text(metric: Metric) -> str:
    """The views of a figure's protocol."""
    return f"{metric.num_clips}x{metric.num_crops} views"


def proof_text(proof: Proof) -> str:
    """How the conversion of weights was proved, in words."""
    found = f"deviate by {proof.deviation:.1e} of the largest value at most"
    if not proof.deviation:
        found = "are equal bit for bit"
    return (
        f"filled with the same tensors, the module here and {proof.upstream}'s own for "
        f"`{proof.checkpoint}` {found}, measured with {proof.versions} by `{proof.test}`"
    )


def limits(
    order: Order, *, data: str, classes: bool, licences: Mapping[str, str | Unknown]
) -> list[str]:
    """What a model cannot do and may not be used for, a line each.

    Args:
        order: What shuffled frames do to the logits.
        data: What the weights were trained on, as it stands in a sentence.
        classes: Whether there are weights with a classifier.
        licences: Licence of the weights by their name.
    """
    lines = [ORDER_TEXT[order]]
    if classes:
        lines.append(
            f"The classifier knows the classes of {data} and no others: a video that shows none of "
            f"them still gets one."
        )
    lines.append(
        f"What it knows comes from {data}, with its gaps and biases; it is not made to decide "
        f"about people."
    )
    closed = [name for name, licence in licences.items() if "-NC" in str(licence)]
    silent = [name for name, licence in licences.items() if isinstance(licence, Unknown)]
    if closed:
        lines.append(f"No commercial use, says the licence of {', '.join(closed)}.")
    if silent:
        lines.append(f"Upstream states no licence for {', '.join(silent)}: ask its authors first.")
    return lines


def code_licence() -> str:
    """The licence of the code, in words."""
    return f"The code of videozoo is {CODE_LICENCE}."


def citation(paper: Paper | None, *, key: str) -> list[str]:
    """The lines of a BibTeX block: the paper, where there is one, and the zoo.

    Args:
        paper: Where the architecture was published.
        key: Name of the paper's entry.
    """
    lines = ["```bibtex"]
    if paper is not None:
        _, is_preprint, number = paper.url.partition("arxiv.org/abs/")
        preprint = f", eprint = {{{number}}}, archivePrefix = {{arXiv}}" if is_preprint else ""
        lines += [
            f"@misc{{{key},",
            f"  title = {{{paper.title}}},",
            f"  year = {{{paper.year}}}, url = {{{paper.url}}}{preprint}",
            "}",
        ]
    lines += [
        "@software{videozoo, title = {videozoo: the model zoo for video}, year = {2026}}",
        "```",
    ]
    return lines


def millions(counted: Architecture | Weights) -> str:
    """Parameters, in millions."""
    return "–" if counted.params is None else f"{counted.params / 1e6:.2f} M"


def gflops(counted: Architecture | Weights) -> str:
    """10^9 multiply-adds of one view."""
    return "–" if counted.gflops is None else f"{counted.gflops:.2f}"


def hash_text(source: Source) -> str:
    """What the file is checked against, in words."""
    if not isinstance(source, ImageSource) and not isinstance(source.sha256, Unknown):
        return f"SHA-256 {source.sha256}"
    return f"{Unknown.UNKNOWN}; that of the first download is kept and compared"
