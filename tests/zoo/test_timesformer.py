"""The records of TimeSformer against its authors' code, and clips of other lengths and sizes."""

from itertools import pairwise

import pytest
import torch
from scrambling import assert_close, random_clip, scramble

import registry
import zoo
from registry import Metric, UpstreamSource
from zoo.sampling import segments

RECORDS = {
    f"{name}.{weights.tag}": weights
    for name in ("timesformer_divided", "timesformer_divided_hr", "timesformer_divided_l")
    for weights in registry.info(name).weights
    if isinstance(weights.source, UpstreamSource)
}
SHAPES = {
    "timesformer_divided": (8, 32, 224),
    "timesformer_divided_hr": (16, 16, 448),
    "timesformer_divided_l": (96, 4, 224),
}


def test_every_checkpoint_of_the_readme_has_a_record():
    assert len(RECORDS) == 13
    for name, (num_frames, stride, size) in SHAPES.items():
        for tag in ("k400", "k600"):
            record = RECORDS[f"{name}.{tag}"]
            assert record.sampling.num_frames == num_frames
            assert record.sampling.frame_stride == stride
            assert record.preprocess.img_size == record.preprocess.resize == size
            assert record.num_classes == {"k400": 400, "k600": 600}[tag]


@pytest.mark.parametrize("name", RECORDS)
def test_the_authors_file_is_the_source_or_a_mirror(name):
    record = RECORDS[name]
    sources = [record.source, *record.mirrors]
    official = sources[-1]
    assert official.layout == "timesformer"
    assert official.url.endswith(f"{official.filename}?dl=1")  # dl=0 is a page for browsers
    assert [source.layout for source in sources[:-1]] == ["transformers"] * (len(sources) - 1)
    assert bool(record.mirrors) == ("howto100m" not in name)
    assert all(isinstance(metric, Metric) for metric in record.metrics)
    labels = registry.labels(record.labels) if record.labels else None
    assert labels is None or len(labels) == record.num_classes


@pytest.mark.parametrize("name", SHAPES)
def test_something_something_is_read_in_blue_green_red(name):
    """Their loader takes OpenCV's channels as they are; Kinetics comes from PyAV in RGB."""
    ssv2, k400 = RECORDS[f"{name}.ssv2"], RECORDS[f"{name}.k400"]
    assert (ssv2.preprocess.channel_order, k400.preprocess.channel_order) == ("bgr", "rgb")
    assert (ssv2.sampling.rule, k400.sampling.rule) == ("segments", "span")
    assert (ssv2.num_classes, ssv2.labels) == (174, "something_something_v2")
    assert RECORDS["timesformer_divided_l.ssv2"].sampling.num_frames == 64


@pytest.mark.parametrize("num_frames", [8, 16, 64])
def test_segments_are_within_a_frame_of_the_authors(num_frames):
    """Their test frames, by the formula of timesformer/datasets/ssv2.py."""
    for total in range(num_frames, 300):
        part = (total - 1) / num_frames
        edges = [round(part * i) for i in range(num_frames + 1)]
        wanted = [(a + b) // 2 for a, b in pairwise(edges)]
        found = segments(total, num_frames)
        assert max(abs(a - b) for a, b in zip(found, wanted, strict=True)) <= 1


def _fitted(ours, **arguments):
    """The same weights in a model made for other clips."""
    made = zoo.create(ours.record.architecture, **arguments)
    state = ours.state_dict()
    made.resize_positions(state, trained=ours.record)
    made.load_state_dict(state, strict=True)
    return made


@pytest.mark.parametrize("pattern", ["divided", "space", "factorised"])
@pytest.mark.parametrize("num_frames", [8, 16, 32])
def test_a_still_clip_gives_the_same_at_every_length(pattern, num_frames):
    """Where no moment is told from another, T frames alike are one frame."""
    torch.manual_seed(0)
    ours = scramble(zoo.create(f"test_timesformer_{pattern}"), torch.zeros(2, 3, 4, 32, 32))
    frame = random_clip((2, 3, 1, 32, 32), seed=1)
    with torch.no_grad():
        if pattern != "space":
            ours.time_embed.copy_(ours.time_embed[:, :1].expand_as(ours.time_embed))
        longer = _fitted(ours, num_frames=num_frames)
        clip = frame.expand(-1, -1, num_frames, -1, -1)
        assert_close(longer(clip), ours(frame.expand(-1, -1, 4, -1, -1)))
        with pytest.raises(ValueError, match=r"made for clips of \(T, H, W\) = \(4, 32, 32\)"):
            ours(clip)


@pytest.mark.parametrize("pattern", ["divided", "joint", "space", "factorised"])
@pytest.mark.parametrize("img_size", [16, 64])
def test_another_size_samples_the_table_at_its_own_places(pattern, img_size):
    """A table that grows evenly from left to right still does, but for the borders."""
    ours = zoo.create(f"test_timesformer_{pattern}")
    places = torch.arange(4.0).repeat(4)  # the columns of a 4 x 4 grid
    with torch.no_grad():
        ours.pos_embed[:, 1:] = places[None, :, None]
        side = img_size // 8
        table = _fitted(ours, img_size=img_size).pos_embed
    assert torch.equal(table[:, :1], ours.pos_embed[:, :1])
    columns = table[0, 1:, 0].unflatten(0, (side, side))
    wanted = (torch.arange(side) + 0.5) * 4 / side - 0.5
    assert (columns - columns[:1]).abs().max() < 1e-5
    assert (columns[0] - wanted).abs().max() < 0.35


@pytest.mark.parametrize("pattern", ["divided", "joint"])
def test_time_adds_nothing_at_first(pattern):
    """The authors start `temporal_fc` and the table of times at zero, so that a ViT is kept."""
    fresh = zoo.create(f"test_timesformer_{pattern}").state_dict()
    silent = [key for key in fresh if "temporal_fc" in key or key == "time_embed"]
    assert len(silent) == (5 if pattern == "divided" else 1)
    assert not any(fresh[key].any() for key in silent)
