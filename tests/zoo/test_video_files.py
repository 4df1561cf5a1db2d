"""Files that are damaged, unusual, or no videos at all."""

import logging
import struct
from fractions import Fraction

import av
import numpy as np
import pytest
import videos
from PIL import Image

from zoo.video import Video

FASTSTART = {"movflags": "faststart"}


def read_numbers(path):
    with Video(path) as video:
        return videos.numbers_of(video.read(range(len(video))).numpy())


def patched(path, after, old, new):
    """Replace bytes of a file, the first `old` that follows the word `after`."""
    content = path.read_bytes()
    start = content.index(old, content.index(after))
    path.write_bytes(content[:start] + new + content[start + len(old) :])
    return path


# --- no videos


def test_what_is_no_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"There is no file .*none\.mp4; give the path"):
        Video(tmp_path / "none.mp4")
    with pytest.raises(IsADirectoryError, match="is a folder"):
        Video(tmp_path)
    with pytest.raises(ValueError, match=r"https://host/a\.mp4 is an address; download it"):
        Video("https://host/a.mp4")


PLAYLIST = "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:9\n#EXTINF:2.0,\nb.ts\n#EXT-X-ENDLIST"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("empty.mp4", b"", "is empty"),
        ("notes.txt", b"some words\n" * 50, "is text or a playlist"),
        ("notes.mp4", b"some words\n" * 50, "cannot be opened as a video"),
        ("list.m3u8", PLAYLIST.encode(), "is text or a playlist"),
        ("list.ffconcat", b"ffconcat version 1.0\nfile b.mp4\n", "is text or a playlist"),
        ("talk.srt", b"1\n00:00:01,000 --> 00:00:02,000\nhi\n\n", "holds no video"),
        ("noise.mp4", np.random.default_rng(0).bytes(20_000), "cannot be opened as a video"),
        ("zeros.mkv", bytes(5_000), "cannot be opened as a video"),
    ],
)
def test_what_is_no_video(name, content, message, tmp_path, capfd):
    path = tmp_path / name
    path.write_bytes(content)
    for listed in ("b.ts", "b.mp4"):
        videos.write_video(tmp_path / listed, 5)
    with pytest.raises(ValueError, match=f"{name} {message}.*\\.$"):
        Video(path)
    assert capfd.readouterr() == ("", "")


def test_sound_without_video_and_with_a_cover(tmp_path):
    with pytest.raises(ValueError, match=r"a\.m4a holds sound but no video"):
        Video(videos.write_sound(tmp_path / "a.m4a"))
    cover = videos.write_sound(tmp_path / "a.mp3", codec="libmp3lame", cover=True)
    with av.open(str(cover)) as container:
        assert len(container.streams.video) == 1
    with pytest.raises(ValueError, match=r"a\.mp3 holds sound but no video"):
        Video(cover)


# --- pictures


@pytest.mark.parametrize(
    "name", ["a.png", "a.jpg", "a.bmp", "a.webp", "a.tif", "100%d.png", "4:3.png", "é*.jpg"]
)
def test_a_still_image_is_one_frame(name, tmp_path):
    Image.fromarray(videos.picture(77)).save(tmp_path / name)
    assert read_numbers(tmp_path / name) == [77]
    with Video(tmp_path / name) as video:
        assert list(video.times) == [0]


def test_a_photo_is_turned_as_its_exif_says(tmp_path):
    exif = Image.Exif()
    exif[0x112] = 6
    turned = np.rot90(videos.picture(5))
    Image.fromarray(turned).save(tmp_path / "a.jpg", exif=exif, quality=95)
    assert read_numbers(tmp_path / "a.jpg") == [5]


def test_gif_of_another_writer(tmp_path):
    images = [Image.fromarray(videos.picture(i)) for i in range(10)]
    images[0].save(tmp_path / "a.gif", save_all=True, append_images=images[1:], duration=40, loop=0)
    assert read_numbers(tmp_path / "a.gif") == list(range(10))


# --- damage


