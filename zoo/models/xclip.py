"""X-CLIP: CLIP's two towers for video; classes are their names.

Ni et al., "Expanding Language-Image Pretrained Models for General Video Recognition"
(https://arxiv.org/abs/2208.02816). The reference is microsoft/VideoX (MIT). What differs: position
tables are resampled to other sizes and numbers of frames, and names are cut off after their end,
which changes no number. In transformers the frame mixer and the prompts of the large model have 8
heads, its configuration's default, where they were trained with 12, as here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from einops import rearrange
from torch import Tensor, nn

from converters import (
    STACKED,
    TRANSPOSED,
    KeyMap,
    Merge,
    Rule,
    resize_spatial_table,
    resize_temporal_table,
)
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
from zoo.layers import Attention, DropPath, PatchConv2d
from zoo.models._clip_text import (
    QuickMlp,
    ResidualBlock,
    TextClassifier,
    nameless_tokens,
    tokenize,
)
from zoo.models._notes import UNFILTERED, joined
from zoo.models._tokens import TokenModel

if TYPE_CHECKING:
    from zoo.config import ModelConfig

__all__ = ["XCLIP", "xclip_b16", "xclip_b32", "xclip_l14"]


class CrossFrameBlock(nn.Module):
    """A block within each frame, whose tokens also read a message that the frames made together.

    Args:
        dim: Width D.
        num_heads: Heads.
        drop_path_rate: Rate of stochastic depth.
    """

    def __init__(self, dim: int, *, num_heads: int, drop_path_rate: float) -> None:
        super().__init__()
        self.message_fc = nn.Linear(dim, dim)
        self.message_norm = nn.LayerNorm(dim)
        self.message_attn = Attention(dim, num_heads=num_heads)
        self.norm1 = nn.LayerNorm(dim)
        self.attn = Attention(dim, num_heads=num_heads)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = QuickMlp(dim)
        self.drop_path = DropPath(drop_path_rate)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, T, L, D), the class token of each frame first, to (N, T, L, D)."""
        message = self.message_fc(x[:, :, 0])  # (N, T, D)
        message = message + self.drop_path(self.message_attn(self.message_norm(message)))
        frames = torch.cat([x, message[:, :, None]], dim=2)
        frames = rearrange(frames, "n t l d -> (n t) l d")
        frames = (frames + self.drop_path(self.attn(self.norm1(frames))))[:, :-1]
        frames = frames + self.drop_path(self.mlp(self.norm2(frames)))
        return rearrange(frames, "(n t) l d -> n t l d", t=x.shape[1])


