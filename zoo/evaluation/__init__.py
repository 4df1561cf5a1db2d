"""How good a model is on a data set, and its features for videos."""

from zoo.evaluation.embedding import Embedded, embed
from zoo.evaluation.evaluation import evaluate
from zoo.evaluation.metrics import Accuracy, clip_accuracy, video_accuracy
from zoo.evaluation.results import EvaluationReport, VideoResult

__all__ = [
    "Accuracy",
    "Embedded",
    "EvaluationReport",
    "VideoResult",
    "clip_accuracy",
    "embed",
    "evaluate",
    "video_accuracy",
]
