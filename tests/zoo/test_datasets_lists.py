"""Folders and lists that people make themselves, and opening any data set by its name."""

import dataclasses

import pytest
from dataset_trees import facts, load, put, put_broken, write
from fresh_python import ROOT

import registry
from zoo.datasets import PersonBox, VideoDataset, VideoItem, open_dataset
from zoo.datasets.opening import DATASETS


def items_of(dataset):
    return [
        (item.video_id, item.label, item.start_seconds, item.end_seconds) for item in dataset.items
    ]


def test_a_folder_of_class_folders_with_splits(tmp_path):
    put(tmp_path, "train/b/2.mp4", "train/a c/1.webm", "train/b/deep/1.avi", "val/a c/9.mp4")
    put_broken(tmp_path, "train/b/1.mp4")
    write(tmp_path / "train" / "b" / "notes.txt", "no video")
    write(tmp_path / "train" / "readme.txt", "no class")
    put(tmp_path, "train/.cache/x.mp4", "train/b/._2.mp4")
    train = open_dataset(str(tmp_path), split="train")
    assert train.labels == ("a c", "b")
    assert facts(train) == [
        ("a c/1.webm", "a c"),
        ("b/1.mp4", "b"),
        ("b/2.mp4", "b"),
        ("b/deep/1.avi", "b"),
    ]
    assert load(train).labels.tolist() == [0, 1, 1]
    assert [video_id for video_id, _ in load(train).failures] == ["b/1.mp4"]
    # a class without videos in one split keeps its place in both
    val = open_dataset(f"folder:{tmp_path}", split="validation")
    assert (val.split, val.labels, facts(val)) == ("val", train.labels, [("a c/9.mp4", "a c")])
    with pytest.raises(ValueError, match=r"has no folder 'test'; its splits are train, val: name"):
        open_dataset(f"folder:{tmp_path}", split="test")


def test_a_folder_of_class_folders_alone(tmp_path):
    put(tmp_path, "z/1.mp4", "y/1.mp4")
    for split in ("train", "val"):
        dataset = open_dataset(f"folder:{tmp_path}", split=split)
        assert (dataset.labels, facts(dataset)) == (
            ("y", "z"),
            [("y/1.mp4", "y"), ("z/1.mp4", "z")],
        )
    names = write(tmp_path / "labels.txt", "z\nx\ny\n")
    dataset = open_dataset(f"folder:{tmp_path}", split="train", labels=str(names))
    assert (dataset.labels, facts(dataset)) == (
        ("z", "x", "y"),
        [("y/1.mp4", "y"), ("z/1.mp4", "z")],
    )
    with pytest.raises(ValueError, match=r"the label 'y' is not one of the 400 classes of"):
        open_dataset(f"folder:{tmp_path}", split="train", labels="kinetics400")


def test_a_folder_that_holds_no_classes_or_no_videos_is_refused(tmp_path):
    with pytest.raises(
        ValueError, match="holds no class folders; give a folder with one folder of"
    ):
        open_dataset(f"folder:{tmp_path}", split="train")
    (tmp_path / "train" / "a").mkdir(parents=True)
    with pytest.raises(
        ValueError, match=r"The split 'train' of .* is empty: .*train lists no video"
    ):
        open_dataset(f"folder:{tmp_path}", split="train")
    with pytest.raises(FileNotFoundError, match="There is no folder"):
        open_dataset(f"folder:{tmp_path / 'none'}", split="train")


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        ("a/1.mp4,jump\nb 2.mp4,run\n", ("jump", "run")),
        ("path,label\na/1.mp4,jump\nb 2.mp4,run\n", ("jump", "run")),
        ("label;path\njump;a/1.mp4\n\nrun;b 2.mp4\n", ("jump", "run")),
        ("\ufeffpath\tlabel\r\na/1.mp4\tjump\r\nb 2.mp4\trun\r\n", ("jump", "run")),
        ('a/1.mp4 0\n"b 2.mp4" 1\n', ("0", "1")),
        ("a/1.mp4,0\nb 2.mp4,1\n", ("0", "1")),
    ],
    ids=["no header", "header", "other order", "tabs and Windows", "blanks", "indices"],
)
def test_a_list_of_paths_and_labels(text, labels, tmp_path):
    put(tmp_path, "lists/a/1.mp4", "lists/b 2.mp4")
    dataset = open_dataset(str(write(tmp_path / "lists" / "all.csv", text)), split="train")
    assert dataset.labels == labels
    assert items_of(dataset) == [("a/1.mp4", 0, None, None), ("b 2.mp4", 1, None, None)]
    assert load(dataset).failures == []


