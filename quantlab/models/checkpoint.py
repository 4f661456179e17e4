"""Checkpoints on disk as names, tensors and metadata: .safetensors, sharded folders, .pt. Matching is in assign.py."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from quantlab.errors import CheckpointError
from quantlab.models.safetensors_file import DOWNLOAD_AGAIN, SafetensorsFile, read_header

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"
CONFIG = "config.json"
JSON_LIMIT = 64 << 20
FLOATS = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
QUANTIZED_ENDINGS = (
    ".weight_scale",
    ".weight_zero_point",
    ".qweight",
    ".weight_packed",
    ".weight._scale",
    ".weight._data",
)


@dataclass(frozen=True, slots=True)
class Stamp:
    """What tells whether a file is still the one that was read: identity, size and time of change."""

    path: Path
    inode: int
    size: int
    changed_ns: int

    @classmethod
    def of(cls, path: Path) -> Stamp:
        """The stamp of the file as it is now."""
        status = path.stat()
        return cls(path, status.st_ino, status.st_size, status.st_mtime_ns)

    def check(self) -> None:
        """Raise CheckpointError when the file was overwritten in place since.

        A file replaced by renaming another onto it does no harm: the old one stays mapped.
        """
        try:
            now = Stamp.of(self.path)
        except OSError:
            return
        if now.inode == self.inode and now != self:
            raise CheckpointError(
                "the weight file was overwritten while it was in use",
                place=str(self.path),
                remedy="Load the model again, and replace weight files by renaming.",
            )


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Tensors by name (memory-mapped where the format allows), metadata, and the files they came from."""

    path: Path
    tensors: Mapping[str, Tensor]
    metadata: Mapping[str, str]
    stamps: tuple[Stamp, ...]

    @property
    def config(self) -> dict[str, Any] | None:
        """The sizes stored in the metadata, or None for a published file without them."""
        if "config" not in self.metadata:
            return None
        return _table(self.metadata["config"], f"{self.path}, metadata key 'config'")

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors."""
        return sum(tensor.nbytes for tensor in self.tensors.values())


def open_checkpoint(path: str | Path) -> Checkpoint:
    """Open a .safetensors or .pt file, or a folder with ``model.safetensors`` or its sharded index.

    No code in any file is run, and safetensors are mapped, not read.

    Raises:
        CheckpointError: The checkpoint is absent, unreadable, damaged, quantized already, or of another format.
    """
    path = Path(path)
    if path.is_dir():
        checkpoint = _open_folder(path)
    elif path.suffix in (".pt", ".pth", ".bin"):
        checkpoint = Checkpoint(path, _read_pickle(path), {}, (Stamp.of(path),))
    elif path.suffix == ".safetensors" or not path.exists():
        checkpoint = _from_files(path, [read_header(path)], {})
    else:
        raise CheckpointError(
            f"the ending {path.suffix!r} is no checkpoint's",
            place=str(path),
            remedy="Give a .safetensors file, a .pt file, or a folder.",
        )
    _check_formats(checkpoint)
    return checkpoint


def _from_files(path: Path, files: list[SafetensorsFile], extra: Mapping[str, str]) -> Checkpoint:
    tensors: dict[str, Tensor] = {}
    metadata: dict[str, str] = dict(extra)
    for file in files:
        metadata |= file.metadata
        for name, tensor in file.tensors().items():
            if name in tensors:
                raise CheckpointError(
                    f"{name!r} is in two shards", place=str(file.path), remedy="Download the folder again."
                )
            tensors[name] = tensor
    return Checkpoint(path, tensors, metadata, tuple(Stamp.of(file.path) for file in files))


def _open_folder(folder: Path) -> Checkpoint:
    extra = _folder_config(folder)
    if (folder / INDEX).exists():
        weight_map = _read_json(folder / INDEX).get("weight_map")
        shards = _shards(folder, weight_map)
        checkpoint = _from_files(
            folder, [read_header(folder / shard) for shard in sorted(set(shards.values()))], extra
        )
        astray = set(shards) ^ set(checkpoint.tensors)
        if astray:
            raise CheckpointError(
                f"index and shards disagree about {_some(astray)}",
                place=str(folder / INDEX),
                remedy="Download the folder again.",
            )
        return checkpoint
    if (folder / SINGLE).exists():
        return _from_files(folder, [read_header(folder / SINGLE)], extra)
    raise CheckpointError(
        f"the folder has neither {SINGLE} nor {INDEX}",
        place=str(folder),
        remedy="Name a folder that holds a checkpoint, or the file itself.",
    )


def _shards(folder: Path, weight_map: object) -> dict[str, str]:
    place = str(folder / INDEX)
    if not isinstance(weight_map, dict) or not all(isinstance(shard, str) for shard in weight_map.values()):
        raise CheckpointError("the index has no table 'weight_map'", place=place)
    for shard in sorted(set(weight_map.values())):
        if Path(shard).name != shard or not shard.endswith(".safetensors"):
            raise CheckpointError(
                f"the index names {shard!r}, which is no .safetensors file of this folder", place=place
            )
        if not (folder / shard).exists():
            raise CheckpointError(
                f"the shard {shard!r} is absent", place=place, remedy="Download the missing shard."
            )
    return weight_map


def _folder_config(folder: Path) -> dict[str, str]:
    """Our own config.json if there is one; those of other programs say nothing about sizes we need."""
    if not (folder / CONFIG).exists():
        return {}
    config = _read_json(folder / CONFIG)
    kind = config.pop("kind", None)
    if not {"aggregator", "decoder"} & set(config):
        return {}
    return {"config": json.dumps(config)} | ({"kind": kind} if isinstance(kind, str) else {})


def _read_json(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > JSON_LIMIT:
            raise CheckpointError("the JSON file is far too large", place=str(path))
        return _table(path.read_text(encoding="utf-8"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise CheckpointError(f"the file cannot be read: {error}", place=str(path)) from None


def _table(text: str, place: str) -> dict[str, Any]:
    try:
        table = json.loads(text)
    except (ValueError, RecursionError):
        table = None
    if not isinstance(table, dict):
        raise CheckpointError("the text is not a JSON table", place=place, remedy="Download the file again.")
    return table


def _read_pickle(path: Path) -> dict[str, Tensor]:
    """Tensors of a zip-format .pt file, mapped; only tensors and plain containers are ever unpickled."""
    if not path.is_file():
        raise CheckpointError("there is no such weight file", place=str(path), remedy="Check the path.")
    if not _is_zip(path):
        raise CheckpointError(
            "the file is no PyTorch checkpoint of the current (zip) format",
            place=str(path),
            remedy="Download it again, or convert it to safetensors.",
        )
    _refuse_compressed(path)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # noqa: BLE001
        # Damaged and hostile pickles raise nearly anything, always before any tensor is used.
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(
            f"the file cannot be opened without running code, or is damaged: {reason}",
            place=str(path),
            remedy="Convert it to safetensors in a program you trust.",
        ) from None
    return _untie(_state_dict(content, path))


def _is_zip(path: Path) -> bool:
    try:
        return zipfile.is_zipfile(path)
    except zipfile.BadZipFile:  # an end that names several disks
        return False


def _refuse_compressed(path: Path) -> None:
    """PyTorch never compresses the parts of a checkpoint; a compressed one could unpack to any size."""
    try:
        with zipfile.ZipFile(path) as archive:
            stored = all(part.compress_type == zipfile.ZIP_STORED for part in archive.infolist())
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        raise CheckpointError("the weight file is damaged", place=str(path), remedy=DOWNLOAD_AGAIN) from None
    if not stored:
        raise CheckpointError(
            "the file is a compressed archive, not a checkpoint PyTorch wrote",
            place=str(path),
            remedy="Unpack it first.",
        )


def _state_dict(content: object, path: Path) -> dict[str, Tensor]:
    for key in ("model", "state_dict", "model_state_dict"):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping) or not content:
        raise CheckpointError(
            "the file holds no state dict", place=str(path), remedy="Save model.state_dict()."
        )
    for name, tensor in content.items():
        if not isinstance(name, str) or not isinstance(tensor, Tensor):
            raise CheckpointError(
                f"the entry {name!r} is no tensor", place=str(path), remedy="Save model.state_dict()."
            )
    return dict(content)


def _untie(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Copy tensors that share memory with an earlier one: quantizing one layer must not change another."""
    seen: set[int] = set()
    separate = {}
    for name, tensor in tensors.items():
        address = tensor.untyped_storage().data_ptr() + int(tensor.storage_offset()) * tensor.element_size()
        separate[name] = tensor.clone() if address in seen and tensor.numel() else tensor
        seen.add(address)
    return separate


def _check_formats(checkpoint: Checkpoint) -> None:
    place = str(checkpoint.path)
    quantized = [name for name in checkpoint.tensors if name.endswith(QUANTIZED_ENDINGS)]
    if quantized:
        raise CheckpointError(
            f"the checkpoint is quantized already ({_some(quantized)})",
            place=place,
            remedy="Load the full-precision weights it was made from, or, if QuantLab packed it, "
            "the whole folder with its quantlab.json.",
        )
    for name, tensor in checkpoint.tensors.items():
        if tensor.dtype not in FLOATS:
            raise CheckpointError(
                f"{name!r} is {str(tensor.dtype).removeprefix('torch.')} where a float is expected",
                place=place,
                remedy="Load weights in float32, float16 or bfloat16.",
            )


def _some(names: object) -> str:
    listed = sorted(str(name) for name in names)  # type: ignore[attr-defined]
    more = f" and {len(listed) - 3} more" if len(listed) > 3 else ""
    return ", ".join(repr(name) for name in listed[:3]) + more
