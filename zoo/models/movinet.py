"""MoViNet: searched mobile networks for whole clips, and causal ones for endless streams.

Kondratyuk et al., "MoViNets: Mobile Video Networks for Efficient Video Recognition"
(https://arxiv.org/abs/2103.11511). The authors' code is `official/projects/movinet` in
tensorflow/models (Apache-2.0); their weights were ported by Atze00/MoViNet-pytorch (MIT), whose
layout is read here; weights of the three larger `_stream` networks exist for TensorFlow alone. Such
a network keeps nothing inside: `forward_stream` takes the state of the frames before and returns
that of the frames after.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from converters import KeyMap, Rule
from converters.keymap import Joint, Merge
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
from zoo.layers import (
    Conv3d,
    SqueezeExcite,
    Stream,
    StreamState,
    divisible,
    frame_counts,
    make_classifier,
    pad_space,
    position_encoding,
    running_mean,
)
from zoo.models._movinet_search import A0, A1, A2, A3, A4, A5, TINY, Config, Kernel
from zoo.models._staged import StagedModel

__all__ = [
    "MoViNet",
    "movinet_a0",
    "movinet_a0_stream",
    "movinet_a1",
    "movinet_a1_stream",
    "movinet_a2",
    "movinet_a2_stream",
    "movinet_a3",
    "movinet_a3_stream",
    "movinet_a4",
    "movinet_a4_stream",
    "movinet_a5",
    "movinet_a5_stream",
]


def _pooled(x: Tensor, stride: int) -> Tensor:
    """Averages over 3x3 pixels, zeros of the padding counted, (N, C, T, H', W')."""
    t = x.shape[2]
    x = rearrange(pad_space(x, 3, stride), "n c t h w -> n (c t) h w")
    return rearrange(F.avg_pool2d(x, 3, stride), "n (c t) h w -> n c t h w", t=t)


class ConvNorm(nn.Module):
    """Convolution, BatchNorm, activation; "same" padding in space as TensorFlow has it.

    Args:
        in_chans: Input channels C.
        out_chans: Output channels D.
        kernel: Kernel; zeros are padded at both ends of time.
        stride: Stride in space.
        depthwise: Whether each channel is convolved alone.
        act: Activation.
    """

    def __init__(
        self,
        in_chans: int,
        out_chans: int,
        kernel: Kernel = (1, 1),
        *,
        stride: int = 1,
        depthwise: bool = False,
        act: Callable[[], nn.Module] = nn.Identity,
    ) -> None:
        super().__init__()
        t, self.side = kernel
        self.stride = stride
        self.conv = Conv3d(
            in_chans,
            out_chans,
            (t, self.side, self.side),
            stride=(1, stride, stride),
            padding=(t // 2, 0, 0),
            groups=in_chans if depthwise else 1,
            bias=False,
        )
        self.bn = _norm(out_chans)
        self.act = act()

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, T, H, W) to (N, D, T, ceil(H / stride), ceil(W / stride))."""
        out: Tensor = self.act(self.bn(self.conv(pad_space(x, self.side, self.stride))))
        return out


class CausalConvNorm(nn.Module):
    """Convolution of each channel over a frame and those before it, BatchNorm, activation.

    Args:
        chans: Channels C.
        frames: Frames t that the kernel covers.
    """

    key: str

    def __init__(self, chans: int, frames: int) -> None:
        super().__init__()
        self.conv = Conv3d(chans, chans, (frames, 1, 1), groups=chans, bias=False)
        self.bn = _norm(chans)
        self.act = nn.Hardswish()

    def forward(self, x: Tensor, stream: Stream | None = None) -> Tensor:
        """Map (N, C, T, H, W) to the same shape; before a stream's start all is zero."""
        kept = self.conv.kernel_size[0] - 1
        if stream is None:
            x = F.pad(x, (0, 0, 0, 0, kept, 0))
        else:
            x = torch.cat([stream.past[self.key], x], dim=2)
            stream.kept[self.key] = x[:, :, -kept:]
        out: Tensor = self.act(self.bn(self.conv(x)))
        return out


def _norm(chans: int) -> nn.BatchNorm3d:
    return nn.BatchNorm3d(chans, eps=1e-3, momentum=0.01)


