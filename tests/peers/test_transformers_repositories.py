"""Repositories that transformers itself wrote give its logits, from tiny random configurations."""

import json

import numpy as np
import pytest
import torch
from scrambling import assert_close, assert_listens, random_clip

import zoo

pytestmark = pytest.mark.peer

_VIT = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 128,
    "patch_size": 8,
    "image_size": 32,
    "num_labels": 5,
    "layer_norm_eps": 1e-6,
}
_TEXT = {"intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
_XCLIP = {
    "text_config": _TEXT | {"hidden_size": 16, "vocab_size": 16, "max_position_embeddings": 8},
    "vision_config": {
        "hidden_size": 32,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "patch_size": 8,
        "image_size": 32,
        "num_frames": 4,
        "mit_hidden_size": 16,
        "mit_intermediate_size": 64,
        "mit_num_attention_heads": 2,
    },
    "projection_dim": 16,
    "prompt_num_attention_heads": 2,
}
_VJEPA2 = {
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "crop_size": 32,
    "frames_per_clip": 4,
    "num_labels": 5,
    "pred_hidden_size": 16,
    "pred_num_attention_heads": 2,
    "pred_num_hidden_layers": 1,
}
# transformers' class and configuration, its arguments, and our name
CASES = {
    "videomae": ("VideoMAEForVideoClassification", "VideoMAEConfig", _VIT, "test_videomae"),
    "videomae_8": (
        "VideoMAEForVideoClassification",
        "VideoMAEConfig",
        _VIT | {"num_frames": 8, "image_size": 48},
        "test_videomae",
    ),
    "timesformer": (
        "TimesformerForVideoClassification",
        "TimesformerConfig",
        _VIT | {"num_frames": 4},
        "test_timesformer_divided",
    ),
    "joint": (
        "TimesformerForVideoClassification",
        "TimesformerConfig",
        _VIT | {"num_frames": 6, "attention_type": "joint_space_time"},
        "test_timesformer_joint",
    ),
    "vivit": (
        "VivitForVideoClassification",
        "VivitConfig",
        _VIT | {"num_frames": 8, "tubelet_size": [2, 8, 8]},
        "test_vivit",
    ),
    "vjepa2": ("VJEPA2ForVideoClassification", "VJEPA2Config", _VJEPA2, "test_vjepa2"),
}
LABELS = ("wave", "clap", "nod", "jump", "sit")


def _theirs(kind, configuration, options, **more):
    """A scrambled model of transformers."""
    import transformers

    torch.manual_seed(0)
    theirs = getattr(transformers, kind)(getattr(transformers, configuration)(**options, **more))
    # Fresh biases and norms hide what they are confused with.
    for value in theirs.state_dict().values():
        if value.is_floating_point() and value.ndim:
            value.add_(0.2 * torch.randn_like(value))
    if hasattr(theirs, "fc_norm") and theirs.fc_norm is not None:
        theirs.fc_norm.eps = 1e-6
    return theirs.eval()


@pytest.mark.parametrize("case", CASES)
def test_a_repository_gives_transformers_logits(case, tmp_path):
    kind, configuration, options, name = CASES[case]
    theirs = _theirs(kind, configuration, options, id2label=dict(enumerate(LABELS)))
    theirs.save_pretrained(tmp_path)
    ours = zoo.create(f"local-dir:{tmp_path}")
    assert ours.record.architecture == name
    assert ours.record.labels == LABELS
    shape = (2, 3, ours.num_frames, ours.img_size, ours.img_size)
    assert_listens(ours, shape)
    clip = random_clip(shape, seed=1)
    with torch.no_grad():
        wanted = theirs(clip.transpose(1, 2)).logits
        assert_close(ours(clip), wanted)
        clip = random_clip((2, 3, *shape[2:]), seed=2)
        assert_close(ours(clip), theirs(clip.transpose(1, 2)).logits)


def test_a_pretraining_repository_gives_transformers_predictions(tmp_path):
    options = _VIT | {
        "decoder_hidden_size": 16,
        "decoder_num_hidden_layers": 2,
        "decoder_num_attention_heads": 2,
        "decoder_intermediate_size": 64,
        "use_mean_pooling": False,
    }
    theirs = _theirs("VideoMAEForPreTraining", "VideoMAEConfig", options)
    theirs.decoder.norm.eps = 1e-6
    theirs.save_pretrained(tmp_path)
    ours = zoo.create(f"local-dir:{tmp_path}")
    assert ours.record.architecture == "test_videomae_pretrain"
    assert ours.num_classes == 0
    clip = random_clip((2, 3, 16, 32, 32), seed=1)
    mask = ours.tube_mask(2, 0.75, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        wanted = theirs(clip.transpose(1, 2), bool_masked_pos=mask).logits
        assert_close(ours.forward_pretrain(clip, mask), wanted)


def test_an_encoder_without_classifier_gives_transformers_features(tmp_path):
    theirs = _theirs("VJEPA2Model", "VJEPA2Config", _VJEPA2)
    theirs.save_pretrained(tmp_path)
    with pytest.warns(UserWarning, match=r"has no pooler; these layers are random"):
        ours = zoo.create(f"local-dir:{tmp_path}")
    clip = random_clip((2, 3, 4, 32, 32), seed=1)
    with torch.no_grad():
        wanted = theirs(clip.transpose(1, 2), skip_predictor=True).last_hidden_state
        assert_close(ours.forward_features(clip), wanted)


def test_an_xclip_repository_gives_transformers_logits(tmp_path):
    theirs = _theirs("XCLIPModel", "XCLIPConfig", _XCLIP)
    theirs.save_pretrained(tmp_path)
    ours = zoo.create(f"local-dir:{tmp_path}")
    assert ours.record.architecture == "test_xclip"
    shape = (2, 3, 4, 32, 32)
    assert_listens(ours, shape)
    clip = random_clip(shape, seed=1)
    with torch.no_grad():
        wanted = theirs(ours.head.class_tokens, clip.transpose(1, 2)).logits_per_video
        assert_close(ours(clip), wanted)


PROCESSORS = {
    "videomae": ("VideoMAEImageProcessor", {"size": {"shortest_edge": 40}}),
    "exact": (
        "VideoMAEImageProcessor",
        {"size": {"height": 32, "width": 32}, "do_center_crop": False, "resample": 3},
    ),
    "vivit": ("VivitImageProcessor", {"size": {"shortest_edge": 48}}),
    "plain": ("VideoMAEImageProcessor", {"size": {"shortest_edge": 32}, "do_normalize": False}),
}


@pytest.mark.parametrize("case", PROCESSORS)
def test_frames_are_prepared_as_the_repositorys_processor_does(case, tmp_path):
    import transformers

    kind, options = PROCESSORS[case]
    processor = getattr(transformers, kind)(crop_size={"height": 32, "width": 32}, **options)
    processor.save_pretrained(tmp_path)
    _theirs(*CASES["videomae"][:3]).save_pretrained(tmp_path)
    ours = zoo.create(f"local-dir:{tmp_path}")
    frames = np.random.default_rng(0).integers(0, 255, (4, 60, 80, 3), dtype=np.uint8)
    wanted = processor(list(frames), return_tensors="pt")["pixel_values"][0].transpose(0, 1)
    found = zoo.preprocess(frames, ours.record.preprocess)[0]
    assert found.shape == wanted.shape
    std = torch.tensor(ours.record.preprocess.std)[:, None, None, None]
    # transformers rescales in another order, which costs a rounding of its own.
    assert ((found - wanted) * std * 255).abs().max() <= 1.01


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"hidden_act": "relu"}, "hidden_act is 'relu', where the zoo's network has 'gelu'"),
        ({"layer_norm_eps": 0.1}, "layer_norm_eps is 0.1, where 1e-05 is the most"),
        ({"hidden_size": 48}, r"None of .*test_videomae.* is of this size: hidden_size=48"),
        ({"num_frames": 10**9}, "arguments.num_frames is at most 16384, not 1000000000"),
        ({"id2label": {"0": "a", "1": "b"}}, r"another size .*num_classes=2 \(5\)"),
        ({"id2label": {"0": "a", "2": "b"}}, "id2label names 2 classes"),
        ({"architectures": ["VideoMAEModel"]}, "holds a 'VideoMAEModel' of transformers; the zoo"),
        ({"model_type": "video_mae"}, r"'video_mae' of transformers, .* Did you mean 'videomae'\?"),
    ],
)
def test_a_configuration_of_another_network_is_refused(change, sentence, tmp_path):
    _theirs(*CASES["videomae"][:3]).save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises((ValueError, LookupError), match=sentence):
        zoo.create(f"local-dir:{tmp_path}")
