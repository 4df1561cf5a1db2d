"""How other libraries build the architectures that we also have, with our weights in them.

`PEERS` says for each library and architecture what to call; `beside` builds the library's own
module and loads our weights into it, through the layout that we also export to. Whatever the
library computes behind its logits (a softmax in eval mode) is taken off, so that both return
logits. An architecture whose weights can be written in a library's layout and which is not in
`PEERS` is in `WITHOUT_BUILDER`, with the reason.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn

from converters import export
from registry.names import did_you_mean
from zoo._transformers_style import sizes_for_transformers
from zoo.models._base import VideoModel

__all__ = [
    "PACKAGES",
    "PEERS",
    "WITHOUT_BUILDER",
    "Peer",
    "Recipe",
    "beside",
    "check_library",
    "drop_nothing",
    "find_recipe",
    "logits_of",
]

PACKAGES = {
    "torchvision": "torchvision",
    "pytorchvideo": "pytorchvideo",
    "transformers": "transformers",
    "hiera": "hiera-transformer",
}
"""The libraries, with the distributions that bring them."""

WITHOUT_BUILDER = {
    "mvit_v1_b_24": "torchvision and pytorchvideo build MViT-B with 16 blocks only",
    "mvit_v2_b": "torchvision builds no MViTv2 larger than mvit_v2_s",
    "mvit_v2_l": "torchvision builds no MViTv2 larger than mvit_v2_s",
    "videomae_pretrain_b": "transformers' class for pre-training returns pixels and no logits",
    "videomae_pretrain_h": "transformers' class for pre-training returns pixels and no logits",
    "videomae_pretrain_l": "transformers' class for pre-training returns pixels and no logits",
    "videomae_pretrain_s": "transformers' class for pre-training returns pixels and no logits",
}
"""Architectures that have a library's layout of weights, and no builder there."""

