"""A lifted model starts where the image model stands, hears what is new, and refuses by name."""

import copy
import warnings

import pytest
import timm
import torch
from scrambling import assert_close, random_clip, scramble
from timm.models import model_entrypoint
from timm_files import LARGE, MEMBERS
from torch import nn
from torch.nn import functional as F

import zoo
from zoo.lifting import RefusedError, lifted_architecture
from zoo.lifting.clock import Clock
from zoo.lifting.convolution import FrameConv3d, TemporalConv

FRAMES = 4
FAMILIES = {
    "tsm": (
        *("resnet", "xception", "convnext", "nfnet", "mobilenetv3", "ghostnet", "regnet"),
        *("rexnet", "fastvit", "mambaout", "res2net", "starnet", "hgnet", "dpn"),
    ),
    "i3d": (
        *("resnet", "efficientnet", "convnext", "nfnet", "mobilenetv3", "ghostnet", "regnet"),
        *("resnetv2", "fastvit", "xcit", "mobilevit", "dla", "maxxvit", "hiera"),
    ),
    "divided": (
        *("vision_transformer", "deit", "beit", "eva", "cait", "xcit", "hiera", "convit"),
        *("swin_transformer", "vision_transformer_relpos", "vision_transformer_sam", "davit"),
        *("levit", "nextvit"),
    ),
}
FAMILIES["factorised"] = FAMILIES["divided"]
FAMILIES["joint"] = ("vision_transformer", "deit")
CASES = [(method, file) for method, files in FAMILIES.items() for file in files]
FILES = [pytest.param(f, marks=pytest.mark.slow) if f in LARGE else f for f in MEMBERS]


def build(file):
    """An image model of a timm file with scrambled weights, and the side of its pictures."""
    name, shrunk, side = MEMBERS[file]
    torch.manual_seed(0)
    try:
        image = timm.create_model(name, **shrunk, img_size=side)
    except TypeError:  # it takes any size
        image = timm.create_model(name, **shrunk)
    return scramble(image, torch.zeros(2, 3, side, side)), side


def logits(output):
    """The logits of an image model in eval mode; DeiT and others give them alone."""
    return output[0] if isinstance(output, (tuple, list)) else output


def still(side, *, seed=1):
    """A clip that shows one picture, and the picture."""
    picture = random_clip((1, 3, 1, side, side), seed=seed)
    return picture.expand(-1, -1, FRAMES, -1, -1), picture[:, :, 0]


@torch.no_grad()
def add_noise(model):
    """Noise on what lifting added."""
    rng = torch.Generator().manual_seed(5)
    for name in model.new_parameters:
        weight = model.get_parameter(name)
        spread = 0.3 if "embed" in name or weight.ndim == 1 else weight[0].numel() ** -0.5
        spread *= 0.3 if weight.ndim > 2 and "embed" not in name else 1
        weight += spread * torch.randn(weight.shape, generator=rng)


def deviation(found, wanted):
    return ((found - wanted).abs().max() / wanted.abs().max()).item()


@torch.no_grad()
def assert_starts_at_the_image(image, side, method, **options):
    """Equal on a still clip; then noise on the new parameters makes the order of frames count."""
    clip, picture = still(side)
    want, other = logits(image(picture)), logits(image(still(side, seed=2)[1]))
    assert deviation(other, want) > 0.01
    model = zoo.inflate(copy.deepcopy(image), method=method, num_frames=FRAMES, **options)
    assert_close(model(clip), want)
    if method != "framepool":
        add_noise(model)
        frames = random_clip(clip.shape, seed=3)
        assert deviation(model(frames[:, :, [2, 0, 3, 1]]), model(frames)) > 1e-3
    return model


def test_every_file_of_timm_has_a_member():
    files = {model_entrypoint(name).__module__.rpartition(".")[2] for name in timm.list_models()}
    assert files == MEMBERS.keys()
    for file, (name, _, _) in MEMBERS.items():
        assert model_entrypoint(name).__module__.endswith(f".{file}")


