"""`load_clip` against decord, torchcodec and PyAV: few frames, many, and a window of a long video.

All sides deliver the same frames of the same file, uint8 RGB and equal bit for bit, which is
checked; then the same with resizing, cropping and normalising, which the peers leave to
torchvision. The file is opened anew each time. decord and torchcodec take part where they are
installed: `pip install decord torchcodec`, the latter with FFmpeg's shared libraries. torchcodec is
asked in three ways: exact seeks (its default, which scans the file first) with one thread and with
FFmpeg's own number, and approximate seeks; with resizing, only in the one that was the fastest for
the same frames. PyAV decoding everything takes seconds a time, and part in "frames only" alone. Its
goal, three times as fast, stands where reading is sparse: "8 of 900, keyframe every 30"; 32 frames
lie in every group of pictures.

PYTHONPATH=. python benchmarks/speed/decoding.py [--rounds N]
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from types import SimpleNamespace

import av
import numpy as np
import torch
from _measure import Row, compare, parse, tell, write
from _videos import describe, panorama
from torch import Tensor
from torchvision.transforms import functional as F

from registry.records import Preprocess, Sampling
from zoo.benchmarking import timing
from zoo.clips import load_clip
from zoo.video import Video

TABLE = "load_clip"
TOTAL = 900
REQUESTS = {"8 of 900": ("uniform", 8), "32 of 900": ("uniform", 32), "32 in a row": ("dense", 32)}
RECIPE = Preprocess(
    img_size=224,
    resize=256,
    interpolation="bilinear",
    antialias=True,
    mean=(0.485, 0.456, 0.406),
    std=(0.229, 0.224, 0.225),
)
EVERYTHING, TORCHCODEC = "PyAV, every frame", "torchcodec"
SPARSE = "frames only, 8 of 900, keyframe every 30"
_Reader = Callable[[Path, list[int]], Tensor]


def main() -> None:
    """Measure, and write results/decoding.csv."""
    options = parse(__doc__, rounds=7)
    rows: list[Row] = []
    for keyframe_every in (30, 250):
        path = panorama(width=1920, height=1080, num_frames=TOTAL, keyframe_every=keyframe_every)
        tell(f"{path.name}: {describe(path)}")
        for request, (rule, num_frames) in REQUESTS.items():
            readers = _readers()
            for whole in (False, True):
                subject = (
                    f"{'load_clip' if whole else 'frames only'}, {request}, "
                    f"keyframe every {keyframe_every}"
                )
                tell(subject)
                sides = _sides(path, rule, num_frames, readers, whole=whole)
                _check_equal(sides, subject)
                times = timing.interleave(list(sides.values()), rounds=options.rounds, warm_up=1)
                seconds = dict(zip(sides, times, strict=True))
                rows += _rows(subject, seconds, describe(path))
                readers = _worth_resizing(readers, seconds)
                write(rows, "decoding")  # what is measured is kept if the next is cut short


def _readers() -> dict[str, _Reader]:
    """The peers that are installed, by the name that their rows bear."""
    found: dict[str, _Reader] = {EVERYTHING: _everything}
    if find_spec("decord"):
        found["decord"] = _decord
    if find_spec("torchcodec"):
        found[TORCHCODEC] = _torchcodec
        found[f"{TORCHCODEC}, FFmpeg's threads"] = partial(_torchcodec, threads=0)
        found[f"{TORCHCODEC}, approximate seeks"] = partial(_torchcodec, seek_mode="approximate")
    return found


def _worth_resizing(
    readers: Mapping[str, _Reader], seconds: Mapping[str, Sequence[float]]
) -> dict[str, _Reader]:
    """Of torchcodec's ways the fastest; decord stays, and PyAV decoding everything goes."""
    ways = [name for name in readers if name.startswith(TORCHCODEC)]
    fastest = min(ways, key=lambda name: median(seconds[name]), default="")
    return {name: read for name, read in readers.items() if name in ("decord", fastest)}


