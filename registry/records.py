"""The facts the zoo keeps: architectures, weights, input recipes and metrics, as frozen records.

A fact is typed once, in the family file beside the builder it describes; the index, the model
cards, `config.json` and the README table are generated from these records.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Literal, TypeAlias, get_args

__all__ = [
    "UNKNOWN",
    "Architecture",
    "Average",
    "ChannelOrder",
    "ImageSource",
    "Interpolation",
    "Metric",
    "Order",
    "PackageSource",
    "Paper",
    "Preprocess",
    "Proof",
    "Sampling",
    "SamplingRule",
    "Scalar",
    "Source",
    "Unknown",
    "UpstreamSource",
    "Weights",
]


class Unknown(Enum):
    """The value of a required fact that upstream does not state; never guessed."""

    UNKNOWN = "UNKNOWN"

    def __str__(self) -> str:
        return "not stated upstream"


UNKNOWN = Unknown.UNKNOWN

Order: TypeAlias = Literal["ignored", "reversal_blind", "used"]
"""What shuffled frames do to the logits: nothing, only reversal does nothing, or they change."""

SamplingRule: TypeAlias = Literal["uniform", "dense", "segments", "span"]
Average: TypeAlias = Literal["logits", "probabilities"]
Interpolation: TypeAlias = Literal["bilinear", "bicubic"]
ChannelOrder: TypeAlias = Literal["rgb", "bgr"]
Scalar: TypeAlias = str | int | float | bool | None


def _check_choice(record: object, name: str, choices: object) -> None:
    value, allowed = getattr(record, name), get_args(choices)
    if value not in allowed:
        raise ValueError(f"{name} is one of {', '.join(allowed)}, not {value!r}.")


def _check_count(record: object, *names: str, least: int = 1) -> None:
    for name in names:
        value = getattr(record, name)
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise ValueError(f"{name} is a whole number of {least} or more, not {value!r}.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """Which frames of a video become clips, and how the views of one video are averaged.

    Attributes:
        rule: `uniform` spreads the frames over the whole video by `int(i * total / T)`;
            `dense` takes a window of frames `frame_stride` apart, from the middle of the video;
            `segments` takes the centre of T equal parts; `span` takes a window of T x
            `frame_stride` from the video's start and spreads the frames from its first to its
            last, as SlowFast and TimeSformer test.
        num_frames: Frames T in one clip.
        frame_stride: Distance between sampled frames; counted at `fps`, or in the video's own
            frames where `fps` is None. Always 1 for `uniform` and `segments`.
        fps: Rate at which `frame_stride` is counted, or None for the video's own frames. `dense`
            then chooses frames by their time, which is right on variable frame rates; `span`
            counts at the mean rate, as its reference does.
        num_clips: Temporal clips of the published test protocol.
        num_crops: Spatial crops of the published test protocol, 1 or 3.
        average: What is averaged over the views of a video.
    """

    rule: SamplingRule
    num_frames: int
    frame_stride: int
    fps: float | None
    num_clips: int
    num_crops: int
    average: Average

    def __post_init__(self) -> None:
        """Refuse what no clip can be sampled by."""
        _check_choice(self, "rule", SamplingRule)
        _check_choice(self, "average", Average)
        _check_count(self, "num_frames", "frame_stride", "num_clips", "num_crops")
        if self.fps is not None and not (isinstance(self.fps, (int, float)) and self.fps > 0):
            raise ValueError(f"fps is a number above 0 or None, not {self.fps!r}.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Preprocess:
    """How decoded frames become the model's input.

    Attributes:
        img_size: Side of the square test crop, pixels.
        resize: Before the crop: an int is the new short side (aspect ratio kept), a pair is the
            exact (height, width).
        interpolation: Resampling filter of the resize.
        antialias: Whether the filter widens when it shrinks a frame.
        mean: Per channel, for pixels in [0, 1]; three of them, one for gray frames, or two for
            optical flow, which the caller computes.
        std: Per channel, likewise.
        channel_order: Order of the channels the weights were trained on.
    """

    img_size: int
    resize: int | tuple[int, int]
    interpolation: Interpolation
    antialias: bool
    mean: tuple[float, ...]
    std: tuple[float, ...]
    channel_order: ChannelOrder = "rgb"

    def __post_init__(self) -> None:
        """Refuse what no frame can be prepared by."""
        _check_count(self, "img_size")
        _check_choice(self, "interpolation", Interpolation)
        _check_choice(self, "channel_order", ChannelOrder)
        sides = self.resize if isinstance(self.resize, tuple) else (self.resize,)
        if len(sides) > 2 or not all(isinstance(side, int) and side > 0 for side in sides):
            raise ValueError(f"resize is a short side or (height, width), not {self.resize!r}.")
        for name, values in (("mean", self.mean), ("std", self.std)):
            # True counts as a number to Python, and not to torch.
            numbers = all(type(value) in (int, float) for value in values)
            if len(values) not in (1, 2, 3) or len(values) != len(self.mean) or not numbers:
                raise ValueError(f"{name} holds a number a channel, 1 to 3, not {values!r}.")
        if min(self.std) <= 0:
            raise ValueError(f"std must be above 0, not {self.std!r}.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """A measured figure with the protocol without which it means nothing.

    Attributes:
        name: For instance `top1`, in percent.
        value: The figure.
        dataset: Name of the data it was measured on.
        split: Split of that data.
        level: Whether one clip or the average over a video's views was scored.
        num_clips: Temporal clips a video.
        num_crops: Spatial crops a clip.
        measured_by: Who measured it; `videozoo` where we did.
        note: What else a reader must know to compare it.
    """

    name: str
    value: float
    dataset: str
    split: str
    level: Literal["clip", "video"]
    num_clips: int
    num_crops: int
    measured_by: str
    note: str = ""

    def __post_init__(self) -> None:
        """Refuse a figure without its protocol."""
        _check_count(self, "num_clips", "num_crops")
        if not (self.dataset and self.split and self.measured_by):
            raise ValueError(f"A figure needs its dataset, split and who measured it: {self}.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Paper:
    """Where an architecture was published."""

    title: str
    url: str
    year: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PackageSource:
    """A safetensors file inside the wheel, at `zoo/weights/FILE`; works with no network."""

    file: str
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class UpstreamSource:
    """A public checkpoint in its author's layout, converted at first use.

    Attributes:
        layout: Name of the key map that reads it, for instance `torchvision`.
        url: Address of the file; empty where it is a file of `repo_id`. A page of Google Drive is
            for browsers only: its file is fetched by hand.
        repo_id: Hub repository; empty where `url` is given.
        filename: Name of the file.
        revision: Commit of the Hub repository; empty for plain addresses.
        sha256: Hash of the file, or its first hexadecimal digits where only those are published.
    """

    layout: str
    filename: str
    url: str = ""
    repo_id: str = ""
    revision: str | Unknown = ""
    sha256: str | Unknown

    def __post_init__(self) -> None:
        """Refuse a source without an address, or with two."""
        if bool(self.url) == bool(self.repo_id):
            raise ValueError(f"A source has either url or repo_id: {self}.")

    @property
    def by_hand(self) -> bool:
        """Whether the address is a page for people, which gives no program the file."""
        return self.url.startswith("https://drive.google.com/")


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageSource:
    """A 2D image model, inflated; its classifier is replaced by a new one.

    Attributes:
        library: Where the image model is built and its weights are found.
        model: Name of the image model with its tag.
        layout: Name of the key map that reads it.
        inflation: How its kernels are extended along time; None where they stay 2D.
    """

    library: Literal["timm"]
    model: str
    layout: str
    inflation: Literal["mean", "center"] | None


Source: TypeAlias = PackageSource | UpstreamSource | ImageSource


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """The test that compares converted weights with their authors' own code, and what it found.

    Attributes:
        upstream: Whose checkpoint it is about.
        checkpoint: Its name there.
        test: The test.
        deviation: The largest that was measured, as a part of the largest value compared.
        versions: Of the libraries it was measured with.
    """

    upstream: str
    checkpoint: str
    test: str
    deviation: float
    versions: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """One set of trained tensors for one architecture, with everything needed to use it.

    Attributes:
        tag: Name after the dot: `<data>[_<T>x<stride>][_<size>][_<publisher>]`.
        source: Where the tensors come from.
        licence: Licence of the weights, an SPDX identifier where there is one.
        data: What they were trained on, as a reader would say it.
        num_classes: Outputs of the classifier in the source; 0 where it brings none.
        labels: Name of the list in `registry/labels` that gives the classes in index order, or
            None where the source has no classifier or its list is not known.
        sampling: Frames the weights were trained and tested on.
        preprocess: Pixels the weights were trained and tested on.
        arguments: Builder arguments these weights need beyond the architecture's defaults, as
            pairs of name and value.
        metrics: Published or measured figures.
        mirrors: Other places where the same tensors were published, maybe in another layout; they
            are asked in turn where `source` cannot be reached.
        note: What a user must know before choosing these weights.
        params: Parameters, counted on the module that these weights fill; None until counted.
        gflops: Multiply-adds of one view at its frames and size, 10^9; None until counted.
        proofs: Tests of the conversion, one for each place where the tensors were published; empty
            until the index is written, and where nothing was converted.
    """

    tag: str
    source: Source
    licence: str | Unknown
    data: str | Unknown
    num_classes: int
    labels: str | None
    sampling: Sampling
    preprocess: Preprocess
    arguments: tuple[tuple[str, Scalar], ...] = ()
    metrics: tuple[Metric, ...] = ()
    mirrors: tuple[UpstreamSource, ...] = ()
    note: str = ""
    params: int | None = None
    gflops: float | None = None
    proofs: tuple[Proof, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """What the zoo knows about one model name.

    Attributes:
        name: The builder's name.
        family: Name of the file that defines it.
        module: Dotted path of that file.
        summary: First sentence of the builder's docstring.
        paper: Where it was published; None for tiny variants made for tests.
        order: What shuffled frames do to the logits.
        num_classes: Classes where no weights are asked for.
        sampling: Frames where no weights are asked for.
        preprocess: Pixels where no weights are asked for.
        weights: Every set of weights; the first is the default.
        params: Parameters, counted on the module at its defaults; None until counted.
        gflops: Multiply-adds of one view in units of 10^9, as papers count; None until counted.
    """

    name: str
    family: str
    module: str
    summary: str
    paper: Paper | None
    order: Order
    num_classes: int
    sampling: Sampling
    preprocess: Preprocess
    weights: tuple[Weights, ...]
    params: int | None = None
    gflops: float | None = None

    def __post_init__(self) -> None:
        """Refuse an order that no test knows."""
        _check_choice(self, "order", Order)