def test_what_a_list_says_of_flips(tmp_path):
    put(tmp_path, "1.mp4", "2.mp4")
    bare = write(tmp_path / "bare.csv", "1.mp4,0\n2.mp4,1\n")
    names = write(tmp_path / "names.txt", "turn left\nturn right\n")
    indices = open_dataset(f"csv:{bare}", split="train")
    assert [indices.flipped_label(label) for label in (0, 1)] == [None, None]
    named = open_dataset(f"csv:{bare}", split="train", labels=str(names))
    assert [named.flipped_label(label) for label in (0, 1)] == [1, 0]


def test_a_list_with_parts_splits_a_missing_and_a_broken_video(tmp_path):
    put(tmp_path, "1.mp4", "2.mp4")
    put_broken(tmp_path, "3.mp4")
    path = write(
        tmp_path / "all.csv",
        "path,label,split,start_seconds,end_seconds\n"
        "1.mp4,run,train,0,0.1\n"
        "1.mp4,jump,train,0.1,\n"
        "3.mp4,run,train,,\n"
        "4.mp4,run,train,,\n"
        f"{tmp_path / '2.mp4'},walk,val,,0.05\n"
        "2.mp4,,val,,\n",
    )
    train = open_dataset(f"csv:{path}", split="train")
    # the classes of all splits together, so that both count alike
    assert train.labels == ("jump", "run", "walk")
    assert items_of(train) == [
        ("1.mp4#0-0.1", 1, 0.0, 0.1),
        ("1.mp4#0.1-", 0, 0.1, None),
        ("3.mp4", 1, None, None),
    ]
    assert [item.path for item in train.missing] == [tmp_path / "4.mp4"]
    assert [video_id for video_id, _ in load(train).failures] == ["3.mp4"]
    val = open_dataset(f"csv:{path}", split="val")
    assert items_of(val) == [
        (f"{tmp_path / '2.mp4'}#0-0.05", 2, None, 0.05),
        ("2.mp4", -1, None, None),
    ]


def test_indices_and_names_follow_a_given_list_of_labels(tmp_path):
    put(tmp_path, "1.mp4")
    names = write(tmp_path / "names.txt", "walk\nrun\n")
    for label in ("run", "1"):
        path = write(tmp_path / "a.csv", f"1.mp4,{label}\n")
        dataset = open_dataset(f"csv:{path}", split="train", labels=str(names))
        assert (dataset.labels, dataset.items[0].label) == (("walk", "run"), 1)
    # digits may be names
    write(names, "1\n0\n")
    dataset = open_dataset(f"csv:{path}", split="train", labels=str(names))
    assert dataset.items[0].label == 0
    write(tmp_path / "a.csv", "1.mp4,abseiling\n")
    dataset = open_dataset(f"csv:{path}", split="train", labels="kinetics400")
    assert dataset.labels == registry.labels("kinetics400")


@pytest.mark.parametrize(
    ("text", "names", "error", "message"),
    [
        ("1.mp4,runn\n", "run\n", ValueError, r"a\.csv, line 1: the label 'runn' .* mean 'run'\?"),
        (
            "1.mp4,2\n",
            "a\nb\n",
            ValueError,
            r"line 1: the label 2 is no index into 2 labels; give 0 ",
        ),
        ("1.mp4,a\n1.mp4,a\n", "", ValueError, r"line 2: the video '1.mp4' was .*a\.csv, line 1\)"),
        (
            "1.mp4,a,b\n",
            "",
            ValueError,
            r"line 1: '1\.mp4,a,b' does not fit the columns path, label",
        ),
        (",a\n", "", ValueError, "line 1: ',a' does not fit"),
        ("path,lable\n", "", ValueError, "has a column 'lable', unknown .* Did you mean 'label'"),
        ("video,label\n", "", ValueError, "columns video, label, but none is 'path'"),
        ("label,path\na\n", "", ValueError, "line 2: 'a' does not fit the columns label, path"),
        ("path,path\n", "", ValueError, "has a column 'path', unknown or named twice"),
        (
            "path,end_seconds\n1.mp4,x\n",
            "",
            ValueError,
            "line 2: end_seconds is a number of .* 'x'",
        ),
        (
            "path,start_seconds,end_seconds\n1.mp4,3,2\n",
            "",
            ValueError,
            r"line 2: the part from 3\.0 to 2\.0 seconds is empty",
        ),
        ("", "", ValueError, "The split 'train' of 'a' is empty"),
        ("9.mp4,a\n", "", FileNotFoundError, r"None of the 1 videos .* the first as .*9\.mp4"),
        ("1.mp4,a\n", "a\n\nb\n", ValueError, r"names\.txt has an empty line; give one class name"),
        ("1.mp4,a\n", "\n", ValueError, r"names\.txt has no line"),
        ("1.mp4,a\n", "a\nb\na\n", ValueError, r"The label 'a' is listed twice for .*a\.csv"),
    ],
)
def test_wrong_lists_are_refused_in_a_sentence(text, names, error, message, tmp_path):
    put(tmp_path, "1.mp4")
    path = write(tmp_path / "a.csv", text)
    options = {"labels": str(write(tmp_path / "names.txt", names))} if names else {}
    with pytest.raises(error, match=message):
        open_dataset(f"csv:{path}", split="train", **options)