@pytest.mark.parametrize("file", FILES)
def test_framepool_and_r2p1d_of_every_file(file):
    image, side = build(file)
    assert_starts_at_the_image(image, side, "framepool")
    wide = any(
        isinstance(m, nn.Conv2d) and max(m.kernel_size) > 1 and m.kernel_size != m.stride
        for m in image.modules()
    )
    if wide:
        assert_starts_at_the_image(image, side, "r2p1d")
    else:
        with pytest.raises(RefusedError, match="^r2p1d: .* no convolution whose kernel"):
            zoo.inflate(image, method="r2p1d")


@pytest.mark.parametrize(("method", "file"), CASES)
def test_a_dozen_families_start_at_the_image(method, file):
    image, side = build(file)
    assert_starts_at_the_image(image, side, method)


@pytest.mark.parametrize(("method", "file"), [("i3d", "resnet"), ("divided", "deit")])
@torch.no_grad()
def test_a_planted_error_is_seen(method, file):
    image, side = build(file)
    clip, picture = still(side)
    model = zoo.inflate(copy.deepcopy(image), method=method, num_frames=FRAMES)
    weights = [p for p in model.image.parameters() if p.ndim > 1]
    weights[len(weights) // 2].mul_(1.1)
    assert deviation(model(clip), image(picture)) > 1e-3


@torch.no_grad()
def test_every_frame_of_an_inflated_network_is_the_picture():
    image, side = build("resnet")
    clip, picture = still(side)
    want = image.forward_features(picture)
    for inflation in ("mean", "center"):
        model = zoo.inflate(copy.deepcopy(image), method="i3d", inflation=inflation)
        features = model.forward_features(clip)
        assert features.shape[2] == FRAMES
        for t in range(FRAMES):
            assert_close(features[:, :, t], want)


@torch.no_grad()
def test_a_stride_in_time_in_the_stem():
    image, side = build("resnet")
    clip, picture = still(side)
    model = zoo.inflate(copy.deepcopy(image), method="i3d", temporal_stride=2)
    assert_close(model(clip), image(picture))
    assert model.forward_features(clip).shape[2] == 2
    assert [level.shape[2] for level in model.forward_intermediates(clip)[1]] == [2] * 5
    with pytest.raises(RefusedError, match="a stride in time belongs into the stem"):
        zoo.inflate(build("convnext")[0], method="i3d", temporal_stride=2)


@torch.no_grad()
def test_zero_fill_is_the_papers_and_not_exact():
    image, side = build("resnet")
    clip, picture = still(side)
    exact = zoo.inflate(copy.deepcopy(image), method="tsm")
    zeros = zoo.inflate(copy.deepcopy(image), method="tsm", fill="zeros")
    assert_close(exact(clip), image(picture))
    assert deviation(zeros(clip), image(picture)) > 1e-3


def test_a_shift_moves_an_eighth_each_way():
    model = zoo.inflate(timm.create_model("test_resnet"), method="tsm", fill="zeros")
    part = next(
        hook.part
        for module in model.modules()
        for hook in module._forward_pre_hooks.values()
        if hasattr(hook, "part")
    )
    model.clock.start(1, 3)
    x = torch.arange(1.0, 25).reshape(3, 8, 1, 1)  # channel c of frame t holds 8t + c + 1
    found = part(x).flatten(1)
    assert found[:, 0].tolist() == [9, 17, 0]
    assert found[:, 1].tolist() == [0, 2, 10]
    assert torch.equal(found[:, 2:], x.flatten(1)[:, 2:])


@pytest.mark.parametrize(
    ("pooling", "hears"), [("avg", False), ("max", False), ("attention", True)]
)
@torch.no_grad()
def test_framepool_hears_order_by_attention_alone(pooling, hears):
    image, side = build("resnet")
    clip, picture = still(side)
    model = zoo.inflate(
        copy.deepcopy(image), method="framepool", pooling=pooling, num_frames=FRAMES
    )
    assert_close(model(clip), image(picture))
    add_noise(model)
    assert_close(model(clip), image(picture))
    frames = random_clip((2, 3, FRAMES, side, side), seed=3)
    change = deviation(model(frames.flip(2)), model(frames))
    assert (change > 1e-3) == hears
    assert hears or change < 1e-5
    assert lifted_architecture(model.record).order == ("used" if hears else "ignored")


@pytest.mark.parametrize("method", ["i3d", "r2p1d", "tsm", "divided", "factorised", "joint"])
def test_new_parameters_are_listed_with_their_start(method):
    image = timm.create_model("test_resnet" if method in ("i3d", "r2p1d", "tsm") else "test_vit")
    before = image.state_dict()
    model = zoo.inflate(image, method=method, num_frames=FRAMES)
    after = dict(model.named_parameters())
    unchanged = {
        key
        for key, value in after.items()
        if (old := before.get(key.removeprefix("image."))) is not None and old.shape == value.shape
    }
    assert model.new_parameters.keys() == after.keys() - unchanged
    assert {f"image.{key}" for key in before} <= model.state_dict().keys()
    for key, start in model.new_parameters.items():
        value = after[key]
        if start in ("0", "1"):
            assert (value == float(start)).all(), key
        elif start == "the identity":
            assert torch.equal(value[:, [0, 2]], torch.zeros_like(value[:, :2]))
            assert value[:, 1].sum() == len(value)
        elif "inflated" in start:
            assert torch.allclose(value.sum(2), before[key.removeprefix("image.")], atol=1e-6)
        else:
            assert start == "uniform, std 0.02"
            assert 0.019 < value.std() < 0.021
            assert value.abs().max() <= 0.02 * 3**0.5


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("channels_last", [True, False])
@pytest.mark.parametrize("groups", [1, 2, 8])
def test_a_temporal_kernel_is_a_convolution_between_zeros(dtype, channels_last, groups):
    for clips, frames, side in ((1, 1, 3), (1, 4, 3), (2, 2, 1), (2, 5, 4)):
        clock = Clock(frames)
        part = TemporalConv(8, clock, "x", groups=groups).to(dtype)
        nn.init.normal_(part.weight)
        x = torch.randn(clips * frames, 8, side, side, dtype=dtype)
        x = x.contiguous(memory_format=torch.channels_last) if channels_last else x
        x.requires_grad_()
        clock.start(clips, frames)
        found = part(x)
        kernel = part.weight.mT[..., None, None]  # (D, D / groups, 3, 1, 1)
        clip = x.unflatten(0, (clips, frames)).transpose(1, 2)
        want = F.conv3d(clip, kernel, padding=(1, 0, 0), groups=groups).transpose(1, 2)
        weigh = torch.randn_like(found)
        for ours, theirs in zip(
            torch.autograd.grad((found * weigh).sum(), (x, part.weight)),
            torch.autograd.grad((want.flatten(0, 1) * weigh).sum(), (x, part.weight)),
            strict=True,
        ):
            assert_close(ours, theirs)
        assert_close(found, want.flatten(0, 1))
        assert part.weight.is_contiguous()


@pytest.mark.parametrize("groups", [1, 16])
def test_inflated_kernels_learn_from_small_maps_in_bfloat16(groups):
    """Plain torch fails on a processor with AVX512_BF16."""
    clock = Clock(FRAMES)
    conv = FrameConv3d(nn.Conv2d(16, 16, 7, padding=3, groups=groups), clock, "x", mode="mean")
    conv.weight.data = conv.weight.data.bfloat16().float()
    x = torch.randn(2 * FRAMES, 16, 2, 2).bfloat16().float()
    x = x.contiguous(memory_format=torch.channels_last)
    clock.start(2, FRAMES)
    with torch.autocast("cpu", torch.bfloat16):
        found = conv(x)
    weigh = torch.randn_like(found)
    exact = copy.deepcopy(conv).double()
    exact.clock.start(2, FRAMES)
    assert_close(
        torch.autograd.grad(found, conv.weight, weigh)[0].double(),
        torch.autograd.grad(exact(x.double()), exact.weight, weigh.double())[0],
        tolerance=0.02,
    )


@torch.no_grad()
def test_temporal_kernels_read_channels_last_whatever_the_clip_lies_in():
    model = zoo.create("r2p1d:resnet10t", num_frames=FRAMES, img_size=32)
    seen = []

    def look(_, maps, __):
        # Maps of one pixel lie both ways.
        seen.append(maps[0].is_contiguous(memory_format=torch.channels_last))

    for module in model.modules():
        if isinstance(module, TemporalConv):
            module.register_forward_hook(look)
    model(torch.randn(2, 3, FRAMES, 32, 32))
    assert len(seen) > 8
    assert all(seen)


@torch.no_grad()
@pytest.mark.filterwarnings("ignore:There is a performance drop:UserWarning")
def test_torch_func_sees_no_memory_formats():
    model = zoo.create("r2p1d:resnet10t", num_frames=FRAMES, img_size=32)
    add_noise(model)
    clips = torch.randn(2, 3, FRAMES, 32, 32)
    each = torch.vmap(lambda clip: model(clip[None]))(clips)
    assert_close(each[:, 0], model(clips), tolerance=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("name", ["test_resnet", "test_efficientnet"])
def test_temporal_kernels_hear_autocast(name):
    model = zoo.inflate(timm.create_model(name), method="r2p1d", num_frames=FRAMES).eval()
    add_noise(model)
    clip = random_clip((2, 3, FRAMES, 64, 64), seed=1)
    want = model(clip)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert_close(model(clip).float(), want, tolerance=0.1)


def test_what_is_new_sees_gradients():
    for method, file in (("r2p1d", "efficientnet"), ("factorised", "vision_transformer")):
        image, side = build(file)
        model = zoo.inflate(image, method=method, num_frames=FRAMES)
        add_noise(model)
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(not name.startswith("image."))
        model(random_clip((2, 3, FRAMES, side, side), seed=1)).square().sum().backward()
        for name, parameter in model.named_parameters():
            assert (parameter.grad is None) == name.startswith("image.")
            if not name.startswith("image."):
                assert parameter.grad.any(), name


@pytest.mark.parametrize(
    ("method", "name", "sentence"),
    [
        ("i3d", "test_vit", "VisionTransformer: it has no conv.* can: framepool:, divided:"),
        ("divided", "test_resnet", "no token blocks, .* can: framepool:, tsm:, i3d:, r2p1d:"),
        ("tsm", "vgg11", "no residual blocks with convolutions. These can: framepool:, i3d:"),
        ("joint", "test_vit_relpos", "RelPosAttention|table of fixed length"),
        ("joint", "swin_tiny_patch4_window7_224", "'relative_position_bias_table' of WindowAtt"),
    ],
)
def test_what_cannot_be_lifted_is_refused_with_what_can(method, name, sentence):
    with torch.device("meta"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        image = timm.create_model(name)
        with pytest.raises(RefusedError, match=rf"^{method}: cannot lift this .*(?:{sentence})"):
            zoo.inflate(image, method=method)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"method": "c3d"}, "Unknown method 'c3d'. Known: framepool, tsm"),
        ({"method": "i3d", "fill": "zeros"}, "fill is an option of tsm:, not of i3d:"),
        ({"method": "tsm", "pooling": "max"}, "pooling is an option of framepool:"),
        ({"method": "tsm", "inflation": "center"}, "inflation is an option of i3d:"),
        ({"method": "tsm", "fill": "ones"}, "fill is 'replicate' or 'zeros', not 'ones'"),
        ({"method": "i3d", "temporal_stride": 0}, "temporal_stride is a whole number"),
        ({"method": "framepool", "pooling": "sum"}, "Unknown pooling 'sum'"),
    ],
)
def test_wrong_options_are_refused(arguments, sentence):
    with pytest.raises(ValueError, match=sentence):
        zoo.inflate(timm.create_model("test_resnet"), **arguments)


def test_other_modules_are_refused():
    with pytest.raises(ValueError, match="A Linear is no image model of timm"):
        zoo.inflate(nn.Linear(2, 2), method="i3d")


def test_weights_that_are_standardised_cannot_hold_zeros():
    with pytest.raises(RefusedError, match="standardises its weights.* use inflation='mean'"):
        zoo.inflate(timm.create_model("test_nfnet"), method="i3d", inflation="center")
