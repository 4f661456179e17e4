"""Writes sessions as JSON text and reads them back; never pickle. It trusts no file it reads, and opens no model."""

from __future__ import annotations

import json
from os import PathLike
from pathlib import Path

from quantlab.engine.plain import parse
from quantlab.engine.session_record import REMEDY, SessionRecord, from_plain, to_plain
from quantlab.errors import StorageError
from quantlab.storage import atomic_write

MAX_BYTES = 32 << 20
"""Of a session file; one of 200 recipes with a hundred rules each has three megabytes."""


def to_text(record: SessionRecord, *, indent: int | None = 1) -> str:
    """The session as JSON text; without ``indent`` in one line, ten times as fast.

    Raises:
        StorageError: It would be larger than a session may be.
    """
    text = json.dumps(to_plain(record), indent=indent, ensure_ascii=False, allow_nan=False) + "\n"
    size = len(text.encode())
    if size > MAX_BYTES:
        raise StorageError(
            f"the session would have {size / 1e6:.0f} MB, more than can be read back",
            place=f"{len(record.recipes)} recipes",
            remedy="Save the recipe alone: lab.recipe.save(file).",
        )
    return text


def from_text(text: str, *, place: str = "session") -> SessionRecord:
    """Read JSON text.

    Raises:
        StorageError: It is no session, or one of a newer QuantLab; names the entry.
        RecipeError: One of its recipes is none.
    """
    return from_plain(parse(text, place, what="session", remedy=REMEDY), place)


def save_session(record: SessionRecord, path: str | PathLike[str]) -> Path:
    """Write a session file; a write that fails leaves an older file whole.

    Raises:
        StorageError: The file cannot be written.
    """
    return atomic_write(Path(path), to_text(record))


def read_session(path: str | PathLike[str]) -> SessionRecord:
    """Read a session file.

    Raises:
        StorageError: The file cannot be read, is no session, or one of a newer QuantLab.
        RecipeError: One of its recipes is none.
    """
    return from_text(read_text(path), place=str(path))


def read_text(path: str | PathLike[str]) -> str:
    """The text of a file no larger than a session.

    Raises:
        StorageError: It cannot be read, is too large, or no text.
    """
    file = Path(path)
    try:
        with file.open("rb") as stream:
            raw = stream.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:  # ValueError: a null character in the name
        reason = getattr(error, "strerror", None) or error
        raise StorageError(f"cannot read: {reason}", place=str(file), remedy="Check the path.") from None
    if len(raw) > MAX_BYTES:
        raise StorageError(
            f"the file is larger than the {MAX_BYTES >> 20} MB a session may have",
            place=str(file),
            remedy="Choose a session file.",
        )
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        raise StorageError(
            "the file is not text in UTF-8", place=str(file), remedy="Choose a session file."
        ) from None
