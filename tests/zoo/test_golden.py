"""Logits of the authors' own code, recorded as numbers; `tests/golden` names its version.

Weights and clip follow a rule that anyone can run beside the authors' module: tensor k of the state
dict in alphabetical order holds sin(0.7 i^1.5 + k), scaled, at place i.
"""

import json
from pathlib import Path

import pytest
import torch
from scrambling import assert_close, assert_listens

import zoo

GOLDEN = Path(__file__).parents[1] / "golden"


@torch.no_grad()
def fill(state):
    for k, (name, tensor) in enumerate(sorted(state.items())):
        place = torch.arange(tensor.numel(), dtype=torch.float64)
        wave = torch.sin(0.7 * place * place**0.5 + k).reshape(tensor.shape)
        scale = 1.5 / tensor[0].numel() ** 0.5
        if tensor.ndim == 1 or name.endswith(("embed", "token")):
            scale = 0.3
        one = 1.0 if "norm" in name and name.endswith("weight") else 0.0
        tensor.copy_(one + scale * wave)


def clip(shape):
    place = torch.arange(torch.Size(shape).numel(), dtype=torch.float64)
    return torch.sin(0.01 * place * (1 + place / 9999)).float().reshape(shape)


@pytest.mark.parametrize("pattern", ["divided", "joint", "space"])
def test_timesformer_gives_its_authors_logits(pattern):
    model = zoo.create(f"test_timesformer_{pattern}")
    fill(model.state_dict())
    shape = (2, 3, 4, 32, 32)
    assert_listens(model, shape)
    wanted = json.loads((GOLDEN / "timesformer.json").read_text())["logits"][pattern]
    with torch.no_grad():
        assert_close(model(clip(shape)), torch.tensor(wanted))
        model.blocks[1].attn.proj.weight.mul_(1.1)
        error = (model(clip(shape)) - torch.tensor(wanted)).abs().max()
    assert error > 1e-3
