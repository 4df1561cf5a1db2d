"""AVA: boxes with several labels each, at one second of a film."""

import pytest
import videos
from dataset_trees import load, put_broken, write

import registry
from zoo.datasets import PersonBox, open_dataset

NAMES = registry.labels("ava")
ROWS = (
    "-5KQ66BBWC4,0902,0.077,0.151,0.283,0.811,80,1\n"
    "-5KQ66BBWC4,0902,0.077,0.151,0.283,0.811,9,1\n"
    "-5KQ66BBWC4,0902,0.226,0.032,0.366,0.497,12,0\n"
    "-5KQ66BBWC4,0904,0.1,0.1,0.2,0.2,12,0\n"
    "-5KQ66BBWC4,0903,0.1,0.1,0.2,0.2,1,0\n"
    "-5KQ66BBWC4,0905\n"
    "1j20qq1JyX4,1000,0.1,0.1,0.2,0.2,1,0\n"
    "gone_______,1000,0.1,0.1,0.2,0.2,1,0\n"
)


def tree(root, rows=ROWS, *, version="2.2", videos_in="videos_15min"):
    write(root / "annotations" / f"ava_val_v{version}.csv", rows)
    excluded = "-5KQ66BBWC4,0903\n1j20qq1JyX4,0999\n"
    write(root / "annotations" / f"ava_val_excluded_timestamps_v{version}.csv", excluded)
    (root / videos_in).mkdir(exist_ok=True)
    # cut from second 900 on; six seconds of it
    videos.write_video(root / videos_in / "-5KQ66BBWC4.mp4", 60, rate=10)
    put_broken(root, f"{videos_in}/1j20qq1JyX4.mp4")


def test_ava_names_its_80_actions_in_the_order_of_their_numbers():
    assert len(NAMES) == 80
    # ava_action_list_v2.2: ids 1, 12, 80
    assert (NAMES[0], NAMES[11], NAMES[79]) == (
        "bend/bow (at the waist)",
        "stand",
        "watch (a person)",
    )


@pytest.mark.parametrize("version", ["2.2", "2.1"])
def test_a_tree_with_a_missing_and_a_broken_video(version, tmp_path):
    tree(tmp_path, version=version)
    dataset = open_dataset(f"ava:{tmp_path}", split="val")
    assert (dataset.name, dataset.labels) == ("ava", NAMES)
    facts = [(item.video_id, item.start_seconds, item.end_seconds) for item in dataset.items]
    assert facts == [
        ("-5KQ66BBWC4,0902", 0.5, 3.5),
        ("-5KQ66BBWC4,0904", 2.5, 5.5),
        ("-5KQ66BBWC4,0905", 3.5, 6.5),
        ("1j20qq1JyX4,1000", 98.5, 101.5),
    ]
    first, _, empty, _ = dataset.items
    assert first.persons == (
        PersonBox(corners=(0.077, 0.151, 0.283, 0.811), labels=(8, 79), person_id=1),
        PersonBox(corners=(0.226, 0.032, 0.366, 0.497), labels=(11,), person_id=0),
    )
    assert empty.persons == ()
    assert {item.label for item in dataset.items} == {-1}
    assert [item.video_id for item in dataset.missing] == ["gone_______,1000"]
    batch = load(dataset)
    assert batch.indices.tolist() == [0, 1, 2]
    # two frames, two apart, in the middle of frames 5 to 34 and 25 to 54 and 35 to 59
    shown = [videos.number_of(view) for view in _frames(batch, dataset)]
    assert shown == [18, 38, 46]
    ((video_id, _),) = batch.failures
    assert video_id == "1j20qq1JyX4,1000"


def _frames(batch, dataset):
    """The first frame of each part, read again from the file where the loader found it."""
    from zoo.video import Video

    for clip, index in zip(batch.clips, batch.indices, strict=True):
        with Video(dataset.items[index].path) as video:
            for frame in video.read(range(len(video))):
                crop = frame[:, 8:56].permute(2, 0, 1) / 255
                if crop.equal(clip[0, :, 0]):
                    yield frame.numpy()


def test_whole_films_begin_at_their_own_start(tmp_path):
    tree(tmp_path, videos_in="videos")
    dataset = open_dataset(f"ava:{tmp_path}", split="val")
    assert (dataset.items[0].start_seconds, dataset.items[0].end_seconds) == (900.5, 903.5)
    reasons = [reason for _, reason in load(dataset).failures]
    assert "The part from 900.5 s on is not in the video: its last frame is at 5.90 s" in reasons[0]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("a,0902,0.1,0.1,0.2,0.2,81,0", r"v2\.2\.csv, line 9: the action 81 is not one of 1 to 80"),
        ("a,0902,0.1,0.1,0.2,0.2,0,0", "line 9: the action 0 is not one of"),
        (
            "a,0902,0.3,0.1,0.2,0.2,1,0",
            r"line 9: the box 0\.3,0\.1,0\.2,0\.2 is not x1,y1,x2,y2 wi",
        ),
        ("a,0902,x,0.1,0.2,0.2,1,0", r"line 9: the box x,0\.1,0\.2,0\.2 is not"),
        ("a,noon,0.1,0.1,0.2,0.2,1,0", "line 9: 'noon' is given where a whole number belongs"),
        ("a,0902,0.1", "line 9 has 3 columns; a line of AVA is video_id,timestamp,x1"),
    ],
)
def test_wrong_lines_are_refused(row, message, tmp_path):
    tree(tmp_path, ROWS + row + "\n")
    with pytest.raises(ValueError, match=message):
        open_dataset(f"ava:{tmp_path}", split="val")


def test_what_is_missing_is_named(tmp_path):
    tree(tmp_path)
    with pytest.raises(
        FileNotFoundError, match=r"no csv of the AVA split 'train'; looked for anno"
    ):
        open_dataset(f"ava:{tmp_path}", split="train")
    with pytest.raises(ValueError, match="Unknown split 'test'. Known: train, val"):
        open_dataset(f"ava:{tmp_path}", split="test")
    (tmp_path / "annotations" / "ava_val_excluded_timestamps_v2.2.csv").unlink()
    with pytest.raises(FileNotFoundError, match=r"no list of excluded time stamps; looked for"):
        open_dataset(f"ava:{tmp_path}", split="val")
