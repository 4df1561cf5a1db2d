"""Video Swin: a hierarchy of transformer blocks that attend within shifted windows of space-time.

Liu et al., "Video Swin Transformer" (https://arxiv.org/abs/2106.13230). The reference is
SwinTransformer/Video-Swin-Transformer (Apache-2.0); torchvision (BSD-3-Clause) ported its networks
and their weights. Two things differ on purpose: a stage begins with the merging of patches that the
reference puts at the end of the one before, and where a clip is smaller than the window each pair
of tokens gets the bias of its true offset. The references cut the index of the whole window, which
is right only where time alone shrinks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from converters import KeyMap, Rule
from registry import (
    UNKNOWN,
    Metric,
    Paper,
    Preprocess,
    Sampling,
    UpstreamSource,
    Weights,
    register_model,
)
from zoo.layers import DropPath, Mlp, make_classifier
from zoo.models._base import VideoModel, chosen_levels, run

__all__ = ["SwinTransformer3D", "swin3d_b", "swin3d_s", "swin3d_t"]

Window: TypeAlias = tuple[int, int, int]
_PATCH = (2, 4, 4)


def relative_positions(window: Window) -> Tensor:
    """The row of the bias table for each pair of tokens in a window of L: (L, L)."""
    places = torch.cartesian_prod(*(torch.arange(size) for size in window))  # (L, 3)
    steps = places.new_tensor([(2 * window[1] - 1) * (2 * window[2] - 1), 2 * window[2] - 1, 1])
    offsets = places[:, None] - places[None, :] + places.new_tensor(window) - 1  # (L, L, 3)
    return (offsets * steps).sum(dim=-1)


def shift_mask(grid: Window, window: Window, shift: Window, like: Tensor) -> Tensor:
    """What keeps tokens apart that a cyclic shift has brought into one window.

    Args:
        grid: Tokens along time, height and width; the window divides them.
        window: Tokens of a window.
        shift: Tokens by which the grid was rolled, 0 where it was not.
        like: Gives dtype and device.

    Returns:
        (A, L, L) for A windows of L tokens: 0, or -100 where a pair was not adjacent.
    """
    regions = like.new_zeros((), dtype=torch.long)
    for axis, (size, w, s) in enumerate(zip(grid, window, shift, strict=True)):
        place = torch.arange(size, device=like.device)
        region = (place >= size - w).long() + (place >= size - s).long()
        regions = regions * 3 + region.reshape([-1 if i == axis else 1 for i in range(3)])
    t, h, w = window
    regions = rearrange(regions.expand(grid), "(a t) (b h) (c w) -> (a b c) (t h w)", t=t, h=h, w=w)
    apart = regions[:, :, None] != regions[:, None, :]
    return like.new_zeros(apart.shape).masked_fill(apart, -100.0)  # the references' value


class WindowAttention(nn.Module):
    """Attention within windows of a grid of tokens, with a bias for each offset.

    Args:
        dim: Width D.
        num_heads: Heads.
        window: Tokens of a window along time, height and width.
        shifted: Whether the windows lie half a window off the grid's corner.
    """

    relative_position_index: Tensor

    def __init__(self, dim: int, *, num_heads: int, window: Window, shifted: bool) -> None:
        super().__init__()
        self.num_heads, self.window, self.shifted = num_heads, window, shifted
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)
        t, h, w = window
        offsets = (2 * t - 1) * (2 * h - 1) * (2 * w - 1)
        self.relative_position_bias_table = nn.Parameter(torch.zeros(offsets, num_heads))
        index = relative_positions(window)
        self.register_buffer("relative_position_index", index, persistent=False)

    def _bias(self, window: Window) -> Tensor:
        """The bias of each pair of tokens by its offset, (heads, L, L)."""
        t, h, w = window
        index = self.relative_position_index.reshape(*self.window, *self.window)
        index = index[:t, :h, :w, :t, :h, :w].reshape(t * h * w, t * h * w)
        return rearrange(self.relative_position_bias_table[index], "l m heads -> heads l m")

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, T, H, W, D) to (N, T, H, W, D)."""
        size = x.shape[1:4]
        window: Any = tuple(min(have, want) for have, want in zip(size, self.window, strict=True))
        shift: Any = tuple(
            want // 2 if self.shifted and have > want else 0
            for have, want in zip(size, self.window, strict=True)
        )
        pad = [-have % want for have, want in zip(size, window, strict=True)]
        x = F.pad(x, (0, 0, 0, pad[2], 0, pad[1], 0, pad[0]))
        grid: Any = tuple(x.shape[1:4])
        axes, bias = (1, 2, 3), self._bias(window)
        # One mask serves all clips: where there is one, windows stand beside the heads.
        fold = "(n a b c) heads"
        if any(shift):
            x = torch.roll(x, [-step for step in shift], axes)
            fold = "n (a b c heads)"
            mask = shift_mask(grid, window, shift, x)[:, None] + bias  # (A, heads, L, L)
            bias = mask.flatten(0, 1)
        t, h, w = window
        q, k, v = rearrange(
            self.qkv(x),
            f"n (a t) (b h) (c w) (three heads d) -> three {fold} (t h w) d",
            three=3,
            heads=self.num_heads,
            t=t,
            h=h,
            w=w,
        )
        x = F.scaled_dot_product_attention(q, k, v, attn_mask=bias[None])
        x = rearrange(
            x,
            f"{fold} (t h w) d -> n (a t) (b h) (c w) (heads d)",
            heads=self.num_heads,
            a=grid[0] // t,
            b=grid[1] // h,
            c=grid[2] // w,
            t=t,
            h=h,
        )
        x = self.proj(x)
        if any(shift):
            x = torch.roll(x, shift, axes)
        return x[:, : size[0], : size[1], : size[2]]  # (N, T, H, W, D)


