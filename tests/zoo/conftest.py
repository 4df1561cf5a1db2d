"""What several files use: the command line in this process, a trained model, what is decoded."""

import dataclasses
import sys

import pytest
import torch
from scrambling import scramble

import zoo
from zoo import cli
from zoo._frame_decoder import FrameDecoder


@pytest.fixture
def trained(tmp_path):
    """A scrambled model saved as a folder, with labels."""
    torch.manual_seed(0)
    model = scramble(zoo.create("test_r2p1d"), torch.zeros(4, 3, 8, 32, 32))
    labels = tuple("abcdefg")
    model.record = dataclasses.replace(model.record, labels=labels)
    return model, zoo.save(model, tmp_path / "trained")


@pytest.fixture
def run_zoo(monkeypatch, capsys):
    """Run `zoo ARGUMENTS` in this process: exit code, stdout, stderr."""

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["zoo", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as exit_:
            cli.main()
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return exit_.value.code, out, err

    return call


@pytest.fixture
def decoded(monkeypatch):
    """The index of every frame that comes out of a decoder."""
    indices, original = [], FrameDecoder._numbered

    def counting(self, frames):
        for item in original(self, frames):
            indices.append(item[0])
            yield item

    monkeypatch.setattr(FrameDecoder, "_numbered", counting)
    return indices
