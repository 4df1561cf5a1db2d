"""What goes silently wrong with VideoMAE: biases, position tables, eps, the frames of a test."""

import pytest
import torch
import torch.nn.functional as F
from scrambling import assert_close, random_clip, scramble

import converters
import registry
import zoo
from zoo.models.videomae import sinusoid_table
from zoo.sampling import clip_indices


def _scrambled(name="test_videomae"):
    torch.manual_seed(0)
    return scramble(zoo.create(name), torch.zeros(1, 3, 16, 32, 32))


def _as_published(model):
    """The layout of transformers' published files: the two biases beside their layers."""
    state = converters.export(model, target="transformers")
    return {
        key.replace("query.bias", "q_bias").replace("value.bias", "v_bias"): value
        for key, value in state.items()
    }


def test_published_files_of_transformers_bring_the_biases():
    model = _scrambled()
    state = _as_published(model)
    assert sum("q_bias" in key or "v_bias" in key for key in state) == 4
    found = converters.convert(state, name="test_videomae", source="transformers")
    wanted = model.state_dict()
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[key], wanted[key]) for key in wanted)


@pytest.mark.parametrize("part", ["q_bias", "v_bias"])
def test_a_missing_bias_is_named_and_not_filled_with_zeros(part):
    state = _as_published(_scrambled())
    state.pop(f"videomae.encoder.layer.1.attention.attention.{part}")
    with pytest.raises(ValueError, match=rf"missing keys: blocks\.1\.attn\.{part}"):
        converters.convert(state, name="test_videomae", source="transformers")


@pytest.mark.parametrize("layout", ["transformers", "videomae"])
def test_a_bias_of_the_keys_is_refused(layout):
    state = converters.export(_scrambled(), target=layout)
    state["blocks.0.attn.k_bias"] = torch.zeros(32)
    with pytest.raises(ValueError, match=r"unknown keys: blocks\.0\.attn\.k_bias"):
        converters.convert(state, name="test_videomae", source=layout)


def test_every_norm_has_the_eps_of_the_authors():
    model = zoo.create("test_videomae")
    norms = [m for m in model.modules() if isinstance(m, torch.nn.LayerNorm)]
    assert [norm.eps for norm in norms] == [1e-6] * 5


def test_no_table_is_stored():
    assert not [key for key in zoo.create("test_videomae").state_dict() if "pos" in key]


@pytest.mark.parametrize(
    ("clip", "grid", "cosine"),
    [({"num_frames": 32}, (16, 14, 14), 0.32), ({"img_size": 320}, (8, 20, 20), 0.26)],
)
def test_other_clips_get_the_old_table_and_not_a_new_one(clip, grid, cosine):
    with torch.device("meta"):
        assert registry.load("videomae_b").build(**clip).grid_size == grid
    places = grid[0] * grid[1] * grid[2]
    table = converters.resize_clip_table(sinusoid_table(1568, 768), old=(8, 14, 14), new=grid)
    assert table.shape == (1, places, 768)
    found = F.cosine_similarity(table, sinusoid_table(places, 768), dim=-1).mean()
    assert found.item() == pytest.approx(cosine, abs=0.01)
    # A new place lies between the old ones, at half a place's distance at most.
    own = sinusoid_table(1568, 768).unflatten(1, (8, 14, 14))
    corner = F.cosine_similarity(table[:, 0], own[:, 0, 0, 0], dim=-1)
    assert corner.item() > 0.9


def test_the_table_of_other_clips_is_that_of_the_trained_grid(tmp_path):
    model = _scrambled()
    folder = zoo.save(model, tmp_path / "m")
    assert torch.equal(model.pos_embed, sinusoid_table(8 * 4 * 4, 32))
    for num_frames, img_size in ((8, 32), (16, 32), (32, 32), (16, 64), (32, 48)):
        new = zoo.create(f"local-dir:{folder}", num_frames=num_frames, img_size=img_size)
        t, side = num_frames // 2, img_size // 8
        wanted = F.interpolate(
            model.pos_embed.reshape(1, 8, 4, 4, 32).permute(0, 4, 1, 2, 3),
            size=(t, side, side),
            mode="trilinear",
        )
        found = new.pos_embed.reshape(1, t, side, side, 32).permute(0, 4, 1, 2, 3)
        assert torch.equal(found, wanted)
        again = zoo.create(f"local-dir:{zoo.save(new, tmp_path / f'{t}x{side}')}")
        assert torch.equal(again.pos_embed, new.pos_embed)


