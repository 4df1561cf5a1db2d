"""Masked pre-training: the authors' predictions and loss, masks, and what a mask hides."""

import pytest
import torch
from golden_rule import clip, filled, golden
from scrambling import assert_close, random_clip, scramble

import converters
import zoo

FACTS = golden("videomae")["pretraining"]
SHAPE = (2, 3, 16, 32, 32)


def _golden_model():
    name = "test_videomae_pretrain"
    model = zoo.create(name, num_classes=0)
    state = filled(FACTS["shapes"])
    model.load_state_dict(converters.convert(state, name=name, source="videomae", num_classes=0))
    return model


def _golden_mask():
    mask = torch.zeros(2, 16, dtype=torch.bool)
    for row, places in zip(mask, FACTS["masked"], strict=True):
        row[places] = True
    return mask.repeat(1, 8)


def _thinned(predictions):
    step = FACTS["step"]
    return predictions[:, ::step, ::step].flatten(0, 1)


def test_predictions_and_loss_are_the_authors():
    model, mask, x = _golden_model(), _golden_mask(), clip(FACTS["clip"])
    wanted = torch.tensor(FACTS["predictions"])
    with torch.no_grad():
        assert_close(_thinned(model.forward_pretrain(x, mask)), wanted)
        for name, normalise in (("normalised", True), ("plain", False)):
            found = model.loss(x, mask, normalise=normalise).item()
            assert found == pytest.approx(FACTS["loss"][name], rel=1e-5)
        for harm in (model.blocks[1].mlp.fc2.weight, model.decoder.blocks[0].attn.q_bias):
            kept = harm.clone()
            harm.mul_(1.1)
            error = (_thinned(model.forward_pretrain(x, mask)) - wanted).abs().max()
            assert error > 1e-3 * wanted.abs().max()
            harm.copy_(kept)


def test_a_tube_hides_the_same_places_in_every_frame():
    model = zoo.create("test_videomae_pretrain", num_frames=8, img_size=64)
    made = [
        model.tube_mask(3, 0.9, generator=torch.Generator().manual_seed(seed)) for seed in (0, 0, 1)
    ]
    assert torch.equal(made[0], made[1])
    assert not torch.equal(made[0], made[2])
    places = made[0].unflatten(1, (4, 64))
    assert torch.equal(places, places[:, :1].expand_as(places))
    assert places[:, 0].sum(dim=1).tolist() == [57] * 3  # the whole part of 0.9 x 64
    assert not torch.equal(places[0], places[1])
    for ratio in (0.0, 0.01, 1.0):
        with pytest.raises(ValueError, match="some must be hidden, and some visible"):
            model.tube_mask(1, ratio)


def test_what_is_hidden_does_not_reach_the_predictions():
    torch.manual_seed(0)
    model = scramble(zoo.create("test_videomae_pretrain"), torch.zeros(SHAPE))
    mask = model.tube_mask(2, 0.75)
    x = random_clip(SHAPE, seed=1)
    hidden = mask.unflatten(1, (8, 4, 4))[:, None]
    for axis, size in ((2, 2), (3, 8), (4, 8)):
        hidden = hidden.repeat_interleave(size, dim=axis)
    with torch.no_grad():
        found = model.forward_pretrain(x, mask)
        assert found.shape == (2, mask[0].sum(), 2 * 8 * 8 * 3)
        assert torch.equal(model.forward_pretrain(x.masked_fill(hidden, 5.0), mask), found)
        other = model.forward_pretrain(x.masked_fill(~hidden, 5.0), mask)
        assert (other - found).abs().max() > 0.01 * found.abs().max()


def test_targets_are_the_pixels_of_what_is_hidden():
    model = zoo.create("test_videomae_pretrain")
    mask = model.tube_mask(2, 0.75)
    pixels = torch.rand(SHAPE)
    record = model.record.preprocess
    mean, std = (torch.tensor(v).view(3, 1, 1, 1) for v in (record.mean, record.std))
    found = model.targets((pixels - mean) / std, mask, normalise=False)
    token = int(mask[1].nonzero()[5])
    t, row, column = token // 16, token // 4 % 4, token % 4
    tubelet = pixels[
        1, :, 2 * t : 2 * t + 2, 8 * row : 8 * row + 8, 8 * column : 8 * column + 8
    ]  # (C, 2, 8, 8)
    assert torch.allclose(found[1, 5], tubelet.permute(1, 2, 3, 0).flatten(), atol=1e-5)
    even = model.targets((pixels - mean) / std, mask)[1, 5].view(-1, 3)
    assert torch.allclose(even.mean(dim=0), torch.zeros(3), atol=1e-5)
    assert torch.allclose(even.std(dim=0), torch.ones(3), atol=1e-3)


