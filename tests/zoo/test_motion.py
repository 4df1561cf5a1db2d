"""Synthetic motion: labels say how the content moves, and only the order of frames tells its sense.

The direction is measured here by means that share nothing with the generator: where the
difference of two frames turns up again a few frames later.
"""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from zoo.datasets import DIRECTIONS, LABELS, OPPOSITE, ORDER_BLIND_CEILING, MotionClips
from zoo.datasets.degradations import h264_round_trip, jpeg_round_trip
from zoo.datasets.pans import choose_start, slide_window, write_mp4
from zoo.datasets.textures import spectral_noise

CLIPS = Path(__file__).parents[2] / "examples" / "clips"


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Clips are small: a second thread costs more than it gives, above all beside other tests."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def displacement(clip: torch.Tensor, *, gap: int = 3) -> tuple[int, int]:
    """How far what changes in a clip (T, H, W, C) moves in `gap` frames: (x, y) whole pixels.

    A still ground cancels in the difference of neighbouring frames; what is left of the moving
    content is correlated with the same difference `gap` frames later.
    """
    frames = clip.double().mean(dim=-1)  # (T, H, W)
    change = frames[1:] - frames[:-1]
    before, after = torch.fft.fft2(change[:-gap]), torch.fft.fft2(change[gap:])
    score = torch.fft.ifft2(before.conj() * after).real.sum(dim=0)  # (H, W)
    height, width = score.shape
    y, x = divmod(int(score.argmax()), width)
    return (x + width // 2) % width - width // 2, (y + height // 2) % height - height // 2


def compass(x: float, y: float) -> int:
    """The label whose direction is nearest to a displacement."""
    if (x, y) == (0, 0):
        return 0
    return max(range(1, 9), key=lambda k: np.dot(DIRECTIONS[k], (x, y)) / np.hypot(*DIRECTIONS[k]))


def test_directions_are_what_the_labels_say() -> None:
    words = {"left-to-right": (1, 0), "right-to-left": (-1, 0)}
    words |= {"top-to-bottom": (0, 1), "bottom-to-top": (0, -1), "still": (0, 0)}
    for label, (x, y) in zip(LABELS, DIRECTIONS, strict=True):
        if label.startswith("diagonal-"):
            _, vertical, horizontal = label.split("-")
            expected = ({"right": 1, "left": -1}[horizontal], {"down": 1, "up": -1}[vertical])
        else:
            expected = words[label]
        assert (x, y) == expected, label
    assert [LABELS[k] for k in OPPOSITE][:3] == ["still", "right-to-left", "left-to-right"]
    assert LABELS[OPPOSITE[LABELS.index("diagonal-up-right")]] == "diagonal-down-left"
    assert pytest.approx((1 + 4) / 9) == ORDER_BLIND_CEILING


@pytest.mark.parametrize("scene", ["pan", "object"])
def test_content_moves_as_its_label_says(scene: str) -> None:
    clips = MotionClips(288, seed=5, scenes=(scene,), speeds=(1.2, 4.0), degraded=False)
    items = [clips[index] for index in range(0, 288, 2)]
    moving = [(compass(*displacement(clip)), label) for clip, label in items if label]
    right = sum(found == label for found, label in moving)
    # Whole pixels and things that pass in front cost a few clips a neighbouring direction; an
    # exchanged or mirrored label would cost a ninth of them or more.
    assert right >= 0.93 * len(moving)
    opposite = sum(found == OPPOSITE[label] for found, label in moving)
    assert opposite <= 0.01 * len(moving)


def test_clips_without_disturbance_stand_still_exactly_if_labelled_so() -> None:
    for clip, label in MotionClips(36, seed=2, degraded=False):
        assert bool((clip == clip[:1]).all()) == (label == 0), LABELS[label]


def test_still_clips_do_change_when_disturbed() -> None:
    items = MotionClips(360, seed=3)
    clips = [items[index][0] for index in range(0, 360, 18)]
    assert {items[index][1] for index in (0, 18, 342)} == {0}
    changes = [float((clip[1:].float() - clip[:-1].float()).abs().mean()) for clip in clips]
    assert np.mean([change > 1 for change in changes]) > 0.6  # grey levels


def test_motion_keeps_to_the_asked_speed() -> None:
    clips = MotionClips(72, seed=8, scenes=("pan",), speeds=(3.0, 3.0), degraded=False)
    lengths = [np.hypot(*displacement(clip)) for clip, label in clips if label]
    assert abs(np.median(lengths) - 9.0) < 0.75  # three frames


def test_speeds_grow_with_the_size() -> None:
    clips = MotionClips(18, seed=8, size=128, scenes=("pan",), speeds=(2.0, 2.0), degraded=False)
    lengths = [np.hypot(*displacement(clip)) for clip, label in clips if label]
    assert abs(np.median(lengths) - 12.0) < 1


def test_an_item_depends_on_seed_and_index_alone() -> None:
    clips = MotionClips(40, seed=11)
    wanted, label = clips[17]
    np.random.default_rng(0).random()
    torch.manual_seed(1)
    clips[4]
    again, same_label = MotionClips(18, seed=11)[17]
    assert torch.equal(wanted, again)
    assert label == same_label
    other, _ = MotionClips(40, seed=12)[17]
    assert not torch.equal(wanted, other)
    assert not torch.equal(clips[0][0], clips[18][0])  # the same label, another scene


def test_items_come_in_reversed_pairs_and_labels_are_balanced() -> None:
    items = list(MotionClips(36, seed=4))
    for (clip, label), (backwards, opposite) in zip(items[::2], items[1::2], strict=True):
        assert torch.equal(clip.flip(0), backwards)
        assert opposite == OPPOSITE[label]
    assert Counter(label for _, label in items) == dict.fromkeys(range(9), 4)


def test_shapes_and_types() -> None:
    clip, label = MotionClips(2, seed=0, num_frames=5, size=48)[1]
    assert clip.shape == (5, 48, 48, 3)
    assert clip.dtype == torch.uint8
    assert isinstance(label, int)
    assert len(MotionClips(2, seed=0)) == 2


def test_clips_are_seen_well_enough() -> None:
    clips = MotionClips(72, seed=6)
    spreads = [float(clips[index][0].float().std()) for index in range(0, 72, 2)]
    assert min(spreads) > 2  # grey levels
    assert np.median(spreads) > 15


@pytest.mark.parametrize(
    ("choices", "match"),
    [
        ({"length": 3}, "length=3"),
        ({"length": 0}, "length=0"),
        ({"num_frames": 1}, "num_frames=1"),
        ({"size": 33}, "size=33"),
        ({"scenes": ("film",)}, "known: 'pan', 'object'"),
        ({"scenes": ()}, "known: 'pan', 'object'"),
        ({"speeds": (0.0, 2.0)}, "above 0"),
        ({"speeds": (3.0, 2.0)}, "slowest, fastest"),
    ],
)
def test_bad_choices_are_refused(choices: dict[str, object], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        MotionClips(**{"length": 2, "seed": 0, **choices})


def test_an_index_beyond_the_end_is_refused() -> None:
    with pytest.raises(IndexError, match="Clip 2 of 2"):
        MotionClips(2, seed=0)[2]


def test_noise_has_the_asked_spectrum() -> None:
    field = spectral_noise(np.random.default_rng(0), 128, channels=4, slope=1.5)
    power = torch.fft.rfft2(field).abs().square().mean(dim=0)  # (S, S/2 + 1)
    slope = torch.log(power[0, 4:8].mean() / power[0, 16:32].mean()) / np.log(4)
    assert abs(float(slope) / 2 - 1.5) < 0.4
    assert torch.allclose(field.std(dim=(1, 2)), torch.ones(4), atol=1e-3)


@pytest.mark.parametrize("codec", ["jpeg", "h264"])
def test_codecs_keep_frames_in_order_and_disturb_little(codec: str) -> None:
    axis = np.linspace(0, 1, 64)
    waves = [np.sin(6 * (axis[:, None] + axis[None, :]) + index) for index in range(8)]
    frames = np.stack([100 + 60 * np.stack([wave] * 3, axis=-1) for wave in waves])
    frames = frames.astype(np.uint8)  # (T, H, W, C)
    if codec == "jpeg":
        coarse, fine = (jpeg_round_trip(frames, quality=quality) for quality in (10, 90))
    else:
        coarse, fine = (h264_round_trip(frames, crf=crf) for crf in (45, 18))
    errors = [np.abs(result.astype(float) - frames).mean() for result in (coarse, fine)]
    assert fine.shape == frames.shape
    assert errors[1] < 3
    assert errors[0] > errors[1]


def spot(x: int, y: int) -> Image.Image:
    """A gray picture of 300x240 with one white spot."""
    picture = Image.new("RGB", (300, 240), (90, 90, 90))
    ImageDraw.Draw(picture).rectangle((x - 4, y - 4, x + 4, y + 4), fill=(255, 255, 255))
    return picture


@pytest.mark.parametrize("label", range(9))
def test_a_sliding_window_moves_its_content_as_the_label_says(label: int) -> None:
    frames = slide_window(
        spot(150, 120), label, start=(100, 70), window=(100, 100), step=1.5, num_frames=13
    )
    assert frames.shape == (13, 100, 100, 3)
    rows, columns = np.nonzero(frames[0, ..., 0] > 200)
    assert (round(columns.mean()), round(rows.mean())) == (50, 50)
    later_rows, later_columns = np.nonzero(frames[-1, ..., 0] > 200)
    x, y = later_columns.mean() - 50, later_rows.mean() - 50
    assert compass(round(x), round(y)) == label
    assert abs(np.hypot(x, y) - (18 if label else 0)) < 1


def test_a_window_that_leaves_the_picture_is_refused() -> None:
    with pytest.raises(ValueError, match="leaves the picture of 300x240"):
        slide_window(spot(9, 9), 2, start=(180, 0), window=(100, 100), step=4, num_frames=9)
    with pytest.raises(ValueError, match="take a smaller window"):
        choose_start(
            spot(9, 9), 3, window=(200, 200), step=9, num_frames=9, rng=np.random.default_rng(0)
        )
    with pytest.raises(ValueError, match="Label 9 is not known"):
        slide_window(spot(9, 9), 9, start=(0, 0), window=(8, 8), step=1, num_frames=2)


@pytest.mark.parametrize("label", range(9))
def test_a_window_starts_where_there_is_something_to_see(label: int) -> None:
    rng = np.random.default_rng(label)
    place = {"window": (64, 64), "step": 2.0, "num_frames": 11}
    start = choose_start(spot(150, 120), label, rng=rng, contrast=5, **place)
    frames = slide_window(spot(150, 120), label, start=start, **place)
    assert frames[5].std() >= 5


@pytest.mark.parametrize("path", sorted(CLIPS.glob("*.mp4")), ids=lambda path: path.stem)
def test_example_clips_move_as_their_names_say(path) -> None:
    import av

    with av.open(str(path)) as container:
        frames = [frame.to_ndarray(format="gray") for frame in container.decode(video=0)]
    assert len(frames) == 60
    assert path.stat().st_size < 100_000
    clip = torch.from_numpy(np.stack(frames[20:36]))[..., None]
    change = float((clip[-1].float() - clip[0].float()).abs().mean())
    if path.stem.endswith("-still"):
        assert change < 2  # grey levels
        return
    assert change > 4
    assert path.stem.endswith("-" + LABELS[compass(*displacement(clip, gap=4))])


def test_an_mp4_holds_the_frames(tmp_path) -> None:
    import av

    frames = slide_window(
        spot(150, 120), 1, start=(120, 70), window=(100, 80), step=2, num_frames=9
    )
    write_mp4(tmp_path / "pan.mp4", frames, fps=25)
    with av.open(str(tmp_path / "pan.mp4")) as container:
        assert container.streams.video[0].average_rate == 25
        decoded = np.stack(
            [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
        )
    assert decoded.shape == frames.shape
    assert np.abs(decoded.astype(int) - frames).mean() < 3
