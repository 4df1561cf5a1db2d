"""Layers that several families share."""

from zoo.layers.attention import Attention, Mlp
from zoo.layers.classifier import make_classifier
from zoo.layers.conv import Conv2Plus1D, InflatedConv3d, TemporalPadding, middle_channels
from zoo.layers.drop_path import DropPath
from zoo.layers.frame_pool import AttentionFramePool, FramePooling, make_frame_pool
from zoo.layers.temporal_shift import ShiftFill, TemporalShift

__all__ = [
    "Attention",
    "AttentionFramePool",
    "Conv2Plus1D",
    "DropPath",
    "FramePooling",
    "InflatedConv3d",
    "Mlp",
    "ShiftFill",
    "TemporalPadding",
    "TemporalShift",
    "make_classifier",
    "make_frame_pool",
    "middle_channels",
]
