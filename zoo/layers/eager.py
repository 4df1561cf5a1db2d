"""When a layer may work in the way that suits this machine's memory, and when it must be plain."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.modules.module import _global_forward_hooks, _global_forward_pre_hooks
from torch.utils._python_dispatch import is_in_torch_dispatch_mode

__all__ = ["is_counted", "is_eager", "is_hooked", "is_traced", "learns"]


def is_traced() -> bool:
    """Whether a graph is written down, by torch.compile, torch.export or torch.jit."""
    return torch.compiler.is_compiling() or torch._C._get_tracing_state() is not None


def is_eager(*tensors: Tensor) -> bool:
    """Whether a CPU computes with these here and now.

    Graphs that are written down stay free of what suits this machine's memory, and torch.func's
    transforms, vmap above all, know no memory formats.
    """
    if is_traced() or torch._C._are_functorch_transforms_active():
        return False
    return all(tensor.is_cpu for tensor in tensors)


def learns(*tensors: Tensor | None) -> bool:
    """Whether a gradient of any of these may be asked for."""
    return torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in tensors)


def is_counted() -> bool:
    """Whether each operation is shown to something, such as a counter, that knows torch's own."""
    return is_in_torch_dispatch_mode()


def is_hooked(module: nn.Module) -> bool:
    """Whether hooks look at what the layers of a module take and give."""
    hooked = any(part._forward_hooks or part._forward_pre_hooks for part in module.children())
    return hooked or bool(_global_forward_hooks or _global_forward_pre_hooks)
