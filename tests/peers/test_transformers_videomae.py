"""VideoMAE against transformers' own, both ways.

transformers' default eps is 1e-12 within the blocks and 1e-5 in `fc_norm` and the decoder's norm;
the authors' is 1e-6 everywhere, and is put into both sides here.
"""

import pytest
import torch
from scrambling import assert_close, assert_listens, random_clip, scramble

import registry
from zoo.benchmarking.peers import beside
from zoo.models.videomae import VideoMAE
from zoo.models.videomae_pretrain import VideoMAEPretrain

pytestmark = pytest.mark.peer
# Width, depth, heads, patch, ratio, classes, frames, size: b as it was published, s at a smaller
# clip, two blocks at full width of what is larger.
MODELS = {
    "videomae_s": (384, 12, 6, 16, 4.0, 174, 16, 112),
    "videomae_b": (768, 12, 12, 16, 4.0, 400, 16, 224),
    "videomae_l": (1024, 2, 16, 16, 4.0, 400, 8, 64),
    "videomae_h": (1280, 2, 16, 16, 4.0, 400, 8, 64),
    "videomae_v2_g": (1408, 2, 16, 14, 48 / 11, 710, 8, 56),
}


@pytest.fixture(scope="module", params=MODELS)
def pair(request):
    """Our model and transformers', with the same scrambled weights."""
    name = request.param
    width, depth, heads, patch, ratio, classes, frames, size = MODELS[name]
    torch.manual_seed(0)
    ours = VideoMAE(
        width,
        depth,
        heads,
        patch,
        ratio,
        num_classes=classes,
        num_frames=frames,
        img_size=size,
        native_frames=frames,
        native_size=size,
    ).eval()
    with torch.device("meta"):
        whole = registry.load(name).build(num_classes=classes)
    assert whole.blocks[0].attn.num_heads == heads
    for key, value in ours.state_dict().items():
        assert whole.state_dict()[key].shape == value.shape
    scramble(ours, torch.zeros(1, 3, frames, size, size))
    layout = registry.load(name).layouts["transformers"]
    return layout, ours, beside("transformers", ours, name=name).module


def _shape(model):
    return (1, 3, model.num_frames, model.img_size, model.img_size)


def test_logits_and_features_are_equal(pair):
    _, ours, theirs = pair
    assert_listens(ours, _shape(ours))
    clip = random_clip(_shape(ours), seed=1)
    with torch.no_grad():
        features = ours.forward_features(clip)
        found = ours.forward_head(features)
        wanted = theirs(clip.transpose(1, 2), output_hidden_states=True)  # (N, T, C, H, W)
    assert_close(found, wanted.logits)
    assert_close(features, wanted.hidden_states[-1])


def test_conversion_goes_both_ways_bit_for_bit(pair):
    layout, ours, theirs = pair
    wanted = ours.state_dict()
    shapes = {key: tuple(value.shape) for key, value in wanted.items()}
    state = layout.convert(theirs.state_dict(), shapes)
    assert state.keys() == wanted.keys()
    assert all(torch.equal(state[key], wanted[key]) for key in wanted)


@pytest.fixture(scope="module", params=["videomae_pretrain_s", "videomae_pretrain_h"])
def pretraining(request):
    """The model with its decoder: the whole of s, two blocks on either side of h."""
    from transformers import VideoMAEConfig, VideoMAEForPreTraining

    name = request.param
    entry = registry.load(name)
    with torch.device("meta"):
        whole = entry.build()
    depths = (12, 4) if name.endswith("_s") else (2, 2)
    width, inner = whole.num_features, whole.mask_token.shape[-1]
    heads = whole.blocks[0].attn.num_heads, whole.decoder.blocks[0].attn.num_heads
    torch.manual_seed(0)
    ours = VideoMAEPretrain(
        width, depths[0], heads[0], inner, depths[1], heads[1], img_size=64, native_size=64
    ).eval()
    scramble(ours, torch.zeros(1, 3, 16, 64, 64))
    config = VideoMAEConfig(
        image_size=64,
        hidden_size=width,
        num_hidden_layers=depths[0],
        num_attention_heads=heads[0],
        intermediate_size=4 * width,
        decoder_hidden_size=inner,
        decoder_num_hidden_layers=depths[1],
        decoder_num_attention_heads=heads[1],
        decoder_intermediate_size=4 * inner,
        use_mean_pooling=False,
        layer_norm_eps=1e-6,
    )
    theirs = VideoMAEForPreTraining(config).eval()
    theirs.decoder.norm.eps = 1e-6
    layout = entry.layouts["transformers"]
    theirs.load_state_dict(layout.export(ours.state_dict()), strict=True)
    return layout, ours, theirs


@pytest.mark.parametrize("normalise", [True, False])
def test_predictions_and_loss_are_equal(pretraining, normalise):
    _, ours, theirs = pretraining
    x = random_clip((2, 3, 16, 64, 64), seed=1)
    mask = ours.tube_mask(2, 0.75, generator=torch.Generator().manual_seed(0))
    theirs.config.norm_pix_loss = normalise
    with torch.no_grad():
        wanted = theirs(x.transpose(1, 2), bool_masked_pos=mask)
        found = ours.forward_pretrain(x, mask)
        other = ours.forward_pretrain(random_clip((2, 3, 16, 64, 64), seed=2), mask)
        loss = ours.loss(x, mask, normalise=normalise)
    assert (other - found).abs().max() > 0.01 * found.abs().max()
    assert_close(found, wanted.logits)
    assert loss.item() == pytest.approx(wanted.loss.item(), rel=1e-5)


def test_the_decoder_is_converted_both_ways_bit_for_bit(pretraining):
    test_conversion_goes_both_ways_bit_for_bit(pretraining)
