"""TimeSformer against transformers' own, both ways."""

import pytest
import torch
from scrambling import assert_close, assert_listens, random_clip, scramble

import converters
import registry
import zoo
from zoo.benchmarking.peers import beside

pytestmark = pytest.mark.peer
SHAPE = (1, 3, 8, 224, 224)


@pytest.fixture(scope="module", params=["divided", "joint"])
def pair(request):
    """Our model and transformers', at full size, with the same scrambled weights."""
    from transformers import TimesformerConfig

    torch.manual_seed(0)
    name = f"timesformer_{request.param}"
    ours = scramble(zoo.create(name), torch.zeros(1, 3, 8, 224, 224))
    theirs = beside("transformers", ours).module
    # Sizes were read off ours; the heads, which no tensor's shape shows, must be theirs.
    assert theirs.config.num_attention_heads == TimesformerConfig().num_attention_heads
    return name, ours, theirs


def test_logits_and_features_are_equal(pair):
    _, ours, theirs = pair
    assert_listens(ours, SHAPE)
    clip = random_clip(SHAPE, seed=1)
    with torch.no_grad():
        found = ours(clip)
        features = ours.forward_features(clip)
        wanted = theirs(clip.transpose(1, 2), output_hidden_states=True)  # (N, T, C, H, W)
        hidden = theirs.timesformer.layernorm(wanted.hidden_states[-1])
    assert_close(found, wanted.logits)
    # transformers keeps patches with time fastest, we with time slowest.
    patches = hidden[:, 1:].unflatten(1, (-1, 8)).transpose(1, 2).flatten(1, 2)
    assert_close(features[:, :1], hidden[:, :1])
    assert_close(features[:, 1:], patches)


def test_conversion_goes_both_ways_bit_for_bit(pair):
    name, ours, theirs = pair
    state = converters.convert(theirs.state_dict(), name=name)
    wanted = ours.state_dict()
    assert state.keys() == wanted.keys()
    assert all(torch.equal(state[key], wanted[key]) for key in wanted)


def test_the_authors_layout_is_ours_behind_a_prefix():
    model = zoo.create("test_timesformer_divided")
    state = {f"model.{key}": value for key, value in model.state_dict().items()}
    entry = registry.load("test_timesformer_divided")
    shapes = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    assert converters.layouts.detect(state, entry, shapes) == "timesformer"
