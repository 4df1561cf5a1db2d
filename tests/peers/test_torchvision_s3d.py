"""S3D against torchvision's own, both ways."""

import pytest
import torch
from scrambling import assert_close, assert_listens, random_clip, scramble

import converters
import zoo
from zoo.benchmarking.peers import beside

pytestmark = pytest.mark.peer
# The head's window is 2x7x7: it fits the first last map once, the others more often.
SHAPES = [(1, 3, 14, 224, 224), (1, 3, 32, 224, 224), (1, 3, 21, 256, 256)]


@pytest.fixture(scope="module")
def pair():
    """Our model and torchvision's with the same scrambled weights."""
    torch.manual_seed(0)
    ours = scramble(zoo.create("s3d"), torch.zeros(2, 3, 16, 112, 112))
    return ours, beside("torchvision", ours).module


@pytest.mark.parametrize("shape", SHAPES)
def test_logits_and_features_are_equal(pair, shape):
    ours, theirs = pair
    clip = random_clip(shape, seed=1)
    if shape == SHAPES[0]:
        assert_listens(ours, shape)
    with torch.no_grad():
        features = ours.forward_features(clip)
        assert_close(features, theirs.features(clip))
        assert_close(ours.forward_head(features), theirs(clip))


def test_an_error_in_one_layer_is_seen(pair):
    ours, theirs = pair
    clip = random_clip(SHAPES[0], seed=1)
    planted = ours.layer3[4].branch1.temporal.conv.weight
    with torch.no_grad():
        wanted = theirs(clip)
        planted.mul_(1.1)
        error = (ours(clip) - wanted).abs().max() / wanted.abs().max()
        planted.div_(1.1)
    assert error > 1e-4


def test_conversion_goes_both_ways_bit_for_bit(pair):
    _, theirs = pair
    state = converters.convert(theirs.state_dict(), name="s3d")
    ours = zoo.create("s3d")
    ours.load_state_dict(state, strict=True)
    back = converters.export(ours, target="torchvision")
    wanted = theirs.state_dict()
    assert back.keys() == wanted.keys()
    assert all(torch.equal(back[key], wanted[key]) for key in wanted)


def test_norms_are_torchvisions(pair):
    """An epsilon of 1e-5 would load as cleanly."""
    facts = [
        {(m.eps, m.momentum) for m in model.modules() if isinstance(m, torch.nn.BatchNorm3d)}
        for model in pair
    ]
    assert facts[0] == facts[1] == {(1e-3, 1e-3)}
