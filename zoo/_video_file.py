"""Open one video file and step through what it holds: packets and frames, quietly and safely."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from av import Packet, VideoFrame
    from av.container import InputContainer
    from av.video.stream import VideoStream

__all__ = ["VIDEO_SUFFIXES", "OpenFile", "decode", "demux", "open_file"]

logger = logging.getLogger(__name__)

VIDEO_SUFFIXES = frozenset(
    (
        *(".3gp", ".asf", ".avi", ".flv", ".gif", ".h264", ".m2ts", ".m4v", ".mjpeg", ".mkv"),
        *(".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".ogv", ".ts", ".webm", ".wmv"),
    )
)
"""What tells a video among the files of a folder; a file that is named itself may have any."""

NO_VIDEO_FORMATS = frozenset({"tty", "hls", "concat", "dash", "sdp", "ffmetadata"})
"""What libav opens although it is text: a listing drawn as frames, or names of other files."""


class OpenFile(NamedTuple):
    """An open file and its one video stream."""

    container: InputContainer
    stream: VideoStream


def open_file(path: Path, *, threads: bool = True) -> OpenFile:
    """Open a file for decoding, or say in one sentence why it is no video.

    Args:
        path: A video file.
        threads: Whether frames are decoded in parallel; where one is damaged, good neighbours are
            then lost with it.

    Returns:
        The open file; whoever asked for it closes its container.

    Raises:
        OSError: Nothing there that can be read as a file.
        ValueError: The file holds no video.
    """
    import av

    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder; give the path of one video file.")
    if not path.exists():
        raise FileNotFoundError(f"There is no file {path}; give the path of a video file.")
    if not path.is_file():
        raise OSError(f"{path} is no regular file; give the path of a video file.")
    with path.open("rb") as file:
        head = file.read(12)
    if not head:
        raise ValueError(f"{path} is empty (0 bytes); give a video file.")
    try:
        # "file:" keeps a colon in a file's name from being read as a protocol, and the list
        # keeps a playlist that calls itself a video from reaching the network
        container = av.open(f"file:{path}", options={"protocol_whitelist": "file"})
    except (av.FFmpegError, UnicodeError) as error:
        reason = "it is damaged, or no video"
        if head[4:8] == b"ftyp":
            reason = "its index (the moov box) is missing or damaged, as after a broken download"
        raise ValueError(f"{path} cannot be opened as a video: {reason}.") from error
    try:
        stream = _video_stream(container, path)
    except ValueError:
        container.close()
        raise
    stream.thread_type = "AUTO" if threads else "NONE"
    return OpenFile(container, stream)


def _video_stream(container: InputContainer, path: Path) -> VideoStream:
    from av.stream import Disposition

    if NO_VIDEO_FORMATS.intersection(container.format.name.split(",")):
        raise ValueError(f"{path} is text or a playlist, not a video; give a video file.")
    streams = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
    if not streams:
        kind = "sound but no video" if container.streams.audio else "no video"
        raise ValueError(f"{path} holds {kind}; give a file with a video stream.")
    known = [s for s in streams if s.codec_context is not None]
    if not known:
        raise ValueError(f"{path} is encoded in a way that this build of PyAV cannot decode.")
    best = container.streams.best("video")
    return next((s for s in known if s is best), known[0])


def demux(file: OpenFile) -> Iterator[Packet[VideoStream]]:
    """Read packets from where the file stands, up to its end or to where it is damaged.

    Raises:
        EOFError: The file ends in damage; everything before it has been given.
    """
    import av

    try:
        for packet in file.container.demux(file.stream):
            # the last one is empty and only asks the decoder for what it still holds
            if packet.size:
                yield packet
    except av.FFmpegError as error:
        raise EOFError("damaged") from error


def decode(file: OpenFile, packets: Iterator[Packet[VideoStream]]) -> Iterator[VideoFrame]:
    """Decode packets into frames in display order, past packets that cannot be decoded."""
    import av

    try:
        for packet in packets:
            try:
                frames = packet.decode()
            except av.FFmpegError:
                continue
            yield from frames
    except EOFError:
        logger.debug("damage ends %s", file.container.name)
    try:
        yield from file.stream.codec_context.decode(None)
    except av.FFmpegError:
        logger.debug("the decoder holds nothing more of %s", file.container.name)
