"""TimeSformer HR and L, and clips of other lengths, against transformers' own."""

import pytest
import torch
from scrambling import assert_close, assert_listens, random_clip, scramble

import converters
import zoo
from zoo.benchmarking.peers import beside
from zoo.models.timesformer import TimeSformer

pytestmark = pytest.mark.peer


@pytest.mark.parametrize(
    ("name", "num_frames", "img_size"),
    [("timesformer_divided_hr", 4, 448), ("timesformer_divided_l", 96, 64)],
)
def test_large_pictures_and_long_clips_give_the_logits_of_transformers(name, num_frames, img_size):
    """Full width, two of the twelve equal blocks, and the side of the clip that is large."""
    torch.manual_seed(0)
    shape = (1, 3, num_frames, img_size, img_size)
    ours = TimeSformer("divided", depth=2, num_frames=num_frames, img_size=img_size).eval()
    scramble(ours, torch.zeros(shape))
    peer = beside("transformers", ours, name=name)
    # So many tokens average the noise of a clip away; it is made louder.
    clip, other = (3 * random_clip(shape, seed=seed) for seed in (11, 12))
    with torch.no_grad():
        wanted = peer(clip)
        found, changed = ours(clip), ours(other)
    assert (found - changed).abs().max() > 0.01 * found.abs().max()
    assert_close(found, wanted)


@pytest.mark.parametrize("name", ["timesformer_divided_hr", "timesformer_divided_l"])
def test_every_tensor_of_the_larger_ones_goes_both_ways(name):
    model = zoo.create(name)
    for target in ("transformers", "timesformer"):
        exported = converters.export(model, target=target)
        back = converters.convert(exported, name=name, source=target)
        assert all(torch.equal(back[key], value) for key, value in model.state_dict().items())
        assert back.keys() == model.state_dict().keys()


@pytest.mark.parametrize("num_frames", [8, 16, 32])
def test_another_length_is_that_of_a_model_configured_for_it(num_frames):
    torch.manual_seed(0)
    four = scramble(zoo.create("test_timesformer_divided"), torch.zeros(1, 3, 4, 32, 32))
    ours = zoo.create("test_timesformer_divided", num_frames=num_frames)
    state = four.state_dict()
    ours.resize_positions(state, trained=four.record)
    ours.load_state_dict(state, strict=True)
    shape = (1, 3, num_frames, 32, 32)
    assert_listens(ours, shape)
    peer, mixing = (beside("transformers", x, name="timesformer_divided") for x in (ours, four))
    clip = random_clip(shape, seed=1)
    with torch.no_grad():
        found = ours(clip)
        assert_close(found, peer(clip))
        # A network of transformers for 4 frames takes the longer clip too, and mixes its tokens up.
        mixed = mixing(clip)
    assert mixed.shape == found.shape
    assert (mixed - found).abs().max() > 0.01 * found.abs().max()
