"""Training transforms on whole clips: every choice is made once for a clip, never per frame.

In this order, which is that of torchvision's training presets: random resized crop, flip,
RandAugment, random erasing; then mixup or cutmix on the batch. Erasing fills its box with pixels,
so normalisation comes after it, where the presets erase normalised values. SlowFast and VideoMAE
apply RandAugment before the crop, at the size of the camera, which costs more and differs only in
what the crop then leaves of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from einops import rearrange
from torch import Tensor
from torch.nn.functional import one_hot

from registry.records import Preprocess
from zoo.preprocessing import crops

__all__ = ["Augmentation", "augment", "mix", "seed_of"]

MAGNITUDES = 31
"""RandAugment's scale of strengths, 0 to 30, as its authors and torchvision count."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Augmentation:
    """What training clips go through.

    Attributes:
        crop_scale: Smallest and largest part of the frame's area that the random resized crop
            shows (Inception, arXiv:1409.4842); None for the weights' own resize and centre crop.
        crop_ratio: Narrowest and widest width / height of that part.
        flip: Probability of a flip from left to right. The data set says which videos may be
            flipped, and what their labels then are.
        rand_augment_ops: Operations of RandAugment (arXiv:1909.13719) in a row; 0 for none.
        rand_augment_magnitude: Their strength, 0 to 30.
        erasing: Probability of random erasing (arXiv:1708.04896): one box, the same in every
            frame, is filled with the same noise in each.
        erasing_scale: Smallest and largest part of the frame's area that is erased.
        erasing_ratio: Narrowest and widest height / width of the box.
        mixup: Parameter alpha of mixup (arXiv:1710.09412); 0 for none. Where cutmix is on too,
            each batch gets either, with equal chances.
        cutmix: Parameter alpha of cutmix (arXiv:1905.04899), its box the same in every frame; 0
            for none.
    """

    crop_scale: tuple[float, float] | None = (0.25, 1.0)
    crop_ratio: tuple[float, float] = (3 / 4, 4 / 3)
    flip: float = 0.5
    rand_augment_ops: int = 2
    rand_augment_magnitude: int = 9
    erasing: float = 0.25
    erasing_scale: tuple[float, float] = (0.02, 1 / 3)
    erasing_ratio: tuple[float, float] = (0.3, 10 / 3)
    mixup: float = 0.0
    cutmix: float = 0.0

    def __post_init__(self) -> None:
        """Refuse values that no clip can be changed by."""
        for name in ("flip", "erasing"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is a probability, 0 to 1, not {getattr(self, name)!r}.")
        for name in ("mixup", "cutmix"):
            if not getattr(self, name) >= 0:
                raise ValueError(
                    f"{name} is 0 (none) or an alpha above, not {getattr(self, name)!r}."
                )
        for name in ("crop_scale", "erasing_scale"):
            pair = getattr(self, name)
            if pair is not None and not 0 < pair[0] <= pair[1] <= 1:
                raise ValueError(f"{name} is (least, most) of the area, up to 1, not {pair!r}.")
        for name in ("crop_ratio", "erasing_ratio"):
            pair = getattr(self, name)
            if not 0 < pair[0] <= pair[1]:
                raise ValueError(f"{name} is (least, most), above 0, not {pair!r}.")
        if not (isinstance(self.rand_augment_ops, int) and self.rand_augment_ops >= 0):
            raise ValueError(
                f"rand_augment_ops is 0 (none) or more, not {self.rand_augment_ops!r}."
            )
        if self.rand_augment_magnitude not in range(MAGNITUDES):
            raise ValueError(
                f"rand_augment_magnitude is a whole number, 0 to {MAGNITUDES - 1}, not "
                f"{self.rand_augment_magnitude!r}."
            )

    @classmethod
    def none(cls) -> Augmentation:
        """Nothing but the weights' own resize and centre crop."""
        return cls(crop_scale=None, flip=0.0, rand_augment_ops=0, erasing=0.0)


def augment(
    frames: Tensor, augmentation: Augmentation, recipe: Preprocess, *, seed: int, may_flip: bool
) -> tuple[Tensor, bool]:
    """Change one decoded clip at random, the same way in all of its frames.

    Of RandAugment's operations AutoContrast, Equalize and Contrast are scaled by the statistics
    of each frame, as in every public implementation.

    Args:
        frames: Decoded clip, uint8 (T, H, W, C), RGB.
        augmentation: What to do.
        recipe: For the size and the filter of the crop.
        seed: Decides every choice; torch's own random state is left alone.
        may_flip: Whether this video may be flipped from left to right.

    Returns:
        The clip, uint8 (T, S, S, C), S = `recipe.img_size`, and whether it was flipped.
    """
    from torchvision.transforms import v2
    from torchvision.transforms.v2 import functional as F

    with _seeded(seed):
        if augmentation.crop_scale is None:
            clip = rearrange(crops(frames, recipe)[0], "t h w c -> t c h w")
        else:
            crop = v2.RandomResizedCrop(
                recipe.img_size,
                scale=augmentation.crop_scale,
                ratio=augmentation.crop_ratio,
                interpolation=v2.InterpolationMode(recipe.interpolation),
                antialias=recipe.antialias,
            )
            clip = crop(rearrange(frames, "t h w c -> t c h w"))
        # drawn whether it may be used or not: the label must not change the other choices
        flipped = bool(torch.rand(()) < augmentation.flip) and may_flip
        if flipped:
            clip = F.horizontal_flip(clip)
        if augmentation.rand_augment_ops:
            randomly = v2.RandAugment(
                augmentation.rand_augment_ops,
                augmentation.rand_augment_magnitude,
                MAGNITUDES,
                interpolation=v2.InterpolationMode.BILINEAR,
                fill=128,
            )
            clip = randomly(clip)
        if torch.rand(()) < augmentation.erasing:
            clip = _erased(clip, augmentation)
    return rearrange(clip, "t c h w -> t h w c"), flipped


def _erased(clip: Tensor, augmentation: Augmentation) -> Tensor:
    """Fill a box with noise, the same in every frame: uint8 (T, C, H, W)."""
    from torchvision.transforms import v2
    from torchvision.transforms.v2 import functional as F

    box = v2.RandomErasing(
        p=1.0, scale=augmentation.erasing_scale, ratio=augmentation.erasing_ratio
    ).make_params([clip])
    if box["v"] is None:  # ten boxes were drawn, and none fits into the frame
        return clip
    # torchvision's own noise is for normalised pixels; the paper's is uniform over 0 to 255
    noise = torch.randint(0, 256, (clip.shape[1], box["h"], box["w"]), dtype=torch.uint8)
    return F.erase(clip, box["i"], box["j"], box["h"], box["w"], noise)


def mix(
    clips: Tensor, labels: Tensor, augmentation: Augmentation, *, num_classes: int, seed: int
) -> tuple[Tensor, Tensor]:
    """Mix each clip of a batch with the one before it, by mixup or cutmix.

    Args:
        clips: Model inputs, (N, C, T, H, W).
        labels: Class indices, (N,).
        augmentation: Whether and how to mix.
        num_classes: Classes K.
        seed: Decides every choice; torch's own random state is left alone.

    Returns:
        The clips, (N, C, T, H, W), and the share of every class in them, float (N, K).

    Raises:
        ValueError: A label is not one of the classes.
    """
    from torchvision import tv_tensors
    from torchvision.transforms import v2

    if labels.numel() and not 0 <= int(labels.min()) <= int(labels.max()) < num_classes:
        raise ValueError(
            f"Labels from {int(labels.min())} to {int(labels.max())} are given for {num_classes} "
            f"classes; mixing needs a label from 0 to {num_classes - 1} for every clip."
        )
    choices = [
        (kind, alpha)
        for kind, alpha in ((v2.MixUp, augmentation.mixup), (v2.CutMix, augmentation.cutmix))
        if alpha > 0
    ]
    if not choices:
        return clips, one_hot(labels, num_classes).float()
    with _seeded(seed):
        kind, alpha = choices[int(torch.randint(len(choices), ()))]
        # both look at the last two axes only, so the order of C and T does not matter
        mixed, targets = kind(alpha=alpha, num_classes=num_classes)(tv_tensors.Video(clips), labels)
    return mixed.as_subclass(Tensor), targets


def seed_of(*numbers: int) -> int:
    """One seed, 0 to 2**63 - 1, for numbers of 0 or more, such as seed, epoch and index."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> 1)


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Let torch draw from a seed, and put its random state back afterwards."""
    with torch.random.fork_rng(devices=()):
        # torch.manual_seed would reset the generators of every GPU too
        torch.default_generator.manual_seed(seed)
        yield