def test_videos_without_labels(tmp_path):
    put(tmp_path, "b.mp4", "a/1.webm")
    put_broken(tmp_path, "a/2.mp4")
    dataset = open_dataset(f"videos:{tmp_path}", split="train")
    assert dataset.labels == ()
    assert facts(dataset) == [("a/1.webm", ""), ("a/2.mp4", ""), ("b.mp4", "")]
    assert load(dataset).labels.tolist() == [-1, -1]
    with pytest.raises(ValueError, match="is empty"):
        open_dataset(f"videos:{(tmp_path / 'empty').mkdir() or tmp_path / 'empty'}", split="train")


@pytest.mark.parametrize(
    ("spec", "options", "message"),
    [
        (
            "k40:somewhere",
            {},
            "'k40:somewhere' is neither a file or folder nor .* k400:, .* csv:, videos:. Did you m",
        ),
        ("nowhere", {}, "'nowhere' is neither a file or folder nor starts with a known scheme"),
        ("k400:", {}, "'k400:' names nothing after its scheme; write 'k400:PATH'"),
        ("k400:x", {"labels": "a"}, "Unknown option 'labels' of the data set 'k400:'. Known: none"),
        ("k400:x", {"num_classes": "4"}, "Unknown option 'num_classes'"),
        ("folder:x", {"label": "a"}, "'label' .* Known: labels. Did you mean 'labels'"),
    ],
)
def test_impossible_names_are_refused(spec, options, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=message):
        open_dataset(spec, split="train", **options)
    with pytest.raises(LookupError, match="Unknown label list 'kinetics40'"):
        (tmp_path / "c" / "c").mkdir(parents=True, exist_ok=True)
        open_dataset("folder:c", split="train", labels="kinetics40")


def test_the_page_about_data_sets_names_every_scheme():
    page = (ROOT / "docs" / "datasets.md").read_text(encoding="utf-8")
    assert [name for name in DATASETS if f"`{name}:" not in page] == []


def dataset(**change):
    items = tuple(
        VideoItem(path=path, label=label, video_id=str(path))
        for path, label in ((1, 0), (2, -1), (3, 2))
    )
    people = (PersonBox(corners=(0, 0, 1, 1), labels=(0, 1)),)
    last = dataclasses.replace(items[2], persons=people)
    made = VideoDataset(
        name="x",
        split="train",
        labels=("left", "up", "right"),
        items=items[:2],
        missing=(last,),
        mirrored={0: 2, 2: 0, 1: 1},
    )
    return dataclasses.replace(made, **change)


def test_labels_are_counted_in_another_list_by_their_names():
    moved = dataset().with_labels(["right", "down", "left", "up"])
    assert [item.label for item in moved.items] == [2, -1]
    assert [item.label for item in moved.missing] == [0]
    assert moved.missing[0].persons[0].labels == (2, 3)
    assert moved.mirrored == {2: 0, 0: 2, 3: 3}
    assert dataset(mirrored=None).with_labels(["right", "left", "up"]).mirrored is None
    with pytest.raises(
        ValueError, match="1 of the 3 classes of 'x' are not among the 2 wanted ones"
    ):
        dataset().with_labels(["left", "right"])


def test_a_data_set_says_what_a_flip_does():
    assert [dataset().flipped_label(label) for label in (0, 1, 2, -1)] == [2, 1, 0, -1]
    assert dataset(mirrored={1: 1}).flipped_label(0) is None
    assert dataset(mirrored=None).flipped_label(0) == 0
    assert dataset(flips_allowed=False).flipped_label(1) is None
