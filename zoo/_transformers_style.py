"""What transformers' tools wrote: config.json and the file of the processor, by their own rules.

Names and default values of the keys are those of transformers' configuration classes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, TypeAlias

import registry
from converters.places import Place
from converters.unfilled import shapes_only
from converters.untrusted import shown
from registry.names import did_you_mean
from registry.records import UNKNOWN
from zoo._transformers_processor import read_processor
from zoo.config import ModelConfig, check_arguments

__all__ = ["read_transformers_style", "sizes_for_transformers"]

_Layouts: TypeAlias = tuple[str, ...]

_LARGEST_EPS = 1e-5
_NOTED_HEADS = ("vision.mit_num_attention_heads", "prompt_num_attention_heads")


@dataclass(frozen=True, slots=True)
class _Family:
    """How transformers configures a family.

    Attributes:
        families: Modules of ours that hold it, by the class that transformers saved; each with
            the layouts of its tensors.
        fixed: What must be as it is in our network, with transformers' default first.
        facts: What transformers would call the sizes of one of our modules.
        defaults: Transformers' values for what a file leaves out.
        frames: Keys of the frames, the side and the channels of its clips.
    """

    families: Mapping[str, tuple[str, tuple[str, ...]]]
    fixed: Mapping[str, tuple[Any, ...]]
    facts: Callable[[Any], dict[str, Any]]
    defaults: Mapping[str, Any]
    frames: tuple[str, str, str] = ("num_frames", "image_size", "num_channels")


def _vit_facts(model: Any) -> dict[str, Any]:
    block = model.blocks[0]
    return {
        "hidden_size": model.num_features,
        "num_hidden_layers": len(model.blocks),
        "num_attention_heads": block.attn.num_heads,
        "intermediate_size": block.mlp.fc1.out_features,
    }


def _videomae_facts(model: Any) -> dict[str, Any]:
    facts = {**_vit_facts(model), "patch_size": model.patch_size}
    if hasattr(model, "decoder"):
        facts |= {
            "decoder_hidden_size": model.mask_token.shape[-1],
            "decoder_num_hidden_layers": len(model.decoder.blocks),
            "decoder_num_attention_heads": model.decoder.blocks[0].attn.num_heads,
            "decoder_intermediate_size": model.decoder.blocks[0].mlp.fc1.out_features,
        }
    return facts


def _timesformer_facts(model: Any) -> dict[str, Any]:
    kinds = {"divided": "divided_space_time", "joint": "joint_space_time", "space": "space_only"}
    return {
        **_vit_facts(model),
        "patch_size": model.patch_embed.proj.kernel_size[0],
        "attention_type": kinds.get(model.pattern, model.pattern),
    }


def _vivit_facts(model: Any) -> dict[str, Any]:
    size = model.patch_size
    return {**_vit_facts(model), "tubelet_size": [model.tubelet_size, size, size]}


def _vjepa2_facts(model: Any) -> dict[str, Any]:
    return {
        **_vit_facts(model),
        "patch_size": model.patch_embed.kernel_size[-1],
        "num_pooler_layers": len(model.pooler.blocks),
        "levels": len(model.levels),
    }


def _xclip_facts(model: Any) -> dict[str, Any]:
    text = model.head
    return {
        "prompt_layers": len(text.prompts.blocks),
        "vision.hidden_size": model.cls_token.shape[-1],
        "vision.num_hidden_layers": len(model.blocks),
        "vision.num_attention_heads": model.blocks[0].attn.num_heads,
        "vision.patch_size": model.patch_embed.kernel_size[0],
        "projection_dim": model.num_features,
        "vision.mit_num_hidden_layers": len(model.mixer.blocks),
        "text.hidden_size": model.num_features,
        "text.num_hidden_layers": len(text.text.blocks),
        "text.num_attention_heads": text.text.blocks[0].attn.num_heads,
        "text.vocab_size": text.vocab_size,
        "text.max_position_embeddings": text.context_length,
    }


_VIT = {
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "num_channels": 3,
    "image_size": 224,
    "patch_size": 16,
    "num_labels": 2,
}
_GELU = {"hidden_act": ("gelu",), "qkv_bias": (True,)}
_FAMILIES = {
    "videomae": _Family(
        families={
            "VideoMAEForVideoClassification": ("videomae", ("transformers",)),
            "VideoMAEForPreTraining": ("videomae_pretrain", ("transformers",)),
        },
        fixed=_GELU | {"tubelet_size": (2,), "qv_bias": (True,)},
        facts=_videomae_facts,
        defaults=_VIT
        | {
            "num_frames": 16,
            "decoder_hidden_size": 384,
            "decoder_num_hidden_layers": 4,
            "decoder_num_attention_heads": 6,
            "decoder_intermediate_size": 1536,
        },
    ),
    "timesformer": _Family(
        families={"TimesformerForVideoClassification": ("timesformer", ("transformers",))},
        fixed=_GELU,
        facts=_timesformer_facts,
        defaults=_VIT | {"num_frames": 8, "attention_type": "divided_space_time"},
    ),
    "vivit": _Family(
        families={"VivitForVideoClassification": ("vivit", ("transformers", "transformers_v5"))},
        fixed={"hidden_act": ("gelu_fast", "gelu_pytorch_tanh", "gelu_new"), "qkv_bias": (True,)},
        facts=_vivit_facts,
        defaults=_VIT | {"num_frames": 32, "tubelet_size": [2, 16, 16]},
    ),
    "vjepa2": _Family(
        families={
            "VJEPA2ForVideoClassification": ("vjepa2", ("transformers",)),
            "VJEPA2Model": ("vjepa2", ("transformers_encoder",)),
        },
        fixed=_GELU | {"tubelet_size": (2,)},
        facts=_vjepa2_facts,
        defaults=_VIT
        | {
            "hidden_size": 1024,
            "num_hidden_layers": 24,
            "num_attention_heads": 16,
            "mlp_ratio": 4.0,
            "num_pooler_layers": 3,
            "levels": 1,
            "frames_per_clip": 64,
            "crop_size": 256,
            "in_chans": 3,
        },
        frames=("frames_per_clip", "crop_size", "in_chans"),
    ),
    "xclip": _Family(
        families={"XCLIPModel": ("xclip", ("transformers",))},
        fixed={"vision.hidden_act": ("quick_gelu",), "text.hidden_act": ("quick_gelu",)},
        facts=_xclip_facts,
        defaults={
            "projection_dim": 512,
            "prompt_layers": 2,
            "vision.hidden_size": 768,
            "vision.num_hidden_layers": 12,
            "vision.num_attention_heads": 12,
            "vision.patch_size": 32,
            "vision.num_frames": 8,
            "vision.image_size": 224,
            "vision.num_channels": 3,
            "vision.mit_num_hidden_layers": 1,
            "text.num_hidden_layers": 12,
            "text.num_attention_heads": 8,
            "text.hidden_size": 512,
            "text.vocab_size": 49408,
            "text.max_position_embeddings": 77,
        },
        frames=("vision.num_frames", "vision.image_size", "vision.num_channels"),
    ),
}


def read_transformers_style(
    data: Mapping[str, Any], place: Place
) -> tuple[ModelConfig, _Layouts, str]:
    """Our words for a configuration of transformers, its layouts, and what a user must know.

    Raises:
        LookupError: The architecture is none of ours.
        ValueError: A value is wrong, absurd, or makes another network than ours.
    """
    kind = data["model_type"]
    if not isinstance(kind, str) or kind not in _FAMILIES:
        known = ", ".join(_FAMILIES)
        raise LookupError(
            f"{place.origin} holds a {shown(kind)} of transformers, which the zoo does not have. "
            f"Known: {known}.{did_you_mean(str(kind)[:80], _FAMILIES)}"
        )
    family = _FAMILIES[kind]
    saved = (data.get("architectures") or list(family.families))[0]
    if saved not in family.families:
        raise LookupError(
            f"{place.origin} holds a {shown(saved)} of transformers; the zoo reads "
            f"{', '.join(family.families)}."
        )
    ours, layouts = family.families[saved]
    facts = {**family.defaults, **_flat(data)}
    if data.get("id2label"):
        facts["num_labels"] = len(data["id2label"])
    _check_network(facts, family)
    entry = _find_builder(facts, family, ours)
    arguments = _arguments(facts, family, entry, labelled=saved.endswith("Classification"))
    check_arguments(arguments)
    architecture = entry.architecture
    config = ModelConfig(
        architecture=architecture.name,
        tag="",
        arguments=arguments,
        labels=_labels(data, arguments["num_classes"]) if kind != "xclip" else None,
        sampling=replace(architecture.sampling, num_frames=arguments["num_frames"]),
        preprocess=read_processor(place, architecture.preprocess, arguments["img_size"]),
        source={"repository": place.origin, "layout": layouts[0]},
        licence=UNKNOWN,
    )
    return config, layouts, _note(facts, entry) if kind == "xclip" else ""


def sizes_for_transformers(kind: str, model: Any) -> dict[str, Any]:
    """What a configuration class of transformers must be told to build a network of ours.

    Args:
        kind: Its `model_type`.
        model: One of our modules of that kind.
    """
    family = _FAMILIES[kind]
    clip = (model.num_frames, model.img_size, model.in_chans)
    facts = family.facts(model) | dict(zip(family.frames, clip, strict=True))
    facts["num_labels"] = model.num_classes
    if kind == "vjepa2":
        facts.pop("levels")
        facts["mlp_ratio"] = facts.pop("intermediate_size") / model.num_features
    if kind != "xclip":
        return facts
    heads = model.mixer.blocks[0].attn.num_heads
    facts["prompt_num_attention_heads"] = facts["vision.mit_num_attention_heads"] = heads
    facts["vision.mit_hidden_size"] = model.num_features
    for width, inner in (
        ("vision.hidden_size", "vision.intermediate_size"),
        ("vision.mit_hidden_size", "vision.mit_intermediate_size"),
        ("text.hidden_size", "text.intermediate_size"),
    ):
        facts[inner] = 4 * facts[width]
    config: dict[str, Any] = {"vision_config": {}, "text_config": {}}
    for key, value in facts.items():
        tower, dot, name = key.partition(".")
        if dot:
            config[f"{tower}_config"][name] = value
        else:
            config[tower] = value
    return config


def _flat(data: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration with X-CLIP's two towers under `vision.` and `text.`."""
    flat = {key: value for key, value in data.items() if not isinstance(value, dict)}
    for tower in ("vision", "text"):
        # Older files hold what differs from the default a second time, and that one counts.
        for key in (f"{tower}_config", f"{tower}_config_dict"):
            flat |= {f"{tower}.{name}": value for name, value in (data.get(key) or {}).items()}
    return flat


