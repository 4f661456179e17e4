"""Where the shipped models and scenes lie, in a checkout or an installed wheel. It reads none of them."""

from __future__ import annotations

from pathlib import Path

from quantlab.errors import StorageError

_PACKAGE = Path(__file__).resolve().parent
FOLDERS = (_PACKAGE.parent / "assets", _PACKAGE / "_assets")
"""Searched in this order. The second is made by setup.py when a wheel is built."""


def asset(name: str) -> Path:
    """Find a shipped file by its path below assets/, as ``mini.safetensors``.

    Raises:
        StorageError: It is not shipped, or the name would leave the folder.
    """
    if not name or ".." in Path(name).parts or Path(name).is_absolute():
        raise StorageError(
            f"{name!r} is no name of a built-in file", remedy="Give a path relative to assets/."
        )
    for folder in FOLDERS:
        if (folder / name).exists():
            return folder / name
    raise StorageError(
        "a built-in file is missing",
        place=str(FOLDERS[0] / name),
        remedy="Clone or install QuantLab again; with Git LFS or a partial clone, fetch the files first.",
    )