def test_a_model_trained_on_other_clips_says_so():
    made = zoo.create("test_videomae", num_frames=32, native_frames=32)
    assert torch.equal(made.pos_embed, sinusoid_table(16 * 4 * 4, 32))
    assert made.record.arguments["native_frames"] == 32


@pytest.mark.parametrize("still", ["in time", "in space"])
def test_what_does_not_change_gives_the_same_answer_at_any_size(tmp_path, monkeypatch, still):
    # With a table that knows only space, a still clip looks alike for any number of frames; with
    # one that knows only time, a plain one does for any size.
    def flat(length, dim):
        grid = sinusoid_table(length, dim).unflatten(1, (8, 4, 4))
        over = 1 if still == "in time" else (2, 3)
        return grid.mean(over, keepdim=True).expand_as(grid).flatten(1, 3)

    monkeypatch.setattr("zoo.models.videomae.sinusoid_table", flat)
    model = _scrambled()
    folder = zoo.save(model, tmp_path / "m")
    if still == "in time":
        frame = random_clip((1, 3, 1, 32, 32), seed=1)
        others = [({"num_frames": t}, frame.expand(1, 3, t, 32, 32)) for t in (8, 16, 32)]
    else:
        plain = random_clip((1, 3, 16, 8, 8), seed=1).mean((3, 4), keepdim=True)
        others = [({"img_size": s}, plain.expand(1, 3, 16, s, s)) for s in (32, 64)]
    with torch.no_grad():
        answers = [zoo.create(f"local-dir:{folder}", **size)(clip) for size, clip in others]
    for answer in answers:
        assert_close(answer, answers[0])


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"num_frames": 5}, "num_frames=5 is no multiple of the tubelet of 2 frames; give 6"),
        ({"img_size": 36}, "img_size=36 is no multiple of the patch of 8 pixels; give 32"),
        ({"native_size": 36}, "img_size=36 is no multiple"),
    ],
)
def test_clips_that_the_tubelets_do_not_divide_are_refused(arguments, sentence):
    with pytest.raises(ValueError, match=sentence):
        zoo.create("test_videomae", **arguments)


def test_a_clip_of_another_shape_is_refused():
    with pytest.raises(ValueError, match=r"made for clips of \(T, H, W\) = \(16, 32, 32\), got"):
        zoo.create("test_videomae")(torch.randn(1, 3, 8, 32, 32))


def test_frames_are_those_of_the_authors_test_code():
    times = [k / 25 for k in range(101)]
    sparse = registry.find_weights(registry.info("videomae_b"), "ssv2").sampling
    # Two frames from each of 16 parts, at its start and its middle; the clips take turns.
    tick = 101 / 16
    both = sorted(
        [int(tick / 2 + tick * k) for k in range(16)] + [int(tick * k) for k in range(16)]
    )
    assert list(clip_indices(sparse, times, 2)) == [both[::2], both[1::2]]
    window = registry.find_weights(registry.info("videomae_b"), "k400").sampling
    first, *_, last = clip_indices(window, times, 5)
    assert first == list(range(0, 64, 4))
    assert last == list(range(40, 104, 4))  # every fourth frame, the last of them included
    assert (window.num_clips, window.num_crops, window.average) == (5, 3, "probabilities")


def test_the_classes_of_kinetics710_are_in_the_authors_order():
    weights = registry.find_weights(registry.info("videomae_v2_g"), "k710")
    labels = registry.labels(weights.labels)
    assert len(labels) == weights.num_classes == 710
    assert labels[0] == "riding a bike"
    assert list(labels) != sorted(labels)
    # Whose order is not known has no names, rather than wrong ones.
    assert registry.find_weights(registry.info("videomae_b"), "ucf101").labels is None


@pytest.mark.parametrize("family", ["videomae", "videomae_pretrain"])
def test_pixels_are_those_of_the_authors_and_not_of_transformers_class(family):
    # transformers' processor takes 0.5 for mean and deviation where a hub file says nothing.
    for full in registry.list_pretrained(family=family):
        name, tag = full.split(".")
        recipe = registry.find_weights(registry.info(name), tag).preprocess
        assert (recipe.mean, recipe.std) == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
        assert (recipe.img_size, recipe.resize, recipe.antialias) == (224, 224, False)
