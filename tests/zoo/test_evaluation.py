"""`evaluate` on real video files, against predictions made one video at a time by hand."""

import csv
import dataclasses
import json

import numpy as np
import pytest
import torch
from scrambling import scramble
from videos import write_video

import registry
import zoo
from registry import Metric
from zoo.clip_dataset import ClipDataset
from zoo.datasets.sources import VideoDataset, VideoItem
from zoo.evaluation import evaluate
from zoo.evaluation.files import figures_text, write_report
from zoo.evaluation.metrics import wilson_interval
from zoo.evaluation.published import compare
from zoo.evaluation.views import ViewStream

LABELS = tuple("abcdefg")
LENGTHS = (9, 14, 23, 31, 40, 52, 65)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Seven videos of other lengths and rates, of which the third is broken."""
    folder = tmp_path_factory.mktemp("videos")
    for place, frames in enumerate(LENGTHS):
        write_video(folder / f"{place}.mp4", frames, rate=10 + 5 * place, size=(64, 48 + 8 * place))
    (folder / "2.mp4").write_bytes(b"this is no video")
    return folder


@pytest.fixture
def data(folder):
    return VideoDataset(
        name="seven",
        split="val",
        labels=LABELS,
        items=tuple(
            VideoItem(path=folder / f"{place}.mp4", label=label, video_id=f"{place}.mp4")
            for place, label in enumerate([0, 3, 1, 5, 0, 6, 3])
        ),
        missing=(VideoItem(path=folder / "gone.mp4", label=2, video_id="gone.mp4"),),
    )


@pytest.fixture
def model():
    torch.manual_seed(0)
    made = scramble(zoo.create("test_r2p1d"), torch.zeros(4, 3, 8, 32, 32))
    made.set_class_names(LABELS)
    return made


def by_hand(model, data, *, num_clips, num_crops):
    """The logits of every video that can be read, (V, K) each."""
    found = {}
    for item in data.items:
        if item.video_id != "2.mp4":
            clip = zoo.load_clip(item.path, model, num_clips=num_clips, num_crops=num_crops)
            with torch.no_grad():
                found[item.video_id] = torch.cat([model(view[None]) for view in clip])
    return found


def softmax(logits):
    shares = np.exp(logits - logits.max(-1, keepdims=True))
    return shares / shares.sum(-1, keepdims=True)


def seen(report):
    """Everything that a report says, in a form that `==` compares to the last bit."""
    return [
        (
            *(r.index, r.video_id, r.label, r.place, r.classes.tolist()),
            *(r.probabilities.tolist(), r.view_places.tolist()),
            *(r.view_classes.tolist(), r.view_probabilities.tolist()),
        )
        for r in report.results
    ]


def table(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("average", ["logits", "probabilities"])
def test_every_figure_equals_the_one_by_hand(model, data, average):
    sampling = dataclasses.replace(model.record.sampling, average=average)
    model.record = dataclasses.replace(model.record, sampling=sampling)
    report = evaluate(model, data, num_clips=3, num_crops=3)
    right_views, right = [], []
    for result, (name, logits) in zip(
        report.results, by_hand(model, data, num_clips=3, num_crops=3).items(), strict=True
    ):
        assert result.video_id == name
        views = logits.double().numpy()  # (9, 7)
        shares = softmax(views)
        whole = shares.mean(0) if average == "probabilities" else softmax(views.mean(0))
        order = np.argsort(-whole)
        assert result.classes.tolist() == order[:5].tolist()
        assert result.probabilities == pytest.approx(whole[order[:5]], abs=1e-5)
        assert result.place == order.tolist().index(result.label)
        assert result.view_classes.tolist() == np.argsort(-views, 1)[:, :5].tolist()
        assert result.view_probabilities == pytest.approx(np.sort(shares, 1)[:, :-6:-1], abs=1e-5)
        right.append(order[0] == result.label)
        right_views.append((views.argmax(1) == result.label).sum())
    assert (report.video_top1.correct, report.video_top1.total) == (sum(right), 6)
    assert (report.clip_top1.correct, report.clip_top1.total) == (sum(right_views), 54)
    assert (report.video_top1.low, report.video_top1.high) == wilson_interval(sum(right) / 6, 6)


def test_the_figures_follow_from_the_predictions(model, data):
    report = evaluate(model, data, num_clips=4, num_crops=1)
    top5 = [result.label in result.classes for result in report.results]
    assert (report.video_top5.correct, report.video_top5.total) == (sum(top5), 6)
    views = [result.label in row for result in report.results for row in result.view_classes]
    assert (report.clip_top5.correct, report.clip_top5.total) == (sum(views), 24)
    wanted = np.zeros((7, 7), int)
    for result in report.results:
        wanted[result.label, result.classes[0]] += 1
    assert (report.confusion == wanted).all()
    assert [item.label for item in report.per_class] == ["a", "d", "f", "g"]
    assert [item.videos for item in report.per_class] == [2, 2, 1, 1]
    assert [item.top1 for item in report.per_class] == wanted.diagonal()[[0, 3, 5, 6]].tolist()
    assert sum(item.views_top1 for item in report.per_class) == report.clip_top1.correct
    assert sum(item.top5 for item in report.per_class) == sum(top5) > sum(wanted.diagonal())
    assert [item.views for item in report.per_class] == [8, 8, 4, 4]


def test_one_prediction_is_that_of_predict(model, data):
    report = evaluate(model, data, num_clips=2, num_crops=3)
    for result, item in zip(
        report.results, [item for item in data.items if item.video_id != "2.mp4"], strict=True
    ):
        wanted = zoo.predict(model, item.path, num_clips=2, num_crops=3)
        assert result.classes.tolist() == [best.index for best in wanted]
        assert result.probabilities == pytest.approx([b.probability for b in wanted], abs=1e-5)


def test_views_are_those_of_the_record_unless_given(model, data):
    sampling = model.record.sampling
    report = evaluate(model, data)
    assert (report.protocol.num_clips, report.protocol.num_crops) == (
        sampling.num_clips,
        sampling.num_crops,
    )
    assert report.clip_top1.total == 6 * sampling.num_clips * sampling.num_crops


@pytest.mark.parametrize(("batch_size", "workers"), [(1, 0), (4, 0), (7, 0), (100, 0), (4, 2)])
def test_batches_and_workers_change_nothing(model, data, batch_size, workers):
    wanted = evaluate(model, data, num_clips=2, num_crops=3)
    found = evaluate(model, data, num_clips=2, num_crops=3, batch_size=batch_size, workers=workers)
    assert [row[:5] + row[6:8] for row in seen(found)] == [
        row[:5] + row[6:8] for row in seen(wanted)
    ]
    assert found.failures == wanted.failures
    assert found.clip_top1 == wanted.clip_top1
    if workers:  # the same batches, decoded elsewhere
        same = evaluate(model, data, num_clips=2, num_crops=3, batch_size=batch_size)
        assert seen(found) == seen(same)


def test_no_more_views_are_held_than_a_batch(model, data, monkeypatch):
    made = 0
    views = ClipDataset.views

    def counted(self, index):
        nonlocal made
        for clip in views(self, index):
            made += len(clip)
            yield clip

    monkeypatch.setattr(ClipDataset, "views", counted)
    batches, through = [], 0

    def watch(_model, args, _out):
        nonlocal through
        batches.append(len(args[0]))
        through += len(args[0])
        assert made - through < 3 + 4  # the rest of a clip, and no second batch

    hook = model.register_forward_hook(watch)
    evaluate(model, data, num_clips=10, num_crops=3, batch_size=4)
    hook.remove()
    assert sum(batches) == made == 6 * 30
    assert max(batches) == 4


def test_broken_and_missing_videos_are_named_and_count_for_nothing(model, data):
    report = evaluate(model, data, num_clips=1, num_crops=1)
    names = [name for name, _ in report.failures]
    assert names == ["gone.mp4", "2.mp4"]
    assert "gone.mp4" in report.failures[0][1]
    assert "damaged, or no video" in report.failures[1][1]
    assert report.video_top1.total == 6
    assert not {"gone.mp4", "2.mp4"} & {result.video_id for result in report.results}


def test_a_video_that_breaks_half_way_counts_for_nothing(model, data, monkeypatch):
    views = ClipDataset.views

    def breaks(self, index):
        for place, clip in enumerate(views(self, index)):
            if index == 4 and place == 2:
                raise zoo.clip_dataset.UnreadableVideoError("cut off")
            yield clip

    monkeypatch.setattr(ClipDataset, "views", breaks)
    for batch_size in (1, 3, 8, 40):
        report = evaluate(model, data, num_clips=4, num_crops=1, batch_size=batch_size)
        assert report.failures[-1] == ("4.mp4", "cut off")
        assert [result.video_id[0] for result in report.results] == list("01356")
        assert report.clip_top1.total == 20


def test_a_broken_or_missing_video_can_be_fatal(model, data, folder):
    with pytest.raises(ValueError, match=r"1 of 8 videos are missing, first 'gone.mp4'"):
        evaluate(model, data, on_error="raise")
    there = VideoDataset(name="six", split="val", labels=LABELS, items=data.items)
    with pytest.raises(ValueError, match=r"The video '2.mp4' cannot be evaluated: .*no video"):
        evaluate(model, there, on_error="raise")
    broken = VideoDataset(name="one", split="val", labels=LABELS, items=data.items[2:3])
    with pytest.raises(ValueError, match="None of the 1 videos of 'one' could be evaluated"):
        evaluate(model, broken)


def relabelled(data, labels, numbers):
    items = tuple(
        VideoItem(path=item.path, label=number, video_id=item.video_id)
        for item, number in zip(data.items, numbers, strict=True)
    )
    return VideoDataset(name="other", split="val", labels=labels, items=items)


def test_classes_are_matched_by_name(model, data):
    # The same truth, counted in another list of fewer classes.
    other = relabelled(data, ("g", "a", "d", "b", "f"), [1, 2, 3, 4, 1, 0, 2])
    found, wanted = evaluate(model, other), evaluate(model, data)
    assert [result.label for result in found.results] == [0, 3, 5, 0, 6, 3]
    assert seen(found) == seen(wanted)
    assert found.video_top1 == wanted.video_top1
    assert found.labels == LABELS


def test_other_spellings_of_a_class_are_the_same_class(model, data):
    wanted = evaluate(model, data)
    names = ("Brush_Hair", "b", "c", "fall floor", "e", "f", "g")
    model.set_class_names(("brush hair", "b", "c", "fall-floor", "e", "f", "g"))
    found = evaluate(model, relabelled(data, names, [item.label for item in data.items]))
    assert seen(found) == seen(wanted)
    # Names that differ in nothing else stay apart.
    model.set_class_names(("A-B", "AB", "c", "d", "e", "f", "g"))
    for label, place in (("A-B", 0), ("AB", 1)):
        other = relabelled(data, (label,), [0] * 7)
        assert {result.label for result in evaluate(model, other).results} == {place}
    with pytest.raises(ValueError, match="the first is 'a b'"):
        evaluate(model, relabelled(data, ("a b",), [0] * 7))


def test_classes_that_do_not_fit_are_refused(model, data):
    with pytest.raises(ValueError, match="1 of the 2 classes of 'other' are not among the 7"):
        evaluate(model, relabelled(data, ("a", "z"), [0, 1, 0, 0, 0, 0, 0]))
    with pytest.raises(ValueError, match=r"'0.mp4' of 'other' has no label"):
        evaluate(model, relabelled(data, LABELS, [-1, 0, 0, 0, 0, 0, 0]))
    nameless = zoo.create("test_r2p1d")
    assert evaluate(nameless, data).labels == LABELS  # as many, taken in their order
    with pytest.raises(ValueError, match="7 classes without names and 'other' 2; say what"):
        evaluate(nameless, relabelled(data, ("a", "b"), [0, 1, 0, 0, 0, 0, 0]))
    with pytest.raises(ValueError, match="returns features"):
        evaluate(zoo.create("test_r2p1d", num_classes=0), data)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"num_clips": 0}, "num_clips=0"),
        ({"num_crops": 2}, "num_crops=2"),
        ({"batch_size": 0}, "batch_size is a whole number of 1 or more, not 0"),
        ({"workers": -1}, "workers is a whole number of 0 or more, not -1"),
        ({"on_error": "stop"}, "'skip' or 'raise', not 'stop'"),
    ],
)
def test_wrong_numbers(model, data, arguments, sentence):
    with pytest.raises(ValueError, match=sentence):
        evaluate(model, data, **arguments)


def test_damaged_weights_are_not_called_a_measurement(model, data):
    with torch.no_grad():
        model.fc.bias[0] = float("nan")
    with pytest.raises(ValueError, match=r"outputs for the video '0.mp4' are not finite"):
        evaluate(model, data)


def test_modes_are_put_back_and_progress_is_told(model, data):
    model.train()
    model.stem.bn.eval()  # a frozen BatchNorm
    told = []
    found = evaluate(model, data, batch_size=2, progress=lambda *pair: told.append(pair))
    assert model.training
    assert not model.stem.bn.training
    assert told[-1] == (7, 7)
    assert seen(found) == seen(evaluate(model.eval(), data, batch_size=2))


def test_bfloat16_is_near_and_said(model, data):
    plain, low = evaluate(model, data), evaluate(model, data, bf16=True)
    assert low.protocol.bf16
    shares = [np.stack([r.probabilities for r in report.results]) for report in (plain, low)]
    assert 0 < np.abs(shares[0][:, 0] - shares[1][:, 0]).max() < 0.05


def test_an_interrupted_evaluation_says_what_was_done(model, data):
    def stop(done, _total):
        if done >= 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt, match="4 of 7 videos were done, of which . were named"):
        evaluate(model, data, num_clips=1, num_crops=1, batch_size=1, progress=stop)


def test_the_tables_hold_every_prediction(model, data, tmp_path):
    report = evaluate(model, data, num_clips=2, num_crops=3)
    files = write_report(report, tmp_path / "deep" / "out")
    assert sorted(path.name for path in (tmp_path / "deep" / "out").iterdir()) == sorted(
        path.name for path in files
    )
    rows = table(tmp_path / "deep/out/predictions.csv")
    for row, result in zip(rows, report.results, strict=True):
        assert (row["video_id"], row["label"]) == (result.video_id, LABELS[result.label])
        assert int(row["rank"]) == result.place + 1
        assert [row[f"top{k}"] for k in range(1, 6)] == [LABELS[c] for c in result.classes]
        shares = [float(row[f"probability{k}"]) for k in range(1, 6)]
        assert shares == pytest.approx(result.probabilities.tolist(), abs=1e-6)
    views = table(tmp_path / "deep/out/clips.csv")
    assert len(views) == 36
    assert [(row["clip"], row["crop"]) for row in views[:6]] == [
        (c, k) for c in "01" for k in "012"
    ]
    assert sum(row["rank"] == "1" for row in views) == report.clip_top1.correct
    classes = table(tmp_path / "deep/out/classes.csv")
    assert sum(int(row["video_top1"]) for row in classes) == report.video_top1.correct
    figures = json.loads((tmp_path / "deep/out/report.json").read_text())
    assert figures["video_top1"]["share"] == report.video_top1.correct / 6
    assert (figures["videos"], figures["evaluated"]) == (8, 6)
    assert [item["video"] for item in figures["failures"]] == ["gone.mp4", "2.mp4"]
    page = (tmp_path / "deep/out/report.md").read_text()
    assert f"| video | top1 | {report.video_top1.share:.2%} |" in page
    assert "- 2.mp4: " in page


def test_a_folder_that_cannot_be_written(model, data, tmp_path):
    report = evaluate(model, data)
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="Cannot make the folder '.*file'"):
        write_report(report, tmp_path / "file")


def metric(**changes):
    facts = {
        "name": "top1",
        "value": 50.0,
        "dataset": "seven",
        "split": "validation",
        "level": "video",
        "num_clips": 2,
        "num_crops": 1,
        "measured_by": "the authors",
    }
    return Metric(**{**facts, **changes})


def test_published_figures_stand_beside_the_measured_ones(model, data):
    whole = dataclasses.replace(data, items=data.items[:2] + data.items[3:], missing=())
    report = evaluate(model, whole, num_clips=2, num_crops=1)
    weights = dataclasses.replace(
        registry.find_weights(registry.info("r2p1d_nano"), "motion"),
        sampling=model.record.sampling,
        preprocess=model.record.preprocess,
        metrics=(
            metric(),
            metric(name="top5", level="clip", value=100.0),
            metric(name="mAP"),
            metric(num_clips=10, num_crops=3, dataset="kinetics400", split="test"),
        ),
    )
    first, second, third = compare(report, weights)  # mAP is another kind of figure
    assert first.measured == report.video_top1
    assert second.measured == report.clip_top5
    assert first.differences == ("videos of 4 of the 7 classes",)
    assert third.differences[:3] == (
        "data seven, published for kinetics400",
        "split val, published for test",
        "2 x 1 views, published with 10 x 3",
    )
    assert first.agrees == (report.video_top1.low <= 0.5 <= report.video_top1.high)
    folds = dataclasses.replace(report.protocol, split="test2")
    again = dataclasses.replace(report, protocol=folds)
    split_2 = dataclasses.replace(weights, metrics=(metric(split="test split 2"),))
    assert compare(again, split_2)[0].differences == ("videos of 4 of the 7 classes",)
    text = figures_text(report, [first, third])
    assert "published video top-1 50.00% (seven, validation, 2 x 1 views, by the authors)" in text
    assert "  - 2 x 1 views, published with 10 x 3" in text
    faulty = compare(evaluate(model, data, num_clips=2, num_crops=1, bf16=True), weights)[0]
    assert faulty.differences[0] == "2 of 8 videos missing or broken"
    assert faulty.differences[-1] == "computed in bfloat16"
    other = dataclasses.replace(
        weights,
        sampling=dataclasses.replace(weights.sampling, num_frames=16),
        preprocess=dataclasses.replace(weights.preprocess, img_size=24),
    )
    assert any("trained with 16 x" in line for line in compare(report, other)[0].differences)
    assert "pictures of 32 pixels, trained with 24" in compare(report, other)[0].differences


@pytest.mark.parametrize("parts", [1, 2, 3, 5, 9])
@pytest.mark.parametrize("batch_size", [1, 4, 7, 30])
def test_processes_share_out_whole_batches(model, data, parts, batch_size):
    def batches(part, parts):
        clips = ClipDataset(data, model.record, train=False, num_clips=2, num_crops=1)
        stream = ViewStream(clips, num_views=2, batch_size=batch_size, part=part, parts=parts)
        found = [
            (tuple(batch.owners), tuple(index for index, _ in batch.failures)) for batch in stream
        ]
        seen = {index for owners, failed in found for index in owners + failed}
        assert seen == set(stream.indices)
        return found

    wanted = batches(0, 1)
    shared = [batch for part in range(parts) for batch in batches(part, parts)]
    assert sorted(shared) == sorted(wanted)
    owners = [owner for batch in shared for owner in batch[0]]
    assert sorted(owners) == sorted([index for index in range(7) if index != 2] * 2)
