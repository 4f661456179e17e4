"""Safetensors files written tensor by tensor, in shards, with their digests. It knows no layers and no networks."""

from __future__ import annotations

import hashlib
import json
import os
import struct
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Self

import torch
from torch import Tensor

from quantlab.errors import StorageError
from quantlab.models.checkpoint import INDEX, SINGLE
from quantlab.models.safetensors_file import DTYPES
from quantlab.storage import write_json

SHARD_BYTES = 2_000_000_000
LINE = 64
"""Bytes of a cache line: tensors of whole lines begin on one."""
SLICE = 1 << 24
_NAMES = {dtype: name for name, dtype in DTYPES.items()}


@dataclass(frozen=True, slots=True)
class Written:
    """A finished file.

    Attributes:
        bytes: Its size.
        sha256: Of all of it.
        header: The sha256 of what stands before the tensors; "" for a file without a header.
    """

    bytes: int
    sha256: str
    header: str = ""

    def to_dict(self) -> dict[str, Any]:
        """As plain data."""
        return {"bytes": self.bytes, "sha256": self.sha256, "header": self.header}


class Shards:
    """Takes tensors one by one and leaves the files of a checkpoint in a folder.

    Each shard is spooled by the size of its numbers, because a safetensors file has no gaps: tensors of whole cache
    lines come first, then the others from wide to narrow, so that every tensor lies where its numbers may.

    Args:
        folder: Where they go; files that are begun lie there too, and are gone at the end.
        limit: Bytes of the tensors of a shard; one larger tensor has a shard to itself.
    """

    def __init__(self, folder: Path, limit: int = SHARD_BYTES) -> None:
        self._folder, self._limit = folder, limit
        self._stack = ExitStack()
        self._spools: dict[int, IO[bytes]] = {}
        self._entries: dict[int, list[tuple[str, Tensor]]] = {}
        self._size = 0
        self._files: list[Written] = []
        self._places: dict[str, int] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def add(self, name: str, tensor: Tensor) -> None:
        """Write one tensor; its memory is not held on to.

        Raises:
            StorageError: The name is taken, or the disk is full.
        """
        if name in self._places:
            raise StorageError(f"two tensors are called {name!r}", remedy="Rename the network's modules.")
        if self._size and self._size + tensor.nbytes > self._limit:
            self._finish_shard()
        self._places[name] = len(self._files)
        plain = tensor.detach().cpu().contiguous()
        width = LINE if plain.nbytes % LINE == 0 else plain.element_size()
        if width not in self._spools:
            spool = tempfile.TemporaryFile(dir=self._folder)  # noqa: SIM115 - closed with the stack
            self._spools[width] = self._stack.enter_context(spool)
        # flattened first: a tensor without dimensions cannot be seen as bytes
        self._spools[width].write(plain.flatten().view(torch.uint8).numpy().data)
        shape_only = torch.empty(plain.shape, dtype=plain.dtype, device="meta")
        self._entries.setdefault(width, []).append((name, shape_only))
        self._size += plain.nbytes

    def finish(self) -> dict[str, Written]:
        """Write what is left, and the index where there are several files; answers the files by name."""
        self._finish_shard()
        count = len(self._files)
        if count == 1:
            _part(self._folder, 0).replace(self._folder / SINGLE)
            return {SINGLE: self._files[0]}
        names = [f"model-{index + 1:05d}-of-{count:05d}.safetensors" for index in range(count)]
        for index, name in enumerate(names):
            _part(self._folder, index).replace(self._folder / name)
        total = sum(file.bytes for file in self._files)
        weight_map = {name: names[index] for name, index in sorted(self._places.items())}
        write_json(self._folder / INDEX, {"metadata": {"total_size": total}, "weight_map": weight_map})
        return dict(zip(names, self._files, strict=True))

    def _finish_shard(self) -> None:
        header = self._header()
        digest = hashlib.sha256(header)
        path = _part(self._folder, len(self._files))
        with path.open("wb") as file:
            file.write(header)
            for width in sorted(self._spools, reverse=True):
                spool = self._spools[width]
                spool.seek(0)
                while block := spool.read(SLICE):
                    digest.update(block)
                    file.write(block)
            file.flush()
            os.fsync(file.fileno())
        written = Written(len(header) + self._size, digest.hexdigest(), hashlib.sha256(header).hexdigest())
        self._files.append(written)
        self._stack.close()
        self._spools, self._entries, self._size = {}, {}, 0

    def _header(self) -> bytes:
        table: dict[str, Any] = {"__metadata__": {"format": "pt"}}
        start = 0
        for width in sorted(self._entries, reverse=True):
            for name, tensor in self._entries[width]:
                end = start + tensor.nbytes
                table[name] = {
                    "dtype": _NAMES[tensor.dtype],
                    "shape": list(tensor.shape),
                    "data_offsets": [start, end],
                }
                start = end
        raw = json.dumps(table, separators=(",", ":")).encode()
        raw += b" " * (-(8 + len(raw)) % LINE)
        return struct.pack("<Q", len(raw)) + raw


def file_written(path: Path) -> Written:
    """Size and digest of a small file that lies there."""
    content = path.read_bytes()
    return Written(len(content), hashlib.sha256(content).hexdigest())


def _part(folder: Path, index: int) -> Path:
    return folder / f"shard-{index}"
