"""One model on this machine: latency, memory, and a peer's in the same rounds."""

from __future__ import annotations

import datetime as dt
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import registry
from registry.names import parse_name
from zoo.benchmarking.machine import describe_machine
from zoo.benchmarking.memory import peak_bytes
from zoo.benchmarking.peers import (
    PACKAGES,
    Peer,
    beside,
    check_library,
    drop_nothing,
    find_recipe,
    logits_of,
)
from zoo.benchmarking.timing import Spread, interleave, ratios
from zoo.factory import create
from zoo.models._base import VideoModel
from zoo.optimizing import optimize

__all__ = [
    "DTYPES",
    "Measurement",
    "Setting",
    "Side",
    "check_device",
    "create_pair",
    "difference",
    "expand_name",
    "measure",
    "random_clip",
]

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
_LEARNING_RATE = 1e-3


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """How models are measured.

    Attributes:
        against: Library whose own module runs in the same rounds, or None.
        dtype: Of our weights and clips, one of `DTYPES`; the peer's are float32.
        compile: Whether `torch.compile` is put on both sides.
        optimize: Whether ours is what `zoo.optimize` makes of it.
        train: Whether a step of training is timed: forward, backward and SGD.
        batch_size: Clips at once.
        rounds: Times that each side is timed.
        device: Where it runs, such as `cpu` or `cuda`.
    """

    against: str | None = None
    dtype: str = "float32"
    compile: bool = False
    optimize: bool = False
    train: bool = False
    batch_size: int = 1
    rounds: int = 10
    device: str = "cpu"

    def __post_init__(self) -> None:
        """Refuse what cannot be measured."""
        if self.dtype not in DTYPES:
            raise ValueError(f"dtype is {' or '.join(DTYPES)}, not {self.dtype!r}.")
        if self.optimize and self.train:
            raise ValueError("zoo.optimize makes a copy for inference; leave it out to train.")
        if self.against is not None:
            check_library(self.against)
        for name in ("batch_size", "rounds"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; give 1 or more.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """What was measured of one name.

    Attributes:
        name: As it was asked for.
        clip: Shape of one clip, (C, T, H, W).
        setting: How it was measured.
        seconds: Of a pass over the batch.
        peak: Bytes that a pass holds above what the process held, or None.
        peer_seconds: The peer's, in the same rounds; None without one.
        peer_peak: Likewise.
        speed_up: The peer's seconds by ours, within rounds.
        difference: Largest of the logits', by the peer's largest logit.
    """

    name: str
    clip: tuple[int, ...]
    setting: Setting
    seconds: Spread
    peak: int | None
    peer_seconds: Spread | None = None
    peer_peak: int | None = None
    speed_up: Spread | None = None
    difference: float | None = None

    @property
    def clips_per_second(self) -> float:
        """At the median."""
        return self.setting.batch_size / self.seconds.median

    def as_json(self) -> dict[str, Any]:
        """For programs and for the cache; see `zoo.benchmarking.records`."""
        settings = asdict(self.setting)
        library = settings.pop("against")
        machine = describe_machine(("torch", *([PACKAGES[library]] if library else [])))
        against = None
        if self.peer_seconds is not None and self.speed_up is not None:
            against = {
                "library": library,
                "ms": _as_json(self.peer_seconds, times=1000),
                "speed_up": _as_json(self.speed_up),
                "peak_bytes": self.peer_peak,
                "difference": float(f"{self.difference:.3g}"),
            }
        return {
            "name": self.name,
            "clip": list(self.clip),
            **settings,
            "threads": machine.threads,
            "ms": _as_json(self.seconds, times=1000),
            "clips_per_second": round(self.clips_per_second, 4),
            "peak_bytes": self.peak,
            "against": against,
            "processor": machine.processor,
            "versions": machine.versions,
            "date": dt.date.today().isoformat(),
        }


def _as_json(spread: Spread, *, times: float = 1) -> dict[str, float]:
    values = {"min": spread.smallest, "median": spread.median, "max": spread.largest}
    return {key: float(f"{value * times:.5g}") for key, value in values.items()}


class Side:
    """One of the modules that are timed beside each other, with the clip as it takes it.

    Attributes:
        module: Ours or a peer's.
        inputs: Its arguments.
    """

    def __init__(self, module: nn.Module, inputs: Sequence[Any]) -> None:
        self.module, self.inputs = module, tuple(inputs)

    def _logits(self) -> Tensor:
        # pytorchvideo's SlowFast puts its maps into the list of pathways that it is given.
        fresh = [list(item) if isinstance(item, list) else item for item in self.inputs]
        return logits_of(self.module(*fresh))

    def forward(self) -> Tensor:
        """Logits (N, K), once the device has them."""
        with torch.inference_mode():
            logits = self._logits()
        _finish(logits.device)
        return logits

    def stepper(self) -> Callable[[], None]:
        """A step of training with plain SGD, for a module that it puts into training mode.

        Nothing is dropped: a branch that is left out is work that only one of the sides has.
        """
        drop_nothing(self.module.train())
        sgd = torch.optim.SGD(self.module.parameters(), lr=_LEARNING_RATE)

        def step() -> None:
            logits = self._logits()
            targets = torch.zeros(len(logits), dtype=torch.long, device=logits.device)
            loss = F.cross_entropy(logits.float(), targets)
            torch.autograd.backward(loss)
            sgd.step()
            sgd.zero_grad()
            _finish(logits.device)

        return step


def measure(name: str, setting: Setting) -> Measurement:
    """Measure a model at its own clip size, with random weights where its name brings none.

    Args:
        name: Anything that `zoo.create` builds.
        setting: How.

    Raises:
        LookupError: There is no such model, or the library has none such.
        RuntimeError: One of the sides cannot be compiled.
        ValueError: The name or the device cannot be used.
    """
    device, dtype = check_device(setting.device), DTYPES[setting.dtype]
    model, peer = create_pair(name, setting.against)
    clip = random_clip(model, batch_size=setting.batch_size).to(device)
    model.to(device)
    if setting.optimize:
        ours = Side(optimize(model, dtype=dtype), [clip])  # which it casts itself
    else:
        ours = Side(model.to(dtype), [clip.to(dtype)])
    sides = [ours]
    if peer is not None:
        # As its users have it: the clip as torch makes it, which is not how load_clip does.
        sides.append(Side(peer.module.to(device), peer.prepare(clip.contiguous())))
    logits = [_first(side, name, setting) for side in sides]
    found = difference(*logits) if peer is not None else None
    if setting.compile:
        for side, library in zip(sides, ("zoo", setting.against), strict=False):
            _compile(side, f"{name} of {library}")
    calls = [side.stepper() if setting.train else side.forward for side in sides]
    times = interleave(calls, rounds=setting.rounds)
    peaks = [peak_bytes(call, device) for call in calls]
    paired = peer is not None
    return Measurement(
        name=name,
        clip=tuple(clip.shape[1:]),
        setting=setting,
        seconds=Spread.of(times[0]),
        peak=peaks[0],
        peer_seconds=Spread.of(times[1]) if paired else None,
        peer_peak=peaks[1] if paired else None,
        speed_up=Spread.of(ratios(times[1], by=times[0])) if paired else None,
        difference=found,
    )


def create_pair(name: str, library: str | None, **sizes: int) -> tuple[VideoModel, Peer | None]:
    """A model in eval mode, and a library's own module with the same weights.

    Args:
        name: Anything that `zoo.create` builds.
        library: One of `peers.PEERS`, or None.
        **sizes: What else `zoo.create` is told.

    Raises:
        LookupError: There is no such model, or the library has none such.
    """
    parsed = parse_name(name)
    arguments: dict[str, Any] = dict(sizes)
    if library is not None and not parsed.scheme:
        registry.load(parsed.target)  # whose own message comes first, if there is none
        arguments = {**find_recipe(library, parsed.target).arguments, **arguments}
    with warnings.catch_warnings():
        # A tag's weights are not loaded, which create says; random ones take as long.
        warnings.simplefilter("ignore", UserWarning)
        model = create(name, **arguments)
    if parsed.scheme not in ("local-dir", "hf-hub"):
        awaken(model)
    return model, None if library is None else beside(library, model)


def random_clip(model: VideoModel, *, batch_size: int) -> Tensor:
    """A clip of noise (N, C, T, H, W), in the memory format that `load_clip` gives."""
    side = model.img_size
    shape = (batch_size, model.num_frames, side, side, model.in_chans)
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    return noise.permute(0, 4, 1, 2, 3)


def awaken(model: nn.Module) -> None:
    """Put noise on what starts at zero or one, so that equal logits say something.

    The last scale of a branch starts at zero in many networks, and the branch is not heard.
    """
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim < 2 or not parameter.any():
                parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))


