"""Where inside an image model each method applies, found by walking its modules."""

from __future__ import annotations

import math
import re
from collections.abc import Hashable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from typing import cast

import torch
from torch import Tensor, nn

from zoo.lifting.tracing import trace, trace_shapes

__all__ = [
    "RefusedError",
    "TokenSite",
    "global_sites",
    "residual_convs",
    "spatial_convs",
    "token_sites",
]


class RefusedError(ValueError):
    """A method cannot lift a model; the message says why, and which methods can."""


def spatial_convs(image: nn.Module) -> list[tuple[str, nn.Conv2d]]:
    """The convolutions that look further than they step; the others cut patches."""
    found = list(_wide_convs(image))
    if not found:
        raise RefusedError("it has no convolution whose kernel is larger than its stride.")
    return found


def _wide_convs(image: nn.Module) -> Iterator[tuple[str, nn.Conv2d]]:
    for name, module in image.named_modules():
        # timm's CondConv2d has all that a convolution has but the class.
        if isinstance(module, nn.Conv2d) or type(module).__name__ == "CondConv2d":
            conv = cast("nn.Conv2d", module)
            if any(k > s for k, s in zip(conv.kernel_size, conv.stride, strict=True)):
                yield name, conv


# Attributes by which timm's residual blocks name their shortcut.
_SHORTCUTS = frozenset(
    (
        *("shortcut", "downsample", "drop_path", "drop_path1", "drop_path2", "conv_skip", "skip"),
        *("has_skip", "has_residual", "use_shortcut", "identity", "residual", "conv_shortcut"),
    )
)
_LISTS = (nn.ModuleList, nn.ModuleDict)
_BESIDE = ("shortcut", "downsample", "conv_skip", "skip", "identity", "conv_shortcut")


def residual_convs(image: nn.Module) -> list[tuple[str, nn.Module]]:
    """What the longer way through each residual block begins with.

    Blocks are known by the attributes that name their shortcut; where nothing has such a name,
    by the sums of a run.
    """
    blocks = {
        name: firsts
        for name, module in image.named_modules()
        if name and _names_shortcut(module) and (firsts := _first_on_way(module))
    }
    outer = {name[:end] for name in blocks for end in range(len(name)) if name[end] == "."}
    once: dict[int, tuple[str, nn.Module]] = {}  # CoaT's blocks share layers
    for name, firsts in blocks.items():
        if name not in outer:
            for path, conv in firsts:
                once.setdefault(id(conv), (f"{name}.{path}", conv))
    found = list(once.values())
    if not found and any(True for _ in _wide_convs(image)):
        traced = trace(image)
        names = traced.residual_convs() if traced else ()
        found = [(name, image.get_submodule(name)) for name in names]
    if not found:
        raise RefusedError("it has no residual blocks with convolutions.")
    return found


def _names_shortcut(module: nn.Module) -> bool:
    """Whether it has one of those attributes, and none says that it has no shortcut."""
    own = vars(module)  # modules themselves take long to say what they do not have
    if own.get("has_skip", True) is False or own.get("has_residual", True) is False:
        return False
    none = _SHORTCUTS.isdisjoint(own) and _SHORTCUTS.isdisjoint(module._modules)
    return not none or _class_names_shortcut(cast("Hashable", type(module)))


@cache
def _class_names_shortcut(kind: Hashable) -> bool:
    return any(hasattr(kind, word) for word in _SHORTCUTS)


def _first_on_way(block: nn.Module) -> list[tuple[str, nn.Conv2d]]:
    """The convolution that the longer way through a block begins with, or those of a list.

    A list within a layer holds paths side by side (SKNet, GhostNetV3), and so does one that is a
    layer itself (MixNet's splits). A plain list of the block's own may hold layers in turn (HGNet):
    of it, as of paths with names of their own (RepVGG), the first is taken.
    """
    first = next((c for c in _convs(block) if c[0].partition(".")[0] not in _BESIDE), None)
    if first is None:
        return []
    steps = first[0].split(".")
    for end in range(1, len(steps)):
        listed = ".".join(steps[:end])
        members = block.get_submodule(listed)
        plain_and_own = end == 1 and type(members) in _LISTS
        if isinstance(members, _LISTS) and not plain_and_own:
            inside = (_convs(part, f"{listed}.{name}") for name, part in members.named_children())
            return [begin for convs in inside if (begin := next(convs, None)) is not None]
    return [first]


