"""Patches by one product of matrices: torch's convolution, and left to it where that is wanted."""

import pytest
import torch
from scrambling import assert_close, random_clip
from torch import nn
from torch.profiler import profile
from torch.utils.checkpoint import checkpoint
from torch.utils.flop_counter import FlopCounterMode

from zoo.layers import PatchConv2d, PatchConv3d

CLIPS = (2, 3, 4, 32, 48)


def pair(*, frames, bias=True):
    """Our layer and torch's convolution with the same weights, and what they take."""
    torch.manual_seed(0)
    if frames:
        ours = PatchConv2d(3, 8, 16, bias=bias)
        plain = nn.Conv2d(3, 8, 16, stride=16, bias=bias)
    else:
        ours = PatchConv3d(3, 8, (2, 16, 16))
        plain = nn.Conv3d(3, 8, (2, 16, 16), stride=(2, 16, 16))
    plain.load_state_dict(ours.state_dict())
    clip = random_clip(CLIPS, seed=1)
    return ours, plain, clip.transpose(1, 2).reshape(8, 3, 32, 48) if frames else clip


def kernels(layer, clip):
    """The operations that ran."""
    with profile() as seen:
        layer(clip)
    return {event.key for event in seen.key_averages()}


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize(
    "options", [{"frames": True}, {"frames": False}, {"frames": True, "bias": 0}]
)
def test_values_and_gradients_are_the_convolutions(options, channels_last):
    ours, plain, clip = pair(**options)
    if channels_last:
        last = torch.channels_last if options["frames"] else torch.channels_last_3d
        ours, clip = ours.to(memory_format=last), clip.to(memory_format=last)
        assert not ours.weight.is_contiguous()
    clips = clip.clone().requires_grad_(), clip.clone().requires_grad_()
    found, wanted = ours(clips[0]), plain(clips[1])
    assert_close(found, wanted, tolerance=1e-5)
    found.square().sum().backward()
    wanted.square().sum().backward()
    assert_close(clips[0].grad, clips[1].grad, tolerance=1e-5)
    for ours_, plain_ in zip(ours.parameters(), plain.parameters(), strict=True):
        assert_close(ours_.grad, plain_.grad, tolerance=1e-5)


@pytest.mark.parametrize("frames", [True, False])
def test_no_convolution_runs_and_tokens_lie_one_after_the_other(frames):
    ours, plain, clip = pair(frames=frames)
    assert "aten::convolution" in kernels(plain, clip)
    assert "aten::convolution" not in kernels(ours, clip)
    assert ours(clip).movedim(1, -1).is_contiguous()


@pytest.mark.parametrize("frames", [True, False])
def test_what_no_patches_fill_is_torchs(frames):
    ours, plain, clip = pair(frames=frames)
    with torch.no_grad():
        assert torch.equal(ours(clip[..., :47]), plain(clip[..., :47]))
        assert torch.equal(ours(clip[0]), plain(clip[0]))  # no batch
        assert torch.equal(ours.double()(clip.double()), plain.double()(clip.double()))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("stride", (1, 8, 8)),
        ("padding", (2, 16, 16)),
        ("dilation", (1, 2, 2)),
        ("weight", nn.Parameter(torch.ones(8, 3, 2, 8, 32))),
        ("weight", nn.Parameter(torch.ones(8, 3, 1, 16, 16))),
    ],
)
def test_a_convolution_that_was_changed_is_torchs(name, value):
    ours, plain, clip = pair(frames=False)
    for layer in (ours, plain):
        setattr(layer, name, value)
    assert torch.equal(ours(clip), plain(clip))


def test_checkpoints_may_be_counted_in_one_direction():
    ours, _, clip = pair(frames=False)
    out = checkpoint(ours, clip.requires_grad_(), use_reentrant=False)
    with FlopCounterMode(display=False) as counter:
        out.square().sum().backward()
    assert counter.get_total_flops() > 0


@pytest.mark.parametrize("frames", [True, False])
def test_bfloat16_and_autocast_are_heard(frames):
    ours, plain, clip = pair(frames=frames)
    with torch.no_grad():
        with torch.autocast("cpu", torch.bfloat16):
            assert ours(clip).dtype == torch.bfloat16
        wanted = plain(clip)
        found = ours.bfloat16()(clip.bfloat16())
    assert found.dtype == torch.bfloat16
    assert_close(found.float(), wanted, tolerance=0.02)


def test_what_does_not_fit_is_refused_by_torch():
    ours, _, clip = pair(frames=False)
    with pytest.raises(RuntimeError, match="to have 3 channels"):
        ours(clip[:, :2])
    with pytest.raises(RuntimeError, match="should be the same"):
        ours(clip.bfloat16())


@pytest.mark.filterwarnings("ignore:.*torch.jit.trace:FutureWarning")
def test_counters_of_operations_and_written_graphs_see_a_convolution():
    ours, _, clip = pair(frames=False)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        ours(clip)
    assert counter.get_total_flops() == 2 * 2 * (2 * 2 * 3) * 8 * (3 * 2 * 16 * 16)
    assert "convolution" in str(counter.get_flop_counts())
    assert "aten::_convolution" in str(torch.jit.trace(ours, clip, check_trace=False).graph)
    graph = torch.export.export(ours, (clip,)).graph
    assert {str(n.target) for n in graph.nodes if n.op == "call_function"} == {
        "aten.conv3d.default"
    }
