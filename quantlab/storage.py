"""Writes files so that a crash, a full disk or a power cut leaves the old one whole. It knows no formats."""

from __future__ import annotations

import contextlib
import json
import math
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from quantlab.errors import StorageError, shortened

_SUFFIX = ".quantlab-part"
_ORPHAN_AGE_SECONDS = 3600.0


@contextlib.contextmanager
def atomic_writer(path: str | Path) -> Iterator[BinaryIO]:
    """Open a file for writing bytes that takes the place of ``path`` only when all of it is on the disk.

    The bytes go to a neighbour of ``path``, are flushed to the disk, and the neighbour is renamed over
    ``path``; then the folder is flushed too, because a rename that is not on the disk is lost in a power
    cut. When anything fails in between the neighbour is removed and the old file stays as it was. A file
    that is mapped into memory meanwhile keeps its old contents for those who mapped it.

    Raises:
        StorageError: The folder is missing or read-only, the disk is full, or the name is not possible.
    """
    target = _checked(Path(path))
    try:
        handle, name = tempfile.mkstemp(prefix=".", suffix=_SUFFIX, dir=target.parent)
    except OSError as error:
        raise _explained(error, target) from error
    part = Path(name)
    try:
        with os.fdopen(handle, "wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        part.chmod(_mode(target))
        part.replace(target)
        _flush_folder(target.parent)
    except OSError as error:
        raise _explained(error, target) from error
    finally:
        part.unlink(missing_ok=True)


def atomic_write(path: str | Path, content: bytes | str) -> Path:
    """Write ``content`` (text as UTF-8) to ``path`` whole or not at all, and answer the path.

    Raises:
        StorageError: As :func:`atomic_writer`.
    """
    with atomic_writer(path) as stream:
        stream.write(content.encode() if isinstance(content, str) else content)
    return Path(path)


def write_json(path: str | Path, document: Any) -> Path:
    """Write ``document`` as indented JSON, whole or not at all; NaN and infinities become null, as JSON has none.

    Raises:
        StorageError: As :func:`atomic_writer`.
    """
    text = json.dumps(_finite(document), indent=2, ensure_ascii=False, allow_nan=False)
    return atomic_write(path, text + "\n")


def check_writable(path: str | Path | None) -> None:
    """Find out before long work, not after it, that ``path`` cannot be written; None asks for nothing.

    Raises:
        StorageError: As :func:`atomic_writer`.
    """
    if path is None:
        return
    target = _checked(Path(path))
    try:
        with tempfile.NamedTemporaryFile(prefix=".", suffix=_SUFFIX, dir=target.parent):
            pass
    except OSError as error:
        raise _explained(error, target) from error


def sweep_orphans(folder: str | Path, *, older_than: float = _ORPHAN_AGE_SECONDS) -> list[Path]:
    """Remove the unfinished neighbours that killed saves left in ``folder``, and answer which they were.

    Only files at least ``older_than`` seconds old go, so that a save running in another process is not disturbed.
    """
    swept = []
    for part in sorted(Path(folder).glob(f".*{_SUFFIX}")):
        with contextlib.suppress(OSError):
            if time.time() - part.stat().st_mtime >= older_than:
                part.unlink()
                swept.append(part)
    return swept


def _checked(target: Path) -> Path:
    if "\0" in str(target) or not target.name:
        raise StorageError(f"{str(target)!r} cannot be a file name", remedy="Choose another name.")
    try:
        is_folder = target.is_dir()
    except OSError as error:  # a name that is too long
        raise _explained(error, target) from error
    if is_folder:
        raise StorageError(
            "a folder stands where the file should go", place=str(target), remedy="Name a file in it."
        )
    if not target.parent.is_dir():
        raise StorageError("the folder does not exist", place=str(target.parent), remedy="Create it first.")
    return target.resolve()


def _mode(target: Path) -> int:
    """The permissions of the file that is replaced, or those a new file gets; mkstemp alone makes 0600."""
    try:
        return target.stat().st_mode & 0o777
    except FileNotFoundError:
        mask = os.umask(0)
        os.umask(mask)
        return 0o666 & ~mask


def _flush_folder(folder: Path) -> None:
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _explained(error: OSError, target: Path) -> StorageError:
    return StorageError(
        f"the file could not be written: {error.strerror or error}",
        place=shortened(str(target)),
        remedy="The old file, if any, is untouched. Free some space or choose a folder you may write to.",
    )


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    if isinstance(value, float):  # numpy's float64 is one; float32 is not, see below
        return float(value) if math.isfinite(value) else None
    if hasattr(value, "tolist"):
        return _finite(value.tolist())
    return value