def _check_network(facts: Mapping[str, Any], family: _Family) -> None:
    """Refuse what makes another network of tensors that look the same."""
    for key, allowed in family.fixed.items():
        if facts.get(key, allowed[0]) not in allowed:
            raise ValueError(
                f"{key} is {shown(facts[key])}, where the zoo's network has {allowed[0]!r}."
            )
    for key in ("layer_norm_eps", "vision.layer_norm_eps", "text.layer_norm_eps"):
        # Transformers writes 1e-12 where the authors trained with 1e-6, which the zoo takes.
        if not 0 <= facts.get(key, 0) <= _LARGEST_EPS:
            raise ValueError(f"{key} is {shown(facts[key])}, where {_LARGEST_EPS} is the most.")


def _find_builder(facts: Mapping[str, Any], family: _Family, ours: str) -> registry.Entry:
    """The builder of ours whose module has these sizes."""
    names = registry.list_models(family=ours) + registry.list_models("test_*", family=ours)
    wanted, seen = {}, []
    for name in names:
        entry = registry.load(name)
        if not any(layout.startswith("transformers") for layout in entry.layouts):
            continue
        has = _facts_of(entry.builder, tuple(entry.defaults.items()), family.facts)
        wanted = {key: _wanted(key, facts) for key in has}
        if has == wanted:
            return entry
        seen.append(name)
    told = ", ".join(f"{key}={shown(value, 40)}" for key, value in wanted.items())
    raise LookupError(f"None of {', '.join(seen)} is of this size: {told}.")


