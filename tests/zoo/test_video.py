"""Random access, times and pixel formats, on files that are as they should be."""

import gc
import random
import weakref

import av
import numpy as np
import pytest
import torch
import videos

from zoo.video import Video

OPEN_GOP = {"x264-params": "open-gop=1:keyint=12:min-keyint=12:bframes=3"}
HEVC_OPEN = "keyint=12:min-keyint=12:open-gop=1:bframes=3:log-level=none"

FILES = {
    "h264, one keyframe": ("a.mp4", {"options": {"g": "250", "bf": "3"}}),
    "h264, many keyframes": ("a.mp4", {}),
    "h264 in fragments": ("a.mp4", {"container_options": {"movflags": "frag_keyframe+empty_moov"}}),
    "h264, open groups": ("a.mkv", {"options": OPEN_GOP}),
    "h264, open groups, broadcast": ("a.ts", {"options": OPEN_GOP}),
    "h264, intra refresh": ("a.mp4", {"options": {"x264-params": "intra-refresh=1:keyint=30"}}),
    "h264, no time stamps": ("a.h264", {}),
    "h264 in avi, guessed stamps": ("a.avi", {}),
    "h264 in flash": ("a.flv", {}),
    "hevc": ("a.mp4", {"codec": "libx265"}),
    "hevc, open groups": ("a.mkv", {"codec": "libx265", "options": {"x265-params": HEVC_OPEN}}),
    "vp9": ("a.webm", {"codec": "libvpx-vp9"}),
    "mpeg4": ("a.avi", {"codec": "mpeg4"}),
    "mpeg4, B-frames": ("a.avi", {"codec": "mpeg4", "options": {"g": "12", "bf": "2"}}),
    "mpeg2": ("a.mpg", {"codec": "mpeg2video", "options": {"g": "12", "bf": "2"}}),
    "mpeg2, broadcast": ("a.ts", {"codec": "mpeg2video", "options": {"g": "12", "bf": "2"}}),
    "mpeg4, broadcast": ("a.ts", {"codec": "mpeg4"}),
    "mjpeg": ("a.avi", {"codec": "mjpeg", "pix_fmt": "yuvj420p"}),
    "gif": ("a.gif", {"codec": "gif", "pix_fmt": "rgb8", "rate": 25}),
    "animated png": ("a.apng", {"codec": "apng", "pix_fmt": "rgb24"}),
}


def decode_all(path):
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


@pytest.mark.parametrize("kind", FILES)
def test_any_frame_is_that_of_a_full_decode(kind, tmp_path):
    name, arguments = FILES[kind]
    path = videos.write_video(tmp_path / name, 64, **arguments)
    expected = decode_all(path)
    assert videos.numbers_of(expected) == list(range(64))
    order = random.Random(0).sample(range(64), 24)
    with Video(path) as video:
        assert len(video) == video.num_frames == 64
        for index in [*order, *range(0, 64, 9), 63, 20]:
            assert np.array_equal(video.read([index])[0], expected[index]), index
        assert np.array_equal(video.read(range(64)), np.stack(expected))


def test_frames_come_in_the_order_asked_for(tmp_path):
    with Video(videos.write_video(tmp_path / "a.mp4", 70)) as video:
        clip = video.read([65, 3, 3, 40, 0, 65])
        assert (clip.dtype, clip.shape) == (torch.uint8, (6, 48, 64, 3))
        assert videos.numbers_of(clip.numpy()) == [65, 3, 3, 40, 0, 65]
        assert [index for index, _ in video.frames([5, 2, 5, 9])] == [2, 5, 9]
        assert video.read([]).shape == (0, 48, 64, 3)


def test_each_wanted_frame_is_decoded_once_and_seeks_skip_the_rest(tmp_path, decoded):
    path = videos.write_video(
        tmp_path / "a.mp4", 300, options={"g": "30", "bf": "0", "sc_threshold": "0"}
    )
    with Video(path) as video:
        assert decoded == []
        video.read([0])
        assert decoded == [0]
        video.read(range(0, 300, 2))
        assert decoded == [*range(299)]
        decoded.clear()
        video.read([5, 155, 155, 290])
        assert decoded == [*range(6), *range(150, 156), *range(270, 291)]


def test_seeks_in_a_broadcast_do_not_begin_at_the_start(tmp_path, decoded):
    # packets carry no index: a seek lands near the wanted time, often past the keyframe
    path = videos.write_video(tmp_path / "a.ts", 300, options={"g": "30", "bf": "3"})
    with Video(path) as video:
        for index in random.Random(0).sample(range(300), 40):
            decoded.clear()
            assert videos.numbers_of(video.read([index]).numpy()) == [index]
            assert len(decoded) <= 120


