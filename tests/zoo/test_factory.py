"""`create`: names, tags, arguments and checkpoints; what is wrong is said in one sentence."""

import warnings

import pytest
import torch
from scrambling import assert_close, random_clip, scramble
from videos import write_video

import converters
import registry
import zoo


def test_a_model_is_ready_for_use():
    model = zoo.create("test_r2p1d")
    assert not model.training
    assert model.record.name == "test_r2p1d"
    assert model.record.source is None


def test_a_tag_selects_the_recipe_without_loading():
    with pytest.warns(UserWarning, match=r"'timesformer_divided.k600' .* pass pretrained=True"):
        model = zoo.create("timesformer_divided.k600", img_size=32, num_frames=2)
    assert model.record.tag == ""
    assert model.num_classes == 600
    assert model.record.labels is None


def test_the_folder_of_a_run_is_told_from_its_best_model(tmp_path):
    (tmp_path / "best").mkdir()
    with pytest.raises(FileNotFoundError, match=r"The model of this run is 'local-dir:.*best'\."):
        zoo.create(f"local-dir:{tmp_path}")


def test_labels_of_ones_own(tmp_path, trained):
    names = ("wave", "clap", "nod")
    model = zoo.create("test_r2p1d", labels=names)
    assert model.num_classes == 3
    again = zoo.create(f"local-dir:{zoo.save(model, tmp_path / 'own')}")
    assert again.record.labels == names
    with pytest.warns(UserWarning, match="is new: 3 classes"):
        assert zoo.create(f"local-dir:{trained[1]}", labels=names).record.labels == names
    with pytest.raises(ValueError, match="labels is a list of class names, not the text 'wave'"):
        zoo.create("test_r2p1d", labels="wave")
    with pytest.raises(ValueError, match="there are 3 labels for 4 classes"):
        zoo.create("test_r2p1d", labels=names, num_classes=4)


@pytest.mark.parametrize(
    ("name", "kind", "sentence"),
    [
        ("r2p1d_81", LookupError, r"Unknown model 'r2p1d_81'. Did you mean 'r2p1d_18'\?"),
        ("r2p1d_18.k40", LookupError, r"Unknown tag 'k40' for 'r2p1d_18'. .*mean 'k400'\?"),
        ("i4d:resnet50", ValueError, "Unknown scheme 'i4d:'"),
        (
            "resnet50",
            LookupError,
            "'resnet50'. .*image model of timm, 'i3d:resnet50' makes a video",
        ),
        ("", ValueError, "A model name is text"),
        ("local-dir:/nowhere/at/all", FileNotFoundError, "takes a folder that zoo.save wrote"),
    ],
)
def test_wrong_names(name, kind, sentence):
    with pytest.raises(kind, match=sentence):
        zoo.create(name, pretrained="." in name and not name.startswith("local"))


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"drop_rat": 0.1}, r"takes no argument 'drop_rat'. Allowed: .*mean 'drop_rate'\?"),
        ({"widths": (1, 2)}, "takes no argument 'widths'"),
        ({"features_only": True}, r"Here this is model.forward_intermediates\(clip, indices\)\."),
        ({"checkpoint_path": "x"}, "Here this is checkpoint=FILE."),
        ({"num_frames": 0}, "num_frames must be a whole number of 1 or more, not 0"),
        ({"num_classes": -1}, "num_classes must be a whole number of 0 or more"),
        ({"in_chans": 2.5}, "in_chans must be a whole number"),
        ({"stem": "4d"}, "Unknown stem '4d'. Known: 3d, 2plus1d, inflated"),
        ({"pretrained": True}, "has no pretrained weights"),
        ({"pretrained": True, "checkpoint": "x"}, "Both pretrained=True and checkpoint='x'"),
        ({"pretrained": ""}, "True, False or a tag"),
        ({"pretrained": None}, "True, False or a tag"),
    ],
)
def test_wrong_arguments(arguments, sentence):
    with pytest.raises((ValueError, LookupError), match=sentence):
        zoo.create("test_r2p1d", **arguments)