class FrameMixer(nn.Module):
    """A small transformer over the features of the frames; their mean is the video's.

    Args:
        dim: Width E.
        num_frames: Frames T.
        depth: Blocks.
        num_heads: Heads.
    """

    def __init__(self, dim: int, *, num_frames: int, depth: int, num_heads: int) -> None:
        super().__init__()
        self.time_embed = nn.Parameter(torch.empty(1, num_frames, dim))
        self.blocks = nn.Sequential(
            *(ResidualBlock(dim, num_heads=num_heads) for _ in range(depth))
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, T, E) to (N, E)."""
        return (x + self.blocks(x + self.time_embed)).mean(dim=1)


class XCLIP(TokenModel):
    """CLIP's picture tower with messages between frames, and its text tower as the classifier.

    Features are (N, T + T*H'*W', D): the class tokens of the frames, then the patches with time
    slowest. The pooled features are the video's, (N, E). Classes are what `set_class_names` calls
    them, or the `labels` of `zoo.create`; until they have names, meaningless texts tell them apart.

    Args:
        patch_size: Side of a patch, pixels.
        embed_dim: Width D of the picture tower.
        depth: Its blocks.
        text_dim: Width E of the text tower and of the features of videos and names.
        text_depth: Blocks of the text tower.
        mixer_depth: Blocks over the frames' features.
        prompt_depth: Blocks by which a clip changes the names' features.
        head_dim: Channels of a head, everywhere.
        vocab_size: Token ids that there are.
        context_length: Most tokens of a name.
        num_classes: Classes K; 0 returns the pooled features.
        in_chans: Input channels C.
        num_frames: Frames T of a clip.
        img_size: Side of the pictures; the patches must divide it.
        drop_path_rate: Stochastic depth at the last block, rising linearly from 0.
    """

    stem_weights = ("patch_embed.weight",)
    stem_names = ("cls_token", "pos_embed", "patch_embed", "norm_pre")
    last_names = ("class_norm", "proj", "mixer", "prompt_")
    reads_class_names = True
    head: TextClassifier

    def __init__(
        self,
        patch_size: int,
        embed_dim: int = 768,
        depth: int = 12,
        text_dim: int = 512,
        text_depth: int = 12,
        mixer_depth: int = 1,
        prompt_depth: int = 2,
        head_dim: int = 64,
        vocab_size: int = 49408,
        context_length: int = 77,
        *,
        num_classes: int = 400,
        in_chans: int = 3,
        num_frames: int = 8,
        img_size: int = 224,
        drop_path_rate: float = 0.0,
    ) -> None:
        super().__init__()
        if img_size % patch_size:
            raise ValueError(
                f"img_size={img_size} is no multiple of the patch of {patch_size} pixels; give "
                f"{max(1, img_size // patch_size) * patch_size} for instance."
            )
        self.in_chans, self.num_frames, self.img_size = in_chans, num_frames, img_size
        self.num_features, self.num_prefix_tokens = text_dim, num_frames
        self.grid_size = (img_size // patch_size, img_size // patch_size)
        self.patch_embed = PatchConv2d(in_chans, embed_dim, patch_size, bias=False)
        self.cls_token = nn.Parameter(torch.empty(embed_dim))
        self.pos_embed = nn.Parameter(torch.empty(1 + math.prod(self.grid_size), embed_dim))
        self.norm_pre = nn.LayerNorm(embed_dim)
        self.blocks = nn.ModuleList(
            CrossFrameBlock(
                embed_dim,
                num_heads=embed_dim // head_dim,
                drop_path_rate=drop_path_rate * index / max(1, depth - 1),
            )
            for index in range(depth)
        )
        # Class tokens and patches have norms of their own.
        self.norm = nn.Identity()
        self.class_norm = nn.LayerNorm(embed_dim)
        self.proj = nn.Linear(embed_dim, text_dim, bias=False)
        self.mixer = FrameMixer(
            text_dim, num_frames=num_frames, depth=mixer_depth, num_heads=text_dim // head_dim
        )
        self.prompt_norm = nn.LayerNorm(embed_dim)
        self.prompt_proj = nn.Linear(embed_dim, text_dim, bias=False)
        self.head = TextClassifier(
            text_dim,
            text_depth=text_depth,
            prompt_depth=prompt_depth,
            num_heads=text_dim // head_dim,
            vocab_size=vocab_size,
            context_length=context_length,
        )
        self.reset_classifier(num_classes)
        self.feature_info = [
            {"num_chs": embed_dim, "reduction": patch_size, "module": f"blocks.{index}"}
            for index in range(depth)
        ]
        self._initialise(embed_dim)

    def _initialise(self, embed_dim: int) -> None:
        """As the authors do for what CLIP does not bring, and as CLIP does for the rest."""
        for table in (self.cls_token, self.pos_embed, self.proj.weight, self.prompt_proj.weight):
            nn.init.normal_(table, std=embed_dim**-0.5)
        nn.init.trunc_normal_(self.mixer.time_embed, std=0.02)
        for part in (self.blocks, self.mixer, self.head.prompts):
            for module in part.modules():
                if isinstance(module, nn.Linear):
                    nn.init.trunc_normal_(module.weight, std=0.02)
                    if module.bias is not None:
                        nn.init.zeros_(module.bias)

    def set_class_names(self, names: Sequence[str]) -> None:
        """Classify by these names from now on, in this order; there may be any number of them.

        Raises:
            ImportError: open_clip, whose tokenizer reads them, is not installed.
            ValueError: There are none, or one is too long.
        """
        if isinstance(names, str) or not names:
            raise ValueError(f"Class names are a list with at least one text, not {names!r}.")
        self.head.set_tokens(tokenize(names, context_length=self.head.context_length))
        self.num_classes = len(names)
        super().set_class_names(names)

    def get_classifier(self) -> nn.Module:
        """The text tower and what compares with it; an identity where there are no classes."""
        return self.head if self.num_classes else nn.Identity()

    def reset_classifier(self, num_classes: int) -> None:
        """Forget the names of the classes.

        Args:
            num_classes: Classes that have no names, and no meaning before training; 0 for none.
        """
        if num_classes < 0:
            raise ValueError(f"num_classes must be 0 or more, not {num_classes}.")
        self.head.set_tokens(nameless_tokens(num_classes or 1, vocab_size=self.head.vocab_size))
        self.num_classes = num_classes
        if self.record is not None:
            self.record = self.record.with_classes(num_classes, labels=None)

    def _embed(self, x: Tensor) -> Tensor:
        """Map clips (N, C, T, H, W) to tokens (N, T, 1 + H'*W', D), class tokens first."""
        self.check_clip(x)
        maps = self.patch_embed(rearrange(x, "n c t h w -> (n t) c h w"))
        patches = rearrange(maps, "(n t) d h w -> n t (h w) d", t=self.num_frames)
        token = self.cls_token.expand(*patches.shape[:2], 1, -1)
        tokens: Tensor = self.norm_pre(torch.cat([token, patches], dim=2) + self.pos_embed)
        return tokens

    def _features(self, x: Tensor) -> Tensor:
        """Map tokens (N, T, 1 + L, D) to features (N, T + T*L, D)."""
        return torch.cat([x[:, :, 0], rearrange(x[:, :, 1:], "n t l d -> n (t l) d")], dim=1)

    def _maps(self, x: Tensor, level: int) -> Tensor:  # noqa: ARG002 -- all levels lie alike
        """Map tokens (N, T, 1 + H'*W', D) to maps without class tokens, (N, D, T, H', W')."""
        return rearrange(x[:, :, 1:], "n t (h w) d -> n d t h w", h=self.grid_size[0])

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Mix the frames of features (N, L, D) to (N, E), and compare with the names, (N, K)."""
        t = self.num_frames
        video: Tensor = self.mixer(self.proj(self.class_norm(x[:, :t])))  # (N, E)
        if pre_logits or not self.num_classes:
            return video
        places = self.prompt_proj(self.prompt_norm(x[:, t:]))
        logits: Tensor = self.head(video, rearrange(places, "n (t l) e -> n t l e", t=t).mean(1))
        return logits

    def no_weight_decay(self) -> set[str]:
        """The tables and the class token."""
        return {"cls_token", "pos_embed", "mixer.time_embed", "head.text.pos_embed"}

    def infer_arguments(self, state: Mapping[str, Tensor]) -> dict[str, int]:
        """See `VideoModel.infer_arguments`; the tables tell frames and size, a square one."""
        patch = self.patch_embed.kernel_size[0]
        return super().infer_arguments(state) | {
            "img_size": math.isqrt(state["pos_embed"].shape[0] - 1) * patch,
            "num_frames": state["mixer.time_embed"].shape[1],
        }

    def resize_positions(self, state: dict[str, Tensor], *, trained: ModelConfig) -> None:
        """Resample the tables from the trained grid and frames to this model's."""
        assert isinstance(trained.arguments["img_size"], int)
        side = trained.arguments["img_size"] // self.patch_embed.kernel_size[0]
        state["pos_embed"] = resize_spatial_table(
            state["pos_embed"][None], old=(side, side), new=self.grid_size, num_prefix_tokens=1
        )[0]
        state["mixer.time_embed"] = resize_temporal_table(
            state["mixer.time_embed"], num_frames=self.num_frames
        )


