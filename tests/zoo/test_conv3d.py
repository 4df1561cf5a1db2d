"""The convolution of this package: torch's values, in the memory that a CPU reads fastest."""

import copy

import pytest
import torch
from scrambling import assert_close, random_clip
from torch import nn
from torch.profiler import profile
from torch.utils.flop_counter import FlopCounterMode

import zoo
from zoo.layers import Conv3d, GuardedConv3d

CASES = {
    "spatial": {"kernel_size": (1, 3, 3), "padding": (0, 1, 1)},
    "temporal": {"kernel_size": (3, 1, 1), "padding": (1, 0, 0), "bias": False},
    "strided": {"kernel_size": 3, "stride": (1, 2, 2), "padding": 1},
    "point": {"kernel_size": 1},
    "depthwise": {"kernel_size": 3, "padding": 1, "groups": 8},
    "dilated": {"kernel_size": 3, "dilation": 2, "padding": "same"},
    "circular": {"kernel_size": 3, "padding": 1, "padding_mode": "circular"},
}


@pytest.mark.parametrize("size", [(1, 8, 2, 5, 5), (1, 8, 6, 12, 12), (2, 8, 6, 12, 12)])
@pytest.mark.parametrize("case", CASES)
def test_it_gives_what_torchs_convolution_gives(case, size):
    torch.manual_seed(0)
    plain = nn.Conv3d(8, 16, **CASES[case])
    ours = Conv3d(8, 16, **CASES[case])
    ours.load_state_dict(plain.state_dict())
    clip = random_clip(size, seed=1)
    wanted = plain(clip)
    with torch.no_grad():
        assert_close(ours(clip), wanted, tolerance=1e-5)
        channels_last = clip.to(memory_format=torch.channels_last_3d)
        assert_close(ours(channels_last), wanted, tolerance=1e-5)
    ours(clip).square().sum().backward()
    wanted.square().sum().backward()
    assert_close(ours.weight.grad, plain.weight.grad, tolerance=1e-5)


def gradients(kind, clip, wanted, **options):
    """The gradients of a convolution's weights and input, for those of its output."""
    torch.manual_seed(0)
    conv = kind(clip.shape[1], wanted.shape[1], bias=False, **options).to(clip.dtype)
    # Both kinds draw the same weights, which bfloat16 holds without rounding.
    conv.weight.data = conv.weight.data.bfloat16().to(clip.dtype)
    clip = clip.clone().requires_grad_()
    conv(clip).backward(wanted.to(clip.dtype))
    return conv.weight.grad, clip.grad


# Kernel, stride and size of the maps, each in time and in space. Plain torch fails all of these on
# a processor with AVX512_BF16.
MISLEADING = [
    ("bfloat16", (3, 3), (1, 1), (2, 9)),
    ("bfloat16", (3, 3), "same", (2, 9)),
    *(("bfloat16", (5, 3), (stride, 1), (frames, 9)) for stride in (1, 2) for frames in (3, 4)),
    ("bfloat16", (7, 3), (1, 1), (6, 9)),
    *(("bfloat16", (1, 7), (1, stride), (4, 2)) for stride in (1, 2)),
    *(("float32", (7, 3), (2, 1), (frames, 9)) for frames in (6, 7)),
]


