"""Picture files to RGB arrays, whatever phones, scanners or strangers make of them. Models resize, not this.

Only the formats named here are decoded; sizes are checked in the header, before memory is taken.
"""

from __future__ import annotations

import os
import re
import stat
import struct
import unicodedata
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from quantlab.errors import SceneError

SUFFIXES = frozenset(
    (
        ".jpg",
        ".jpeg",
        ".jpe",
        ".jfif",
        ".mpo",
        ".png",
        ".apng",
        ".webp",
        ".bmp",
        ".tif",
        ".tiff",
        ".gif",
        ".ppm",
    )
)
FORMATS = ("JPEG", "PNG", "GIF", "BMP", "PPM", "TIFF", "WEBP")  # MPO comes with JPEG
FORMATS_TEXT = "JPEG, PNG, WebP, TIFF, BMP or GIF"
FOREIGN_SUFFIXES = frozenset(
    (
        ".svg",
        ".heic",
        ".heif",
        ".avif",
        ".raw",
        ".dng",
        ".cr2",
        ".nef",
        ".arw",
        ".psd",
        ".eps",
        ".jp2",
        ".jxl",
    )
)
"""Pictures that are not read; named when they are left out, where other files are passed over in silence."""

FILE_BYTES = 512 * 2**20
IMAGE_PIXELS = 64_000_000
SCENE_BYTES = 2 * 2**30
"""Limits of one file, of one picture, and of all decoded pictures of a scene."""
SHORTEST_SIDE = 8
LARGEST_ASPECT = 20

_ORIENTATION = 0x0112
_DECODER_ERRORS = (
    OSError, ValueError, SyntaxError, EOFError, TypeError, LookupError, ArithmeticError, RuntimeError,
    MemoryError, struct.error, zlib.error,
)  # fmt: skip
"""What Pillow's decoders have been seen to raise on damaged files."""


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """One decoded file: ``pixels`` uint8 [H, W, 3] RGB, upright, and ``notes`` on what was left out of it."""

    pixels: NDArray[np.uint8]
    notes: tuple[str, ...] = ()


def natural_key(name: str | os.PathLike[str]) -> tuple[Any, ...]:
    """Sort key that puts image_2 before image_10, and does not care for case or how an accent is encoded."""
    text = os.fspath(name)
    parts = re.split(r"([0-9]+)", unicodedata.normalize("NFC", text).casefold())
    # numbers compare by length, then digits: no int(), whose length Python limits
    numbers = [part.lstrip("0") for part in parts[1::2]]
    parts[1::2] = [f"{len(number):04}{number}" for number in numbers]
    return (*parts, text)


def list_folder(folder: Path) -> tuple[list[Path], list[str]]:
    """List the pictures of a folder in natural order, and the names of pictures in formats that are not read.

    Raises:
        SceneError: The folder cannot be read.
    """
    try:
        names = [
            entry.name for entry in os.scandir(folder) if not entry.name.startswith(".") and entry.is_file()
        ]
    except OSError as error:
        raise SceneError(
            f"the folder cannot be read: {error.strerror}", place=str(folder), remedy="Check its permissions."
        ) from error
    names.sort(key=natural_key)
    pictures = [folder / name for name in names if Path(name).suffix.lower() in SUFFIXES]
    foreign = [name for name in names if Path(name).suffix.lower() in FOREIGN_SUFFIXES]
    return pictures, foreign


def read_images(paths: Sequence[Path]) -> tuple[tuple[NDArray[np.uint8], ...], tuple[str, ...]]:
    """Read picture files in the given order, all or none.

    Returns:
        The pictures, uint8 [H, W, 3] each, and notes that name their file.

    Raises:
        SceneError: A file cannot be used, or together they are too large; names the file.
    """
    total = 0
    for path in paths:
        width, height = measure(path)
        total += 3 * width * height
        if total > SCENE_BYTES:
            raise SceneError(
                f"{len(paths)} pictures of this size take more than {SCENE_BYTES / 2**30:.0f} GB",
                place=str(path),
                remedy="Choose fewer pictures with max_frames, or shrink them.",
            )
    pictures = [read_image(path) for path in paths]
    notes = tuple(
        f"{path.name}: {note}" for path, item in zip(paths, pictures, strict=True) for note in item.notes
    )
    return tuple(picture.pixels for picture in pictures), notes