def test_a_size_that_the_patch_does_not_divide():
    with pytest.raises(ValueError, match="img_size=30 is no multiple of the patch of 8"):
        zoo.create("test_timesformer_divided", img_size=30)


def test_a_clip_of_another_length_than_the_tables_is_refused():
    model = zoo.create("test_timesformer_joint")
    with pytest.raises(ValueError, match=r"made for clips of \(T, H, W\) = \(4, 32, 32\)"):
        model(torch.randn(1, 3, 8, 32, 32))


def test_drop_rate_reaches_the_model():
    assert zoo.create("test_r3d", drop_rate=0.3).drop.p == 0.3
    blocks = zoo.create("test_timesformer_space", drop_path_rate=0.2).blocks
    assert [block.drop_path.rate for block in blocks] == [0.0, 0.2]


def test_other_classes_give_a_new_head_and_one_warning(trained):
    model, folder = trained
    with pytest.warns(UserWarning, match="is new: 3 classes with random weights") as caught:
        new = zoo.create(f"local-dir:{folder}", num_classes=3)
    assert len(caught) == 1
    assert new.record.labels is None
    clip = random_clip((1, 3, 8, 32, 32), seed=1)
    with torch.no_grad():
        wanted = model.forward_features(clip)
        assert torch.equal(new.forward_features(clip), wanted)
        pooled = zoo.create(f"local-dir:{folder}", num_classes=0)(clip)
    assert torch.equal(pooled, model.forward_head(wanted, pre_logits=True))


def test_the_same_number_of_classes_keeps_the_head_and_labels(trained):
    _, folder = trained
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        new = zoo.create(f"local-dir:{folder}", num_classes=7)
    assert new.record.labels == tuple("abcdefg")


def test_one_channel_sees_gray_as_three_do(trained):
    model, folder = trained
    gray = zoo.create(f"local-dir:{folder}", in_chans=1)
    clip = random_clip((1, 1, 8, 32, 32), seed=1)
    with torch.no_grad():
        assert_close(gray(clip), model(clip.repeat(1, 3, 1, 1, 1)))


def test_position_tables_are_resampled_from_the_trained_grid(tmp_path):
    torch.manual_seed(0)
    model = zoo.create("test_timesformer_divided")
    scramble(model, torch.zeros(2, 3, 4, 32, 32))
    folder = zoo.save(model, tmp_path / "m")
    new = zoo.create(f"local-dir:{folder}", num_frames=8, img_size=64)
    assert torch.equal(
        new.pos_embed,
        converters.resize_spatial_table(
            model.pos_embed, old=(4, 4), new=(8, 8), num_prefix_tokens=1
        ),
    )
    assert torch.equal(
        new.time_embed, converters.resize_temporal_table(model.time_embed, num_frames=8)
    )
    assert new(torch.randn(1, 3, 8, 64, 64)).isfinite().all()


def test_a_still_clip_gives_the_same_answer_for_any_number_of_frames(tmp_path):
    torch.manual_seed(0)
    model = zoo.create("test_timesformer_factorised")
    scramble(model, torch.zeros(2, 3, 4, 32, 32), keep=("temporal", "time_embed"))
    folder = zoo.save(model, tmp_path / "m")
    frame = random_clip((1, 3, 1, 32, 32), seed=1)
    with torch.no_grad():
        wanted = model(frame.repeat(1, 1, 4, 1, 1))
        for t in (1, 8, 16):
            new = zoo.create(f"local-dir:{folder}", num_frames=t)
            assert_close(new(frame.repeat(1, 1, t, 1, 1)), wanted)


