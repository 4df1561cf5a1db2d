"""What is left out to decode faster changes no frame; what is opened for it is closed again."""

import random
import threading
from collections import Counter
from itertools import islice, zip_longest

import av
import numpy as np
import pytest
import torch
import videos

from zoo import _frame_decoder, _frame_reader
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
    assert (video.height, video.width) == (48, 64)  # closed, and still known
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
    opened, closed, several = [], [], threading.Event()
    reading = _frame_reader._Pixels.frames

    def waiting(self, *arguments, **options):
        # whoever is first must not have read all before another thread has begun
        if threading.current_thread() is not threading.main_thread():
            assert several.wait(10)
        return reading(self, *arguments, **options)

    monkeypatch.setattr(_frame_reader._Pixels, "frames", waiting)
    for log, name in ((opened, "__init__"), (closed, "close")):
        original = getattr(FrameDecoder, name)

        def logging(self, *arguments, log=log, original=original):
            log.append((self, threading.current_thread()))
            original(self, *arguments)
            if len(opened) > 1:
                several.set()

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


@pytest.fixture
def spaced(tmp_path, monkeypatch):
    """A path, its frames in one pass, and frames so far apart that several decoders read them."""
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    path = videos.write_video(tmp_path / "a.mp4", 128, options={"x264-params": X264})
    return path, full_decode(path), list(range(2, 128, 9))


DENSE = list(range(20, 100, 2))


@pytest.fixture
def files(monkeypatch):
    """How many files were opened beside the first."""
    count = Counter()

    def opening(*arguments, original=_frame_decoder.open_file, **options):
        count["opened"] += 1
        return original(*arguments, **options)

    monkeypatch.setattr(_frame_decoder, "open_file", opening)
    return count


@pytest.mark.parametrize("dense", [False, True], ids=["far apart", "dense"])
def test_frames_are_read_inside_an_iteration(dense, spaced):
    path, expected, sparse = spaced
    wanted = DENSE if dense else sparse
    with Video(path) as video:
        for _ in range(3):
            seen = []
            for index, frame in video.frames(wanted):
                seen.append(index)
                assert np.array_equal(frame, expected[index]), index
                assert np.array_equal(video.read([index + 1])[0], expected[index + 1]), index
            assert seen == wanted


@pytest.mark.parametrize("second", ["far apart", "dense", "earlier"])
@pytest.mark.parametrize("first", ["far apart", "dense"])
def test_iterators_of_one_video_are_used_in_turns(first, second, spaced, decoded):
    path, expected, sparse = spaced
    wanted = {"far apart": sparse, "dense": DENSE, "earlier": list(range(16))}
    one, other = wanted[first], wanted[second]
    with Video(path) as video:
        for _ in range(3):
            both = zip_longest(video.frames(one), video.frames(other), fillvalue=(None, None))
            seen = ([], [])
            for items in both:
                for (index, frame), indices in zip(items, seen, strict=True):
                    if index is not None:
                        indices.append(index)
                        assert np.array_equal(frame, expected[index]), index
            assert seen == (one, other)
        # nobody had to go back for a frame that the other one had passed over
        if first == second == "dense":
            assert max(Counter(decoded).values()) <= 6


def test_what_is_opened_for_many_iterators_is_closed_again(spaced, files):
    path, expected, _ = spaced
    with Video(path) as video:
        iterators = [video.frames([i, i + 1]) for i in range(9)]
        for offset in range(2):
            for i, frames in enumerate(iterators):
                index, frame = next(frames)
                assert index == i + offset
                assert np.array_equal(frame, expected[index])
        assert files["opened"] == 8
        assert all(next(frames, None) is None for frames in iterators)
        assert len(video._reader._open) == _frame_reader.MOST_READERS
        count = files["opened"]
        assert np.array_equal(video.read(DENSE), expected[DENSE])
        assert files["opened"] == count