def _stacked(source: str, target: str) -> Merge:
    """Query, key and value in one layer."""
    return Merge(tuple(f"{source}.{part}_proj" for part in "qkv"), target, STACKED)


def _hf_block(source: str, target: str) -> tuple[Rule | Merge, ...]:
    """A block in transformers' names; its attention may be one of two."""
    return (
        _stacked(f"{source}.self_attn", f"{target}.attn.qkv"),
        Rule(f"{source}.self_attn.out_proj", f"{target}.attn.proj"),
        Rule(f"{source}.layer_norm1", f"{target}.norm1"),
        Rule(f"{source}.layer_norm2", f"{target}.norm2"),
        Rule(f"{source}.mlp", f"{target}.mlp"),
    )


_VISION, _TEXT = "vision_model", "text_model"
_HF_LAYER = f"{_VISION}.encoder.layers.{{i}}"
_HF_PROMPT, _PROMPT = "prompts_generator.decoder.{i}", "head.prompts.blocks.{i}"
# The prompts have the same names everywhere, their norm excepted.
_PROMPT_RULES = (
    *(
        Rule(f"{_HF_PROMPT}.cross_attn.{part}_proj", f"{_PROMPT}.cross_attn.{part}")
        for part in "qkv"
    ),
    Rule(f"{_HF_PROMPT}.cross_attn.proj", f"{_PROMPT}.cross_attn.proj"),
    Rule(f"{_HF_PROMPT}.norm1", f"{_PROMPT}.norm1"),
    Rule(f"{_HF_PROMPT}.norm3", f"{_PROMPT}.norm2"),
    Rule(f"{_HF_PROMPT}.mlp.0", f"{_PROMPT}.mlp.fc1"),
    Rule(f"{_HF_PROMPT}.mlp.3", f"{_PROMPT}.mlp.fc2"),
)
TRANSFORMERS = KeyMap(
    (
        Rule(f"{_VISION}.embeddings.class_embedding", "cls_token"),
        Rule(f"{_VISION}.embeddings.patch_embedding", "patch_embed"),
        Rule(f"{_VISION}.embeddings.position_embedding.weight", "pos_embed"),
        Rule(f"{_VISION}.pre_layernorm", "norm_pre"),
        Rule(f"{_VISION}.post_layernorm", "class_norm"),
        *_hf_block(_HF_LAYER, "blocks.{i}"),
        Rule(f"{_HF_LAYER}.message_fc", "blocks.{i}.message_fc"),
        Rule(f"{_HF_LAYER}.message_ln", "blocks.{i}.message_norm"),
        _stacked(f"{_HF_LAYER}.message_attn", "blocks.{i}.message_attn.qkv"),
        Rule(f"{_HF_LAYER}.message_attn.out_proj", "blocks.{i}.message_attn.proj"),
        Rule("visual_projection", "proj"),
        Rule("mit.position_embedding", "mixer.time_embed"),
        *_hf_block("mit.encoder.layers.{i}", "mixer.blocks.{i}"),
        Rule("prompts_visual_layernorm", "prompt_norm"),
        Merge(("prompts_visual_projection",), "prompt_proj.weight", TRANSPOSED),
        Rule(f"{_TEXT}.embeddings.token_embedding", "head.text.token_embed"),
        Rule(f"{_TEXT}.embeddings.position_embedding.weight", "head.text.pos_embed"),
        *_hf_block(f"{_TEXT}.encoder.layers.{{i}}", "head.text.blocks.{i}"),
        Rule(f"{_TEXT}.final_layer_norm", "head.text.norm"),
        Rule("text_projection", "head.text.proj"),
        Rule("prompts_generator.layernorm", "head.prompts.norm"),
        Rule("prompts_generator.alpha", "head.prompts.alpha"),
        *_PROMPT_RULES,
        Rule("logit_scale", "head.logit_scale"),
    ),
    # Files of older versions hold them.
    unread={
        f"{_VISION}.embeddings.position_ids": "they count upwards",
        f"{_TEXT}.embeddings.position_ids": "they count upwards",
    },
)


