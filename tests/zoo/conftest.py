"""A trained model that several files load again."""

import dataclasses

import pytest
import torch
from scrambling import scramble

import zoo


@pytest.fixture
def trained(tmp_path):
    """A scrambled model saved as a folder, with labels."""
    torch.manual_seed(0)
    model = scramble(zoo.create("test_r2p1d"), torch.zeros(4, 3, 8, 32, 32))
    labels = tuple("abcdefg")
    model.record = dataclasses.replace(model.record, labels=labels)
    return model, zoo.save(model, tmp_path / "trained")
