"""Tensors in and out: inflation, key maps, checkpoint files."""

from typing import TYPE_CHECKING

from registry.lazy import lazy_names

if TYPE_CHECKING:
    from converters.checkpoint import read_checkpoint, read_metadata, write_safetensors
    from converters.inflate import (
        Inflation,
        adapt_in_chans,
        inflate_conv,
        inflate_patch_embed,
        inflate_pos_embed,
    )
    from converters.keymap import (
        POINTWISE,
        QUERY_VALUE_BIAS,
        STACKED,
        TRANSPOSED,
        Joint,
        KeyMap,
        Merge,
        Rule,
    )
    from converters.layouts import convert, export
    from converters.positions import (
        resize_clip_table,
        resize_spatial_table,
        resize_temporal_table,
    )

__all__ = [
    "POINTWISE",
    "QUERY_VALUE_BIAS",
    "STACKED",
    "TRANSPOSED",
    "VIDEOZOO",
    "Inflation",
    "Joint",
    "KeyMap",
    "Merge",
    "Rule",
    "adapt_in_chans",
    "convert",
    "export",
    "inflate_conv",
    "inflate_patch_embed",
    "inflate_pos_embed",
    "read_checkpoint",
    "read_metadata",
    "resize_clip_table",
    "resize_spatial_table",
    "resize_temporal_table",
    "write_safetensors",
]

VIDEOZOO = "converters"
"""Marks this package as ours; `import zoo` compares it, since other packages use the name."""

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "converters.checkpoint": ("read_checkpoint", "read_metadata", "write_safetensors"),
        "converters.inflate": (
            "Inflation",
            "adapt_in_chans",
            "inflate_conv",
            "inflate_patch_embed",
            "inflate_pos_embed",
        ),
        "converters.keymap": (
            "POINTWISE",
            "QUERY_VALUE_BIAS",
            "STACKED",
            "TRANSPOSED",
            "Joint",
            "KeyMap",
            "Merge",
            "Rule",
        ),
        "converters.layouts": ("convert", "export"),
        "converters.positions": (
            "resize_clip_table",
            "resize_spatial_table",
            "resize_temporal_table",
        ),
    },
)
