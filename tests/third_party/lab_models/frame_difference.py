"""FrameDifference: a 2D network on the differences of neighbouring frames."""

from typing import Any

from torch import Tensor, nn

from registry import Preprocess, Sampling
from zoo import register_model
from zoo.models._base import make_classifier
from zoo.models._staged import StagedModel

__all__ = ["FrameDifference", "frame_difference_r2"]


class Difference(nn.Module):
    """Subtract from each frame the one before it."""

    def forward(self, x: Tensor) -> Tensor:
        """Map clips (N, C, T, H, W) to differences (N, C, T - 1, H, W)."""
        return x[:, :, 1:] - x[:, :, :-1]


class FrameDifference(StagedModel):
    """Two strided convolutions on differences of frames.

    Args:
        width: Channels of the first stage; the second has twice as many.
        num_classes: Classes K; 0 returns the pooled features.
        in_chans: Input channels C.
        num_frames: Frames that `load_clip` delivers; `forward` takes two or more.
        img_size: Side of the pictures that `load_clip` delivers; `forward` takes any.
    """

    def __init__(
        self,
        *,
        width: int = 4,
        num_classes: int = 5,
        in_chans: int = 3,
        num_frames: int = 4,
        img_size: int = 16,
    ) -> None:
        super().__init__()
        self.in_chans, self.num_frames, self.img_size = in_chans, num_frames, img_size
        self.num_classes, self.num_features = num_classes, 2 * width
        kernel: dict[str, Any] = {"kernel_size": (1, 3, 3), "stride": (1, 2, 2)}
        self.stem = nn.Sequential(Difference(), nn.Conv3d(in_chans, width, **kernel), nn.ReLU())
        self.layer1 = nn.Sequential(nn.Conv3d(width, 2 * width, **kernel), nn.ReLU())
        self.drop = nn.Dropout(0.0)
        self.head = make_classifier(self.num_features, num_classes)
        self.stem_weights = ("stem.1.weight",)
        self.feature_info = [
            {"num_chs": width, "reduction": 2, "module": "stem"},
            {"num_chs": 2 * width, "reduction": 4, "module": "layer1"},
        ]


@register_model(
    order="used",
    num_classes=5,
    sampling=Sampling(
        rule="uniform",
        num_frames=4,
        frame_stride=1,
        fps=None,
        num_clips=1,
        num_crops=1,
        average="logits",
    ),
    preprocess=Preprocess(
        img_size=16,
        resize=16,
        interpolation="bilinear",
        antialias=True,
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
    ),
)
def frame_difference_r2(**kwargs: Any) -> FrameDifference:
    """Two convolutions on differences of frames, from another package."""
    return FrameDifference(**kwargs)
