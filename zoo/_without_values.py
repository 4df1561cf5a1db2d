"""Copies of modules whose tensors have shapes and no values, which cost no memory to run."""

from __future__ import annotations

import copy
from collections import OrderedDict
from typing import Any, TypeVar, cast

import torch
from torch import nn

__all__ = ["without_values"]

Module = TypeVar("Module", bound=nn.Module)


def without_values(
    model: Module, *, device: str = "meta", dtype: torch.dtype | None = None
) -> Module:
    """A copy in eval mode whose parameters and buffers hold nothing; shared ones stay shared.

    Args:
        model: Left as it is.
        device: `meta`, which runs nothing; or, within torch's `FakeTensorMode`, the device whose
            kernels are to be picked.
        dtype: Of its floating-point tensors; their own if left out.
    """
    memo: dict[int, Any] = {}
    for tensor in (*model.parameters(), *model.buffers()):
        kept = dtype if tensor.is_floating_point() else None
        twin = torch.empty_like(tensor, device=device, dtype=kept, requires_grad=False)
        parameter = isinstance(tensor, nn.Parameter)
        memo[id(tensor)] = nn.Parameter(twin, requires_grad=False) if parameter else twin
    return _copy(model, memo)


_PLAIN = frozenset((int, float, str, bool, type(None)))
_CONTAINERS = frozenset((dict, OrderedDict, list, set))


def _copy(module: Module, memo: dict[int, Any]) -> Module:
    """What `copy.deepcopy` gives, in eval mode and in a fraction of its time.

    Most of a module is plain or empty.
    """
    if id(module) in memo:
        return cast("Module", memo[id(module)])
    if hasattr(type(module), "__deepcopy__"):
        return copy.deepcopy(module, memo).eval()
    twin = memo[id(module)] = object.__new__(type(module))
    state = twin.__dict__
    for key, value in module.__dict__.items():
        kind = type(value)
        if kind in _PLAIN or (kind is tuple and all(type(item) in _PLAIN for item in value)):
            state[key] = value
        elif kind in _CONTAINERS and not value:
            state[key] = kind()
        elif key == "_modules":
            state[key] = {n: child and _copy(child, memo) for n, child in value.items()}
        elif key in ("_parameters", "_buffers"):
            state[key] = {n: None if old is None else memo[id(old)] for n, old in value.items()}
        else:
            state[key] = copy.deepcopy(value, memo)
    state["training"] = False
    return twin