@pytest.mark.parametrize("kind", [GuardedConv3d, Conv3d])
@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("dtype, kernel, stride, size", MISLEADING)
def test_weights_learn_from_maps_no_larger_than_the_kernel(
    kind, dtype, kernel, stride, size, channels_last
):
    (t, k), (frames, side) = kernel, size
    if stride == "same":
        steps, padding = (1, 1, 1), "same"
    else:
        steps, padding = (stride[0], stride[1], stride[1]), (t // 2, k // 2, k // 2)
    options = {"kernel_size": (t, k, k), "stride": steps, "padding": padding}
    clip = random_clip((2, 16, frames, side, side), seed=1).bfloat16().float()
    if channels_last:
        clip = clip.to(memory_format=torch.channels_last_3d)
    out = [-(-n // s) for n, s in zip((frames, side, side), steps, strict=True)]
    wanted = random_clip((2, 32, *out), seed=2).bfloat16().float()
    exact = gradients(nn.Conv3d, clip.double(), wanted, **options)
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == "bfloat16"):
        found = gradients(kind, clip, wanted, **options)
    for ours, theirs in zip(found, exact, strict=True):
        assert_close(ours.double(), theirs, tolerance=0.02 if dtype == "bfloat16" else 1e-5)


def test_a_graph_for_answers_holds_for_clips_of_any_length():
    model = nn.Sequential(Conv3d(3, 8, (7, 1, 1), padding=(3, 0, 0))).eval()
    clips = {frames: random_clip((2, 3, frames, 8, 8), seed=1) for frames in (9, 4, 3)}
    length = torch.export.Dim("length", min=2, max=64)
    graph = torch.export.export(model, (clips[9],), dynamic_shapes=({2: length},)).module()
    for clip in clips.values():
        assert_close(graph(clip), model(clip), tolerance=1e-5)


CONVOLUTIONAL = ("test_r2p1d", "test_r3d", "test_slowfast", "test_csn", "test_x3d", "test_s3d")


def layouts(model, clip, *, threads):
    """How many larger maps the modules of a model give, and those that are not channels-last."""
    seen, other = [], []

    def look(module, _, out):
        if isinstance(out, torch.Tensor) and out.ndim == 5 and out.shape[2:].numel() >= 256:
            seen.append(out.shape)
            if not out.is_contiguous(memory_format=torch.channels_last_3d):
                other.append((type(module).__name__, tuple(out.shape)))

    hooks = [module.register_forward_hook(look) for module in model.modules()]
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        model(clip)
    finally:
        torch.set_num_threads(before)
        for hook in hooks:
            hook.remove()
    return len(seen), other


@pytest.mark.parametrize("name", CONVOLUTIONAL)
@pytest.mark.parametrize("channels_last", [False, True])
def test_larger_maps_of_one_clip_stay_channels_last(name, channels_last):
    model = zoo.create(name, img_size=64)
    clip = random_clip((1, 3, model.num_frames, 64, 64), seed=1)
    if channels_last:
        clip = clip.to(memory_format=torch.channels_last_3d)
    for threads in (1, 2):  # on which torch's own choice depends
        with torch.no_grad():
            count, other = layouts(model, clip, threads=threads)
        assert count > 10
        assert other == []


@pytest.mark.parametrize("name", CONVOLUTIONAL)
def test_larger_maps_that_are_trained_on_stay_channels_last(name):
    model = zoo.create(name, img_size=64).train()
    clip = random_clip((2, 3, model.num_frames, 64, 64), seed=1)
    count, other = layouts(model, clip, threads=2)
    assert count > 10
    assert other == []


def test_counters_of_operations_and_exported_graphs_see_the_public_one():
    conv = Conv3d(8, 16, 3)
    clip = torch.zeros(1, 8, 8, 16, 16)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        conv(clip)
    assert counter.get_total_flops() == 2 * 16 * 8 * 27 * 6 * 14 * 14
    graph = torch.export.export(conv, (clip,)).graph
    assert {str(n.target) for n in graph.nodes if n.op == "call_function"} == {
        "aten.conv3d.default"
    }


def test_autocast_is_heard():
    conv = copy.deepcopy(Conv3d(8, 16, 3))
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert conv(torch.zeros(1, 8, 8, 16, 16)).dtype == torch.bfloat16


@pytest.mark.filterwarnings("ignore:.*torch.jit.trace:FutureWarning")
def test_it_keeps_to_what_torchs_convolution_can_do(monkeypatch):
    torch.manual_seed(0)
    ours, plain = Conv3d(4, 8, 3, padding=1), nn.Conv3d(4, 8, 3, padding=1)
    plain.load_state_dict(ours.state_dict())
    clips = random_clip((3, 4, 4, 12, 12), seed=1)
    with torch.no_grad():
        assert_close(ours(clips[0]), plain(clips[0]), tolerance=1e-5)  # no batch
        each = torch.vmap(lambda clip: ours(clip[None]))(clips)
        assert_close(each[:, 0], plain(clips), tolerance=1e-5)
        traced = torch.jit.trace(ours, clips, check_trace=False)
        assert "mkldnn" not in str(traced.graph)
        monkeypatch.setattr(torch.backends.mkldnn, "enabled", False)
        with profile() as seen:
            ours(clips)
        monkeypatch.undo()
    assert not any("mkldnn" in event.key for event in seen.key_averages())
    gradient = torch.func.grad(lambda weight: plain_sum(ours, weight, clips))(ours.weight)
    assert_close(gradient, torch.func.grad(lambda w: plain_sum(plain, w, clips))(plain.weight))


def plain_sum(conv, weight, clips):
    return torch.func.functional_call(conv, {"weight": weight}, (clips,)).square().sum()


def test_frozen_weights_need_no_no_grad_for_the_fast_way():
    conv = Conv3d(8, 16, 1).requires_grad_(requires_grad=False)
    with profile() as seen:
        conv(torch.zeros(1, 8, 2, 16, 16))
    assert "aten::slow_conv3d_forward" not in {event.key for event in seen.key_averages()}
