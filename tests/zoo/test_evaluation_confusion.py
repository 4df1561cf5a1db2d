"""The picture of a confusion matrix: its cells, its names, and what is left out."""

import numpy as np
import pytest
from PIL import Image

from zoo.evaluation import confusion
from zoo.evaluation.confusion import draw_confusion

WHITE, PALE = (255, 255, 255), (218, 220, 224)


def picture(path):
    """uint8 (H, W, 3)."""
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def cells(path, rows, columns):
    """The colour near a corner of every cell, found by the grid's lines, uint8 (R, C, 3)."""
    pixels = picture(path)
    lines = (pixels == PALE).all(-1)
    across = np.flatnonzero(lines.mean(1) > 0.9 * lines.mean(1).max())
    down = np.flatnonzero(lines.mean(0) > 0.9 * lines.mean(0).max())
    assert (len(across), len(down)) == (rows + 1, columns + 1)
    return pixels[np.ix_(across[:-1] + 3, down[:-1] + 3)].astype(int)


def test_cells_are_coloured_by_their_share_of_the_row(tmp_path):
    counts = np.array([[8, 2, 0], [0, 5, 5], [0, 0, 1]])
    draw_confusion(counts, ["left", "right", "up"], tmp_path / "c.png", title="three")
    found = cells(tmp_path / "c.png", 3, 3)
    for row in range(3):
        for column in range(3):
            red, _, blue = found[row, column]
            if counts[row, column] == 0:
                assert tuple(found[row, column]) == WHITE
            else:
                assert (blue > red) == (row == column)
    darkness = 3 * 255 - found.sum(-1)
    assert darkness[2, 2] > darkness[0, 0] > darkness[1, 1]
    assert darkness[1, 2] > darkness[0, 1] > 0


def test_only_classes_with_videos_are_drawn(tmp_path):
    counts = np.zeros((400, 400), int)
    counts[7, 7], counts[7, 300], counts[9, 7], counts[9, 9] = 3, 1, 2, 2
    draw_confusion(counts, [f"class {k}" for k in range(400)], tmp_path / "c.png", title="two")
    found = cells(tmp_path / "c.png", 2, 3)  # and one column for all others
    assert tuple(found[1, 2]) == WHITE
    assert found[0, 2, 0] > found[0, 2, 2]


@pytest.mark.parametrize("classes", [1, 3, 40, 200])
def test_every_class_keeps_room_for_its_name(tmp_path, classes):
    path = tmp_path / "c.png"
    draw_confusion(np.eye(classes, dtype=int), ["name"] * classes, path, title="all right")
    found = cells(path, classes, classes)
    assert (found[np.eye(classes, dtype=bool)] == (26, 115, 232)).all()
    size = picture(path).shape[:2]
    assert min(size) >= max(classes * confusion._SMALLEST_CELL, 200)
    assert max(size) < 1200 or classes == 200


def test_names_stand_beside_rows_and_above_columns(tmp_path):
    """Ink is where names are: more of it for longer ones, in both directions."""
    inks = []
    for name in ("a", "a long name of a class"):
        draw_confusion(np.eye(2, dtype=int), [name, "b"], tmp_path / "c.png", title="t")
        pixels = picture(tmp_path / "c.png").max(-1) < 100
        top = 24 + 60
        inks.append((pixels[top:, :].sum(), pixels.shape))
    assert inks[1][0] > 3 * inks[0][0]
    assert inks[1][1][0] > inks[0][1][0]


def test_a_very_long_name_is_cut(tmp_path):
    draw_confusion(np.eye(2, dtype=int), ["x" * 500, "b"], tmp_path / "c.png", title="t")
    assert max(picture(tmp_path / "c.png").shape) < 1500
