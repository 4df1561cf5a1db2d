"""The text side of CLIP and X-CLIP: names become tokens, tokens features, and these classify.

Radford et al., "Learning Transferable Visual Models From Natural Language Supervision"
(https://arxiv.org/abs/2103.00020); the prompts that a clip adds to names are X-CLIP's. References
are openai/CLIP and microsoft/VideoX (both MIT). Names are cut into tokens by open_clip's tokenizer,
which is CLIP's.
"""

from __future__ import annotations

import importlib
import itertools
import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from zoo.layers import Attention, Mlp, split_heads

__all__ = ["QuickMlp", "ResidualBlock", "TextClassifier", "nameless_tokens", "tokenize"]


def tokenize(names: Sequence[str], *, context_length: int) -> Tensor:
    """Cut class names into tokens, between those for start and end.

    Rows are filled up with zeros to the longest name only: attention is causal, so that what
    follows the end is never read.

    Args:
        names: Class names, K of them.
        context_length: Most tokens of a name.

    Returns:
        Token ids, (K, L); the end has the highest id there is.

    Raises:
        ImportError: open_clip is not installed.
        ValueError: A name is too long.
    """
    try:
        tokenizer = importlib.import_module("open_clip.tokenizer").SimpleTokenizer()
    except ImportError as error:
        raise ImportError(
            "This model reads class names with open_clip's tokenizer, which is not installed; run "
            "pip install 'videozoo[text]'."
        ) from error
    rows = [
        [tokenizer.sot_token_id, *tokenizer.encode(name), tokenizer.eot_token_id] for name in names
    ]
    for name, row in zip(names, rows, strict=True):
        if len(row) > context_length:
            raise ValueError(
                f"The name {name!r} has {len(row)} tokens of at most {context_length}; shorten it."
            )
    length = max(map(len, rows))
    return torch.tensor([row + [0] * (length - len(row)) for row in rows])


def nameless_tokens(num_classes: int, *, vocab_size: int) -> Tensor:
    """Texts that tell classes apart and mean nothing, as short as can be.

    Returns:
        Token ids, (K, L).
    """
    digits = 1
    while (vocab_size - 2) ** digits < num_classes:
        digits += 1
    texts = itertools.product(range(vocab_size - 2), repeat=digits)
    start, end = vocab_size - 2, vocab_size - 1
    rows = [[start, *text, end] for text in itertools.islice(texts, num_classes)]
    return torch.tensor(rows, dtype=torch.long).reshape(num_classes, digits + 2)


class QuickGELU(nn.Module):
    """CLIP's approximation of GELU."""

    def forward(self, x: Tensor) -> Tensor:
        """Map a tensor of any shape."""
        return x * torch.sigmoid(1.702 * x)


class QuickMlp(Mlp):
    """Two linear layers, the first four times wider, with QuickGELU between."""

    def __init__(self, dim: int) -> None:
        super().__init__(dim, hidden_dim=4 * dim)
        self.act = QuickGELU()

    def activate_(self, hidden: Tensor) -> Tensor:
        """See `Mlp`."""
        if type(self.act) is not QuickGELU:
            return super().activate_(hidden)
        return hidden.mul_((1.702 * hidden).sigmoid_())


class CausalAttention(Attention):
    """Self-attention in which no token reads a later one."""

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, L, D) to (N, L, D)."""
        q, k, v = split_heads(self.qkv(x), self.num_heads)
        x = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.proj(rearrange(x, "n h l d -> n l (h d)"))  # (N, L, D)


class ResidualBlock(nn.Module):
    """CLIP's transformer block."""

    def __init__(self, dim: int, *, num_heads: int, causal: bool = False) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim)
        self.attn = (CausalAttention if causal else Attention)(dim, num_heads=num_heads)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = QuickMlp(dim)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, L, D) to (N, L, D)."""
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class TextTower(nn.Module):
    """Token ids to one feature a text, read where the text ends.

    Args:
        dim: Width E of the tower and of its features.
        depth: Blocks.
        num_heads: Heads.
        vocab_size: Token ids that there are.
        context_length: Most tokens of a text.
    """

    def __init__(
        self, dim: int, *, depth: int, num_heads: int, vocab_size: int, context_length: int
    ) -> None:
        super().__init__()
        self.token_embed = nn.Embedding(vocab_size, dim)
        self.pos_embed = nn.Parameter(torch.empty(context_length, dim))
        self.blocks = nn.Sequential(
            *(ResidualBlock(dim, num_heads=num_heads, causal=True) for _ in range(depth))
        )
        self.norm = nn.LayerNorm(dim)
        self.proj = nn.Linear(dim, dim, bias=False)
        self._initialise(dim, depth)

    def _initialise(self, dim: int, depth: int) -> None:
        """As CLIP's authors do."""
        nn.init.normal_(self.token_embed.weight, std=0.02)
        nn.init.normal_(self.pos_embed, std=0.01)
        nn.init.normal_(self.proj.weight, std=dim**-0.5)
        for block in self.blocks:
            assert isinstance(block, ResidualBlock)
            nn.init.normal_(block.attn.qkv.weight, std=dim**-0.5)
            nn.init.normal_(block.attn.proj.weight, std=(2 * dim * depth) ** -0.5)
            nn.init.normal_(block.mlp.fc1.weight, std=(2 * dim) ** -0.5)
            nn.init.normal_(block.mlp.fc2.weight, std=(2 * dim * depth) ** -0.5)
            nn.init.zeros_(block.attn.qkv.bias)
            nn.init.zeros_(block.attn.proj.bias)

    def forward(self, tokens: Tensor, ends: Tensor) -> Tensor:
        """Map token ids (K, L), and the places (K,) where the texts end, to features (K, E)."""
        x = self.token_embed(tokens) + self.pos_embed[: tokens.shape[1]]
        x = self.norm(self.blocks(x))  # (K, L, E)
        ends = ends[:, None, None].expand(-1, -1, x.shape[2])
        features: Tensor = self.proj(x.gather(1, ends)[:, 0])
        return features


