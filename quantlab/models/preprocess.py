"""From pictures to the network's input: published crop and pad, and a square cut for small models. No scenes."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from os import PathLike, fspath
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from quantlab.errors import SceneError

Picture = NDArray[np.uint8] | str | PathLike[str] | Image.Image
Mode = Literal["crop", "pad", "square", "pixels"]
MAX_PIXELS = 80_000_000
MAX_ASPECT = 16
MAX_IMAGES = 1000
PIXELS = 255_000
"""The most pixels of a picture in mode "pixels"."""


def preprocess(
    images: Sequence[Picture], *, size: int = 518, patch_size: int = 14, mode: Mode = "crop"
) -> Tensor:
    """Resize pictures for a network: float32 [1, S, 3, H, W] in [0, 1], all values multiples of 1/255.

    Pictures of different shapes are padded with white to the largest, centred.

    Args:
        images: uint8 arrays [H, W, 3 or 4], paths, or PIL images; transparency is laid on white, and photographs
            are turned upright by their EXIF orientation.
        size: Pixels of the target width ("crop") or of the target square; "pixels" has no use for it.
        patch_size: Height and width come out as multiples of it.
        mode: "crop" scales to the target width and cuts rows beyond the square; "pad" scales the longer side and
            pads with white; "square" cuts the central square and scales that; "pixels" scales all pictures to the
            size with the shape of the first that comes near 255 000 pixels.

    Raises:
        SceneError: No or too many pictures, one that cannot be read, is too large or extremely narrow.

    Source:
        "crop" and "pad" are those of VGGT's released loader, bit for bit, and "pixels" is that of Pi3's.
    """
    if isinstance(images, str | PathLike | Image.Image):
        images = [images]
    if not 1 <= len(images) <= MAX_IMAGES:
        raise SceneError(
            f"the scene has {len(images)} images", remedy=f"Give between 1 and {MAX_IMAGES} images."
        )
    opened = [open_picture(image, f"image {i}") for i, image in enumerate(images, 1)]
    if mode == "pixels":
        target = _near_budget(*opened[0].size, patch_size)
        resized = [np.asarray(image.resize(target, Image.Resampling.LANCZOS)) for image in opened]
    else:
        resized = [_resized(image, size, patch_size, mode) for image in opened]
    height = max(array.shape[0] for array in resized)
    width = max(array.shape[1] for array in resized)
    stacked = np.stack([_pad(array, height, width) for array in resized])
    return torch.from_numpy(stacked).permute(0, 3, 1, 2)[None].float() / 255


def open_picture(image: Picture, place: str) -> Image.Image:
    """One picture as upright RGB; ``place`` names it in errors when it has no file name.

    Raises:
        SceneError: See ``preprocess``.
    """
    if isinstance(image, np.ndarray):
        return _flatten(_from_array(image, place), place)
    if isinstance(image, Image.Image):
        return _flatten(image, place)
    place = fspath(image)
    try:
        with warnings.catch_warnings():
            # Pillow warns about what the limit below refuses anyway.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(image) as opened:
                return _flatten(opened, place)
    except FileNotFoundError:
        raise SceneError("there is no such image", place=place, remedy="Check the path.") from None
    except Image.DecompressionBombError:
        raise _too_large(place) from None
    except UnidentifiedImageError:
        raise SceneError("the file is not an image", place=place, remedy="Remove it or convert it.") from None
    except (OSError, ValueError, SyntaxError, EOFError) as error:
        raise SceneError(f"the image cannot be read: {error}", place=place, remedy="Save it again.") from None


def _from_array(image: NDArray[Any], place: str) -> Image.Image:
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] not in (3, 4) or 0 in image.shape:
        raise SceneError(
            f"the picture is {image.dtype} {list(image.shape)}",
            place=place,
            remedy="Give uint8 arrays [height, width, 3].",
        )
    return Image.fromarray(np.ascontiguousarray(image))


def _flatten(image: Image.Image, place: str) -> Image.Image:
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise _too_large(place)
    if max(width, height) > MAX_ASPECT * min(width, height):
        raise SceneError(
            f"the image is {width} x {height} pixels, too narrow",
            place=place,
            remedy=f"Cut it to a shape of at most {MAX_ASPECT} to 1.",
        )
    upright = ImageOps.exif_transpose(image)
    if upright.mode in ("I", "I;16", "I;16B", "I;16L"):
        # Pillow would clip 16-bit grey at 255 instead of scaling it.
        upright = Image.fromarray((np.asarray(upright).astype(np.uint32) >> 8).clip(0, 255).astype(np.uint8))
    if upright.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in upright.info:
        transparent = upright.convert("RGBA")
        white = Image.new("RGBA", transparent.size, (255, 255, 255, 255))
        upright = Image.alpha_composite(white, transparent)
    return upright.convert("RGB")


def _too_large(place: str) -> SceneError:
    return SceneError(
        "the image has too many pixels",
        place=place,
        remedy=f"Scale it below {MAX_PIXELS // 10**6} megapixels.",
    )


def _resized(image: Image.Image, size: int, patch: int, mode: Mode) -> NDArray[np.uint8]:
    width, height = image.size
    if mode == "square":
        side = min(width, height)
        left, top = (width - side) // 2, (height - side) // 2
        return _scale(image.crop((left, top, left + side, top + side)), size, size)
    if mode == "pad" and height > width:
        return _pad(_scale(image, _multiple(width * (size / height), patch), size), size, size)
    scaled = _scale(image, size, _multiple(height * (size / width), patch))
    if mode == "pad":
        return _pad(scaled, size, size)
    start = max(0, (scaled.shape[0] - size) // 2)
    return scaled[start : start + size]


def _near_budget(width: int, height: int, patch: int) -> tuple[int, int]:
    """Width and height in whole patches with about the shape of ``width`` x ``height`` and at most PIXELS pixels."""
    scale = (PIXELS / (width * height)) ** 0.5
    ideal_columns, ideal_rows = width * scale / patch, height * scale / patch
    columns, rows = round(ideal_columns), round(ideal_rows)
    while columns * patch * rows * patch > PIXELS:
        if columns / rows > ideal_columns / ideal_rows:
            columns -= 1
        else:
            rows -= 1
    return max(1, columns) * patch, max(1, rows) * patch


def _multiple(length: float, patch: int) -> int:
    # Python rounds halves to even, and so does the released loader.
    return max(patch, round(length / patch) * patch)


def _scale(image: Image.Image, width: int, height: int) -> NDArray[np.uint8]:
    return np.asarray(image.resize((width, height), Image.Resampling.BICUBIC))


def _pad(array: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    rows, columns = height - array.shape[0], width - array.shape[1]
    margins = ((rows // 2, rows - rows // 2), (columns // 2, columns - columns // 2), (0, 0))
    return np.pad(array, margins, constant_values=255)
