"""What stands in the folder where an export should go, in words for a refusal. It removes nothing and reads nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from quantlab.errors import StorageError
from quantlab.packed.folder import require_free

EXPORTS = {
    "quantlab.json": "a packed export",
    "model.onnx": "an ONNX export",
    "model.xml": "an OpenVINO export",
}
"""The file by which an export is known, and what it is called."""


def require_place(folder: Path, label: str, replaces: Callable[[Path], bool], *, overwrite: bool) -> None:
    """Find out before long work that an export cannot go there.

    Args:
        folder: A new or an empty one, or one that ``replaces`` says may go.
        label: What is to be written: "packed", "ONNX" or "OpenVINO".
        replaces: Whether what stands there may go.
        overwrite: Whether that was asked for: a refusal says then what stands there, not how to ask.

    Raises:
        StorageError: Something stands there that may not be replaced, or the folder around it is missing.
    """
    try:
        require_free(folder, replaces)
    except StorageError as error:
        held = _held(folder, label) if overwrite else ""
        if not held:
            raise
        raise StorageError(held, place=error.place, remedy="Choose another name.") from None


def _held(folder: Path, label: str) -> str:
    """What a folder holds; empty where it is none or holds nothing."""
    try:
        names = {path.name for path in folder.iterdir()}
    except OSError:
        return ""
    others = [called for file, called in EXPORTS.items() if file in names and f" {label} " not in called]
    if others:
        return f"the folder holds {others[0]}, not {label}"
    return "the folder is not empty: it holds files of no such export" if names else ""