def test_variable_frame_rate_and_late_start(tmp_path):
    shown = [2000, 2010, 2500, 2510, 2520, 3500]
    with Video(videos.write_video(tmp_path / "a.mkv", 6, milliseconds=shown)) as video:
        assert video.times == pytest.approx([0, 0.01, 0.5, 0.51, 0.52, 1.5])
        assert video.indices_at([0, 0.3, 0.515, 1.4, 9]) == [0, 1, 3, 4, 5]
        assert videos.numbers_of(video.read(video.indices_at([0.3, 1.6])).numpy()) == [1, 5]
        assert video.duration > 1.5
        assert video.fps == pytest.approx(6 / video.duration)


@pytest.mark.parametrize("name", ["a.mkv", "a.webm", "a.ts"])
def test_files_that_state_no_frame_count(name, tmp_path):
    codec = "libvpx-vp9" if name == "a.webm" else "libx264"
    path = videos.write_video(tmp_path / name, 45, codec=codec, rate=25)
    with av.open(str(path)) as container:
        assert container.streams.video[0].frames == 0
    with Video(path) as video:
        assert len(video) == 45
        assert video.fps == pytest.approx(25, rel=1e-3)
        assert video.duration == pytest.approx(1.8, abs=0.01)


PIXELS = {
    "10 bits": ("a.mp4", "libx264", "yuv420p10le", (64, 48)),
    "10 bits, hevc": ("a.mp4", "libx265", "yuv420p10le", (64, 48)),
    "grey": ("a.mp4", "libx264", "gray", (64, 48)),
    "grey, 16 bits": ("a.mkv", "ffv1", "gray16le", (64, 48)),
    "alpha, rgb": ("a.mov", "png", "rgba", (64, 48)),
    "alpha, yuv": ("a.webm", "libvpx-vp9", "yuva420p", (64, 48)),
    "odd, full colour": ("a.mp4", "libx264", "yuv444p", (63, 47)),
    "odd, half colour": ("a.webm", "libvpx-vp9", "yuv420p", (63, 47)),
    "odd, lossless": ("a.mkv", "ffv1", "yuv420p", (61, 51)),
}


@pytest.mark.parametrize("kind", PIXELS)
def test_pixel_formats_and_sizes(kind, tmp_path):
    name, codec, pix_fmt, (width, height) = PIXELS[kind]
    size = (width, height)
    path = videos.write_video(tmp_path / name, 20, codec=codec, pix_fmt=pix_fmt, size=size)
    with Video(path) as video:
        assert (video.width, video.height) == size
        clip = video.read(range(20)).numpy()
    assert clip.shape == (20, height, width, 3)
    assert videos.numbers_of(clip) == list(range(20))
    assert np.array_equal(clip, np.stack(decode_all(path)))


def test_colours_come_back_in_rgb_order(tmp_path):
    path = tmp_path / "red.mkv"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv444p"
        red = np.full((48, 64, 3), (230, 40, 20), np.uint8)
        frame = av.VideoFrame.from_ndarray(red, format="rgb24")
        out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    with Video(path) as video:
        assert abs(video.read([0])[0].numpy().astype(int) - red).max() <= 3


def test_an_open_video_describes_itself(tmp_path):
    path = videos.write_video(tmp_path / "a.mp4", 30, sound=True)
    with Video(str(path)) as video:
        assert repr(video) == f"Video({str(path)!r}, 30 frames of 64x48, 1.00 s)"
        with pytest.raises(IndexError, match=r"Frame 30 of .*a\.mp4 is asked for; .* 0 to 29\."):
            video.read([0, 30])
        with pytest.raises(IndexError, match="Frame -1 of"):
            video.read([-1])
    video.close()
    with pytest.raises(ValueError, match="is closed; open the Video again"):
        video.read([0])


def test_a_closed_video_leaves_no_decoder_for_the_garbage_collector(tmp_path):
    """A decoder's threads do not exist in a forked process, where collecting it never ended."""
    path = videos.write_video(tmp_path / "a.mp4", 30)
    gc.collect()
    gc.disable()
    try:
        with Video(path) as video:
            video.read([20, 3])
            decoder = weakref.ref(next(iter(video._reader._open))._decoder)
        del video
        assert decoder() is None
    finally:
        gc.enable()
