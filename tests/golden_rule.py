"""The rule by which golden tests fill weights and clips; anyone can run it beside other code.

Tensor k of a state dict in alphabetical order of its keys holds `sin(0.7 i^1.5 + k)`, scaled, at
place i. A golden file in `tests/golden` keeps the keys and shapes of the authors' module, the
version of their code, and the logits that it gave; never anything that our code computed.
"""

import json
from pathlib import Path

import torch

GOLDEN = Path(__file__).parent / "golden"


def golden(family):
    """What `tests/golden/FAMILY.json` holds."""
    return json.loads((GOLDEN / f"{family}.json").read_text(encoding="utf-8"))


@torch.no_grad()
def fill(state):
    """Fill every floating-point tensor of a state dict in place, by its key, rank and shape.

    Variances and scales of norms lie about 1, other vectors and tables within 0.3 of 0, kernels
    shrink with their fan-in. Counters and index tables stay as they are.
    """
    for k, (name, tensor) in enumerate(sorted(state.items())):
        if not tensor.is_floating_point():
            continue
        place = torch.arange(tensor.numel(), dtype=torch.float64)
        wave = torch.sin(0.7 * place * place**0.5 + k).reshape(tensor.shape)
        last = name.rpartition(".")[2]
        about_one = last == "running_var" or (
            last in ("weight", "gamma", "scale") and tensor.ndim == 1
        )
        table = tensor.ndim < 2 or last.endswith(("embed", "token", "table"))
        scale = 0.3 if table else 1.5 / tensor[0].numel() ** 0.5
        tensor.copy_(float(about_one) + scale * wave)


def filled(shapes):
    """A state dict of float32 tensors at given shapes, filled by the rule."""
    state = {name: torch.zeros(shape) for name, shape in shapes.items()}
    fill(state)
    return state


def clip(shape):
    """A clip of smooth waves, the same for everyone."""
    place = torch.arange(torch.Size(shape).numel(), dtype=torch.float64)
    return torch.sin(0.01 * place * (1 + place / 9999)).float().reshape(shape)
