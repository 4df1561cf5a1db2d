"""What the contract does not see in the two families built of Inception blocks."""

import pytest
import torch
import torch.nn.functional as F
from scrambling import assert_close, random_clip, scramble

import registry
import zoo
from zoo.models.i3d_inception import SameConv, SamePool


@pytest.fixture(params=["test_s3d", "test_i3d_inception"])
def model(request):
    torch.manual_seed(0)
    return scramble(zoo.create(request.param), torch.zeros(4, 3, 8, 32, 32))


@pytest.mark.parametrize("t", [8, 16, 32])
@pytest.mark.parametrize("size", [32, 64])
def test_other_frames_and_sizes_are_taken(model, t, size):
    with torch.no_grad():
        features = model.forward_features(random_clip((1, 3, t, size, size), seed=1))
        assert features.shape[2:] == (t // 8, size // 32, size // 32)
        assert model.forward_head(features).isfinite().all()


def test_the_head_averages_logits_over_windows(model):
    """Not over places: those at the border of a map lie in fewer windows."""
    x = torch.randn(2, model.num_features, 4, 8, 9)
    windows = [
        x[:, :, t : t + 2, h : h + 7, w : w + 7].mean(dim=(2, 3, 4))
        for t in range(3)
        for h in range(2)
        for w in range(3)
    ]
    with torch.no_grad():
        wanted = torch.stack([model.fc(window) for window in windows]).mean(dim=0)
        assert_close(model.forward_head(x), wanted, tolerance=1e-5)
        error = (model.fc(x.mean(dim=(2, 3, 4))) - wanted).abs().max() / wanted.abs().max()
    assert error > 1e-2


def test_a_map_smaller_than_the_window_is_averaged_whole(model):
    x = torch.randn(2, model.num_features, 1, 3, 4)
    with torch.no_grad():
        wanted = model.fc(x.mean(dim=(2, 3, 4)))
        assert_close(model.forward_head(x), wanted, tolerance=1e-5)


@pytest.mark.parametrize("size", range(7, 16))
def test_same_padding_depends_on_the_size_as_in_tensorflow(size):
    """TensorFlow's rule: ceil(size / stride) windows, the smaller half of the padding in front."""
    layer = SameConv(1, 1, 7, 2).eval()
    torch.nn.init.normal_(layer.conv.weight)
    x = torch.randn(1, 1, size, 8, 8)
    out = -(-size // 2)
    total = max((out - 1) * 2 + 7 - size, 0)
    padded = F.pad(x, (2, 3, 2, 3, total // 2, total - total // 2))
    wanted = F.relu(F.conv3d(padded, layer.conv.weight, stride=2) / (1 + 1e-3) ** 0.5)
    with torch.no_grad():
        found = layer(x)
    assert found.shape[2] == out
    assert torch.allclose(found, wanted, atol=1e-5)


def test_pools_pad_behind_first():
    x = torch.arange(1.0, 9.0).reshape(1, 1, 8, 1, 1)
    assert SamePool(3, 3, 2)(x).flatten().tolist() == [3, 5, 7, 8]
    assert SamePool(2, 2, 2)(x[:, :, :7]).flatten().tolist() == [2, 4, 6, 7]


def test_norms_are_the_authors():
    model = zoo.create("test_i3d_inception")
    found = {(m.eps, m.momentum) for m in model.modules() if isinstance(m, torch.nn.BatchNorm3d)}
    assert found == {(1e-3, 0.01)}


def test_flow_is_for_the_caller_to_compute():
    facts = registry.info("i3d_inception_flow")
    assert {len(weights.preprocess.mean) for weights in facts.weights} == {2}
    with torch.device("meta"):
        model = registry.load("i3d_inception_flow").build()
    assert model.stem.conv.weight.shape == (64, 2, 7, 7, 7)
