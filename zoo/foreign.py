"""Repositories that transformers or timm-style tools wrote, where the architecture is one of ours.

Their configuration is read by its own rules: what is left out has the value that its library gives
it, and what would make another network than ours is refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor

import registry
from converters.layouts import Plan, plan_unsized
from converters.places import Place
from zoo._timm_style import read_timm_style
from zoo._transformers_style import read_transformers_style
from zoo.config import ModelConfig, check_resize

if TYPE_CHECKING:
    from zoo.models._base import VideoModel

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

    def plan(self, header: Mapping[str, Tensor], model: VideoModel) -> Plan:
        """How its tensors become ours; their shapes are looked at, and no values.

        Args:
            header: The tensors on the meta device.
            model: What the configuration builds, on the meta device.

        Raises:
            ValueError: They are not those of its configuration.
        """
        entry = registry.load(self.config.architecture)
        arguments = dict(self.config.arguments)
        first = self.layouts[0] if self.layouts else None
        plan = plan_unsized(header, entry, arguments, model, expected=first)
        if self.layouts and plan.layout not in self.layouts:
            raise ValueError(
                f"The tensors of {self.config.architecture!r} are in the layout {plan.layout!r}, "
                f"and its config.json speaks of {', '.join(self.layouts)}."
            )
        other = [key for key, value in plan.arguments.items() if value != arguments.get(key)]
        if other:
            told = ", ".join(f"{key}={arguments.get(key)} ({plan.arguments[key]})" for key in other)
            raise ValueError(
                f"The tensors of {self.config.architecture!r} are of another size than its "
                f"config.json says: {told}."
            )
        for key, value in plan.outline.items():
            if not value.is_floating_point() and "num_batches_tracked" not in key:
                raise ValueError(f"{key} holds {value.dtype}, where weights are floats.")
        return plan


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