def test_gray_stays_gray_unless_other_channels_are_asked_for(tmp_path):
    folder = zoo.save(zoo.create("test_i3d", in_chans=1), tmp_path / "gray")
    assert zoo.create(f"local-dir:{folder}").in_chans == 1
    coloured = zoo.create(f"local-dir:{folder}", in_chans=3)
    assert coloured.in_chans == 3
    for name in (f"local-dir:{folder}", "test_i3d"):
        path = write_video(tmp_path / "v.mp4", 12)
        assert len(zoo.predict(zoo.create(name, in_chans=3), path)) == 5
        assert len(zoo.predict(zoo.create(name, in_chans=1), path)) == 5
    with pytest.raises(ValueError, match="This model takes 6 channels; a video gives 3"):
        zoo.predict(zoo.create("test_i3d", in_chans=6), path)


def test_the_warning_points_at_the_caller(trained):
    _, folder = trained
    with pytest.warns(UserWarning, match="is new") as caught:
        zoo.create(f"local-dir:{folder}", num_classes=3)
    assert caught[0].filename == __file__


def test_drop_path_drops_whole_samples_and_keeps_the_mean():
    from zoo.layers import DropPath

    torch.manual_seed(0)
    drop = DropPath(0.25).train()
    kept = drop(torch.ones(4000, 3, 2))
    assert kept.unique().tolist() == pytest.approx([0.0, 4 / 3])
    assert (kept == kept[:, :1, :1]).all()
    assert kept.mean() == pytest.approx(1.0, abs=0.05)
    assert torch.equal(drop.eval()(kept), kept)
    with pytest.raises(ValueError, match="drop_path_rate must be from 0 to below 1"):
        DropPath(1.0)


@pytest.mark.parametrize("name", ["test_r3d", "test_framepool", "test_timesformer_space"])
def test_dropout_stands_before_the_classifier(name):
    torch.manual_seed(0)
    model = zoo.create(name, drop_rate=0.9, num_classes=0).train()
    frames, size = model.num_frames, model.img_size
    pooled = model.forward_head(model.forward_features(torch.randn(2, 3, frames, size, size)))
    assert (pooled == 0).float().mean() > 0.7


def test_wrong_kinds_of_names_are_refused():
    for name in (5, None, zoo):
        with pytest.raises(ValueError, match="A model name is text"):
            zoo.create(name)


@pytest.fixture
def registered(monkeypatch):
    """Register builders for one test; give the decorator's arguments."""
    catalogue = registry.catalogue
    monkeypatch.setattr(catalogue, "_registered", dict(catalogue._registered))
    like = registry.info("test_r3d")
    recipe = {"num_classes": 7, "sampling": like.sampling, "preprocess": like.preprocess}
    return zoo.register_model(order="used", **recipe)


def test_a_builder_may_take_ordinary_arguments(registered):
    @registered
    def plain_r3d(num_classes=10, in_chans=3, num_frames=8, img_size=32):
        return registry.load("test_r3d").build(num_classes=num_classes, in_chans=in_chans)

    assert zoo.create("plain_r3d", num_classes=4).num_classes == 4
    with pytest.raises(ValueError, match="takes no argument 'drop_rate'"):
        zoo.create("plain_r3d", drop_rate=0.1)


def test_a_builder_without_a_type_of_what_it_returns_passes_arguments_on(registered):
    @registered
    def loose_r3d(**kwargs):
        return registry.load("test_r3d").build(**kwargs)

    assert zoo.create("loose_r3d", drop_rate=0.5).drop.p == 0.5
    with pytest.raises(ValueError, match="takes no argument 'drop_rat'"):
        zoo.create("loose_r3d", drop_rat=0.5)


def test_a_builder_of_something_else_is_refused(registered):
    @registered
    def not_a_model(**kwargs):
        return torch.nn.Linear(1, 1)

    with pytest.raises(ValueError, match="returned a Linear; a model of the zoo is a zoo.Video"):
        zoo.create("not_a_model")


def test_converting_with_an_unknown_argument_is_refused():
    with pytest.raises(ValueError, match=r"no argument 'num_class'.*mean 'num_classes'"):
        converters.convert({}, name="test_r3d", num_class=3)
