"""ViViT against transformers' own, both ways."""

import pytest
import torch
from scrambling import assert_close, assert_listens, random_clip, scramble

import converters
import zoo
from zoo.benchmarking.peers import beside

pytestmark = pytest.mark.peer
# All of the authors' frames at half their size: a quarter of the tubelets.
SHAPE = (1, 3, 32, 112, 112)
TINY = {
    "num_labels": 7,
    "hidden_size": 32,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "tubelet_size": [2, 8, 8],
}


@pytest.fixture(scope="module")
def pair():
    """vivit_b and the default configuration of transformers, which is that of its checkpoint."""
    from transformers import VivitConfig

    torch.manual_seed(0)
    ours = scramble(zoo.create("vivit_b", img_size=112), torch.zeros(SHAPE))
    theirs = beside("transformers", ours).module
    # Sizes were read off ours; the heads, which no tensor's shape shows, must be theirs.
    assert theirs.config.num_attention_heads == VivitConfig().num_attention_heads
    return ours, theirs


def test_logits_and_features_are_equal(pair):
    ours, theirs = pair
    assert_listens(ours, SHAPE)
    clip = random_clip(SHAPE, seed=1)
    with torch.no_grad():
        features = ours.forward_features(clip)
        hidden = theirs.vivit(clip.transpose(1, 2)).last_hidden_state  # takes (N, T, C, H, W)
        assert_close(features, hidden)
        assert_close(ours.forward_head(features), theirs.classifier(hidden[:, 0]))
        wanted = theirs(clip.transpose(1, 2)).logits
    assert_close(ours(clip), wanted)


def test_conversion_goes_both_ways_bit_for_bit(pair):
    ours, theirs = pair
    wanted = ours.state_dict()
    for state in (theirs.state_dict(), converters.export(ours, target="transformers")):
        found = converters.convert(state, name="vivit_b", img_size=112)
        assert found.keys() == wanted.keys()
        assert all(torch.equal(found[key], wanted[key]) for key in wanted)


def test_the_authors_size_goes_both_ways():
    ours = zoo.create("vivit_b")
    exported = converters.export(ours, target="transformers")
    assert exported["vivit.embeddings.position_embeddings"].shape == (1, 1 + 16 * 14 * 14, 768)
    back = converters.convert(exported, name="vivit_b", source="transformers")
    assert all(torch.equal(back[key], value) for key, value in ours.state_dict().items())


def _tiny(**arguments):
    torch.manual_seed(0)
    made = zoo.create("test_vivit", **arguments)
    return scramble(made, torch.zeros(1, 3, made.num_frames, made.img_size, made.img_size))


def test_transformers_reads_a_file_of_the_hubs_names(tmp_path):
    """Files on the Hub keep the names of transformers 4, which version 5 renames on reading."""
    from safetensors.torch import save_file
    from transformers import VivitConfig, VivitForVideoClassification

    ours = _tiny()
    VivitConfig(**TINY, num_frames=8, image_size=32).save_pretrained(tmp_path)
    save_file(converters.export(ours, target="transformers"), tmp_path / "model.safetensors")
    theirs, report = VivitForVideoClassification.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(report[kind] for kind in ("missing_keys", "unexpected_keys"))
    clip = random_clip((2, 3, 8, 32, 32), seed=1)
    with torch.no_grad():
        assert_close(ours(clip), theirs.eval()(clip.transpose(1, 2)).logits)


@pytest.mark.parametrize(("num_frames", "img_size"), [(8, 32), (16, 32), (32, 32), (8, 48)])
def test_other_clips_are_those_of_a_model_configured_for_them(num_frames, img_size):
    """transformers resamples the table as a square one of pictures: the size in its configuration
    is changed here, and its table is ours."""
    small = _tiny()
    ours = zoo.create("test_vivit", num_frames=num_frames, img_size=img_size)
    state = small.state_dict()
    ours.resize_positions(state, trained=small.record)
    ours.load_state_dict(state, strict=True)
    shape = (2, 3, num_frames, img_size, img_size)
    assert_listens(ours, shape)
    peer = beside("transformers", ours, name="vivit_b")
    clip = random_clip(shape, seed=1)
    with torch.no_grad():
        assert_close(ours(clip), peer(clip))


def test_transformers_own_resampling_is_no_reference():
    """It fails, or gives back the table of the other grid."""
    small = _tiny()
    theirs = beside("transformers", small, name="vivit_b").module
    clip = random_clip((1, 8, 3, 48, 48), seed=1)
    with torch.no_grad(), pytest.raises(RuntimeError):
        theirs(clip, interpolate_pos_encoding=True)


def test_the_recipe_is_scenics_and_not_that_of_the_processor():
    """The processor on the Hub scales pixels to [-1, 1] and normalises them once more."""
    import numpy as np
    from transformers import VivitImageProcessor

    recipe = zoo.info("vivit_b").weights[0].preprocess
    edges = torch.tensor([0.0, 1.0])
    assert ((edges - recipe.mean[0]) / recipe.std[0]).tolist() == [-1.0, 1.0]
    assert (recipe.resize, recipe.img_size) == (256, 224)
    processor = VivitImageProcessor(do_normalize=True)
    frames = [np.zeros((256, 256, 3), np.uint8), np.full((256, 256, 3), 255, np.uint8)]
    pixels = processor(frames, return_tensors="pt")["pixel_values"]
    assert pixels.min() < -2.9