@pytest.mark.parametrize("in_chans", [1, 3, 4])
def test_a_step_lowers_the_loss_and_moves_every_parameter(in_chans):
    torch.manual_seed(0)
    model = zoo.create("test_videomae_pretrain", num_classes=0, in_chans=in_chans).train()
    x = random_clip((4, in_chans, 16, 32, 32), seed=1)
    mask = model.tube_mask(4, 0.75, generator=torch.Generator().manual_seed(0))
    losses = []
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    for checkpointed in (False, True, True):
        model.set_grad_checkpointing(checkpointed)
        loss = model.loss(x, mask)
        optimizer.zero_grad()
        loss.backward()
        assert [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()] == []
        optimizer.step()
        losses.append(loss.item())
    assert losses[2] < losses[1] < losses[0]


@pytest.mark.parametrize(
    ("mask", "sentence"),
    [
        (torch.ones(2, 128), r"A mask is bool of shape \(2, 128\), got torch.float32"),
        (torch.ones(2, 64, dtype=torch.bool), r"of \(2, 64\); tube_mask makes one"),
        (torch.ones(2, 128, dtype=torch.bool), r"this one hides \[128, 128\] of 128"),
        (torch.arange(128) < torch.tensor([[50], [70]]), r"this one hides \[50, 70\] of 128"),
    ],
)
def test_a_wrong_mask_is_refused(mask, sentence):
    model = zoo.create("test_videomae_pretrain")
    with pytest.raises(ValueError, match=sentence):
        model.forward_pretrain(torch.randn(SHAPE), mask)


def test_both_tables_follow_the_clip():
    model = zoo.create("test_videomae_pretrain", num_frames=32, img_size=64)
    for table, dim in ((model.pos_embed, 32), (model.decoder_pos_embed, 16)):
        wanted = converters.resize_clip_table(
            zoo.models.videomae.sinusoid_table(128, dim), old=(8, 4, 4), new=(16, 8, 8)
        )
        assert torch.equal(table, wanted)
    x = torch.randn(1, 3, 32, 64, 64)
    assert model.loss(x, model.tube_mask(1)).isfinite()


def test_the_published_models_pool_and_classify_nothing():
    model = zoo.create("videomae_pretrain_s", num_frames=2, img_size=32)
    with torch.no_grad():
        assert model(torch.randn(1, 3, 2, 32, 32)).shape == (1, 384)
    assert model.record.labels is None
    assert len(model.decoder.blocks) == 4


@pytest.mark.parametrize("layout", ["zoo", "videomae", "transformers"])
def test_fine_tuning_starts_from_a_file_of_pre_training(tmp_path, layout):
    torch.manual_seed(0)
    start = scramble(zoo.create("test_videomae_pretrain", num_classes=0), torch.zeros(SHAPE))
    state = start.state_dict()
    if layout != "zoo":
        state = converters.export(start, target=layout)
    torch.save({"model": state}, tmp_path / "start.pth")
    with pytest.warns(UserWarning, match="classifier of 'test_videomae' is new"):
        model = zoo.create("test_videomae", checkpoint=tmp_path / "start.pth")
    assert model(torch.randn(SHAPE)).shape == (2, 7)
    for key, value in model.state_dict().items():
        if key.startswith(("patch_embed", "blocks")):
            assert torch.equal(value, start.state_dict()[key])
    assert torch.equal(model.fc_norm.weight, torch.ones(32))
    state["blocks.stray"] = torch.zeros(1)
    torch.save(state, tmp_path / "stray.pth")
    with pytest.raises(ValueError, match=r"blocks\.stray"):
        zoo.create("test_videomae", checkpoint=tmp_path / "stray.pth")
