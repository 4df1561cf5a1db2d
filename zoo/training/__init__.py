"""Training: fine-tuning on labels, pre-training without, resumable, on any number of processes."""

from typing import TYPE_CHECKING

from registry.lazy import lazy_names

if TYPE_CHECKING:
    from zoo.training.finetuning import classifier_for, train
    from zoo.training.folders import TrainResult
    from zoo.training.pretraining import autoencoder_for, pretrain
    from zoo.training.recipe import PretrainRecipe, TrainRecipe
    from zoo.training.stopping import TrainingInterruptedError, TrainingStoppedError

__all__ = [
    "PretrainRecipe",
    "TrainRecipe",
    "TrainResult",
    "TrainingInterruptedError",
    "TrainingStoppedError",
    "autoencoder_for",
    "classifier_for",
    "pretrain",
    "train",
]

# The command line reads the recipes' defaults, and must not wait for torch.
__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "zoo.training.finetuning": ("classifier_for", "train"),
        "zoo.training.folders": ("TrainResult",),
        "zoo.training.pretraining": ("autoencoder_for", "pretrain"),
        "zoo.training.recipe": ("PretrainRecipe", "TrainRecipe"),
        "zoo.training.stopping": ("TrainingInterruptedError", "TrainingStoppedError"),
    },
)
