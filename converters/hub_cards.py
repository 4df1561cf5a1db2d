"""The card of one repository of weights, with the metadata that the Hub reads."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from converters.wording import (
    DATASETS,
    citation,
    code_licence,
    dataset_text,
    hash_text,
    limits,
    metric_text,
    preprocess_text,
    proof_text,
    sampling_text,
    source_text,
)
from registry.index import preprocess_from_json, sampling_from_json
from registry.records import (
    Architecture,
    ImageSource,
    Metric,
    PackageSource,
    Unknown,
    UpstreamSource,
    Weights,
)

__all__ = ["Contents", "base_models", "hub_metadata", "repository_card"]

_METRICS = {
    "top1": ("accuracy", "top-1 accuracy"),
    "top5": ("accuracy", "top-5 accuracy"),
    "mAP": ("mean_average_precision", "mean average precision"),
}

# https://huggingface.co/docs/hub/repositories-licenses; another licence is `other` with its name.
_LICENCES = (
    *("afl-3.0", "agpl-3.0", "apache-2.0", "artistic-2.0", "bsd-2-clause", "bsd-3-clause"),
    *("bsd-3-clause-clear", "bsl-1.0", "cc0-1.0", "cc-by-2.0", "cc-by-2.5", "cc-by-3.0"),
    *("cc-by-4.0", "cc-by-nc-2.0", "cc-by-nc-3.0", "cc-by-nc-4.0", "cc-by-nc-nd-3.0"),
    *("cc-by-nc-nd-4.0", "cc-by-nc-sa-2.0", "cc-by-nc-sa-3.0", "cc-by-nc-sa-4.0"),
    *("cc-by-nd-4.0", "cc-by-sa-3.0", "cc-by-sa-4.0", "epl-2.0", "eupl-1.1", "gpl-2.0"),
    *("gpl-3.0", "isc", "lgpl-2.1", "lgpl-3.0", "mit", "mpl-2.0", "ms-pl", "ncsa", "osl-3.0"),
    *("openrail", "unlicense", "wtfpl", "zlib"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """What a repository holds, as its card tells it.

    Attributes:
        architecture: The model's record.
        config: What `config.json` holds.
        weights: The record that the tensors came from; None for random or lifted ones and files.
        unchanged: Whether the tensors are those of `weights`, whose figures and proofs then hold.
        params: Parameters of the module.
        gflops: 10^9 multiply-adds of one view; None where they were not counted.
    """

    architecture: Architecture
    config: Mapping[str, Any]
    weights: Weights | None
    unchanged: bool
    params: int
    gflops: float | None

    @property
    def licence(self) -> str | Unknown:
        """Licence of the weights."""
        licence = self.config["licence"]
        return Unknown.UNKNOWN if licence == Unknown.UNKNOWN.value else str(licence)

    @property
    def data(self) -> str:
        """What the tensors were trained on, as it stands in a sentence."""
        if self.weights is not None and not self.unchanged:
            return f"{self.weights.data}, and maybe other data since"
        if self.weights is not None:
            return str(self.weights.data)
        return "data that this card does not know"


def repository_card(contents: Contents, *, title: str, name: str) -> str:
    """The card of a repository or folder.

    Args:
        contents: What it holds.
        title: What the card is called.
        name: What `zoo.create` is given to read it.
    """
    weights, config = contents.weights, contents.config
    results = [(title, weights.metrics)] if weights and contents.unchanged else []
    metadata = hub_metadata(
        contents.architecture,
        licences=[contents.licence],
        data=[contents.data],
        base_models=_base_models(contents),
        results=results,
    )
    architecture = contents.architecture
    lines = [
        f"# {title}",
        "",
        f"{architecture.name}: {architecture.summary} {_origin(contents)}",
        "",
        "```python",
        "import zoo",
        f'model = zoo.create("{name}")',
        _third_line(config),
        "```",
        "",
        *_facts(contents),
        "",
        "## Accuracy",
        "",
        *_accuracy(contents),
        "",
        "## Conversion",
        "",
        *_conversion(contents),
        "",
        "## Intended use and limits",
        "",
        _use(config),
        "",
        *(f"- {line}" for line in _limits(contents, title)),
        "",
        "## Licences",
        "",
        f"{code_licence()} Licence of the weights: {contents.licence}.",
        "",
        "## Citation",
        "",
        *citation(architecture.paper, key=re.sub(r"\W+", "_", architecture.name)),
    ]
    return metadata + "\n".join(lines) + "\n"


def hub_metadata(
    architecture: Architecture,
    *,
    licences: Iterable[str | Unknown],
    data: Iterable[str],
    base_models: Sequence[str],
    results: Sequence[tuple[str, Sequence[Metric]]],
) -> str:
    """The block at the top of a card, between two lines of dashes, by the Hub client's own tools.

    Args:
        architecture: The model's record.
        licences: Licences of the weights; several different ones are left to the text.
        data: What the weights were trained on.
        base_models: Hub repositories of the models that they started from.
        results: Name of the weights and their figures.
    """
    from huggingface_hub import ModelCardData
    from huggingface_hub.repocard_data import eval_results_to_model_index

    told = " ".join(data).lower()
    datasets = [slug for name, slug in DATASETS.items() if name.lower() in told]
    different = set(licences)
    card = ModelCardData(
        **(_licence(different.pop()) if len(different) == 1 else {}),
        library_name="videozoo",
        pipeline_tag="video-classification",
        tags=["videozoo", "video", architecture.family],
        datasets=datasets or None,
        base_model=list(base_models) or None,
    )
    index = [
        entry
        for name, metrics in results
        if metrics
        for entry in eval_results_to_model_index(name, [_result(metric) for metric in metrics])
    ]
    if index:
        card["model-index"] = index
    return f"---\n{card.to_yaml()}\n---\n\n"


def _licence(licence: str | Unknown) -> dict[str, Any]:
    """The licence by the Hub's rules."""
    if isinstance(licence, Unknown):
        return {"license": "unknown"}
    if licence.lower() in _LICENCES:
        return {"license": licence.lower()}
    return {"license": "other", "license_name": re.sub(r"[^a-z0-9.]+", "-", licence.lower())}


