"""Video Swin's biases by offset, its padding, and clips of other lengths and sizes."""

import itertools

import pytest
import torch
from scrambling import assert_close, random_clip, scramble

import converters
import registry
import zoo
from zoo.models.swin3d import WindowAttention, cut_bias

LAYOUTS = ("torchvision", "video-swin")


@pytest.fixture
def tiny():
    torch.manual_seed(0)
    return scramble(zoo.create("test_swin3d"), torch.zeros(1, 3, 8, 32, 32))


def _slow_attention(layer, x):
    """Attention of each token to those in its window, biases and adjacency by coordinates."""
    size, heads = tuple(x.shape[1:4]), layer.num_heads
    window = [min(have, want) for have, want in zip(size, layer.window, strict=True)]
    shift = [
        want // 2 if layer.shifted and have > want else 0
        for have, want in zip(size, layer.window, strict=True)
    ]
    padded = [-(-have // want) * want for have, want in zip(size, window, strict=True)]
    t, h, w = layer.window
    table = layer.relative_position_bias_table.view(2 * t - 1, 2 * h - 1, 2 * w - 1, heads)
    full = x.new_zeros(1, *padded, x.shape[-1])
    full[:, : size[0], : size[1], : size[2]] = x
    q, k, v = layer.qkv(full)[0].unflatten(-1, (3, heads, -1)).unbind(-3)  # (T, H, W, heads, d)
    out = torch.zeros(padded[0], padded[1], padded[2], x.shape[-1])
    windows = {}  # places by the window that holds them on the axes as they stand, unwrapped
    for place in itertools.product(*map(range, padded)):
        key = tuple((p - s) // n for p, s, n in zip(place, shift, window, strict=True))
        windows.setdefault(key, []).append(place)
    for near in windows.values():
        keys, values = (torch.stack([of[place] for place in near]) for of in (k, v))
        for here in near:
            offsets = (
                [a - b + n - 1 for a, b, n in zip(here, place, layer.window, strict=True)]
                for place in near
            )
            biases = torch.stack([table[tuple(offset)] for offset in offsets])  # (L, heads)
            scores = (q[here] * keys).sum(-1) / q.shape[-1] ** 0.5 + biases
            out[here] = (scores.softmax(0)[..., None] * values).sum(0).flatten()
    return layer.proj(out)[None, : size[0], : size[1], : size[2]]


@pytest.mark.parametrize("shifted", [False, True])
@pytest.mark.parametrize(
    "grid",
    [
        (4, 6, 6),  # windows divide it
        (5, 7, 4),  # padded along every axis
        (2, 6, 6),  # cut in time
        (4, 2, 2),  # cut in space, where the references' index is wrong
        (1, 2, 5),
    ],
)
def test_attention_reads_the_bias_of_the_true_offset(grid, shifted):
    torch.manual_seed(0)
    layer = WindowAttention(8, num_heads=2, window=(2, 3, 3), shifted=shifted)
    torch.nn.init.normal_(layer.relative_position_bias_table)
    torch.nn.init.normal_(layer.qkv.weight)
    x = torch.randn(1, *grid, 8)
    with torch.no_grad():
        assert_close(layer(x), _slow_attention(layer, x), tolerance=1e-5)


def _with_gradients(layer, x):
    """What a layer gives, and the gradients of its input and parameters."""
    x = x.clone().requires_grad_()
    out = layer(x)
    probe = torch.randn(out.shape, generator=torch.Generator().manual_seed(3))
    return out.detach(), *torch.autograd.grad(out, [x, *layer.parameters()], probe)


@pytest.mark.parametrize(
    ("grid", "window"),
    [
        ((4, 6, 6), (2, 3, 3)),
        ((5, 7, 4), (2, 3, 3)),
        ((2, 6, 9), (2, 3, 3)),
        ((9, 6, 6), (4, 5, 3)),
    ],
)
def test_windows_cut_apart_are_the_rolled_and_masked_ones(grid, window, monkeypatch):
    """A graph holds the references' way, an eager run on a CPU the shorter one."""
    torch.manual_seed(0)
    layer = WindowAttention(8, num_heads=2, window=window, shifted=True)
    torch.nn.init.normal_(layer.relative_position_bias_table)
    torch.nn.init.normal_(layer.qkv.weight)
    x = torch.randn(2, *grid, 8)
    with monkeypatch.context() as patched:
        patched.setattr(layer, "_rolled", None)
        eager = _with_gradients(layer, x)
    monkeypatch.setattr(layer, "_apart", None)
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    with torch.no_grad():
        assert_close(layer(x[:1]), _slow_attention(layer, x[:1]), tolerance=1e-5)
    for found, wanted in zip(eager, _with_gradients(layer, x), strict=True):
        assert_close(found, wanted, tolerance=1e-5)


def test_the_first_rows_of_the_whole_index_would_be_wrong_for_a_window_cut_in_space():
    layer = WindowAttention(8, num_heads=2, window=(8, 7, 7), shifted=False)
    torch.nn.init.normal_(layer.relative_position_bias_table)
    for window, wrong in (((4, 7, 7), 0), ((8, 4, 4), 15966)):
        length = window[0] * window[1] * window[2]
        index = layer.relative_position_index[:length, :length]
        cut = layer.relative_position_bias_table[index].permute(2, 0, 1)
        different = (cut_bias(layer._bias(), window) != cut).any(dim=0).sum()
        assert different == wrong  # of 16384 pairs, as PITFALLS counted for torchvision


def test_norms_have_the_authors_epsilon(tiny):
    norms = [module for module in tiny.modules() if isinstance(module, torch.nn.LayerNorm)]
    assert len(norms) == 11
    assert {norm.eps for norm in norms} == {1e-5}


@pytest.mark.parametrize("size", [32, 48])
def test_a_still_clip_gives_one_answer_at_any_length(tiny, size):
    # Biases that are equal along time leave a mean over time that counts no frames.
    for stage in tiny.stages:
        for block in stage.blocks:
            table = block.attn.relative_position_bias_table.data
            grid = table.view(3, 5, 5, -1)
            grid.copy_(grid[:1].clone().expand_as(grid))
    frame = random_clip((1, 3, 1, size, size), seed=1)
    with torch.no_grad():
        logits = [tiny(frame.expand(-1, -1, t, -1, -1)) for t in (8, 16, 32)]
        first = tiny.forward_features(frame.expand(-1, -1, 8, -1, -1))
    assert_close(logits[1], logits[0], tolerance=1e-5)
    assert_close(logits[2], logits[0], tolerance=1e-5)
    assert_close(first[:, : first.shape[1] // 4].repeat(1, 4, 1), first, tolerance=1e-5)


def test_a_clip_is_padded_with_zeros_to_whole_patches(tiny):
    clip = random_clip((1, 3, 7, 30, 45), seed=1)
    padded = torch.nn.functional.pad(clip, (0, 3, 0, 2, 0, 1))
    with torch.no_grad():
        assert torch.equal(tiny(clip), tiny(padded))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts_go_both_ways_and_are_told_apart(tiny, layout):
    exported = converters.export(tiny, target=layout)
    assert sum(key.endswith("relative_position_index") for key in exported) == 4
    shapes = {key: tuple(value.shape) for key, value in tiny.state_dict().items()}
    assert converters.layouts.detect(exported, registry.load("test_swin3d"), shapes) == layout
    state = converters.convert(exported, name="test_swin3d")
    assert state.keys() == tiny.state_dict().keys()
    assert all(torch.equal(state[key], value) for key, value in tiny.state_dict().items())
    for spoil in (
        lambda found: found.pop(next(iter(found))),
        lambda found: found.update(stray=torch.zeros(1)),
    ):
        spoiled = dict(exported)
        spoil(spoiled)
        with pytest.raises(ValueError, match="does not fit|fits none"):
            converters.convert(spoiled, name="test_swin3d")


def test_a_file_tells_its_window(tmp_path):
    torch.manual_seed(0)
    made = scramble(zoo.create("test_swin3d", window_frames=4), torch.zeros(1, 3, 8, 32, 32))
    path = tmp_path / "long.pth"
    torch.save({"state_dict": converters.export(made, target="video-swin")}, path)
    again = zoo.create("test_swin3d", checkpoint=path)
    clip = random_clip((1, 3, 20, 32, 32), seed=1)
    with torch.no_grad():
        assert torch.equal(again(clip), made(clip))
    with pytest.raises(ValueError, match="wrong shapes: .*relative_position_bias_table"):
        zoo.create("test_swin3d", checkpoint=path, window_frames=2)


def test_records_name_the_long_window_and_both_places():
    records = {record.tag: record for record in registry.info("swin3d_b").weights}
    long = {tag for tag, record in records.items() if ("window_frames", 16) in record.arguments}
    assert long == {"ssv2", "in22k_ft_k400_w16"}
    assert next(iter(records)) == "k400"
    for tag in ("k400", "in22k_ft_k400"):
        assert [mirror.layout for mirror in records[tag].mirrors] == ["video-swin"]
