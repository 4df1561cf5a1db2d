"""Records of tiny models whose source is an address, for tests of what is fetched and converted."""

import dataclasses
import hashlib
import io

import torch
from scrambling import scramble

import converters
import registry
import zoo


def scrambled(name):
    """A tiny model with weights of its own."""
    torch.manual_seed(0)
    return scramble(zoo.create(name), torch.zeros(2, 3, 4, 32, 32))


def upstream_file(model):
    """The model's file, as torchvision would offer it."""
    file = io.BytesIO()
    torch.save(converters.export(model, target="torchvision"), file)
    return file.getvalue()


def with_record(name, url, sha256):
    """The entry of a tiny ResNet with a record `tiny` that is fetched from an address."""
    entry = registry.load(name)
    known = registry.load("r2p1d_18").architecture.weights[0]
    record = dataclasses.replace(
        known,
        tag="tiny",
        num_classes=entry.build().num_classes,
        labels=None,
        metrics=(),
        mirrors=(),
        source=dataclasses.replace(known.source, url=url, filename="tiny.pth", sha256=sha256),
        sampling=entry.architecture.sampling,
        preprocess=entry.architecture.preprocess,
    )
    return dataclasses.replace(
        entry, architecture=dataclasses.replace(entry.architecture, weights=(record,))
    )


def sha256_of(content):
    return hashlib.sha256(content).hexdigest()
