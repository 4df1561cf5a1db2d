"""BatchNorms folded into the layers before them, found by watching a model run.

Nothing is known of any model by name. A pass on tensors without values tells which normalisation
reads which layer's output; only where nobody else reads that output are the two made one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from zoo._without_values import without_values
from zoo.lifting.convolution import FrameConv3d, TemporalConv
from zoo.models._base import VideoModel

__all__ = ["fold_batch_norms"]

Layer: TypeAlias = nn.Conv1d | nn.Conv2d | nn.Conv3d | nn.Linear | FrameConv3d | TemporalConv
_LAYERS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear, FrameConv3d, TemporalConv)
"""What has output channels as the first axis of `weight`, and an offset for each in `bias`."""
_OVER_FRAMES = (FrameConv3d, TemporalConv)  # several calls make what these give
_PRODUCTS = (F.conv1d, F.conv2d, F.conv3d, F.linear)


class _Watch(TorchFunctionMode):
    """Notes what one pass does with tensors, each known by its id.

    Attributes:
        reads: How often a tensor was read to make others, or given to a hook; once more by a change
            in place.
        makers: The weights that alone made a tensor.
        norms: What each BatchNorm read last, by its running mean.
    """

    def __init__(self) -> None:
        super().__init__()
        self.reads: Counter[int] = Counter()
        self.makers: dict[int, int] = {}
        self.norms: dict[int, int] = {}
        self.kept: list[Any] = []  # while they live, no other tensor gets their id

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        given = _tensors((args, kwargs))
        result = func(*args, **(kwargs or {}))
        made = _tensors(result)
        if not made:
            return result  # a question after sizes
        self.kept += [*given, *made]
        self.reads.update(map(id, given))
        # Linear layers and BatchNorm1d mean the same axis by channels only where there are rows.
        if func in _PRODUCTS and len(given) > 1 and (func is not F.linear or result.ndim == 2):
            self.makers[id(result)] = id(given[1])
        elif func is F.batch_norm and len(given) > 2:
            self.norms[id(given[1])] = id(given[0])
        return result

    def after_frames(self, module: nn.Module, _: Any, output: Tensor) -> None:
        """A forward hook for layers that take several calls."""
        assert isinstance(module, _OVER_FRAMES)
        if getattr(module, "eps", None) is None:  # else its weights are standardised on the way
            self.makers[id(output)] = id(module.weight)

    def shown(self, _: nn.Module, *given: Any) -> None:
        """A hook, before or after a module, where there are others that may keep what they get."""
        tensors = _tensors(given)
        self.kept += tensors
        self.reads.update(map(id, tensors))


def fold_batch_norms(model: VideoModel) -> int:
    """Put BatchNorms into the weights before them, in place.

    One stays where its layer's output is read elsewhere too or given to a hook, where either of
    the two runs more than once or has several names, where it is hooked itself, and where the
    model cannot be run without values.

    Args:
        model: In eval mode.

    Returns:
        How many there were.
    """
    pairs = _pairs(model)
    for layer, norm in pairs:
        _fold(model.get_submodule(layer), model.get_submodule(norm))
        parent, _, child = norm.rpartition(".")
        setattr(model.get_submodule(parent), child, _rest(model.get_submodule(norm)))
    return len(pairs)


def _pairs(model: VideoModel) -> list[tuple[str, str]]:
    """The names of layers and of the BatchNorms that can be folded into them."""
    if not any(map(_is_known_norm, model.modules())):
        return []
    twin = without_values(model)
    names = Counter(id(module) for _, module in twin.named_modules(remove_duplicate=False))
    alone = {name: module for name, module in twin.named_modules() if names[id(module)] == 1}
    layers = {name: module for name, module in alone.items() if _has_own_weights(module)}
    for layer in layers.values():
        if layer.bias is None:  # one that would not pass an offset on is so found out
            layer.bias = nn.Parameter(layer.weight.new_empty(layer.weight.shape[0]))
    norms = {name: module for name, module in alone.items() if _is_known_norm(module)}
    levels = partial(twin.forward_intermediates, intermediates_only=True)  # else some run twice
    ways: tuple[Callable[[Tensor], Any], ...] = (twin, levels)
    found: list[tuple[str, str]] | None = None
    for way in ways:
        watch = _watched(twin, way, model)
        if watch is None and found is None:
            return []
        if watch is None:
            continue  # an image model without levels
        here = _found(watch, layers, norms)
        ran = {name for name, norm in norms.items() if id(norm.running_mean) in watch.norms}
        found = here if found is None else [p for p in found if p in here or p[1] not in ran]
    assert found is not None
    return found


def _watched(twin: nn.Module, way: Callable[[Tensor], Any], model: VideoModel) -> _Watch | None:
    """What one way through the model does, or None if it asks for values."""
    watch = _Watch()
    modules = list(twin.modules())
    framed = [module for module in modules if isinstance(module, _OVER_FRAMES)]
    before = [module for module in modules if module._forward_pre_hooks]
    after = [module for module in modules if module._forward_hooks]
    # All come first, for the model's own hooks may put something else in the place of a tensor.
    first: Any = {"prepend": True, "with_kwargs": True}
    hooks = [
        *(module.register_forward_hook(watch.after_frames, prepend=True) for module in framed),
        *(module.register_forward_pre_hook(watch.shown, **first) for module in before),
        *(module.register_forward_hook(watch.shown, **first) for module in after),
    ]
    like = next(twin.parameters())
    size = (model.num_frames, model.img_size, model.img_size)
    clip = torch.empty(1, model.in_chans, *size, device=like.device, dtype=like.dtype)
    try:
        with torch.no_grad(), watch:
            out = way(clip)
    except Exception:  # noqa: BLE001 -- whatever code raises that needs values
        return None
    finally:
        for hook in hooks:
            hook.remove()
    watch.reads.update(map(id, _tensors(out)))  # by whoever called
    return watch


def _found(
    watch: _Watch, layers: Mapping[str, Layer], norms: Mapping[str, _BatchNorm]
) -> list[tuple[str, str]]:
    by_weight = {id(layer.weight): name for name, layer in layers.items()}
    found = []
    for name, norm in norms.items():
        read = watch.norms.get(id(norm.running_mean), 0)
        layer = by_weight.get(watch.makers.get(read, 0))
        own = [norm.running_mean, norm.running_var, norm.weight, norm.bias]
        if layer is not None:
            own += [layers[layer].weight, layers[layer].bias]
        once = all(watch.reads[id(tensor)] == 1 for tensor in own if tensor is not None)
        if layer is not None and once and watch.reads[read] == 1:
            found.append((layer, name))
    return found


def _tensors(values: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(values) if isinstance(leaf, Tensor)]


def _has_own_weights(module: nn.Module) -> bool:
    """Whether a layer's weights are plain parameters, neither computed nor one empty."""
    names = module._parameters  # a parametrised weight is an attribute, and not here
    return isinstance(module, _LAYERS) and isinstance(names.get("weight"), nn.Parameter)


