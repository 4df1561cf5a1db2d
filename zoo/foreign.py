"""Repositories that transformers or timm-style tools wrote, where the architecture is one of ours.

Their configuration is read by its own rules: what is left out has the value that its library gives
it, and what would make another network than ours is refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

import registry
from converters.layouts import Converted, convert_unsized
from converters.places import Place
from zoo._timm_style import read_timm_style
from zoo._transformers_style import read_transformers_style
from zoo.config import ModelConfig, check_resize

__all__ = ["Foreign", "is_foreign", "read_foreign"]


@dataclass(frozen=True, slots=True)
class Foreign:
    """A model that another library saved.

    Attributes:
        config: What it is, in our words.
        layouts: Names of the key maps that may read it, the likeliest first; empty for any.
        note: What its user must be told, or an empty text.
    """

    config: ModelConfig
    layouts: Sequence[str] = ()
    note: str = ""

    def convert(self, state: Mapping[str, Tensor]) -> Converted:
        """Its tensors by our keys; on the meta device too, where only shapes are looked at.

        Raises:
            ValueError: They are not those of its configuration.
        """
        entry = registry.load(self.config.architecture)
        arguments = dict(self.config.arguments)
        first = self.layouts[0] if self.layouts else None
        found, made_with = convert_unsized(state, entry, arguments, expected=first)
        if self.layouts and found.layout not in self.layouts:
            raise ValueError(
                f"The tensors of {self.config.architecture!r} are in the layout {found.layout!r}, "
                f"and its config.json speaks of {', '.join(self.layouts)}."
            )
        other = [key for key, value in made_with.items() if value != arguments.get(key)]
        if other:
            told = ", ".join(f"{key}={arguments.get(key)} ({made_with[key]})" for key in other)
            raise ValueError(
                f"The tensors of {self.config.architecture!r} are of another size than its "
                f"config.json says: {told}."
            )
        for key, value in found.state.items():
            if not value.is_floating_point() and "num_batches_tracked" not in key:
                raise ValueError(f"{key} holds {value.dtype}, where weights are floats.")
        return found


def is_foreign(data: Any) -> bool:
    """Whether a config.json is another library's, and not ours."""
    return (
        isinstance(data, dict)
        and "schema_version" not in data
        and ("model_type" in data or "pretrained_cfg" in data)
    )


def read_foreign(data: Mapping[str, Any], place: Place, *, origin: str) -> Foreign:
    """Find our name and arguments for what another library's config.json tells of.

    Args:
        data: What the file holds.
        place: Where it lies; what its images are prepared by lies beside it.
        origin: What to call the file in a message.

    Raises:
        LookupError: The architecture is none of ours.
        ValueError: A value is wrong, absurd, or makes another network than ours.
    """
    try:
        if "model_type" in data:
            found = Foreign(*read_transformers_style(data, place))
        else:
            found = Foreign(read_timm_style(data, place))
        check_resize(found.config.preprocess.resize)
    except (AttributeError, KeyError, IndexError, TypeError, ValueError) as error:
        reason = f"{type(error).__name__}: " if not isinstance(error, ValueError) else ""
        raise ValueError(f"'{origin}' cannot be read: {reason}{str(error)[:400]}") from error
    return found
