"""What a model costs: its parameters, and the multiply-adds of one view."""

from __future__ import annotations

import torch
from torch.utils.flop_counter import FlopCounterMode

from zoo.models._base import VideoModel

__all__ = ["count"]


def count(model: VideoModel) -> tuple[int, float]:
    """Parameters of a module on the meta device, and 10^9 multiply-adds of one clip.

    Args:
        model: Built under `torch.device("meta")`, so that nothing is computed.
    """
    side = model.img_size
    with torch.device("meta"), torch.no_grad():
        clip = torch.empty(1, model.in_chans, model.num_frames, side, side)
        if model.reads_class_names:
            model(clip)  # names are encoded once for all clips, which is no cost of a view
        with FlopCounterMode(display=False) as counter:
            model(clip)
    params = sum(parameter.numel() for parameter in model.parameters())
    # torch counts a multiply-add as two operations, papers as one.
    return params, round(counter.get_total_flops() / 2e9, 3)