def _result(metric: Metric) -> Any:
    """A figure with its protocol, in the form that the Hub shows beside the card."""
    from huggingface_hub import EvalResult

    kind, name = _METRICS[metric.name]
    views = f"{metric.num_clips}x{metric.num_crops} views"
    return EvalResult(
        task_type="video-classification",
        dataset_type=re.sub(r"[^a-z0-9_.]+", "-", metric.dataset.lower()),
        dataset_name=dataset_text(metric.dataset),
        dataset_split=metric.split,
        metric_type=kind,
        metric_name=f"{name}, {metric.level} level, {views}, by {metric.measured_by}",
        metric_value=metric.value,
        metric_args={
            "level": metric.level,
            "num_clips": metric.num_clips,
            "num_crops": metric.num_crops,
            "measured_by": metric.measured_by,
        },
    )


def base_models(weights: Weights, *, unchanged: bool) -> list[str]:
    """Hub repositories that weights were inflated or trained further from.

    Args:
        weights: The record that they came from.
        unchanged: Whether they are still those of the record; a conversion has no base.
    """
    source = weights.source
    if isinstance(source, ImageSource):
        return _timm_repository(source.model)
    if isinstance(source, UpstreamSource) and source.repo_id and not unchanged:
        return [source.repo_id]
    return []


def _base_models(contents: Contents) -> list[str]:
    if contents.weights is not None:
        return base_models(contents.weights, unchanged=contents.unchanged)
    image = (contents.config["source"] or {}).get("image", "")
    return _timm_repository(image) if image else []


def _timm_repository(name: str) -> list[str]:
    """Where timm keeps the weights of a name; nothing where it does not say, or for a folder."""
    scheme, colon, target = name.partition(":")
    if colon:
        return [target.partition("@")[0]] if scheme in ("hf-hub", "hf_hub") else []
    import timm

    config = timm.get_pretrained_cfg(name)
    return [config.hf_hub_id] if config is not None and config.hf_hub_id else []


