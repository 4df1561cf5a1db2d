"""UCF-101 and HMDB-51: folds, lists and class folders of their authors."""

import pytest
from dataset_trees import facts, load, put, put_broken, write

import registry
from zoo.datasets import open_dataset

UCF = registry.labels("ucf101")
HMDB = registry.labels("hmdb51")
CLASSES = "".join(f"{number} {name}\r\n" for number, name in enumerate(UCF, start=1))
TRAIN = (
    "ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c01.avi 1\n"
    "HandstandPushups/v_HandStandPushups_g08_c01.avi 37\n"
    "YoYo/v_YoYo_g25_c05.avi 101\n"
    "YoYo/v_YoYo_g25_c06.avi 101\n"
)
TEST = "Archery/v_Archery_g01_c01.avi\nArchery/v_Archery_g01_c02.avi\n"


def ucf(root, *, lists="ucfTrainTestlist", videos="UCF-101", train=TRAIN, classes=CLASSES):
    for fold, text in ((1, train), (2, "YoYo/v_YoYo_g25_c05.avi 101\n")):
        write(root / lists / f"trainlist{fold:02d}.txt", text)
    write(root / lists / "testlist01.txt", TEST)
    write(root / lists / "classInd.txt", classes)
    put(
        root / videos,
        "ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c01.avi",
        "HandstandPushups/v_HandStandPushups_g08_c01.avi",
        "Archery/v_Archery_g01_c01.avi",
    )
    put_broken(root / videos, "YoYo/v_YoYo_g25_c05.avi")


@pytest.mark.parametrize(
    "places",
    [{}, {"lists": "annotations", "videos": "videos"}, {"lists": ".", "videos": "."}],
    ids=["archives", "mmaction2", "one folder"],
)
def test_ucf101_with_a_missing_and_a_broken_video(places, tmp_path):
    ucf(tmp_path, **places)
    train = open_dataset(f"ucf101:{tmp_path}", split="train")
    assert (train.name, train.split, train.labels) == ("ucf101", "train1", UCF)
    assert facts(train) == [
        ("v_ApplyEyeMakeup_g08_c01", "ApplyEyeMakeup"),
        ("v_HandStandPushups_g08_c01", "HandstandPushups"),
        ("v_YoYo_g25_c05", "YoYo"),
    ]
    (missing,) = train.missing
    assert missing.path.parts[-2:] == ("YoYo", "v_YoYo_g25_c06.avi")
    batch = load(train)
    assert batch.labels.tolist() == [0, UCF.index("HandstandPushups")]
    assert [video_id for video_id, _ in batch.failures] == ["v_YoYo_g25_c05"]


def test_ucf101_has_three_folds_and_calls_its_test_set_val_too(tmp_path):
    ucf(tmp_path)
    for split in ("test", "val", "test1", "val1"):
        dataset = open_dataset(f"ucf101:{tmp_path}", split=split)
        assert (dataset.split, facts(dataset)) == ("test1", [("v_Archery_g01_c01", "Archery")])
        assert [item.video_id for item in dataset.missing] == ["v_Archery_g01_c02"]
    assert facts(open_dataset(f"ucf101:{tmp_path}", split="train2")) == [("v_YoYo_g25_c05", "YoYo")]
    with pytest.raises(FileNotFoundError, match=r"no list trainlist03\.txt; looked for ucfTrain"):
        open_dataset(f"ucf101:{tmp_path}", split="train3")
    for split in ("train4", "validate", "train12"):
        with pytest.raises(
            ValueError, match=f"Unknown split '{split}'. Known: train, train1, .*t3"
        ):
            open_dataset(f"ucf101:{tmp_path}", split=split)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (
            {"train": "YoYoo/v_a.avi 101\n"},
            ValueError,
            r"list01\.txt, line 1: the label 'YoYoo' is not one of the 101 .* Did you mean 'YoYo'",
        ),
        (
            {"train": TRAIN + "YoYo/v_b.avi 100\n"},
            ValueError,
            r"line 5: the class of 'YoYo/v_b\.avi' is given as '100', which .* 'WritingOnBoard'",
        ),
        (
            {"train": TRAIN + TRAIN},
            ValueError,
            r"line 5: the video 'v_ApplyEye.*' was listed before \(.*list01\.txt, line 1\)",
        ),
        ({"train": "\n"}, ValueError, "The split 'train1' of 'ucf101' is empty"),
        ({"classes": "1 Nothing\n"}, ValueError, r"classInd\.txt, line 1: 'Nothing' is no class"),
        ({"train": "YoYo/v_c.avi 101"}, FileNotFoundError, r"None of the 1 videos .*YoYo/v_c\.avi"),
    ],
)
def test_wrong_lists_of_ucf101_are_refused(change, error, message, tmp_path):
    ucf(tmp_path, **change)
    with pytest.raises(error, match=message):
        open_dataset(f"ucf101:{tmp_path}", split="train")