_Prepare = Callable[[VideoModel, Tensor], tuple[Any, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How one library builds one architecture.

    Attributes:
        layout: Layout of its tensors, for `converters.export`.
        build: Gives the library's module for one of ours.
        prepare: Makes its arguments of a clip (N, C, T, H, W), as the library's own transforms do.
        arguments: What `zoo.create` must be told for ours to be the library's network.
    """

    layout: str
    build: Callable[[VideoModel], nn.Module]
    prepare: _Prepare
    arguments: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Peer:
    """A library's module beside one of ours, with its weights.

    Attributes:
        library: Its name.
        module: In eval mode.
        prepare: Makes the module's arguments of a clip (N, C, T, H, W).
    """

    library: str
    module: nn.Module
    prepare: Callable[[Tensor], tuple[Any, ...]]

    def __call__(self, clip: Tensor) -> Tensor:
        """The logits (N, K) of a clip (N, C, T, H, W)."""
        return logits_of(self.module(*self.prepare(clip)))


def logits_of(output: Any) -> Tensor:
    """The logits in what a library's module returns."""
    for name in ("logits", "logits_per_video"):
        if hasattr(output, name):
            output = getattr(output, name)
    assert isinstance(output, Tensor)
    return output


def drop_nothing(module: nn.Module) -> None:
    """Set every rate of dropout and of stochastic depth to 0, in ours and in any library's module.

    The libraries build some networks with the rates that their authors trained with, and ours
    with none: who drops a branch for the only clip of a batch does less work.
    """
    for part in module.modules():
        kind = type(part).__name__
        if not kind.endswith(("Dropout", "Dropout2d", "Dropout3d", "DropPath", "StochasticDepth")):
            continue
        (rate,) = part.__dict__.keys() & {"p", "drop_prob", "rate"}
        setattr(part, rate, 0.0)


def check_library(library: str) -> None:
    """Refuse a library that there is nothing to compare with.

    Raises:
        LookupError: It is none of `PEERS`, or is not installed.
    """
    if library not in PEERS:
        raise LookupError(
            f"Unknown library {library!r}. Known: {', '.join(PEERS)}.{did_you_mean(library, PEERS)}"
        )
    if find_spec(library) is None:
        raise LookupError(
            f"{library} is not installed; pip install {PACKAGES[library]} brings it, and "
            f"pip install 'videozoo[peers]' all that can be compared with."
        )


def find_recipe(library: str, architecture: str) -> Recipe:
    """How a library builds an architecture.

    Raises:
        LookupError: There is no such library, it is not installed, or has no such architecture.
    """
    check_library(library)
    recipe = PEERS[library].get(architecture)
    if recipe is None:
        having = [name for name, recipes in PEERS.items() if architecture in recipes]
        reason = WITHOUT_BUILDER.get(architecture)
        where = f"against {' or '.join(having)}" if having else "without --against"
        told = f" ({reason})" if reason else ""
        raise LookupError(f"{library} has no {architecture!r}{told}; measure it {where}.")
    return recipe


def beside(library: str, model: VideoModel, *, name: str | None = None) -> Peer:
    """A library's own module with the weights of one of ours.

    Args:
        library: One of `PEERS`.
        model: Ours, in any mode; its weights are copied.
        name: Its architecture, where `zoo.create` did not make it.

    Raises:
        LookupError: The library does not have it, or is not installed.
    """
    if name is None:
        assert model.record is not None, "a module made by hand needs its name"
        name = model.record.architecture
    recipe = find_recipe(library, name)
    with _quiet():
        module = recipe.build(model)
    module.load_state_dict(export(model, target=recipe.layout, name=name), strict=True)
    return Peer(library, module.eval(), lambda clip: recipe.prepare(model, clip))


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what libraries warn of when they are imported, which is their own affair."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


# ---- what a module takes ----


def _as_it_is(_: VideoModel, clip: Tensor) -> tuple[Any, ...]:
    return (clip,)


def _frames_first(_: VideoModel, clip: Tensor) -> tuple[Any, ...]:
    return (clip.transpose(1, 2).contiguous(),)  # (N, T, C, H, W)


def _two_pathways(model: Any, clip: Tensor) -> tuple[Any, ...]:
    """The list of PySlowFast's `pack_pathway_output`."""
    t = clip.shape[2]
    index = torch.linspace(0, t - 1, t // model.alpha).long().to(clip.device)
    return ([clip.index_select(2, index), clip],)


def _names_and_frames(model: Any, clip: Tensor) -> tuple[Any, ...]:
    return (model.head.class_tokens, *_frames_first(model, clip))


# ---- torchvision ----


def _torchvision(name: str, **arguments: Any) -> Recipe:
    def build(model: VideoModel) -> nn.Module:
        from torchvision.models import get_model

        module = get_model(name, num_classes=model.num_classes)
        assert isinstance(module, nn.Module)
        return module

    return Recipe(layout="torchvision", build=build, prepare=_as_it_is, arguments=arguments)


# ---- pytorchvideo ----


def _pytorchvideo(
    name: str,
    *,
    classes: str = "model_num_class",
    prepare: _Prepare = _as_it_is,
    arguments: Mapping[str, Any] | None = None,
    **options: Any,
) -> Recipe:
    """A function of pytorchvideo's hub.

    Args:
        name: Of the function.
        classes: What it calls the number of classes.
        prepare: See `Recipe`.
        arguments: See `Recipe`.
        **options: What else it is told.
    """

    def build(model: VideoModel) -> nn.Module:
        from pytorchvideo.models import hub

        module = getattr(hub, name)(**{classes: model.num_classes}, **options)
        assert isinstance(module, nn.Module)
        return module

    return Recipe(
        layout="pytorchvideo", build=build, prepare=prepare, arguments=dict(arguments or {})
    )


def _x3d(name: str) -> Recipe:
    hub = _pytorchvideo(name)

    def build(model: VideoModel) -> nn.Module:
        module: Any = hub.build(model)
        module.blocks[5].activation = None  # its softmax, before it averages positions
        return module

    return Recipe(layout="pytorchvideo", build=build, prepare=_as_it_is)


def _slowfast_4x16(model: VideoModel) -> nn.Module:
    """What the file SLOWFAST_4x16_R50 was trained with; no function of the hub builds it."""
    from pytorchvideo.models.slowfast import create_slowfast

    module = create_slowfast(
        model_num_class=model.num_classes,
        slowfast_fusion_conv_kernel_size=(5, 1, 1),
        slowfast_fusion_conv_stride=(8, 1, 1),
        head_pool_kernel_sizes=((4, 7, 7), (32, 7, 7)),
    )
    assert isinstance(module, nn.Module)
    return module


def _mvit_base(model: VideoModel) -> nn.Module:
    from pytorchvideo.models import hub

    module = hub.mvit_base_16x4(
        head_num_classes=model.num_classes,
        temporal_size=model.num_frames,
        spatial_size=model.img_size,
    )
    assert isinstance(module, nn.Module)
    return module


# ---- transformers ----


def _transformers(
    stem: str,
    kind: str,
    *,
    layout: str = "transformers",
    prepare: _Prepare = _frames_first,
    finish: Callable[[Any], None] = lambda _: None,
    arguments: Mapping[str, Any] | None = None,
    **options: Any,
) -> Recipe:
    """A classifier of transformers, configured to the sizes of ours.

    Args:
        stem: What the names of its classes begin with.
        kind: Its `model_type`.
        layout: See `Recipe`.
        prepare: See `Recipe`.
        finish: Makes the module what its authors trained.
        arguments: See `Recipe`.
        **options: What the configuration is told beside the sizes.
    """

    def build(model: VideoModel) -> nn.Module:
        import transformers

        sizes = sizes_for_transformers(kind, model)
        config = getattr(transformers, f"{stem}Config")(**sizes, **options)
        name = f"{stem}Model" if kind == "xclip" else f"{stem}ForVideoClassification"
        module = getattr(transformers, name)(config)
        finish(module)
        assert isinstance(module, nn.Module)
        return module

    return Recipe(layout=layout, build=build, prepare=prepare, arguments=dict(arguments or {}))


def _authors_eps(module: Any) -> None:
    """The authors' epsilon in the last norm, which no configuration reaches."""
    module.fc_norm.eps = 1e-6


def _no_predictor(module: Any) -> None:
    """The predictor is for pre-training; no classifier reads it, and ours has none."""
    module.vjepa2.predictor = nn.Identity()


_TIMESFORMER = _transformers("Timesformer", "timesformer")
_VIDEOMAE = _transformers("VideoMAE", "videomae", finish=_authors_eps, layer_norm_eps=1e-6)


def _vjepa2(**arguments: Any) -> Recipe:
    # The predictor is made as small as can be, for it is thrown away.
    return _transformers(
        "VJEPA2",
        "vjepa2",
        finish=_no_predictor,
        arguments=arguments,
        pred_num_hidden_layers=1,
        pred_hidden_size=16,
        pred_num_attention_heads=2,
    )


# Sixteen names: the text tower reads them anew for every clip, and is not to outweigh the video.
_XCLIP = _transformers("XCLIP", "xclip", prepare=_names_and_frames, arguments={"num_classes": 16})


# ---- the authors of Hiera ----


def _hiera(model: Any) -> nn.Module:
    """What their `hiera_base_16x224` and the larger ones build, which take no other clip."""
    import hiera

    ends = [int(level["module"].rpartition(".")[2]) + 1 for level in model.feature_info]
    module = hiera.Hiera(
        input_size=(model.num_frames, model.img_size, model.img_size),
        embed_dim=model.feature_info[0]["num_chs"],
        num_heads=model.blocks[0].attn.num_heads,
        stages=tuple(end - start for start, end in zip([0, *ends], ends, strict=False)),
        num_classes=model.num_classes,
        q_stride=(1, 2, 2),
        mask_unit_size=(1, 8, 8),
        patch_kernel=(3, 7, 7),
        patch_stride=(2, 4, 4),
        patch_padding=(1, 3, 3),
        sep_pos_embed=True,
    )
    module.head.act_func = nn.Identity()  # its softmax
    assert isinstance(module, nn.Module)
    return module


_HIERA = Recipe(layout="hiera", build=_hiera, prepare=_as_it_is)


PEERS: dict[str, dict[str, Recipe]] = {
    "torchvision": {
        "mc3_18": _torchvision("mc3_18"),
        "mvit_v1_b": _torchvision("mvit_v1_b"),
        "mvit_v2_s": _torchvision("mvit_v2_s"),
        "r2p1d_18": _torchvision("r2plus1d_18"),
        "r3d_18": _torchvision("r3d_18"),
        "s3d": _torchvision("s3d"),
        "swin3d_b": _torchvision("swin3d_b"),
        "swin3d_s": _torchvision("swin3d_s"),
        "swin3d_t": _torchvision("swin3d_t"),
    },
    "pytorchvideo": {
        "c2d_r50": _pytorchvideo("c2d_r50"),
        "csn_r101": _pytorchvideo("csn_r101"),
        "efficient_x3d_s": _pytorchvideo("efficient_x3d_s", classes="num_classes"),
        "efficient_x3d_xs": _pytorchvideo("efficient_x3d_xs", classes="num_classes"),
        "i3d_r50": _pytorchvideo("i3d_r50"),
        "mvit_v1_b": Recipe(
            layout="pytorchvideo",
            build=_mvit_base,
            prepare=_as_it_is,
            arguments={"pool_norm_eps": 1e-5},
        ),
        # The hub's returns probabilities, averaged over the places of a large crop.
        "r2plus1d_r50": _pytorchvideo("r2plus1d_r50", head_activation=None),
        "slow_r50": _pytorchvideo("slow_r50"),
        "slowfast_16x8_r101_50_50": _pytorchvideo(
            "slowfast_16x8_r101_50_50", prepare=_two_pathways
        ),
        "slowfast_4x16_r50": Recipe(
            layout="pytorchvideo", build=_slowfast_4x16, prepare=_two_pathways
        ),
        "slowfast_r101": _pytorchvideo("slowfast_r101", prepare=_two_pathways),
        "slowfast_r50": _pytorchvideo("slowfast_r50", prepare=_two_pathways),
        "x3d_l": _x3d("x3d_l"),
        "x3d_m": _x3d("x3d_m"),
        "x3d_s": _x3d("x3d_s"),
        "x3d_xs": _x3d("x3d_xs"),
    },
    "transformers": {
        "timesformer_divided": _TIMESFORMER,
        "timesformer_divided_hr": _TIMESFORMER,
        "timesformer_divided_l": _TIMESFORMER,
        "timesformer_joint": _TIMESFORMER,
        "videomae_b": _VIDEOMAE,
        "videomae_h": _VIDEOMAE,
        "videomae_l": _VIDEOMAE,
        "videomae_s": _VIDEOMAE,
        "videomae_v2_b": _VIDEOMAE,
        "videomae_v2_g": _VIDEOMAE,
        "videomae_v2_s": _VIDEOMAE,
        "vivit_b": _transformers("Vivit", "vivit", layout="transformers_v5"),
        # Its pooler has as many heads as the encoder there, and 16 with the authors.
        "vjepa2_g": _vjepa2(pooler_heads=22),
        "vjepa2_h": _vjepa2(pooler_heads=16),
        "vjepa2_l": _vjepa2(pooler_heads=16),
        "xclip_b16": _XCLIP,
        "xclip_b32": _XCLIP,
        "xclip_l14": _XCLIP,
    },
    "hiera": {
        "hiera_b": _HIERA,
        "hiera_b_plus": _HIERA,
        "hiera_h": _HIERA,
        "hiera_l": _HIERA,
    },
}
"""For each library its recipes by the name of our architecture."""
