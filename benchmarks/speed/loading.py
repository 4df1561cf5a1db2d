"""Pretrained models from a warm cache beside torchvision's and transformers' own loading.

    PYTHONPATH=. python benchmarks/speed/loading.py [--rounds N]

The files are made here, of random weights, in a temporary folder: a checkpoint where torch.hub
keeps torchvision's, the same tensors where the zoo keeps what it converted, and a folder that
`save_pretrained` wrote, which both sides read, beside one that `zoo.save` wrote. What is timed
begins with all libraries imported and ends with a module in eval mode. Since ours has not read its
mapped weights by then, loading and the first forward pass together are a row of their own.

Memory is the largest that a fresh process holds above what it held after its imports.
"""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from _measure import Row, compare, interleave, parse, tell, write

CREATE, MEMORY = "create, warm cache", "peak memory of create"
TORCHVISION = {
    "r3d_18": "r3d_18",
    "mc3_18": "mc3_18",
    "r2p1d_18": "r2plus1d_18",
    "s3d": "s3d",
    "swin3d_t": "swin3d_t",
    "mvit_v2_s": "mvit_v2_s",
}
TRANSFORMERS = ("Timesformer", "VideoMAE", "Vivit", "VJEPA2")
FIRST_FORWARD = ("r2p1d_18", "mvit_v2_s", "VideoMAE, ours from zoo.save's folder")


@dataclass(frozen=True, kw_only=True)
class Case:
    """One model, on both sides, from files that are there.

    Attributes:
        name: What the row calls it.
        peer: The library and what of it is called.
        ours: Name for `zoo.create`, and `pretrained`.
        load: The peer's way.
        file: The weights that ours reads.
        at_most: Goal: ours by the peer's.
    """

    name: str
    peer: str
    ours: tuple[str, bool]
    load: Callable[[], Any]
    file: Path
    at_most: float

    def create(self) -> Any:
        """Ours."""
        import zoo

        name, pretrained = self.ours
        return zoo.create(name, pretrained=pretrained)


def main() -> None:
    """Measure, and write the rows."""
    arguments = parse(__doc__, rounds=7, names=True)
    chosen = (*TORCHVISION, *TRANSFORMERS) if not arguments.names else arguments.names
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        os.environ |= {
            "HF_HOME": folder,
            "TORCH_HOME": folder,
            "HF_HUB_OFFLINE": "1",
            "ZOO_HUB": "",
        }
        for make in (torchvision_cases, transformers_cases):
            for case in make(Path(folder), chosen):
                tell(f"{case.name}, {case.peer}")
                for row in measure(case, arguments.rounds):
                    tell(f"  {row.table}, {row.subject}: {row.spread.median:.3g} ({row.kind})")
                    rows.append(row)
    if not arguments.names:
        write(rows, "loading")


def measure(case: Case, rounds: int) -> Iterator[Row]:
    """The rows of one model."""
    seconds = interleave(case.create, case.load, rounds=rounds)
    yield compare(CREATE, case.name, case.peer, *seconds, at_most=case.at_most)
    if case.name in FIRST_FORWARD:
        clip = clip_for(case.create())
        by_frames = case.peer.startswith("transformers")
        theirs = clip.transpose(1, 2).contiguous() if by_frames else clip
        seconds = interleave(
            lambda: forward(case.create(), clip), lambda: forward(case.load(), theirs), rounds=3
        )
        yield compare(CREATE, f"{case.name}, first forward pass included", case.peer, *seconds)
    size = case.file.stat().st_size
    used = [peak_of(case) for _ in range(3)]
    yield compare(MEMORY, case.name, "its file", used, [size] * 3, at_most=1.2, unit="bytes")
    gc.collect()


def clip_for(model: Any) -> Any:
    """A random clip of the size that a model was made for."""
    import torch

    side = model.img_size
    return torch.randn(1, model.in_chans, model.num_frames, side, side)


