"""TSM: picture networks over the frames of a clip, which exchange channels with their neighbours.

Lin et al., "TSM: Temporal Shift Module for Efficient Video Understanding"
(https://arxiv.org/abs/1811.08383), with the non-local blocks of https://arxiv.org/abs/1711.07971.
The reference is mmaction2's `resnet_tsm.py`, `mobilenet_v2_tsm.py` and `mobileone_tsm.py`
(Apache-2.0), whose weights these models carry. Only the shift lets frames see each other, and it
shows in no key: without it every checkpoint loads and is a network of pictures.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from registry import Metric, Paper, Preprocess, Sampling, UpstreamSource, Weights, register_model
from zoo.layers import make_classifier
from zoo.models._staged import StagedModel
from zoo.models._tsm_networks import MobileNetV2, MobileOne, Plan, ResNet

__all__ = [
    "TSM",
    "tsm_mobilenetv2",
    "tsm_mobileone_s4",
    "tsm_r50",
    "tsm_r50_nl_dot",
    "tsm_r50_nl_embedded",
    "tsm_r50_nl_gaussian",
    "tsm_r101",
]


class TSM(StagedModel):
    """A picture network whose blocks shift channels between frames.

    Features are (N, D, T, H', W'). Any number of frames and any size can be given to `forward`;
    where `shift_frames` is given, multiples of it.

    Args:
        plan: The picture network.
        shift_frames: Frames among which channels are shifted; None for all of a clip.
        num_classes: Classes K; 0 returns the pooled features.
        in_chans: Input channels C.
        num_frames: Frames that `load_clip` delivers.
        img_size: Side of the pictures that `load_clip` delivers.
        drop_rate: Dropout before the classifier.
    """

    classifier_name = "fc"

    def __init__(
        self,
        plan: Plan,
        shift_frames: int | None = None,
        *,
        num_classes: int = 400,
        in_chans: int = 3,
        num_frames: int = 8,
        img_size: int = 224,
        drop_rate: float = 0.0,
    ) -> None:
        super().__init__()
        self.in_chans, self.num_frames, self.img_size = in_chans, num_frames, img_size
        self.shift_frames = shift_frames
        self._refuse_broken_groups(num_frames)
        self.feature_info = []
        for index, (stage, width, reduction) in enumerate(plan.levels(in_chans)):
            stage.shift_frames = shift_frames
            name = f"layer{index}" if index else "stem"
            self.add_module(name, stage)
            self.feature_info.append({"num_chs": width, "reduction": reduction, "module": name})
        self.stem_weights = tuple(
            name
            for name, value in self.named_parameters()
            if name.startswith("stem.") and value.ndim == 4
        )
        self.num_features, self.num_classes = width, num_classes
        self.drop = nn.Dropout(drop_rate)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        self.fc = make_classifier(width, num_classes)

    def _refuse_broken_groups(self, num_frames: int) -> None:
        if self.shift_frames is not None and num_frames % self.shift_frames:
            raise ValueError(
                f"This model shifts among groups of {self.shift_frames} frames, and {num_frames} "
                f"frames are given; give a multiple of {self.shift_frames}."
            )

    def check_input(self, x: Tensor) -> None:
        """See `VideoModel.check_input`; frames that make no whole groups are refused too."""
        super().check_input(x)
        self._refuse_broken_groups(x.shape[2])


_PAPER = Paper(
    title="TSM: Temporal Shift Module for Efficient Video Understanding",
    url="https://arxiv.org/abs/1811.08383",
    year=2018,
)
_SEGMENTS = Sampling(
    rule="segments",
    num_frames=8,
    frame_stride=1,
    fps=None,
    num_clips=1,
    num_crops=1,
    average="probabilities",
)
_CENTRE = Preprocess(
    img_size=224,
    resize=256,
    interpolation="bilinear",
    antialias=False,
    mean=(123.675 / 255, 116.28 / 255, 103.53 / 255),
    std=(58.395 / 255, 57.12 / 255, 57.375 / 255),
)
_LARGE = replace(_CENTRE, img_size=256)  # three crops of the whole short side
_LICENCE = "The licence is mmaction2's; none is stated for the weights alone."
_TEN_CROPS = "ten crops of 224 pixels: four corners and the centre, each mirrored too"


def _trained(
    tag: str,
    kind: str,
    date_and_digits: str,
    *,
    top1: float,
    top5: float,
    sampling: Sampling = _SEGMENTS,
    preprocess: Preprocess = _CENTRE,
    num_crops: int = 10,
    protocol: str = _TEN_CROPS,
    note: str = "",
) -> Weights:
    """The record of one of mmaction2's files, which differ in these facts only."""
    kinetics = kind.endswith("kinetics400-rgb")
    labels, data = (
        ("kinetics400", "Kinetics-400")
        if kinetics
        else ("something_something_v2", "Something-Something V2")
    )
    facts: dict[str, Any] = {
        "dataset": labels,
        "split": "validation",
        "level": "video",
        "num_clips": sampling.num_clips,
        "num_crops": num_crops,
        "measured_by": "mmaction2",
        "note": protocol,
    }
    name = f"tsm_imagenet-pretrained-{kind}"
    filename = f"{name}_{date_and_digits}.pth"
    return Weights(
        tag=tag,
        source=UpstreamSource(
            layout="mmaction2",
            filename=filename,
            url=f"https://download.openmmlab.com/mmaction/v1.0/recognition/tsm/{name}/{filename}",
            sha256=date_and_digits.rpartition("-")[2],
        ),
        licence="Apache-2.0",
        data=f"ImageNet-1k (pictures), then {data}",
        num_classes=400 if kinetics else 174,
        labels=labels,
        sampling=sampling,
        preprocess=preprocess,
        metrics=(
            Metric(name="top1", value=top1, **facts),
            Metric(name="top5", value=top5, **facts),
        ),
        note=f"{note} {_LICENCE}".strip(),
    )


