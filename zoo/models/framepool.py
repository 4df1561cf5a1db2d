"""FramePool: a 2D network on every frame, its features pooled over time.

The baseline of the field (Karpathy et al., "Large-scale Video Classification with Convolutional
Neural Networks", https://doi.org/10.1109/CVPR.2014.223, late fusion; TSN, arXiv 1608.00859, pools
by consensus). It sees what is in a video and never in which order. The 2D network is timm's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from einops import rearrange
from torch import Tensor, nn

from converters import KeyMap, Rule
from registry import ImageSource, Paper, Preprocess, Sampling, Weights, register_model
from zoo.layers import FramePooling, make_classifier, make_frame_pool
from zoo.models._base import VideoModel, chosen_levels
from zoo.models._motion import motion_weights

__all__ = ["FramePool", "framepool_nano", "framepool_r18"]


class FramePool(VideoModel):
    """An image model of timm's on every frame, pooled over time.

    Features are (N, D, T, H', W'): those of every frame. The logits do not depend on the order of
    the frames, whichever pooling is chosen.

    Args:
        backbone: Name of a timm model whose features are maps (N, D, H', W').
        backbone_arguments: Further arguments of that timm model.
        pooling: `avg`, `max`, or `attention` (a mean with learned weights).
        num_classes: Classes K; 0 returns the pooled features.
        in_chans: Input channels C.
        num_frames: Frames that `load_clip` delivers; `forward` takes any number.
        img_size: Side of the pictures that `load_clip` delivers; `forward` takes any.
        drop_rate: Dropout before the classifier.
    """

    backbone: Any

    def __init__(
        self,
        backbone: str,
        backbone_arguments: dict[str, Any] | None = None,
        *,
        pooling: FramePooling = "avg",
        num_classes: int = 400,
        in_chans: int = 3,
        num_frames: int = 8,
        img_size: int = 224,
        drop_rate: float = 0.0,
    ) -> None:
        import timm  # takes seconds, and other families do without it

        super().__init__()
        self.in_chans, self.num_frames, self.img_size = in_chans, num_frames, img_size
        self.backbone = timm.create_model(
            backbone,
            num_classes=0,
            global_pool="",
            in_chans=in_chans,
            **(backbone_arguments or {}),
        )
        self.feature_info = [
            info | {"module": f"backbone.{info['module']}"} for info in self.backbone.feature_info
        ]
        self.stem_weights = ("backbone.conv1.weight",)
        self.num_features = self.backbone.num_features
        self.num_classes = num_classes
        self.pool = make_frame_pool(pooling, self.num_features)
        self.drop = nn.Dropout(drop_rate)
        self.head = make_classifier(self.num_features, num_classes)

    def forward_features(self, x: Tensor) -> Tensor:
        """Map clips (N, C, T, H, W) to the features of every frame, (N, D, T, H', W')."""
        self.check_input(x)
        frames = rearrange(x, "n c t h w -> (n t) c h w")
        maps = self.backbone.forward_features(frames)
        return rearrange(maps, "(n t) d h w -> n d t h w", t=x.shape[2])

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Pool features (N, D, T, H', W') over space, then time, and classify, (N, K)."""
        frames = x.mean(dim=(3, 4)).transpose(1, 2)  # (N, T, D)
        x = self.drop(self.pool(frames))  # (N, D)
        logits: Tensor = x if pre_logits else self.head(x)
        return logits

    def forward_intermediates(
        self,
        x: Tensor,
        indices: int | Sequence[int] | None = None,
        *,
        norm: bool = False,
        stop_early: bool = False,
        intermediates_only: bool = False,
    ) -> list[Tensor] | tuple[Tensor, list[Tensor]]:
        """See `VideoModel.forward_intermediates`."""
        self.check_input(x)
        frames = rearrange(x, "n c t h w -> (n t) c h w")
        final, levels = self.backbone.forward_intermediates(
            frames,
            indices=chosen_levels(indices, len(self.feature_info)),
            norm=norm,
            stop_early=stop_early,
        )
        clips = [
            rearrange(maps, "(n t) d h w -> n d t h w", t=x.shape[2]) for maps in (*levels, final)
        ]
        return clips[:-1] if intermediates_only else (clips[-1], clips[:-1])

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Pass the wish on to the image model."""
        self.backbone.set_grad_checkpointing(enable)

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """The image model's expressions, under its prefix."""
        groups = self.backbone.group_matcher(coarse=coarse)
        return {key: _under_backbone(value) for key, value in groups.items()}

    def no_weight_decay(self) -> set[str]:
        """What the image model asks to be left alone."""
        asked = self.backbone.no_weight_decay() if hasattr(self.backbone, "no_weight_decay") else ()
        return {f"backbone.{name}" for name in asked}


