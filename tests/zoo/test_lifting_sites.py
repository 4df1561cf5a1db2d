"""Where lifting finds its places: by names, by one run, and in which layout tokens come."""

import pytest
import timm
import torch
import torch.nn.functional as F
from torch import nn

import zoo
from zoo.lifting.attention import TemporalAttention
from zoo.lifting.clock import Clock
from zoo.lifting.sites import (
    TokenSite,
    _layer_site,
    _may_change_width,
    _token_blocks,
    residual_convs,
    token_sites,
)
from zoo.lifting.tracing import trace, trace_shapes


def conv(chans=4, kernel=3):
    return nn.Conv2d(chans, chans, kernel, padding=kernel // 2)


class Net(nn.Module):
    """A stem, and a block whose forward code is given."""

    def __init__(self, block, **layers):
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        for name, layer in layers.items():
            self.add_module(name, layer)
        self.block = block

    def forward(self, x):
        return self.block(self, self.stem(x))


def in_place(net, x):
    y = net.b(net.a(x))
    y += x
    return y


def sliced(net, x):  # dual paths: the sum keeps a part of the channels
    y = net.b(net.a(x))
    return torch.cat([x[:, :2] + y[:, :2], y[:, 2:]], dim=1)


CASES = {
    "plain": (lambda net, x: net.b(net.a(x)), []),
    "concatenated": (lambda net, x: torch.cat([x, net.b(net.a(x))], 1), []),
    "identity": (lambda net, x: x + net.b(net.a(x).relu()), ["a"]),
    "swapped": (lambda net, x: torch.add(net.b(net.a(x)), x), ["a"]),
    "in place": (in_place, ["a"]),
    "sliced": (sliced, ["a"]),
    "projected": (lambda net, x: net.c(x) + net.b(net.a(x)), ["a"]),
    "two branches": (lambda net, x: x + net.b(net.a(x) * net.c(x)), ["a", "c"]),
    "two blocks": (lambda net, x: (y := x + net.a(x)) + net.c(net.b(y)), ["a", "b"]),
    "nested": (lambda net, x: x + net.c((y := net.a(x)) + net.b(y)), ["a"]),
    "as long": (lambda net, x: net.a(x) + net.b(x), []),
    "of a constant": (lambda net, x: net.b(net.a(x)) + 1.0, []),
}


@pytest.mark.parametrize("case", CASES)
def test_residual_sums_of_a_run(case):
    block, names = CASES[case]
    found = trace(Net(block, a=conv(), b=conv(), c=conv(kernel=1)))
    assert found.residual_convs() == names


def test_a_run_leaves_the_model_as_it_was():
    image = timm.create_model("levit_128s", img_size=64).train()
    image.head.eval()
    before = {key: value.clone() for key, value in image.state_dict().items()}
    found = trace_shapes(image, ["stages.0.blocks.0.attn"])
    assert found == {"stages.0.blocks.0.attn": ((1, 16, 128), (1, 16, 128))}
    assert trace(image).convs
    assert (image.training, image.head.training) == (True, False)
    assert all(torch.equal(value, before[key]) for key, value in image.state_dict().items())
    assert not image.stages[0].blocks[0].attn.attention_bias_cache
    assert not any(module._forward_hooks for module in image.modules())


def channels_last(x):
    return x.contiguous(memory_format=torch.channels_last)


OPERATIONS = {
    "batch norm": lambda x: F.batch_norm(x, torch.zeros(4), torch.ones(4)),
    "layer norm": lambda x: F.layer_norm(x, (6,)),
    "group norm": lambda x: F.group_norm(x, 2),
    "gelu": F.gelu,
    "transposed": lambda x: F.hardswish(x.permute(0, 2, 3, 1)),
    "linear": lambda x: F.linear(x, torch.ones(5, 6), torch.ones(5)),
    "attention": lambda x: F.scaled_dot_product_attention(x, x, x[..., :4]),
    "sum": lambda x: x + x.transpose(1, 2).transpose(1, 2),
    "broadcast": lambda x: x[:, :1] * torch.ones(4, 1, 1),
    "resized": lambda x: F.interpolate(x, size=(3, 9), mode="bilinear"),
    "resized to a square": lambda x: F.interpolate(x, 7, mode="bicubic", antialias=True),
    "resized by a factor": lambda x: F.interpolate(x, scale_factor=0.3),
    "resized by factors": lambda x: F.interpolate(x, scale_factor=(2.5, 0.5), mode="bilinear"),
    "resized, transposed": lambda x: F.interpolate(channels_last(x), size=(3, 9), mode="bilinear"),
    "softmax": lambda x: x.softmax(dim=-1) + F.softmax(x, dim=1),
    "sigmoid": lambda x: x.sigmoid() * F.silu(x) + torch.tanh(x),
    "number": lambda x: 2 * x.transpose(2, 3),
    "whole numbers": lambda x: torch.arange(3) / 2 + x[0, 0, 0, 0],
    "of a double": lambda x: x - x.double(),
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_what_a_run_spares_has_the_shape_of_what_torch_gives(name):
    class Body(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem = nn.Conv2d(3, 4, 1)
            self.last = nn.Identity()

        def forward(self, x):
            seen.append(found := OPERATIONS[name](self.stem(x)[..., :5, :6]))
            return self.last(found)

    seen = []
    with torch.device("meta"):
        shapes = trace_shapes(Body(), ["last"])
    Body()(torch.empty(1, 3, 224, 224))
    spared, real = seen
    assert shapes["last"] == (real.shape, real.shape)
    assert (spared.shape, spared.dtype) == (real.shape, real.dtype)
    assert spared.stride() == real.stride()
    assert spared.is_meta


def test_a_run_keeps_what_modules_share():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.a = conv()
            self.again, self.plain = self.a, [self.a]
            self.options = {"scale": [2.0]}

        def forward(self, x):
            assert self.again is self.a
            assert self.plain[0] is self.a
            assert self.options is not twice.options
            ran.append(self.options)
            return x + self.again(self.a(x))

    ran, twice = [], Twice()
    image = nn.Sequential(nn.Conv2d(3, 4, 1), twice)
    assert trace(image).residual_convs() == ["1.a"]
    assert ran == [{"scale": [2.0]}]
    assert twice.a.weight.is_cpu


def test_what_cannot_be_run_is_not_traced():
    def block(net, x):
        return x + net.a(x) * float(x.sum())  # a value, which meta tensors have not

    image = Net(block, a=conv(), downsample=nn.Identity())
    assert trace(image) is None
    assert [name for name, _ in residual_convs(nn.Sequential(image))] == ["0.stem"]


@pytest.mark.parametrize("name", ["skresnet18", "mixnet_s", "res2net50_26w_4s", "convnext_atto"])
def test_names_tell_the_convolutions_that_a_run_tells(name):
    with torch.device("meta"):
        image = timm.create_model(name)
    assert [name for name, _ in residual_convs(image)] == trace(image).residual_convs()


def test_every_path_beside_the_first_is_on_the_way():
    with torch.device("meta"):
        image = timm.create_model("ghostnetv3_050")
    names = [name for name, _ in residual_convs(image)]
    # A run also finds those that weigh what the others give.
    assert set(names) < set(trace(image).residual_convs())
    assert len(names) == 3 * sum("Bottleneck" in type(m).__name__ for m in image.modules())


def test_a_layer_that_blocks_share_is_shifted_once():
    with torch.device("meta"):
        image = timm.create_model("coat_tiny")
    model = zoo.inflate(image, method="tsm", num_frames=4)
    shifts = [len(module._forward_pre_hooks) for module in model.modules()]
    # Four layers of positions, and the three paths of the encoding that parallel blocks share.
    assert sorted(filter(None, shifts)) == [1] * 7


def test_layers_that_say_they_have_no_shortcut_hide_no_block():
    block = nn.Sequential(conv(), conv())
    block.shortcut = nn.Identity()
    block[0].has_skip = block[1].has_residual = False
    assert [name for name, _ in residual_convs(nn.Sequential(block))] == ["0.0"]


@pytest.mark.parametrize(
    ("name", "arguments", "site", "widths", "heads"),
    [
        # Its norm lies inside the attention layer.
        ("tiny_vit_5m_224", {}, "stages.1.blocks.0.attn", (128, 128), 4),
        # A convolution before the norm changes the width, and branches are put side by side.
        ("nextvit_small", {"depths": (1, 1, 5, 1)}, "stages.1.blocks.0", (96, 256), 6),
        ("botnet26t_256", {}, "stages.2.1.self_attn", (256, 256), 4),
        ("test_vit", {}, "blocks.0", (64, 64), 2),
    ],
)
def test_widths_of_token_sites(name, arguments, site, widths, heads):
    with torch.device("meta"):
        image = timm.create_model(name, **arguments)
    found = {item.name: item for item in token_sites(image)}
    assert isinstance(found[site], TokenSite)
    assert (found[site].dim, found[site].out_dim) == widths
    assert found[site].num_heads == heads
    inner = [name for name in found if any(name.startswith(f"{other}.") for other in found)]
    assert inner == []


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("levit_128s", True),  # linear layers
        ("efficientvit_b0", True),  # convolutions
        ("efficientvit_m0", True),  # the first layer sees the part of one head
        ("shvit_s1", True),  # it sees a part of them
        ("coat_tiny", True),  # positions are added after the output projection
        ("coatnet_0_224", False),  # they widen
        ("halonet26t", False),  # the last layer gives keys and values
    ],
)
def test_widths_that_layers_tell_are_those_of_a_run(name, told):
    with torch.device("meta"):
        image = timm.create_model(name)
    sites = [site for site in token_sites(image) if site.block is site.attention]
    shapes = trace_shapes(image, [site.name for site in sites])
    known = [_layer_site(site.name, site.attention) for site in sites]
    sure = [site for site in known if site.dim]
    assert len(sure) == (len(known) if told else 0)
    for site in sure:
        given, gave = shapes[site.name]
        axis = 1 if len(given) == 4 and site.channels_first else -1
        assert (site.dim, site.out_dim) == (given[axis], gave[axis])


@pytest.mark.parametrize("heads", [None, (2, 4), 2])
def test_heads_that_are_no_number_tell_no_width(heads):
    layer = nn.Sequential(nn.Linear(4, 12), nn.Linear(4, 8))
    layer.num_heads = heads
    assert _layer_site("x", layer).dim == (8 if heads == 2 else 0)


@pytest.mark.parametrize(
    ("name", "block", "told"),
    [
        # Convolutions of a part of the channels, and positions.
        ("edgenext_xx_small", "stages.1.blocks.1", True),
        ("csatv2", "stages.0.0", True),  # the layers beside widen, and narrow again
        ("nextvit_small", "stages.1.blocks.0", False),  # a convolution before the norm widens
    ],
)
def test_widths_that_blocks_tell_are_those_of_a_run(name, block, told):
    with torch.device("meta"):
        image = timm.create_model(name)
    sites = {site.name: site for site in _token_blocks(image)}
    sure = [site for site in sites.values() if not _may_change_width(site)]
    assert (sites[block] in sure) == told
    shapes = trace_shapes(image, [site.name for site in sure])
    for site in sure:  # all are maps
        assert {shape[1] for shape in shapes[site.name]} == {site.dim} == {site.out_dim}


@pytest.mark.parametrize("channels_first", [True, False])
@torch.no_grad()
def test_maps_as_wide_as_their_tokens_are_read_in_the_layout_of_their_block(channels_first):
    clock = Clock(4)
    part = TemporalAttention(
        8, num_heads=2, num_frames=4, clock=clock, where="x", channels_first=channels_first
    )
    for parameter in part.parameters():
        nn.init.normal_(parameter)
    clock.start(1, 4)
    x = torch.randn(4, 8, 8, 8)
    tokens = x.permute(0, 2, 3, 1) if channels_first else x  # (T, H, W, D)
    want = part(tokens.flatten(1, 2)).unflatten(1, (8, 8))
    want = want.permute(0, 3, 1, 2) if channels_first else want
    assert torch.allclose(part(x), want, atol=1e-5)
    assert not torch.allclose(part(x.transpose(1, 3)), part(x).transpose(1, 3), atol=1e-2)