@pytest.mark.parametrize("taken", [0, 1, 5])
@pytest.mark.parametrize("dense", [False, True], ids=["far apart", "dense"])
def test_closing_ends_iterators_that_are_still_in_use(dense, taken, spaced, files, decoded):
    path, expected, sparse = spaced
    threads = threading.active_count()
    for _ in range(4):
        video = Video(path)
        frames = video.frames(DENSE if dense else sparse)
        for index, frame in islice(frames, taken):
            assert np.array_equal(frame, expected[index])
        opened = list(video._reader._open)
        video.close()
        # nothing goes on, and nothing is left open, though the iterator is still held
        assert threading.active_count() == threads
        assert all(pixels._decoder is None for pixels in opened)
        before = (len(decoded), files["opened"])
        with pytest.raises(ValueError, match=r"a\.mp4 is closed; open the Video again to read"):
            next(frames)
        assert list(frames) == []
        assert (len(decoded), files["opened"]) == before
        with pytest.raises(ValueError, match=r"a\.mp4 is closed; open the Video again to read"):
            video.frames([1])


def test_a_file_that_a_thread_opens_during_closing_is_closed(spaced, monkeypatch):
    path, _, sparse = spaced
    opening, closing, told = (threading.Event() for _ in range(3))
    made = []
    original = _frame_reader._Pixels.__init__

    def slow(self, *arguments):
        if threading.current_thread() is not threading.main_thread():
            opening.set()
            assert closing.wait(10)
        original(self, *arguments)
        made.append(self)

    def read():
        with pytest.raises(ValueError, match="is closed; open the Video again"):
            next(frames)
        told.set()

    with Video(path) as video:
        monkeypatch.setattr(_frame_reader._Pixels, "__init__", slow)
        # the only decoder is taken, so every thread opens a file
        held = video.frames(DENSE)
        next(held)
        frames = video.frames(sparse)
        reading = threading.Thread(target=read)
        reading.start()
        assert opening.wait(10)
        shutdown = _frame_reader.ThreadPoolExecutor.shutdown

        def ending(self, *arguments, **options):
            closing.set()
            shutdown(self, *arguments, **options)

        monkeypatch.setattr(_frame_reader.ThreadPoolExecutor, "shutdown", ending)
    assert made
    assert all(pixels._decoder is None for pixels in made)
    reading.join()
    assert told.is_set()


@pytest.mark.parametrize("dense", [False, True], ids=["far apart", "dense"])
def test_an_iterator_dropped_half_way_gives_its_decoders_back(dense, spaced, files):
    path, expected, sparse = spaced
    wanted = DENSE if dense else sparse
    with Video(path) as video:
        for taken in (1, 3, 7, 2):
            frames = video.frames(wanted)
            for index, frame in islice(frames, taken):
                assert np.array_equal(frame, expected[index])
            del frames
            assert len(video._reader._idle) == len(video._reader._open)
            assert np.array_equal(video.read(wanted), expected[wanted])
            assert np.array_equal(video.read([wanted[taken] + 1])[0], expected[wanted[taken] + 1])
        assert files["opened"] <= (0 if dense else _frame_reader.MOST_READERS - 1)


def test_long_runs_are_not_kept_for_one_another(tmp_path, monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    readers, original = set(), FrameDecoder._frame

    def noting(self, index):
        readers.add(threading.current_thread() is threading.main_thread())
        return original(self, index)

    monkeypatch.setattr(FrameDecoder, "_frame", noting)
    path = videos.write_video(
        tmp_path / "a.mp4", 120, options={"g": "24", "bf": "0", "sc_threshold": "0"}
    )
    with Video(path) as video:
        assert video.height == 48
        for length, alone in ((17, True), (16, False)):
            readers.clear()
            wanted = [start + i for start in range(0, 120, 24) for i in range(length)]
            assert videos.numbers_of(video.read(wanted).numpy()) == wanted
            assert readers == {alone}


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
