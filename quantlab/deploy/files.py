"""Files that belong together, written so that a crash leaves the old ones, none, or the new ones. No formats."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from quantlab.errors import StorageError
from quantlab.storage import check_writable


@contextmanager
def settled(path: Path) -> Iterator[Path]:
    """A path of the same name in a hidden folder; what is written there takes its place beside ``path`` at the end.

    Where there is more than one file the old ``path`` goes first and the new one comes last: it never stands beside
    files of another export.

    Raises:
        StorageError: The folder is missing or read-only, or the disk is full.
    """
    check_writable(path)
    hidden = Path(tempfile.mkdtemp(prefix=".", suffix=".quantlab-part", dir=path.parent))
    try:
        yield hidden / path.name
        written = sorted(hidden.iterdir(), key=lambda file: file.name == path.name)
        for file in written:
            _flush(file)
        if len(written) > 1:
            path.unlink(missing_ok=True)
        for file in written:
            file.replace(path.parent / file.name)
    except OSError as error:
        raise StorageError(
            f"the files could not be written: {error.strerror or error}",
            place=str(path),
            remedy="Free some space or choose a folder you may write to.",
        ) from error
    finally:
        shutil.rmtree(hidden, ignore_errors=True)


def _flush(file: Path) -> None:
    with file.open("rb+") as stream:
        os.fsync(stream.fileno())
