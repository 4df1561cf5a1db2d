"""A causal network on a video in pieces gives what it gives on the whole."""

import pytest
import torch
from scrambling import assert_close, assert_listens, random_clip, scramble

import registry
import zoo
from zoo.layers import running_mean

SHAPE = (2, 3, 8, 32, 32)


@pytest.fixture
def model():
    torch.manual_seed(0)
    return scramble(zoo.create("test_movinet_stream"), torch.zeros(4, *SHAPE[1:]))


def _in_pieces(model, clip, lengths):
    state = model.initial_state(clip.shape[0], img_size=tuple(clip.shape[3:]))
    logits = None
    for piece in clip.split(lengths, dim=2):
        logits, state = model.forward_stream(piece, state)
    return logits, state


@pytest.mark.parametrize(
    ("lengths", "size"), [((8,), (32, 32)), ((1, 3, 4), (32, 32)), ((7, 1), (45, 37))]
)
def test_pieces_of_any_length_give_what_the_whole_gives(model, lengths, size):
    clip = random_clip((2, 3, 8, *size), seed=1)
    assert_listens(model, clip.shape)
    with torch.no_grad():
        logits, state = _in_pieces(model, clip, lengths)
        assert_close(logits, model(clip), tolerance=1e-5)
    assert state["frames"] == 8


def test_logits_after_each_piece_are_those_of_the_video_so_far(model):
    clip = random_clip(SHAPE, seed=1)
    state = model.initial_state(2)
    with torch.no_grad():
        for end in range(1, 9):
            logits, state = model.forward_stream(clip[:, :, end - 1 : end], state)
            assert_close(logits, model(clip[:, :, :end]), tolerance=1e-5)


def test_what_came_before_is_heard(model):
    first, second = (random_clip(SHAPE, seed=seed) for seed in (1, 2))
    with torch.no_grad():
        _, state = model.forward_stream(first, model.initial_state(2))
        after, _ = model.forward_stream(second, state)
        alone = model(second)
    assert (after - alone).abs().max() > 0.01 * alone.abs().max()


def test_no_frame_sees_later_ones_and_a_whole_clip_network_does():
    for name, blind in (("test_movinet_stream", True), ("test_movinet", False)):
        torch.manual_seed(0)
        model = scramble(zoo.create(name), torch.zeros(4, *SHAPE[1:]))
        clip = random_clip(SHAPE, seed=1)
        changed = torch.cat([clip[:, :, :5], random_clip(SHAPE, seed=2)[:, :, 5:]], dim=2)
        with torch.no_grad():
            features, others = model.forward_features(clip), model.forward_features(changed)
        assert torch.allclose(features[:, :, :5], others[:, :, :5], atol=1e-6) is blind
        assert not torch.allclose(features[:, :, 5:], others[:, :, 5:], atol=1e-3)


def test_states_are_values_that_no_call_changes(model):
    clip = random_clip(SHAPE, seed=1)
    state = model.initial_state(2)
    before = {key: value.clone() for key, value in state.items()}
    buffers = {key: value.clone() for key, value in model.named_buffers()}
    with torch.no_grad():
        first, _ = model.forward_stream(clip, state)
        model.forward_stream(random_clip(SHAPE, seed=2), state)  # another stream, in between
        again, _ = model.forward_stream(clip, state)
    assert torch.equal(first, again)
    assert state.keys() == before.keys()
    assert all(torch.equal(state[key], before[key]) for key in state)
    assert all(torch.equal(value, buffers[key]) for key, value in model.named_buffers())


def test_gradients_go_through_a_state_and_stop_where_it_is_detached(model):
    clip = random_clip(SHAPE, seed=1).requires_grad_()
    for detach in (False, True):
        _, state = model.forward_stream(clip[:, :, :4], model.initial_state(2))
        if detach:
            state = {key: value.detach() for key, value in state.items()}
        logits, _ = model.forward_stream(clip[:, :, 4:], state)
        (grad,) = torch.autograd.grad(logits.square().sum(), clip)
        assert bool(grad[:, :, :4].any()) is not detach


def test_a_long_stream_in_half_precision_keeps_its_sums_in_float32(model):
    state = model.bfloat16().initial_state(1)
    kinds = {key: value.dtype for key, value in state.items()}
    assert kinds.pop("frames") == torch.int64
    buffers = {kind for key, kind in kinds.items() if key.endswith("temporal")}
    sums = {kind for key, kind in kinds.items() if not key.endswith("temporal")}
    assert (buffers, sums) == ({torch.bfloat16}, {torch.float32})
    piece = random_clip((1, 3, 2, 32, 32), seed=1).bfloat16()
    with torch.no_grad():
        logits, after = model.forward_stream(piece, state)
    assert logits.dtype == torch.bfloat16
    assert {key: value.dtype for key, value in after.items()} == {
        key: value.dtype for key, value in state.items()
    }


def test_running_means_of_many_frames_are_exact_in_half_precision():
    ones = torch.ones(1, 1, 1000, 1, 1, dtype=torch.bfloat16)  # which counts by fours from 512 on
    assert torch.equal(running_mean(ones, None, "pool"), ones)


def test_a_step_exports_with_a_dynamic_batch(model):
    class Step(torch.nn.Module):
        def __init__(self, network):
            super().__init__()
            self.network = network

        def forward(self, x, state):
            return self.network.forward_stream(x, state)

    piece = random_clip((2, 3, 2, 32, 32), seed=1)
    state = model.initial_state(2)
    batch = torch.export.Dim("batch", min=2, max=64)
    dynamic = {key: {} if key == "frames" else {0: batch} for key in state}
    exported = torch.export.export(
        Step(model), (piece, state), dynamic_shapes=({0: batch}, dynamic), strict=False
    ).module()
    clip = random_clip((3, 3, 8, 32, 32), seed=2)
    state = model.initial_state(3)
    with torch.no_grad():
        for piece in clip.split(2, dim=2):
            logits, state = exported(piece, state)
        assert_close(logits, model(clip), tolerance=1e-5)


@pytest.mark.parametrize(("batch_size", "img_size"), [(1, 32), (2, 64), (2, (32, 64))])
def test_a_state_for_other_clips_is_refused(model, batch_size, img_size):
    state = model.initial_state(batch_size, img_size=img_size)
    with pytest.raises(ValueError, match=r"initial_state\(batch_size=2, img_size=\(32, 32\)\)"):
        model.forward_stream(random_clip(SHAPE, seed=1), state)


def test_a_network_for_whole_clips_refuses_streams():
    model = zoo.create("test_movinet")
    with pytest.raises(ValueError, match="name ends in '_stream'"):
        model.initial_state(1)
    with pytest.raises(ValueError, match="name ends in '_stream'"):
        model.forward_stream(random_clip(SHAPE, seed=1), {})


@pytest.mark.slow
@pytest.mark.parametrize("name", registry.list_models("movinet*_stream"))
def test_every_stream_starts_from_a_state_of_its_own_size(name):
    with torch.device("meta"):
        model = registry.load(name).build()
        logits, state = model.forward_stream(
            torch.zeros(1, 3, 1, model.img_size, model.img_size), model.initial_state(1)
        )
    assert logits.shape == (1, 600)
    assert {key: value.shape for key, value in state.items()} == {
        key: value.shape for key, value in model.initial_state(1).items()
    }
