"""VideoMAE before fine-tuning: an encoder of what is visible, a decoder of what is masked.

Tong et al., "VideoMAE: Masked Autoencoders are Data-Efficient Learners for Self-Supervised Video
Pre-Training" (https://arxiv.org/abs/2203.12602). The reference is MCG-NJU/VideoMAE
(CC-BY-NC-4.0), whose predictions and loss these are. What differs: `forward` is that of every
model, the encoder's pooled features of the whole clip, for probing and retrieval; masking has
calls of its own, `tube_mask`, `forward_pretrain` and `loss`. The second masking, of the decoder,
that VideoMAE V2 added is not here.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from converters import KeyMap, Rule
from registry import UpstreamSource, Weights, register_model
from zoo.models._base import run
from zoo.models.videomae import (
    DENSE,
    PAPER,
    PREPROCESS,
    TUBELET,
    Block,
    VideoMAE,
    drive,
    hub,
    transformers_rules,
)

__all__ = [
    "VideoMAEPretrain",
    "videomae_pretrain_b",
    "videomae_pretrain_h",
    "videomae_pretrain_l",
    "videomae_pretrain_s",
]


class Decoder(nn.Module):
    """Blocks over visible and masked tokens; the masked ones become pixels.

    Args:
        dim: Width D of the decoder.
        depth: Blocks.
        num_heads: Heads.
        mlp_ratio: Width of a hidden layer by D.
        num_pixels: Values P in a tubelet.
    """

    def __init__(
        self, dim: int, depth: int, num_heads: int, *, mlp_ratio: float, num_pixels: int
    ) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            Block(dim, num_heads=num_heads, mlp_ratio=mlp_ratio) for _ in range(depth)
        )
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.head = nn.Linear(dim, num_pixels)

    def forward(self, x: Tensor, num_masked: int, *, checkpointed: bool = False) -> Tensor:
        """Map (N, L, D), the masked tokens last, to their pixels (N, M, P)."""
        for block in self.blocks:
            x = run(block, x, checkpointed=checkpointed)
        pixels: Tensor = self.head(self.norm(x[:, x.shape[1] - num_masked :]))
        return pixels


class VideoMAEPretrain(VideoMAE):
    """A VideoMAE with the decoder it is pre-trained with.

    Masks are (N, L) of bool over the tokens, time slowest; True is masked, as many in each row.

    Args:
        embed_dim: Width D of the encoder.
        depth: Blocks of the encoder.
        num_heads: Heads of the encoder.
        decoder_dim: Width of the decoder.
        decoder_depth: Blocks of the decoder.
        decoder_heads: Heads of the decoder.
        patch_size: Side of a patch, pixels.
        mlp_ratio: Width of a hidden layer by that of the tokens.
        num_classes: Classes K of a classifier of the pooled features, a linear probe; 0 for none.
        in_chans: Input channels C.
        num_frames: Frames T of a clip; even.
        img_size: Side of the pictures; the patches must divide it.
        native_frames: Frames of the clips that the tables are computed for, see `VideoMAE`.
        native_size: Side of their pictures, likewise.
        drop_rate: Dropout before the classifier.
        drop_path_rate: Stochastic depth at the encoder's last block, rising linearly from 0.
    """

    pretraining_weights = ("encoder_to_decoder.", "mask_token", "decoder.")
    decoder_pos_embed: Tensor

    def __init__(
        self,
        embed_dim: int,
        depth: int,
        num_heads: int,
        decoder_dim: int,
        decoder_depth: int,
        decoder_heads: int,
        patch_size: int = 16,
        mlp_ratio: float = 4.0,
        *,
        num_classes: int = 0,
        in_chans: int = 3,
        num_frames: int = 16,
        img_size: int = 224,
        native_frames: int = 16,
        native_size: int = 224,
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
    ) -> None:
        super().__init__(
            embed_dim,
            depth,
            num_heads,
            patch_size,
            mlp_ratio,
            num_classes=num_classes,
            in_chans=in_chans,
            num_frames=num_frames,
            img_size=img_size,
            native_frames=native_frames,
            native_size=native_size,
            drop_rate=drop_rate,
            drop_path_rate=drop_path_rate,
        )
        # Other than after fine-tuning, it is the tokens that are normalised, not their mean.
        self.norm = nn.LayerNorm(embed_dim, eps=1e-6)
        self.fc_norm = nn.Identity()
        self.encoder_to_decoder = nn.Linear(embed_dim, decoder_dim, bias=False)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, decoder_dim))
        positions = self._positions(decoder_dim)
        self.register_buffer("decoder_pos_embed", positions, persistent=False)
        self.decoder = Decoder(
            decoder_dim,
            decoder_depth,
            decoder_heads,
            mlp_ratio=mlp_ratio,
            num_pixels=TUBELET * patch_size**2 * in_chans,
        )
        for part in (self.blocks, self.decoder):
            for module in part.modules():
                if isinstance(module, nn.Linear):
                    nn.init.xavier_uniform_(module.weight)
                    if module.bias is not None:
                        nn.init.zeros_(module.bias)
        nn.init.trunc_normal_(self.mask_token, std=0.02)

    def tube_mask(
        self, batch: int, ratio: float = 0.9, *, generator: torch.Generator | None = None
    ) -> Tensor:
        """Hide the same random places in all frames of a clip.

        Args:
            batch: Clips N.
            ratio: Part of the places that is hidden; 0.9 in the paper, 0.75 on UCF101.
            generator: Source of chance.

        Returns:
            A mask, (N, L) of bool.

        Raises:
            ValueError: The ratio leaves nothing masked, or nothing visible.
        """
        t, h, w = self.grid_size
        hidden = int(ratio * h * w)
        if not 0 < hidden < h * w:
            raise ValueError(
                f"ratio={ratio} hides {hidden} of {h * w} places; some must be hidden, and some "
                f"visible."
            )
        rank = torch.rand(batch, h * w, generator=generator).argsort(dim=1).argsort(dim=1)
        return (rank < hidden).repeat(1, t).to(self.mask_token.device)  # (N, T'*H'*W')

    def forward_pretrain(self, x: Tensor, mask: Tensor) -> Tensor:
        """Predict the pixels of masked tubelets from the visible ones.

        Args:
            x: Clips, (N, C, T, H, W).
            mask: What is hidden, (N, L) of bool.

        Returns:
            Predictions, (N, M, P), as `targets` gives what they are compared with.
        """
        tokens = self._embed(x)
        num_masked = self._count(mask, tokens)
        n = tokens.shape[0]
        visible = rearrange(tokens[~mask], "(n l) d -> n l d", n=n)  # (N, L-M, D)
        for block in self.blocks:
            visible = run(block, visible, checkpointed=self.grad_checkpointing)
        visible = self.encoder_to_decoder(self.norm(visible))
        places = self.decoder_pos_embed.to(visible.dtype).expand(n, -1, -1)
        seen, hidden = (rearrange(places[part], "(n l) d -> n l d", n=n) for part in (~mask, mask))
        both = torch.cat([visible + seen, self.mask_token + hidden], dim=1)  # (N, L, D)
        pixels: Tensor = self.decoder(both, num_masked, checkpointed=self.grad_checkpointing)
        return pixels

    def targets(self, x: Tensor, mask: Tensor, *, normalise: bool = True) -> Tensor:
        """The pixels of masked tubelets.

        Args:
            x: Clips, (N, C, T, H, W), normalised as the records say.
            mask: What is hidden, (N, L) of bool.
            normalise: Whether each channel of each tubelet gets mean 0 and deviation 1, as in the
                paper; else they are pixels in [0, 1].

        Returns:
            Pixels, (N, M, P), P running over frame, row, column, channel.
        """
        mean, std = (torch.tensor(values) for values in (PREPROCESS.mean, PREPROCESS.std))
        if self.in_chans != len(mean):
            mean, std = (values.mean().expand(self.in_chans) for values in (mean, std))
        mean, std = (values.to(x)[:, None, None, None] for values in (mean, std))
        tubelets = rearrange(
            x * std + mean,
            "n c (t f) (h p) (w q) -> n (t h w) (f p q) c",
            f=TUBELET,
            p=self.patch_size,
            q=self.patch_size,
        )
        hidden = rearrange(tubelets[mask], "(n m) p c -> n m p c", n=x.shape[0])  # (N, M, P / C, C)
        if normalise:
            spread = hidden.std(dim=-2, keepdim=True) + 1e-6
            hidden = (hidden - hidden.mean(dim=-2, keepdim=True)) / spread
        return hidden.flatten(2)

    def loss(self, x: Tensor, mask: Tensor, *, normalise: bool = True) -> Tensor:
        """Mean squared error of the predictions, a scalar; see `targets` for the arguments."""
        predictions = self.forward_pretrain(x, mask)
        with torch.no_grad():
            targets = self.targets(x, mask, normalise=normalise)
        return F.mse_loss(predictions, targets)

    def _count(self, mask: Tensor, tokens: Tensor) -> int:
        """How many tokens a mask hides in each clip.

        Raises:
            ValueError: It is no mask of these tokens, or hides more in one clip than in another.
        """
        if mask.dtype != torch.bool or mask.shape != tokens.shape[:2]:
            raise ValueError(
                f"A mask is bool of shape {tuple(tokens.shape[:2])}, got {mask.dtype} of "
                f"{tuple(mask.shape)}; tube_mask makes one."
            )
        counts = mask.sum(dim=1).tolist()
        if len(set(counts)) > 1 or counts[0] in (0, mask.shape[1]):
            raise ValueError(
                f"A mask hides as many tokens in each clip, some and not all; this one hides "
                f"{counts} of {mask.shape[1]}."
            )
        return int(counts[0])

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """As in `VideoMAE`, the decoder behind the encoder."""
        found = super().group_matcher(coarse)
        behind = (r"^(?:encoder_to_decoder|mask_token|decoder)", (len(self.blocks) + 1,))
        return {**found, "blocks": [*found["blocks"], behind]}

    def no_weight_decay(self) -> set[str]:
        """The token that stands for what is hidden."""
        return {"mask_token"}


_SAME = (
    Rule("encoder_to_decoder", "encoder_to_decoder"),
    Rule("mask_token", "mask_token"),
)
TRANSFORMERS = KeyMap(
    (
        Rule("videomae.embeddings.patch_embeddings.projection", "patch_embed.proj"),
        *transformers_rules("videomae.encoder.layer.{i}", "blocks.{i}"),
        Rule("videomae.layernorm", "norm"),
        *transformers_rules("decoder.decoder_layers.{i}", "decoder.blocks.{i}"),
        Rule("decoder", "decoder"),
        *_SAME,
    )
)
VIDEOMAE = KeyMap(
    (
        *(Rule(f"encoder.{part}", part) for part in ("patch_embed", "blocks", "norm")),
        Rule("decoder", "decoder"),
        *_SAME,
    )
)
_LAYOUTS = {"transformers": TRANSFORMERS, "videomae": VIDEOMAE}

_DATA = {"k400": "Kinetics-400", "ssv2": "Something-Something V2", "ucf101": "UCF101"}
_ONE_WINDOW = replace(DENSE, num_clips=1, num_crops=1)


def _pretrained(tag: str, epochs: int, source: UpstreamSource, *mirrors: UpstreamSource) -> Weights:
    """The record of a network that its authors trained on the data that the tag begins with."""
    data = tag.partition("_")[0]
    stride = 2 if data == "ssv2" else 4
    return Weights(
        tag=tag,
        source=source,
        licence="CC-BY-NC-4.0",
        data=f"{_DATA[data]}, without labels",
        num_classes=0,
        labels=None,
        sampling=replace(_ONE_WINDOW, frame_stride=stride),
        preprocess=PREPROCESS,
        mirrors=mirrors,
        note=f"Pre-trained for {epochs} epochs, not fine-tuned: it has no classifier.",
    )


@register_model(
    order="used",
    num_classes=7,
    sampling=_ONE_WINDOW,
    preprocess=replace(PREPROCESS, img_size=32, resize=32),
    layouts=_LAYOUTS,
)
def test_videomae_pretrain(**kwargs: Any) -> VideoMAEPretrain:
    """Two narrow blocks on either side, for tests."""
    return VideoMAEPretrain(32, 2, 2, 16, 2, 2, 8, **{"native_size": 32} | kwargs)


@register_model(
    order="used",
    paper=PAPER,
    weights=(
        _pretrained("k400", 1600, drive("1nU-H1u3eJ-VuyCveU7v-WIOcAVxs5Hww")),
        _pretrained("ssv2", 2400, drive("1p_I1aaONOeUvRmRQw1UT3-L2H8XJClHu")),
    ),
    layouts=_LAYOUTS,
)
def videomae_pretrain_s(**kwargs: Any) -> VideoMAEPretrain:
    """ViT-S/16 with its decoder of 4 blocks."""
    return VideoMAEPretrain(384, 12, 6, 192, 4, 3, **kwargs)


@register_model(
    order="used",
    paper=PAPER,
    weights=(
        _pretrained(
            "k400",
            1600,
            hub("MCG-NJU/videomae-base", "2e0c3f4bc73c"),
            drive("1tEhLyskjb755TJ65ptsrafUG2llSwQE1"),
        ),
        _pretrained(
            "k400_e800",
            800,
            hub("MCG-NJU/videomae-base-short"),
            drive("1JfrhN144Hdg7we213H1WxwR3lGYOlmIn"),
        ),
        _pretrained(
            "ssv2",
            2400,
            hub("MCG-NJU/videomae-base-ssv2"),
            drive("1I18dY_7rSalGL8fPWV82c0-foRUDzJJk"),
        ),
        _pretrained(
            "ssv2_e800",
            800,
            hub("MCG-NJU/videomae-base-short-ssv2"),
            drive("181hLvyrrPW2IOGA46fkxdJk0tNLIgdB2"),
        ),
        _pretrained("ucf101", 3200, drive("1BHev4meNgKM0o_8DMRbuzAsKSP3IpQ3o")),
    ),
    layouts=_LAYOUTS,
)
def videomae_pretrain_b(**kwargs: Any) -> VideoMAEPretrain:
    """ViT-B/16 with its decoder of 4 blocks."""
    return VideoMAEPretrain(768, 12, 12, 384, 4, 6, **kwargs)


@register_model(
    order="used",
    paper=PAPER,
    weights=(
        _pretrained(
            "k400",
            1600,
            hub("MCG-NJU/videomae-large", "c7549bea23c2"),
            drive("1qLOXWb_MGEvaI7tvuAe94CV7S2HXRwT3"),
        ),
    ),
    layouts=_LAYOUTS,
)
def videomae_pretrain_l(**kwargs: Any) -> VideoMAEPretrain:
    """ViT-L/16 with its decoder of 12 blocks."""
    return VideoMAEPretrain(1024, 24, 16, 512, 12, 8, **kwargs)


@register_model(
    order="used",
    paper=PAPER,
    weights=(_pretrained("k400", 1600, drive("1AJQR1Rsi2N1pDn9tLyJ8DQrUREiBA1bO")),),
    layouts=_LAYOUTS,
)
def videomae_pretrain_h(**kwargs: Any) -> VideoMAEPretrain:
    """ViT-H/16 with its decoder of 12 blocks."""
    return VideoMAEPretrain(1280, 32, 16, 640, 12, 8, **kwargs)
