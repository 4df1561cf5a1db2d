"""Files from a stranger: JSON and safetensors that are measured before anything is made of them.

A header says what a file holds. It is read first, within a bound, and compared with the bytes that
are really there and with what a model can take; only then is memory spent on tensors.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

__all__ = [
    "MAX_HEADER_BYTES",
    "MAX_JSON_BYTES",
    "check_finite",
    "check_fit",
    "load_tensors",
    "read_header",
    "read_json",
    "shown",
]

MAX_JSON_BYTES = 4 * 2**20
"""A configuration with 20 000 class names has about one."""

MAX_HEADER_BYTES = 4 * 2**20
"""A header takes about 100 bytes a tensor, and no model has ten thousand."""

_FLOATS = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
# BatchNorm counts its batches in I64; some publishers store tables of indices in the others.
_INTEGERS = {"I64": torch.int64, "I32": torch.int32, "U8": torch.uint8, "BOOL": torch.bool}
_DTYPES = _FLOATS | _INTEGERS


def shown(value: object, limit: int = 80) -> str:
    """A value from a file as it may stand in a message: one line, of bounded length."""
    text = repr(value)
    return text if len(text) <= limit else f"{text[:limit]}..."


def read_json(path: Path, *, origin: str) -> Any:
    """What a JSON file holds.

    Args:
        path: The file.
        origin: What to call it in a message.

    Raises:
        ValueError: It is larger than any configuration, no JSON, or holds numbers that are none.
    """
    size = path.stat().st_size
    if size > MAX_JSON_BYTES:
        raise ValueError(
            f"'{origin}' has {size} bytes, where {MAX_JSON_BYTES} are allowed; it is no "
            f"configuration of a model."
        )
    return _parse(path.read_bytes(), origin)


def _parse(content: bytes, origin: str) -> Any:
    def refuse(name: str) -> NoReturn:
        raise ValueError(f"{name} is no number")

    def finite(text: str) -> float:
        # 1e999 is good JSON, and Python makes infinity of it.
        number = float(text)
        return number if math.isfinite(number) else refuse(text[:40])

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            raise ValueError("a key stands twice in one object")
        return found

    try:
        return json.loads(
            content.decode("utf-8"),
            parse_constant=refuse,
            parse_float=finite,
            object_pairs_hook=once,
        )
    # Nested deeper than Python's stack is a RecursionError.
    except (ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())[:120]
        raise ValueError(f"'{origin}' is not JSON ({reason}); fetch it again.") from error


def read_header(path: Path, *, origin: str) -> dict[str, Tensor]:
    """The tensors that a safetensors file holds, on the meta device: shapes and dtypes, no values.

    Args:
        path: The file.
        origin: What to call it in a message.

    Raises:
        ValueError: The header lies: about its own length, about where tensors lie, or about how
            many bytes they take; or a tensor is of a dtype that no weights are in.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if not 2 <= length <= min(MAX_HEADER_BYTES, size - 8):
            raise ValueError(
                f"'{origin}' is damaged or not a safetensors file: it has {size} bytes and speaks "
                f"of a header of {length}, where at most {MAX_HEADER_BYTES} are allowed; fetch it "
                f"again."
            )
        header = _parse(file.read(length), f"the header of {origin}")
    if not isinstance(header, dict):
        raise ValueError(f"'{origin}' is damaged or not a safetensors file: its header is a list.")
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise ValueError(f"'{origin}' is damaged: its metadata are not text by name.")
    ends = [_place(key, facts, origin) for key, facts in header.items()]
    at = 0
    for start, end, key in sorted(ends):
        if start != at:
            raise ValueError(
                f"'{origin}' is damaged: {shown(key)} begins at byte {start}, where the tensor "
                f"before it ends at {at}."
            )
        at = end
    if at != size - 8 - length:
        raise ValueError(
            f"'{origin}' is damaged or cut short: its tensors take {at} bytes, and "
            f"{size - 8 - length} are there; fetch it again."
        )
    return {
        key: torch.empty(facts["shape"], dtype=_DTYPES[facts["dtype"]], device="meta")
        for key, facts in header.items()
    }


