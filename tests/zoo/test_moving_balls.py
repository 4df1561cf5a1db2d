"""Moving balls: the label says how they move, and only the order of the frames tells the sense."""

from functools import partial

import av
import numpy as np
import pytest
import torch

import zoo
from zoo.datasets import DIRECTIONS, LABELS, MovingBalls, ReversedPairs, open_dataset
from zoo.experiments.fitting import pair_answers
from zoo.sampling import dense, segments, uniform

EIGHT = LABELS[1:]
OPPOSITES = ("left-to-right", "right-to-left")


def bright_centre(clip):
    """Where what is bright lies in each frame of a clip (T, H, W, C): (T, 2), x and y."""
    light = clip.double().mean(dim=-1)  # (T, H, W)
    # Grounds are darker than 0.35 and balls brighter than 0.5.
    weight = (light - 0.42 * 255).clamp(min=0)
    total = weight.sum(dim=(1, 2))
    axis = torch.arange(light.shape[-1]).double()
    x = (weight.sum(dim=1) * axis).sum(dim=1) / total
    y = (weight.sum(dim=2) * axis).sum(dim=1) / total
    return torch.stack([x, y], dim=1).numpy()


def main_axis(points):
    """The direction along which points (T, 2) are spread, whatever their order; degrees, 0-180."""
    _, _, rows = np.linalg.svd(points - points.mean(axis=0))
    return np.degrees(np.arctan2(-rows[0, 1], rows[0, 0])) % 180  # y points downwards


@pytest.fixture(scope="module")
def eight():
    return MovingBalls(160, seed=3, directions=EIGHT, num_frames=8, size=48)


@pytest.mark.parametrize("label", range(8))
def test_the_centre_of_brightness_moves_as_the_label_says(eight, label):
    wanted = np.array(DIRECTIONS[1 + label]) / np.hypot(*DIRECTIONS[1 + label])
    for index in range(label, len(eight), 8):
        clip, found = eight[index]
        assert found == label
        path = bright_centre(clip)
        steps = np.diff(path, axis=0)
        length = np.hypot(*(path[-1] - path[0]))
        assert 0.3 * 48 < length < 0.65 * 48  # the mean of one to three balls
        assert (path[-1] - path[0]) @ wanted > 0.97 * length  # 8 degrees at most
        assert (steps @ wanted > 0).all()


def test_a_group_shows_the_same_balls_in_every_direction(eight):
    for group in range(20):
        clips = [eight[8 * group + label][0] for label in range(8)]
        grounds = {tuple(clip[0, 0, 0].tolist()) for clip in clips}
        assert len(grounds) == 1
        middles = np.stack([bright_centre(clip).mean(axis=0) for clip in clips])
        assert np.ptp(middles, axis=0).max() < 1.0  # pixels; balls that overlap shift it a little
        light = [float(clip.double().mean()) for clip in clips]
        assert np.ptp(light) < 1.0
    first, second = (eight[8 * group][0] for group in (0, 1))
    assert (first[0, 0, 0] != second[0, 0, 0]).any()


def test_opposite_directions_show_the_same_frames_in_reverse(eight):
    for group in range(20):
        for label, name in enumerate(EIGHT):
            other = eight.opposite(label)
            assert set(DIRECTIONS[LABELS.index(name)]) != {0}
            assert (np.add(DIRECTIONS[1 + label], DIRECTIONS[1 + other]) == 0).all(), (
                "the reverse goes the other way"
            )
            clip, reverse = (eight[8 * group + k][0] for k in (label, other))
            assert torch.equal(clip.flip(0), reverse)
            assert not torch.equal(clip, reverse)


