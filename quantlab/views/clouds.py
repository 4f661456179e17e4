"""Two sides of a comparison: the error between them, what cleaning leaves, and the bytes the viewer takes.

It aligns nothing and chooses no side.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from quantlab.geometry.cleaning import Cleaned, Cleaning, clean_pair
from quantlab.geometry.clouds import nearest, valid_mask
from quantlab.jobs import Job, between
from quantlab.viewer.coding import encode_confidence
from quantlab.viewer.pack import CameraData, CloudData, pack_clouds
from quantlab.viewer.pictures import encode_pictures

if TYPE_CHECKING:
    from collections.abc import Collection

    from quantlab.engine.comparison import Comparison
    from quantlab.models.prediction import Prediction

SIDES = {"full": "full precision", "now": "quantized", "former": "former", "truth": "ground truth"}
"""The sides by the names the viewer colours them by."""
ERRORS = {"paired": "paired", "nearest": "nearest neighbour"}
"""Kinds of error, by the names the viewer's legend gives them."""


@dataclass(frozen=True, slots=True, eq=False)
class ShownPair:
    """Two clouds in one frame as they are shown and exported.

    Attributes:
        left: The reference.
        right: Paired with it pixel by pixel.
        size: Of the scene, in its units: what errors are a share of.
        error: One of ``ERRORS``.
        cleaning: How the clouds were cleaned; None: not at all.
        errors: float32 [S, H, W] in scene units; NaN where a point is not finite or was cleaned away.
        cleaned: What cleaning left; None without cleaning.
    """

    left: Prediction
    right: Prediction
    size: float
    error: str
    cleaning: Cleaning | None
    errors: NDArray[np.float32]
    cleaned: Cleaned | None

    @property
    def mean(self) -> float | None:
        """Mean error as a share of the scene's size; None where no pixel has one."""
        known = self.errors[np.isfinite(self.errors)]
        return float(known.mean(dtype=np.float64)) / self.size if len(known) else None

    def visible(self, *, frames: Collection[int] | None = None, confidence: float = 0.0) -> NDArray[np.bool_]:
        """The pixels [S, H, W] that the viewer shows under these filters: frames (None: all), and without the least
        confident so many percent of the left cloud.
        """
        shown = np.isfinite(self.errors)
        if frames is not None:
            shown[[index for index in range(len(shown)) if index not in frames]] = False
        if confidence > 0:
            codes = encode_confidence(self.left.confidence.reshape(-1))
            shown &= (codes >= 2.56 * confidence).reshape(shown.shape)
        return shown


def shown_pair(
    left: Prediction,
    right: Prediction,
    *,
    size: float,
    error: str = "paired",
    cleaning: Cleaning | None = None,
    job: Job | None = None,
) -> ShownPair:
    """Measure the error between two sides, of what cleaning leaves.

    Args:
        left: The reference.
        right: Aligned to it, of the same pixels.
        size: Of the scene.
        error: "paired": the distance of the two points of a pixel; "nearest": the distance of each right point to
            the nearest left one, which forgives a shift along the surface.
        cleaning: See `quantlab.geometry.cleaning`; None: none.
        job: Follows and stops it.

    Raises:
        NumericError: The clouds do not pair, or cleaning finds no finite pixel.
        MissingLibraryError: Cleaning needs open3d.
    """
    kept, cleaned = valid_mask(left.points, right.points), None
    if cleaning is not None:
        cleaned = clean_pair(left.points, right.points, cleaning, size=size, job=between(job, 0.0, 0.7))
        kept = cleaned.kept
    errors = np.full(kept.shape, np.nan, np.float32)
    first, second = left.points[kept], right.points[kept]
    if len(first) and error == "nearest":
        errors[kept] = nearest(second, first, job=between(job, 0.7, 1.0))[0]
    elif len(first):
        errors[kept] = np.linalg.norm(second.astype(np.float64) - first, axis=-1)
    return ShownPair(left, right, size, error, cleaning, errors, cleaned)


def pack_pair(
    pair: ShownPair, *, scene: str, limit: int | None, labels: tuple[str, str] = (SIDES["full"], SIDES["now"])
) -> bytes:
    """A pair for the viewer, coloured by errors whose scale stays as long as the errors stay of one size.

    Args:
        pair: What is shown.
        scene: The viewer keeps its camera as long as this stays the same.
        limit: Points of a cloud; beyond it an even sample is shown, and the viewer says how many.
        labels: What the sides are called.
    """
    known = pair.errors[np.isfinite(pair.errors)]
    high = float(np.percentile(known, 99)) if len(known) else 0.0
    hidden = None if pair.cleaned is None else ~pair.cleaned.kept
    return pack_clouds(
        _cloud(pair.left, hidden),
        _cloud(pair.right, hidden),
        error=pair.errors.reshape(-1),
        error_max=pair.size * _nice(high / pair.size),
        size=pair.size,
        labels=labels,
        scene=scene,
        limit=limit,
        grid=pair.errors.shape,
        images=encode_pictures(pair.left.images),
        error_name=ERRORS[pair.error],
    ).data


def pair_of_clouds(
    comparison: Comparison,
    left: Prediction | None,
    right: Prediction | None,
    *,
    scene: str,
    limit: int | None,
    labels: tuple[str, str] = (SIDES["full"], SIDES["now"]),
    error: str = "paired",
) -> bytes:
    """Two sides of a comparison for the viewer; None is its ground truth, which must be there then."""
    sides = [comparison.truth if side is None else side for side in (left, right)]
    shown = [comparison.left if side is None else side for side in sides]
    pair = shown_pair(shown[0], shown[1], size=comparison.scale, error=error)
    return pack_pair(pair, scene=scene, limit=limit, labels=labels)


def _nice(share: float) -> float:
    """The end of the error scale as a share of the scene, in few steps, so that it stays as errors change."""
    wanted = max(share, 1e-4)
    power = 10.0 ** np.floor(np.log10(wanted))
    return float(next(step * power for step in (1, 1.5, 2, 3, 5, 7, 10) if step * power >= wanted))


def _cloud(prediction: Prediction, hidden: NDArray[np.bool_] | None) -> CloudData:
    """A prediction as the viewer takes it; what is hidden keeps its place and is never drawn."""
    points = np.asarray(prediction.points, np.float32)
    if hidden is not None:
        points = np.where(hidden[..., None], np.float32(np.nan), points)
    frames, height, width = points.shape[:3]
    frame: NDArray[np.integer[Any]] = np.repeat(np.arange(frames), height * width)
    return CloudData(
        points=points.reshape(-1, 3),
        colors=prediction.images.reshape(-1, 3),
        confidence=prediction.confidence.reshape(-1),
        frame=frame,
        cameras=CameraData(prediction.camera_from_world, prediction.intrinsics, (width, height)),
        dropped=None if hidden is None else hidden.reshape(-1),
    )
