"""The shift of TSM, and what the contract does not see in its networks."""

import pytest
import torch
from scrambling import assert_close, random_clip, scramble

import registry
import zoo
from zoo.layers import TemporalShift


def _numbered(frames, channels=8):
    """Frames (T, C, 1, 1) that hold 10 * frame + channel + 1."""
    return (10 * torch.arange(frames)[:, None] + torch.arange(channels) + 1.0)[:, :, None, None]


@pytest.mark.parametrize(("fill", "edges"), [("zeros", (0, 0)), ("replicate", (21, 2))])
def test_first_channels_look_ahead_and_the_next_behind(fill, edges):
    found = TemporalShift(shift_div=8, fill=fill)(_numbered(3), 3)[:, :, 0, 0]
    assert found[:, 0].tolist() == [11, 21, edges[0]]
    assert found[:, 1].tolist() == [edges[1], 2, 12]
    assert torch.equal(found[:, 2:], _numbered(3)[:, 2:, 0, 0])


def test_clips_of_a_batch_do_not_mix():
    shift = TemporalShift()
    a, b = torch.randn(2, 4, 16, 3, 3)
    both = shift(torch.cat([a, b]), 4)
    assert torch.equal(both, torch.cat([shift(a, 4), shift(b, 4)]))


def test_fewer_channels_than_the_divisor_stay():
    x = torch.randn(4, 3, 2, 2)
    assert torch.equal(TemporalShift()(x, 4), x)


def test_replicated_edges_leave_a_still_clip_as_it_is():
    still = torch.randn(1, 16, 2, 2).repeat(4, 1, 1, 1)
    assert torch.equal(TemporalShift(fill="replicate")(still, 4), still)
    assert not torch.equal(TemporalShift()(still, 4), still)


def test_an_unknown_fill_is_refused():
    with pytest.raises(ValueError, match="Unknown fill 'wrap'. Known: zeros, replicate"):
        TemporalShift(fill="wrap")


@pytest.mark.parametrize("name", ["test_tsm", "test_tsm_nl_embedded", "test_tsm_mobileone"])
@pytest.mark.parametrize("t", [8, 16, 32])
@pytest.mark.parametrize("size", [32, 64])
def test_other_frames_and_sizes_are_taken(name, t, size):
    model = zoo.create(name)
    with torch.no_grad():
        features = model.forward_features(torch.randn(1, 3, t, size, size))
        assert features.shape[2:] == (t, size // 32, size // 32)
        assert model.forward_head(features).isfinite().all()


def test_mobileone_shifts_within_groups_of_frames():
    """mmaction2 gives 16 frames to a network made for 8: the halves see each other in no block."""
    torch.manual_seed(0)
    model = scramble(zoo.create("test_tsm_mobileone"), torch.zeros(4, 3, 8, 32, 32))
    x = random_clip((1, 3, 8, 32, 32), seed=1)
    with torch.no_grad():
        whole = model.forward_features(x)
        halves = [model.forward_features(half) for half in x.split(4, dim=2)]
    assert_close(torch.cat(halves, dim=2), whole, tolerance=1e-5)
    with pytest.raises(ValueError, match="groups of 4 frames, and 6 frames are given"):
        model(torch.randn(1, 3, 6, 32, 32))
    with pytest.raises(ValueError, match="groups of 8 frames, and 12 frames are given"):
        zoo.create("tsm_mobileone_s4", num_frames=12)


def test_a_strided_bottleneck_strides_its_3x3_convolution():
    block = zoo.create("test_tsm").layer2[0]
    strides = [layer.conv.stride for layer in (block.conv1, block.conv2, block.conv3)]
    assert strides == [(1, 1), (2, 2), (1, 1)]


def test_records_give_the_frames_of_the_test_protocol():
    weights = {record.tag: record for record in registry.info("tsm_r50").weights}
    assert weights["k400"].sampling.rule == "segments"
    assert weights["k400_16f"].sampling.num_frames == 16
    dense = weights["k400_dense"].sampling
    assert (dense.rule, dense.frame_stride, dense.num_clips) == ("dense", 8, 10)
    assert weights["ssv2"].preprocess.img_size == 256
    assert weights["ssv2"].labels == "something_something_v2"
