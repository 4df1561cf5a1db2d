"""Data sets to train and test video models on."""

from zoo.datasets.motion import DIRECTIONS, LABELS, OPPOSITE, ORDER_BLIND_CEILING, MotionClips

__all__ = ["DIRECTIONS", "LABELS", "OPPOSITE", "ORDER_BLIND_CEILING", "MotionClips"]
