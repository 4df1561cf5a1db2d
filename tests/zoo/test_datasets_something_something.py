"""Something-Something V2, and what a flip makes of its classes."""

import json
import re

import pytest
from dataset_trees import facts, load, put, put_broken, write

import registry
from zoo.datasets import open_dataset
from zoo.datasets.sources import mirrored_labels

NAMES = registry.labels("something_something_v2")
ENTRIES = [
    {
        "id": "78687",
        "label": "holding potato next to vicks vaporub bottle",
        "template": "Holding [something] next to [something]",
        "placeholders": ["potato", "vicks vaporub bottle"],
    },
    {"id": "42326", "label": "pushing a", "template": "Pushing [something] from left to right"},
    {"id": "100904", "label": "b", "template": "Putting [number of] [something] onto [something]"},
    {"id": "9", "label": "c", "template": "Closing [something]"},
]
NUMBERS = {name: str(index) for index, name in enumerate(NAMES)}


def tree(root, entries=ENTRIES, numbers=NUMBERS, *, prefix="", folder="labels", suffix=".webm"):
    write(root / folder / f"{prefix}validation.json", json.dumps(entries))
    write(root / folder / f"{prefix}labels.json", json.dumps(numbers))
    videos = "20bn-something-something-v2"
    put(root, f"{videos}/78687{suffix}", f"{videos}/42326{suffix}")
    put_broken(root, f"{videos}/100904{suffix}")


@pytest.mark.parametrize(
    "layout",
    [{}, {"prefix": "something-something-v2-", "folder": "annotations", "suffix": ".mp4"}],
    ids=["Qualcomm", "20BN, converted"],
)
def test_a_tree_with_a_missing_and_a_broken_video(layout, tmp_path):
    tree(tmp_path, **layout)
    dataset = open_dataset(f"ssv2:{tmp_path}", split="val")
    assert dataset.labels == NAMES
    assert facts(dataset) == [
        ("78687", "Holding something next to something"),
        ("42326", "Pushing something from left to right"),
        ("100904", "Putting number of something onto something"),
    ]
    assert [(item.video_id, item.path.name) for item in dataset.missing] == [("9", "9.webm")]
    batch = load(dataset)
    assert batch.indices.tolist() == [0, 1]
    assert [video_id for video_id, _ in batch.failures] == ["100904"]


def test_the_test_split_has_no_labels(tmp_path):
    tree(tmp_path)
    write(tmp_path / "labels" / "test.json", json.dumps([{"id": "78687"}, {"id": 42326}]))
    assert facts(open_dataset(f"ssv2:{tmp_path}", split="test")) == [("78687", ""), ("42326", "")]


def test_classes_that_tell_left_from_right_are_swapped_by_a_flip(tmp_path):
    tree(tmp_path)
    dataset = open_dataset(f"ssv2:{tmp_path}", split="val")
    swapped = {
        NAMES[label]: NAMES[dataset.flipped_label(label)]
        for label in range(len(NAMES))
        if dataset.flipped_label(label) != label
    }
    assert swapped == {
        "Pulling something from left to right": "Pulling something from right to left",
        "Pulling something from right to left": "Pulling something from left to right",
        "Pushing something from left to right": "Pushing something from right to left",
        "Pushing something from right to left": "Pushing something from left to right",
        "Turning the camera left while filming something": (
            "Turning the camera right while filming something"
        ),
        "Turning the camera right while filming something": (
            "Turning the camera left while filming something"
        ),
    }
    other = {name for name in NAMES if re.search("left|right", name)} - set(swapped)
    assert [name for name in sorted(other) if "upright" not in name] == [
        "Plugging something into something but pulling it right out as you remove your hand"
    ]


def test_a_side_without_its_counterpart_is_not_flipped():
    assert mirrored_labels(["to the left", "up", "to the right"]) == {0: 2, 1: 1, 2: 0}
    assert mirrored_labels(["to the left", "upright"]) == {1: 1}


@pytest.mark.parametrize(
    "names",
    [("left-to-right", "right-to-left"), ("turn_left", "turn_right"), ("Left 2", "Right 2")],
)
def test_a_side_is_found_however_it_is_spelled(names):
    assert mirrored_labels([*names, "bright"]) == {0: 1, 1: 0, 2: 2}


def test_the_same_videos_in_a_list_or_in_class_folders_are_not_flipped_wrongly_either(tmp_path):
    pushed = [name for name in NAMES if name.startswith("Pushing something from ")]
    left, right = pushed
    put(tmp_path, *(f"clips/{name}/1.mp4" for name in (left, right)))
    rows = "".join(f"clips/{name}/1.mp4,{name}\n" for name in pushed)
    path = write(tmp_path / "list.csv", rows)
    for spec in (f"csv:{path}", f"folder:{tmp_path / 'clips'}"):
        dataset = open_dataset(spec, split="train", labels="something_something_v2")
        found = [NAMES[dataset.flipped_label(item.label)] for item in dataset.items]
        assert found == [right, left]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"entries": [*ENTRIES[:1], {"id": "1", "template": "Closin [something]"}]},
            r"validation\.json, entry 2: the label 'Closin something' is not one .* 'Closing some",
        ),
        (
            {"entries": [*ENTRIES[:2], ENTRIES[0]]},
            r"entry 3: the video '78687' was listed before \(.*validation\.json, entry 1\)",
        ),
        ({"entries": []}, "The split 'val' of 'something_something_v2' is empty"),
        ({"entries": {"a": 1}}, r"validation\.json holds no list of videos"),
        ({"entries": [{"template": "x"}]}, r"entry 1: \{'template': 'x'\} has no 'id'"),
        (
            {"numbers": NUMBERS | {NAMES[3]: "4", NAMES[4]: "3"}},
            r"labels\.json numbers 2 classes differently .* first is 'Bending something until",
        ),
        ({"numbers": []}, r"labels\.json holds no numbers"),
    ],
)
def test_wrong_annotations_are_refused_in_a_sentence(change, message, tmp_path):
    tree(tmp_path, **change)
    with pytest.raises(ValueError, match=message):
        open_dataset(f"ssv2:{tmp_path}", split="val")


def test_damaged_json_is_refused(tmp_path):
    tree(tmp_path)
    write(tmp_path / "labels" / "validation.json", '[{"id": "7868')
    with pytest.raises(ValueError, match=r"validation\.json is no valid json \(.*; download it"):
        open_dataset(f"ssv2:{tmp_path}", split="val")
    with pytest.raises(
        FileNotFoundError, match=r"holds no json file of .* looked for labels/train"
    ):
        open_dataset(f"ssv2:{tmp_path}", split="train")
