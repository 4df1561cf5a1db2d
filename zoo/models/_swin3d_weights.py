"""The layouts in which Video Swin's weights are published, and the records of those weights."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from converters import KeyMap, Rule
from registry import UNKNOWN, Metric, Preprocess, Sampling, UpstreamSource, Weights

__all__ = ["LAYOUTS", "PREPROCESS", "SAMPLING", "SWIN3D_B", "SWIN3D_S_K400", "SWIN3D_T_K400"]

# Both references store which row of its table each pair of tokens reads; we compute it.
_INDEX = "attn.relative_position_index"
VIDEO_SWIN = KeyMap(
    (
        Rule("backbone.patch_embed", "patch_embed"),
        Rule("backbone.layers.{s}.blocks", "stages.{s}.blocks"),
        *(Rule(f"backbone.layers.{s}.downsample", f"stages.{s + 1}.downsample") for s in range(3)),
        Rule("backbone.norm", "norm"),
        Rule("cls_head.fc_cls", "head"),
    ),
    buffers=(
        Rule(f"backbone.layers.{{s}}.blocks.{{b}}.{_INDEX}", f"stages.{{s}}.blocks.{{b}}.{_INDEX}"),
    ),
)
# Stages and mergings take turns in one sequence.
TORCHVISION = KeyMap(
    (
        Rule("patch_embed", "patch_embed"),
        *(Rule(f"features.{2 * s + 1}", f"stages.{s + 1}.downsample") for s in range(3)),
        *(
            Rule(f"features.{2 * s}.{{b}}.mlp.{theirs}", f"stages.{s}.blocks.{{b}}.mlp.{ours}")
            for s in range(4)
            for theirs, ours in ((0, "fc1"), (3, "fc2"))
        ),
        *(Rule(f"features.{2 * s}", f"stages.{s}.blocks") for s in range(4)),
        Rule("norm", "norm"),
        Rule("head", "head"),
    ),
    buffers=tuple(
        Rule(
            f"features.{2 * s}.{{b}}.{_INDEX}",
            f"stages.{s}.blocks.{{b}}.{_INDEX}",
        )
        for s in range(4)
    ),
)
LAYOUTS = {"torchvision": TORCHVISION, "video-swin": VIDEO_SWIN}

# The authors' test: four clips, three crops of the short side, softmax before the mean.
SAMPLING = Sampling(
    rule="dense",
    num_frames=32,
    frame_stride=2,
    fps=None,
    num_clips=4,
    num_crops=3,
    average="probabilities",
)
PREPROCESS = Preprocess(
    img_size=224,
    resize=224,
    interpolation="bilinear",
    antialias=False,
    mean=(0.485, 0.456, 0.406),
    std=(0.229, 0.224, 0.225),
)


def _accuracy(
    top1: float, top5: float, dataset: str, sampling: Sampling, measured_by: str, note: str = ""
) -> tuple[Metric, ...]:
    """Both figures of one measurement by the views that a sampling names."""
    return tuple(
        Metric(
            name=name,
            value=value,
            dataset=dataset,
            split="validation",
            level="video",
            num_clips=sampling.num_clips,
            num_crops=sampling.num_crops,
            measured_by=measured_by,
            note=note,
        )
        for name, value in (("top1", top1), ("top5", top5))
    )


def _released(stem: str) -> UpstreamSource:
    """A file of the authors' release."""
    filename = f"swin_{stem}.pth"
    release = "https://github.com/SwinTransformer/storage/releases/download/v1.0.4"
    return UpstreamSource(
        layout="video-swin", filename=filename, url=f"{release}/{filename}", sha256=UNKNOWN
    )


