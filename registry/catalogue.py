"""Every model the zoo can build: registered here and now, indexed, or offered by other packages.

Names come from three places, looked up in this order: builders that a running program registered,
the static index of the built-in families, and the entry-point group `zoo.models` of installed
packages (the entry's name is the model's name, its value the module that registers it). Listing
imports none of the modules; `load` imports the one it needs.
"""

from __future__ import annotations

import importlib
import inspect
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from registry.index import architecture_from_json, read_index, to_json
from registry.names import did_you_mean, matches, natural_key, said_here
from registry.records import Architecture, Order, Paper, Preprocess, Sampling, Weights

__all__ = [
    "ENTRY_POINT_GROUP",
    "Entry",
    "find_weights",
    "info",
    "list_models",
    "list_pretrained",
    "load",
    "register_model",
    "registered_names",
    "summary",
]

ENTRY_POINT_GROUP = "zoo.models"

Builder = TypeVar("Builder", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Entry:
    """A registered model.

    Attributes:
        architecture: Its record.
        builder: Called with keyword arguments, returns the module.
        layouts: Key maps by the name of the layout that they read, for `converters.convert`.
    """

    architecture: Architecture
    builder: Callable[..., Any]
    layouts: Mapping[str, Any]

    @property
    def defaults(self) -> dict[str, int]:
        """The builder arguments where neither weights nor a caller say otherwise."""
        return {
            "num_classes": self.architecture.num_classes,
            "in_chans": len(self.architecture.preprocess.mean),
            "num_frames": self.architecture.sampling.num_frames,
            "img_size": self.architecture.preprocess.img_size,
        }

    def build(self, **arguments: Any) -> Any:
        """The module, at its defaults where no argument is given.

        Raises:
            ValueError: Neither the builder nor the class it returns takes an argument.
        """
        name, allowed = self.architecture.name, _arguments_of(self.builder)
        for key in arguments:
            if allowed is not None and key not in allowed:
                raise ValueError(
                    f"{name!r} takes no argument {key!r}. Allowed: {', '.join(sorted(allowed))}."
                    f"{said_here(key) or did_you_mean(key, allowed)}"
                )
        try:
            return self.builder(**self.defaults | arguments)
        except TypeError as error:
            if "unexpected keyword argument" not in str(error):
                raise
            raise ValueError(
                f"The builder of {name!r} is called with {', '.join(self.defaults)}, and must take "
                f"them ({error})."
            ) from error


@cache  # reading signatures and types takes a third of a millisecond
def _arguments_of(builder: Callable[..., Any]) -> frozenset[str] | None:
    """The keyword arguments of a builder, and of the class it says it returns.

    None where it takes others as well and does not say by a type what becomes of them.
    """
    parameters = inspect.signature(builder).parameters.values()
    kinds = (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    own = frozenset(p.name for p in parameters if p.kind in kinds)
    if not any(p.kind is p.VAR_KEYWORD for p in parameters):
        return own
    try:
        built = typing.get_type_hints(builder)["return"]
        inner = inspect.signature(built).parameters.values()
    except (KeyError, NameError, TypeError, ValueError):
        return None
    if any(p.kind is p.VAR_KEYWORD for p in inner):
        return None
    # A class takes as positional arguments what makes the architecture; the builder fixes those.
    return own | {p.name for p in inner if p.kind is p.KEYWORD_ONLY}


_registered: dict[str, Entry] = {}


def register_model(
    *,
    order: Order,
    paper: Paper | None = None,
    weights: Sequence[Weights] = (),
    num_classes: int | None = None,
    sampling: Sampling | None = None,
    preprocess: Preprocess | None = None,
    layouts: Mapping[str, Any] | None = None,
) -> Callable[[Builder], Builder]:
    """Decorator that makes a builder known under its function's name.

    Args:
        order: What shuffled frames do to the logits.
        paper: Where the architecture was published.
        weights: Its weights records, the default first.
        num_classes: Classes where no weights are asked for; the default weights' if left out.
        sampling: Frames where no weights are asked for; the default weights' if left out.
        preprocess: Pixels where no weights are asked for; the default weights' if left out.
        layouts: Key maps by the name of the checkpoint layout that they read.

    Returns:
        The decorator; it returns the function it was given.

    Raises:
        ValueError: The name is taken by another module, two weights share a tag, or there are
            neither weights nor an explicit recipe.
    """

    def register(builder: Builder) -> Builder:
        name, module = builder.__name__, builder.__module__
        if not name.isidentifier():
            raise ValueError(f"A model is named by a Python identifier, not {name!r}.")
        _refuse_clash(name, builder)
        tags = [record.tag for record in weights]
        if len(set(tags)) < len(tags):
            raise ValueError(f"{name!r} has two weights of one tag in {tags}; make each unique.")
        default = weights[0] if weights else None
        classes, frames, pixels = num_classes, sampling, preprocess
        if default is not None:
            classes = default.num_classes if classes is None else classes
            frames, pixels = frames or default.sampling, pixels or default.preprocess
        if classes is None or frames is None or pixels is None:
            given = {"num_classes": classes, "sampling": frames, "preprocess": pixels}
            missing = ", ".join(key for key, value in given.items() if value is None)
            raise ValueError(
                f"{name!r} has no weights to take its input recipe from; give {missing}."
            )
        architecture = Architecture(
            name=name,
            family=module.rpartition(".")[2],
            module=module,
            summary=(builder.__doc__ or "").strip().split("\n")[0],
            paper=paper,
            order=order,
            num_classes=classes,
            sampling=frames,
            preprocess=pixels,
            weights=tuple(weights),
        )
        _registered[name] = Entry(architecture, builder, dict(layouts or {}))
        return builder

    return register


def _refuse_clash(name: str, builder: Callable[..., Any]) -> None:
    module = builder.__module__
    other = None
    if name in _registered:
        known = _registered[name].builder
        # A reloaded module or a notebook cell that runs again replaces its own builder.
        if (known.__module__, known.__qualname__) != (module, builder.__qualname__):
            other = known.__module__
    elif name in read_index() and read_index()[name]["module"] != module:
        other = read_index()[name]["module"]
    if other is not None:
        raise ValueError(
            f"Model {name!r} is registered by both {other!r} and {module!r}; "
            f"rename the builder in one of them."
        )


def registered_names() -> list[str]:
    """Names whose modules are imported by now."""
    return list(_registered)


@cache
def _entry_points() -> dict[str, list[str]]:
    """Modules by model name, as installed packages declare them; nothing is imported."""
    from importlib.metadata import entry_points  # slow to import, and `zoo list` must be fast

    modules: dict[str, list[str]] = {}
    for point in entry_points(group=ENTRY_POINT_GROUP):
        modules.setdefault(point.name, []).append(point.value)
    return modules


def _modules() -> dict[str, str]:
    """Module by name for every model, the first place that knows it winning."""
    indexed = {name: data["module"] for name, data in read_index().items()}
    registered = {name: entry.architecture.module for name, entry in _registered.items()}
    offered = {name: modules[0] for name, modules in _entry_points().items()}
    return offered | indexed | registered


def list_models(
    filter: str | Sequence[str] = "",  # noqa: A002 -- timm's name for it
    *,
    family: str | None = None,
    pretrained: bool = False,
    exclude: str | Sequence[str] = (),
) -> list[str]:
    """Names of the models, in natural order; imports neither torch nor any model.

    Args:
        filter: Pattern or patterns; with wildcards for the whole name, without for a part of it.
        family: Only models of this family.
        pretrained: Only models with weights. What an installed package offers is left out until
            its module is imported, since its metadata does not tell.
        exclude: Pattern or patterns of names to leave out.

    Returns:
        The names. Tiny variants made for tests are shown only to a filter that says `test`.
    """
    names = [
        name
        for name, module in _modules().items()
        if matches(name, filter)
        and (not exclude or not matches(name, exclude))
        and (family is None or module.rpartition(".")[2] == family)
        and (not pretrained or _tags(name))
        and not (name.startswith("test_") and name in read_index() and "test" not in str(filter))
    ]
    return sorted(names, key=natural_key)


def list_pretrained(
    filter: str | Sequence[str] = "",  # noqa: A002 -- timm's name for it
    *,
    family: str | None = None,
    exclude: str | Sequence[str] = (),
) -> list[str]:
    """Every `name.tag` whose name or whole text fits the filter; see `list_models`."""
    full = [
        f"{name}.{tag}"
        for name in list_models(family=family, pretrained=True)
        for tag in _tags(name)
    ]

    def fits(text: str, patterns: str | Sequence[str]) -> bool:
        return matches(text, patterns) or matches(text.partition(".")[0], patterns)

    return [text for text in full if fits(text, filter) and not (exclude and fits(text, exclude))]


def _tags(name: str) -> list[str]:
    if name in _registered:
        return [record.tag for record in _registered[name].architecture.weights]
    return [record["tag"] for record in read_index().get(name, {"weights": ()})["weights"]]


def summary(name: str) -> dict[str, Any]:
    """What a listing shows of a name; imports nothing.

    Args:
        name: One that `list_models` gave.

    Returns:
        `name`, `family`, `module`, `summary`, `order`, `weights` (tags), `params`, `gflops`; of a
        model that another package offers only the first three are known until it is imported.
    """
    module = _modules()[name]
    data = read_index().get(name, {})
    if name in _registered and not data:
        data = to_json(_registered[name].architecture)
    known = {key: data.get(key) for key in ("summary", "order", "params", "gflops")}
    family = module.rpartition(".")[2]
    return {"name": name, "family": family, "module": module, "weights": _tags(name)} | known


def info(name: str) -> Architecture:
    """The record of a model; torch is imported only for models that are not built in.

    Args:
        name: Name of a model, or `name.tag` for a record with those weights alone.

    Raises:
        LookupError: No such model or tag.
    """
    name, _, tag = name.partition(".")
    if tag:
        architecture = info(name)
        return replace(architecture, weights=(find_weights(architecture, tag),))
    indexed = read_index().get(name)
    if name in _registered:
        architecture = _registered[name].architecture
        return _with_counts(architecture, indexed) if indexed else architecture
    return architecture_from_json(indexed) if indexed else load(name).architecture


def _with_counts(architecture: Architecture, indexed: Mapping[str, Any]) -> Architecture:
    """A record as its family registers it, with what was counted when the index was written."""
    by_tag = {item.tag: item for item in architecture_from_json(indexed).weights}
    weights = tuple(
        replace(
            record,
            params=by_tag[record.tag].params,
            gflops=by_tag[record.tag].gflops,
            proofs=by_tag[record.tag].proofs,
        )
        if record.tag in by_tag
        else record
        for record in architecture.weights
    )
    return replace(
        architecture, weights=weights, params=indexed["params"], gflops=indexed["gflops"]
    )


def load(name: str) -> Entry:
    """The registered model of that name; imports the module that defines it if need be.

    Raises:
        LookupError: No such model, or the module that should register it does not, or cannot be
            imported.
        ValueError: An installed package offers a name that is taken.
    """
    modules = _modules()
    if name not in modules:
        folder = f" For this folder, write 'local-dir:{name}'." if Path(name).is_dir() else ""
        near = did_you_mean(name, modules)
        lifted = f" If this is an image model of timm, 'i3d:{name}' makes a video model of it."
        raise LookupError(
            f"Unknown model {name!r}.{near} `zoo list` shows all {len(list_models())}."
            f"{folder or ('' if near else lifted)}"
        )
    for offered in _entry_points().get(name, []):
        if offered != modules[name]:
            raise ValueError(
                f"Model {name!r} is offered by both {modules[name]!r} and {offered!r}; "
                f"uninstall or rename one of them."
            )
    if name not in _registered:
        try:
            importlib.import_module(modules[name])
        except ImportError as error:
            raise LookupError(
                f"Module {modules[name]!r} of the model {name!r} cannot be imported ({error}); "
                f"install what it needs, or uninstall the package that offers it."
            ) from error
    if name not in _registered:
        raise LookupError(
            f"Module {modules[name]!r} is said to register the model {name!r}, but does not; "
            f"its package's entry points and its builders disagree."
        )
    return _registered[name]


def find_weights(architecture: Architecture, tag: str) -> Weights:
    """The weights of that tag; the default ones for the empty tag.

    Raises:
        LookupError: The model has no weights, or none of that tag.
    """
    known = [record.tag for record in architecture.weights]
    if not known:
        raise LookupError(
            f"Model {architecture.name!r} has no pretrained weights; create it without "
            f"`pretrained` or give `checkpoint=PATH`."
        )
    for record in architecture.weights:
        if tag in (record.tag, ""):
            return record
    raise LookupError(
        f"Unknown tag {tag!r} for {architecture.name!r}. Known: {', '.join(known)}."
        f"{did_you_mean(tag, known)}"
    )