def measure(path: Path) -> tuple[int, int]:
    """Return (width, height) as stored, from the header alone, and refuse what would be refused later."""
    with _opened(path) as image:
        width, height = image.size
    if width * height > IMAGE_PIXELS:
        raise SceneError(
            f"the picture has {width} x {height} pixels, more than {IMAGE_PIXELS // 10**6} million",
            place=str(path),
            remedy="Shrink it: the networks see about 500 pixels a side.",
        )
    if min(width, height) < SHORTEST_SIDE or max(width, height) > LARGEST_ASPECT * min(width, height):
        raise SceneError(
            f"the picture has {width} x {height} pixels: too small or too narrow to see a place in",
            place=str(path),
            remedy=f"Choose one of at least {SHORTEST_SIDE} pixels a side and at most {LARGEST_ASPECT} times as long.",
        )
    return width, height


def read_image(path: Path) -> Picture:
    """Decode one file: the first frame of an animation, turned upright by its EXIF tag, transparency on white.

    Raises:
        SceneError: The file is absent, empty, no picture, damaged, too large, or in a format that is not read.
    """
    measure(path)
    with _opened(path) as image:
        orientation = _orientation(image)
        try:
            notes = _frames(image)
            pixels = _rgb(image)
        except _DECODER_ERRORS as error:
            raise SceneError(
                "the picture is damaged or cut short", place=str(path), remedy="Copy or download it again."
            ) from error
    pixels = np.ascontiguousarray(turn_upright(pixels, orientation))
    if (pixels == pixels[:1, :1]).all():
        notes.append("one colour throughout")
    return Picture(pixels, tuple(notes))


def turn_upright(pixels: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """Undo an EXIF orientation 1..8 of [H, W, 3]; 5 to 8 swap the sides. Other numbers mean upright."""
    if orientation in (2, 5, 7):
        pixels = pixels[:, ::-1]
    if orientation == 4:
        pixels = pixels[::-1]
    turns = {3: 2, 5: 1, 6: -1, 7: -1, 8: 1}.get(orientation, 0)
    return np.rot90(pixels, turns)


def _opened(path: Path) -> Image.Image:
    """Open a regular file of acceptable size as one of our formats; reads the header only."""
    place = str(path)
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise SceneError(
                "this is no file", place=place, remedy="Choose a picture, or give the folder alone."
            )
        with path.open("rb") as file:
            head = file.read(2048)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise SceneError(
            f"the file cannot be read: {reason}", place=place, remedy="Check its name."
        ) from error
    if not head:
        raise SceneError("the file is empty", place=place, remedy="Copy or download it again.")
    if status.st_size > FILE_BYTES:
        raise SceneError(
            f"the file has {status.st_size / 2**20:.0f} MB, more than {FILE_BYTES // 2**20}",
            place=place,
            remedy="Shrink the picture.",
        )
    if b"<svg" in head.lower() or path.suffix.lower() == ".svg":
        raise SceneError("SVG drawings are not read", place=place, remedy=f"Save it as {FORMATS_TEXT}.")
    try:
        return Image.open(path, formats=FORMATS)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise SceneError(
            f"the picture has more than {IMAGE_PIXELS // 10**6} million pixels",
            place=place,
            remedy="Shrink it: the networks see about 500 pixels a side.",
        ) from error
    except UnidentifiedImageError as error:
        raise SceneError(
            "this is no picture that can be read", place=place, remedy=f"Save it as {FORMATS_TEXT}."
        ) from error
    except _DECODER_ERRORS as error:
        raise SceneError(
            "the picture is damaged or cut short", place=place, remedy="Copy or download it again."
        ) from error


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except _DECODER_ERRORS:  # a broken tag block: the picture itself may be fine
        return 1


def _frames(image: Image.Image) -> list[str]:
    """What is said of an animation. To count its frames Pillow reads all of the file."""
    if not getattr(image, "is_animated", False) or image.format == "MPO":
        return []
    return [f"first of {getattr(image, 'n_frames', 'several')} frames"]


def _rgb(image: Image.Image) -> NDArray[np.uint8]:
    """Bring any mode to uint8 RGB. Pillow alone would clip 16 bits to white and drop transparency onto black."""
    if image.mode.startswith("I") or image.mode == "F":
        return _from_deep_grey(np.asarray(image))
    if "A" in image.mode or "a" in image.mode or "transparency" in image.info:
        layer = image.convert("RGBA")
        paper = Image.new("RGBA", layer.size, (255, 255, 255, 255))
        return np.array(Image.alpha_composite(paper, layer).convert("RGB"))
    return np.array(image.convert("RGB"))


def _from_deep_grey(values: NDArray[Any]) -> NDArray[np.uint8]:
    """Scale 16-bit integers (65535 is white) or floats in 0..1 to bytes.

    Raises:
        ValueError: The range is another, so that black and white are unknown.
    """
    white = 1.0 if values.dtype.kind == "f" else 65535.0
    if not (values.min() >= 0 and values.max() <= white):
        raise ValueError("values outside the range of a picture")
    grey = np.rint(values * (255.0 / white)).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=-1)
