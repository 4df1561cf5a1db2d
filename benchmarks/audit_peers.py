"""What the auditor finds in the samplers of the installed peers.

python benchmarks/audit_peers.py > benchmarks/audit_peers.md
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from importlib.metadata import version

import torchvision.transforms.functional
from torchvision.datasets.samplers import RandomClipSampler, UniformClipSampler
from torchvision.transforms import v2
from transformers.video_utils import default_sample_indices_fn

from zoo.audit import Report, audit_sampler
from zoo.audit.conventions import (
    from_pytorchvideo,
    from_tensors,
    from_torchvision,
    from_transformers,
)


def reports() -> Iterator[tuple[str, Report]]:
    """Each sampler with the library that it belongs to."""
    # pytorchvideo 0.1.5 imports a module that torchvision has removed.
    sys.modules.setdefault(
        "torchvision.transforms.functional_tensor", torchvision.transforms.functional
    )
    from pytorchvideo.data import clip_sampling
    from pytorchvideo.transforms import UniformTemporalSubsample

    tv, ptv = "torchvision", "pytorchvideo"
    yield (
        tv,
        audit_sampler(
            from_tensors(v2.UniformTemporalSubsample), name="v2.UniformTemporalSubsample"
        ),
    )
    yield (
        tv,
        audit_sampler(
            from_torchvision(lambda clips: UniformClipSampler(clips, 10)), name="UniformClipSampler"
        ),
    )
    yield (
        tv,
        audit_sampler(
            from_torchvision(lambda clips: RandomClipSampler(clips, 5)),
            train=True,
            name="RandomClipSampler",
        ),
    )
    yield (
        "transformers",
        audit_sampler(
            from_transformers(default_sample_indices_fn), name="default_sample_indices_fn"
        ),
    )
    yield (
        ptv,
        audit_sampler(from_tensors(UniformTemporalSubsample), name="UniformTemporalSubsample"),
    )
    for name, make, train in (
        ("UniformClipSampler(2)", lambda: clip_sampling.UniformClipSampler(2), False),
        (
            "ConstantClipsPerVideoSampler(2, 5)",
            lambda: clip_sampling.ConstantClipsPerVideoSampler(2, 5),
            False,
        ),
        ("RandomClipSampler(2)", lambda: clip_sampling.RandomClipSampler(2), True),
    ):
        yield ptv, audit_sampler(from_pytorchvideo(make), train=train, name=name)


def main() -> None:
    """Write the table to stdout."""
    warnings.simplefilter("ignore")
    libraries = ("torchvision", "pytorchvideo", "transformers")
    versions = ", ".join(f"{name} {version(name)}" for name in libraries)
    print("# What the auditor finds in other libraries")
    print()
    print(f"Written by `benchmarks/audit_peers.py` with {versions}.")
    print("Samplers by time are tried on videos of 30 frames a second.")
    print()
    print("| library | sampler | finding | smallest example |")
    print("|---|---|---|---|")
    for library, report in reports():
        if not report.findings:
            print(f"| {library} | `{report.subject}` | none | |")
        for found in report.findings:
            example = found.example.replace("|", "/")
            example = example if len(example) < 120 else f"{example[:117]}..."
            finding = f"{found.level}: {found.rule}, {found.what}"
            print(f"| {library} | `{report.subject}` | {finding} | `{example}` |")


if __name__ == "__main__":
    main()