def _under_backbone(pattern: Any) -> Any:
    """An expression of timm's, or a list of them with suffixes, for keys under our prefix."""
    if isinstance(pattern, str):
        # `^` binds weaker than `|` in what timm writes: "^conv1|bn1" is meant to hold for both.
        return rf"^backbone\.(?:{pattern.replace('^', '')})"
    return [(_under_backbone(expression), suffix) for expression, suffix in pattern]


TIMM = KeyMap(
    (Rule("{part}", "backbone.{part}"),),
    dropped={"fc": "it names the classes of pictures"},
    new={
        "pool": "query at zero: the plain mean",
        "head": "normal with deviation 0.01, bias 0",
    },
)

_PAPER = Paper(
    title="Large-scale Video Classification with Convolutional Neural Networks",
    url="https://doi.org/10.1109/CVPR.2014.223",
    year=2014,
)
_SAMPLING = Sampling(
    rule="uniform",
    num_frames=8,
    frame_stride=1,
    fps=None,
    num_clips=1,
    num_crops=1,
    average="logits",
)
_PREPROCESS = Preprocess(
    img_size=224,
    resize=256,
    interpolation="bicubic",
    antialias=True,
    mean=(0.485, 0.456, 0.406),
    std=(0.229, 0.224, 0.225),
)
FRAMEPOOL_R18_IN1K = Weights(
    tag="in1k_inflated",
    source=ImageSource(library="timm", model="resnet18.a1_in1k", layout="timm", inflation=None),
    licence="Apache-2.0",
    data="ImageNet-1k (pictures)",
    num_classes=0,
    labels=None,
    sampling=_SAMPLING,
    preprocess=_PREPROCESS,
    note="A start for training: the classifier is new.",
)


@register_model(
    order="ignored",
    num_classes=7,
    sampling=_SAMPLING,
    preprocess=replace(_PREPROCESS, img_size=32, resize=32),
    layouts={"timm": TIMM},
)
def test_framepool(**kwargs: Any) -> FramePool:
    """FramePool over a narrow ResNet, for tests."""
    narrow = {"layers": (1, 1, 1, 1), "channels": (8, 8, 12, 16)}
    return FramePool("resnet18", narrow, **kwargs)


@register_model(
    order="ignored",
    paper=_PAPER,
    weights=(
        motion_weights(
            "framepool_nano",
            note=(
                "Shows what averaging over frames cannot see. No model that ignores the order of "
                "frames can be right on more than {ceiling} % of drawn clips, since each comes "
                "with its reverse. This one never left chance, 11.1 %, in training: it does not "
                "find even the axis of the motion in single frames."
            ),
        ),
    ),
)
def framepool_nano(**kwargs: Any) -> FramePool:
    """FramePool over a narrow ResNet, trained by this project to show what it cannot see."""
    narrow = {"layers": (1, 1, 1, 1), "channels": (16, 32, 64, 96)}
    return FramePool("resnet18", narrow, **kwargs)


@register_model(
    order="ignored",
    paper=_PAPER,
    num_classes=400,
    weights=(FRAMEPOOL_R18_IN1K,),
    layouts={"timm": TIMM},
)
def framepool_r18(**kwargs: Any) -> FramePool:
    """ResNet-18 on every frame, averaged over time."""
    return FramePool("resnet18", **kwargs)
