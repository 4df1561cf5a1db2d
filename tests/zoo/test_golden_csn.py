"""ip-CSN-101 gives the logits of its authors' own code."""

import pytest
import torch
from golden_rule import clip, filled, golden
from scrambling import assert_close, assert_listens

import converters
import zoo

pytestmark = pytest.mark.slow
RECORD = golden("csn")


@pytest.fixture(scope="module")
def model():
    """Our network with the weights that the authors' was filled with."""
    made = zoo.create("ip_csn_r101").eval()
    state = converters.convert(filled(RECORD["shapes"]), name="ip_csn_r101", source="vmz")
    made.load_state_dict(state)
    return made


def test_ip_csn_gives_its_authors_logits(model):
    shape, wanted = RECORD["clip"], torch.tensor(RECORD["logits"])
    assert_listens(model, shape)
    with torch.no_grad():
        assert_close(model(clip(shape)), wanted)
        weight = model.layer3[5].conv2.mix.weight
        weight.mul_(1.1)
        error = (model(clip(shape)) - wanted).abs().max() / wanted.abs().max()
        weight.div_(1.1)
    assert error > 1e-3


def test_the_authors_norms_add_more_to_the_variance(model):
    shape, wanted = RECORD["clip"], torch.tensor(RECORD["logits"])
    norms = [m for m in model.modules() if isinstance(m, torch.nn.BatchNorm3d)]
    assert {(norm.eps, norm.momentum) for norm in norms} == {(1e-3, 0.1)}
    for norm in norms:
        norm.eps = 1e-5
    with torch.no_grad():
        error = (model(clip(shape)) - wanted).abs().max() / wanted.abs().max()
    for norm in norms:
        norm.eps = 1e-3
    assert error > 1e-3


def test_the_layout_is_written_back(model):
    exported = converters.export(model, target="vmz")
    assert {key: list(value.shape) for key, value in exported.items()} == RECORD["shapes"]
