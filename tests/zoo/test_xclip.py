"""X-CLIP: logits of its authors' own code, and classes that are their names."""

import io
import sys
import types
import warnings
from dataclasses import replace

import pytest
import torch
from golden_rule import clip, filled, golden
from scrambling import assert_close, assert_listens, random_clip, scramble

import converters
import registry
import zoo
from registry.records import UNKNOWN, UpstreamSource
from zoo.models import _clip_text
from zoo.models import xclip as family
from zoo.models.xclip import XCLIP

GOLDEN = golden("xclip")
SHAPE = (2, 3, 4, 32, 32)


class FakeTokenizer:
    """Letters a to m are the tokens 0 to 12 of the tiny vocabulary."""

    sot_token_id, eot_token_id = 14, 15

    def encode(self, name):
        return [ord(letter) - ord("a") for letter in name]


@pytest.fixture
def letters(monkeypatch):
    module = types.SimpleNamespace(SimpleTokenizer=FakeTokenizer)
    monkeypatch.setitem(sys.modules, "open_clip.tokenizer", module)


def _authors():
    """Our model with the authors' weights and names, at the shapes of the golden file."""
    model = XCLIP(8, 128, 2, 128, 2, 1, 2, 64, 16, 8, num_classes=5, num_frames=4, img_size=32)
    shapes = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    state = filled(GOLDEN["shapes"])
    keymap = registry.load("test_xclip").layouts["xclip"]
    model.load_state_dict(keymap.convert(state, shapes), strict=True)
    model.head.set_tokens(torch.tensor(GOLDEN["tokens"]))
    return model.eval(), state, keymap


def test_gives_its_authors_logits():
    model, _, _ = _authors()
    assert_listens(model, SHAPE)
    wanted = torch.tensor(GOLDEN["logits"])
    with torch.no_grad():
        assert_close(model(clip(SHAPE)), wanted)
        video = model.forward_head(model.forward_features(clip(SHAPE)), pre_logits=True)
        assert_close(video, torch.tensor(GOLDEN["video"]))
        model.blocks[1].message_attn.qkv.weight.mul_(1.1)
        assert (model(clip(SHAPE)) - wanted).abs().max() > 1e-4 * wanted.abs().max()
    model, _, _ = _authors()
    with torch.no_grad():
        model.head.text.blocks[0].mlp.fc1.weight.mul_(1.1)
        assert (model(clip(SHAPE)) - wanted).abs().max() > 1e-3 * wanted.abs().max()


def test_the_authors_layout_goes_back_bit_for_bit():
    model, state, keymap = _authors()
    exported = keymap.export(model.state_dict())
    assert exported.keys() == state.keys()
    assert all(torch.equal(exported[key], state[key]) for key in state)


def test_what_follows_a_names_end_is_never_read():
    model, _, _ = _authors()
    tokens = torch.tensor(GOLDEN["tokens"])[:4]
    with torch.no_grad():
        model.head.set_tokens(tokens)
        whole = model(clip(SHAPE))
        model.head.set_tokens(tokens[:, :6])
        assert_close(model(clip(SHAPE)), whole, tolerance=1e-6)


def test_features_of_names_are_computed_once_and_again_when_anything_moves():
    model, _, _ = _authors()
    text = model.head.text
    calls = []
    text.register_forward_hook(lambda *_: calls.append(1))
    with torch.no_grad():
        first = model(clip(SHAPE))
        assert torch.equal(model(clip(SHAPE)), first)
        assert len(calls) == 1
        text.token_embed.weight.mul_(2)
        assert not torch.equal(model(clip(SHAPE)), first)
        assert len(calls) == 2
        model.load_state_dict(model.state_dict())
        model(clip(SHAPE))
        assert len(calls) == 3
        model.head.set_tokens(torch.tensor(GOLDEN["tokens"]).flip(0))
        assert model(clip(SHAPE)).shape == (2, 5)
        assert len(calls) == 4
        model.double()(clip(SHAPE).double())
        assert len(calls) == 5
    model(clip(SHAPE).double())
    model(clip(SHAPE).double())
    assert len(calls) == 7  # with gradients, every time


def test_logits_follow_the_order_of_the_names(letters):
    model = scramble(zoo.create("test_xclip"), torch.zeros(SHAPE))
    with torch.no_grad():
        model.set_class_names(["abc", "b", "mm"])
        assert model.num_classes == 3
        assert model.record.labels == ("abc", "b", "mm")
        logits = model(random_clip(SHAPE, seed=1))
        model.set_class_names(["mm", "abc", "b", "c"])
        changed = model(random_clip(SHAPE, seed=1))
    assert_close(changed[:, [1, 2, 0]], logits, tolerance=1e-5)
    assert (logits[:, 0] - logits[:, 1]).abs().max() > 1e-3


