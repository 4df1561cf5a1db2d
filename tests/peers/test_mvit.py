"""MViT against torchvision's and pytorchvideo's own, both ways."""

import pytest
import torch
from scrambling import assert_close, random_clip, scramble

import converters
import zoo
from zoo.benchmarking.peers import beside

pytestmark = pytest.mark.peer


# pytorchvideo's are whole too, but read smaller pictures, for speed: what torchvision's do at 224.
PTV = {"pool_norm_eps": 1e-5, "img_size": 112}
CASES = {
    "torchvision v1": ("mvit_v1_b", "torchvision", {}),
    "torchvision v2": ("mvit_v2_s", "torchvision", {}),
    "pytorchvideo 16x4": ("mvit_v1_b", "pytorchvideo", PTV),
    "pytorchvideo 32x3": ("mvit_v1_b", "pytorchvideo", PTV | {"num_frames": 32}),
}


@pytest.fixture(scope="module", params=CASES)
def pair(request):
    """Our model and a peer's, at full size, with the same scrambled weights."""
    name, library, arguments = CASES[request.param]
    torch.manual_seed(0)
    ours = scramble(zoo.create(name, **arguments), None)
    return ours, beside(library, ours).module


def test_logits_and_features_are_equal(pair):
    ours, theirs = pair
    shape = (1, 3, ours.num_frames, ours.img_size, ours.img_size)
    norm = theirs.norm if hasattr(theirs, "norm") else theirs.norm_embed
    seen = []
    norm.register_forward_hook(lambda _, __, out: seen.append(out))
    with torch.no_grad():
        features = ours.forward_features(random_clip(shape, seed=11))
        found, other = ours.forward_head(features), ours(random_clip(shape, seed=12))
        wanted = theirs(random_clip(shape, seed=11))
    assert (found - other).abs().max() > 0.01 * found.abs().max()
    assert_close(found, wanted)
    assert_close(features, seen[0])


def test_conversion_goes_both_ways_bit_for_bit(pair):
    ours, theirs = pair
    arguments = {"num_frames": ours.num_frames, "img_size": ours.img_size}
    state = converters.convert(theirs.state_dict(), name=ours.record.architecture, **arguments)
    wanted = ours.state_dict()
    assert state.keys() == wanted.keys()
    assert all(torch.equal(state[key], wanted[key]) for key in wanted)


@pytest.mark.parametrize(("frames", "size"), [(8, 160), (32, 96)])
def test_other_frames_and_sizes_are_torchvisions_own_interpolation(frames, size, tmp_path):
    """Its network of version 2 resamples as it runs, once it is told of another grid."""
    torch.manual_seed(0)
    trained = scramble(zoo.create("mvit_v2_s"), None)
    theirs = beside("torchvision", trained).module
    theirs.pos_encoding.temporal_size = frames // 2
    theirs.pos_encoding.spatial_size = (size // 4, size // 4)
    folder = zoo.save(trained, tmp_path / "saved")
    ours = zoo.create(f"local-dir:{folder}", num_frames=frames, img_size=size)
    clip = random_clip((1, 3, frames, size, size), seed=1)
    with torch.no_grad():
        assert_close(ours(clip), theirs(clip))