def forward(model: Any, clip: Any) -> None:
    """One pass."""
    import torch

    with torch.inference_mode():
        model(clip)


PEAK = """
import json, sys
import torch, torchvision, transformers
import zoo, zoo.factory, zoo.stored
import registry
name, pretrained, module = json.loads(sys.argv[1])
zoo.create("test_framepool")
if module:
    __import__(module)
def memory(field):
    for line in open("/proc/self/status"):
        if line.startswith(field + ":"):
            return 1024 * int(line.split()[1])
open("/proc/self/clear_refs", "w").write("5")
base = memory("VmRSS")
model = zoo.create(name, pretrained=pretrained)
print(memory("VmHWM") - base)
"""


def peak_of(case: Case) -> int:
    """Bytes that loading takes in a process of its own, above what its imports do."""
    import registry

    name, pretrained = case.ours
    module = registry.info(name).module if pretrained else ""
    command = [sys.executable, "-c", PEAK, json.dumps([name, pretrained, module])]
    done = subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603 -- ours
    return int(done.stdout)


# What both sides read.


def torchvision_cases(folder: Path, chosen: Sequence[str]) -> Iterator[Case]:
    """Models of torchvision, in torch.hub's cache and converted in the zoo's."""
    import torch
    from torchvision.models import get_model_weights, video

    import registry
    import zoo

    checkpoints = folder / "hub" / "checkpoints"
    checkpoints.mkdir(parents=True)
    for ours, theirs in TORCHVISION.items():
        if ours not in chosen:
            continue
        build = getattr(video, theirs)
        weights = get_model_weights(build).DEFAULT
        torch.manual_seed(0)
        file = checkpoints / weights.url.rpartition("/")[2]
        torch.save(build().state_dict(), file)
        path = keep_converted(registry.load(ours), torch.load(file, weights_only=True))
        yield Case(
            name=ours,
            peer="torchvision",
            ours=(ours, True),
            load=lambda build=build, weights=weights: build(weights=weights).eval(),
            file=path,
            at_most=1 / 8,
        )
        assert zoo.create(ours, pretrained=True).record.tag
        file.unlink()
        path.unlink()


def keep_converted(entry: Any, state: Any) -> Path:
    """Put a checkpoint where the zoo keeps what it converted; its upstream is not asked."""
    import registry
    from converters import convert
    from converters.checkpoint import write_safetensors
    from zoo.pretrained import cache_folder, record_digest, trained_arguments

    name = entry.architecture.name
    weights = registry.find_weights(entry.architecture, "")
    found = convert(state, name=name, source=weights.source.layout, **trained_arguments(weights))
    path = cache_folder(name, weights) / "model.safetensors"
    write_safetensors(found, path, metadata={"digest": record_digest(name, weights)})
    return path


def transformers_cases(folder: Path, chosen: Sequence[str]) -> Iterator[Case]:
    """Models of transformers, from the folder that it writes and from the one that we do."""
    import torch
    import transformers

    import zoo

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    for family in filter(chosen.__contains__, TRANSFORMERS):
        kind = getattr(transformers, f"{family}ForVideoClassification")
        config = getattr(transformers, f"{family}Config")(num_labels=400)
        torch.manual_seed(0)
        theirs, own = folder / f"{family}-theirs", folder / f"{family}-ours"
        kind(config).save_pretrained(theirs)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            zoo.save(zoo.create(f"local-dir:{theirs}"), own)
        for place, written in ((theirs, "save_pretrained's"), (own, "zoo.save's")):
            yield Case(
                name=f"{family}, ours from {written} folder",
                peer="transformers",
                ours=(f"local-dir:{place}", False),
                load=lambda kind=kind, theirs=theirs: kind.from_pretrained(theirs).eval(),
                file=place / "model.safetensors",
                at_most=1.0,
            )
        for place in (theirs, own):
            for file in place.iterdir():
                file.unlink()


if __name__ == "__main__":
    main()
