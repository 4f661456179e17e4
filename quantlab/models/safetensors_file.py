"""Reading one .safetensors file by memory map, after its own check of the header. It knows nothing of networks."""

from __future__ import annotations

import json
import mmap
import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from quantlab.errors import CheckpointError

HEADER_LIMIT = 100 << 20
DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "U16": torch.uint16,
    "U32": torch.uint32,
    "U64": torch.uint64,
    "BOOL": torch.bool,
}
DOWNLOAD_AGAIN = "Download or copy the file again."


@dataclass(frozen=True, slots=True)
class Entry:
    """Where one tensor lies: dtype, shape, and its bytes from ``start`` to ``end`` of the body."""

    dtype: torch.dtype
    shape: tuple[int, ...]
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class SafetensorsFile:
    """The checked header of a file; ``body`` is the offset of the first tensor byte."""

    path: Path
    metadata: Mapping[str, str]
    entries: Mapping[str, Entry]
    body: int

    def tensors(self) -> dict[str, Tensor]:
        """Every tensor, mapped copy-on-write: pages are read when used, and writing never reaches the file."""
        if not any(entry.end > entry.start for entry in self.entries.values()):
            return {name: torch.empty(e.shape, dtype=e.dtype) for name, e in self.entries.items()}
        with _open(self.path) as file:
            mapping = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
        return {name: _view(mapping, self.body, entry) for name, entry in self.entries.items()}


def read_header(path: Path) -> SafetensorsFile:
    """Read and check the header of ``path``; the tensors themselves are not touched.

    Raises:
        CheckpointError: The file is no regular readable file, not safetensors, damaged, or malformed.
    """
    with _open(path) as file:
        size = os.fstat(file.fileno()).st_size
        start = file.read(8)
        _check_start(path, start, size)
        (length,) = struct.unpack("<Q", start)
        if length > HEADER_LIMIT or 8 + length > size:
            raise _not_safetensors(path, start + file.read(504), size)
        raw = file.read(length)
    header = _parse(path, raw)
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise _damaged(path, "its metadata is not a table of texts")
    entries = {name: _entry(path, name, value) for name, value in header.items()}
    _check_layout(path, entries, size - 8 - length)
    return SafetensorsFile(path, metadata, entries, 8 + length)


def _open(path: Path) -> Any:
    if path.is_dir():
        raise CheckpointError(
            "the path is a folder, not a weight file", place=str(path), remedy="Name the file in it."
        )
    try:
        return path.open("rb")
    except FileNotFoundError:
        raise CheckpointError(
            "there is no such weight file", place=str(path), remedy="Check the path."
        ) from None
    except OSError as error:
        reason = error.strerror or "unreadable"
        raise CheckpointError(
            f"the weight file cannot be read: {reason}", place=str(path), remedy="Check its permissions."
        ) from None


def _check_start(path: Path, start: bytes, size: int) -> None:
    if size == 0:
        raise CheckpointError("the weight file is empty", place=str(path), remedy=DOWNLOAD_AGAIN)
    if size < 8:
        raise CheckpointError(
            f"the weight file has only {size} bytes", place=str(path), remedy=DOWNLOAD_AGAIN
        )
    if start.lstrip()[:1] == b"<" or start == b"version ":
        raise _not_safetensors(path, start, size)


def _not_safetensors(path: Path, start: bytes, size: int) -> CheckpointError:
    """Tell a web page, a Git-LFS pointer and a pickle from a damaged header."""
    if start.lstrip()[:1] == b"<":
        return CheckpointError(
            "the file is a web page, not weights", place=str(path), remedy="Download the raw file instead."
        )
    if start.startswith(b"version "):
        return CheckpointError(
            "the file is a Git-LFS pointer, not the weights", place=str(path), remedy="Run `git lfs pull`."
        )
    if start.startswith((b"PK\x03\x04", b"\x80\x02")):
        return CheckpointError(
            "the file is a PyTorch checkpoint, not safetensors",
            place=str(path),
            remedy="Rename it to end in .pt.",
        )
    return _damaged(path, f"its header is longer than the {size} bytes of the file allow")


def _damaged(path: Path, reason: str) -> CheckpointError:
    return CheckpointError(f"the weight file is damaged: {reason}", place=str(path), remedy=DOWNLOAD_AGAIN)


def _parse(path: Path, raw: bytes) -> dict[str, Any]:
    def refuse_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        table = dict(pairs)
        if len(table) != len(pairs):
            names = [name for name, _ in pairs]
            twice = next(name for name in names if names.count(name) > 1)
            raise _damaged(path, f"{twice!r} appears twice in its header")
        return table

    try:
        header = json.loads(raw.decode("utf-8"), object_pairs_hook=refuse_duplicates)
    except UnicodeDecodeError:
        raise _damaged(path, "its header is not UTF-8 text") from None
    except (ValueError, RecursionError):
        raise _damaged(path, "its header is not JSON") from None
    if not isinstance(header, dict):
        raise _damaged(path, "its header is not a table")
    return header


def _entry(path: Path, name: str, value: object) -> Entry:
    if not isinstance(value, dict) or set(value) != {"dtype", "shape", "data_offsets"}:
        raise _damaged(path, f"the entry of {name!r} is malformed")
    dtype = DTYPES.get(value["dtype"]) if isinstance(value["dtype"], str) else None
    if dtype is None:
        raise CheckpointError(
            f"the number format {value['dtype']!r} of {name!r} is unknown",
            place=str(path),
            remedy="Convert the weights to float32, float16 or bfloat16.",
        )
    shape, offsets = value["shape"], value["data_offsets"]
    if not _counts(shape) or not _counts(offsets) or len(offsets) != 2:
        raise _damaged(path, f"shape or offsets of {name!r} are not whole numbers")
    start, end = offsets
    # Python's integers do not overflow, so an absurd shape simply does not match its bytes.
    if end - start != prod(shape) * dtype.itemsize:
        raise _damaged(path, f"shape and bytes of {name!r} do not agree")
    # A tensor without elements has no bytes that its sides would have to match.
    if prod(max(1, side) for side in shape) * dtype.itemsize >= 1 << 63:
        raise _damaged(path, f"the shape of {name!r} is too large for any tensor")
    return Entry(dtype, tuple(shape), start, end)


def _counts(values: object) -> bool:
    return isinstance(values, list) and all(type(v) is int and 0 <= v < 1 << 63 for v in values)


def _check_layout(path: Path, entries: Mapping[str, Entry], size: int) -> None:
    """The tensors must cover the body without holes or overlaps, and the body must be whole."""
    position = 0
    for name, entry in sorted(entries.items(), key=lambda item: (item[1].start, item[1].end)):
        if entry.start != position:
            fault = "overlaps another tensor" if entry.start < position else "is preceded by a hole"
            raise _damaged(path, f"{name!r} {fault}")
        position = entry.end
    if position > size:
        raise _damaged(path, f"it ends {position - size} bytes early (an interrupted download?)")
    if position < size:
        raise _damaged(path, f"{size - position} bytes follow the last tensor")


def _view(mapping: mmap.mmap, body: int, entry: Entry) -> Tensor:
    count = prod(entry.shape)
    if count == 0:
        return torch.empty(entry.shape, dtype=entry.dtype)
    offset = body + entry.start
    if offset % entry.dtype.itemsize:
        # A header of odd length leaves the numbers unaligned; only such a file is copied into memory.
        raw = bytearray(mapping[offset : body + entry.end])
        return torch.frombuffer(raw, dtype=entry.dtype).view(entry.shape)
    return torch.frombuffer(mapping, dtype=entry.dtype, count=count, offset=offset).view(entry.shape)