def _clip_block(source: str, target: str) -> tuple[Rule, ...]:
    """A block in CLIP's own names."""
    return (
        *_clip_attention(f"{source}.attn", f"{target}.attn"),
        Rule(f"{source}.ln_1", f"{target}.norm1"),
        Rule(f"{source}.ln_2", f"{target}.norm2"),
        Rule(f"{source}.mlp.c_fc", f"{target}.mlp.fc1"),
        Rule(f"{source}.mlp.c_proj", f"{target}.mlp.fc2"),
    )


def _clip_attention(source: str, target: str) -> tuple[Rule, ...]:
    return (
        Rule(f"{source}.in_proj_weight", f"{target}.qkv.weight"),
        Rule(f"{source}.in_proj_bias", f"{target}.qkv.bias"),
        Rule(f"{source}.out_proj", f"{target}.proj"),
    )


_CLIP_LAYER = "visual.transformer.resblocks.{i}"
# The authors' own files, `model`.
XCLIP_LAYOUT = KeyMap(
    (
        Rule("visual.class_embedding", "cls_token"),
        Rule("visual.conv1", "patch_embed"),
        Rule("visual.positional_embedding", "pos_embed"),
        Rule("visual.ln_pre", "norm_pre"),
        Rule("visual.ln_post", "class_norm"),
        *_clip_block(_CLIP_LAYER, "blocks.{i}"),
        Rule(f"{_CLIP_LAYER}.message_fc", "blocks.{i}.message_fc"),
        Rule(f"{_CLIP_LAYER}.message_ln", "blocks.{i}.message_norm"),
        *_clip_attention(f"{_CLIP_LAYER}.message_attn", "blocks.{i}.message_attn"),
        Merge(("visual.proj",), "proj.weight", TRANSPOSED),
        Rule("mit.positional_embedding", "mixer.time_embed"),
        *_clip_block("mit.resblocks.{i}", "mixer.blocks.{i}"),
        Rule("prompts_visual_ln", "prompt_norm"),
        Merge(("prompts_visual_proj",), "prompt_proj.weight", TRANSPOSED),
        Rule("token_embedding", "head.text.token_embed"),
        Rule("positional_embedding", "head.text.pos_embed"),
        *_clip_block("transformer.resblocks.{i}", "head.text.blocks.{i}"),
        Rule("ln_final", "head.text.norm"),
        Merge(("text_projection",), "head.text.proj.weight", TRANSPOSED),
        Rule("prompts_generator.norm", "head.prompts.norm"),
        *_PROMPT_RULES,
        Rule("prompts_generator.alpha", "head.prompts.alpha"),
        Rule("logit_scale", "head.logit_scale"),
    ),
)
_LAYOUTS = {"transformers": TRANSFORMERS, "xclip": XCLIP_LAYOUT}