_SIXTEEN = replace(_SEGMENTS, num_frames=16)
_THREE_CROPS: dict[str, Any] = {
    "preprocess": _LARGE,
    "num_crops": 3,
    "protocol": "crops of 256 pixels",
}
_TWICE: dict[str, Any] = {
    "sampling": replace(_SEGMENTS, num_clips=2, num_crops=3),
    **_THREE_CROPS,
    "protocol": "crops of 256 pixels; the second clip is of each segment's first frame",
}
R50_WEIGHTS = (
    _trained(
        "k400", "r50_8xb16-1x1x8-50e_kinetics400-rgb", "20220831-64d69186", top1=73.18, top5=90.56
    ),
    _trained(
        "k400_100e",
        "r50_8xb16-1x1x8-100e_kinetics400-rgb",
        "20220831-a6db1e5d",
        top1=73.22,
        top5=90.22,
        note="Trained for 100 epochs instead of 50.",
    ),
    _trained(
        "k400_16f",
        "r50_8xb16-1x1x16-50e_kinetics400-rgb",
        "20220831-042b1748",
        top1=75.12,
        top5=91.55,
        sampling=_SIXTEEN,
    ),
    _trained(
        "k400_dense",
        "r50_8xb16-dense-1x1x8-50e_kinetics400-rgb",
        "20220831-f55d3c2b",
        top1=73.38,
        top5=90.78,
        # A window of 64 frames, a frame of every eight; ten windows from the first to the last.
        sampling=replace(_SEGMENTS, rule="dense", frame_stride=8, num_clips=10),
    ),
    _trained(
        "ssv2",
        "r50_8xb16-1x1x8-50e_sthv2-rgb",
        "20230317-be0fc26e",
        top1=62.72,
        top5=87.7,
        **_TWICE,
    ),
    _trained(
        "ssv2_16f",
        "r50_8xb16-1x1x16-50e_sthv2-rgb",
        "20230317-ec6696ad",
        top1=64.16,
        top5=88.61,
        **_TWICE | {"sampling": replace(_SIXTEEN, num_clips=2, num_crops=3)},
    ),
)
R101_SSV2 = _trained(
    "ssv2", "r101_8xb16-1x1x8-50e_sthv2-rgb", "20230320-efcc0d1b", top1=63.7, top5=88.28, **_TWICE
)
NL_DOT_K400 = _trained(
    "k400",
    "r50-nl-dot-product_8xb16-1x1x8-50e_kinetics400-rgb",
    "20220831-108bfde5",
    top1=74.49,
    top5=91.15,
)
NL_GAUSSIAN_K400 = _trained(
    "k400",
    "r50-nl-gaussian_8xb16-1x1x8-50e_kinetics400-rgb",
    "20220831-7e54dacf",
    top1=73.66,
    top5=90.99,
)
NL_EMBEDDED_K400 = _trained(
    "k400",
    "r50-nl-embedded-gaussian_8xb16-1x1x8-50e_kinetics400-rgb",
    "20220831-35eddb57",
    top1=74.34,
    top5=91.23,
)
MOBILENETV2_K400 = _trained(
    "k400",
    "mobilenetv2_8xb16-1x1x8-100e_kinetics400-rgb",
    "20230414-401127fd",
    top1=68.71,
    top5=88.32,
    sampling=replace(_SEGMENTS, num_crops=3),
    **_THREE_CROPS,
)
MOBILEONE_S4_K400 = _trained(
    "k400",
    "mobileone-s4_8xb16-1x1x16-50e_kinetics400-rgb",
    "20230825-a7f8876b",
    top1=74.38,
    top5=91.71,
    sampling=replace(_SIXTEEN, num_crops=3),
    preprocess=_LARGE,
    protocol="ten crops by mmaction2's table, three of 256 pixels by its configuration",
    note="Its configuration gives 16 frames to a network that shifts among 8: no channel goes "
    "from the first half of a clip to the second.",
)