class Block(nn.Module):
    """A transformer block over windows.

    Args:
        dim: Width D.
        num_heads: Heads.
        window: Tokens of a window along time, height and width.
        shifted: Whether the windows lie half a window off the grid's corner.
        mlp_ratio: Width of the hidden layer by D.
        drop_path_rate: Rate of stochastic depth.
    """

    def __init__(
        self,
        dim: int,
        *,
        num_heads: int,
        window: Window,
        shifted: bool,
        mlp_ratio: float,
        drop_path_rate: float,
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=1e-5)
        self.attn = WindowAttention(dim, num_heads=num_heads, window=window, shifted=shifted)
        self.norm2 = nn.LayerNorm(dim, eps=1e-5)
        self.mlp = Mlp(dim, hidden_dim=int(dim * mlp_ratio))
        self.drop_path = DropPath(drop_path_rate)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, T, H, W, D) to (N, T, H, W, D)."""
        x = x + self.drop_path(self.attn(self.norm1(x)))
        return x + self.drop_path(self.mlp(self.norm2(x)))


class PatchMerging(nn.Module):
    """Joins each 2x2 patches of a frame, and makes the width twice the old one.

    Args:
        dim: Width D before.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4 * dim, eps=1e-5)
        self.reduction = nn.Linear(4 * dim, 2 * dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, T, H, W, D) to (N, T, H/2, W/2, 2*D), rounded up."""
        x = F.pad(x, (0, 0, 0, x.shape[3] % 2, 0, x.shape[2] % 2))
        x = rearrange(x, "n t (h a) (w b) d -> n t h w (b a d)", a=2, b=2)
        return self.reduction(self.norm(x))


class Stage(nn.Module):
    """Patches merged (but in the first stage), then blocks that shift their windows in turn.

    Args:
        downsample: What merges the patches, or an identity.
        blocks: The blocks.
    """

    def __init__(self, downsample: nn.Module, blocks: Sequence[Block]) -> None:
        super().__init__()
        self.downsample = downsample
        self.blocks = nn.ModuleList(blocks)
        self.grad_checkpointing = False

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, T, H, W, D) to (N, T, H', W', D')."""
        for part in (self.downsample, *self.blocks):
            x = run(part, x, checkpointed=self.grad_checkpointing)
        return x


