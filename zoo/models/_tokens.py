"""What transformer families share: a chain of blocks over the tokens of a clip."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from zoo.models._base import VideoModel, chosen_levels, run

__all__ = ["TokenModel"]


class TokenModel(VideoModel):
    """A transformer family: tokens of a clip, a chain of blocks, pooled features, classifier.

    A subclass sets its modules, names the block of each level in `feature_info`, and says in
    `_embed` and `_maps` how its tokens lie.

    Attributes:
        blocks: The chain.
        norm: What the last block's tokens go through; an identity where only their mean does.
        drop: Dropout before the classifier.
        stem_names: What the names of parameters before the first block begin with.
        last_names: What the names of those behind the last block begin with.
    """

    blocks: nn.ModuleList
    norm: nn.Module
    drop: nn.Dropout
    grad_checkpointing: bool = False
    stem_names: tuple[str, ...] = ("cls_token", "pos_embed", "patch_embed")
    last_names: tuple[str, ...] = ("norm",)

    @abstractmethod
    def _embed(self, x: Tensor) -> Tensor:
        """Map clips (N, C, T, H, W) to what the first block takes."""

    @abstractmethod
    def _maps(self, x: Tensor, level: int) -> Tensor:
        """Map what the block of a level gives to maps (N, D, T', H', W')."""

    def _features(self, x: Tensor) -> Tensor:
        """Map what the last block gives to normalised features (N, P + T'*H'*W', D)."""
        features: Tensor = self.norm(x)
        return features

    def _pool(self, x: Tensor) -> Tensor:
        """Pool features (N, L, D) to (N, D): the class token, or the mean where there is none."""
        return x[:, 0] if self.num_prefix_tokens else x.mean(dim=1)

    def check_clip(self, x: Tensor) -> None:
        """Refuse what is no clip of the frames and size that the position tables are made for.

        Raises:
            ValueError: It is not.
        """
        self.check_input(x)
        want = (self.num_frames, self.img_size, self.img_size)
        if tuple(x.shape[2:]) != want:
            raise ValueError(
                f"This model was made for clips of (T, H, W) = {want}, got {tuple(x.shape[2:])}; "
                f"zoo.create(..., num_frames=T, img_size=H) makes one for other square clips, its "
                f"position tables resampled."
            )

    def forward_features(self, x: Tensor) -> Tensor:
        """Map clips (N, C, T, H, W) to features (N, P + T'*H'*W', D), time slowest."""
        x = self._embed(x)
        for block in self.blocks:
            x = run(block, x, checkpointed=self.grad_checkpointing)
        return self._features(x)

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Pool features (N, L, D) to (N, D) and classify them, (N, K)."""
        x = self.drop(self._pool(x))  # (N, D)
        logits: Tensor = x if pre_logits else self.get_classifier()(x)
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
        """See `VideoModel.forward_intermediates`.

        Raises:
            ValueError: `norm` is asked for at a level that is narrower than the last one. With
                `stop_early` before the last stage, so are its features: left unnormalised.
        """
        wanted = self._wanted_blocks(indices, norm=norm)
        x = self._embed(x)
        found = []
        for place, block in enumerate(self.blocks[: max(wanted) + 1 if stop_early else None]):
            x = run(block, x, checkpointed=self.grad_checkpointing)
            if place in wanted:
                found.append(self._maps(self.norm(x) if norm else x, wanted[place]))
        if intermediates_only:
            return found
        whole = x.shape[-1] == self.feature_info[-1]["num_chs"]
        return self._features(x) if whole else x, found

    def _wanted_blocks(self, indices: int | Sequence[int] | None, *, norm: bool) -> dict[int, int]:
        """The level of each block that is asked for, sorted."""
        levels = chosen_levels(indices, len(self.feature_info))
        width = self.feature_info[-1]["num_chs"]
        narrow = [i for i in levels if self.feature_info[i]["num_chs"] != width]
        if norm and narrow and not isinstance(self.norm, nn.Identity):
            raise ValueError(
                f"norm=True normalises a width of {width}, which levels {narrow} do not have; "
                f"choose others, or leave it out."
            )
        return {
            int(self.feature_info[level]["module"].removeprefix("blocks.")): level
            for level in levels
        }

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recompute each block in the backward pass instead of keeping its activations."""
        self.grad_checkpointing = enable

    def group_matcher(
        self,
        coarse: bool = False,  # noqa: ARG002 -- blocks are the only depth there is
    ) -> dict[str, Any]:
        """Regular expressions that sort parameters into stem, blocks and what follows them."""
        return {
            "stem": rf"^(?:{'|'.join(self.stem_names)})",
            # What follows is sorted behind every block, whatever the depth.
            "blocks": [
                (r"^blocks\.(\d+)", None),
                (rf"^(?:{'|'.join(self.last_names)})", (len(self.blocks),)),
            ],
        }
