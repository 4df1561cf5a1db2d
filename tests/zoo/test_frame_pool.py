"""Pooling over frames against its formula, on clips that move."""

import pytest
import torch
from scrambling import scramble

import zoo
from zoo.layers import make_frame_pool


def test_pools_follow_their_formulas():
    torch.manual_seed(0)
    frames = torch.randn(2, 5, 3)  # (N, T, D)
    assert torch.allclose(make_frame_pool("avg", 3)(frames), frames.mean(1))
    assert torch.equal(make_frame_pool("max", 3)(frames), frames.max(1).values)
    pool = make_frame_pool("attention", 3)
    assert torch.allclose(pool(frames), frames.mean(1), atol=1e-6)  # a query of zero
    with torch.no_grad():
        pool.query.copy_(torch.tensor([1.0, -2.0, 0.5]))
    for clip, found in zip(frames, pool(frames).detach(), strict=True):
        scores = [float(frame @ pool.query.detach()) / 3**0.5 for frame in clip]
        weights = torch.tensor(scores).exp()
        wanted = sum(w * frame for w, frame in zip(weights / weights.sum(), clip, strict=True))
        assert torch.allclose(found, wanted, atol=1e-5)
    with pytest.raises(ValueError, match="Unknown pooling 'mean'. Known: avg, max, attention"):
        make_frame_pool("mean", 3)


@pytest.mark.parametrize("pooling", ["avg", "max", "attention"])
def test_framepool_is_blind_to_order_and_learns_under_every_pooling(pooling):
    torch.manual_seed(0)
    model = zoo.create("test_framepool", pooling=pooling)
    scramble(model, torch.zeros(4, 3, 6, 32, 32))
    clip = torch.randn(2, 3, 6, 32, 32)
    with torch.no_grad():
        logits = model(clip)
        for order in ([5, 4, 3, 2, 1, 0], [1, 3, 5, 0, 2, 4]):
            shuffled = model(clip[:, :, order])
            assert (shuffled - logits).abs().max() < 1e-5 * logits.abs().max()
    model.train()
    model(torch.randn(4, 3, 6, 32, 32)).square().sum().backward()
    assert [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()] == []