def _sides(
    path: Path, rule: str, num_frames: int, readers: Mapping[str, _Reader], *, whole: bool
) -> dict[str, Callable[[], Tensor]]:
    """Ours first, under the empty name, and each peer."""
    sampling = Sampling(
        rule="dense" if rule == "dense" else "uniform",
        num_frames=num_frames,
        frame_stride=1,
        fps=None,
        num_clips=1,
        num_crops=1,
        average="logits",
    )
    start = (TOTAL - num_frames) // 2
    indices = [i * TOTAL // num_frames for i in range(num_frames)]
    if rule == "dense":
        indices = list(range(start, start + num_frames))
    model = SimpleNamespace(record=SimpleNamespace(sampling=sampling, preprocess=RECIPE))
    if not whole:
        return {
            "": lambda: _ours(path, indices),
            **{name: partial(read, path, indices) for name, read in readers.items()},
        }
    return {
        "": lambda: load_clip(path, model),
        **{
            name: partial(_as_input, partial(read, path, indices)) for name, read in readers.items()
        },
    }


def _ours(path: Path, indices: list[int]) -> Tensor:
    with Video(path) as video:
        return video.read(indices)


def _everything(path: Path, indices: list[int]) -> Tensor:
    wanted, found = set(indices), []
    with av.open(path) as container:
        container.streams.video[0].thread_type = "AUTO"
        for index, frame in enumerate(container.decode(video=0)):
            if index in wanted:
                found.append(frame.to_ndarray(format="rgb24"))
    return torch.from_numpy(np.stack(found))


def _decord(path: Path, indices: list[int]) -> Tensor:
    import decord

    frames: Tensor = torch.from_numpy(decord.VideoReader(str(path)).get_batch(indices).asnumpy())
    return frames


def _torchcodec(
    path: Path, indices: list[int], *, threads: int = 1, seek_mode: str = "exact"
) -> Tensor:
    from torchcodec.decoders import VideoDecoder

    decoder = VideoDecoder(
        str(path), dimension_order="NHWC", num_ffmpeg_threads=threads, seek_mode=seek_mode
    )
    frames: Tensor = decoder.get_frames_at(indices).data
    return frames


def _as_input(read: Callable[[], Tensor]) -> Tensor:
    """What torchvision makes of frames (T, H, W, C): float32 (1, C, T, S, S)."""
    frames = read().permute(0, 3, 1, 2)  # (T, C, H, W)
    small = F.resize(frames, [256], antialias=True)
    crop = F.center_crop(small, [RECIPE.img_size])
    clip = F.normalize(F.convert_image_dtype(crop), list(RECIPE.mean), list(RECIPE.std))
    return clip.permute(1, 0, 2, 3)[None]  # (1, C, T, S, S)


def _check_equal(sides: dict[str, Callable[[], Tensor]], subject: str) -> None:
    ours, *others = (make() for make in sides.values())
    for name, other in zip(list(sides)[1:], others, strict=True):
        same = torch.equal(ours, other) if ours.dtype == torch.uint8 else ours.allclose(other)
        if not same:
            raise SystemExit(f"{subject}: {name} delivers other values than ours.")


def _rows(subject: str, seconds: dict[str, list[float]], file: str) -> list[Row]:
    ours, peers = seconds[""], {name: value for name, value in seconds.items() if name}
    fastest = min(peers, key=lambda name: sorted(peers[name])[len(ours) // 2], default="")
    rows = []
    for name, theirs in peers.items():
        goal = 1.0 if name == fastest else None
        if name == EVERYTHING and subject == SPARSE:
            goal = 3.0
        note = f"the fastest; {file}" if name == fastest else ""
        rows.append(compare(TABLE, subject, name, ours, theirs, at_least=goal, note=note))
    return rows


if __name__ == "__main__":
    main()