def _convs(module: nn.Module, name: str = "") -> Iterator[tuple[str, nn.Conv2d]]:
    parts = module.named_modules(prefix=name)
    return ((path, part) for path, part in parts if isinstance(part, nn.Conv2d))


# Token blocks.

_ATTENTION = re.compile(r"Att|XCA|GPSA|MHSA|MHA|SHSA|SHMA|MLA$|LambdaLayer")
# What only weighs channels or places, pools, or answers other tokens than it was asked by.
_NO_SELF_ATTENTION = re.compile(
    r"^(Class|Cross(?!Cov)|Layer)|Pool|SelectiveKernel|SplitAttn|CoordAttn|LocalAttn|StripAttn"
    r"|ChannelAttn|SpatialAttn|Downsample"
)
_NORMS = ("norm1", "norm", "ln1", "norm_pre", "norm1_in")


@dataclass(frozen=True, slots=True)
class TokenSite:
    """A place where attention over time can stand beside attention over space.

    Attributes:
        name: Name of the block in the image model.
        block: A block of norm and attention; where there is none, the attention layer itself.
        attention: The attention layer.
        dim: Width of the tokens that enter the block.
        out_dim: Width of the tokens that leave it; hierarchical models widen inside one.
        num_heads: Heads of the attention layer if they divide the width, else as many as do.
        channels_first: Whether maps are (N, D, H, W), where their sizes leave it open.
    """

    name: str
    block: nn.Module
    attention: nn.Module
    dim: int
    out_dim: int
    num_heads: int
    channels_first: bool


def token_sites(image: nn.Module) -> list[TokenSite]:
    """The blocks of norm and self-attention, then the attention layers outside such blocks.

    A block's norm tells its width unless other layers of it may change that, an attention layer's
    first map and its output projection where they agree; for what is left the model is run once.
    """
    blocks = _token_blocks(image)
    names = [site.name for site in blocks]
    blocks = [site for site in blocks if not any(site.name.startswith(f"{n}.") for n in names)]
    layers = [
        _layer_site(name, module)
        for name, module in image.named_modules()
        if _is_self_attention(module)
        and not any(_is_self_attention(inner) for inner in list(module.modules())[1:])
        and not any(f"{name}.".startswith(f"{site.name}.") for site in blocks)
    ]
    found = _measured(image, [*blocks, *layers])
    if not found:
        raise RefusedError("it has no token blocks, a norm and self-attention each.")
    return found


def _layer_site(name: str, layer: nn.Module) -> TokenSite:
    """An attention layer outside of blocks, of width 0 if only a run tells it."""
    maps = _maps(layer)
    last = _maps(getattr(layer, "proj", layer))[-1:] or maps[-1:]
    given, gave = (_in_width(maps[0]), _out_width(last[0])) if maps else (0, 0)
    # The first map may see a part of the tokens' width: one head's, or what is attended at all.
    heads, told = getattr(layer, "num_heads", None), getattr(layer, "dim", None)
    whole = (given, given * heads if isinstance(heads, int) else given, told)
    dim = gave if gave in whole else 0
    channels_first = bool(maps) and isinstance(maps[0], nn.Conv2d)
    return TokenSite(name, layer, layer, dim, dim, _heads(layer, dim), channels_first)


def _in_width(layer: nn.Linear | nn.Conv2d) -> int:
    return layer.in_features if isinstance(layer, nn.Linear) else layer.in_channels


def _out_width(layer: nn.Linear | nn.Conv2d) -> int:
    return layer.out_features if isinstance(layer, nn.Linear) else layer.out_channels


def _measured(image: nn.Module, sites: list[TokenSite]) -> list[TokenSite]:
    """Sites with the widths that a run tells where their layers do not."""
    unsure = [site for site in sites if not site.dim or _may_change_width(site)]
    if not unsure:
        return sites
    shapes = trace_shapes(image, [site.name for site in unsure])
    found = []
    for site in sites:
        if site.name in shapes:
            dim, out_dim = (_width_of(shape, site) for shape in shapes[site.name])
            heads = _heads(site.attention, dim)
            site = replace(site, dim=dim, out_dim=out_dim, num_heads=heads)  # noqa: PLW2901
        if site.dim:  # else the layer never ran
            found.append(site)
    return found


