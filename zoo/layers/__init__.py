"""Layers that several families share."""

from zoo.layers.attention import (
    Attention,
    Mlp,
    biased_attention,
    channels_last_maps,
    split_heads,
)
from zoo.layers.classifier import make_classifier
from zoo.layers.conv import (
    Conv2Plus1D,
    Conv3d,
    GuardedConv3d,
    InflatedConv3d,
    TemporalPadding,
    middle_channels,
    padding_spoils_gradient,
)
from zoo.layers.drop_path import DropPath
from zoo.layers.frame_pool import AttentionFramePool, FramePooling, make_frame_pool
from zoo.layers.patches import PatchConv2d, PatchConv3d
from zoo.layers.same_padding import pad_space, same_padding
from zoo.layers.squeeze_excite import SqueezeExcite, divisible
from zoo.layers.streaming import (
    Stream,
    StreamState,
    frame_counts,
    position_encoding,
    running_mean,
)
from zoo.layers.temporal_shift import ShiftFill, TemporalShift

__all__ = [
    "Attention",
    "AttentionFramePool",
    "Conv2Plus1D",
    "Conv3d",
    "DropPath",
    "FramePooling",
    "GuardedConv3d",
    "InflatedConv3d",
    "Mlp",
    "PatchConv2d",
    "PatchConv3d",
    "ShiftFill",
    "SqueezeExcite",
    "Stream",
    "StreamState",
    "TemporalPadding",
    "TemporalShift",
    "biased_attention",
    "channels_last_maps",
    "divisible",
    "frame_counts",
    "make_classifier",
    "make_frame_pool",
    "middle_channels",
    "pad_space",
    "padding_spoils_gradient",
    "position_encoding",
    "running_mean",
    "same_padding",
    "split_heads",
]
