"""A folder that takes its place only when all of it is on the disk. It knows nothing of what is in it."""

from __future__ import annotations

import contextlib
import glob
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from quantlab.errors import StorageError, shortened

SUFFIX = ".quantlab-part"
ORPHAN_AGE_SECONDS = 3600.0
FREE = (
    "Choose another name. overwrite=True replaces an earlier export to the same target, and nothing else: no folder"
    " that holds other files too."
)
"""What to do where something stands in the way."""


@contextlib.contextmanager
def new_folder(target: Path, replaces: Callable[[Path], bool]) -> Iterator[Path]:
    """A folder beside ``target`` to write into, which takes its place when the block ends well.

    When the block fails, the folder is removed and ``target`` stays as it was. What a killed process left there goes
    at the next time, an hour later.

    Args:
        target: An empty folder may stand there.
        replaces: Whether a folder that stands there and is not empty may go.

    Raises:
        StorageError: Something else stands there, before or after the block; or the folder around it is missing,
            read-only or full.
    """
    target = require_free(target, replaces)
    try:
        _sweep(target)
        part = Path(tempfile.mkdtemp(prefix=f".{target.name[:100]}.", suffix=SUFFIX, dir=target.parent))
        try:
            yield part
            part.chmod(0o755)
            _take_place(part, require_free(target, replaces))  # others may have come meanwhile
        finally:
            shutil.rmtree(part, ignore_errors=True)
    except OSError as error:
        raise StorageError(
            f"the folder could not be written: {error.strerror or error}",
            place=str(target),
            remedy="What stood there is untouched. Free some space or choose a folder you may write to.",
        ) from error


def require_free(target: Path, replaces: Callable[[Path], bool]) -> Path:
    """Find out before long work, not after it, that a folder cannot go there; arguments as `new_folder`.

    Raises:
        StorageError: Something else stands there, or the folder around it is missing.
    """
    try:
        target = target.absolute()
        if "\0" in target.name or not target.name:
            raise StorageError(f"{str(target)!r} cannot be a folder", remedy="Name another.")
        if not target.parent.is_dir():
            raise StorageError(
                "the folder does not exist", place=str(target.parent), remedy="Create it first."
            )
        taken = target.is_symlink() or (target.exists() and not target.is_dir())
        full = not taken and target.is_dir() and any(target.iterdir())
    except OSError as error:  # a name that is too long
        raise StorageError(
            f"this cannot be a folder: {error.strerror or error}",
            place=shortened(str(target)),
            remedy="Name another.",
        ) from error
    if taken or (full and not replaces(target)):
        raise StorageError(
            "something else stands where the folder should go" if taken else "the folder is not empty",
            place=str(target),
            remedy=FREE,
        )
    return target


def _take_place(part: Path, target: Path) -> None:
    if not target.exists():
        part.rename(target)
    elif not any(target.iterdir()):
        target.rmdir()
        part.rename(target)
    else:
        retired = part.with_name(f"{part.name.removesuffix(SUFFIX)}-old{SUFFIX}")
        target.rename(retired)
        try:
            part.rename(target)
        except OSError:
            retired.rename(target)
            raise
        shutil.rmtree(retired, ignore_errors=True)
    _flush(target.parent)


def _sweep(target: Path) -> None:
    """Remove what killed writers of this folder left; what is younger may belong to one that runs."""
    for left in target.parent.glob(f".{glob.escape(target.name[:100])}.*{SUFFIX}"):
        if left.is_dir() and time.time() - left.stat().st_mtime >= ORPHAN_AGE_SECONDS:
            shutil.rmtree(left, ignore_errors=True)


def _flush(folder: Path) -> None:
    """A rename that is not on the disk is lost in a power cut."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