def _place(key: str, facts: Any, origin: str) -> tuple[int, int, str]:
    """Where a tensor lies in a file, (start, end), if what is said of it holds together."""
    if not isinstance(facts, dict) or facts.keys() != {"dtype", "shape", "data_offsets"}:
        raise ValueError(f"'{origin}' is damaged: {shown(key)} has {shown(facts)} in the header.")
    dtype, shape, offsets = facts["dtype"], facts["shape"], facts["data_offsets"]
    if not isinstance(dtype, str) or dtype not in _DTYPES:
        raise ValueError(
            f"'{origin}': {shown(key)} is of dtype {shown(dtype)}. Weights are in "
            f"{', '.join(_FLOATS)}, counters and indices in {', '.join(_INTEGERS)}; write the file "
            f"from the model as model.float()."
        )
    counts = [shape, offsets] if isinstance(shape, list) and isinstance(offsets, list) else [[None]]
    whole = all(type(n) is int and 0 <= n < 2**48 for numbers in counts for n in numbers)
    # Without its zeros: sides that no memory holds are no shape, though they may hold nothing.
    if (
        not whole
        or len(offsets) != 2
        or offsets[0] > offsets[1]
        or len(shape) > 8
        or math.prod(side or 1 for side in shape) >= 2**48
    ):
        raise ValueError(
            f"'{origin}' is damaged: {shown(key)} has the shape {shown(shape)} at bytes "
            f"{shown(offsets)}."
        )
    taken = math.prod(shape) * _DTYPES[dtype].itemsize
    if taken != offsets[1] - offsets[0]:
        raise ValueError(
            f"'{origin}' is damaged: {shown(key)} of shape {tuple(shape)} in {dtype} takes {taken} "
            f"bytes, and lies at {offsets[0]} to {offsets[1]}."
        )
    return offsets[0], offsets[1], key


def check_fit(found: Mapping[str, Tensor], expected: Mapping[str, Tensor], *, origin: str) -> None:
    """Refuse tensors that are not a model's: other keys, shapes or kinds of number.

    Half precision is taken for float32: its values stay what they are. Float64 is not, since it
    would be rounded without a word.

    Args:
        found: What a file holds, maybe on the meta device.
        expected: What a model takes.
        origin: What to call the file in a message.

    Raises:
        ValueError: They differ; the message names some of the keys.
    """
    missing = sorted(expected.keys() - found.keys())
    unknown = sorted(found.keys() - expected.keys())
    wrong = [
        f"{key} is {_kind(found[key])}, must be {_kind(expected[key])}"
        for key in sorted(expected.keys() & found.keys())
        if found[key].shape != expected[key].shape
        or found[key].is_floating_point() != expected[key].is_floating_point()
        or not (found[key].is_floating_point() or found[key].dtype == expected[key].dtype)
    ]
    parts = (("missing keys", missing), ("unknown keys", unknown), ("wrong tensors", wrong))
    problems = "; ".join(f"{title}: {_listed(names)}" for title, names in parts if names)
    if problems:
        raise ValueError(
            f"'{origin}' does not hold the tensors that its config.json tells of: {problems}."
        )


def _kind(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)}"


def _listed(names: Sequence[str], most: int = 8) -> str:
    rest = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(name[:200] for name in names[:most]) + rest


def load_tensors(path: Path, *, origin: str) -> dict[str, Tensor]:
    """The tensors of a safetensors file whose header was found good.

    Raises:
        ValueError: The reader of the format finds it damaged after all.
    """
    try:
        return load_file(path)
    except (SafetensorError, RuntimeError) as error:
        raise ValueError(f"'{origin}' is damaged ({error}); fetch it again.") from error


def check_finite(state: Mapping[str, Tensor], *, origin: str) -> None:
    """Refuse tensors with NaN or infinite values: a model with one answers NaN to everything.

    Raises:
        ValueError: There are some; the message names the keys.
    """
    bad = [
        key
        for key, value in state.items()
        if value.is_floating_point() and not torch.isfinite(value).all()
    ]
    if bad:
        raise ValueError(
            f"'{origin}' holds NaN or infinite values in {_listed(bad)}; it is not used."
        )
