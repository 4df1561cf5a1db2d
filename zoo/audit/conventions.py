"""Samplers of other libraries as functions from (frames of a video, frames of a clip) to indices.

Each adapter says in `CONVENTIONS` what it takes; the command line names them with `--convention`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch

from zoo.audit.calls import Sampler
from zoo.sampling import frames_at

__all__ = [
    "CONVENTIONS",
    "from_mmaction",
    "from_pytorchvideo",
    "from_seconds",
    "from_seek",
    "from_tensors",
    "from_torchvision",
    "from_transformers",
]

_FPS = 30.0


def from_tensors(transform: Callable[[int], Callable[[Any], Any]]) -> Sampler:
    """A transform that picks frames out of a decoded video, as torchvision and pytorchvideo have.

    Args:
        transform: Makes, for T, what takes a video (C, T', H, W) or (T', C, H, W) and gives T
            frames of it; `UniformTemporalSubsample` of either library.
    """

    def sampler(total: int, num_frames: int) -> Any:
        axis = _time_axis(transform(1))
        shape = [1, 1, 1, 1]
        shape[axis] = total
        numbers = torch.arange(total, dtype=torch.float32).reshape(shape)
        return transform(num_frames)(numbers).flatten().to(torch.int64)

    return sampler


def _time_axis(transform: Callable[[Any], Any]) -> int:
    """The axis that a transform for one frame shortens."""
    for axis in (1, 0):
        shape = [2, 2, 2, 2]
        shape[axis] = 5
        if transform(torch.zeros(shape)).shape[axis] == 1:
            return axis
    raise ValueError("The transform shortens neither axis 0 nor axis 1 of a video to one frame.")


def from_seconds(sampler: Callable[[float, int], Any], *, fps: float = _FPS) -> Sampler:
    """A sampler from a duration and T to T moments, both in seconds.

    Args:
        sampler: Takes (duration in seconds, T).
        fps: Frames a second of the videos that it is tried on.
    """

    def indices(total: int, num_frames: int) -> list[int]:
        times = [i / fps for i in range(total)]
        return frames_at(times, [float(moment) for moment in sampler(total / fps, num_frames)])

    return indices


def from_pytorchvideo(clip_sampler: Callable[[], Any], *, fps: float = _FPS) -> Sampler:
    """A pytorchvideo clip sampler, which cuts a clip in seconds; T frames of it are spread.

    The frames are those that start in [start, end), of which pytorchvideo's
    `UniformTemporalSubsample` takes T; the sampler is called until it says that a clip is the last.

    Args:
        clip_sampler: Makes a new sampler, such as `lambda: UniformClipSampler(2.0)`.
        fps: Frames a second of the videos that it is tried on.
    """

    def sampler(total: int, num_frames: int) -> list[list[int]]:
        ask, clips, end = clip_sampler(), [], 0.0
        while True:
            info = ask(end, total / fps, {})
            inside = [i for i in range(total) if info.clip_start_sec <= i / fps < info.clip_end_sec]
            places = torch.linspace(0, len(inside) - 1, num_frames).long().clamp(0).tolist()
            clips.append([inside[place] for place in places])
            end = info.clip_end_sec
            if info.is_last_clip:
                return clips

    return sampler


def from_mmaction(transform: Callable[[int], Callable[[dict[str, Any]], Any]]) -> Sampler:
    """A sampler of mmaction2, which reads and writes a dict.

    Args:
        transform: Makes the transform for T, such as `lambda T: SampleFrames(clip_len=T)`.
    """

    def sampler(total: int, num_frames: int) -> Any:
        found = transform(num_frames)({"total_frames": total, "start_index": 0, "avg_fps": _FPS})
        indices = torch.as_tensor(found["frame_inds"])
        # What is no whole number of clips is left as it is, and found to be of a wrong length.
        return indices if len(indices) % num_frames else indices.reshape(-1, num_frames)

    return sampler


def from_transformers(sampler: Callable[..., Any]) -> Sampler:
    """A sampler of transformers' video processors: from metadata and a number of frames.

    Args:
        sampler: Takes `metadata` with `total_num_frames`, `fps` and `duration`, and `num_frames`,
            as `transformers.video_utils.default_sample_indices_fn` does.
    """

    def indices(total: int, num_frames: int) -> Any:
        from transformers.video_utils import VideoMetadata

        facts = VideoMetadata(total_num_frames=total, fps=_FPS, duration=total / _FPS)
        return sampler(metadata=facts, num_frames=num_frames)

    return indices


def from_seek(sampler: Callable[[int, int, int], Any], *, rate: int = 1) -> Sampler:
    """The function of transformers' model pages: (clip_len, frame_sample_rate, seg_len).

    Args:
        sampler: Takes T, the distance of frames and the frames of the video, in this order.
        rate: The distance.
    """
    return lambda total, num_frames: sampler(num_frames, rate, total)


def from_torchvision(clip_sampler: Callable[[Any], Any], *, step: int = 1) -> Sampler:
    """A clip sampler of torchvision, which chooses among the clips of its `VideoClips`.

    Args:
        clip_sampler: Makes the sampler, such as `lambda clips: UniformClipSampler(clips, 10)`.
        step: Frames between the starts of two clips, `frames_between_clips`.
    """

    def sampler(total: int, num_frames: int) -> list[list[int]]:
        from torchvision.datasets.video_utils import VideoClips

        facts = {"video_paths": [""], "video_pts": [torch.arange(total)], "video_fps": [_FPS]}
        clips = VideoClips([""], num_frames, step, _precomputed_metadata=facts)
        places = [clips.get_clip_location(index) for index in clip_sampler(clips)]
        return [clips.clips[video][clip].tolist() for video, clip in places]

    return sampler


CONVENTIONS: Mapping[str, Callable[[Any], Sampler]] = {
    "indices": lambda found: found,
    "tensors": from_tensors,
    "seconds": from_seconds,
    "pytorchvideo": from_pytorchvideo,
    "mmaction": from_mmaction,
    "torchvision": from_torchvision,
    "transformers": from_transformers,
    "seek": from_seek,
}
"""How the command line reads what it is given, by the name of the convention."""