class PatchEmbed(nn.Module):
    """Cuts a clip into patches of 2 frames by 4x4 pixels, zeros added where they do not divide it.

    Args:
        in_chans: Input channels C.
        embed_dim: Width D.
    """

    def __init__(self, in_chans: int, embed_dim: int) -> None:
        super().__init__()
        self.proj = nn.Conv3d(in_chans, embed_dim, _PATCH, stride=_PATCH)
        self.norm = nn.LayerNorm(embed_dim, eps=1e-5)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, T, H, W) to (N, T', H', W', D)."""
        t, h, w = (-have % want for have, want in zip(x.shape[2:], _PATCH, strict=True))
        return self.norm(rearrange(self.proj(F.pad(x, (0, w, 0, h, 0, t))), "n d ... -> n ... d"))


class SwinTransformer3D(VideoModel):
    """Video Swin, for clips of any length and size.

    Features are (N, T'*H'*W', D), time slowest.

    Args:
        embed_dim: Width of the first stage; each further one is twice as wide.
        depths: Blocks a stage.
        num_heads: Heads a stage.
        window_side: Side of a window, patches.
        num_classes: Classes K; 0 returns the pooled features.
        in_chans: Input channels C.
        num_frames: Frames that `load_clip` delivers; the model takes any number.
        img_size: Side of the pictures that `load_clip` delivers; the model takes any size.
        window_frames: Length of a window, patches of two frames.
        mlp_ratio: Width of the hidden layers by that of their block.
        drop_rate: Dropout before the classifier.
        drop_path_rate: Stochastic depth at the last block, rising linearly from 0.
    """

    stem_weights = ("patch_embed.proj.weight",)

    def __init__(
        self,
        embed_dim: int,
        depths: Sequence[int],
        num_heads: Sequence[int],
        window_side: int = 7,
        *,
        num_classes: int = 400,
        in_chans: int = 3,
        num_frames: int = 32,
        img_size: int = 224,
        window_frames: int = 8,
        mlp_ratio: float = 4.0,
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
    ) -> None:
        super().__init__()
        self.in_chans, self.num_frames, self.img_size = in_chans, num_frames, img_size
        self.num_classes, self.window_side = num_classes, window_side
        self.num_features = embed_dim * 2 ** (len(depths) - 1)
        self.patch_embed = PatchEmbed(in_chans, embed_dim)
        self.stages = nn.ModuleList()
        for index, (depth, heads) in enumerate(zip(depths, num_heads, strict=True)):
            before = sum(depths[:index])
            blocks = [
                Block(
                    embed_dim * 2**index,
                    num_heads=heads,
                    window=(window_frames, window_side, window_side),
                    shifted=place % 2 == 1,
                    mlp_ratio=mlp_ratio,
                    drop_path_rate=drop_path_rate * (before + place) / max(1, sum(depths) - 1),
                )
                for place in range(depth)
            ]
            merging = PatchMerging(embed_dim * 2 ** (index - 1)) if index else nn.Identity()
            self.stages.append(Stage(merging, blocks))
        self.norm = nn.LayerNorm(self.num_features, eps=1e-5)
        self.drop = nn.Dropout(drop_rate)
        self.head = make_classifier(self.num_features, num_classes)
        self.feature_info = [
            {
                "num_chs": embed_dim * 2**index,
                "reduction": 4 * 2**index,
                "module": f"stages.{index}",
            }
            for index in range(len(depths))
        ]
        for name, parameter in self.stages.named_parameters():
            if parameter.ndim == 2:
                nn.init.trunc_normal_(parameter, std=0.02)
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)

    def _tokens(self, x: Tensor) -> Tensor:
        """Map the last grid (N, T', H', W', D) to normalised features (N, T'*H'*W', D)."""
        return rearrange(self.norm(x), "n t h w d -> n (t h w) d")

    def forward_features(self, x: Tensor) -> Tensor:
        """Map clips (N, C, T, H, W) to features (N, T'*H'*W', D)."""
        self.check_input(x)
        x = self.patch_embed(x)
        for stage in self.stages:
            x = stage(x)
        return self._tokens(x)

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Average features (N, L, D) to (N, D) and classify them, (N, K)."""
        x = self.drop(x.mean(dim=1))  # (N, D)
        logits: Tensor = x if pre_logits else self.head(x)
        return logits

    def forward_intermediates(
        self,
        x: Tensor,
        indices: int | Sequence[int] | None = None,
        *,
        norm: bool = False,
        stop_early: bool = False,
        intermediates_only: bool = False,
    ) -> list[Tensor] | tuple[Tensor, list[Tensor]]:
        """See `VideoModel.forward_intermediates`; the final normalisation fits the last level."""
        self.check_input(x)
        levels = chosen_levels(indices, len(self.stages))
        last = len(self.stages) - 1
        x = self.patch_embed(x)
        found = []
        for level, stage in enumerate(self.stages):
            if stop_early and level > levels[-1]:
                break
            x = stage(x)
            if level in levels:
                grid = self.norm(x) if norm and level == last else x
                found.append(rearrange(grid, "n t h w d -> n d t h w"))
        if intermediates_only:
            return found
        whole = not stop_early or levels[-1] == last
        return (self._tokens(x) if whole else rearrange(x, "n t h w d -> n (t h w) d")), found

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recompute each block in the backward pass instead of keeping its activations."""
        for stage in self.stages:
            assert isinstance(stage, Stage)
            stage.grad_checkpointing = enable

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """Regular expressions that sort parameters into patches, blocks and the last norm."""
        last = (len(self.stages),)
        if coarse:
            return {"stem": r"^patch_embed", "blocks": [(r"^stages\.(\d+)", None), ("^norm", last)]}
        return {
            "stem": r"^patch_embed",
            "blocks": [
                (r"^stages\.(\d+)\.downsample", (0,)),  # with the first block of its stage
                (r"^stages\.(\d+)\.blocks\.(\d+)", None),
                (r"^norm", last),
            ],
        }

    def no_weight_decay(self) -> set[str]:
        """The tables of biases."""
        names = (name for name, _ in self.named_parameters())
        return {name for name in names if name.endswith("relative_position_bias_table")}

    def infer_arguments(self, state: Mapping[str, Tensor]) -> dict[str, int]:
        """See `VideoModel.infer_arguments`; the tables tell the length of the window."""
        table = state["stages.0.blocks.0.attn.relative_position_bias_table"]
        offsets = table.shape[0] // (2 * self.window_side - 1) ** 2
        return super().infer_arguments(state) | {"window_frames": (offsets + 1) // 2}


# Both references store which row of its table each pair of tokens reads; we compute it.
_INDEX = "attn.relative_position_index"
VIDEO_SWIN = KeyMap(
    (
        Rule("backbone.patch_embed", "patch_embed"),
        Rule("backbone.layers.{s}.blocks", "stages.{s}.blocks"),
        *(Rule(f"backbone.layers.{s}.downsample", f"stages.{s + 1}.downsample") for s in range(3)),
        Rule("backbone.norm", "norm"),
        Rule("cls_head.fc_cls", "head"),
    ),
    buffers=(
        Rule(f"backbone.layers.{{s}}.blocks.{{b}}.{_INDEX}", f"stages.{{s}}.blocks.{{b}}.{_INDEX}"),
    ),
)
# Stages and mergings take turns in one sequence.
TORCHVISION = KeyMap(
    (
        Rule("patch_embed", "patch_embed"),
        *(Rule(f"features.{2 * s + 1}", f"stages.{s + 1}.downsample") for s in range(3)),
        *(
            Rule(f"features.{2 * s}.{{b}}.mlp.{theirs}", f"stages.{s}.blocks.{{b}}.mlp.{ours}")
            for s in range(4)
            for theirs, ours in ((0, "fc1"), (3, "fc2"))
        ),
        *(Rule(f"features.{2 * s}", f"stages.{s}.blocks") for s in range(4)),
        Rule("norm", "norm"),
        Rule("head", "head"),
    ),
    buffers=tuple(
        Rule(
            f"features.{2 * s}.{{b}}.{_INDEX}",
            f"stages.{s}.blocks.{{b}}.{_INDEX}",
        )
        for s in range(4)
    ),
)
_LAYOUTS = {"torchvision": TORCHVISION, "video-swin": VIDEO_SWIN}

_PAPER = Paper(title="Video Swin Transformer", url="https://arxiv.org/abs/2106.13230", year=2021)
# The authors' test: four clips, three crops of the short side, softmax before the mean.
_SAMPLING = Sampling(
    rule="dense",
    num_frames=32,
    frame_stride=2,
    fps=None,
    num_clips=4,
    num_crops=3,
    average="probabilities",
)
_PREPROCESS = Preprocess(
    img_size=224,
    resize=224,
    interpolation="bilinear",
    antialias=False,
    mean=(0.485, 0.456, 0.406),
    std=(0.229, 0.224, 0.225),
)


def _accuracy(
    top1: float, top5: float, dataset: str, sampling: Sampling, measured_by: str, note: str = ""
) -> tuple[Metric, ...]:
    """Both figures of one measurement by the views that a sampling names."""
    return tuple(
        Metric(
            name=name,
            value=value,
            dataset=dataset,
            split="validation",
            level="video",
            num_clips=sampling.num_clips,
            num_crops=sampling.num_crops,
            measured_by=measured_by,
            note=note,
        )
        for name, value in (("top1", top1), ("top5", top5))
    )


def _released(stem: str) -> UpstreamSource:
    """A file of the authors' release."""
    filename = f"swin_{stem}.pth"
    release = "https://github.com/SwinTransformer/storage/releases/download/v1.0.4"
    return UpstreamSource(
        layout="video-swin", filename=filename, url=f"{release}/{filename}", sha256=UNKNOWN
    )


def _ported(
    tag: str,
    file: tuple[str, str],
    released: str,
    *,
    pictures: str,
    measured: tuple[float, float],
    published: tuple[float, float],
) -> Weights:
    """The record of a Kinetics-400 network that torchvision ported from the authors' release.

    Args:
        tag: Tag of the record.
        file: Name of torchvision's file and the first digits of its hash.
        released: Name of the authors' file.
        pictures: What the network was trained on before.
        measured: Accuracy in the first and first five places, by torchvision.
        published: The same by the authors.
    """
    sampling = replace(_SAMPLING, fps=30.0, num_clips=12, num_crops=1)
    filename = f"{file[0]}-{file[1]}.pth"
    return Weights(
        tag=tag,
        source=UpstreamSource(
            layout="torchvision",
            filename=filename,
            url=f"https://download.pytorch.org/models/{filename}",
            sha256=file[1],
        ),
        mirrors=(_released(released),),
        licence="BSD-3-Clause",
        data=f"{pictures}, then Kinetics-400",
        num_classes=400,
        labels="kinetics400",
        sampling=sampling,
        preprocess=replace(_PREPROCESS, resize=256),
        metrics=(
            *_accuracy(
                *measured,
                "kinetics400",
                sampling,
                "torchvision",
                "videos resampled to 15 frames per second, short side 256",
            ),
            *_accuracy(*published, "kinetics400", _SAMPLING, "the authors", "short side 224"),
        ),
        note=(
            "The licence is torchvision's, which ported the weights; the authors' repository is "
            "under Apache-2.0. Neither states one for the weights alone."
        ),
    )


def _authors(
    tag: str,
    stem: str,
    data: str,
    labels: str,
    *,
    published: tuple[float, float] | None = None,
    **facts: Any,
) -> Weights:
    """The record of a base network in the authors' release that torchvision did not port."""
    sampling = facts.pop("sampling", _SAMPLING)
    note = "The licence is the repository's; none is stated for the weights alone."
    return Weights(
        tag=tag,
        source=_released(stem),
        licence="Apache-2.0",
        data=data,
        labels=labels,
        sampling=sampling,
        preprocess=_PREPROCESS,
        metrics=_accuracy(*published, labels, sampling, "the authors") if published else (),
        note=" ".join([note, facts.pop("note", "")]).strip(),
        **facts,
    )


SWIN3D_T_K400 = _ported(
    "k400",
    ("swin3d_t", "7615ae03"),
    "tiny_patch244_window877_kinetics400_1k",
    pictures="ImageNet-1k (pictures)",
    measured=(77.715, 93.519),
    published=(78.8, 93.6),
)
SWIN3D_S_K400 = _ported(
    "k400",
    ("swin3d_s", "da41c237"),
    "small_patch244_window877_kinetics400_1k",
    pictures="ImageNet-1k (pictures)",
    measured=(79.521, 94.158),
    published=(80.6, 94.5),
)
SWIN3D_B = (
    _ported(
        "k400",
        ("swin3d_b_1k", "24f7c7c6"),
        "base_patch244_window877_kinetics400_1k",
        pictures="ImageNet-1k (pictures)",
        measured=(79.427, 94.386),
        published=(80.6, 94.6),
    ),
    _ported(
        "in22k_ft_k400",
        ("swin3d_b_22k", "7c6ae6fa"),
        "base_patch244_window877_kinetics400_22k",
        pictures="ImageNet-22k (pictures)",
        measured=(81.643, 95.574),
        published=(82.7, 95.5),
    ),
    _authors(
        "in22k_ft_k600",
        "base_patch244_window877_kinetics600_22k",
        "ImageNet-22k (pictures), then Kinetics-600",
        "kinetics600",
        num_classes=600,
        published=(84.0, 96.5),
    ),
    _authors(
        "ssv2",
        "base_patch244_window1677_sthv2",
        "ImageNet-22k (pictures), Kinetics-400, then Something-Something v2",
        "something_something_v2",
        num_classes=174,
        published=(69.6, 92.7),
        arguments=(("window_frames", 16),),
        sampling=replace(_SAMPLING, rule="segments", frame_stride=1, num_clips=1),
        note="The authors round the bounds of the parts, which moves a third of the frames by one.",
    ),
    _authors(
        "in22k_ft_k400_w16",
        "base_patch244_window1677_kinetics400_22k",
        "ImageNet-22k (pictures), then Kinetics-400",
        "kinetics400",
        num_classes=400,
        arguments=(("window_frames", 16),),
        note="Published as the start of `ssv2`, without accuracy or test recipe; the one here is "
        "that of the authors' other Kinetics networks.",
    ),
)


@register_model(
    order="used",
    num_classes=7,
    sampling=replace(_SAMPLING, num_frames=8),
    preprocess=replace(_PREPROCESS, img_size=32, resize=32),
    layouts=_LAYOUTS,
)
def test_swin3d(*, window_frames: int = 2, **kwargs: Any) -> SwinTransformer3D:
    """Two narrow stages with windows that do not divide their grids, for tests."""
    return SwinTransformer3D(16, (2, 2), (2, 4), 3, window_frames=window_frames, **kwargs)


@register_model(order="used", paper=_PAPER, weights=(SWIN3D_T_K400,), layouts=_LAYOUTS)
def swin3d_t(**kwargs: Any) -> SwinTransformer3D:
    """Video Swin, tiny: 12 blocks, width 96."""
    return SwinTransformer3D(96, (2, 2, 6, 2), (3, 6, 12, 24), **kwargs)


@register_model(order="used", paper=_PAPER, weights=(SWIN3D_S_K400,), layouts=_LAYOUTS)
def swin3d_s(**kwargs: Any) -> SwinTransformer3D:
    """Video Swin, small: 24 blocks, width 96."""
    return SwinTransformer3D(96, (2, 2, 18, 2), (3, 6, 12, 24), **kwargs)


@register_model(order="used", paper=_PAPER, weights=SWIN3D_B, layouts=_LAYOUTS)
def swin3d_b(**kwargs: Any) -> SwinTransformer3D:
    """Video Swin, base: 24 blocks, width 128."""
    return SwinTransformer3D(128, (2, 2, 18, 2), (4, 8, 16, 32), **kwargs)
