"""Which weights a result belongs to: their sha256, read in slices and kept. It compares nothing."""

from __future__ import annotations

import hashlib
import re
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

from quantlab.errors import StorageError

if TYPE_CHECKING:
    from quantlab.models.model import Model

SLICE = 1 << 24
"""Bytes read at a time; memory does not grow with the file."""
KEPT = 256
"""Digests of files that are remembered in this process."""
OUTLIERS = "+outliers"

_known: dict[tuple[str, int, int], str] = {}
_lock = threading.Lock()


def fingerprint(model: Model | nn.Module) -> str:
    """What tells two sets of weights apart: their digest, and whether outliers were planted in them.

    Of a model that came from a file it is the digest of the file, so that the same weights in another format count as
    others; of a bare module that of its tensors.

    Raises:
        StorageError: The file of the weights is gone.
    """
    if isinstance(model, nn.Module):
        return network_digest(model)
    return f"{model.sha256}{OUTLIERS if model.planted else ''}"


def weights_digest(path: Path) -> str:
    """The sha256 of a weight file, or of all .safetensors files of a folder in the order of their names.

    Raises:
        StorageError: A file cannot be read.
    """
    if re.fullmatch("[0-9a-f]{64}", path.resolve().name):
        return path.resolve().name  # the hub's cache names large files by their sha256 already
    if not path.is_dir():
        return file_digest(path)
    digest = hashlib.sha256()
    for file in sorted(path.glob("*.safetensors")):
        _read_into(digest, file)
    return digest.hexdigest()


def file_digest(path: Path) -> str:
    """The sha256 of one file; remembered for as long as its size and its time of change stay.

    Raises:
        StorageError: It cannot be read.
    """
    try:
        status = path.stat()
    except (OSError, ValueError) as error:  # ValueError: a null character in the name
        raise _unreadable(path, error) from None
    key = (str(path.absolute()), status.st_size, status.st_mtime_ns)
    with _lock:
        known = _known.get(key)
    if known is not None:
        return known
    digest = hashlib.sha256()
    _read_into(digest, path)
    with _lock:
        while len(_known) >= KEPT:
            _known.pop(next(iter(_known)))
        _known[key] = digest.hexdigest()
    return digest.hexdigest()


def network_digest(network: nn.Module) -> str:
    """The sha256 over names and bytes of all tensors of a network, in the order of its state dict."""
    digest = hashlib.sha256()
    for name, tensor in network.state_dict().items():
        digest.update(name.encode())
        # flattened first: a tensor without dimensions cannot be seen as bytes
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _read_into(digest: hashlib._Hash, path: Path) -> None:
    try:
        with path.open("rb") as opened:
            while block := opened.read(SLICE):
                digest.update(block)
    except OSError as error:
        raise _unreadable(path, error) from None


def _unreadable(path: Path, error: Exception) -> StorageError:
    reason = getattr(error, "strerror", None) or error
    return StorageError(f"the file cannot be read: {reason}", place=str(path), remedy="Check the path.")