def _origin(contents: Contents) -> str:
    config, source = contents.config, contents.config["source"] or {}
    if config["tag"]:
        name = f"`{config['architecture']}.{config['tag']}`"
        if contents.unchanged:
            return f"The weights are {name}."
        return f"It started from {name}, whose licence this card shows."
    if "checkpoint" in source:
        return f"It started from a file, `{source['checkpoint']}`."
    if "image" in source:
        return f"It started from the picture weights `{source['image']}`."
    return "It started from random weights."


def _third_line(config: Mapping[str, Any]) -> str:
    if len(config["preprocess"]["mean"]) == 2:
        return "# model(flow) takes optical flow, (N, 2, T, H, W), which the caller computes."
    if not config["arguments"]["num_classes"]:
        return 'features = model(zoo.load_clip("video.mp4", model))'
    return 'print(zoo.predict(model, "video.mp4"))'


def _facts(contents: Contents) -> list[str]:
    config = contents.config
    sampling = sampling_from_json(config["sampling"])
    preprocess = preprocess_from_json(config["preprocess"])
    shape = f"{config['arguments']['in_chans']}, {sampling.num_frames}, "
    shape += f"{preprocess.img_size}, {preprocess.img_size}"
    classes = config["arguments"]["num_classes"]
    rows = [
        ("parameters", f"{contents.params / 1e6:.2f} M"),
        ("GFLOPs a view", "–" if contents.gflops is None else f"{contents.gflops:.2f}"),
        ("input (C, T, H, W)", shape),
        ("frames", sampling_text(sampling)),
        ("pixels", preprocess_text(preprocess)),
        ("classes", str(classes) if classes else "none, it gives features"),
        ("arguments", f"`{json.dumps(dict(config['arguments']))}`"),
        ("trained on", contents.data),
    ]
    note = contents.weights.note if contents.weights else ""
    table = ["| | |", "|---|---|", *(f"| {key} | {text} |" for key, text in rows)]
    tail = "GFLOPs are 10^9 multiply-adds, as papers count them."
    return [*table, "", f"{tail} {note}".strip()]


def _accuracy(contents: Contents) -> list[str]:
    weights = contents.weights
    if weights is None or not contents.unchanged:
        return ["Nobody measured these tensors and wrote it down here."]
    if not weights.metrics:
        return ["No figure with its protocol is known."]
    return [f"- {metric.name}: {metric_text(metric)}." for metric in weights.metrics]


def _conversion(contents: Contents) -> list[str]:
    weights = contents.weights
    if weights is None:
        return ["Nothing was converted."]
    if isinstance(weights.source, PackageSource):
        return [
            f"Nothing was converted: {source_text(weights.source)}, {hash_text(weights.source)}."
        ]
    lines = [] if contents.unchanged else ["Of the weights that it started from:", ""]
    lines += [f"- Source: {source_text(weights.source)}; {hash_text(weights.source)}."]
    lines += [f"- Also published: {source_text(item)}." for item in weights.mirrors]
    lines += [f"- Proof: {proof_text(proof)}." for proof in weights.proofs]
    return lines


def _use(config: Mapping[str, Any]) -> str:
    if not config["arguments"]["num_classes"]:
        return "Features of short videos, and a start for training."
    # Class names are what a training leaves in a record that names no weights.
    if config["source"] is None and not config["tag"] and config["labels"] is None:
        return "A start for training from nothing."
    return (
        f"Naming which of its {config['arguments']['num_classes']} classes short videos show, and "
        f"a start for training on other classes."
    )


def _limits(contents: Contents, title: str) -> list[str]:
    return limits(
        contents.architecture.order,
        data=contents.data if contents.weights else "its training data",
        classes=bool(contents.config["arguments"]["num_classes"]),
        licences={f"`{title}`": contents.licence},
    )