def test_a_video_cut_off_before_its_index(tmp_path):
    path = videos.write_video(tmp_path / "a.mp4", 60)
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(ValueError, match=r"a\.mp4 cannot be opened .* \(the moov box\)"):
        Video(path)


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.webm", "a.ts"])
@pytest.mark.parametrize("share", [0.4, 0.6, 0.8])
def test_a_video_cut_off_gives_the_frames_that_are_there(name, share, tmp_path, caplog, capfd):
    codec = "libvpx-vp9" if name == "a.webm" else "libx264"
    options = FASTSTART if name == "a.mp4" else None
    path = videos.write_video(tmp_path / name, 60, codec=codec, container_options=options)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with caplog.at_level(logging.WARNING):
        numbers = read_numbers(path)
    # B-frames next to the cut may be missing, and the last picture of a broadcast half there
    whole = numbers[:-4]
    assert whole == list(range(len(whole)))
    assert 60 * share - 16 < len(numbers) < 60 * share + 8
    if name == "a.mp4":
        assert numbers == sorted(set(numbers))
        assert "a.mp4 is damaged or cut off" in caplog.text
    assert capfd.readouterr() == ("", "")


def test_a_hole_in_a_video_names_the_frame_that_is_lost(tmp_path):
    path = videos.write_video(tmp_path / "a.mp4", 90, options={"g": "30", "bf": "0"})
    with av.open(str(path)) as container:
        packets = [p for p in container.demux(video=0) if p.size]
        holes = [(p.pos, p.size) for p in packets[40:42]]
    content = bytearray(path.read_bytes())
    for start, size in holes:
        content[start : start + size] = bytes(size)
    path.write_bytes(content)
    with Video(path) as video:
        assert videos.numbers_of(video.read([0, 39, 60, 89]).numpy()) == [0, 39, 60, 89]
        with pytest.raises(ValueError, match=r"^Frame 40 of .*a\.mp4 cannot be decoded: "):
            video.read([39, 40, 89])
        assert videos.numbers_of(video.read([30, 70]).numpy()) == [30, 70]


def test_a_broadcast_that_begins_between_keyframes(tmp_path):
    path = videos.write_video(tmp_path / "a.ts", 90)
    path.write_bytes(path.read_bytes()[188 * 12 :])
    numbers = read_numbers(path)
    assert len(numbers) > 50
    assert numbers == list(range(numbers[0], 90))
    with Video(path) as video:
        assert videos.numbers_of(video.read([40, 3]).numpy()) == [numbers[40], numbers[3]]


def test_a_broadcast_with_a_gap_gives_what_arrived(tmp_path, caplog):
    path = videos.write_video(tmp_path / "a.ts", 90)
    content = path.read_bytes()
    middle = len(content) // 2 // 188 * 188
    path.write_bytes(content[:middle] + content[middle + 188 * 9 :])
    with Video(path) as video:
        clip = video.read(range(len(video))).numpy()
        assert 75 <= len(clip) < 90
        assert videos.numbers_of(clip[:30]) == list(range(30))
        assert videos.numbers_of(clip[-25:]) == list(range(65, 90))
        for index in (len(video) - 3, 41, 46, 10):
            assert np.array_equal(video.read([index])[0], clip[index])
    assert "a.ts is damaged or cut off" in caplog.text


def test_two_broadcasts_joined(tmp_path):
    path = videos.write_video(tmp_path / "a.ts", 30)
    path.write_bytes(path.read_bytes() * 2)
    assert read_numbers(path) == [*range(30), *range(30)]


# --- unusual, and valid


def matrix(*linear):
    a, b, c, d = (value << 16 for value in linear)
    return struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)


TURNS = {
    "clockwise": ((0, 1, -1, 0), lambda image: np.rot90(image, -1)),
    "half": ((-1, 0, 0, -1), lambda image: np.rot90(image, 2)),
    "anticlockwise": ((0, -1, 1, 0), lambda image: np.rot90(image)),
    "mirrored": ((-1, 0, 0, 1), lambda image: image[:, ::-1]),
    "upside down": ((1, 0, 0, -1), lambda image: image[::-1]),
    "transposed": ((0, 1, 1, 0), lambda image: image.transpose(1, 0, 2)),
}


@pytest.mark.parametrize("turn", TURNS)
def test_display_matrix(turn, tmp_path):
    linear, expected = TURNS[turn]
    path = videos.write_video(tmp_path / "a.mp4", 20)
    with Video(path) as video:
        upright = video.read([3, 17]).numpy()
    patched(path, b"tkhd", matrix(1, 0, 0, 1), matrix(*linear))
    with Video(path) as video:
        turned = video.read([3, 17]).numpy()
        assert (video.height, video.width) == turned.shape[1:3]
    for before, after in zip(upright, turned, strict=True):
        assert np.array_equal(expected(before), after)


