"""The faster forms of attention and its MLP against the plain formulas, values and gradients."""

import contextlib
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from einops import rearrange
from scrambling import assert_close, scramble
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

import zoo
from zoo.layers import Mlp, biased_attention, channels_last_maps, split_heads
from zoo.models import hiera, vjepa2
from zoo.models._clip_text import QuickMlp


def _gradients(function, *inputs):
    """A result and the gradients of the inputs."""
    inputs = [x.clone().requires_grad_() for x in inputs]
    out = function(*inputs)
    probe = torch.randn(out.shape, generator=torch.Generator().manual_seed(1))
    return out.detach(), *torch.autograd.grad(out, inputs, probe)


def _assert_same(fast, plain, *inputs):
    results = zip(_gradients(fast, *inputs), _gradients(plain, *inputs), strict=True)
    for found, wanted in results:
        assert_close(found, wanted, tolerance=1e-5)


@pytest.fixture
def mlp(monkeypatch):
    """An MLP that sees 4 of 15 tokens at a time."""
    monkeypatch.setattr("zoo.layers.attention._PIECE", 64)
    monkeypatch.setattr("zoo.layers.attention._WHOLE", 128)
    torch.manual_seed(0)
    return Mlp(8, hidden_dim=16, out_dim=6)


def test_an_mlp_takes_tokens_in_pieces(mlp):
    seen = []
    linear = mlp.fc1.forward
    mlp.fc1.forward = lambda x: (seen.append(x.shape[0]), linear(x))[1]
    x = torch.randn(3, 5, 8)
    with torch.no_grad():
        found = mlp(x)
        assert seen == [4, 4, 4, 3]
        assert_close(found, mlp.fc2(F.gelu(linear(x))))
        mlp(x[:1])
    assert seen[4:] == [1]  # a batch of one, whole
    assert found.shape == (3, 5, 6)


@pytest.mark.parametrize("reason", ["gradients", "a hook", "a hook on all", "a graph"])
def test_an_mlp_is_called_once_where_pieces_would_show(mlp, reason, monkeypatch):
    seen = []

    def look(part, given, _):
        if part is mlp.act:
            seen.append(given[0].shape)

    with contextlib.ExitStack() as stack:
        if reason == "a hook":
            mlp.act.register_forward_hook(look)
        elif reason == "a hook on all":
            stack.callback(nn.modules.module.register_module_forward_hook(look).remove)
        else:
            monkeypatch.setattr(mlp.act, "forward", lambda x: (seen.append(x.shape), F.gelu(x))[1])
        if reason == "a graph":
            monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
        with torch.set_grad_enabled(reason == "gradients"):
            mlp(torch.randn(3, 5, 8))
    assert seen == [(3, 5, 16)]


def _mlp_with_tanh():
    mlp = Mlp(8, hidden_dim=32)
    mlp.act = nn.GELU("tanh")
    return mlp


@pytest.mark.parametrize(
    ("kind", "formula"),
    [
        (partial(Mlp, 8, hidden_dim=32), F.gelu),
        (_mlp_with_tanh, partial(F.gelu, approximate="tanh")),
        (partial(QuickMlp, 8), lambda x: x * torch.sigmoid(1.702 * x)),
    ],
)
def test_activations_stay_in_the_memory_of_the_hidden_layer(kind, formula):
    torch.manual_seed(0)
    mlp, hidden = kind(), []
    first, second = mlp.fc1.forward, mlp.fc2.forward

    def keep(out):
        hidden.append(out)
        return out

    x = torch.randn(2, 5, 8)
    with torch.no_grad():
        wanted = second(formula(first(x)))
        mlp.fc1.forward = lambda x: keep(first(x))
        mlp.fc2.forward = lambda x: second(keep(x))
        assert_close(mlp(x), wanted, tolerance=1e-6)
    assert hidden[0].data_ptr() == hidden[1].data_ptr()


def test_what_the_first_layer_only_passes_on_is_left_alone():
    mlp = Mlp(8, hidden_dim=8)
    mlp.fc1 = nn.Identity()
    mlp.fc1.out_features = 8
    x = torch.randn(2, 5, 8)
    before = x.clone()
    with torch.no_grad():
        assert_close(mlp(x), mlp.fc2(F.gelu(before)), tolerance=1e-6)
    assert torch.equal(x, before)


@pytest.mark.parametrize("length", [5, 6])
def test_long_heads_lie_together(length, monkeypatch):
    monkeypatch.setattr("zoo.layers.attention._LONG", 6)
    qkv = torch.randn(2, length, 3 * 8)
    found = split_heads(qkv, 2)
    for part, wanted in zip(found, qkv.chunk(3, dim=-1), strict=True):
        assert torch.equal(part, wanted.unflatten(-1, (2, 4)).transpose(1, 2))
        assert part.is_contiguous() == (length == 6)


