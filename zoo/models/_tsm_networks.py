"""The picture networks of TSM, with their shifts and non-local blocks.

Each has a plan, from which both its stages and the map from mmaction2's keys are made, so that a
shift stands in the network where the keys say that it stood in training.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol, TypeAlias

import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from converters import KeyMap, Rule
from zoo.layers import Conv3d, TemporalShift

__all__ = ["MobileNetV2", "MobileOne", "NonLocalMode", "Plan", "ResNet"]

NonLocalMode: TypeAlias = Literal["dot", "gaussian", "embedded"]


class ConvNorm(nn.Module):
    """A convolution of frames, its BatchNorm and maybe an activation."""

    def __init__(
        self,
        in_chans: int,
        out_chans: int,
        side: int,
        *,
        stride: int = 1,
        groups: int = 1,
        act: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(
            in_chans, out_chans, side, stride, side // 2, groups=groups, bias=False
        )
        self.bn = nn.BatchNorm2d(out_chans)
        self.act = act

    def forward(self, x: Tensor) -> Tensor:
        """Map frames (N * T, C, H, W) to (N * T, D, H', W')."""
        x = self.bn(self.conv(x))
        return x if self.act is None else self.act(x)


class NonLocal(nn.Module):
    """Attention of every place in a clip to every second one of each frame.

    Args:
        dim: Width D; inside it is half of that.
        mode: How two places are compared: `gaussian` by the features as they are, `embedded` and
            `dot` by learned ones; `dot` divides by their number instead of taking a softmax.
    """

    def __init__(self, dim: int, mode: NonLocalMode) -> None:
        super().__init__()
        self.mode = mode
        self.g = Conv3d(dim, dim // 2, 1)
        self.pool = nn.MaxPool3d((1, 2, 2))
        if mode != "gaussian":
            self.theta = Conv3d(dim, dim // 2, 1)
            self.phi = Conv3d(dim, dim // 2, 1)
        for layer in self.children():
            if isinstance(layer, nn.Conv3d) and layer.bias is not None:
                nn.init.normal_(layer.weight, std=0.01)
                nn.init.zeros_(layer.bias)
        self.out = Conv3d(dim // 2, dim, 1, bias=False)
        self.bn = nn.BatchNorm3d(dim)
        nn.init.zeros_(self.bn.weight)

    def forward(self, x: Tensor, num_frames: int) -> Tensor:
        """Map frames (N * T, D, H, W) to (N * T, D, H, W)."""
        clip = rearrange(x, "(n t) d h w -> n d t h w", t=num_frames)
        bare = self.mode == "gaussian"
        query, key, value = (  # one head: ONNX has attention over heads only
            rearrange(part, "n d t h w -> n 1 (t h w) d")
            for part in (
                clip if bare else self.theta(clip),
                self.pool(clip if bare else self.phi(clip)),
                self.pool(self.g(clip)),
            )
        )
        if self.mode == "dot":
            seen = query @ (key.transpose(2, 3) @ value) / key.shape[2]  # (N, 1, L, D/2)
        else:
            seen = F.scaled_dot_product_attention(query, key, value, scale=1.0)
        t, h = clip.shape[2:4]
        seen = rearrange(seen, "n 1 (t h w) d -> n d t h w", t=t, h=h)
        return rearrange(clip + self.bn(self.out(seen)), "n d t h w -> (n t) d h w")


class FrameBlock(nn.Module):
    """A block over frames that knows how many of them are a clip.

    Attributes:
        shift: The shift, None in a block without one.
    """

    def __init__(self) -> None:
        super().__init__()
        # Not an attribute of the class: that would hide the module which a block puts here.
        self.shift: TemporalShift | None = None

    def shifted(self, x: Tensor, num_frames: int) -> Tensor:
        """Frames (N * T, C, H, W) with the shift of this block."""
        return x if self.shift is None else self.shift(x, num_frames)


class Bottleneck(FrameBlock):
    """A residual block that shifts only what goes into its convolutions, not the shortcut.

    Args:
        in_chans: Input channels C.
        width: Channels inside; four times as many come out.
        stride: Stride of the 3x3 convolution.
        shift: Whether there is a shift.
        non_local: Kind of the non-local block behind, if there is one.
    """

    def __init__(
        self,
        in_chans: int,
        width: int,
        *,
        stride: int,
        shift: bool,
        non_local: NonLocalMode | None,
    ) -> None:
        super().__init__()
        self.shift = TemporalShift() if shift else None
        self.conv1 = ConvNorm(in_chans, width, 1, act=nn.ReLU(inplace=True))
        self.conv2 = ConvNorm(width, width, 3, stride=stride, act=nn.ReLU(inplace=True))
        self.conv3 = ConvNorm(width, 4 * width, 1)
        self.act = nn.ReLU(inplace=True)
        self.downsample: nn.Module | None = None
        if stride != 1 or in_chans != 4 * width:
            self.downsample = ConvNorm(in_chans, 4 * width, 1, stride=stride)
        self.non_local = NonLocal(4 * width, non_local) if non_local else None

    def forward(self, x: Tensor, num_frames: int) -> Tensor:
        """Map frames (N * T, C, H, W) to (N * T, D, H', W')."""
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.conv3(self.conv2(self.conv1(self.shifted(x, num_frames))))
        x = self.act(x + shortcut)
        return x if self.non_local is None else self.non_local(x, num_frames)


class InvertedResidual(FrameBlock):
    """MobileNetV2's block; it shifts where it has a shortcut.

    Args:
        in_chans: Input channels C.
        out_chans: Output channels D.
        stride: Stride of the depthwise convolution.
        expand: Width inside by C; 1 leaves out the first convolution.
    """

    def __init__(self, in_chans: int, out_chans: int, *, stride: int, expand: int) -> None:
        super().__init__()
        width = in_chans * expand
        self.shortcut = stride == 1 and in_chans == out_chans
        self.conv = nn.Sequential(
            ConvNorm(width, width, 3, stride=stride, groups=width, act=nn.ReLU6(inplace=True)),
            ConvNorm(width, out_chans, 1),
        )
        if expand != 1:
            self.conv.insert(0, ConvNorm(in_chans, width, 1, act=nn.ReLU6(inplace=True)))
        if self.shifts(in_chans, out_chans, stride=stride, expand=expand):
            self.shift = TemporalShift()

    @staticmethod
    def shifts(in_chans: int, out_chans: int, *, stride: int, expand: int) -> bool:
        """Whether the block shifts: it has a shortcut and a first convolution."""
        return stride == 1 and in_chans == out_chans and expand != 1

    def forward(self, x: Tensor, num_frames: int) -> Tensor:
        """Map frames (N * T, C, H, W) to (N * T, D, H', W')."""
        out: Tensor = self.conv(self.shifted(x, num_frames))
        return x + out if self.shortcut else out


class SqueezeExcite(nn.Module):
    """Channels weighed by what the whole picture holds; inside a sixteenth, by steps of 8."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        width = dim // 16
        inner = max(8, (width + 4) // 8 * 8)
        inner += 8 if inner < 0.9 * width else 0
        self.reduce = nn.Conv2d(dim, inner, 1)
        self.expand = nn.Conv2d(inner, dim, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map frames (N * T, D, H, W) to (N * T, D, H, W)."""
        scale = self.expand(F.relu(self.reduce(x.mean(dim=(2, 3), keepdim=True))))
        return x * scale.sigmoid()


class MobileOneBlock(FrameBlock):
    """A convolution, and beside it what training adds: a 1x1 one and a bare BatchNorm.

    The shift stands before all of them.

    Args:
        in_chans: Input channels C.
        out_chans: Output channels D.
        side: Side of the kernel, 3 or 1; the 1x1 convolution stands beside a larger one only.
        stride: Stride.
        groups: Groups of channels.
        squeeze: Whether channels are weighed before the activation.
    """

    def __init__(
        self,
        in_chans: int,
        out_chans: int,
        side: int,
        *,
        stride: int = 1,
        groups: int = 1,
        squeeze: bool = False,
    ) -> None:
        super().__init__()
        self.shift = TemporalShift()
        self.conv = ConvNorm(in_chans, out_chans, side, stride=stride, groups=groups)
        self.scale: nn.Module | None = None
        if side > 1:
            self.scale = ConvNorm(in_chans, out_chans, 1, stride=stride, groups=groups)
        same = in_chans == out_chans and stride == 1
        self.identity = nn.BatchNorm2d(in_chans) if same else None
        self.se = SqueezeExcite(out_chans) if squeeze else None
        self.act = nn.ReLU(inplace=True)

    def forward(self, x: Tensor, num_frames: int) -> Tensor:
        """Map frames (N * T, C, H, W) to (N * T, D, H', W')."""
        x = self.shifted(x, num_frames)
        out: Tensor = self.conv(x)
        for branch in (self.scale, self.identity):
            out = out if branch is None else out + branch(x)
        out = out if self.se is None else self.se(out)
        return self.act(out)


class Frames(nn.Sequential):
    """A stage over the frames of clips.

    Attributes:
        shift_frames: Frames among which channels are shifted; None for all of a clip.
    """

    shift_frames: int | None = None

    def forward(self, x: Tensor) -> Tensor:
        """Map clips (N, C, T, H, W) to (N, D, T, H', W')."""
        t = x.shape[2]
        x = rearrange(x, "n c t h w -> (n t) c h w")
        for module in self:
            shifts = isinstance(module, FrameBlock)
            x = module(x, self.shift_frames or t) if shifts else module(x)
        return rearrange(x, "(n t) d h w -> n d t h w", t=t)


class Level(NamedTuple):
    """A stage, its width and how many pixels one of its places stands for."""

    stage: Frames
    width: int
    reduction: int


class Plan(Protocol):
    """What makes one of the picture networks."""

    def levels(self, in_chans: int) -> Iterator[Level]:
        """The stem and the stages behind it."""

    def keymap(self) -> KeyMap:
        """From mmaction2's keys, which tell where a shift stands, to ours."""


_HEAD = Rule("cls_head.fc_cls", "fc")


@dataclass(frozen=True)
class ResNet:
    """ResNet of bottlenecks.

    Attributes:
        depths: Blocks in each of the four stages.
        width: Channels of the stem.
        shift_every: Which blocks of a stage shift; 2 for the first, third and so on.
        non_local: Kind of the non-local blocks behind every second block of stages 2 and 3.
    """

    depths: Sequence[int]
    width: int = 64
    shift_every: int = 1
    non_local: NonLocalMode | None = None

    def attention(self, stage: int, block: int) -> NonLocalMode | None:
        """Kind of the non-local block behind a block of stage 1 to 4, if there is one."""
        return self.non_local if stage in (2, 3) and block % 2 == 0 else None

    def levels(self, in_chans: int) -> Iterator[Level]:
        """See `Plan.levels`."""
        chans, width = self.width, self.width
        stem = ConvNorm(in_chans, chans, 7, stride=2, act=nn.ReLU(inplace=True))
        yield Level(Frames(stem, nn.MaxPool2d(3, 2, 1)), chans, 4)
        for stage, depth in enumerate(self.depths, start=1):
            blocks = []
            for index in range(depth):
                blocks.append(
                    Bottleneck(
                        chans,
                        width,
                        stride=2 if stage > 1 and index == 0 else 1,
                        shift=index % self.shift_every == 0,
                        non_local=self.attention(stage, index),
                    )
                )
                chans = 4 * width
            yield Level(Frames(*blocks), chans, 2 ** (stage + 1))
            width *= 2

    def keymap(self) -> KeyMap:
        """See `Plan.keymap`."""
        rules = [Rule("backbone.conv1", "stem.0"), _HEAD]
        for stage, depth in enumerate(self.depths, start=1):
            for index in range(depth):
                theirs, ours = f"backbone.layer{stage}.{index}", f"layer{stage}.{index}"
                if self.attention(stage, index):
                    other = f"{theirs}.non_local_block"
                    rules += [
                        Rule(f"{other}.g.0.conv", f"{ours}.non_local.g"),
                        Rule(f"{other}.theta.conv", f"{ours}.non_local.theta"),
                        Rule(f"{other}.phi.0.conv", f"{ours}.non_local.phi"),
                        Rule(f"{other}.conv_out.conv", f"{ours}.non_local.out"),
                        Rule(f"{other}.conv_out.bn", f"{ours}.non_local.bn"),
                    ]
                    theirs += ".block"
                if index % self.shift_every == 0:
                    rules.append(Rule(f"{theirs}.conv1.conv.net", f"{ours}.conv1.conv"))
                rules.append(Rule(theirs, ours))
        return KeyMap(tuple(rules))


@dataclass(frozen=True)
class MobileNetV2:
    """MobileNetV2.

    Attributes:
        rows: For each stage expansion, channels, blocks and stride, as its paper's table 2.
        stem: Channels of the stem.
        last: Channels of the last 1x1 convolution.
    """

    rows: Sequence[tuple[int, int, int, int]] = (
        (1, 16, 1, 1),
        (6, 24, 2, 2),
        (6, 32, 3, 2),
        (6, 64, 4, 2),
        (6, 96, 3, 1),
        (6, 160, 3, 2),
        (6, 320, 1, 1),
    )
    stem: int = 32
    last: int = 1280

    def levels(self, in_chans: int) -> Iterator[Level]:
        """See `Plan.levels`."""
        chans, reduction = self.stem, 2
        stem = ConvNorm(in_chans, chans, 3, stride=2, act=nn.ReLU6(inplace=True))
        yield Level(Frames(stem), chans, reduction)
        for expand, out, depth, stride in self.rows:
            blocks = []
            for index in range(depth):
                step = stride if index == 0 else 1
                blocks.append(InvertedResidual(chans, out, stride=step, expand=expand))
                chans = out
            reduction *= stride
            yield Level(Frames(*blocks), chans, reduction)
        last = ConvNorm(chans, self.last, 1, act=nn.ReLU6(inplace=True))
        yield Level(Frames(last), self.last, reduction)

    def keymap(self) -> KeyMap:
        """See `Plan.keymap`."""
        rules = [Rule("backbone.conv1", "stem.0"), _HEAD]
        chans = self.stem
        for stage, (expand, out, depth, stride) in enumerate(self.rows, start=1):
            for index in range(depth):
                theirs, ours = f"backbone.layer{stage}.{index}", f"layer{stage}.{index}"
                step = stride if index == 0 else 1
                if InvertedResidual.shifts(chans, out, stride=step, expand=expand):
                    rules.append(Rule(f"{theirs}.conv.0.net", f"{ours}.conv.0"))
                chans = out
            rules.append(Rule(f"backbone.layer{stage}", f"layer{stage}"))
        rules.append(Rule("backbone.conv2", f"layer{len(self.rows) + 1}.0"))
        return KeyMap(tuple(rules))


@dataclass(frozen=True)
class MobileOne:
    """MobileOne as it is trained, one convolution a block; the default is S4.

    Attributes:
        depths: Pairs of a depthwise and a 1x1 block in each stage.
        widths: Channels of each stage.
        squeezed: How many pairs at the end of each stage weigh their channels.
        stem: Channels of the stem.
    """

    depths: Sequence[int] = (2, 8, 10, 1)
    widths: Sequence[int] = (192, 448, 896, 2048)
    squeezed: Sequence[int] = (0, 0, 5, 1)
    stem: int = 64

    def levels(self, in_chans: int) -> Iterator[Level]:
        """See `Plan.levels`."""
        yield Level(Frames(MobileOneBlock(in_chans, self.stem, 3, stride=2)), self.stem, 2)
        chans, reduction = self.stem, 2
        for depth, out, squeezed in zip(self.depths, self.widths, self.squeezed, strict=True):
            blocks = []
            for index in range(depth):
                squeeze, step = index >= depth - squeezed, 2 if index == 0 else 1
                blocks += [
                    MobileOneBlock(chans, chans, 3, stride=step, groups=chans, squeeze=squeeze),
                    MobileOneBlock(chans, out, 1, squeeze=squeeze),
                ]
                chans = out
            reduction *= 2
            yield Level(Frames(*blocks), chans, reduction)

    def keymap(self) -> KeyMap:
        """See `Plan.keymap`."""
        rules = [_HEAD]
        blocks = [("backbone.stage0.net", "stem.0")]
        for stage, _ in enumerate(self.depths, start=1):
            blocks.append((f"backbone.stage{stage}.{{i}}.net", f"layer{stage}.{{i}}"))
        for theirs, ours in blocks:
            rules += [
                Rule(f"{theirs}.branch_conv_list.0.conv", f"{ours}.conv.conv"),
                Rule(f"{theirs}.branch_conv_list.0.norm", f"{ours}.conv.bn"),
                Rule(f"{theirs}.branch_scale.conv", f"{ours}.scale.conv"),
                Rule(f"{theirs}.branch_scale.norm", f"{ours}.scale.bn"),
                Rule(f"{theirs}.branch_norm", f"{ours}.identity"),
                Rule(f"{theirs}.se.conv1.conv", f"{ours}.se.reduce"),
                Rule(f"{theirs}.se.conv2.conv", f"{ours}.se.expand"),
            ]
        return KeyMap(tuple(rules))
