"""An image model that sees the frames of a clip, and what was put into it to see time."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from inspect import signature
from typing import TYPE_CHECKING, Any

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from converters import resize_temporal_table
from converters.inflate import Inflation
from registry.names import LIFTING
from zoo.layers import ShiftFill
from zoo.layers.eager import is_eager
from zoo.layers.frame_pool import FramePooling, make_frame_pool
from zoo.lifting.attention import TimedFramePool
from zoo.lifting.clock import Clock
from zoo.lifting.convolution import FrameConv3d
from zoo.lifting.methods import Lift, apply_method
from zoo.models._base import VideoModel, chosen_levels

if TYPE_CHECKING:
    from zoo.config import ModelConfig

__all__ = ["LiftedModel"]


class LiftedModel(VideoModel):
    """Any image model of timm, lifted into video; its own forward code runs on the frames.

    The image model's parameters keep their names under `image.`, what is new lies under
    `temporal.` at the same places (inflated kernels stay where they are). Every frame goes through
    the image model's own head pooling; the mean over frames goes to its classifier.

    Features are (N, D, T', H', W') where the image model gives maps, and (N, T*P + T*L, D) where
    it gives P prefix tokens and L patches a frame: the prefix tokens of all frames first, then the
    patches, time slowest.

    Args:
        image: A timm model; changed in place.
        method: One of `LIFTING`.
        num_frames: Frames T; a model with tables of times takes clips of this length only.
        img_size: Side of the pictures that `load_clip` delivers.
        inflation: `mean` or `center`, for i3d.
        temporal_stride: Stride in time of the first convolution, for i3d.
        fill: `replicate` or `zeros`, for tsm.
        pooling: `avg`, `max` or `attention` over frames and their times, for framepool.

    Raises:
        RefusedError: The method cannot lift this model; the message says why and which can.
        ValueError: An option is of another method.
    """

    image: Any  # a timm model, whose methods nn.Module does not tell

    def __init__(
        self,
        image: nn.Module,
        method: str,
        *,
        num_frames: int = 8,
        img_size: int = 224,
        inflation: Inflation = "mean",
        temporal_stride: int = 1,
        fill: ShiftFill = "replicate",
        pooling: FramePooling = "avg",
    ) -> None:
        super().__init__()
        _check_options(method, inflation, temporal_stride, fill, pooling)
        self.method, self.num_frames, self.img_size = method, num_frames, img_size
        self.clock = Clock(num_frames)
        self.grad_checkpointing = False
        lift = Lift(image, self.clock, num_frames, inflation, temporal_stride, fill, {}, {})
        apply_method(method, lift)
        self.image = image
        self.temporal = _Tree()
        for name, part in lift.parts.items():
            self.temporal.plant(name.split("."), part)
        self.new_parameters: Mapping[str, str] = lift.new
        self.num_features = int(
            getattr(self.image, "head_hidden_size", 0) or self.image.num_features
        )
        self.num_classes = int(self.image.num_classes)
        if pooling == "attention" and self._pools_logits():
            raise ValueError(
                f"The head of a {type(image).__name__} is more than one layer on pooled features, "
                f"so that no attention over frames fits before it; pooling is avg or max."
            )
        self.averaged = pooling == "avg"
        self.pool = (
            TimedFramePool(self.num_features, num_frames=num_frames)
            if pooling == "attention"
            else make_frame_pool(pooling, self.num_features)
        )
        for name, _ in self.pool.named_parameters():
            lift.new[f"pool.{name}"] = "0"
        like = next(image.parameters())
        for part in (self.temporal, self.pool):
            if any((p.device, p.dtype) != (like.device, like.dtype) for p in part.parameters()):
                part.to(device=like.device, dtype=like.dtype)
        named = getattr(image, "pretrained_cfg", {}).get("classifier") or "head"
        heads = [named] if isinstance(named, str) else list(named)
        self.classifier_names = tuple(f"image.{head}" for head in heads)
        self.classifier_name = self.classifier_names[0]
        self.stem_weights = _stem_weights(image)
        self.in_chans = _in_chans(image, self.stem_weights)
        self.frame_tokens = 0  # P + L of a frame, known after a pass
        self.num_prefix_tokens = num_frames * int(getattr(image, "num_prefix_tokens", 0) or 0)
        info = getattr(image, "feature_info", None) or []
        self.feature_info = [
            dict(level) | {"module": f"image.{level['module']}"}
            for level in (info if isinstance(info, list) else info.get_dicts())
        ]

    def _frames(self, x: Tensor) -> Tensor:
        """Clips (N, C, T, H, W) as frames (N*T, C, H, W), and the clock started."""
        self.check_input(x)
        n, t = x.shape[0], x.shape[2]
        timed = any(name.endswith("time_embed") for name in self.new_parameters)
        if timed and t != self.num_frames:
            raise ValueError(
                f"This model was made for clips of {self.num_frames} frames, got {t}; "
                f"zoo.create(..., num_frames={t}) makes one whose table of times is resampled."
            )
        self.clock.start(n, t)
        frames = rearrange(x, "n c t h w -> (n t) c h w")
        if self.method == "r2p1d" and is_eager(frames):
            # Its temporal kernels work on channels-last maps, and so do the convolutions between.
            frames = frames.contiguous(memory_format=torch.channels_last)
        return frames

    def _image_features(self, x: Tensor) -> Any:
        """Whatever the image model gives for the frames of clips (N, C, T, H, W)."""
        found = self.image.forward_features(self._frames(x))
        self._end_pass(found)
        return found

    def _end_pass(self, found: Any) -> None:
        """Stop the clock; what is recomputed from here for its gradients finds it as it was."""
        self.clock.stop()
        if self.grad_checkpointing and torch.is_grad_enabled():
            recall = self.clock.recall()
            for tensor in tree_leaves(found):
                if isinstance(tensor, Tensor) and tensor.requires_grad:
                    tensor.register_hook(recall)  # type: ignore[no-untyped-call]

    def forward(self, x: Tensor) -> Tensor:
        """Map clips (N, C, T, H, W) to logits (N, K)."""
        found = self._image_features(x)
        return self._head(found, self.clock.num_frames, pre_logits=False)

    def forward_features(self, x: Tensor) -> Tensor:
        """Map clips (N, C, T, H, W) to features (N, D, T', H', W') or (N, T*P + T*L, D).

        Raises:
            ValueError: The image model's features are not one tensor.
        """
        found = self._image_features(x)
        if not isinstance(found, Tensor) or found.ndim not in (3, 4):
            raise ValueError(
                f"The features of a {type(self.image).__name__} are not one tensor of maps or "
                f"tokens; call the model itself, or its `image`."
            )
        if found.ndim == 4:
            return self._clips(found)
        prefix = int(getattr(self.image, "num_prefix_tokens", 0) or 0)
        self.frame_tokens = found.shape[1]
        tokens = rearrange(
            found, "(n t) l d -> n t l d", t=self.clock.num_frames
        )  # (N, T, P + L, D)
        heads, patches = tokens[:, :, :prefix], tokens[:, :, prefix:]
        return torch.cat([heads.flatten(1, 2), patches.flatten(1, 2)], dim=1)

    def _clips(self, maps: Tensor) -> Tensor:
        """Maps of frames (N*T, D, H, W) or (N*T, H, W, D) as (N, D, T, H, W)."""
        order = "h w d" if self._channels_last else "d h w"
        return rearrange(maps, f"(n t) {order} -> n d t h w", t=self.clock.num_frames)

    @property
    def _channels_last(self) -> bool:
        """Whether the image model's features are (N, H, W, D)."""
        return bool(getattr(self.image, "output_fmt", "NCHW") == "NHWC")

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Pool each frame as the image model does, then over frames, (N, D); classify, (N, K)."""
        if x.ndim == 5:
            order = "h w d" if self._channels_last else "d h w"
            t = x.shape[2]
            frames = rearrange(x, f"n d t h w -> (n t) {order}")
        else:
            t = x.shape[1] // self.frame_tokens
            prefix = t * int(getattr(self.image, "num_prefix_tokens", 0) or 0)
            heads = rearrange(x[:, :prefix], "n (t p) d -> n t p d", t=t)
            patches = rearrange(x[:, prefix:], "n (t l) d -> n t l d", t=t)
            frames = torch.cat([heads, patches], dim=2).flatten(0, 1)
        return self._head(frames, t, pre_logits=pre_logits)

    def _pools_logits(self) -> bool:
        """Whether logits are more than one layer on what timm calls pre-logits.

        So they are where there are two classifiers (DeiT distilled), several layers (VOLO), or a
        norm that belongs to the last layer (LeViT).
        """
        classifier = self.image.get_classifier()
        twice = any(getattr(self.image, name, None) is not None for name in _FURTHER_HEADS)
        if twice or not isinstance(classifier, (nn.Linear, nn.Identity)):
            return True
        name = next((n for n, m in self.image.named_modules() if m is classifier), "")
        head = self.image.get_submodule(name.rpartition(".")[0])
        return head is not self.image and "pre_logits" not in signature(head.forward).parameters

    def _head(self, features: Any, num_frames: int, *, pre_logits: bool) -> Tensor:
        logits = self.averaged or self._pools_logits()
        # The mean of a linear layer's answers is its answer to the mean.
        found = self.image.forward_head(features, pre_logits=pre_logits or not logits)
        pooled: Tensor = self.pool(
            rearrange(found, "(n t) d -> n t d", t=num_frames)
        )  # (N, D) or (N, K)
        return pooled if pre_logits or logits else self.get_classifier()(pooled)

    def forward_intermediates(
        self,
        x: Tensor,
        indices: int | Sequence[int] | None = None,
        *,
        norm: bool = False,
        stop_early: bool = False,
        intermediates_only: bool = False,
    ) -> list[Tensor] | tuple[Tensor, list[Tensor]]:
        """See `VideoModel.forward_intermediates`."""
        count = len(self.feature_info)
        if not hasattr(self.image, "forward_intermediates"):
            raise ValueError(
                f"timm's {type(self.image).__name__} has no forward_intermediates; take "
                f"forward_features."
            )
        levels = self.image.forward_intermediates(
            self._frames(x),
            indices=chosen_levels(indices, count),
            norm=norm,
            stop_early=stop_early,
            intermediates_only=True,
            output_fmt="NCHW",
        )
        self._end_pass(levels)
        clips = [
            rearrange(maps, "(n t) d h w -> n d t h w", t=self.clock.num_frames) for maps in levels
        ]
        return clips if intermediates_only else (self.forward_features(x), clips)

    def get_classifier(self) -> nn.Module:
        """The image model's last layer."""
        found: nn.Module = self.image.get_classifier()
        return found

    def reset_classifier(self, num_classes: int) -> None:
        """Replace the image model's last layer.

        Args:
            num_classes: Outputs; 0 for none.
        """
        old = next(self.parameters())
        self.image.reset_classifier(num_classes)
        self.image.to(device=old.device, dtype=old.dtype)
        self.num_classes = num_classes
        if self.record is not None:
            self.record = self.record.with_classes(num_classes, labels=None)

    def image_state_dict(self) -> dict[str, Tensor]:
        """The image model's tensors at timm's own keys and shapes, inflated kernels summed again.

        A timm model of the same architecture loads them; what was learnt over time is left out.
        """
        state = dict(self.image.state_dict())
        for name, module in self.image.named_modules():
            if isinstance(module, FrameConv3d):
                kernel = state[f"{name}.weight"]
                flat = kernel.mean(dim=2) if module.eps is not None else kernel.sum(dim=2)
                state[f"{name}.weight"] = flat
        return state

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Pass the wish on to the image model."""
        self.grad_checkpointing = enable
        self.image.set_grad_checkpointing(enable)

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """The image model's expressions; what is new belongs to the layer it stands beside."""
        groups = self.image.group_matcher(coarse=coarse)
        return {key: _under_prefix(value) for key, value in groups.items()}

    def no_weight_decay(self) -> set[str]:
        """What the image model asks to be left alone, and the tables of times."""
        asked = self.image.no_weight_decay() if hasattr(self.image, "no_weight_decay") else ()
        names = {name for name, _ in self.named_parameters()}
        tables = {name for name in names if name.endswith("time_embed")}
        return tables | (names & {f"image.{name}" for name in asked})

    def resize_positions(self, state: dict[str, Tensor], *, trained: ModelConfig) -> None:  # noqa: ARG002
        """Resample the tables of times, and by timm's own rule those of places."""
        for name in state:
            if name.endswith("time_embed"):
                state[name] = resize_temporal_table(state[name], num_frames=self.num_frames)
        expected = self.image.state_dict()
        images = {k.removeprefix("image."): v for k, v in state.items() if k.startswith("image.")}
        other = {k for k, v in images.items() if k in expected and v.shape != expected[k].shape}
        fit = getattr(sys.modules[type(self.image).__module__], "checkpoint_filter_fn", None)
        if other and fit is not None:
            fitted = fit(images, self.image)
            state.update({f"image.{key}": fitted[key] for key in other & fitted.keys()})


_FURTHER_HEADS = ("head_dist", "aux_head")


class _Tree(nn.Module):
    """New modules at the names of the places where they work."""

    def plant(self, path: list[str], part: nn.Module) -> None:
        """Put a module at a path, branches made on the way."""
        first, *rest = path
        if not rest:
            self.add_module(first, part)
            return
        branch = self._modules.get(first)
        if branch is None:
            branch = _Tree()
            self.add_module(first, branch)
        assert isinstance(branch, _Tree), path
        branch.plant(rest, part)


def _under_prefix(pattern: Any) -> Any:
    """An expression of timm's, or a list of them with suffixes, for keys under our prefixes."""
    if isinstance(pattern, str):
        # `^` binds weaker than `|` in what timm writes: "^conv1|bn1" is meant to hold for both.
        unanchored = re.sub(r"(?<!\[)\^", "", pattern)
        return rf"^(?:image|temporal)\.(?:{unanchored})"
    return [(_under_prefix(expression), suffix) for expression, suffix in pattern]


def _check_options(
    method: str, inflation: str, temporal_stride: int, fill: str, pooling: str
) -> None:
    if method not in LIFTING:
        raise ValueError(f"Unknown method {method!r}. Known: {', '.join(LIFTING)}.")
    given = {
        "i3d": {"inflation": inflation != "mean", "temporal_stride": temporal_stride != 1},
        "tsm": {"fill": fill != "replicate"},
        "framepool": {"pooling": pooling != "avg"},
    }
    for owner, options in given.items():
        for option, changed in options.items():
            if changed and owner != method:
                raise ValueError(f"{option} is an option of {owner}:, not of {method}:.")
    if fill not in ("replicate", "zeros"):
        raise ValueError(f"fill is 'replicate' or 'zeros', not {fill!r}.")
    if not isinstance(temporal_stride, int) or temporal_stride < 1:
        raise ValueError(
            f"temporal_stride is a whole number of 1 or more, not {temporal_stride!r}."
        )


def _stem_weights(image: nn.Module) -> tuple[str, ...]:
    """The keys of the kernels that read pictures, as timm's own record names them."""
    first = getattr(image, "pretrained_cfg", {}).get("first_conv")
    names = (first,) if isinstance(first, str) else tuple(first or ())
    return tuple(f"image.{name}.weight" for name in names)


def _in_chans(image: nn.Module, stem_weights: tuple[str, ...]) -> int:
    value = getattr(image, "in_chans", None)
    if isinstance(value, int):
        return value
    for key in stem_weights:
        weight = image.get_parameter(key.removeprefix("image."))
        return int(weight.shape[1])
    return 3
