"""What is left out to decode faster changes no frame; what is opened for it is closed again."""

import random
import threading

import av
import numpy as np
import pytest
import torch
import videos

from zoo import _frame_reader
from zoo._frame_decoder import FrameDecoder
from zoo._frame_table import read_table
from zoo.video import Video

X264 = "keyint=8:min-keyint=8:scenecut=0:bframes=3:b-adapt=0"
FILES = {
    "short groups": ("a.mp4", {"options": {"x264-params": X264}}),
    "one long group": ("a.mp4", {"options": {"g": "250", "bf": "3"}}),
    "B-frames, none a reference": ("a.mp4", {"options": {"x264-params": X264 + ":b-pyramid=0"}}),
    "no B-frames": ("a.mp4", {"options": {"g": "8", "bf": "0", "sc_threshold": "0"}}),
    "many references": ("a.mkv", {"options": {"x264-params": X264 + ":ref=5:direct=temporal"}}),
    "open groups": ("a.mp4", {"options": {"x264-params": X264 + ":open-gop=1"}}),
    "open groups, broadcast": ("a.ts", {"options": {"x264-params": X264 + ":open-gop=1"}}),
    "interlaced": ("a.mp4", {"options": {"x264-params": X264 + ":interlaced=1"}}),
    "hevc": ("a.mp4", {"codec": "libx265"}),
    "vp9": ("a.webm", {"codec": "libvpx-vp9", "options": {"g": "8", "deadline": "realtime"}}),
    "uneven times": (
        "a.mkv",
        {"options": {"x264-params": X264}, "milliseconds": [i * 20 + i % 3 for i in range(64)]},
    ),
}


@pytest.fixture(params=[1, 3], ids=["one decoder", "several decoders"])
def decoders(request, monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: request.param)
    return request.param


def full_decode(path):
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def check_requests(path, expected):
    """Read in every way, in one open file, and compare bit for bit."""
    rng = random.Random(0)
    with Video(path) as video:
        assert len(video) == len(expected)
        for turn in range(12):
            count = rng.choice((1, 4, 8, 12))
            wanted = sorted(rng.sample(range(len(expected)), count))
            assert np.array_equal(video.read(wanted), expected[wanted]), wanted
            # an iterator that is left early leaves a decoder that has passed over frames
            for index, frame in video.frames(wanted, goes_on=turn % 2 == 0):
                assert np.array_equal(frame, expected[index]), (index, wanted)
                if rng.random() < 0.2:
                    break
            start = rng.randrange(len(expected) - 9)
            for window in (range(start, start + 4, 2), range(start + 4, start + 9)):
                assert np.array_equal(video.read(window), expected[list(window)]), window


@pytest.mark.parametrize("kind", FILES)
def test_every_request_gives_the_frames_of_a_full_decode(kind, decoders, tmp_path):
    name, arguments = FILES[kind]
    path = videos.write_video(tmp_path / name, 64, size=(64, 64), **arguments)
    check_requests(path, full_decode(path))


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.ts"])
def test_a_file_cut_off_gives_the_frames_of_a_full_decode(name, decoders, tmp_path):
    path = videos.write_video(
        tmp_path / name,
        64,
        options={"x264-params": X264},
        container_options={"movflags": "faststart"} if name == "a.mp4" else None,
    )
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * 0.7)])
    with Video(path) as video:
        # a last frame of which half is missing is filled up from what the decoder holds
        whole = len(video) - 4
        expected = video.read(range(whole)).numpy()
        assert videos.numbers_of(expected) == list(range(whole))
        for wanted in ([whole - 1], [3, 12, 21, 30, whole - 1], [0, 9, 10, 35], [5]):
            assert np.array_equal(video.read(wanted), expected[wanted]), wanted


def test_on_the_way_to_a_frame_only_what_it_needs_is_decoded(tmp_path, decoded):
    path = videos.write_video(
        tmp_path / "a.mp4",
        100,
        options={"x264-params": "keyint=100:scenecut=0:bframes=3:b-adapt=0:b-pyramid=0"},
    )
    with Video(path) as video:
        decoded.clear()
        # of four frames, three are B-frames on which no other one draws
        assert videos.numbers_of(video.read([81]).numpy()) == [81]
        assert decoded == [*range(0, 81, 4), 81]
        decoded.clear()
        assert videos.numbers_of(video.read([50, 54]).numpy()) == [50, 54]
        assert [index for index in decoded if index % 4] == [50, 54]


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
def test_an_mp4_file_is_opened_without_decoding(name, tmp_path, decoded):
    options = {"g": "10", "bf": "0", "sc_threshold": "0"}
    path = videos.write_video(tmp_path / name, 40, size=(64, 48), options=options)
    first = [] if name == "a.mp4" else [0]
    with Video(path) as video:
        assert videos.numbers_of(video.read([23, 24]).numpy()) == [23, 24]
        assert [i for i in decoded if i < 20] == first
        assert (video.height, video.width) == (48, 64)
        assert sorted(decoded) == [*first, *range(20, 25)]
    decoded.clear()
    with Video(path) as video:
        assert (video.height, video.width) == (48, 64)
        assert decoded == [0]
    assert repr(video) == f"Video({str(path)!r}, 40 frames, 1.33 s)"