@pytest.mark.parametrize("suffix", ["h264", "ts"])
def test_a_size_that_changes_midway_is_scaled_to_the_first(suffix, tmp_path):
    small = videos.write_video(tmp_path / f"small.{suffix}", 20).read_bytes()
    large = videos.write_video(tmp_path / f"large.{suffix}", 30, size=(96, 80)).read_bytes()
    path = tmp_path / f"a.{suffix}"
    path.write_bytes(small + large)
    with Video(path) as video:
        assert (video.width, video.height) == (64, 48)
        assert videos.numbers_of(video.read(range(50)).numpy()) == [*range(20), *range(30)]
        assert videos.numbers_of(video.read([40, 10]).numpy()) == [20, 10]


def test_a_size_that_changes_within_an_mp4_is_scaled_to_the_first_whatever_is_read_first(tmp_path):
    raw, path = tmp_path / "a.h264", tmp_path / "a.mp4"
    for size in [(64, 48), (96, 80)]:
        part = tmp_path / "part.h264"
        videos.write_video(part, 20, size=size, options={"bf": "0", "g": "10"})
        with raw.open("ab") as file:
            file.write(part.read_bytes())
    with av.open(str(raw)) as source, av.open(str(path), "w") as out:
        stream = out.add_stream_from_template(source.streams.video[0])
        packets = [packet for packet in source.demux(video=0) if packet.size]
        assert len(packets) == 40
        for i, packet in enumerate(packets):
            packet.pts = packet.dts = i
            packet.time_base, packet.stream = Fraction(1, 25), stream
            out.mux(packet)
    for first in ([33], [5, 33], [5]):
        with Video(path) as video:
            assert videos.numbers_of(video.read(first).numpy()) == [i % 20 for i in first]
            assert (video.width, video.height) == (64, 48)
            assert videos.numbers_of(video.read([39, 4]).numpy()) == [19, 4]


@pytest.mark.parametrize("skipped", [1, 7, 35])
def test_an_edit_list_hides_the_frames_before_its_start(skipped, tmp_path):
    path = videos.write_video(tmp_path / "a.mp4", 60)
    content = path.read_bytes()
    edit = content.index(b"elst") + 12
    duration, media_time = struct.unpack(">Ii", content[edit : edit + 8])
    later = struct.pack(">Ii", duration, media_time + skipped * 512)
    patched(path, b"elst", content[edit : edit + 8], later)
    with Video(path) as video:
        assert len(video) == 60 - skipped
        assert video.times[0] == 0
        assert videos.numbers_of(video.read([20, 0, 9]).numpy()) == [
            20 + skipped,
            skipped,
            9 + skipped,
        ]


def test_negative_time_stamps(tmp_path):
    path = videos.write_video(
        tmp_path / "a.ts",
        40,
        milliseconds=[i * 40 - 400 for i in range(40)],
        container_options={"avoid_negative_ts": "disabled"},
    )
    with av.open(str(path)) as container:
        assert min(p.pts for p in container.demux(video=0) if p.size) < 0
    assert read_numbers(path) == list(range(40))
    with Video(path) as video:
        assert video.times == pytest.approx([i * 0.04 for i in range(40)])
        assert videos.numbers_of(video.read([35, 2]).numpy()) == [35, 2]


def test_time_stamps_that_leap(tmp_path):
    # flash cannot hold negative times: they come back as weeks
    path = videos.write_video(
        tmp_path / "a.flv",
        20,
        milliseconds=[i * 40 - 200 for i in range(20)],
        container_options={"avoid_negative_ts": "disabled"},
    )
    assert read_numbers(path) == list(range(20))


def test_a_cut_matroska_file_gives_what_is_there_and_says_so(tmp_path, caplog):
    whole = videos.write_video(tmp_path / "whole.mkv", 90)
    assert len(Video(whole)) == 90
    assert caplog.text == ""
    content = whole.read_bytes()
    (tmp_path / "cut.mkv").write_bytes(content[: len(content) // 2])
    with Video(tmp_path / "cut.mkv") as video:
        assert 10 < len(video) < 80
        assert videos.numbers_of(video.read([0, 5])) == [0, 5]
    assert "cut.mkv is cut off: its header promises 3.00 s" in caplog.text
