"""Data sets to train and test video models on."""

from zoo.datasets.ava import AVA
from zoo.datasets.class_folders import ClassFolders
from zoo.datasets.csv_list import CsvList
from zoo.datasets.hmdb51 import HMDB51
from zoo.datasets.kinetics import Kinetics
from zoo.datasets.motion import DIRECTIONS, LABELS, OPPOSITE, ORDER_BLIND_CEILING, MotionClips
from zoo.datasets.moving_balls import LESSON_DIRECTIONS, MovingBalls, ReversedPairs
from zoo.datasets.opening import open_dataset
from zoo.datasets.something_something import SomethingSomething
from zoo.datasets.sources import PersonBox, VideoDataset, VideoItem
from zoo.datasets.ucf101 import UCF101
from zoo.datasets.video_files import VideoFiles

__all__ = [
    "AVA",
    "DIRECTIONS",
    "HMDB51",
    "LABELS",
    "LESSON_DIRECTIONS",
    "OPPOSITE",
    "ORDER_BLIND_CEILING",
    "UCF101",
    "ClassFolders",
    "CsvList",
    "Kinetics",
    "MotionClips",
    "MovingBalls",
    "PersonBox",
    "ReversedPairs",
    "SomethingSomething",
    "VideoDataset",
    "VideoFiles",
    "VideoItem",
    "open_dataset",
]