def _width_of(shape: torch.Size, site: TokenSite) -> int:
    """The width of tokens or of maps, which square pictures tell apart from height and width."""
    if len(shape) == 4 and shape[1] != shape[3] and shape[2] in (shape[1], shape[3]):
        return shape[1] if shape[2] == shape[3] else shape[3]
    return shape[1] if len(shape) == 4 and site.channels_first else shape[-1]


def _may_change_width(site: TokenSite) -> bool:
    """Whether what stands beside the attention layer maps tokens to another width."""
    if site.block is site.attention or isinstance(getattr(site.block, "dim_out", None), int):
        return False  # it tells
    beside = []
    for name, child in site.block.named_children():
        layers = _maps(child)
        if layers and child is not site.attention and not name.startswith("pos_emb"):
            beside.append((_in_width(layers[0]), _out_width(layers[-1])))
    if all(given == gave for given, gave in beside):
        return False  # of a part of the width, if it is another
    return (beside[0][0], beside[-1][1]) != (site.dim, site.dim)


def _maps(module: nn.Module) -> list[nn.Linear | nn.Conv2d]:
    return [part for part in module.modules() if isinstance(part, (nn.Linear, nn.Conv2d))]


def _is_self_attention(module: nn.Module) -> bool:
    return _names_self_attention(type(module).__name__)


@cache
def _names_self_attention(kind: str) -> bool:
    return bool(_ATTENTION.search(kind)) and not _NO_SELF_ATTENTION.search(kind)


def _token_blocks(image: nn.Module) -> list[TokenSite]:
    found = []
    for name, module in image.named_modules():
        attention = next(filter(_is_self_attention, module.children()), None)
        if not name or attention is None or "ClassAtt" in type(module).__name__:
            continue
        norm = next(
            (norm for child in _NORMS if _width(norm := getattr(module, child, None))), None
        )
        if norm is None:
            continue
        dim = _width(norm)
        out = getattr(module, "dim_out", dim)
        out_dim = out if isinstance(out, int) else dim
        maps = isinstance(norm, nn.GroupNorm) or "2d" in type(norm).__name__
        heads = _heads(attention, dim)
        found.append(TokenSite(name, module, attention, dim, out_dim, heads, maps))
    return found


def _width(norm: object) -> int:
    """The width of the tokens that a norm was made for; 0 if it does not tell."""
    shape = getattr(norm, "normalized_shape", None) or (
        getattr(norm, "num_features", 0) or getattr(norm, "num_channels", 0),
    )
    return int(shape[-1] or 0)


def _heads(attention: nn.Module, dim: int) -> int:
    heads = getattr(attention, "num_heads", 0)
    return math.gcd(heads, dim) if isinstance(heads, int) and heads else 1


_GLOBAL = ("Attention", "EvaAttention", "AttentionRope")
_TABLES = (
    *(
        "relative_position_bias_table",
        "rel_pos",
        "rel_pos_h",
        "window_size",
        "rope",
        "rel_pos_bias",
    ),
    *("attention_biases", "pos_emb"),
)


def global_sites(image: nn.Module) -> list[TokenSite]:
    """The token blocks, if each attends to all tokens of a frame without tables of positions."""
    blocks = token_sites(image)
    for owner in (image, *(item.attention for item in blocks), *(item.block for item in blocks)):
        for table in _TABLES:
            value = getattr(owner, table, None)
            if isinstance(value, Tensor) or value:
                raise RefusedError(
                    f"its attention has a table of fixed length or a window ('{table}' of "
                    f"{type(owner).__name__})."
                )
    if any("Rotary" in type(m).__name__ or "rope" in name for name, m in image.named_modules()):
        raise RefusedError(
            "its attention turns queries and keys by the places of one frame (rope)."
        )
    for item in blocks:
        kind = type(item.attention)
        if kind.__name__ not in _GLOBAL or len({block.dim for block in blocks}) > 1:
            raise RefusedError(
                f"its {kind.__name__} is not plain attention over all tokens of a frame."
            )
        if any(isinstance(module, nn.Conv2d) for module in item.block.modules()):
            raise RefusedError("its blocks hold convolutions over the patches of one frame.")
    return blocks
