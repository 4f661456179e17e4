"""Two reconstructions of a scene paired pixel by pixel, full precision against quantized. No torch; draws nothing."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from quantlab.geometry.alignment import umeyama
from quantlab.geometry.clouds import diagonal, valid_mask
from quantlab.models.prediction import Prediction


@dataclass(frozen=True, slots=True, eq=False)
class Comparison:
    """The two clouds of one scene in one frame, point for point.

    Attributes:
        left: The full-precision prediction.
        right: The quantized prediction, moved by Sim(3) onto ``left``: its points, depth and cameras.
        errors: float32 [S, H, W], distance of each pair in the units of ``left``; NaN where a point is not finite.
        scale: The 5-95 % diagonal of the left cloud, in the same units.
        point_error: Mean of ``errors`` over ``scale``.
        truth: float32 [S, H, W, 3], the true points moved by Sim(3) onto ``left``; None without a truth.
    """

    left: Prediction
    right: Prediction
    errors: NDArray[np.float32]
    scale: float
    point_error: float
    truth: NDArray[np.float32] | None = None


def pair(
    full_precision: Prediction, quantized: Prediction, truth: NDArray[np.float32] | None = None
) -> Comparison:
    """Align a quantized prediction to the full-precision one and measure every pixel.

    Args:
        full_precision: The reference; never moved.
        quantized: The same pictures through the quantized network.
        truth: [S, H, W, 3] true world points at the size of the predictions; None or another size leaves it out.

    Raises:
        NumericError: The maps do not pair, or a cloud is degenerate.
    """
    kept = valid_mask(quantized.points, full_precision.points)
    fit = umeyama(quantized.points[kept], full_precision.points[kept])
    same = np.array_equal(quantized.points, full_precision.points)
    moved = (
        quantized.points if same else fit.apply(quantized.points)
    )  # no alignment rounding where nothing moved
    errors = np.linalg.norm(moved - full_precision.points.astype(np.float64), axis=-1)
    errors[~kept] = np.nan
    scale = diagonal(full_precision.points[kept])
    right = replace(
        quantized,
        points=moved.astype(np.float32),
        depth=(fit.scale * quantized.depth).astype(np.float32),
        camera_from_world=_moved_cameras(
            quantized.camera_from_world, fit.scale, fit.rotation, fit.translation
        ),
    )
    return Comparison(
        left=full_precision,
        right=right,
        errors=errors.astype(np.float32),
        scale=scale,
        point_error=float(errors[kept].mean() / scale),
        truth=_aligned_truth(truth, full_precision.points),
    )


def _moved_cameras(
    camera_from_world: NDArray[np.float64],
    scale: float,
    rotation: NDArray[np.float64],
    translation: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Cameras [S, 4, 4] after world' = scale R world + t; depths grow by the scale, rotations stay orthogonal."""
    turned = camera_from_world[:, :3, :3] @ rotation.T
    moved = camera_from_world.astype(np.float64).copy()
    moved[:, :3, :3] = turned
    moved[:, :3, 3] = scale * camera_from_world[:, :3, 3] - turned @ translation
    return moved


def _aligned_truth(
    truth: NDArray[np.float32] | None, points: NDArray[np.float32]
) -> NDArray[np.float32] | None:
    if truth is None or truth.shape != points.shape:
        return None
    kept = valid_mask(truth, points)
    return umeyama(truth[kept], points[kept]).apply(truth).astype(np.float32)