class CausalSqueezeExcite(nn.Module):
    """Scale each frame's channels by the averages of the frames so far and of that frame.

    Args:
        chans: Channels C.
        positional: Whether the frame's position in the stream is added to the averages.
    """

    key: str

    def __init__(self, chans: int, *, positional: bool) -> None:
        super().__init__()
        mid = divisible(chans / 2)
        self.fc1 = Conv3d(2 * chans, mid, 1)
        self.act = nn.Hardswish()
        self.fc2 = Conv3d(mid, chans, 1)
        self.position_scale = nn.Parameter(torch.zeros(())) if positional else None

    def forward(self, x: Tensor, stream: Stream | None = None) -> Tensor:
        """Map (N, C, T, H, W) to the same shape."""
        frame = x.mean(dim=(3, 4), keepdim=True)  # (N, C, T, 1, 1)
        scale = torch.cat([running_mean(frame, stream, self.key), frame], dim=1)
        if self.position_scale is not None:
            encoding = position_encoding(frame_counts(x, stream) - 1, scale.shape[1])
            scale = scale + self.position_scale * encoding.to(x.dtype)
        gate = self.fc2(self.act(self.fc1(scale)))
        # Keras's hard sigmoid, as the published networks have it; PyTorch's, and that of later
        # versions of the authors' code, has slope 1/6.
        return x * (0.2 * gate + 0.5).clamp(0, 1)


