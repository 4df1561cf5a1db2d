"""Modules whose parameters are memory without values, for they are filled with others next."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.overrides import TorchFunctionMode

__all__ = ["fill", "is_unfilled", "shapes_only", "unfilled", "unset"]


class unfilled(TorchFunctionMode):  # noqa: N801 -- used as `with unfilled():`, as torch.no_grad is
    """Modules built inside have parameters without values, which tensors are then assigned to.

    What is computed out of place (tables of positions, most buffers) has its values. What would be
    memory to be filled is on the meta device instead: no random number is drawn for it. Whoever
    builds so looks whether `is_unfilled` afterwards.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = dict(kwargs or {})
        if func is torch.empty:
            kwargs["device"] = kwargs.get("device") or "meta"
        elif (parameter := _started(func, args, kwargs)) is not None:
            return parameter
        return func(*args, **kwargs)


class unset(TorchFunctionMode):  # noqa: N801 -- as above
    """Modules built inside have none of their first values, until weights are copied in.

    For builders that load the weights themselves, by copies, and compute nothing lasting from
    first values. Memory that would be filled is not a number; what is not loaded is `missing`.
    From the first copy into a parameter on, everything is done as torch does it.
    """

    def __init__(self) -> None:
        super().__init__()
        self.put_off: set[nn.Parameter] = set()
        self.loaded: set[nn.Parameter] = set()

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if func is Tensor.copy_ and isinstance(args[0], nn.Parameter):
            self.loaded.add(args[0])
        elif not self.loaded:
            if (parameter := _started(func, args, kwargs)) is not None:
                self.put_off.add(parameter)
                return parameter
            if func is torch.empty:
                found = torch.empty(*args, **kwargs)
                return found.fill_(math.nan) if found.is_floating_point() else found
        return func(*args, **kwargs)

    def missing(self, module: nn.Module) -> bool:
        """Whether something has neither its first values nor others."""
        if any(item in self.put_off and item not in self.loaded for item in module.parameters()):
            return True
        tensors = itertools.chain(module.parameters(), module.buffers())
        with torch.no_grad():
            floats = [tensor for tensor in tensors if tensor.is_floating_point()]
            return bool(nn.utils.get_total_norm(floats).isnan())


def fill(module: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Give a module the very tensors of a state dict for its own.

    It does what `load_state_dict(state, strict=False, assign=True)` does with tensors of the
    module's own keys and shapes, and looks at nothing else, in a fifth of its time; parameters
    that are shared stay so. Where a part has its own way of loading, that one is taken.

    Args:
        module: Keeps what the state does not name.
        state: Tensors by the module's keys.
    """
    parts = dict(module.named_modules(remove_duplicate=False))
    if not all(map(_loads_plainly, parts.values())):
        module.load_state_dict(state, strict=False, assign=True)
        return
    made: dict[nn.Parameter, nn.Parameter] = {}
    for name, part in parts.items():
        prefix = f"{name}." if name else ""
        for key, old in part._parameters.items():
            if old is None or prefix + key not in state:
                continue
            if old not in made:
                new = nn.Parameter(state[prefix + key], requires_grad=old.requires_grad)
                made |= {old: new, new: new}  # a part of two names is met twice
            part._parameters[key] = made[old]
        for key in part._buffers:
            if (value := state.get(prefix + key)) is not None:
                part._buffers[key] = value


# BatchNorm's own way serves files from before 2018, which lack a counter.
_PLAIN_WAYS = (nn.Module._load_from_state_dict, _NormBase._load_from_state_dict)


def _loads_plainly(part: nn.Module) -> bool:
    """Whether a module has no hook on loading, and takes parameters as any other does.

    Recurrent layers note theirs a second time when they are set.
    """
    kind = type(part)
    hooked = part._load_state_dict_pre_hooks or part._load_state_dict_post_hooks
    own_setting = kind.__setattr__ is not nn.Module.__setattr__
    return not (hooked or own_setting) and kind._load_from_state_dict in _PLAIN_WAYS


def is_unfilled(module: nn.Module) -> bool:
    """Whether something in a module still has no values."""
    tensors = itertools.chain(module.parameters(), module.buffers())
    return any(tensor.is_meta for tensor in tensors)


def _started(
    func: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> nn.Parameter | None:
    """The parameter that a call only changes in place, as what sets first values does."""
    if not _fills(func):
        return None
    first = args[0] if args else kwargs.get("tensor")
    return first if isinstance(first, nn.Parameter) else None


@cache
def _fills(func: Callable[..., Any]) -> bool:
    """Whether a function or method changes the values of a tensor in place, and nothing else."""
    if getattr(func, "__module__", "") == "torch.nn.init":
        return True
    name = getattr(func, "__name__", "")
    return name.endswith("_") and not name.endswith("__") and name not in _OTHER_CHANGES


_OTHER_CHANGES = ("requires_grad_", "detach_", "rename_", "share_memory_", "retain_grad_")


@contextmanager
def shapes_only() -> Iterator[None]:
    """Modules built inside have shapes and no memory: torch's meta device, and nothing filled.

    torch draws random numbers on that device by code for which it imports its compiler, a second.
    """
    with torch.device("meta"), unfilled():
        yield