def _ported(
    tag: str,
    file: tuple[str, str],
    released: str,
    *,
    pictures: str,
    measured: tuple[float, float],
    published: tuple[float, float],
) -> Weights:
    """The record of a Kinetics-400 network that torchvision ported from the authors' release.

    Args:
        tag: Tag of the record.
        file: Name of torchvision's file and the first digits of its hash.
        released: Name of the authors' file.
        pictures: What the network was trained on before.
        measured: Accuracy in the first and first five places, by torchvision.
        published: The same by the authors.
    """
    sampling = replace(SAMPLING, fps=30.0, num_clips=12, num_crops=1)
    filename = f"{file[0]}-{file[1]}.pth"
    return Weights(
        tag=tag,
        source=UpstreamSource(
            layout="torchvision",
            filename=filename,
            url=f"https://download.pytorch.org/models/{filename}",
            sha256=file[1],
        ),
        mirrors=(_released(released),),
        licence="BSD-3-Clause",
        data=f"{pictures}, then Kinetics-400",
        num_classes=400,
        labels="kinetics400",
        sampling=sampling,
        preprocess=replace(PREPROCESS, resize=256),
        metrics=(
            *_accuracy(
                *measured,
                "kinetics400",
                sampling,
                "torchvision",
                "videos resampled to 15 frames per second, short side 256",
            ),
            *_accuracy(*published, "kinetics400", SAMPLING, "the authors", "short side 224"),
        ),
        note=(
            "The licence is torchvision's, which ported the weights; the authors' repository is "
            "under Apache-2.0. Neither states one for the weights alone."
        ),
    )


def _authors(
    tag: str,
    stem: str,
    data: str,
    labels: str,
    *,
    published: tuple[float, float] | None = None,
    **facts: Any,
) -> Weights:
    """The record of a base network in the authors' release that torchvision did not port."""
    sampling = facts.pop("sampling", SAMPLING)
    note = "The licence is the repository's; none is stated for the weights alone."
    return Weights(
        tag=tag,
        source=_released(stem),
        licence="Apache-2.0",
        data=data,
        labels=labels,
        sampling=sampling,
        preprocess=PREPROCESS,
        metrics=_accuracy(*published, labels, sampling, "the authors") if published else (),
        note=" ".join([note, facts.pop("note", "")]).strip(),
        **facts,
    )


SWIN3D_T_K400 = _ported(
    "k400",
    ("swin3d_t", "7615ae03"),
    "tiny_patch244_window877_kinetics400_1k",
    pictures="ImageNet-1k (pictures)",
    measured=(77.715, 93.519),
    published=(78.8, 93.6),
)
SWIN3D_S_K400 = _ported(
    "k400",
    ("swin3d_s", "da41c237"),
    "small_patch244_window877_kinetics400_1k",
    pictures="ImageNet-1k (pictures)",
    measured=(79.521, 94.158),
    published=(80.6, 94.5),
)
SWIN3D_B = (
    _ported(
        "k400",
        ("swin3d_b_1k", "24f7c7c6"),
        "base_patch244_window877_kinetics400_1k",
        pictures="ImageNet-1k (pictures)",
        measured=(79.427, 94.386),
        published=(80.6, 94.6),
    ),
    _ported(
        "in22k_ft_k400",
        ("swin3d_b_22k", "7c6ae6fa"),
        "base_patch244_window877_kinetics400_22k",
        pictures="ImageNet-22k (pictures)",
        measured=(81.643, 95.574),
        published=(82.7, 95.5),
    ),
    _authors(
        "in22k_ft_k600",
        "base_patch244_window877_kinetics600_22k",
        "ImageNet-22k (pictures), then Kinetics-600",
        "kinetics600",
        num_classes=600,
        published=(84.0, 96.5),
    ),
    _authors(
        "ssv2",
        "base_patch244_window1677_sthv2",
        "ImageNet-22k (pictures), Kinetics-400, then Something-Something v2",
        "something_something_v2",
        num_classes=174,
        published=(69.6, 92.7),
        arguments=(("window_frames", 16),),
        sampling=replace(SAMPLING, rule="segments", frame_stride=1, num_clips=1),
        note="The authors round the bounds of the parts, which moves a third of the frames by one.",
    ),
    _authors(
        "in22k_ft_k400_w16",
        "base_patch244_window1677_kinetics400_22k",
        "ImageNet-22k (pictures), then Kinetics-400",
        "kinetics400",
        num_classes=400,
        arguments=(("window_frames", 16),),
        note="Published as the start of `ssv2`, without accuracy or test recipe; the one here is "
        "that of the authors' other Kinetics networks.",
    ),
)