class Shortcut(nn.Module):
    """Halve the pictures by averages over 3x3, if asked for, and change the width.

    Args:
        in_chans: Input channels C.
        out_chans: Output channels D.
        stride: 1, or 2 to halve.
    """

    def __init__(self, in_chans: int, out_chans: int, *, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.project = ConvNorm(in_chans, out_chans)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, T, H, W) to (N, D, T, ceil(H / stride), ceil(W / stride))."""
        if self.stride > 1:
            # Zeros of the padding are not counted: sums are divided by the pixels there are.
            ones = x.new_ones(1, 1, 1, *x.shape[3:])
            x = _pooled(x, self.stride) / _pooled(ones, self.stride)
        out: Tensor = self.project(x)
        return out


class Block(nn.Module):
    """Widen, convolve each channel alone, scale channels, narrow; added to a shortcut.

    Args:
        in_chans: Input channels C.
        mid_chans: Channels of the convolution.
        out_chans: Output channels D.
        kernel: Its kernel.
        stride: Its stride in space.
        causal: Whether time is convolved after space, and only backwards.
        positional: Whether the scales of a causal block hear the frame's position.
    """

    def __init__(
        self,
        in_chans: int,
        mid_chans: int,
        out_chans: int,
        *,
        kernel: Kernel,
        stride: int,
        causal: bool,
        positional: bool,
    ) -> None:
        super().__init__()
        act = nn.Hardswish if causal else nn.SiLU
        t, side = kernel
        self.expand = ConvNorm(in_chans, mid_chans, act=act)
        self.deep = ConvNorm(
            mid_chans,
            mid_chans,
            (1, side) if causal else kernel,
            stride=stride,
            depthwise=True,
            act=act,
        )
        self.temporal = CausalConvNorm(mid_chans, t) if causal and t > 1 else None
        self.se = (
            CausalSqueezeExcite(mid_chans, positional=positional)
            if causal
            else SqueezeExcite(mid_chans, ratio=4, act=nn.SiLU)
        )
        self.project = ConvNorm(mid_chans, out_chans)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or in_chans != out_chans:
            self.shortcut = Shortcut(in_chans, out_chans, stride=stride)
        self.alpha = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor, stream: Stream | None = None) -> Tensor:
        """Map (N, C, T, H, W) to (N, D, T, H', W')."""
        shortcut = self.shortcut(x)
        x = self.deep(self.expand(x))
        if self.temporal is not None:
            x = self.temporal(x, stream)
        x = self.se(x) if stream is None else self.se(x, stream)
        out: Tensor = shortcut + self.alpha * self.project(x)
        return out


class MoViNet(StagedModel):
    """A MoViNet, for whole clips or causal.

    Features are (N, D, T, H/32, W/32), rounded up. Any number of frames and any size can be given
    to `forward`. A causal network gives on a video in pieces what it gives on the whole:

        state = model.initial_state(batch_size=1)
        for piece in pieces:  # each (N, C, t, H, W), of any length t
            logits, state = model.forward_stream(piece, state)

    Args:
        config: Widths, depths and kernels.
        causal: Whether no frame sees later ones.
        positional: Whether a causal network hears how many frames have gone by.
        num_classes: Classes K; 0 returns the pooled features.
        in_chans: Input channels C.
        num_frames: Frames that `load_clip` delivers.
        img_size: Side of the pictures that `load_clip` delivers.
        drop_rate: Dropout before the classifier.
    """

    def __init__(
        self,
        config: Config,
        *,
        causal: bool,
        positional: bool = False,
        num_classes: int = 600,
        in_chans: int = 3,
        num_frames: int = 50,
        img_size: int = 172,
        drop_rate: float = 0.5,
    ) -> None:
        super().__init__()
        self.in_chans, self.num_frames, self.img_size = in_chans, num_frames, img_size
        self.causal = causal
        act = nn.Hardswish if causal else nn.SiLU
        self.stem = ConvNorm(in_chans, config.stem, (1, 3), stride=2, act=act)
        self.stem_weights = ("stem.conv.weight",)
        width, reduction = config.stem, 2
        self.feature_info = [{"num_chs": width, "reduction": reduction, "module": "stem"}]
        for index, stage in enumerate(config.stages):
            blocks = []
            for depth, (mid, kernel) in enumerate(stage.blocks):
                stride = stage.stride if depth == 0 else 1
                blocks.append(
                    Block(
                        width,
                        mid,
                        stage.width,
                        kernel=kernel,
                        stride=stride,
                        causal=causal,
                        positional=positional,
                    )
                )
                width = stage.width
            name, reduction = f"layer{index + 1}", reduction * stage.stride
            self.add_module(name, nn.Sequential(*blocks))
            self.feature_info.append({"num_chs": width, "reduction": reduction, "module": name})
        self.head_conv = ConvNorm(width, config.head, act=act)
        self.feature_info.append(
            {"num_chs": config.head, "reduction": reduction, "module": "head_conv"}
        )
        self.head_hidden = nn.Linear(config.head, config.hidden)
        self.head_act = nn.SiLU()
        self.num_features = config.hidden
        self.num_classes = num_classes
        self.drop = nn.Dropout(drop_rate)
        self.head = make_classifier(config.hidden, num_classes)
        for name, module in self.named_modules():
            if isinstance(module, (CausalConvNorm, CausalSqueezeExcite)):
                module.key = name
            elif isinstance(module, nn.Conv3d) or module is self.head_hidden:
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Average features (N, D, T, H', W') to (N, D), widen, classify them, (N, K)."""
        return self._classify(x.mean(dim=(2, 3, 4)), pre_logits=pre_logits)

    def _classify(self, x: Tensor, *, pre_logits: bool = False) -> Tensor:
        x = self.drop(self.head_act(self.head_hidden(x)))  # (N, D')
        logits: Tensor = x if pre_logits else self.get_classifier()(x)
        return logits

    def initial_state(
        self, batch_size: int = 1, *, img_size: int | tuple[int, int] | None = None
    ) -> StreamState:
        """The state before a stream's first frame, on the model's device and in its dtype.

        Args:
            batch_size: Streams N.
            img_size: Side, or height and width, of the frames; `self.img_size` if left out.

        Raises:
            ValueError: The network is not causal.
        """
        self._check_causal()
        size = self.img_size if img_size is None else img_size
        h, w = (size, size) if isinstance(size, int) else size
        weight = self.stem.conv.weight
        sums = torch.promote_types(weight.dtype, torch.float32)
        state = {
            key: weight.new_zeros(shape, dtype=weight.dtype if key.endswith("temporal") else sums)
            for key, shape in self._state_shapes(batch_size, h, w).items()
        }
        return {**state, "frames": torch.zeros((), dtype=torch.int64, device=weight.device)}

    def forward_stream(self, x: Tensor, state: StreamState) -> tuple[Tensor, StreamState]:
        """Map the next frames of streams, (N, C, t, H, W), to the logits (N, K) after them.

        To train, detach the state between pieces, or gradients reach back to the first.

        Args:
            x: Frames; as many as there are.
            state: What the last call returned, or `initial_state`; left as it is.

        Returns:
            Logits over all frames so far, and the state to call this with next.

        Raises:
            ValueError: The network is not causal, or the state is one for other clips.
        """
        self._check_causal()
        self.check_input(x)
        n, _, t, h, w = x.shape
        shapes = {**self._state_shapes(n, h, w), "frames": ()}
        if {key: tuple(value.shape) for key, value in state.items()} != shapes:
            raise ValueError(
                f"The state is not one of this network for {n} streams of {h} x {w} pixels; "
                f"initial_state(batch_size={n}, img_size=({h}, {w})) makes one."
            )
        stream = Stream(state, t)
        x = self.stem(x)
        for block in self._blocks():
            x = block(x, stream)
        x = self.head_conv(x).mean(dim=(3, 4), keepdim=True)  # (N, D, t, 1, 1)
        x = running_mean(x, stream, "pool")[:, :, -1].flatten(1)  # (N, D)
        return self._classify(x), stream.kept

    def _blocks(self) -> Iterator[Block]:
        for stage in self._stages():
            if isinstance(stage, nn.Sequential):
                for block in stage:
                    assert isinstance(block, Block)
                    yield block

    def _state_shapes(self, n: int, h: int, w: int) -> dict[str, tuple[int, ...]]:
        """Shapes of the buffers and sums for N streams of H x W pixels."""
        h, w = -(-h // 2), -(-w // 2)  # after the stem
        shapes: dict[str, tuple[int, ...]] = {}
        for block in self._blocks():
            chans, stride = block.deep.conv.out_channels, block.deep.stride
            h, w = -(-h // stride), -(-w // stride)
            if block.temporal is not None:
                kept = block.temporal.conv.kernel_size[0] - 1
                shapes[block.temporal.key] = (n, chans, kept, h, w)
            shapes[str(block.se.key)] = (n, chans, 1, 1, 1)
        return {**shapes, "pool": (n, self.head_conv.conv.out_channels, 1, 1, 1)}

    def _check_causal(self) -> None:
        if not self.causal:
            raise ValueError(
                "This network looks at frames before and after each, so that it takes whole clips; "
                "for streams create one whose name ends in '_stream'."
            )


# The port keeps kernels over pictures and over time as 4-D tensors, and its last two layers as
# convolutions.
_PICTURE = Joint(lambda parts: parts[0].unsqueeze(2), lambda whole, _: (whole.squeeze(2),))
_TIME = Joint(lambda parts: parts[0].unsqueeze(4), lambda whole, _: (whole.squeeze(4),))
_DENSE_3D = Joint(
    lambda parts: parts[0].flatten(1), lambda whole, _: (whole[..., None, None, None],)
)
_DENSE_2D = Joint(lambda parts: parts[0].flatten(1), lambda whole, _: (whole[..., None, None],))


def _movinet_pytorch(config: Config, *, causal: bool) -> KeyMap:
    """The layout of Atze00/MoViNet-pytorch."""
    kind = "conv2d" if causal else "conv3d"

    def kernel(theirs: str, ours: str, joint: Joint = _PICTURE) -> Rule | Merge:
        if not causal:
            return Rule(f"{theirs}.{kind}.weight", f"{ours}.weight")
        return Merge((f"{theirs}.{kind}.weight",), f"{ours}.weight", joint)

    def conv_norm(theirs: str, ours: str, joint: Joint = _PICTURE) -> tuple[Rule | Merge, ...]:
        return kernel(theirs, f"{ours}.conv", joint), Rule(f"{theirs}.norm", f"{ours}.bn")

    def dense(theirs: str, ours: str) -> tuple[Rule | Merge, ...]:
        joint = _DENSE_2D if causal else _DENSE_3D
        return (
            Merge((f"{theirs}.{kind}.weight",), f"{ours}.weight", joint),
            Rule(f"{theirs}.{kind}.bias", f"{ours}.bias"),
        )

    def block(theirs: str, ours: str, pooled: int) -> tuple[Rule | Merge, ...]:
        return (
            *conv_norm(f"{theirs}.deep.conv_2", f"{ours}.temporal", _TIME),
            *conv_norm(f"{theirs}.{{part}}.conv_1", f"{ours}.{{part}}"),
            *conv_norm(f"{theirs}.res.{pooled}.conv_1", f"{ours}.shortcut.project"),
            kernel(f"{theirs}.se.{{fc}}.conv_1", f"{ours}.se.{{fc}}"),
            Rule(f"{theirs}.se.{{fc}}.conv_1.{kind}.bias", f"{ours}.se.{{fc}}.bias"),
            Rule(f"{theirs}.alpha", f"{ours}.alpha"),
        )

    rules = [
        *conv_norm("conv1.conv_1", "stem"),
        *conv_norm("conv7.conv_1", "head_conv"),
        *dense("classifier.0.conv_1", "head_hidden"),
        *dense("classifier.3.conv_1", "head"),
    ]
    for i, stage in enumerate(config.stages):
        for j in range(len(stage.blocks)):
            # Where a shortcut halves, its average comes first and its convolution second.
            pooled = int(j == 0 and stage.stride > 1)
            rules += block(f"blocks.b{i}_l{j}", f"layer{i + 1}.{j}", pooled)
    return KeyMap(tuple(rules))


def _layouts(config: Config, *, causal: bool = False) -> dict[str, KeyMap]:
    return {"movinet-pytorch": _movinet_pytorch(config, causal=causal)}


_PAPER = Paper(
    title="MoViNets: Mobile Video Networks for Efficient Video Recognition",
    url="https://arxiv.org/abs/2103.11511",
    year=2021,
)
# The strides of the authors' configurations and the 5, 12 and 8 frames a second of their paper's
# table agree at 25 frames a second.
_SAMPLING = Sampling(
    rule="dense",
    num_frames=50,
    frame_stride=5,
    fps=25.0,
    num_clips=1,
    num_crops=1,
    average="logits",
)
_PREPROCESS = Preprocess(
    img_size=172,
    resize=192,
    interpolation="bilinear",
    antialias=False,
    mean=(0.0, 0.0, 0.0),
    std=(1.0, 1.0, 1.0),
)


def _trained(
    size: str, *, frames: tuple[int, int], crop: int, resize: int, top1: float, top5: float
) -> tuple[Weights]:
    """The record of one network, by its name in the port's files, frames T with their stride."""
    filename = f"model{size}_statedict_v3"
    protocol: dict[str, Any] = {
        "dataset": "kinetics600",
        "split": "validation",
        "level": "video",
        "num_clips": 1,
        "num_crops": 1,
        "measured_by": "the authors",
        "note": "measured in TensorFlow, before the port",
    }
    weights = Weights(
        tag="k600",
        source=UpstreamSource(
            layout="movinet-pytorch",
            filename=filename,
            url=f"https://github.com/Atze00/MoViNet-pytorch/blob/main/weights/{filename}?raw=true",
            sha256=UNKNOWN,
        ),
        licence="MIT",
        data="Kinetics-600",
        num_classes=600,
        labels="kinetics600",
        sampling=replace(_SAMPLING, num_frames=frames[0], frame_stride=frames[1]),
        preprocess=replace(_PREPROCESS, img_size=crop, resize=resize),
        metrics=(
            Metric(name="top1", value=top1, **protocol),
            Metric(name="top5", value=top5, **protocol),
        ),
        note="The licence is the port's; the authors' code and checkpoints are Apache-2.0.",
    )
    return (weights,)


def _untrained(*, frames: tuple[int, int], crop: int, resize: int) -> dict[str, Any]:
    """Defaults of a network whose weights are published for TensorFlow alone."""
    return {
        "num_classes": 600,
        "sampling": replace(_SAMPLING, num_frames=frames[0], frame_stride=frames[1]),
        "preprocess": replace(_PREPROCESS, img_size=crop, resize=resize),
    }


_TINY = {**_untrained(frames=(8, 2), crop=32, resize=32), "num_classes": 7}


@register_model(order="used", layouts=_layouts(TINY), **_TINY)
def test_movinet(**kwargs: Any) -> MoViNet:
    """MoViNet of five narrow blocks, for tests."""
    return MoViNet(TINY, causal=False, drop_rate=0.0, **kwargs)


@register_model(order="used", layouts=_layouts(TINY, causal=True), **_TINY)
def test_movinet_stream(**kwargs: Any) -> MoViNet:
    """Causal MoViNet of five narrow blocks, for tests."""
    return MoViNet(TINY, causal=True, drop_rate=0.0, **kwargs)


@register_model(order="used", **_TINY)
def test_movinet_stream_positional(**kwargs: Any) -> MoViNet:
    """Causal MoViNet of five narrow blocks that hear their position, for tests."""
    return MoViNet(TINY, causal=True, positional=True, drop_rate=0.0, **kwargs)


@register_model(
    order="used",
    paper=_PAPER,
    weights=_trained("A0", frames=(50, 5), crop=172, resize=192, top1=72.28, top5=90.92),
    layouts=_layouts(A0),
)
def movinet_a0(**kwargs: Any) -> MoViNet:
    """MoViNet-A0 for whole clips of 172 pixels."""
    return MoViNet(A0, causal=False, drop_rate=0.2, **kwargs)


@register_model(
    order="used",
    paper=_PAPER,
    weights=_trained("A0_stream", frames=(50, 5), crop=172, resize=192, top1=72.05, top5=90.63),
    layouts=_layouts(A0, causal=True),
)
def movinet_a0_stream(**kwargs: Any) -> MoViNet:
    """MoViNet-A0 for streams of 172 pixels."""
    return MoViNet(A0, causal=True, drop_rate=0.2, **kwargs)


@register_model(
    order="used",
    paper=_PAPER,
    weights=_trained("A1", frames=(50, 5), crop=172, resize=192, top1=76.69, top5=93.4),
    layouts=_layouts(A1),
)
def movinet_a1(**kwargs: Any) -> MoViNet:
    """MoViNet-A1 for whole clips of 172 pixels."""
    return MoViNet(A1, causal=False, **kwargs)


@register_model(
    order="used",
    paper=_PAPER,
    weights=_trained("A1_stream", frames=(50, 5), crop=172, resize=192, top1=76.45, top5=93.25),
    layouts=_layouts(A1, causal=True),
)
def movinet_a1_stream(**kwargs: Any) -> MoViNet:
    """MoViNet-A1 for streams of 172 pixels."""
    return MoViNet(A1, causal=True, **kwargs)


@register_model(
    order="used",
    paper=_PAPER,
    weights=_trained("A2", frames=(50, 5), crop=224, resize=256, top1=78.62, top5=94.17),
    layouts=_layouts(A2),
)
def movinet_a2(**kwargs: Any) -> MoViNet:
    """MoViNet-A2 for whole clips of 224 pixels."""
    return MoViNet(A2, causal=False, **kwargs)


@register_model(
    order="used",
    paper=_PAPER,
    weights=_trained("A2_stream", frames=(50, 5), crop=224, resize=256, top1=78.4, top5=94.05),
    layouts=_layouts(A2, causal=True),
)
def movinet_a2_stream(**kwargs: Any) -> MoViNet:
    """MoViNet-A2 for streams of 224 pixels."""
    return MoViNet(A2, causal=True, **kwargs)


@register_model(
    order="used",
    paper=_PAPER,
    weights=_trained("A3", frames=(120, 2), crop=256, resize=288, top1=81.79, top5=95.67),
    layouts=_layouts(A3),
)
def movinet_a3(**kwargs: Any) -> MoViNet:
    """MoViNet-A3 for whole clips of 256 pixels."""
    return MoViNet(A3, causal=False, **kwargs)


@register_model(order="used", paper=_PAPER, **_untrained(frames=(120, 2), crop=256, resize=288))
def movinet_a3_stream(**kwargs: Any) -> MoViNet:
    """MoViNet-A3 for streams of 256 pixels, which hears its position; no weights are read."""
    return MoViNet(A3, causal=True, positional=True, **kwargs)


@register_model(
    order="used",
    paper=_PAPER,
    weights=_trained("A4", frames=(80, 3), crop=290, resize=320, top1=83.48, top5=96.16),
    layouts=_layouts(A4),
)
def movinet_a4(**kwargs: Any) -> MoViNet:
    """MoViNet-A4 for whole clips of 290 pixels."""
    return MoViNet(A4, causal=False, **kwargs)


@register_model(order="used", paper=_PAPER, **_untrained(frames=(80, 3), crop=290, resize=320))
def movinet_a4_stream(**kwargs: Any) -> MoViNet:
    """MoViNet-A4 for streams of 290 pixels, which hears its position; no weights are read."""
    return MoViNet(A4, causal=True, positional=True, **kwargs)


@register_model(
    order="used",
    paper=_PAPER,
    weights=_trained("A5", frames=(120, 2), crop=320, resize=368, top1=84.27, top5=96.39),
    layouts=_layouts(A5),
)
def movinet_a5(**kwargs: Any) -> MoViNet:
    """MoViNet-A5 for whole clips of 320 pixels."""
    return MoViNet(A5, causal=False, **kwargs)


@register_model(order="used", paper=_PAPER, **_untrained(frames=(120, 2), crop=320, resize=368))
def movinet_a5_stream(**kwargs: Any) -> MoViNet:
    """MoViNet-A5 for streams of 320 pixels, which hears its position; no weights are read."""
    return MoViNet(A5, causal=True, positional=True, **kwargs)