def _is_known_norm(module: nn.Module) -> bool:
    """Whether what a BatchNorm does beside normalising by kept statistics is known."""
    return (
        isinstance(module, _BatchNorm)
        and module.running_mean is not None
        and not module.training
        and not (module._forward_hooks or module._forward_pre_hooks)
        and (type(module).forward is _BatchNorm.forward or _is_norm_act(module))
    )


def _is_norm_act(module: nn.Module) -> bool:
    """Whether it is timm's BatchNorm with dropout and activation (timm itself loads slowly)."""
    kind = type(module)
    return (kind.__module__, kind.__name__) == ("timm.layers.norm_act", "BatchNormAct2d")


def _rest(norm: nn.Module) -> nn.Module:
    """What a BatchNorm does after it has normalised."""
    if not _is_norm_act(norm):
        return nn.Identity()
    return nn.Sequential(norm.get_submodule("drop"), norm.get_submodule("act"))


@torch.no_grad()
def _fold(layer: nn.Module, norm: nn.Module) -> None:
    assert isinstance(layer, _LAYERS)
    assert isinstance(norm, _BatchNorm)
    mean, var = norm.running_mean, norm.running_var
    assert mean is not None
    assert var is not None
    scale = (var.double() + norm.eps).rsqrt()  # (D,)
    if norm.weight is not None:
        scale = scale * norm.weight.double()
    bias = -mean.double() if layer.bias is None else layer.bias.double() - mean.double()
    shift = bias * scale
    if norm.bias is not None:
        shift = shift + norm.bias.double()
    weight = layer.weight
    scaled = weight * scale.to(weight.dtype).view(-1, *[1] * (weight.ndim - 1))
    layer.weight = nn.Parameter(scaled, requires_grad=False)
    layer.bias = nn.Parameter(shift.to(weight.dtype), requires_grad=False)
