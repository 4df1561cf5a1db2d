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

from registry import Paper, register_model
from zoo.layers import DropPath, Mlp, biased_attention, make_classifier
from zoo.models._base import VideoModel, chosen_levels, run
from zoo.models._swin3d_weights import (
    LAYOUTS,
    PREPROCESS,
    SAMPLING,
    SWIN3D_B,
    SWIN3D_S_K400,
    SWIN3D_T_K400,
)

__all__ = ["SwinTransformer3D", "swin3d_b", "swin3d_s", "swin3d_t"]

Window: TypeAlias = tuple[int, int, int]
_PATCH = (2, 4, 4)


def relative_positions(window: Window) -> Tensor:
    """The row of the bias table for each pair of tokens in a window of L: (L, L)."""
    places = torch.cartesian_prod(*(torch.arange(size) for size in window))  # (L, 3)
    steps = places.new_tensor([(2 * window[1] - 1) * (2 * window[2] - 1), 2 * window[2] - 1, 1])
    rows = places @ steps  # (L,); a row is linear in the offset, so that no (L, L, 3) is needed
    return rows[:, None] - rows[None, :] + (places.new_tensor(window) - 1) @ steps


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


def runs(size: int, window: int, shift: int) -> list[tuple[slice, int]]:
    """The places of an axis as windows lie on it, equal ones together, with their length each.

    What a cyclic shift brings into the last window from the other end stands apart from the rest of
    it: both are windows of their own, and shorter.

    Args:
        size: Places; the window divides them.
        window: Places of a window.
        shift: Places by which the windows lie off the beginning; 0 for none.
    """
    if not shift:
        return [(slice(0, size), window)]
    last = size - window + shift
    found = [(slice(0, shift), shift), (slice(shift, last), window)]
    return [*found, (slice(last, size), window - shift)]


def cut_bias(bias: Tensor, window: Window) -> Tensor:
    """From (heads, T, H, W, T, H, W), a bias for each pair of places, that of a window of L places.

    Returns:
        (heads, L, L).
    """
    t, h, w = window
    return bias[:, :t, :h, :w, :t, :h, :w].reshape(-1, t * h * w, t * h * w)


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

    def _bias(self) -> Tensor:
        """The bias of each pair of places by its offset, (heads, T, H, W, T, H, W)."""
        rows = (
            self.relative_position_bias_table.t().contiguous()
        )  # columns would be read one by one
        pairs = rows.index_select(1, self.relative_position_index.flatten())
        return pairs.reshape(self.num_heads, *self.window, *self.window)

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
        # A processor is fastest without a mask, a graph and an accelerator with few calls.
        if any(shift) and (x.device.type != "cpu" or torch.compiler.is_compiling()):
            x = self._rolled(x, window, shift)
        else:
            x = self._apart(x, window, shift)
        return x[:, : size[0], : size[1], : size[2]]  # (N, T, H, W, D)

    def _apart(self, x: Tensor, window: Window, shift: Window) -> Tensor:
        """Attention within windows, those that the grid's ends cut being shorter."""
        qkv, bias = self.qkv(x), self._bias()
        over_t, over_h, over_w = (
            runs(have, w, s) for have, w, s in zip(x.shape[1:4], window, shift, strict=True)
        )
        x = torch.cat(
            [
                torch.cat(
                    [
                        torch.cat(
                            [self._attend(qkv[:, a, b, c], (t, h, w), bias) for c, w in over_w], 3
                        )
                        for b, h in over_h
                    ],
                    dim=2,
                )
                for a, t in over_t
            ],
            dim=1,
        )
        return self.proj(x)

    def _attend(self, qkv: Tensor, window: Window, bias: Tensor) -> Tensor:
        """Map queries, keys and values (N, T, H, W, 3*D), which windows divide, to (.., D)."""
        t, h, w = window
        a, b, c = (have // want for have, want in zip(qkv.shape[1:4], window, strict=True))
        # Whole tokens are copied; that heads do not lie apart costs attention nothing.
        tokens = rearrange(qkv, "n (a t) (b h) (c w) e -> (n a b c) (t h w) e", t=t, h=h, w=w)
        q, k, v = rearrange(
            tokens, "m l (three heads d) -> three m heads l d", three=3, heads=self.num_heads
        )
        out = biased_attention(q, k, v, cut_bias(bias, window)[None])
        return rearrange(
            out,
            "(n a b c) heads (t h w) d -> n (a t) (b h) (c w) (heads d)",
            a=a,
            b=b,
            c=c,
            t=t,
            h=h,
        )

    def _rolled(self, x: Tensor, window: Window, shift: Window) -> Tensor:
        """Attention within equal windows of the grid rolled on, with a mask."""
        t, h, w = window
        x = torch.roll(x, [-step for step in shift], (1, 2, 3))
        grid: Any = tuple(x.shape[1:4])
        # One mask serves all clips: windows stand beside the heads.
        mask = shift_mask(grid, window, shift, x)[:, None] + cut_bias(self._bias(), window)
        fold = "n (a b c heads)"
        q, k, v = rearrange(
            self.qkv(x),
            f"n (a t) (b h) (c w) (three heads d) -> three {fold} (t h w) d",
            three=3,
            heads=self.num_heads,
            t=t,
            h=h,
            w=w,
        )
        x = F.scaled_dot_product_attention(q, k, v, attn_mask=mask.flatten(0, 1)[None])
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
        return torch.roll(self.proj(x), shift, (1, 2, 3))


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


_PAPER = Paper(title="Video Swin Transformer", url="https://arxiv.org/abs/2106.13230", year=2021)


@register_model(
    order="used",
    num_classes=7,
    sampling=replace(SAMPLING, num_frames=8),
    preprocess=replace(PREPROCESS, img_size=32, resize=32),
    layouts=LAYOUTS,
)
def test_swin3d(*, window_frames: int = 2, **kwargs: Any) -> SwinTransformer3D:
    """Two narrow stages with windows that do not divide their grids, for tests."""
    return SwinTransformer3D(16, (2, 2), (2, 4), 3, window_frames=window_frames, **kwargs)


@register_model(order="used", paper=_PAPER, weights=(SWIN3D_T_K400,), layouts=LAYOUTS)
def swin3d_t(**kwargs: Any) -> SwinTransformer3D:
    """Video Swin, tiny: 12 blocks, width 96."""
    return SwinTransformer3D(96, (2, 2, 6, 2), (3, 6, 12, 24), **kwargs)


@register_model(order="used", paper=_PAPER, weights=(SWIN3D_S_K400,), layouts=LAYOUTS)
def swin3d_s(**kwargs: Any) -> SwinTransformer3D:
    """Video Swin, small: 24 blocks, width 96."""
    return SwinTransformer3D(96, (2, 2, 18, 2), (3, 6, 12, 24), **kwargs)


@register_model(order="used", paper=_PAPER, weights=SWIN3D_B, layouts=LAYOUTS)
def swin3d_b(**kwargs: Any) -> SwinTransformer3D:
    """Video Swin, base: 24 blocks, width 128."""
    return SwinTransformer3D(128, (2, 2, 18, 2), (4, 8, 16, 32), **kwargs)