def test_the_ceiling_without_order_is_two_thirds():
    """An oracle that sees where balls were, and not when, finds the axis and guesses the sense."""
    balls = MovingBalls(300, seed=1, num_frames=12, size=48)
    assert balls.directions == ("left-to-right", "right-to-left", "diagonal-up-right")
    assert balls.order_blind_ceiling == pytest.approx(2 / 3)
    right, guess = 0, np.random.default_rng(0)
    for index in range(len(balls)):
        clip, label = balls[index]
        angle = main_axis(bright_centre(clip)[guess.permutation(12)])
        horizontal = min(angle, 180 - angle) < abs(angle - 45)
        right += label == (0 if horizontal else 2)  # of the two senses always one
    assert right == 200


@pytest.mark.parametrize(
    ("directions", "ceiling"), [(OPPOSITES, 1 / 2), (EIGHT, 4 / 8), (EIGHT[:3], 2 / 3)]
)
def test_the_ceiling_counts_axes(directions, ceiling):
    balls = MovingBalls(24, seed=0, directions=directions)
    assert balls.order_blind_ceiling == pytest.approx(ceiling)


def test_every_ball_stays_in_the_picture():
    for index in range(60):
        clip, _ = MovingBalls(60, seed=2, num_frames=5, size=32)[index]
        edge = torch.cat([clip[:, 0], clip[:, -1], clip[:, :, 0], clip[:, :, -1]], dim=1)
        # The texture of the ground is 2 % strong; a ball is 15 % brighter or more.
        assert float(edge.float().std(dim=1).max()) < 0.03 * 255


def test_clips_depend_on_seed_and_index_alone():
    balls = MovingBalls(9, seed=4)
    clip, label = balls[5]
    assert (clip.dtype, tuple(clip.shape), label) == (torch.uint8, (16, 64, 64, 3), 2)
    assert torch.equal(MovingBalls(300, seed=4)[5][0], clip)
    assert not torch.equal(MovingBalls(9, seed=5)[5][0], clip)
    assert len(balls) == 9
    assert [label for _, label in balls] == [0, 1, 2] * 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"length": 10}, "length=10; clips come in groups .* give a multiple of 3"),
        ({"length": 0}, "length=0"),
        ({"num_frames": 1}, "num_frames=1; motion needs 2"),
        ({"size": 33}, "size=33; give an even number from 16 on"),
        (
            {"directions": ("still",)},
            "directions=\\('still',\\); give some of left-to-right, right",
        ),
        ({"directions": ()}, "give some of"),
        ({"directions": ("left-to-right",) * 2}, "name each once"),
    ],
)
def test_wrong_wishes_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        MovingBalls(**{"length": 6, "seed": 0} | options)


def test_items_beyond_the_end_are_refused():
    balls = MovingBalls(6, seed=0, directions=OPPOSITES)
    with pytest.raises(IndexError, match="Clip 6 of 6; give 0 to 5"):
        balls[6]
    with pytest.raises(IndexError, match="Clip 12 of 12; give 0 to 11"):
        ReversedPairs(balls, partial(uniform, num_frames=4))[12]


@pytest.mark.parametrize(
    "sample",
    [
        partial(uniform, num_frames=6),
        partial(segments, num_frames=6),
        partial(dense, num_frames=6, stride=2),
    ],
)
def test_pairs_are_sampled_first_and_reversed_then(sample):
    balls = MovingBalls(6, seed=0, directions=OPPOSITES, num_frames=16, size=32)
    pairs = ReversedPairs(balls, sample)
    assert len(pairs) == 12
    indices = sample(16)
    for number in range(6):
        video, label = balls[number]
        (clip, first), (reverse, second) = pairs[2 * number], pairs[2 * number + 1]
        assert torch.equal(clip, video[indices])
        assert torch.equal(reverse, video[indices[::-1]])
        assert (first, second) == (label, 1 - label)


def test_sampling_a_reversed_video_would_show_other_frames():
    """Why sampling comes first: `uniform` starts with the first frame and leaves out the last."""
    video, _ = MovingBalls(2, seed=0, directions=OPPOSITES, num_frames=16, size=32)[0]
    indices = uniform(16, 4)
    frames = {frame.numpy().tobytes() for frame in video[indices]}
    others = {frame.numpy().tobytes() for frame in video.flip(0)[indices]}
    assert frames != others