def test_a_frame_that_was_passed_over_is_reached_by_another_seek(tmp_path, decoded):
    path = videos.write_video(
        tmp_path / "a.mp4",
        100,
        options={"x264-params": "keyint=100:scenecut=0:bframes=3:b-adapt=0:b-pyramid=0"},
    )
    with Video(path) as video:
        for index in (14, 15, 17, 18):
            next(video.frames([12, 90]))
            decoded.clear()
            assert videos.numbers_of(video.read([index]).numpy()) == [index]
            assert [index for index in decoded if index % 4] == [index]


def test_reads_that_follow_one_another_decode_on(tmp_path, decoded):
    path = videos.write_video(tmp_path / "a.mp4", 100, options={"g": "100", "bf": "3"})
    with Video(path) as video:
        for start in (8, 16):
            video.read(range(start, start + 8))
        decoded.clear()
        for start in range(24, 96, 8):
            clip = video.read(range(start, start + 8)).numpy()
            assert videos.numbers_of(clip) == list(range(start, start + 8))
        assert decoded == sorted(set(decoded))


def test_frames_far_apart_are_read_by_several_decoders_which_are_closed(
    tmp_path, decoded, monkeypatch
):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 16)
    opened, closed = [], []
    for log, name in ((opened, "__init__"), (closed, "close")):
        original = getattr(FrameDecoder, name)

        def logging(self, *arguments, log=log, original=original):
            log.append((self, threading.current_thread()))
            original(self, *arguments)

        monkeypatch.setattr(FrameDecoder, name, logging)
    path = videos.write_video(tmp_path / "a.mp4", 128, options={"x264-params": X264})
    threads = threading.active_count()
    with Video(path) as video:
        wanted = list(range(2, 128, 9))
        assert videos.numbers_of(video.read(wanted).numpy()) == wanted
        assert 2 <= len(opened) <= _frame_reader.MOST_READERS
        assert opened[-1][1] is not threading.main_thread()
        assert threading.active_count() == threads
        count = len(opened)
        frames = video.frames(wanted)
        next(frames)
        del frames
        assert threading.active_count() == threads
        # a window streams through one decoder
        decoded.clear()
        assert videos.numbers_of(video.read(range(70, 100)).numpy()) == list(range(70, 100))
        assert decoded == sorted(decoded)
        assert len(opened) <= max(count, _frame_reader.MOST_READERS)
    assert {id(decoder) for decoder, _ in closed} == {id(decoder) for decoder, _ in opened}


def test_long_runs_are_not_kept_for_one_another(tmp_path, monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    path = videos.write_video(
        tmp_path / "a.mp4", 120, options={"g": "24", "bf": "0", "sc_threshold": "0"}
    )
    with Video(path) as video:
        for length, decoders in ((17, 1), (16, 2)):
            wanted = [start + i for start in range(0, 120, 24) for i in range(length)]
            assert videos.numbers_of(video.read(wanted).numpy()) == wanted
            assert len(video._reader._open) == decoders


def test_a_frame_that_cannot_be_decoded_is_named_by_whoever_reads_it(tmp_path, monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    path = videos.write_video(
        tmp_path / "a.mp4", 96, options={"g": "8", "bf": "0", "sc_threshold": "0"}
    )
    with av.open(str(path)) as container:
        packet = [p for p in container.demux(video=0) if p.size][43]
        start, size = packet.pos, packet.size
    content = bytearray(path.read_bytes())
    content[start : start + size] = bytes(size)
    path.write_bytes(content)
    wanted = [3, 11, 19, 27, 35, 43, 51, 59, 67, 75, 83, 91]
    threads = threading.active_count()
    with Video(path) as video:
        with pytest.raises(ValueError, match=r"^Frame 43 of .*a\.mp4 cannot be decoded: "):
            video.read(wanted)
        assert threading.active_count() == threads
        rest = [index for index in wanted if index != 43]
        assert videos.numbers_of(video.read(rest).numpy()) == rest


def test_a_table_takes_sixteen_bytes_a_frame(tmp_path):
    path = videos.write_video(tmp_path / "a.mp4", 400)
    table, file = read_table(path)
    file.container.close()
    assert memoryview(table.times).nbytes + memoryview(table.stamps).nbytes == 16 * 400
