"""The last layer."""

from __future__ import annotations

from torch import nn

__all__ = ["make_classifier"]


def make_classifier(num_features: int, num_classes: int) -> nn.Module:
    """A linear layer with small random weights, or an identity for no classes.

    Raises:
        ValueError: `num_classes` is negative.
    """
    if num_classes < 0:
        raise ValueError(f"num_classes must be 0 or more, not {num_classes}.")
    if num_classes == 0:
        return nn.Identity()
    head = nn.Linear(num_features, num_classes)
    nn.init.normal_(head.weight, std=0.01)
    nn.init.zeros_(head.bias)
    return head
