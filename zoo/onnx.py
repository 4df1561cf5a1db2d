"""A model as an ONNX file, for runtimes without torch."""

from __future__ import annotations

import logging
import warnings
from importlib.util import find_spec
from pathlib import Path

import torch

from zoo.models._base import VideoModel

__all__ = ["write_onnx"]


def write_onnx(model: VideoModel, path: Path) -> None:
    """Write a model in eval mode as an ONNX program with a dynamic batch.

    Its input is `clip`, float32 (N, C, T, H, W) at the frames and size that the model was built
    for, its output `logits`, (N, K). Weights lie beside the program in `PATH.data`.

    Args:
        model: A model that `zoo.create` made; left as it is.
        path: Name of the file; its folder is made.

    Raises:
        ImportError: The packages onnx and onnxscript are missing.
    """
    if find_spec("onnx") is None or find_spec("onnxscript") is None:
        raise ImportError(
            "Writing ONNX needs the packages onnx and onnxscript; install them with "
            "pip install 'videozoo[onnx]'."
        )
    side = model.img_size
    # Of two clips: torch.export takes a batch of one for a constant.
    clip = torch.zeros(2, model.in_chans, model.num_frames, side, side)  # (N, C, T, H, W)
    path.parent.mkdir(parents=True, exist_ok=True)
    logger = logging.getLogger("torch.onnx")
    level, training = logger.level, model.training
    logger.setLevel(logging.ERROR)  # it reports each step as if something were wrong
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the exporter's own use of torch
            torch.onnx.export(
                model.eval(),
                (clip,),
                path,
                dynamo=True,
                input_names=["clip"],
                output_names=["logits"],
                dynamic_shapes=({0: torch.export.Dim("batch")},),
                verbose=False,
            )
    finally:
        logger.setLevel(level)
        model.train(training)