def test_no_clips_have_no_heads_and_widths_must_divide():
    for part in split_heads(torch.zeros(0, 5, 24), 2):
        assert part.shape == (0, 2, 5, 4)
    for width in (10, 26):
        with pytest.raises(RuntimeError, match="invalid for input of size"):
            split_heads(torch.zeros(1, 5, width), 2)


def test_who_records_operations_sees_what_they_gave(mlp):
    class Recorder(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            out = func(*args, **(kwargs or {}))
            if func is torch.ops.aten.addmm.default:
                given.append(out)
            return out

    given, x = [], torch.randn(2, 3, 8)
    with torch.no_grad(), Recorder():
        mlp(x)
    with torch.no_grad():
        assert_close(given[0].view(2, 3, 16), mlp.fc1(x), tolerance=1e-6)


def test_biased_attention_is_the_fused_one():
    torch.manual_seed(0)
    q, k, v = torch.randn(3, 4, 2, 9, 8).unbind(0)
    bias = torch.randn(1, 2, 9, 9)
    _assert_same(
        biased_attention,
        lambda q, k, v, bias: F.scaled_dot_product_attention(q, k, v, attn_mask=bias),
        *(q, k, v, bias),
    )


@pytest.mark.parametrize(("clips", "heads"), [(1, 1), (1, 3), (2, 3)])
def test_maps_of_heads_lie_channels_last_whatever_their_number(clips, heads):
    tokens = torch.randn(clips, 1 + 2 * 3 * 4, 3, heads, 5)
    x = tokens[:, 1:, 0].transpose(1, 2)  # (N, A, L, D)
    maps = channels_last_maps(x, (2, 3, 4))
    assert torch.equal(maps, rearrange(x, "n a (t h w) d -> (n a) d t h w", t=2, h=3))
    # Also along the first axis, of whatever length: kernels choose their layout by all strides.
    assert maps.stride() == (120, 1, 60, 20, 5)


@pytest.mark.parametrize("block", [0, 1])
def test_distances_as_channels_are_a_bias_of_each_pair(block):
    torch.manual_seed(0)
    layer = scramble(zoo.create("test_mvit_v2"), None).blocks[block].attn
    heads, width = layer.num_heads, layer.rel_pos_t.shape[1]
    q = torch.randn(2, heads, 1 + torch.Size(layer.q_grid).numel(), width)
    k = torch.randn(2, heads, 1 + torch.Size(layer.k_grid).numel(), width)

    def products(q, k):
        wide_q, wide_k = layer._with_places(q, k)
        return wide_q @ wide_k.transpose(-2, -1) * width**-0.5

    def formula(q, k):
        """Each query's product with the rows of the tables that tell its distances."""
        logits = q @ k.transpose(-2, -1) * width**-0.5
        rows = [
            layer._distances(table, axis)
            for axis, table in enumerate((layer.rel_pos_t, layer.rel_pos_h, layer.rel_pos_w))
        ]
        asking = torch.cartesian_prod(*map(torch.arange, layer.q_grid))  # (L, 3)
        asked = torch.cartesian_prod(*map(torch.arange, layer.k_grid))  # (L', 3)
        for axis, table in enumerate(rows):
            distance = table[asking[:, axis, None], asked[None, :, axis]]  # (L, L', D)
            bias = (q[:, :, 1:, None] * distance).sum(-1)
            logits = logits + F.pad(bias, (1, 0, 1, 0))
        return logits

    _assert_same(products, formula, q, k)


def test_hieras_pool_is_the_largest_of_four():
    x = torch.randn(2, 3, 4, 6, 5)
    _assert_same(
        hiera._pool,
        lambda x: rearrange(x, "n t (h a) (w b) d -> n t h w d (a b)", a=2, b=2).amax(-1),
        x,
    )


def test_rotation_turns_neighbouring_channels():
    table = vjepa2.rotary_table((2, 2, 3), 16, device=torch.device("cpu"))
    cos, sin = table
    sines = sin * torch.tensor([-1.0, 1.0]).repeat(8)

    def formula(x):
        turned = torch.zeros_like(x)
        turned[..., 0::2] = -x[..., 1::2]
        turned[..., 1::2] = x[..., 0::2]
        return x * cos + turned * sines

    # A pair of one position and frequency would keep its length; of each, squares add up to one.
    assert_close(cos.square() + sin.square(), torch.ones_like(cos))
    assert (sines >= 0)[:, :2].all()  # the frames counted upwards turn one way
    _assert_same(lambda x: vjepa2.rotate(x, table), formula, torch.randn(2, 3, 12, 16))