def test_pairs_need_opposite_directions():
    with pytest.raises(ValueError, match="'diagonal-up-right' is 'diagonal-down-left', which is"):
        ReversedPairs(MovingBalls(3, seed=0), partial(uniform, num_frames=4))


def step(model, clips, labels):
    """Train a little."""
    model.train()
    optimiser = torch.optim.SGD(model.parameters(), lr=0.05)
    for _ in range(2):
        loss = torch.nn.functional.cross_entropy(model(clips), labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    model.eval()


@pytest.mark.parametrize("trained", [False, True])
def test_framepool_is_right_on_exactly_half_of_the_pairs(trained):
    torch.manual_seed(0)
    model = zoo.create("framepool_r18", num_classes=2)
    balls = MovingBalls(16, seed=7, directions=OPPOSITES, num_frames=16, size=32)
    pairs = ReversedPairs(balls, partial(uniform, num_frames=8))
    clips = torch.stack([clip for clip, _ in pairs]).permute(0, 4, 1, 2, 3) / 255
    labels = torch.tensor([label for _, label in pairs])
    if trained:
        step(model, clips, labels)
    with torch.no_grad():
        logits = model(clips)  # (2V, K)
    # One answer to all, which an untrained network gives, would show half as well.
    logits = logits - logits.median(dim=0).values
    answers = pair_answers(logits)
    assert 0 < int(answers.sum()) < len(answers)
    assert float((answers == labels).double().mean()) == 0.5


def test_a_model_that_sees_order_is_not_held_at_half():
    """What follows the brightness over time is right on every clip, so the set can be passed."""
    balls = MovingBalls(16, seed=7, directions=OPPOSITES, num_frames=16, size=32)
    pairs = ReversedPairs(balls, partial(uniform, num_frames=8))
    labels = torch.tensor([label for _, label in pairs])
    moved = torch.tensor([np.ptp([0, *np.diff(bright_centre(c)[[0, -1], 0])]) for c, _ in pairs])
    signs = torch.tensor([np.diff(bright_centre(clip)[[0, -1], 0])[0] for clip, _ in pairs])
    assert float(moved.min()) > 1
    logits = torch.stack([signs, -signs], dim=1)
    assert torch.equal(pair_answers(logits), labels)


def test_a_pair_whose_logits_differ_by_rounding_has_one_answer():
    tie = torch.tensor([[1.0, 1.0 + 1e-7], [1.0 + 1e-7, 1.0]])
    assert tie.argmax(dim=1).tolist() == [1, 0]
    assert pair_answers(tie).tolist() == [1, 1]
    seen = torch.tensor([[1.0, 1.01], [1.01, 1.0]])
    assert pair_answers(seen).tolist() == [1, 0]


def test_written_videos_are_a_folder_of_class_folders(tmp_path):
    balls = MovingBalls(6, seed=0, num_frames=8, size=48)
    balls.write(tmp_path / "balls", fps=12)
    files = sorted(str(path.relative_to(tmp_path / "balls")) for path in tmp_path.rglob("*.mp4"))
    assert files == sorted(f"{balls.directions[index % 3]}/{index}.mp4" for index in range(6))
    read = open_dataset(f"folder:{tmp_path / 'balls'}", split="train")
    assert read.labels == tuple(sorted(balls.directions))
    for item in read.items:
        assert balls.directions[int(item.path.stem) % 3] == read.labels[item.label]
    for index in range(6):
        path = tmp_path / "balls" / balls.directions[index % 3] / f"{index}.mp4"
        with av.open(str(path)) as container:
            assert container.streams.video[0].average_rate == 12
            frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
        clip, _ = balls[index]
        decoded = torch.from_numpy(np.stack(frames))
        assert decoded.shape == clip.shape
        # The codec halves the resolution of colours; the balls are where they were.
        assert np.abs(bright_centre(decoded) - bright_centre(clip)).max() < 0.7
