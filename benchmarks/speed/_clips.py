"""Which clips the forward and the training step are measured at.

A model is measured at its record's own frames and size, where a forward pass is of less than some
80 10^9 multiply-adds, about a second on two cores; else at the clip that is given here, the same
for both sides, so that the whole table takes less than half an hour. Training takes three times as
long and keeps every activation, so that more models get a smaller clip there. Where a peer cannot
be built for another clip, the clip is the smallest that it takes. transformers makes VideoMAE's
table of positions for the clip; so does ours, where `native_size` says so.
"""

from __future__ import annotations

import gc
import traceback
from collections.abc import Callable, Container, Mapping, Sequence

from _measure import Row, tell

from zoo.benchmarking.peers import PEERS

FORWARD: dict[str, dict[str, int]] = {
    "csn_r101": {"img_size": 224},
    "hiera_b": {"img_size": 128},
    "hiera_b_plus": {"img_size": 128},
    "hiera_h": {"num_frames": 4, "img_size": 128},
    "hiera_l": {"num_frames": 8, "img_size": 128},
    "r2plus1d_r50": {"img_size": 224},
    "s3d": {"num_frames": 32},
    "slowfast_16x8_r101_50_50": {"img_size": 224},
    "slowfast_r101": {"img_size": 224},
    "swin3d_b": {"num_frames": 8},
    "swin3d_s": {"num_frames": 8},
    "swin3d_t": {"num_frames": 16},
    "timesformer_divided": {"img_size": 112},
    "timesformer_divided_hr": {"num_frames": 2, "img_size": 224},
    "timesformer_divided_l": {"num_frames": 24, "img_size": 64},
    "timesformer_joint": {"img_size": 112},
    "videomae_b": {"img_size": 112, "native_size": 112},
    "videomae_h": {"img_size": 64, "native_size": 64},
    "videomae_l": {"img_size": 64, "native_size": 64},
    "videomae_v2_b": {"img_size": 112, "native_size": 112},
    "videomae_v2_g": {"img_size": 56, "native_size": 56},
    "vivit_b": {"img_size": 112},
    "vjepa2_g": {"num_frames": 8, "img_size": 64},
    "vjepa2_h": {"num_frames": 8, "img_size": 64},
    "vjepa2_l": {"num_frames": 16, "img_size": 64},
    "xclip_b16": {"img_size": 112},
    "xclip_l14": {"img_size": 84},
}
TRAINING: dict[str, dict[str, int]] = FORWARD | {
    "hiera_b": {"num_frames": 8, "img_size": 128},
    "hiera_b_plus": {"num_frames": 8, "img_size": 128},
    "hiera_l": {"num_frames": 4, "img_size": 128},
    "s3d": {"num_frames": 16},
    "slow_r50": {"img_size": 224},
    "slowfast_r50": {"img_size": 224},
    "swin3d_t": {"num_frames": 8},
    "timesformer_divided_hr": {"num_frames": 4, "img_size": 112},
    "videomae_s": {"img_size": 112, "native_size": 112},
    "videomae_v2_s": {"img_size": 112, "native_size": 112},
    "vivit_b": {"img_size": 64},
    "vjepa2_l": {"num_frames": 8, "img_size": 64},
}
TOO_LARGE = {
    "hiera_h": "hiera_l",
    "videomae_h": "videomae_l",
    "videomae_v2_g": "videomae_l",
    "vjepa2_g": "vjepa2_l",
    "vjepa2_h": "vjepa2_l",
    "xclip_l14": "xclip_b16",
}
"""Models of more than 500 million parameters, with the smaller one of the same blocks that stands
for them: to build both sides and their copies alone takes a minute and up to 16 GB. They are
measured where they are named: `forward.py hiera_h`."""

NOT_TRAINED = TOO_LARGE | {
    "efficient_x3d_s": "efficient_x3d_xs",
    "hiera_b_plus": "hiera_b",
    "hiera_h": "hiera_b",
    "hiera_l": "hiera_b",
    "slowfast_16x8_r101_50_50": "slowfast_r50",
    "slowfast_4x16_r50": "slowfast_r50",
    "slowfast_r101": "slowfast_r50",
    "swin3d_b": "swin3d_t",
    "swin3d_s": "swin3d_t",
    "timesformer_divided_hr": "timesformer_divided",
    "timesformer_divided_l": "timesformer_divided",
    "videomae_h": "videomae_b",
    "videomae_l": "videomae_b",
    "videomae_v2_b": "videomae_b",
    "videomae_v2_g": "videomae_b",
    "videomae_v2_s": "videomae_s",
    "x3d_l": "x3d_m",
    "xclip_b16": "xclip_b32",
    "xclip_l14": "xclip_b32",
}
"""Likewise for training, where a step takes three times as long: one size of each kind of block."""

_NAMES_ONCE = "; the names' features are kept by ours, the peer makes those of its 16 at every clip"
NOTES = {"xclip_b16": _NAMES_ONCE, "xclip_b32": _NAMES_ONCE, "xclip_l14": _NAMES_ONCE}
"""What else the row of a forward pass must say."""


def left_out(models: Mapping[str, str]) -> str:
    """The note that tells which models a mean is without."""
    told = ", ".join(f"{name} (as {other})" for name, other in models.items())
    return f"without what is too large to measure in minutes and made of the same blocks: {told}"


def number_left_out(models: Container[str]) -> int:
    """How many comparisons are left out with these models."""
    return sum(name in models for recipes in PEERS.values() for name in recipes)


def measure_all(
    measure: Callable[[str, str], Sequence[Row]], names: Sequence[str], *, but: Container[str] = ()
) -> tuple[list[Row], list[str]]:
    """The rows of every architecture with each library that has it.

    Args:
        measure: Gives the rows of a library's name and an architecture's.
        names: Only these architectures; all where there are none.
        but: Architectures that are left out where none are named.

    Returns:
        The rows, and what could not be measured, which does not keep the others from it.
    """
    rows, failed = [], []
    for library, recipes in PEERS.items():
        for name in recipes:
            if name not in names if names else name in but:
                continue
            try:
                rows += measure(library, name)
            except Exception:  # noqa: BLE001 -- half an hour of other models is not thrown away
                failed.append(f"{library} {name}")
                tell(f"{library} {name}: {traceback.format_exc()}")
            gc.collect()  # the modules of both sides, before the next ones are built
    return rows, failed
