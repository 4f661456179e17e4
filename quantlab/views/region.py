"""A region that a browser drew, checked like a file from a stranger. It draws nothing and measures nothing."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quantlab.errors import SceneError

SIZES = ("frames", "height", "width")


def region_from(message: Any, shape: Sequence[int]) -> NDArray[np.bool_]:
    """The pixels of a viewer's event "region", bool [S, H, W].

    Args:
        message: ``{"frames", "height", "width", "mask"}``; the mask is base64 of one bit a pixel, row by row, the
            least significant bit first. An empty mask is an empty region.
        shape: (S, H, W) of the clouds that are on the screen.

    Raises:
        SceneError: It is no such event, is of pictures of another size, or its mask is too short, too long or no
            base64.
    """
    frames, height, width = shape
    if not isinstance(message, Mapping):
        raise _refused("is no event of the viewer")
    sizes = [message.get(name) for name in SIZES]
    if any(type(size) is not int for size in sizes) or sizes != [frames, height, width]:
        raise _refused(f"is not one of {frames} pictures of {width} x {height} pixels")
    mask = message.get("mask")
    if not isinstance(mask, str):
        raise _refused("has no mask")
    count = frames * height * width
    if not mask:
        return np.zeros((frames, height, width), dtype=bool)
    expected = (count + 7) // 8
    if len(mask) != 4 * ((expected + 2) // 3):  # before anything of a stranger's size is decoded
        raise _refused(f"does not hold one bit for each of {count} pixels")
    return _bits(mask, expected, count).reshape(frames, height, width)


def _bits(mask: str, expected: int, count: int) -> NDArray[np.bool_]:
    try:
        packed = base64.b64decode(mask, validate=True)
    except (binascii.Error, ValueError):
        raise _refused("is no base64") from None
    if len(packed) != expected:
        raise _refused(f"does not hold one bit for each of {count} pixels")
    bits = np.unpackbits(np.frombuffer(packed, dtype=np.uint8), bitorder="little")
    if bits[count:].any():
        raise _refused("marks pixels beyond the last")
    return bits[:count].astype(bool)


def _refused(what: str) -> SceneError:
    return SceneError(
        f"the region {what}", place="region", remedy="Draw it again on the clouds that are shown."
    )
