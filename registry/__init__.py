"""Names and records of the zoo's models; standard library only, and no torch."""

from registry.catalogue import (
    Entry,
    find_weights,
    info,
    list_models,
    list_pretrained,
    load,
    register_model,
    registered_names,
)
from registry.labels import labels, list_labels
from registry.names import SCHEMES, ModelName, parse_name
from registry.records import (
    UNKNOWN,
    Architecture,
    ImageSource,
    Metric,
    PackageSource,
    Paper,
    Preprocess,
    Sampling,
    UpstreamSource,
    Weights,
)

__all__ = [
    "SCHEMES",
    "UNKNOWN",
    "VIDEOZOO",
    "Architecture",
    "Entry",
    "ImageSource",
    "Metric",
    "ModelName",
    "PackageSource",
    "Paper",
    "Preprocess",
    "Sampling",
    "UpstreamSource",
    "Weights",
    "find_weights",
    "info",
    "labels",
    "list_labels",
    "list_models",
    "list_pretrained",
    "load",
    "parse_name",
    "register_model",
    "registered_names",
]

VIDEOZOO = "registry"
"""Marks this package as ours; `import zoo` compares it, since other packages use the name."""
