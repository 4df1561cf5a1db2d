"""`predict`: labels, averaging over views, and what is refused."""

import dataclasses

import pytest
import torch
from scrambling import scramble
from videos import write_video

import zoo
from zoo.clips import load_clip
from zoo.video import Video


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return write_video(tmp_path_factory.mktemp("videos") / "v.mp4", 40)


@pytest.fixture
def model():
    torch.manual_seed(0)
    made = scramble(zoo.create("test_r2p1d"), torch.zeros(4, 3, 8, 32, 32))
    made.record = dataclasses.replace(made.record, labels=tuple("abcdefg"))
    return made


def test_the_best_labels_come_first_and_sum_to_one(model, path):
    found = zoo.predict(model, path, topk=7)
    with torch.no_grad():
        wanted = model(load_clip(path, model)).softmax(dim=1)[0]
    assert [item.index for item in found] == wanted.argsort(descending=True).tolist()
    assert [item.label for item in found] == ["abcdefg"[item.index] for item in found]
    for item in found:
        assert item.probability == pytest.approx(wanted[item.index].item(), rel=1e-5)
    assert sum(item.probability for item in found) == pytest.approx(1)
    assert found == zoo.predict(model, load_clip(path, model), topk=7)


@pytest.mark.parametrize("average", ["logits", "probabilities"])
def test_views_are_averaged_as_the_record_says(model, path, average):
    sampling = dataclasses.replace(model.record.sampling, average=average)
    model.record = dataclasses.replace(model.record, sampling=sampling)
    with torch.no_grad():
        logits = model(load_clip(path, model, num_clips=4, num_crops=3))
    assert len(logits) == 12
    by_logits, by_probabilities = logits.mean(0).softmax(0), logits.softmax(1).mean(0)
    assert (by_logits - by_probabilities).abs().max() > 1e-4  # else this proves nothing
    wanted = by_logits if average == "logits" else by_probabilities
    for item in zoo.predict(model, path, num_clips=4, num_crops=3):
        assert item.probability == pytest.approx(wanted[item.index].item(), rel=1e-4)


def test_a_long_video_is_taken_window_by_window(model, tmp_path):
    path = write_video(tmp_path / "long.mp4", 120)
    seen = []
    hook = model.register_forward_hook(lambda _m, args, _o: seen.append(args[0].shape[0]))
    zoo.predict(model, path, num_clips="all")
    hook.remove()
    assert len(seen) > 4
    assert set(seen) == {1}


def test_an_open_video_can_be_given_and_stays_open(model, path):
    with Video(path) as video:
        assert zoo.predict(model, video) == zoo.predict(model, path)
        assert zoo.predict(model, video) == zoo.predict(model, path)


def test_five_or_all_labels_and_names_by_index(model, path):
    assert len(zoo.predict(model, path)) == 5
    model.reset_classifier(3)
    found = zoo.predict(model, path)
    assert sorted(item.label for item in found) == ["0", "1", "2"]


def test_the_training_mode_is_put_back(model, path):
    model.train()
    model.stem.bn.eval()  # a frozen BatchNorm
    zoo.predict(model, path)
    assert model.training
    assert model.layer1[0].bn1.training
    assert not model.stem.bn.training


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"topk": 8}, "topk must be between 1 and the 7 classes, not 8"),
        ({"topk": 0}, "topk must be between 1"),
        ({"topk": 2.5}, "topk must be between 1 and the 7 classes, not 2.5"),
        ({"num_clips": 0}, "num_clips=0"),
        ({"num_crops": 2}, "num_crops=2"),
    ],
)
def test_wrong_numbers(model, path, arguments, sentence):
    with pytest.raises(ValueError, match=sentence):
        zoo.predict(model, path, **arguments)


def test_pixels_that_are_not_normalised(model, path):
    clip = load_clip(path, model)
    clip[0, 0, 0, 0, 0] = float("nan")
    with pytest.raises(ValueError, match="holds 1 values that are NaN"):
        zoo.predict(model, clip)
    with pytest.warns(UserWarning, match=r"span \[0, 255\].*pixels in 0-255"):
        zoo.predict(model, torch.linspace(0, 255, 8 * 32 * 32 * 3).reshape(1, 3, 8, 32, 32))
    with pytest.raises(ValueError, match="got torch.uint8"):
        zoo.predict(model, torch.zeros(1, 3, 8, 32, 32, dtype=torch.uint8))


def test_clips_that_are_made_already(model, path):
    with pytest.raises(ValueError, match="these clips are made already"):
        zoo.predict(model, load_clip(path, model), num_clips=3)
    with pytest.raises(ValueError, match="There is no clip in a tensor"):
        zoo.predict(model, torch.zeros(0, 3, 8, 32, 32))


def test_a_model_of_one_channel_sees_gray_videos(path):
    model = zoo.create("test_r2p1d", in_chans=1)
    clip = load_clip(path, model)
    assert clip.shape == (1, 1, 8, 32, 32)
    colour = load_clip(path, zoo.create("test_r2p1d"))
    weights = torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1, 1)  # ITU-R BT.601
    recipe = zoo.create("test_r2p1d").record.preprocess
    mean, std = (torch.tensor(values).view(3, 1, 1, 1) for values in (recipe.mean, recipe.std))
    gray = ((colour[0] * std + mean) * weights).sum(0)
    wanted = (gray - mean.mean()) / std.mean()
    assert (clip[0, 0] - wanted).abs().max() < 1.5 / 255 / std.mean()
    assert len(zoo.predict(model, path)) == 5


def test_any_other_module_is_refused(path):
    for call in (zoo.predict, lambda model, path: load_clip(path, model)):
        with pytest.raises(ValueError, match="not what wraps it"):
            call(torch.nn.DataParallel(zoo.create("test_r3d")), path)


def test_damaged_weights_are_not_called_a_prediction(model, path):
    with torch.no_grad():
        model.fc.bias[0] = float("nan")
    with pytest.raises(ValueError, match="outputs are not finite"):
        zoo.predict(model, path)


def test_a_model_without_classes_is_refused(model, path):
    model.reset_classifier(0)
    with pytest.raises(ValueError, match="num_classes=0 and returns features"):
        zoo.predict(model, path)