_PAPER = Paper(
    title="Expanding Language-Image Pretrained Models for General Video Recognition",
    url="https://arxiv.org/abs/2208.02816",
    year=2022,
)


def _sampling(num_frames: int, *, views: tuple[int, int] = (1, 1)) -> Sampling:
    return Sampling(
        rule="segments",
        num_frames=num_frames,
        frame_stride=1,
        fps=None,
        num_clips=views[0],
        num_crops=views[1],
        average="probabilities",
    )


def _preprocess(img_size: int, resize: int) -> Preprocess:
    return Preprocess(
        img_size=img_size,
        resize=resize,
        interpolation="bilinear",
        antialias=False,
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
    )


def _weights(
    tag: str,
    repo_id: str,
    file: str,
    *,
    num_frames: int,
    img_size: int = 224,
    data: str,
    labels: str | None,
    num_classes: int,
    accuracy: tuple[float, float] | None = None,
    note: str = "",
) -> Weights:
    """A record; the Hub's repository, and the authors' file or its page, hold the same tensors."""
    views = (4, 3) if accuracy else (1, 1)
    url = file if file.startswith("https://") else f"{_RELEASE}/{file}.pth"
    metrics = [
        Metric(
            name=name,
            value=value,
            dataset=str(labels),
            split="validation",
            level="video",
            num_clips=views[0],
            num_crops=views[1],
            measured_by="the authors",
        )
        for name, value in zip(("top1", "top5"), accuracy or (), strict=False)
    ]
    return Weights(
        tag=tag,
        source=UpstreamSource(
            layout="transformers",
            repo_id=f"microsoft/xclip-{repo_id}",
            filename="pytorch_model.bin",
            revision=UNKNOWN,
            sha256=UNKNOWN,
        ),
        mirrors=(
            UpstreamSource(
                layout="xclip",
                url=url,
                filename=f"xclip-{repo_id}.pth",
                sha256=UNKNOWN,
            ),
        ),
        licence="MIT",
        data=data,
        num_classes=num_classes,
        labels=labels,
        sampling=_sampling(num_frames, views=views),
        # Three crops are cut from frames whose short side is theirs, one from larger ones.
        preprocess=_preprocess(img_size, img_size if accuracy else 256 * img_size // 224),
        metrics=tuple(metrics),
        note=joined(note, _CROPS if accuracy else "", UNFILTERED),
    )


_CROPS = (
    "The published figure cuts three crops from frames whose short side is theirs; for one crop "
    "the authors resize to 256/224 of it."
)
_RELEASE = "https://github.com/nbl97/X-CLIP_Model_Zoo/releases/download/v1.0"
_DRIVE = "https://drive.google.com/file/d"


def _kinetics(
    tag: str,
    repo_id: str,
    file: str,
    num_frames: int,
    accuracy: tuple[float, float],
    *,
    img_size: int = 224,
) -> Weights:
    """The record of a model trained on Kinetics-400 or, by its tag, -600."""
    classes = 600 if tag.startswith("k600") else 400
    return _weights(
        tag,
        repo_id,
        file,
        num_frames=num_frames,
        img_size=img_size,
        data=f"Kinetics-{classes}, from CLIP",
        labels=f"kinetics{classes}",
        num_classes=classes,
        accuracy=accuracy,
    )


def _few_shot(data: str, shots: int, *, top1: float) -> Weights:
    """The record of a model tuned on a few videos a class."""
    text, labels, classes = {
        "hmdb": ("HMDB51", "hmdb51_xclip", 51),
        "ucf": ("UCF101", "ucf101", 101),
    }[data]
    return _weights(
        f"{text.lower()}_{shots}shot",
        f"base-patch16-{data}-{shots}-shot",
        f"few_{data}_{shots}",
        num_frames=32,
        data=f"{shots} videos a class of {text}, from CLIP",
        labels=labels,
        num_classes=classes,
        note=f"The authors state a top-1 of {top1} and no views.",
    )


_ZERO_SHOT = _weights(
    "zero_shot",
    "base-patch16-zero-shot",
    "zero",
    num_frames=32,
    data="Kinetics-400, from CLIP",
    labels=None,
    num_classes=0,
    note="Made for classes of your own: give labels=[...] to zoo.create.",
)
_TINY: dict[str, Any] = {
    "order": "used",
    "num_classes": 7,
    "sampling": _sampling(4),
    "preprocess": _preprocess(32, 32),
    "layouts": _LAYOUTS,
}


@register_model(**_TINY)
def test_xclip(**kwargs: Any) -> XCLIP:
    """Two narrow blocks a tower and a vocabulary of 16, for tests."""
    return XCLIP(8, 32, 2, 16, 2, 1, 2, 8, 16, 8, **kwargs)


@register_model(
    order="used",
    paper=_PAPER,
    weights=(
        _kinetics("k400", "base-patch32", "k400_32_8", 8, (80.4, 95.0)),
        _kinetics("k400_16f", "base-patch32-16-frames", "k400_32_16", 16, (81.1, 95.5)),
    ),
    layouts=_LAYOUTS,
)
def xclip_b32(**kwargs: Any) -> XCLIP:
    """CLIP ViT-B/32 with messages between frames; classes are their names."""
    return XCLIP(32, **kwargs)


@register_model(
    order="used",
    paper=_PAPER,
    weights=(
        _kinetics("k400", "base-patch16", "k400_16_8", 8, (83.8, 95.7)),
        _kinetics("k400_16f", "base-patch16-16-frames", "k400_16_16", 16, (84.7, 96.8)),
        _kinetics("k600", "base-patch16-kinetics-600", "k600_16_8", 8, (85.3, 97.1)),
        _kinetics(
            "k600_16f", "base-patch16-kinetics-600-16-frames", "k600_16_16", 16, (85.8, 97.3)
        ),
        _few_shot("hmdb", 2, top1=53.0),
        _few_shot("hmdb", 4, top1=57.3),
        _few_shot("hmdb", 8, top1=62.8),
        _few_shot("hmdb", 16, top1=64.0),
        _few_shot("ucf", 2, top1=76.4),
        _few_shot("ucf", 4, top1=83.4),
        _few_shot("ucf", 8, top1=88.3),
        _few_shot("ucf", 16, top1=91.4),
        _ZERO_SHOT,
    ),
    layouts=_LAYOUTS,
)
def xclip_b16(**kwargs: Any) -> XCLIP:
    """CLIP ViT-B/16 with messages between frames; classes are their names."""
    return XCLIP(16, **kwargs)


@register_model(
    order="used",
    paper=_PAPER,
    weights=(
        _kinetics(
            "k400",
            "large-patch14",
            f"{_DRIVE}/1NUOImq0o5DlQTST17iIP3vG7DgmHQuCx/view?usp=sharing",
            8,
            (87.1, 97.6),
        ),
        _kinetics(
            "k600",
            "large-patch14-kinetics-600",
            f"{_DRIVE}/1FV8C1INuM91sLAN4ImjzePLIlpMSihwV/view?usp=sharing",
            8,
            (88.3, 97.7),
        ),
        _kinetics(
            "k400_16f_336",
            "large-patch14-16-frames",
            f"{_DRIVE}/1FOYgnJc097OJ4lGwtRCCydQyVPJEOH7d/view?usp=sharing",
            16,
            (87.7, 97.4),
            img_size=336,
        ),
    ),
    layouts=_LAYOUTS,
)
def xclip_l14(**kwargs: Any) -> XCLIP:
    """CLIP ViT-L/14 with messages between frames; classes are their names."""
    return XCLIP(14, 1024, 24, 768, **kwargs)