class CrossAttention(nn.Module):
    """Texts read places; queries, keys and values have no bias."""

    def __init__(self, dim: int, *, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.q = nn.Linear(dim, dim, bias=False)
        self.k = nn.Linear(dim, dim, bias=False)
        self.v = nn.Linear(dim, dim, bias=False)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor, places: Tensor) -> Tensor:
        """Map texts (N, K, E), by places (N, L, E), to (N, K, E)."""
        q, k, v = (
            rearrange(y, "n l (h d) -> n h l d", h=self.num_heads)
            for y in (self.q(x), self.k(places), self.v(places))
        )
        read = F.scaled_dot_product_attention(q, k, v)
        return self.proj(rearrange(read, "n h l d -> n l (h d)"))  # (N, K, E)


class PromptBlock(nn.Module):
    """Cross-attention, then two linear layers."""

    def __init__(self, dim: int, *, num_heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim)
        self.cross_attn = CrossAttention(dim, num_heads=num_heads)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = QuickMlp(dim)

    def forward(self, x: Tensor, places: Tensor) -> Tensor:
        """Map texts (N, K, E), by places (N, L, E), to (N, K, E)."""
        x = x + self.cross_attn(self.norm1(x), places)
        return x + self.mlp(self.norm2(x))


class PromptGenerator(nn.Module):
    """What a clip adds to the features of the classes' names."""

    def __init__(self, dim: int, *, depth: int, num_heads: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.blocks = nn.ModuleList(PromptBlock(dim, num_heads=num_heads) for _ in range(depth))
        self.alpha = nn.Parameter(torch.full((dim,), 0.1))

    def forward(self, x: Tensor, places: Tensor) -> Tensor:
        """Map texts (N, K, E), by places (N, L, E), to (N, K, E)."""
        places = self.norm(places)
        for block in self.blocks:
            x = block(x, places)
        return self.alpha * x


class TextClassifier(nn.Module):
    """Compares a video with the names of the classes, each changed by what the video shows.

    The names are held as tokens, which are no part of the state: they are made from the labels.

    Args:
        dim: Width E.
        text_depth: Blocks of the text tower.
        prompt_depth: Blocks of the prompt generator.
        num_heads: Heads of both.
        vocab_size: Token ids that there are.
        context_length: Most tokens of a name.
    """

    class_tokens: Tensor
    class_ends: Tensor

    def __init__(
        self,
        dim: int,
        *,
        text_depth: int,
        prompt_depth: int,
        num_heads: int,
        vocab_size: int,
        context_length: int,
    ) -> None:
        super().__init__()
        self.text = TextTower(
            dim,
            depth=text_depth,
            num_heads=num_heads,
            vocab_size=vocab_size,
            context_length=context_length,
        )
        self.prompts = PromptGenerator(dim, depth=prompt_depth, num_heads=num_heads)
        self.logit_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))
        self.vocab_size, self.context_length = vocab_size, context_length
        self._known: tuple[Any, Tensor] | None = None

    def set_tokens(self, tokens: Tensor) -> None:
        """Take the names of the classes as token ids, (K, L); a name ends at its highest id."""
        device = self.logit_scale.device
        self.register_buffer("class_tokens", tokens.to(device), persistent=False)
        self.register_buffer("class_ends", tokens.argmax(dim=1).to(device), persistent=False)

    def class_features(self) -> Tensor:
        """The features of the names, (K, E); computed once as long as nothing they depend on moves.

        With gradients, and in an exported graph, they are computed every time. A change through
        `.data` is counted nowhere: call `train` or `eval` after it, which forgets them.
        """
        parts = [*self.text.parameters(), self.class_tokens]
        if torch.is_grad_enabled() or torch.compiler.is_compiling():
            return self._encoded()
        if any(part.is_inference() for part in parts):  # these keep no count of their changes
            return self._encoded()
        state = [(part.data_ptr(), part._version, part.device, part.dtype) for part in parts]
        if self._known is None or self._known[0] != state:
            self._known = state, self._encoded()
        return self._known[1]

    def train(self, mode: bool = True) -> TextClassifier:
        """See torch; the features of the names are forgotten."""
        self._known = None
        return super().train(mode)

    def _encoded(self) -> Tensor:
        features: Tensor = self.text(self.class_tokens, self.class_ends)
        return features

    def forward(self, video: Tensor, places: Tensor) -> Tensor:
        """Map a video (N, E) and the means over time of its places (N, L, E) to logits (N, K)."""
        texts = self.class_features().expand(video.shape[0], -1, -1)  # (N, K, E)
        texts = F.normalize(texts + self.prompts(texts, places), dim=-1)
        return self.logit_scale.exp() * (texts @ F.normalize(video, dim=-1)[:, :, None])[:, :, 0]
