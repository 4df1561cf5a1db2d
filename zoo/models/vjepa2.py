"""V-JEPA 2: a ViT over tubelets with rotary positions, and an attentive classifier on top.

Assran et al., "V-JEPA 2: Self-Supervised Video Models Enable Understanding, Prediction and
Planning" (https://arxiv.org/abs/2506.09985). The reference is facebookresearch/vjepa2 (MIT, parts
Apache-2.0); what it computes on one clip is computed here, its predictor is left out. transformers'
classifier differs from it, and so from this one: there the pooler has the encoder's number of heads
(22 for `vjepa2_g`, trained with 16), reads the last block alone (those of Diving48 were trained on
four) and its norms have eps 1e-6 (trained with 1e-5).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from converters import STACKED, KeyMap, Merge, Rule
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
    Attention,
    DropPath,
    Mlp,
    PatchConv3d,
    make_classifier,
    split_heads,
)
from zoo.models._base import VideoModel, chosen_levels, run
from zoo.models._notes import UNFILTERED, joined

__all__ = ["VJEPA2", "vjepa2_g", "vjepa2_h", "vjepa2_l"]

_TUBELET, _PATCH = 2, 16
_POOLER_EPS = 1e-5  # nn.LayerNorm's own, where the encoder's norms have 1e-6


def rotary_table(grid: tuple[int, int, int], head_dim: int, *, device: torch.device) -> Tensor:
    """Cosines and sines of the angles that tell where a token stands.

    A head's channels are four parts: rotated by frame, row and column, and a rest that is not.
    Positions are counted in patches whatever the size of the picture. As in the reference, whose
    weights are trained with it, the frequencies are repeated as a whole while channels are rotated
    in neighbouring pairs, so that the two of a pair turn by different angles.

    Args:
        grid: Tokens (T', H', W').
        head_dim: Channels d of a head.
        device: Where the table is made.

    Returns:
        The table, (2, L, d), float32; the sines of even channels are negated, for `rotate`.
    """
    width = 2 * (head_dim // 3 // 2)
    half = torch.arange(width // 2, dtype=torch.float32, device=device)
    omega = (1.0 / 10000 ** (half / (width / 2.0))).repeat(2)  # (width,)
    places = torch.meshgrid(*(torch.arange(n, device=device) for n in grid), indexing="ij")
    angles = [place.flatten()[:, None] * omega for place in places]  # each (L, width)
    rest = omega.new_zeros(math.prod(grid), head_dim - 3 * width)
    table = torch.cat([*angles, rest], dim=1)  # (L, d)
    sign = torch.ones(head_dim, device=device)
    sign[0::2] = -1
    return torch.stack([table.cos(), table.sin() * sign])


def rotate(x: Tensor, table: Tensor) -> Tensor:
    """Turn neighbouring pairs of channels of (N, heads, L, d) by the angles of (2, L, d)."""
    cos, sin = table.to(x.dtype)
    pairs = rearrange(x, "n h l (p two) -> n h l p two", two=2)
    swapped = pairs.flip(-1).flatten(-2)  # (N, heads, L, d)
    return torch.addcmul(x * cos, swapped, sin)


class RotaryAttention(Attention):
    """Self-attention whose queries and keys are rotated by their places."""

    def forward(self, x: Tensor, table: Tensor) -> Tensor:  # type: ignore[override]
        """Map (N, L, D) to (N, L, D), by a rotary table (2, L, d)."""
        q, k, v = split_heads(self.qkv(x), self.num_heads)
        x = F.scaled_dot_product_attention(rotate(q, table), rotate(k, table), v)
        return self.proj(rearrange(x, "n h l d -> n l (h d)"))  # (N, L, D)


class Block(nn.Module):
    """A transformer block of the encoder.

    Args:
        dim: Width D.
        num_heads: Heads.
        hidden_dim: Width of the hidden layer.
        drop_path_rate: Rate of stochastic depth.
    """

    def __init__(self, dim: int, *, num_heads: int, hidden_dim: int, drop_path_rate: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=1e-6)
        self.attn = RotaryAttention(dim, num_heads=num_heads)
        self.norm2 = nn.LayerNorm(dim, eps=1e-6)
        self.mlp = Mlp(dim, hidden_dim=hidden_dim)
        self.drop_path = DropPath(drop_path_rate)

    def forward(self, x: Tensor, table: Tensor) -> Tensor:
        """Map (N, L, D) to (N, L, D), by a rotary table (2, L, d)."""
        x = x + self.drop_path(self.attn(self.norm1(x), table))
        return x + self.drop_path(self.mlp(self.norm2(x)))


class PoolerBlock(nn.Module):
    """A transformer block of the pooler, which knows no places."""

    def __init__(self, dim: int, *, num_heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=_POOLER_EPS)
        self.attn = Attention(dim, num_heads=num_heads)
        self.norm2 = nn.LayerNorm(dim, eps=_POOLER_EPS)
        self.mlp = Mlp(dim, hidden_dim=4 * dim)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, L, D) to (N, L, D)."""
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class CrossBlock(nn.Module):
    """A query reads all tokens; the attention has no output layer."""

    def __init__(self, dim: int, *, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.norm1 = nn.LayerNorm(dim, eps=_POOLER_EPS)
        self.q = nn.Linear(dim, dim)
        self.kv = nn.Linear(dim, 2 * dim)
        self.norm2 = nn.LayerNorm(dim, eps=_POOLER_EPS)
        self.mlp = Mlp(dim, hidden_dim=4 * dim)

    def forward(self, query: Tensor, x: Tensor) -> Tensor:
        """Map a query (1, 1, D) and tokens (N, L, D) to (N, 1, D)."""
        q = rearrange(self.q(query), "n l (h d) -> n h l d", h=self.num_heads)
        q = q.expand(x.shape[0], -1, -1, -1)  # (N, heads, 1, d)
        k, v = rearrange(
            self.kv(self.norm1(x)), "n l (two h d) -> two n h l d", two=2, h=self.num_heads
        )
        read = F.scaled_dot_product_attention(q, k, v)
        query = query + rearrange(read, "n h l d -> n l (h d)")
        out: Tensor = query + self.mlp(self.norm2(query))
        return out


class AttentivePooler(nn.Module):
    """Three blocks over all tokens, then one learned query that reads them."""

    def __init__(self, dim: int, *, num_heads: int, depth: int = 3) -> None:
        super().__init__()
        self.query_tokens = nn.Parameter(torch.zeros(1, 1, dim))
        self.blocks = nn.ModuleList(PoolerBlock(dim, num_heads=num_heads) for _ in range(depth))
        self.cross = CrossBlock(dim, num_heads=num_heads)

    def forward(self, x: Tensor) -> Tensor:
        """Map tokens (N, L, D), in any order, to (N, D)."""
        for block in self.blocks:
            x = block(x)
        pooled: Tensor = self.cross(self.query_tokens, x)
        return pooled[:, 0]


class VJEPA2(VideoModel):
    """A ViT with rotary positions, an attentive pooler and a linear classifier.

    Features are (N, P + T'*H'*W', D): P tokens of earlier blocks where `pooled_levels` says that
    the pooler reads those too, then the last block's. Positions are rotary, so that clips of any
    even T and any H and W that the patch divides are taken. Tokens of several clips of one video
    may be joined along L before `forward_head`, as the authors test.

    Args:
        embed_dim: Width D.
        depth: Blocks.
        num_heads: Heads of the encoder.
        mlp_ratio: Width of the hidden layer by D; rounded down.
        num_classes: Classes K; 0 returns the pooled features.
        in_chans: Input channels C.
        num_frames: Frames T of a clip.
        img_size: Side of the pictures.
        pooler_heads: Heads of the pooler.
        pooled_levels: Blocks whose normalised output the pooler reads, the last among them.
        level_stride: Distance between these blocks.
        drop_rate: Dropout before the classifier.
        drop_path_rate: Stochastic depth at the last block, rising linearly from 0.
    """

    stem_weights = ("patch_embed.weight",)

    def __init__(
        self,
        embed_dim: int,
        depth: int,
        num_heads: int,
        mlp_ratio: float = 4.0,
        *,
        num_classes: int = 174,
        in_chans: int = 3,
        num_frames: int = 16,
        img_size: int = 256,
        pooler_heads: int = 16,
        pooled_levels: int = 1,
        level_stride: int = 1,
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
    ) -> None:
        super().__init__()
        _check_divisible(num_frames, img_size, img_size)
        if min(pooled_levels, level_stride) < 1 or level_stride * (pooled_levels - 1) >= depth:
            raise ValueError(
                f"{pooled_levels} levels {level_stride} apart are not among {depth} blocks."
            )
        self.in_chans, self.num_frames, self.img_size = in_chans, num_frames, img_size
        self.num_features, self.num_classes = embed_dim, num_classes
        self.head_dim = embed_dim // num_heads
        self.levels = [depth - 1 - level_stride * k for k in reversed(range(pooled_levels))]
        tokens = num_frames // _TUBELET * (img_size // _PATCH) ** 2
        self.num_prefix_tokens = (pooled_levels - 1) * tokens
        kernel = (_TUBELET, _PATCH, _PATCH)
        self.patch_embed = PatchConv3d(in_chans, embed_dim, kernel)
        self.blocks = nn.ModuleList(
            Block(
                embed_dim,
                num_heads=num_heads,
                hidden_dim=int(embed_dim * mlp_ratio),
                drop_path_rate=drop_path_rate * index / max(1, depth - 1),
            )
            for index in range(depth)
        )
        self.norm = nn.LayerNorm(embed_dim, eps=1e-6)
        self.pooler = AttentivePooler(embed_dim, num_heads=pooler_heads)
        self.drop = nn.Dropout(drop_rate)
        self.head = make_classifier(embed_dim, num_classes)
        self.grad_checkpointing = False
        self.feature_info = [
            {"num_chs": embed_dim, "reduction": _PATCH, "module": f"blocks.{index}"}
            for index in range(depth)
        ]
        self._initialise()

    @torch.no_grad()
    def _initialise(self) -> None:
        """Truncated normal; output layers of block k are divided by the root of 2k."""
        for part in (self.patch_embed, self.blocks, self.pooler):
            for module in part.modules():
                if isinstance(module, (nn.Linear, nn.Conv3d)):
                    nn.init.trunc_normal_(module.weight, std=0.02)
                    assert module.bias is not None
                    nn.init.zeros_(module.bias)
        nn.init.trunc_normal_(self.pooler.query_tokens, std=0.02)
        for blocks in (self.blocks, self.pooler.blocks):
            for index, block in enumerate(blocks, start=1):
                assert isinstance(block, (Block, PoolerBlock))
                block.attn.proj.weight.div_(math.sqrt(2.0 * index))
                block.mlp.fc2.weight.div_(math.sqrt(2.0 * index))
        self.pooler.cross.mlp.fc2.weight.div_(math.sqrt(2.0 * len(self.pooler.blocks)))

    def _run(
        self, x: Tensor, wanted: Sequence[int] = (), *, stop_early: bool = False
    ) -> tuple[Tensor, dict[int, Tensor], tuple[int, int, int]]:
        """The features, the raw outputs (N, L, D) of wanted blocks, and the grid (T', H', W')."""
        self.check_input(x)
        _check_divisible(*x.shape[2:])
        maps = self.patch_embed(x)  # (N, D, T', H', W')
        t, h, w = maps.shape[2:]
        x = rearrange(maps, "n d t h w -> n (t h w) d")
        table = rotary_table((t, h, w), self.head_dim, device=x.device)
        read, found = [], {}
        blocks = list(self.blocks)[: wanted[-1] + 1 if stop_early else None]
        for level, block in enumerate(blocks):
            x = run(block, x, table, checkpointed=self.grad_checkpointing)
            if level in wanted:
                found[level] = x
            if level in self.levels and len(blocks) == len(self.blocks):
                read.append(self.norm(x))
        return torch.cat(read, dim=1) if read else self.norm(x), found, (t, h, w)

    def forward_features(self, x: Tensor) -> Tensor:
        """Map clips (N, C, T, H, W) to features (N, P + T'*H'*W', D)."""
        return self._run(x)[0]

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Let the pooler read features (N, L, D), (N, D), and classify it, (N, K)."""
        x = self.drop(self.pooler(x))  # (N, D)
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
        """See `VideoModel.forward_intermediates`."""
        levels = chosen_levels(indices, len(self.blocks))
        final, found, (t, h, _) = self._run(x, levels, stop_early=stop_early)
        maps = [
            rearrange(self.norm(y) if norm else y, "n (t h w) d -> n d t h w", t=t, h=h)
            for y in found.values()
        ]
        return maps if intermediates_only else (final, maps)

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recompute each block in the backward pass instead of keeping its activations."""
        self.grad_checkpointing = enable

    def group_matcher(
        self,
        coarse: bool = False,  # noqa: ARG002 -- blocks are the only depth there is
    ) -> dict[str, Any]:
        """Regular expressions that sort parameters into stem, blocks and what stands on them."""
        return {
            "stem": r"^patch_embed",
            "blocks": [(r"^blocks\.(\d+)", None), (r"^(?:norm|pooler)", (len(self.blocks),))],
        }

    def no_weight_decay(self) -> set[str]:
        """The pooler's query."""
        return {"pooler.query_tokens"}


def _check_divisible(num_frames: int, height: int, width: int) -> None:
    """Refuse clips that tubelets do not fill."""
    if num_frames % _TUBELET or height % _PATCH or width % _PATCH:
        raise ValueError(
            f"Tubelets of {_TUBELET} frames and {_PATCH}x{_PATCH} pixels do not fill clips of (T, "
            f"H, W) = ({num_frames}, {height}, {width}); give an even number of frames and sides "
            f"that {_PATCH} divides."
        )


_NEW_HEAD = {"head": "normal with deviation 0.01, bias 0"}
_PREDICTOR = "the predictor takes part in pre-training only"


def _encoder_rules(prefix: str) -> tuple[Rule | Merge, ...]:
    """The encoder in transformers' names."""
    layer, attention = f"{prefix}encoder.layer.{{i}}", f"{prefix}encoder.layer.{{i}}.attention"
    return (
        Rule(f"{prefix}encoder.embeddings.patch_embeddings.proj", "patch_embed"),
        Merge(
            tuple(f"{attention}.{part}" for part in ("query", "key", "value")),
            "blocks.{i}.attn.qkv",
            STACKED,
        ),
        Rule(f"{attention}.proj", "blocks.{i}.attn.proj"),
        Rule(f"{layer}.norm1", "blocks.{i}.norm1"),
        Rule(f"{layer}.norm2", "blocks.{i}.norm2"),
        Rule(f"{layer}.mlp", "blocks.{i}.mlp"),
        Rule(f"{prefix}encoder.layernorm", "norm"),
    )


_SELF, _CROSS = "pooler.self_attention_layers.{i}", "pooler.cross_attention_layer"
TRANSFORMERS = KeyMap(
    (
        *_encoder_rules("vjepa2."),
        Rule("pooler.query_tokens", "pooler.query_tokens"),
        Merge(
            tuple(f"{_SELF}.self_attn.{part}_proj" for part in "qkv"),
            "pooler.blocks.{i}.attn.qkv",
            STACKED,
        ),
        Rule(f"{_SELF}.self_attn.out_proj", "pooler.blocks.{i}.attn.proj"),
        Rule(f"{_SELF}.layer_norm1", "pooler.blocks.{i}.norm1"),
        Rule(f"{_SELF}.layer_norm2", "pooler.blocks.{i}.norm2"),
        Rule(f"{_SELF}.mlp", "pooler.blocks.{i}.mlp"),
        Rule(f"{_CROSS}.cross_attn.q_proj", "pooler.cross.q"),
        Merge(
            tuple(f"{_CROSS}.cross_attn.{part}_proj" for part in "kv"), "pooler.cross.kv", STACKED
        ),
        Rule(f"{_CROSS}.layer_norm1", "pooler.cross.norm1"),
        Rule(f"{_CROSS}.layer_norm2", "pooler.cross.norm2"),
        Rule(f"{_CROSS}.mlp", "pooler.cross.mlp"),
        Rule("classifier", "head"),
    ),
    unread={"vjepa2.predictor": _PREDICTOR},
)
# transformers' VJEPA2Model, the self-supervised encoder with its predictor.
TRANSFORMERS_ENCODER = KeyMap(
    _encoder_rules(""),
    dropped={"predictor": _PREDICTOR},
    new=_NEW_HEAD | {"pooler": "truncated normal with deviation 0.02"},
    random=("pooler",),
)
# The authors' two files as one: a backbone without its `module.`, and the first classifier.
VJEPA2_LAYOUT = KeyMap(
    (
        Rule("backbone.patch_embed.proj", "patch_embed"),
        Rule("backbone.blocks", "blocks"),
        Rule("backbone.norm", "norm"),
        Rule("pooler.query_tokens", "pooler.query_tokens"),
        Rule("pooler.blocks", "pooler.blocks"),
        Rule("pooler.cross_attention_block.xattn.q", "pooler.cross.q"),
        Rule("pooler.cross_attention_block.xattn.kv", "pooler.cross.kv"),
        Rule("pooler.cross_attention_block", "pooler.cross"),
        Rule("linear", "head"),
    ),
    unread={"backbone.pos_embed": "positions are rotary"},
)
_LAYOUTS = {
    "transformers": TRANSFORMERS,
    "transformers_encoder": TRANSFORMERS_ENCODER,
    "vjepa2": VJEPA2_LAYOUT,
}

_PAPER = Paper(
    title="V-JEPA 2: Self-Supervised Video Models Enable Understanding, Prediction and Planning",
    url="https://arxiv.org/abs/2506.09985",
    year=2025,
)


def _sampling(num_frames: int, stride: int, num_clips: int) -> Sampling:
    return Sampling(
        rule="dense",
        num_frames=num_frames,
        frame_stride=stride,
        fps=None,
        num_clips=num_clips,
        num_crops=3,
        average="probabilities",
    )


def _preprocess(img_size: int, *, num_crops: int = 3) -> Preprocess:
    return Preprocess(
        img_size=img_size,
        # Three crops are cut from frames whose short side is theirs, one from larger ones.
        resize=img_size if num_crops == 3 else 256 * img_size // 224,
        interpolation="bilinear",
        antialias=False,
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
    )


def _source(repo_id: str, layout: str) -> UpstreamSource:
    return UpstreamSource(
        layout=layout,
        repo_id=f"facebook/vjepa2-{repo_id}",
        filename="model.safetensors",
        revision=UNKNOWN,
        sha256=UNKNOWN,
    )


def _ssv2(size: str, sampling: Sampling, img_size: int, *, top1: float) -> Weights:
    """The record of an encoder with its classifier for Something-Something v2."""
    return _probed(
        f"{size}-fpc{sampling.num_frames}-{img_size}-ssv2",
        ("ssv2", "Something-Something v2", "something_something_v2", 174),
        sampling,
        img_size,
        top1=top1,
    )


def _diving48(size: str, sampling: Sampling, img_size: int, *, top1: float, stride: int) -> Weights:
    """The record of an encoder with its classifier for Diving48, which reads four blocks."""
    return _probed(
        f"{size}-fpc{sampling.num_frames}-{img_size}-diving48",
        ("diving48", "Diving48", "diving48", 48),
        sampling,
        img_size,
        top1=top1,
        arguments=(("pooled_levels", 4), ("level_stride", stride)),
        note="The classifier reads four blocks, as it was trained; transformers gives it the last.",
    )


_ONE_CROP = (
    "The published figure cuts three crops from frames whose short side is theirs; for one crop, "
    "as transformers' processor cuts it, the authors resize to 256/224 of it."
)


def _probed(
    repo_id: str,
    data: tuple[str, str, str, int],
    sampling: Sampling,
    img_size: int,
    *,
    top1: float,
    arguments: tuple[tuple[str, int], ...] = (),
    note: str = "",
) -> Weights:
    tag, text, labels, num_classes = data
    metric = Metric(
        name="top1",
        value=top1,
        dataset=labels,
        split="validation" if tag == "ssv2" else "test",
        level="video",
        num_clips=sampling.num_clips,
        num_crops=sampling.num_crops,
        measured_by="the authors",
        note="One classifier reads the tokens of all clips together; crops are averaged.",
    )
    return Weights(
        tag=tag,
        source=_source(repo_id, "transformers"),
        licence="MIT",
        data=f"VideoMix22M without labels, then a classifier on frozen features of {text}",
        num_classes=num_classes,
        labels=labels,
        sampling=sampling,
        preprocess=_preprocess(img_size),
        arguments=arguments,
        metrics=(metric,),
        note=joined(note, _ONE_CROP, UNFILTERED),
    )


def _encoder(tag: str, repo_id: str, img_size: int) -> Weights:
    """The record of a self-supervised encoder."""
    return Weights(
        tag=tag,
        source=_source(repo_id, "transformers_encoder"),
        licence="MIT" if repo_id.startswith("vitl") else "Apache-2.0",  # as the Hub's cards say
        data="VideoMix22M without labels",
        num_classes=0,
        labels=None,
        sampling=replace(_sampling(64, 1, 1), fps=4.0, num_crops=1),
        preprocess=_preprocess(img_size, num_crops=1),
        note="A start for training: pooler and classifier are new.",
    )


_TINY: dict[str, Any] = {
    "order": "used",
    "num_classes": 7,
    "sampling": _sampling(4, 2, 1),
    "preprocess": _preprocess(32),
    "layouts": _LAYOUTS,
}


@register_model(**_TINY)
def test_vjepa2(**kwargs: Any) -> VJEPA2:
    """Three narrow blocks, for tests; heads of 16 channels, of which four are not rotated."""
    return VJEPA2(32, 3, 2, **{"pooler_heads": 4, **kwargs})


@register_model(**_TINY)
def test_vjepa2_levels(**kwargs: Any) -> VJEPA2:
    """Four narrow blocks of which the pooler reads two, for tests."""
    tiny = {"pooler_heads": 4, "pooled_levels": 2, "level_stride": 2}
    return VJEPA2(32, 4, 2, 48 / 11, **{**tiny, **kwargs})


@register_model(
    order="used",
    paper=_PAPER,
    weights=(
        _ssv2("vitl", _sampling(16, 4, 2), 256, top1=73.7),
        _diving48("vitl", _sampling(32, 2, 4), 256, top1=89.0, stride=2),
        _encoder("vm22m", "vitl-fpc64-256", 256),
    ),
    layouts=_LAYOUTS,
)
def vjepa2_l(**kwargs: Any) -> VJEPA2:
    """ViT-L/16 over tubelets with rotary positions, and an attentive classifier."""
    return VJEPA2(1024, 24, 16, **kwargs)


@register_model(
    order="used",
    paper=_PAPER,
    num_classes=174,
    weights=(_encoder("vm22m", "vith-fpc64-256", 256),),
    layouts=_LAYOUTS,
)
def vjepa2_h(**kwargs: Any) -> VJEPA2:
    """ViT-H/16 over tubelets with rotary positions, and an attentive classifier."""
    return VJEPA2(1280, 32, 16, **kwargs)


@register_model(
    order="used",
    paper=_PAPER,
    weights=(
        _ssv2("vitg", _sampling(64, 2, 2), 384, top1=77.3),
        _diving48("vitg", _sampling(32, 2, 4), 384, top1=90.2, stride=5),
        _encoder("vm22m", "vitg-fpc64-256", 256),
        _encoder("vm22m_384", "vitg-fpc64-384", 384),
    ),
    layouts=_LAYOUTS,
)
def vjepa2_g(**kwargs: Any) -> VJEPA2:
    """ViT-g/16 over tubelets with rotary positions, and an attentive classifier."""
    return VJEPA2(1408, 40, 22, 48 / 11, **kwargs)
