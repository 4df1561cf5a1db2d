"""The contract that every model of the zoo keeps."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from zoo.layers import make_classifier

if TYPE_CHECKING:
    from zoo.config import ModelConfig

__all__ = ["VideoModel", "chosen_levels", "run"]

Flow = TypeVar("Flow", Tensor, tuple[Tensor, Tensor])


class VideoModel(nn.Module, ABC):
    """A network from clips to logits, with timm's methods.

    Attributes:
        num_classes: Outputs; 0 makes `forward` return the pooled features.
        num_features: Width of the pooled features.
        in_chans: Channels of the input.
        num_frames: Frames that `load_clip` delivers; required where the shapes depend on it.
        img_size: Side of the pictures that `load_clip` delivers, likewise.
        feature_info: For each level of `forward_intermediates` its `num_chs`, spatial `reduction`
            and `module`.
        record: What `zoo.create` resolved; None for a module built by hand.
        classifier_name: Attribute that holds the last layer.
        stem_weights: Keys of the kernels that read the input channels.
        num_prefix_tokens: Rows P before the patches in what a token family's `forward_features`
            returns.
        fixed_input: Whether other numbers of frames and sizes than the authors' are refused.
        pretraining_weights: What the names of parameters begin with that `forward` does not
            reach, because only pre-training uses them.
        reads_class_names: Whether the classifier is made of the classes' names.
    """

    num_classes: int
    num_features: int
    in_chans: int
    num_frames: int
    img_size: int
    feature_info: list[dict[str, Any]]
    classifier_name: str = "head"
    stem_weights: tuple[str, ...]
    num_prefix_tokens: int = 0
    fixed_input: bool = False
    pretraining_weights: tuple[str, ...] = ()
    reads_class_names: bool = False
    record: ModelConfig | None = None

    def forward(self, x: Tensor) -> Tensor:
        """Map clips (N, C, T, H, W) to logits (N, K)."""
        return self.forward_head(self.forward_features(x))

    @abstractmethod
    def forward_features(self, x: Tensor) -> Tensor:
        """Map clips (N, C, T, H, W) to unpooled features."""

    @abstractmethod
    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Pool what `forward_features` returns, (N, D), and classify it, (N, K)."""

    @abstractmethod
    def forward_intermediates(
        self,
        x: Tensor,
        indices: int | Sequence[int] | None = None,
        *,
        norm: bool = False,
        stop_early: bool = False,
        intermediates_only: bool = False,
    ) -> list[Tensor] | tuple[Tensor, list[Tensor]]:
        """The features of chosen levels, each (N, D, T', H', W').

        Args:
            x: Clips, (N, C, T, H, W).
            indices: Levels of `feature_info`; an int n takes the last n, None takes all.
            norm: Whether the model's final normalisation, if it has one, is applied to each.
            stop_early: Whether levels after the last chosen one are left uncomputed; what is
                returned as final features are then those of that level.
            intermediates_only: Whether to leave out the final features.

        Returns:
            The levels, after the result of `forward_features` unless only they are asked for.
        """

    @abstractmethod
    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recompute activations in the backward pass instead of keeping them."""

    @abstractmethod
    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """Regular expressions that sort parameters by depth, as timm's layer decay reads them."""

    def no_weight_decay(self) -> set[str]:
        """Parameters that weight decay must not touch, beyond one-dimensional ones."""
        return set()

    def get_classifier(self) -> nn.Module:
        """The last layer; an identity where there are no classes."""
        classifier = getattr(self, self.classifier_name)
        assert isinstance(classifier, nn.Module)
        return classifier

    def reset_classifier(self, num_classes: int) -> None:
        """Replace the last layer by a new one.

        Args:
            num_classes: Outputs; 0 for none.
        """
        old = next(self.parameters())
        head = make_classifier(self.num_features, num_classes)
        setattr(self, self.classifier_name, head.to(device=old.device, dtype=old.dtype))
        self.num_classes = num_classes
        if self.record is not None:
            self.record = self.record.with_classes(num_classes, labels=None)

    def set_class_names(self, names: Sequence[str]) -> None:
        """Say what the classes are called, in index order; a model that reads names reads them.

        Args:
            names: One a class; a model that reads names takes any number of them.

        Raises:
            ValueError: There are more or fewer names than classes.
        """
        if len(names) != self.num_classes:
            raise ValueError(f"There are {len(names)} names for {self.num_classes} classes.")
        if self.record is not None:
            self.record = self.record.with_classes(len(names), labels=tuple(names))

    def infer_arguments(self, state: Mapping[str, Tensor]) -> dict[str, int]:
        """The builder arguments that tensors at this model's keys were made with.

        Args:
            state: Tensors by this model's keys, at any sizes.

        Returns:
            `num_classes` and `in_chans`, and what else a family can read off its shapes.
        """
        found = {"in_chans": state[self.stem_weights[0]].shape[1]}
        classifier = state.get(f"{self.classifier_name}.weight")
        return found if classifier is None else {**found, "num_classes": classifier.shape[0]}

    def resize_positions(self, state: dict[str, Tensor], *, trained: ModelConfig) -> None:
        """Resample in place the position tables of weights trained at another T or size.

        Families without such tables have nothing to do.

        Args:
            state: Tensors by this model's keys.
            trained: The recipe of the weights.
        """

    def check_input(self, x: Tensor) -> None:
        """Refuse what is no clip for this model, saying which call mends it.

        Only rank, channels and dtype are looked at, so that the model stays exportable.

        Raises:
            ValueError: The tensor is not float (N, C, T, H, W).
        """
        want = f"float (N, C={self.in_chans}, T, H, W)"
        if not isinstance(x, Tensor):
            raise ValueError(f"Expected clips {want}, got a {type(x).__name__}.")
        shape = tuple(x.shape)
        if x.ndim == 4:
            raise ValueError(
                f"Expected clips {want}, got {shape}; add the batch axis with x.unsqueeze(0), or "
                f"the time axis with x.unsqueeze(2) if these are pictures."
            )
        if x.ndim != 5:
            raise ValueError(f"Expected clips {want}, got {shape}; zoo.load_clip makes them.")
        if x.shape[1] != self.in_chans:
            mend = f"zoo.create(..., in_chans={x.shape[1]}) builds a model for them"
            if x.shape[2] == self.in_chans:
                mend = f"if this is (N, T, C, H, W), call x.transpose(1, 2), else {mend}"
            elif x.shape[4] == self.in_chans:
                mend = f"if this is (N, T, H, W, C), call x.permute(0, 4, 1, 2, 3), else {mend}"
            raise ValueError(f"Expected clips {want}, got {shape}; {mend}.")
        if 0 in shape[2:]:
            raise ValueError(
                f"Expected clips {want}, got {shape}, which holds no frames or pixels."
            )
        if not x.is_floating_point():
            raise ValueError(
                f"Expected clips {want}, got {x.dtype}; zoo.load_clip or zoo.preprocess makes "
                f"normalised floats of pixels."
            )


