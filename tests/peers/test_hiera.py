"""Hiera against its authors' package, both ways."""

import warnings

import pytest
import torch
from scrambling import assert_close, random_clip, scramble

import converters
import registry
import zoo
from zoo.benchmarking.peers import beside
from zoo.models.hiera import Hiera

pytestmark = pytest.mark.peer
SHAPE = (1, 3, 16, 224, 224)
# Large and huge keep their width and have fewer blocks, one of each kind.
WIDTHS = {"hiera_l": (144, 2), "hiera_h": (256, 4)}
BLOCKS = (1, 2, 2, 1)
THEIR_NAMES = {
    "hiera_b": "hiera_base_16x224",
    "hiera_b_plus": "hiera_base_plus_16x224",
    "hiera_l": "hiera_large_16x224",
    "hiera_h": "hiera_huge_16x224",
}


def _theirs(name):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the package imports timm by its old names
        import hiera

        return getattr(hiera, name)().eval()


@pytest.fixture(scope="module", params=list(THEIR_NAMES))
def pair(request):
    """Our model and the authors', with the same scrambled weights."""
    name = request.param
    torch.manual_seed(0)
    if name in WIDTHS:
        dim, heads = WIDTHS[name]
        ours = Hiera(dim, heads, BLOCKS).eval()
    else:
        ours = zoo.create(name)
    scramble(ours, torch.zeros(SHAPE))
    return name, ours, beside("hiera", ours, name=name).module


def _coarse_clip(seed):
    """Noise in squares of 16 pixels; that of single pixels averages out over so many tokens."""
    cells = random_clip((1, 3, 16, 14, 14), seed=seed)
    return cells.repeat_interleave(16, dim=3).repeat_interleave(16, dim=4)


def test_logits_and_features_are_equal(pair):
    _, ours, theirs = pair
    shown, hidden = _coarse_clip(1), _coarse_clip(2)
    with torch.no_grad():
        logits, wanted = theirs(shown, return_intermediates=True)
        final, found = ours.forward_intermediates(shown)
        given, other = ours.forward_head(final), ours(hidden)
    assert (given - other).abs().max() > 0.01 * given.abs().max()  # it listens
    assert_close(given, logits)
    for level, grid in zip(found, wanted, strict=True):
        assert_close(level.movedim(1, -1), grid)
    assert_close(final, wanted[-1].flatten(1, 3))


def test_conversion_goes_both_ways_bit_for_bit(pair):
    name, ours, theirs = pair
    wanted = ours.state_dict()
    if name in WIDTHS:
        keymap = registry.load(name).layouts["hiera"]
        shapes = {key: tuple(value.shape) for key, value in wanted.items()}
        state = keymap.convert(theirs.state_dict(), shapes)
    else:
        state = converters.convert(theirs.state_dict(), name=name)
    assert state.keys() == wanted.keys()
    assert all(torch.equal(state[key], wanted[key]) for key in wanted)


@pytest.mark.parametrize("name", list(THEIR_NAMES))
def test_every_size_has_the_authors_tensors(name, monkeypatch):
    real = torch.linspace
    monkeypatch.setattr(torch, "linspace", lambda *args: real(*args, device="cpu"))
    with torch.device("meta"):  # no memory for the 672 million numbers of the huge one
        built = _theirs(THEIR_NAMES[name])
        ours = registry.load(name).build()
    theirs = built.state_dict()
    heads = [block.attn.heads for block in built.blocks]
    assert [block.attn.num_heads for block in ours.blocks] == heads
    exported = converters.export(ours, target="hiera", name=name)
    assert {key: value.shape for key, value in exported.items()} == {
        key: value.shape for key, value in theirs.items()
    }
    record = registry.info(name).weights[0]
    assert record.source.repo_id == f"facebook/{THEIR_NAMES[name]}.mae_k400_ft_k400"
    assert record.mirrors[0].url.endswith(f"/hiera/{THEIR_NAMES[name]}.pth")
