"""Kinetics in the layouts in which people have it."""

import pytest
from dataset_trees import facts, load, put, put_broken, write

import registry
from zoo.datasets import open_dataset

HEADER = "label,youtube_id,time_start,time_end,split\n"
ROWS = [
    "abseiling,-3B32lodo2M,59,69,validate",
    '"dancing ballet",0wR5jVB-WPk,417,427,validate',
    "zumba,__broken___,0,10,validate",
    "yoga,___gone____,1,11,validate",
]
FILES = ["-3B32lodo2M_000059_000069.mp4", "0wR5jVB-WPk_000417_000427.mp4"]
BROKEN = "__broken____000000_000010.mp4"
WANTED = [
    ("-3B32lodo2M_000059_000069", "abseiling"),
    ("0wR5jVB-WPk_000417_000427", "dancing ballet"),
    ("__broken____000000_000010", "zumba"),
]
LAYOUTS = {
    "CVDF": ("annotations/val.csv", ["val/{}", "val/{}", "val/{}"]),
    "DeepMind and the crawler": (
        "validate.csv",
        ["validate/abseiling/{}", "validate/dancing ballet/{}", "validate/zumba/{}"],
    ),
    "mmaction2": (
        "annotations/kinetics_val.csv",
        ["videos_val/abseiling/{}", "videos_val/dancing_ballet/{}", "videos_val/zumba/{}"],
    ),
    "no split folders": ("val.csv", ["clips/a/{}", "clips/b/{}", "clips/{}"]),
}


def tree(root, layout="CVDF", header=HEADER, rows=ROWS):
    source, places = LAYOUTS[layout]
    put(root, *(place.format(file) for place, file in zip(places, FILES, strict=False)))
    put_broken(root, places[2].format(BROKEN))
    return write(root / source, header + "".join(f"{row}\n" for row in rows))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_usual_layout_is_read(layout, tmp_path):
    tree(tmp_path, layout)
    # a copy for training must not be taken for the one of this split
    put(tmp_path, f"{'other' if layout == 'no split folders' else 'train'}/{FILES[0]}")
    dataset = open_dataset(f"k400:{tmp_path}", split="val")
    assert (dataset.name, dataset.split) == ("kinetics400", "val")
    assert dataset.labels == registry.labels("kinetics400")
    assert facts(dataset) == WANTED
    assert all("train" not in item.path.parts for item in dataset.items)
    assert [item.video_id for item in dataset.missing] == ["___gone_____000001_000011"]
    batch = load(dataset)
    assert batch.labels.tolist() == [dataset.labels.index(name) for _, name in WANTED[:2]]
    ((video_id, reason),) = batch.failures
    assert video_id == WANTED[2][0]
    assert "cannot be opened as a video" in reason
    assert str(tmp_path) in reason


@pytest.mark.parametrize("size", [400, 600, 700])
def test_classes_are_counted_in_the_list_of_the_zoo(size, tmp_path):
    names = registry.labels(f"kinetics{size}")
    rows = [f'"{names[k]}",id{k},0,10,train' for k in (size - 1, 0, 7)]
    write(tmp_path / "train.csv", HEADER + "\n".join(rows))
    put(tmp_path, *(f"train/id{k}_000000_000010.mp4" for k in (size - 1, 0, 7)))
    dataset = open_dataset(f"k{size}:{tmp_path}", split="train")
    assert [item.label for item in dataset.items] == [size - 1, 0, 7]


def test_further_columns_other_splits_and_a_test_set_without_labels(tmp_path):
    rows = ["yoga,a,0,10,train,0", "zumba,b,3,13,test,1"]
    header = "label,youtube_id,time_start,time_end,split,is_cc\n"
    put(tmp_path, "a_000000_000010.mp4", "b_000003_000013.mp4")
    for name in ("train", "val"):
        write(tmp_path / f"{name}.csv", header + "\n".join(rows))
    write(tmp_path / "test.csv", "youtube_id,time_start,time_end,split\nb,3,13,test\n")
    train = open_dataset(f"k700:{tmp_path}", split="train")
    assert facts(train) == [("a_000000_000010", "yoga")]
    test = open_dataset(f"k700:{tmp_path}", split="test")
    assert facts(test) == [("b_000003_000013", "")]
    with pytest.raises(ValueError, match=r"The split 'val' of 'kinetics700' is empty: .*val\.csv"):
        open_dataset(f"k700:{tmp_path}", split="val")


def test_a_replaced_video_comes_first(tmp_path):
    write(tmp_path / "train.csv", HEADER + "yoga,a,0,10,train\n")
    put_broken(tmp_path, "train/a_000000_000010.mp4")
    put(tmp_path, "replacement/replacement_for_corrupted_k400/a_000000_000010.mp4")
    dataset = open_dataset(f"k400:{tmp_path}", split="train")
    assert dataset.items[0].path.parts[-3] == "replacement"
    assert load(dataset).failures == []


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (
            {"rows": [*ROWS[:2], "yogga,x,0,10,validate"]},
            ValueError,
            r"val\.csv, line 4: the label 'yogga' is not one of the 400 .* Did you mean 'yoga'\?",
        ),
        (
            {"rows": [*ROWS[:3], ROWS[0]]},
            ValueError,
            r"val\.csv, line 5: the video '-3B32lodo2M_000059_000069' was listed before "
            r"\(.*val\.csv, line 2\)",
        ),
        ({"rows": []}, ValueError, "The split 'val' of 'kinetics400' is empty"),
        ({"rows": ["yoga,x,now,10,val"]}, ValueError, "line 2: time_start and time_end are sec"),
        ({"header": "path,label\n"}, ValueError, r"columns path, label; a csv of Kinetics has"),
        (
            {"rows": ROWS[3:]},
            FileNotFoundError,
            r"None of the 1 videos that .*val\.csv lists for 'val' was found, the first as "
            r".*val/___gone_____000001_000011\.mp4",
        ),
    ],
)
def test_wrong_annotations_are_refused_in_a_sentence(change, error, message, tmp_path):
    tree(tmp_path, **change)
    with pytest.raises(error, match=message):
        open_dataset(f"k400:{tmp_path}", split="val")


def test_a_missing_csv_split_or_root_is_refused(tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r"holds no csv of .* 'val'; .*annotations/val\.csv"
    ):
        open_dataset(f"k400:{tmp_path}", split="val")
    with pytest.raises(ValueError, match="Unknown split 'vall'. Known: train, val, test. Did you"):
        open_dataset(f"k400:{tmp_path}", split="vall")
    with pytest.raises(FileNotFoundError, match=r"There is no folder .*none; give the data set's"):
        open_dataset(f"k400:{tmp_path / 'none'}", split="val")
    with pytest.raises(NotADirectoryError, match=r"a\.csv is a file; give the data set's root"):
        open_dataset(f"k400:{write(tmp_path / 'a.csv', '')}", split="val")