def chosen_levels(indices: int | Sequence[int] | None, count: int) -> list[int]:
    """The levels that `forward_intermediates` is asked for, sorted.

    Raises:
        ValueError: A level does not exist.
    """
    wanted = (
        range(count)
        if indices is None
        else range(count)[-indices:]
        if isinstance(indices, int) and 0 < indices <= count
        else indices
    )
    if isinstance(wanted, int) or any(not -count <= index < count for index in wanted):
        raise ValueError(f"indices={indices!r} names levels outside the {count} that there are.")
    if not wanted:
        raise ValueError(f"indices={indices!r} names no level; give some of the {count}.")
    return sorted({index % count for index in wanted})


@contextmanager
def _statistics_kept(module: nn.Module) -> Iterator[None]:
    """Let no BatchNorm count the clips that a recomputation shows it a second time."""
    kinds = (nn.BatchNorm2d, nn.BatchNorm3d)
    norms = [m for m in module.modules() if isinstance(m, kinds) and m.training]
    kept = [norm.momentum for norm in norms]
    counts = [n.num_batches_tracked for n in norms if n.num_batches_tracked is not None]
    for norm in norms:
        norm.momentum = 0.0  # the update is computed, as in the first pass, and adds nothing
    try:
        yield
    finally:
        for norm, momentum in zip(norms, kept, strict=True):
            norm.momentum = momentum
        for count in counts:
            count.sub_(1)


def run(module: nn.Module, x: Flow, *more: Tensor, checkpointed: bool) -> Flow:
    """Call a module, keeping no activations of it if checkpointed and gradients are on.

    Args:
        module: Gives what it takes: a tensor, or a tuple of them where there are pathways.
        x: Its input.
        *more: What else it takes.
        checkpointed: Whether to compute it once more in the backward pass.
    """
    if checkpointed and torch.is_grad_enabled():
        out: Flow = checkpoint(
            module,
            x,
            *more,
            use_reentrant=False,
            context_fn=lambda: (nullcontext(), _statistics_kept(module)),
        )
        return out
    result: Flow = module(x, *more)
    return result
