"""The clouds of a scene as files: which pixels go in, and PLY or GLB by the name. No torch; aligns nothing."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from quantlab.errors import NumericError, StorageError
from quantlab.geometry.cleaning import Cleaning, clean_pair
from quantlab.geometry.clouds import confidence_mask, valid_mask
from quantlab.geometry.glb import NamedCloud, glb_bytes
from quantlab.geometry.ply import ply_bytes
from quantlab.models.prediction import Prediction
from quantlab.storage import atomic_write, check_writable

KINDS = (".glb", ".ply")
TINTS = {"full precision": (0.30, 0.40, 0.50), "ground truth": (0.31, 0.44, 0.38)}
QUANTIZED = (0.71, 0.34, 0.05)
"""The colours cameras have in the viewer, sRGB; what is none of the above is quantized."""


@dataclass(frozen=True, slots=True, eq=False)
class Side:
    """A cloud in the frame of the comparison, and what it is called."""

    name: str
    prediction: Prediction


def save_clouds(
    path: str | os.PathLike[str],
    sides: Sequence[Side],
    *,
    chosen: str | None,
    confidence: float,
    cleaning: Cleaning | None,
    size: float,
) -> None:
    """See `Comparison.save`; ``size`` is that of the scene, the first side's confidence filters all.

    Raises:
        StorageError: Another kind of file, no such side, or the file cannot be written.
        NumericError: No point is left.
        MissingLibraryError: Cleaning needs open3d.
    """
    check_writable(Path(path))
    kind = Path(path).suffix.lower()
    wanted = [side for side in sides if chosen in (None, side.name)]
    if kind not in KINDS or not wanted:
        raise StorageError(
            f"there is no side {chosen!r}"
            if kind in KINDS
            else f"{kind or 'no ending'} is no kind of cloud file",
            place=str(path),
            remedy=f"Choose a side of {', '.join(side.name for side in sides)}; end the name in .glb or .ply.",
        )
    kept = confidence_mask(sides[0].prediction.confidence, confidence)
    if cleaning is not None:
        left, right = sides[0].prediction.points, sides[1].prediction.points
        kept &= clean_pair(_only(left, kept), _only(right, kept), cleaning, size=size).kept
    if kind == ".ply" and chosen is None:
        wanted = [sides[1]]
    atomic_write(Path(path), clouds_as(kind, wanted, kept))


def clouds_as(kind: str, sides: Sequence[Side], kept: NDArray[np.bool_]) -> bytes:
    """The file of one side (".ply") or of several (".glb").

    Args:
        kind: One of ``KINDS``.
        sides: What goes in; a PLY takes the first.
        kept: bool [S, H, W]; points that are not finite are left out in any case.

    Raises:
        NumericError: No point of a side is left.
    """
    if kind == ".ply":
        points, colours = _points(sides[0], kept)
        return ply_bytes(points, colours, place=sides[0].name)
    return glb_bytes([_named(side, kept) for side in sides])


def _named(side: Side, kept: NDArray[np.bool_]) -> NamedCloud:
    points, colours = _points(side, kept)
    prediction = side.prediction
    height, width = prediction.points.shape[1:3]
    return NamedCloud(
        name=side.name,
        points=points,
        colours=colours,
        camera_from_world=prediction.camera_from_world,
        intrinsics=prediction.intrinsics,
        size=(width, height),
        tint=TINTS.get(side.name, QUANTIZED),
    )


def _points(side: Side, kept: NDArray[np.bool_]) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    stays = valid_mask(side.prediction.points, mask=kept)
    if not stays.any():
        raise NumericError(
            "no point is left to write", place=side.name, remedy="Show more frames, or filter less."
        )
    return side.prediction.points[stays], side.prediction.images[stays]


def _only(points: NDArray[np.float32], kept: NDArray[np.bool_]) -> NDArray[np.float32]:
    return np.where(kept[..., None], points, np.float32(np.nan))
