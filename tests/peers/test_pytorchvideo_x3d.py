"""X3D against pytorchvideo's own, both ways, at the crops its weights are tested with."""

import pytest
import torch
from scrambling import assert_close, assert_listens, random_clip, scramble

import converters
import zoo
from zoo.benchmarking.peers import beside

pytestmark = [
    pytest.mark.peer,
    # pytorchvideo scripts its activations when it is imported.
    pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated"),
]
NATIVE_SIZE = {"x3d_xs": 160, "x3d_s": 160, "x3d_m": 224, "x3d_l": 312}


@pytest.fixture(
    scope="module",
    params=["x3d_xs", "x3d_s", "x3d_m", "x3d_l", "efficient_x3d_xs", "efficient_x3d_s"],
)
def pair(request):
    """Our model and pytorchvideo's, at full size, with the same scrambled weights."""
    torch.manual_seed(0)
    name = request.param
    ours = zoo.create(name)
    scramble(ours, torch.zeros(2, 3, 4, 64, 64))
    return name, ours, beside("pytorchvideo", ours).module


def _stages(theirs, clip):
    """What their network has after its last residual stage."""
    if hasattr(theirs, "blocks"):
        for block in theirs.blocks[:-1]:
            clip = block(clip)
        return clip
    for stage in (theirs.s1, theirs.s2, theirs.s3, theirs.s4, theirs.s5):
        clip = stage(clip)
    return clip


def test_logits_and_features_are_equal(pair):
    name, ours, theirs = pair
    shape = (1, 3, ours.num_frames, ours.img_size, ours.img_size)
    assert_listens(ours, (1, 3, ours.num_frames, 64, 64))
    clip = random_clip(shape, seed=1)
    with torch.no_grad():
        features = ours.forward_features(clip)
        assert_close(features, _stages(theirs, clip))
        if not name.startswith("efficient"):
            positions = torch.tensor(features.shape[3:]) - ours.pool_size + 1
            assert (positions > 1).all()
            wanted = theirs.blocks[5](features)
        else:
            wanted = theirs(clip)
        assert_close(ours.forward_head(features), wanted)


@pytest.mark.parametrize("name", ["x3d_xs", "x3d_m"])
def test_at_the_training_crop_their_probabilities_are_the_softmax_of_our_logits(name):
    from pytorchvideo.models import hub

    torch.manual_seed(0)
    size = NATIVE_SIZE[name]
    ours = zoo.create(name)
    scramble(ours, torch.zeros(2, 3, 4, 64, 64))
    theirs = getattr(hub, name)().eval()
    theirs.load_state_dict(converters.export(ours, target="pytorchvideo"), strict=True)
    clip = random_clip((1, 3, ours.num_frames, size, size), seed=1)
    with torch.no_grad():
        assert_close(ours(clip).softmax(dim=1), theirs(clip))


def test_conversion_goes_both_ways_bit_for_bit(pair):
    name, ours, theirs = pair
    state = converters.convert(theirs.state_dict(), name=name)
    wanted = ours.state_dict()
    assert state.keys() == wanted.keys()
    assert all(torch.equal(state[key], wanted[key]) for key in wanted)
