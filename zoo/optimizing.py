"""`optimize`: an inference copy of a model, with the same logits sooner."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Sequence
from functools import cache
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn

from zoo.folding import fold_batch_norms
from zoo.layers import StreamState
from zoo.layers.conv import HAS_ONEDNN
from zoo.models._base import VideoModel

__all__ = ["OptimizedModel", "optimize"]

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
Model = TypeVar("Model", bound=VideoModel)


class OptimizedModel(VideoModel):
    """What every class of inference copies begins with: casts at the border, and what it refuses.

    A class is made of this and of the model's own, so that `super()` is never abstract. Clips of
    any floating type come in, float32 goes out; between, all is of one type.

    Attributes:
        compute_dtype: That type.
        original: The class of the model that was copied.
        inference_copy: That it is one; `converters.export` asks.
    """

    inference_copy = True
    compute_dtype: torch.dtype
    original: type[VideoModel]

    def forward(self, x: Tensor) -> Tensor:
        """Map clips (N, C, T, H, W) to logits (N, K), float32."""
        return self._plain().forward(self._cast(x)).float()

    def forward_features(self, x: Tensor) -> Tensor:
        """See the original's; float32."""
        return self._plain().forward_features(self._cast(x)).float()

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """See the original's; float32."""
        return self._plain().forward_head(self._cast(x), pre_logits=pre_logits).float()

    def forward_intermediates(
        self,
        x: Tensor,
        indices: int | Sequence[int] | None = None,
        *,
        norm: bool = False,
        stop_early: bool = False,
        intermediates_only: bool = False,
    ) -> list[Tensor] | tuple[Tensor, list[Tensor]]:
        """See `VideoModel.forward_intermediates`; float32."""
        found = self._plain().forward_intermediates(
            self._cast(x),
            indices,
            norm=norm,
            stop_early=stop_early,
            intermediates_only=intermediates_only,
        )
        if isinstance(found, list):
            return [level.float() for level in found]
        final, levels = found
        return final.float(), [level.float() for level in levels]

    def forward_stream(self, x: Tensor, state: StreamState) -> tuple[Tensor, StreamState]:
        """See the original's; logits in float32, the state in the types of `initial_state`."""
        stream = getattr(self._plain(), "forward_stream", None)
        if stream is None:
            raise AttributeError(f"A {self.original.__name__} takes whole clips, and no streams.")
        logits, state = stream(self._cast(x), state)
        return logits.float(), state

    def _plain(self) -> VideoModel:
        """The methods of the original's class, which comes next in every class of `_optimized`."""
        return cast("VideoModel", super())

    def _cast(self, x: Tensor) -> Tensor:
        """The input in the type of the weights; what is no clip goes on, to be refused."""
        floats = isinstance(x, Tensor) and x.is_floating_point()
        return x.to(self.compute_dtype) if floats else x

    def train(self, mode: bool = True) -> OptimizedModel:
        """Stay in eval mode.

        Raises:
            ValueError: Training is asked for.
        """
        if mode:
            raise ValueError(
                "This is an inference copy, whose BatchNorms are gone; train the model that "
                "zoo.optimize was given, and optimize it again."
            )
        return super().train(mode=False)

    def reset_classifier(self, num_classes: int) -> None:
        """Refuse.

        Raises:
            ValueError: Always.
        """
        raise ValueError(
            f"This is an inference copy, which takes no new classifier of {num_classes} classes; "
            f"reset that of the model that zoo.optimize was given, and optimize it again."
        )

    def __reduce_ex__(self, protocol: object) -> tuple[Any, ...]:
        """Copy and pickle it by the class that it was made from."""
        return _empty, (self.original,), dict(self.__dict__)


@cache
def _optimized(original: type[VideoModel]) -> type[OptimizedModel]:
    """The class of inference copies of a class."""
    return type(f"Optimized{original.__name__}", (OptimizedModel, original), {"original": original})


def _empty(original: type[VideoModel]) -> OptimizedModel:
    kind = _optimized(original)
    return kind.__new__(kind)


def optimize(model: Model, *, dtype: torch.dtype | None = None) -> Model:
    """Copy a model for inference, and make the copy fast; the model itself stays as it is.

    BatchNorms are folded into the layers before them, kernels lie channels-last as the clips that
    `load_clip` makes, and nothing is kept for gradients. The copy takes the clips that the model
    takes and gives logits in float32; it can be compiled and exported, not trained or saved.

    Args:
        model: A model that `zoo.create` made, on any device.
        dtype: What the copy calculates in. `torch.bfloat16` is two to three times as fast on
            processors and accelerators that have it, and rounds to three digits; None and
            `torch.float32` change nothing but the last digit.

    Returns:
        The copy, in eval mode, a model of the same class.

    Warns:
        UserWarning: It is to calculate in bfloat16 on a processor that has no such arithmetic.

    Raises:
        TypeError: It is no model of the zoo.
        ValueError: It is optimised already, or the dtype is unknown or not to be had here.
    """
    _check(model, dtype)
    fast = copy.deepcopy(model).eval()
    for parameter in fast.parameters():
        parameter.requires_grad_(False).grad = None
    fold_batch_norms(fast)
    wanted = dtype or torch.float32
    fast.to(wanted)
    for module in fast.modules():
        _lay_out(module)
    turned = cast("OptimizedModel", fast)  # the same object, whose class is about to change
    turned.compute_dtype = wanted
    turned.__class__ = _optimized(type(model))
    return fast


def _lay_out(module: nn.Module) -> None:
    """Put kernels into channels-last memory, which convolutions read without sorting them."""
    for parameter in module.parameters(recurse=False):
        if parameter.ndim == 5:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last_3d)
        elif parameter.ndim == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)


def _check(model: object, dtype: torch.dtype | None) -> None:
    if isinstance(model, OptimizedModel):
        raise ValueError("This model is optimised already; optimize the one that it was made from.")
    if not isinstance(model, VideoModel):
        raise TypeError(
            f"zoo.optimize takes a model that zoo.create made, not a {type(model).__name__}; what "
            f"wraps a model (torch.compile, torch.export) comes after."
        )
    if dtype is not None and dtype not in DTYPES:
        names = ", ".join(str(known) for known in DTYPES)
        raise ValueError(f"dtype={dtype} is given; known are {names}, and None for float32.")
    device = next(model.parameters()).device
    if dtype == torch.float16 and device.type == "cpu" and not _half_on_cpu():
        raise ValueError(
            "This processor has no float16 arithmetic; give dtype=torch.bfloat16, or move the "
            "model to an accelerator first."
        )
    if dtype == torch.bfloat16 and device.type == "cpu" and not _bfloat16_on_cpu():
        warnings.warn(
            "This processor has no bfloat16 arithmetic, and calculates in float32 sooner; leave "
            "the dtype out.",
            stacklevel=3,
        )


def _half_on_cpu() -> bool:
    return HAS_ONEDNN and bool(torch.ops.mkldnn._is_mkldnn_fp16_supported())


def _bfloat16_on_cpu() -> bool:
    # oneDNN says yes to all that has AVX-512, and emulates bfloat16 in twice the time of float32.
    if torch.cpu._is_avx512_supported() and not torch.cpu._is_avx512_bf16_supported():
        return False
    return HAS_ONEDNN and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
