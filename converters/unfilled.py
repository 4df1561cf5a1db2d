"""Modules whose parameters are memory without values, for they are filled with others next."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

__all__ = ["fill", "is_unfilled", "shapes_only", "unfilled"]


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
        elif getattr(func, "__module__", "") == "torch.nn.init":
            given = kwargs.get("tensor", args[0] if args else None)
            if isinstance(given, nn.Parameter):
                return given
        elif args and isinstance(args[0], nn.Parameter) and _fills(func):
            return args[0]
        return func(*args, **kwargs)


def fill(module: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Give a module the very tensors of a state dict for its own.

    It does what `load_state_dict(state, strict=False, assign=True)` does with tensors of the
    module's own keys and shapes, and looks at nothing else, in a fifth of its time.

    Args:
        module: Keeps what the state does not name.
        state: Tensors by the module's keys.
    """
    for name, part in module.named_modules(remove_duplicate=False):
        prefix = f"{name}." if name else ""
        for key, old in part._parameters.items():
            if old is not None and (new := state.get(prefix + key)) is not None:
                part._parameters[key] = nn.Parameter(new, requires_grad=old.requires_grad)
        for key in part._buffers:
            if (new := state.get(prefix + key)) is not None:
                part._buffers[key] = new


def is_unfilled(module: nn.Module) -> bool:
    """Whether something in a module still has no values."""
    tensors = itertools.chain(module.parameters(), module.buffers())
    return any(tensor.is_meta for tensor in tensors)


def _fills(func: Callable[..., Any]) -> bool:
    """Whether a method of tensors changes their values in place, and nothing else."""
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