@cache  # what a builder makes does not change, and a family has several
def _facts_of(
    builder: Callable[..., Any],
    defaults: tuple[tuple[str, int], ...],
    facts: Callable[[Any], dict[str, Any]],
) -> Mapping[str, Any]:
    """The sizes of what a builder makes at its defaults."""
    with shapes_only():
        return facts(builder(**dict(defaults)))


def _wanted(key: str, facts: Mapping[str, Any]) -> Any:
    value = facts.get(key)
    if key == "intermediate_size" and "mlp_ratio" in facts:
        return int(facts["hidden_size"] * facts["mlp_ratio"])
    if key.endswith("patch_size") and isinstance(value, list) and len(set(value)) == 1:
        return value[0]
    return value


def _arguments(
    facts: Mapping[str, Any], family: _Family, entry: registry.Entry, *, labelled: bool
) -> dict[str, Any]:
    frames, side, channels = (facts[key] for key in family.frames)
    if isinstance(side, list) and len(set(side)) == 1:
        side = side[0]
    own = entry.defaults
    arguments = own | {"num_frames": frames, "img_size": side, "in_chans": channels}
    ours = entry.architecture.family
    if labelled:
        arguments["num_classes"] = facts["num_labels"]
    elif ours != "xclip":
        arguments["num_classes"] = 0
    if ours in ("videomae", "videomae_pretrain"):
        # Its table of sines is made for these, and resampled from nothing else.
        arguments |= {"native_frames": frames, "native_size": side}
    if ours == "vjepa2":
        arguments["pooler_heads"] = facts["num_attention_heads"]
    return arguments


def _labels(data: Mapping[str, Any], num_classes: int) -> tuple[str, ...] | None:
    """The class names, where they are not transformers' own placeholders."""
    names = data.get("id2label")
    if not num_classes or not names:
        return None
    if names.keys() != {str(index) for index in range(num_classes)}:
        raise ValueError(
            f"id2label names {len(names)} classes, the first {shown(next(iter(names)))}, where "
            f"there are {num_classes}."
        )
    labels = tuple(str(names[str(index)]) for index in range(num_classes))
    placeholders = tuple(f"LABEL_{index}" for index in range(num_classes))
    return None if labels == placeholders else labels


def _note(facts: Mapping[str, Any], entry: registry.Entry) -> str:
    """X-CLIP's large models were published with another number of heads than they have."""
    with shapes_only():
        heads = entry.build().mixer.blocks[0].attn.num_heads
    said = {key: facts.get(key, 8) for key in _NOTED_HEADS}
    if set(said.values()) == {heads}:
        return ""
    told = ", ".join(f"{key}={shown(value)}" for key, value in said.items())
    return (
        f"{entry.architecture.name!r} has {heads} heads in its mixer and prompts, as its authors "
        f"trained it, where the configuration says {told}."
    )
