"""Clouds to and from binary PLY files that MeshLab and CloudCompare open. Points and colours, no faces."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from quantlab.errors import StorageError
from quantlab.geometry.clouds import as_cloud
from quantlab.storage import atomic_write

_COORDINATES = (("x", "<f4"), ("y", "<f4"), ("z", "<f4"))
_CHANNELS = (("red", "u1"), ("green", "u1"), ("blue", "u1"))
_HEADER_LIMIT = 4096


def write_ply(path: str | os.PathLike[str], points: ArrayLike, colours: ArrayLike | None = None) -> None:
    """Write points [N, 3] and colours [N, 3] uint8; a failed write leaves an older file whole.

    Raises:
        NumericError: The cloud is empty or not finite.
        StorageError: The colours do not match, or the file cannot be written.
    """
    atomic_write(Path(path), ply_bytes(points, colours, place=str(path)))


def ply_bytes(points: ArrayLike, colours: ArrayLike | None = None, *, place: str = "ply") -> bytes:
    """The file of points [N, 3] and colours [N, 3] uint8 as bytes; ``place`` is named in errors.

    Raises:
        NumericError: The cloud is empty or not finite.
        StorageError: The colours do not match.
    """
    cloud = as_cloud(points, place)
    layout = _COORDINATES if colours is None else _COORDINATES + _CHANNELS
    rows = np.empty(len(cloud), dtype=list(layout))
    for axis, (name, _) in enumerate(_COORDINATES):
        rows[name] = cloud[:, axis]
    if colours is not None:
        paint = np.asarray(colours)
        if paint.shape != cloud.shape or paint.dtype != np.uint8:
            raise StorageError("colours do not match the points", place=place, remedy="Give uint8 [N, 3].")
        for channel, (name, _) in enumerate(_CHANNELS):
            rows[name] = paint[:, channel]
    return _header(len(cloud), coloured=colours is not None) + rows.tobytes()


def read_ply(path: str | os.PathLike[str]) -> tuple[NDArray[np.float32], NDArray[np.uint8] | None]:
    """Read a file that ``write_ply`` wrote: points [N, 3] and colours [N, 3] or None.

    Raises:
        StorageError: The file is absent, or in another layout.
    """
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise StorageError(f"the cloud cannot be read: {error.strerror}", place=str(path)) from error
    start = content[:_HEADER_LIMIT].find(b"end_header\n") + len(b"end_header\n")
    for layout in (_COORDINATES, _COORDINATES + _CHANNELS):
        dtype = np.dtype(list(layout))
        count = (len(content) - start) // dtype.itemsize
        coloured = len(layout) > len(_COORDINATES)
        if (
            content[:start] == _header(count, coloured=coloured)
            and count * dtype.itemsize == len(content) - start
        ):
            rows = np.frombuffer(content, dtype, offset=start)
            points = np.stack([rows[name] for name, _ in _COORDINATES], axis=1)
            paint = np.stack([rows[name] for name, _ in _CHANNELS], axis=1) if coloured else None
            return points, paint
    raise StorageError(
        "the file is no cloud that QuantLab wrote, or is cut short",
        place=str(path),
        remedy="Convert it to binary PLY with float x, y, z and uchar red, green, blue.",
    )


def _header(count: int, *, coloured: bool) -> bytes:
    lines = ["ply", "format binary_little_endian 1.0", f"element vertex {count}"]
    lines += [f"property float {name}" for name, _ in _COORDINATES]
    if coloured:
        lines += [f"property uchar {name}" for name, _ in _CHANNELS]
    return "\n".join([*lines, "end_header\n"]).encode("ascii")