BRUSH = (
    "April_09_brush_hair_u_nm_np1_ba_goo_0.avi 1 \n"
    "Blonde!_&_(hair)_u_cm_np2_le_goo_0.avi 2 \n"
    "left_out_0.avi 0 \n"
    "broken_0.avi 1 \n"
    "gone_0.avi 1 \n"
)


def hmdb(root, *, lists="testTrainMulti_7030_splits", videos="hmdb51_org", brush=BRUSH):
    for name in HMDB:
        write(root / lists / f"{name}_test_split1.txt", "")
    write(root / lists / "brush_hair_test_split1.txt", brush)
    # the same file name in two classes
    write(root / lists / "wave_test_split1.txt", "broken_0.avi 1 \n")
    put(
        root / videos,
        "brush_hair/April_09_brush_hair_u_nm_np1_ba_goo_0.avi",
        "brush_hair/Blonde!_&_(hair)_u_cm_np2_le_goo_0.avi",
        "brush_hair/left_out_0.avi",
        "wave/broken_0.avi",
    )
    put_broken(root / videos, "brush_hair/broken_0.avi")


@pytest.mark.parametrize(
    "places",
    [
        {},
        {"lists": "annotations", "videos": "videos"},
        {"lists": "test_train_splits", "videos": "."},
        {"lists": ".", "videos": "."},
    ],
    ids=["archives", "mmaction2", "class folders", "one folder"],
)
def test_hmdb51_with_a_missing_and_a_broken_video(places, tmp_path):
    hmdb(tmp_path, **places)
    train = open_dataset(f"hmdb51:{tmp_path}", split="train1")
    assert (train.name, train.split, train.labels) == ("hmdb51", "train1", HMDB)
    assert facts(train) == [
        ("brush_hair/April_09_brush_hair_u_nm_np1_ba_goo_0", "brush_hair"),
        ("brush_hair/broken_0", "brush_hair"),
        ("wave/broken_0", "wave"),
    ]
    assert [item.video_id for item in train.missing] == ["brush_hair/gone_0"]
    batch = load(train)
    assert batch.labels.tolist() == [0, HMDB.index("wave")]
    assert [video_id for video_id, _ in batch.failures] == ["brush_hair/broken_0"]
    test = open_dataset(f"hmdb51:{tmp_path}", split="val")
    assert facts(test) == [("brush_hair/Blonde!_&_(hair)_u_cm_np2_le_goo_0", "brush_hair")]


@pytest.mark.parametrize(
    ("brush", "message"),
    [
        (BRUSH + "a.avi 3\n", r"split1\.txt, line 6: 'a\.avi 3' is not a file name and 0, 1 \(tr"),
        ("a.avi\n", "line 1: 'a.avi' is not a file name and"),
        (BRUSH + "gone_0.avi 1\n", r"line 6: the video 'brush_hair/gone_0' was .*, line 5\)"),
    ],
)
def test_wrong_lists_of_hmdb51_are_refused(brush, message, tmp_path):
    hmdb(tmp_path, brush=brush)
    with pytest.raises(ValueError, match=message):
        open_dataset(f"hmdb51:{tmp_path}", split="train")


def test_lists_of_hmdb51_that_are_no_class_or_missing_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="lacks the lists of 51 classes, the first brush_"):
        open_dataset(f"hmdb51:{tmp_path}", split="train")
    hmdb(tmp_path)
    lists = tmp_path / "testTrainMulti_7030_splits"
    stray = write(lists / "brush_hat_test_split1.txt", "")
    with pytest.raises(ValueError, match="the label 'brush_hat' is not .* mean 'brush_hair'"):
        open_dataset(f"hmdb51:{tmp_path}", split="train")
    stray.unlink()
    (lists / "wave_test_split1.txt").unlink()
    with pytest.raises(FileNotFoundError, match=r"lists of 1 classes, the first wave_test_split1"):
        open_dataset(f"hmdb51:{tmp_path}", split="train")