_RESNET50, _RESNET101 = ResNet((3, 4, 6, 3)), ResNet((3, 4, 23, 3), shift_every=2)
_NL_DOT, _NL_GAUSSIAN, _NL_EMBEDDED = (
    replace(_RESNET50, non_local=mode) for mode in ("dot", "gaussian", "embedded")
)
_TINY = ResNet((1, 3, 2, 1), width=8, shift_every=2)
_TINY_DOT, _TINY_GAUSSIAN, _TINY_EMBEDDED = (
    ResNet((1, 2, 1, 1), width=8, non_local=mode) for mode in ("dot", "gaussian", "embedded")
)
_TINY_MOBILENETV2 = MobileNetV2(((1, 8, 1, 1), (2, 16, 2, 2), (3, 16, 2, 1)), stem=8, last=24)
_TINY_MOBILEONE = MobileOne((1, 2, 2, 1), (8, 16, 16, 24), (0, 0, 1, 1), stem=8)


def _facts(plan: Plan, *weights: Weights) -> dict[str, Any]:
    return {
        "order": "used",
        "paper": _PAPER,
        "weights": weights,
        "layouts": {"mmaction2": plan.keymap()},
    }


def _tiny(plan: Plan) -> dict[str, Any]:
    return _facts(plan) | {
        "paper": None,
        "num_classes": 7,
        "sampling": _SEGMENTS,
        "preprocess": replace(_CENTRE, img_size=32, resize=32),
    }


@register_model(**_tiny(_TINY))
def test_tsm(**kwargs: Any) -> TSM:
    """TSM of a narrow ResNet, every second block with a shift, for tests."""
    return TSM(_TINY, **kwargs)


@register_model(**_tiny(_TINY_DOT))
def test_tsm_nl_dot(**kwargs: Any) -> TSM:
    """TSM of a narrow ResNet with dot products between places, for tests."""
    return TSM(_TINY_DOT, **kwargs)


@register_model(**_tiny(_TINY_GAUSSIAN))
def test_tsm_nl_gaussian(**kwargs: Any) -> TSM:
    """TSM of a narrow ResNet with attention by bare features, for tests."""
    return TSM(_TINY_GAUSSIAN, **kwargs)


@register_model(**_tiny(_TINY_EMBEDDED))
def test_tsm_nl_embedded(**kwargs: Any) -> TSM:
    """TSM of a narrow ResNet with attention by learned features, for tests."""
    return TSM(_TINY_EMBEDDED, **kwargs)


@register_model(**_tiny(_TINY_MOBILENETV2))
def test_tsm_mobilenetv2(**kwargs: Any) -> TSM:
    """TSM of a narrow MobileNetV2, for tests."""
    return TSM(_TINY_MOBILENETV2, **kwargs)


@register_model(**_tiny(_TINY_MOBILEONE))
def test_tsm_mobileone(**kwargs: Any) -> TSM:
    """TSM of a narrow MobileOne that shifts among four frames, for tests."""
    return TSM(_TINY_MOBILEONE, 4, **kwargs)


@register_model(**_facts(MobileNetV2(), MOBILENETV2_K400))
def tsm_mobilenetv2(*, drop_rate: float = 0.5, **kwargs: Any) -> TSM:
    """MobileNetV2 with shifts in the blocks that have a shortcut."""
    return TSM(MobileNetV2(), drop_rate=drop_rate, **kwargs)


@register_model(**_facts(MobileOne(), MOBILEONE_S4_K400))
def tsm_mobileone_s4(*, drop_rate: float = 0.5, **kwargs: Any) -> TSM:
    """MobileOne-S4, as it is trained, with a shift among eight frames before every block."""
    return TSM(MobileOne(), 8, drop_rate=drop_rate, **kwargs)


@register_model(**_facts(_RESNET50, *R50_WEIGHTS))
def tsm_r50(*, drop_rate: float = 0.5, **kwargs: Any) -> TSM:
    """ResNet-50 with a shift in every block."""
    return TSM(_RESNET50, drop_rate=drop_rate, **kwargs)


@register_model(**_facts(_NL_DOT, NL_DOT_K400))
def tsm_r50_nl_dot(*, drop_rate: float = 0.5, **kwargs: Any) -> TSM:
    """ResNet-50 with shifts and five non-local blocks that compare by dot products."""
    return TSM(_NL_DOT, drop_rate=drop_rate, **kwargs)


@register_model(**_facts(_NL_GAUSSIAN, NL_GAUSSIAN_K400))
def tsm_r50_nl_gaussian(*, drop_rate: float = 0.5, **kwargs: Any) -> TSM:
    """ResNet-50 with shifts and five non-local blocks that attend by bare features."""
    return TSM(_NL_GAUSSIAN, drop_rate=drop_rate, **kwargs)


@register_model(**_facts(_NL_EMBEDDED, NL_EMBEDDED_K400))
def tsm_r50_nl_embedded(*, drop_rate: float = 0.5, **kwargs: Any) -> TSM:
    """ResNet-50 with shifts and five non-local blocks that attend by learned features."""
    return TSM(_NL_EMBEDDED, drop_rate=drop_rate, **kwargs)


@register_model(**_facts(_RESNET101, R101_SSV2))
def tsm_r101(*, drop_rate: float = 0.5, **kwargs: Any) -> TSM:
    """ResNet-101 with a shift in every second block."""
    return TSM(_RESNET101, drop_rate=drop_rate, **kwargs)
