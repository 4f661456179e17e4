"""Input pictures as the few bytes the viewer shows in its strip; it neither resizes nor draws."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from quantlab.errors import NumericError


def encode_pictures(images: NDArray[np.uint8], *, quality: int = 85) -> tuple[bytes, ...]:
    """Compress pictures [S, H, W, 3], sRGB, into one JPEG each: the ``images`` of ``pack_clouds``."""
    from PIL import Image

    encoded = []
    for picture in np.asarray(images, np.uint8):
        buffer = io.BytesIO()
        Image.fromarray(picture, "RGB").save(buffer, "JPEG", quality=quality)
        encoded.append(buffer.getvalue())
    return tuple(encoded)


def checked_pictures(images: Sequence[bytes], frames: int) -> list[NDArray[np.uint8]]:
    """The pictures as arrays of bytes.

    Raises:
        NumericError: There is not one picture a frame, or one is no JPEG.
    """
    if len(images) != frames:
        problem = f"there are {len(images)} pictures of {frames} frames"
        raise NumericError(problem, place="images", remedy="Give one JPEG a frame.")
    for index, image in enumerate(images):
        if not image.startswith(b"\xff\xd8"):
            raise NumericError(
                "the picture is no JPEG", place=f"images[{index}]", remedy="Use encode_pictures."
            )
    return [np.frombuffer(image, np.uint8) for image in images]
