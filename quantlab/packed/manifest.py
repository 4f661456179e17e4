"""`quantlab.json`: what a packed checkpoint is, and whether its files are those that were written. It reads no tensors.

format, quantlab, torch, created       who wrote it, and when
model                                  name, kind, sha256 of the source weights, whether outliers were planted
recipe, seed, scenes                   how it was quantized, and the digest of what it learned from
layers, parameters, standins           a record of each, from which they are put together again
rest                                   how matrices that no rule rounds are stored
bytes, drift                           sizes, and how far it is from the simulation, measured when it was written
files                                  size and sha256 of every other file
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from quantlab.errors import CheckpointError
from quantlab.models.checkpoint import JSON_LIMIT

MANIFEST = "quantlab.json"
FORMAT = 1
HASHED_BYTES = 64_000_000
"""Up to this size a file is read whole to be verified without being asked."""
SLICE = 1 << 24
_TABLES = ("model", "recipe", "layers", "parameters", "files")


@dataclass(frozen=True, slots=True)
class Manifest:
    """The text of a packed checkpoint, checked for its form.

    Attributes:
        folder: Where it lies.
        content: All of it, as plain data.
    """

    folder: Path
    content: Mapping[str, Any]

    @property
    def files(self) -> Mapping[str, Mapping[str, Any]]:
        """File name to size and digests."""
        files: Mapping[str, Mapping[str, Any]] = self.content["files"]
        return files

    @property
    def shards(self) -> list[Path]:
        """The files that hold tensors."""
        return [self.folder / name for name in sorted(self.files) if name.endswith(".safetensors")]


def is_packed(path: str | Path) -> bool:
    """Whether a folder claims to be a packed checkpoint of ours."""
    try:
        return (Path(path) / MANIFEST).is_file()
    except (OSError, ValueError):  # no name of a file, or of one that nobody may look at
        return False


def is_alone(folder: Path) -> bool:
    """Whether nothing but a packed checkpoint lies in a folder, so that who replaces it loses nothing else."""
    try:
        return {path.name for path in folder.iterdir()} <= {MANIFEST, *read_manifest(folder).files}
    except (CheckpointError, OSError, ValueError):
        return False


def read_manifest(folder: Path) -> Manifest:
    """Read and check the text of a packed checkpoint.

    Raises:
        CheckpointError: There is none, it is damaged, foreign, or of a newer QuantLab.
    """
    place = str(folder / MANIFEST)
    try:
        if (folder / MANIFEST).stat().st_size > JSON_LIMIT:
            raise CheckpointError("the JSON file is far too large", place=place)
        content = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(
            f"the folder's {MANIFEST} cannot be read: {str(error)[:120]}",
            place=str(folder),
            remedy="Name a folder that was exported, or export it again.",
        ) from None
    form = content.get("format") if isinstance(content, dict) else None
    if type(form) is int and form > FORMAT:
        raise CheckpointError(
            f"the checkpoint has format {form}, of a newer QuantLab", place=place, remedy="Update QuantLab."
        )
    tables = isinstance(content, dict) and all(isinstance(content.get(name), dict) for name in _TABLES)
    if form != FORMAT or not tables or not isinstance(content.get("standins"), list):
        raise CheckpointError(
            f"this is no {MANIFEST} of a packed checkpoint", place=place, remedy="Export it again."
        )
    manifest = Manifest(folder, content)
    for name, entry in manifest.files.items():
        if Path(name).name != name or name in ("", ".", "..", MANIFEST) or not _is_entry(entry):
            raise CheckpointError(f"the file {name!r} cannot be part of it", place=place)
    return manifest


def check_files(manifest: Manifest, *, verify: bool = False) -> None:
    """Make sure that the files are those that were written.

    Sizes and the headers of all files are compared, and the digests of those that are small; ``verify`` reads all.

    Raises:
        CheckpointError: A file is missing or is another.
    """
    for name, entry in manifest.files.items():
        path = manifest.folder / name
        if not path.is_file():
            raise CheckpointError("a file is missing", place=str(path), remedy="Copy the whole folder again.")
        size = path.stat().st_size
        if size != entry["bytes"]:
            raise _changed(path, f"it has {size} bytes instead of {entry['bytes']}")
        if (verify or size <= HASHED_BYTES) and _digest(path) != entry["sha256"]:
            raise _changed(path, "its sha256 is another")
        if entry["header"] and _header_digest(path) != entry["header"]:
            raise _changed(path, "its header is another")


def _is_entry(entry: object) -> bool:
    if not isinstance(entry, dict) or type(entry.get("bytes")) is not int:
        return False
    return isinstance(entry.get("sha256"), str) and isinstance(entry.get("header"), str)


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(SLICE):
            digest.update(block)
    return digest.hexdigest()


def _header_digest(path: Path) -> str:
    with path.open("rb") as file:
        start = file.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
        return hashlib.sha256(start + file.read(min(length, JSON_LIMIT))).hexdigest()


def _changed(path: Path, reason: str) -> CheckpointError:
    return CheckpointError(
        f"the file is not the one that was exported: {reason}",
        place=str(path),
        remedy="Copy the whole folder again, or export it again.",
    )
