"""What convolutional families share: a chain of stages behind one another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from zoo.models._base import VideoModel, chosen_levels, run

__all__ = ["StagedModel"]


class StagedModel(VideoModel):
    """A convolutional family: a chain of stages, global average pooling, dropout, classifier.

    A subclass sets its modules and names them, in order, in `feature_info`.
    """

    drop: nn.Dropout
    grad_checkpointing: bool = False

    def _stages(self) -> list[nn.Module]:
        return [self.get_submodule(info["module"]) for info in self.feature_info]

    def forward_features(self, x: Tensor) -> Tensor:
        """Map clips (N, C, T, H, W) to features (N, D, T', H', W')."""
        self.check_input(x)
        for stage in self._stages():
            x = run(stage, x, checkpointed=self.grad_checkpointing)
        return x

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Average features (N, D, T', H', W') to (N, D) and classify them, (N, K)."""
        x = self.drop(x.mean(dim=(2, 3, 4)))  # (N, D)
        logits: Tensor = x if pre_logits else self.get_classifier()(x)
        return logits

    def forward_intermediates(
        self,
        x: Tensor,
        indices: int | Sequence[int] | None = None,
        *,
        norm: bool = False,  # noqa: ARG002 -- these families end without a normalisation
        stop_early: bool = False,
        intermediates_only: bool = False,
    ) -> list[Tensor] | tuple[Tensor, list[Tensor]]:
        """See `VideoModel.forward_intermediates`."""
        self.check_input(x)
        stages = self._stages()
        levels = chosen_levels(indices, len(stages))
        if stop_early:
            stages = stages[: levels[-1] + 1]
        found = []
        for level, stage in enumerate(stages):
            x = run(stage, x, checkpointed=self.grad_checkpointing)
            if level in levels:
                found.append(x)
        return found if intermediates_only else (x, found)

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recompute each stage in the backward pass instead of keeping its activations."""
        self.grad_checkpointing = enable

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """Regular expressions for a stem and stages named `layer1`, `layer2` and on."""
        return {
            "stem": r"^(?:stem|conv1|bn1)",
            "blocks": r"^layer(\d+)" if coarse else r"^layer(\d+)\.(\d+)",
        }
