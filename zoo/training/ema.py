"""The moving average of a model's weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

__all__ = ["MovingAverage"]


class MovingAverage:
    """Keeps an exponential moving average of everything in a model's state dict.

    Early on it follows faster, with a decay of at most (1 + steps) / (10 + steps), so that it
    does not remember the random head for long.

    Args:
        model: Whose weights; read anew at each update.
        decay: Part of the average that stays at each step.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self._model, self._decay = model, decay
        self.state = {key: value.detach().clone() for key, value in model.state_dict().items()}

    @torch.no_grad()
    def update(self, steps: int) -> None:
        """Move towards the model's weights.

        Args:
            steps: Steps of the optimiser done, this one included.
        """
        decay = min(self._decay, (1 + steps) / (10 + steps))
        for key, value in self._model.state_dict().items():
            if value.is_floating_point():
                self.state[key].lerp_(value, 1.0 - decay)
            else:  # a count of batches has no average
                self.state[key].copy_(value)

    @torch.no_grad()
    def load(self, state: Mapping[str, Tensor]) -> None:
        """Put back what `state` was."""
        for key, value in self.state.items():
            value.copy_(state[key])

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Lend the average to the model, and give the model its own weights back at the end."""
        own = {key: value.detach().clone() for key, value in self._model.state_dict().items()}
        self._model.load_state_dict(self.state)
        try:
            yield
        finally:
            self._model.load_state_dict(own)