def test_create_reads_the_labels_it_is_given_and_a_saved_model_its_own(letters, tmp_path):
    model = scramble(zoo.create("test_xclip", labels=["ab", "c"]), torch.zeros(SHAPE))
    assert model.num_classes == 2
    again = zoo.create(f"local-dir:{zoo.save(model, tmp_path / 'saved')}")
    assert again.record.labels == ("ab", "c")
    other = zoo.create(f"local-dir:{tmp_path / 'saved'}", labels=["c", "ab", "k"])
    with torch.no_grad():
        logits = model(random_clip(SHAPE, seed=1))
        assert torch.equal(again(random_clip(SHAPE, seed=1)), logits)
        assert_close(other(random_clip(SHAPE, seed=1))[:, [1, 0]], logits, tolerance=1e-5)


def test_zero_shot_weights_want_names_and_say_so_once(letters, tmp_path, monkeypatch):
    model = scramble(zoo.create("test_xclip"), torch.zeros(SHAPE))
    path = tmp_path / "zero.pth"
    torch.save({"model": converters.export(model, target="xclip")}, path)
    with pytest.warns(UserWarning, match=r"7 classes of 'test_xclip' have no names.*labels="):
        zoo.create("test_xclip", checkpoint=path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        named = zoo.create("test_xclip", checkpoint=path, labels=["a", "b", "cd"])
        zoo.create("test_xclip", checkpoint=path, num_classes=0)
    model.set_class_names(["a", "b", "cd"])
    with torch.no_grad():
        assert torch.equal(named(random_clip(SHAPE, seed=1)), model(random_clip(SHAPE, seed=1)))


def test_pretrained_weights_bring_their_names_or_ask_for_them(letters, hub, cache, monkeypatch):
    """A record with labels gives their logits at once; a zero-shot one wants them."""
    torch.manual_seed(0)
    model = scramble(zoo.create("test_xclip"), torch.zeros(SHAPE))
    file = io.BytesIO()
    torch.save({"model": converters.export(model, target="xclip")}, file)
    entry = registry.load("test_xclip")
    tiny = entry.architecture
    hub.files["tiny.pth"] = file.getvalue()
    source = UpstreamSource(
        layout="xclip",
        url=f"{hub.url}/tiny.pth",
        filename="tiny.pth",
        sha256=UNKNOWN,
    )
    named = replace(
        family._ZERO_SHOT,
        tag="three",
        labels="three",
        num_classes=3,
        mirrors=(),
        source=source,
        sampling=tiny.sampling,
        preprocess=tiny.preprocess,
    )
    zero = replace(named, tag="zero_shot", labels=None, num_classes=0)
    changed = replace(entry, architecture=replace(tiny, weights=(named, zero)))
    monkeypatch.setitem(registry.catalogue._registered, "test_xclip", changed)
    monkeypatch.setattr(registry, "labels", lambda _: ("ab", "c", "mm"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = zoo.create("test_xclip", pretrained=True)
        own = zoo.create("test_xclip.zero_shot", pretrained=True, labels=["mm", "c"])
    with pytest.warns(UserWarning, match="have no names") as caught:
        zoo.create("test_xclip.zero_shot", pretrained=True)
        zoo.create("test_xclip", pretrained=True, num_classes=5)
    assert len(caught) == 2
    assert found.record.labels == ("ab", "c", "mm")
    assert own.record.labels == ("mm", "c")
    model.set_class_names(["ab", "c", "mm"])
    with torch.no_grad():
        wanted = model(random_clip(SHAPE, seed=1))
        assert torch.equal(found(random_clip(SHAPE, seed=1)), wanted)
        assert_close(own(random_clip(SHAPE, seed=1)), wanted[:, [2, 1]], tolerance=1e-5)


def test_bad_names_are_refused(letters):
    model = zoo.create("test_xclip")
    with pytest.raises(ValueError, match="'abcdefg' has 9 tokens of at most 8"):
        model.set_class_names(["abcdefg"])
    with pytest.raises(ValueError, match="list with at least one text, not 'ab'"):
        model.set_class_names("ab")
    with pytest.raises(ValueError, match="at least one text"):
        model.set_class_names([])
    with pytest.raises(ValueError, match="there are 2 labels for 3 classes"):
        zoo.create("test_xclip", labels=["a", "b"], num_classes=3)
    with pytest.raises(ValueError, match="0 or more"):
        model.reset_classifier(-1)


def test_no_classes_leave_no_classifier():
    model = zoo.create("test_xclip", num_classes=0)
    assert not list(model.get_classifier().parameters())
    with torch.no_grad():
        assert model(clip(SHAPE)).shape == (2, model.num_features)


def test_another_family_keeps_its_number_of_classes():
    model = zoo.create("test_r2p1d")
    model.set_class_names(list("abcdefg"))
    assert model.record.labels == tuple("abcdefg")
    with pytest.raises(ValueError, match="2 names for 7 classes"):
        model.set_class_names(["a", "b"])


def test_without_a_tokenizer_the_way_to_it_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "open_clip.tokenizer", None)
    with pytest.raises(ImportError, match=r"pip install 'videozoo\[text\]'"):
        zoo.create("test_xclip", labels=["a"])


def test_nameless_classes_are_told_apart():
    tokens = _clip_text.nameless_tokens(300, vocab_size=16)
    assert tokens.shape == (300, 5)
    assert len({tuple(row) for row in tokens.tolist()}) == 300
    assert (tokens.argmax(1) == 4).all()
    model = scramble(zoo.create("test_xclip", num_classes=30), torch.zeros(SHAPE))
    with torch.no_grad():
        logits = model(random_clip(SHAPE, seed=1))
    assert logits[0].unique().numel() == 30


@pytest.mark.parametrize(("num_frames", "img_size"), [(8, 32), (16, 32), (32, 32), (4, 64)])
def test_tables_are_resampled_from_the_trained_grid(tmp_path, num_frames, img_size):
    trained = scramble(zoo.create("test_xclip"), torch.zeros(SHAPE))
    folder = zoo.save(trained, tmp_path / "saved")
    model = zoo.create(f"local-dir:{folder}", num_frames=num_frames, img_size=img_size)
    assert model.mixer.time_embed.shape == (1, num_frames, 16)
    native = zoo.create(f"local-dir:{folder}")
    assert torch.equal(native.pos_embed, trained.pos_embed)
    if img_size == 32:
        assert torch.equal(model.pos_embed, trained.pos_embed)
        with torch.no_grad():  # a still clip says the same however often it is shown
            model.mixer.time_embed.zero_()
            native.mixer.time_embed.zero_()
            still = random_clip((1, 3, 1, 32, 32), seed=1)
            assert_close(
                model(still.expand(-1, -1, num_frames, -1, -1)),
                native(still.expand(-1, -1, 4, -1, -1)),
                tolerance=1e-5,
            )
    else:
        assert torch.equal(model.pos_embed[0], trained.pos_embed[0])
        assert model.pos_embed.shape == (65, 32)
    with pytest.raises(ValueError, match="made for clips of"):
        model(torch.zeros(1, 3, num_frames + 1, img_size, img_size))


def test_the_authors_order_of_hmdb_is_its_own():
    ours, usual = registry.labels("hmdb51_xclip"), registry.labels("hmdb51")
    differ = [
        (index, name) for index, name in enumerate(ours) if name != usual[index].replace("_", " ")
    ]
    assert differ == [(20, "kick ball"), (21, "kick"), (44, "sword exercise"), (45, "sword")]
    assert sorted(ours) == sorted(name.replace("_", " ") for name in usual)


def test_records_follow_the_authors_test_code():
    """Three crops of frames at the crop's size; one crop of larger ones; ImageNet's statistics."""
    for name in ("xclip_b32", "xclip_b16", "xclip_l14"):
        for weights in registry.info(name).weights:
            pixels, frames = weights.preprocess, weights.sampling
            wanted = pixels.img_size if frames.num_crops == 3 else 256
            assert pixels.resize == wanted
            assert pixels.mean == (0.485, 0.456, 0.406)
            assert frames.rule == "segments"
            count = len(registry.labels(weights.labels)) if weights.labels else 0
            assert weights.num_classes == count
            data = weights.tag.partition("_")[0]
            lists = {"k400": "kinetics400", "k600": "kinetics600", "ucf101": "ucf101"}
            lists |= {"hmdb51": "hmdb51_xclip", "zero": None}
            assert weights.labels == lists[data]
    large = registry.info("xclip_l14.k400_16f_336").weights[0]
    assert (large.preprocess.img_size, large.sampling.num_frames) == (336, 16)
    assert replace(large.sampling, num_frames=8) == family._sampling(8, views=(4, 3))


def test_the_large_models_heads_have_64_channels_everywhere():
    with torch.device("meta"):
        large = family.xclip_l14()
    heads = {
        name: module.num_heads
        for name, module in large.named_modules()
        if hasattr(module, "num_heads")
    }
    assert heads["mixer.blocks.0.attn"] == heads["head.prompts.blocks.1.cross_attn"] == 12
    assert heads["head.text.blocks.0.attn"] == 12
    assert heads["blocks.0.attn"] == heads["blocks.0.message_attn"] == 16
