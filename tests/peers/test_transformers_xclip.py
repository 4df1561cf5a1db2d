"""X-CLIP against transformers' own, both ways, and its tokens against transformers' tokenizer.

The large model's mixer and prompts get the 12 heads that its authors trained; the published
configuration leaves transformers' default of 8 there.
"""

import gzip
import json
from pathlib import Path

import pytest
import torch
from scrambling import assert_close, assert_listens, random_clip, scramble

import converters
import registry
from zoo.benchmarking.peers import beside
from zoo.models._clip_text import tokenize
from zoo.models.xclip import XCLIP

pytestmark = pytest.mark.peer

# Patch, width, blocks, width of the text tower, its blocks, frames, side.
CASES = {
    "xclip_b32": (32, 768, 12, 512, 12, 8, 224),
    "xclip_b16": (16, 768, 12, 512, 12, 8, 224),
    "xclip_l14": (14, 1024, 2, 768, 2, 4, 336),
}
NAMES = ["abseiling", "air drumming", "presenting weather forecast", "zumba"]


@pytest.fixture(scope="module", params=CASES)
def pair(request):
    """Our model and transformers', at full width, with the same scrambled weights and names."""
    torch.manual_seed(0)
    patch, width, depth, text, text_depth, frames, side = CASES[request.param]
    shape = (1, 3, frames, side, side)
    ours = XCLIP(patch, width, depth, text, text_depth, num_frames=frames, img_size=side).eval()
    scramble(ours, torch.zeros(shape))
    ours.set_class_names(NAMES)
    theirs = beside("transformers", ours, name=request.param).module
    vision = theirs.config.vision_config
    assert vision.num_attention_heads == width // 64
    assert vision.mit_num_attention_heads == text // 64
    assert theirs.config.prompt_num_attention_heads == text // 64
    assert theirs.config.text_config.num_attention_heads == text // 64
    return request.param, ours, theirs, shape


def test_logits_features_and_embeddings_are_equal(pair):
    _, ours, theirs, shape = pair
    assert_listens(ours, shape)
    clip = random_clip(shape, seed=1)
    t = shape[2]
    with torch.no_grad():
        features = ours.forward_features(clip)
        wanted = theirs(ours.head.class_tokens, clip.transpose(1, 2))
        tokens = wanted.vision_model_output.last_hidden_state  # (N*T, 1 + L, D)
        assert_close(features[0, :t], tokens[:, 0])
        assert_close(features[0, t:], tokens[:, 1:].flatten(0, 1))
        video = ours.forward_head(features, pre_logits=True)
        assert_close(torch.nn.functional.normalize(video), wanted.video_embeds)
        places = ours.prompt_proj(ours.prompt_norm(features[:, t:])).unflatten(1, (t, -1)).mean(1)
        texts = ours.head.class_features()[None]
        texts = texts + ours.head.prompts(texts, places)
        assert_close(torch.nn.functional.normalize(texts, dim=-1), wanted.text_embeds)
        assert_close(ours(clip), wanted.logits_per_video)


def test_a_name_among_others_changes_no_other_logit(pair):
    _, ours, _, shape = pair
    clip = random_clip(shape, seed=1)
    with torch.no_grad():
        logits = ours(clip)
        ours.set_class_names([*NAMES[::-1], "putting something on a surface"])
        assert_close(ours(clip)[:, :4].flip(1), logits, tolerance=1e-5)
        ours.set_class_names(NAMES)


def test_conversion_goes_both_ways_bit_for_bit(pair):
    name, ours, theirs, _ = pair
    wanted = ours.state_dict()
    shapes = {key: tuple(value.shape) for key, value in wanted.items()}
    keymap = registry.load(name).layouts["transformers"]
    stored = {  # by older versions
        f"{tower}.embeddings.position_ids": torch.arange(3)
        for tower in ("text_model", "vision_model")
    }
    state = keymap.convert({**theirs.state_dict(), **stored}, shapes)
    assert state.keys() == wanted.keys()
    assert all(torch.equal(state[key], wanted[key]) for key in wanted)


def test_full_size_names_and_shapes_of_the_large_model_are_transformers_own():
    from transformers import XCLIPConfig, XCLIPModel

    text = {"hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12}
    vision = {
        "hidden_size": 1024,
        "intermediate_size": 4096,
        "num_attention_heads": 16,
        "num_hidden_layers": 24,
        "patch_size": 14,
        "mit_hidden_size": 768,
        "mit_intermediate_size": 3072,
    }
    for frames, side in ((8, 224), (16, 336)):
        config = XCLIPConfig(
            text_config=text,
            vision_config=vision | {"num_frames": frames, "image_size": side},
            projection_dim=768,
        )
        with torch.device("meta"):
            theirs = XCLIPModel(config).state_dict()
        converters.convert(theirs, name="xclip_l14", num_frames=frames, img_size=side)


def test_tokens_are_those_of_transformers(tmp_path):
    import open_clip
    from transformers import CLIPTokenizer

    path = Path(open_clip.__file__).with_name("bpe_simple_vocab_16e6.txt.gz")
    lines = gzip.decompress(path.read_bytes()).decode().split("\n")[1 : 49152 - 256 - 2 + 1]
    (tmp_path / "merges.txt").write_text("\n".join(["#version: 0.2", *lines]), encoding="utf-8")
    encoder = open_clip.tokenizer.SimpleTokenizer().encoder
    names = {
        "<start_of_text>": "<|startoftext|>",
        "<end_of_text>": "<|endoftext|>",
    }
    vocabulary = {names.get(key, key): value for key, value in encoder.items()}
    (tmp_path / "vocab.json").write_text(json.dumps(vocabulary), encoding="utf-8")
    theirs = CLIPTokenizer(str(tmp_path / "vocab.json"), str(tmp_path / "merges.txt"))
    for labels in ("kinetics400", "kinetics600", "ucf101", "hmdb51_xclip"):
        found = tokenize(registry.labels(labels), context_length=77)
        for name, row in zip(registry.labels(labels), found.tolist(), strict=True):
            wanted = theirs(name)["input_ids"]
            assert row[: len(wanted)] == wanted
            assert not any(row[len(wanted) :])


def test_names_given_to_create_become_the_classes():
    import zoo

    model = zoo.create("xclip_b32", labels=["playing sports", "eating spaghetti"])
    assert model.head.class_tokens[0].tolist() == [49406, 1629, 2054, 49407]
    assert model.head.class_tokens.shape == (2, 4)
    assert model.record.labels == ("playing sports", "eating spaghetti")
    model.set_class_names(registry.labels("kinetics400"))
    assert model.num_classes == model.record.arguments["num_classes"] == 400
