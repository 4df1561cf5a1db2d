"""Files of clip features: written row by row, so that a video of any length needs little memory."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "FORMATS",
    "CannotWriteError",
    "FeatureWriter",
    "Finished",
    "read_finished",
    "writing",
]

FORMATS = ("safetensors", "npz")
_FEATURES, _STARTS, _ENDS, _ABOUT = "features", "start_seconds", "end_seconds", "about"


class CannotWriteError(OSError):
    """Features cannot be written: no fault of the video, so the next one would fare alike."""


@dataclass(frozen=True, slots=True)
class Finished:
    """What a finished file tells beside its features.

    Attributes:
        about: What it was made of and with.
        spans: Start and end of each clip, seconds.
    """

    about: dict[str, str]
    spans: list[tuple[float, float]]


class FeatureWriter:
    """Writes the features of one video; its file appears when `finish` is called.

    It holds `features`, float32 (clips, D), and `start_seconds` and `end_seconds`, float64
    (clips,); `about` is the metadata of a safetensors file, and a JSON text in an npz. A writer
    that is closed unfinished leaves nothing.

    Args:
        path: File to write; its ending, `.safetensors` or `.npz`, tells the format.
        spans: Start and end of each clip, seconds.
        about: What the features are made of and with.

    Raises:
        CannotWriteError: From every method: the disk is full, or the folder cannot be written.
    """

    def __init__(
        self, path: Path, spans: Sequence[tuple[float, float]], about: Mapping[str, str]
    ) -> None:
        self._path, self._about = path, dict(about)
        self._spans = np.asarray(spans, "<f8").reshape(-1, 2)
        self._partial = path.with_name(f".{path.name}.partial")
        self._rows = 0
        self._sink: IO[bytes] | None = None
        self._open = ExitStack()

    def __enter__(self) -> FeatureWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with writing(self._path):
            try:
                self._open.close()
            finally:
                self._partial.unlink(missing_ok=True)

    def add(self, features: NDArray[np.float32]) -> None:
        """Write the features of the next clips, (n, D)."""
        with writing(self._path):
            if self._sink is None:
                begin = self._begin_npz if self._path.suffix == ".npz" else self._begin_safetensors
                self._sink = begin(features.shape[1])
            self._sink.write(np.ascontiguousarray(features, "<f4").tobytes())
        self._rows += len(features)

    def finish(self) -> None:
        """Give the file its name."""
        assert self._rows == len(self._spans), "every clip has one row of features"
        with writing(self._path):
            self._open.close()
            self._partial.replace(self._path)

    def _begin_safetensors(self, width: int) -> IO[bytes]:
        """Write the header: its length in 8 bytes, then JSON that names each tensor's place."""
        starts, ends = self._columns()
        header: dict[str, object] = {"__metadata__": self._about}
        end = 0
        for name, dtype, shape in (
            # float64 first, so that each tensor starts at a multiple of its own size
            (_STARTS, "F64", [len(starts)]),
            (_ENDS, "F64", [len(ends)]),
            (_FEATURES, "F32", [len(starts), width]),
        ):
            begin, size = end, int(dtype[1:]) // 8
            end = begin + size * int(np.prod(shape))
            header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}
        text = json.dumps(header).encode()
        text += b" " * (-len(text) % 8)
        file = self._open.enter_context(self._partial.open("wb"))
        file.write(len(text).to_bytes(8, "little") + text + starts.tobytes() + ends.tobytes())
        return file

    def _begin_npz(self, width: int) -> IO[bytes]:
        """Write the small arrays, and open the last one."""
        archive = self._open.enter_context(zipfile.ZipFile(self._partial, "w"))
        small = {
            **dict(zip((_STARTS, _ENDS), self._columns(), strict=True)),
            _ABOUT: np.asarray(json.dumps(self._about)),
        }
        for name, array in small.items():
            with archive.open(f"{name}.npy", "w") as file:
                np.lib.format.write_array(file, array, allow_pickle=False)
        # a long video's features may pass the 2 GiB that a plain entry holds
        entry = self._open.enter_context(archive.open(f"{_FEATURES}.npy", "w", force_zip64=True))
        shape = len(self._spans), width
        form = {"descr": "<f4", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(entry, form)
        return entry

    def _columns(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Starts and ends, each contiguous."""
        return np.ascontiguousarray(self._spans[:, 0]), np.ascontiguousarray(self._spans[:, 1])


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Do what writes a file, saying which one if it cannot be written.

    Raises:
        CannotWriteError: The disk is full, or the folder cannot be written.
    """
    try:
        yield
    except OSError as error:
        raise CannotWriteError(
            f"Cannot write '{path}' ({error.strerror or error}); make room or choose another "
            f"folder, then run the same again: what is done is kept."
        ) from error


def read_finished(path: Path) -> Finished | None:
    """Read what a file tells beside its features; None if it was not written by us.

    Args:
        path: A safetensors or npz file.
    """
    from safetensors import SafetensorError, safe_open

    try:
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as arrays:
                about = json.loads(str(arrays[_ABOUT]))
                columns = arrays[_STARTS].tolist(), arrays[_ENDS].tolist()
        else:
            with safe_open(path, "numpy") as file:
                about = dict(file.metadata() or {})
                columns = tuple(file.get_tensor(name).tolist() for name in (_STARTS, _ENDS))
    except (OSError, ValueError, KeyError, zipfile.BadZipFile, SafetensorError):
        return None
    return Finished(about, list(zip(*columns, strict=True)))