def difference(ours: Tensor, theirs: Tensor) -> float:
    """The largest difference of logits (N, K), as a part of the peer's largest logit."""
    ours, theirs = ours.float(), theirs.float()
    return float((ours - theirs).abs().max() / theirs.abs().max())


def check_device(name: str) -> torch.device:
    """The device of a name.

    Raises:
        ValueError: This machine has none such.
    """
    has = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    counts = {"cpu": 1} | ({} if has is None else {has.type: torch.accelerator.device_count()})
    if device is None or (device.index or 0) >= counts.get(device.type, 0):
        raise ValueError(f"This machine has no device {name!r}; it has {' and '.join(counts)}.")
    return device


def expand_name(pattern: str) -> list[str]:
    """The names that are meant: one that `zoo.create` builds, or all that `zoo list` would show.

    Raises:
        LookupError: There is none.
    """
    names = [pattern] if ":" in pattern or _is_name(pattern) else registry.list_models(pattern)
    if not names:
        registry.load(parse_name(pattern).target)  # says which name is meant
    return names


def _is_name(text: str) -> bool:
    try:
        registry.load(parse_name(text).target)
    except (LookupError, ValueError):
        return False
    return True


def _first(side: Side, name: str, setting: Setting) -> Tensor:
    """The logits of a first pass, which fails where the device lacks an operation."""
    try:
        return side.forward()
    except RuntimeError as error:  # NotImplementedError is one
        if "not implemented" not in str(error):
            raise
        reason = str(error).partition("\n")[0]
        raise RuntimeError(
            f"{name} does not run in {setting.dtype} on {setting.device} ({reason}); give another "
            f"--dtype or --device."
        ) from error


def _compile(side: Side, what: str) -> None:
    """Compile a side and run it, so that a failure is told in one sentence."""
    side.module.compile()
    try:
        side.forward()
    except Exception as error:
        reason = str(error).strip().partition("\n")[0]
        raise RuntimeError(
            f"torch.compile fails on {what} ({type(error).__name__}: {reason}); "
            f"leave out --compile."
        ) from error


def _finish(device: torch.device) -> None:
    """Wait for what a device was asked to do."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
