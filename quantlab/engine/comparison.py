"""Two reconstructions of a scene paired pixel by pixel, full precision against quantized. No torch; draws nothing."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from quantlab.engine.cloud_files import Side, save_clouds
from quantlab.errors import NumericError
from quantlab.geometry.alignment import Sim3, umeyama
from quantlab.geometry.cleaning import Cleaning
from quantlab.geometry.clouds import diagonal, valid_mask
from quantlab.models.prediction import Prediction
from quantlab.scenes.scene import Truth


@dataclass(frozen=True, slots=True, eq=False)
class Comparison:
    """The two clouds of one scene in one frame, point for point.

    Attributes:
        left: The full-precision prediction.
        right: The quantized prediction, moved by Sim(3) onto ``left``: its points, depth and cameras.
        errors: float32 [S, H, W], distance of each pair in the units of ``left``; NaN where a point is not finite.
        scale: The 5-95 % diagonal of the left cloud, in the same units.
        point_error: Mean of ``errors`` over ``scale``.
        truth: The ground truth moved by Sim(3) onto ``left``: points, depth and the true cameras, with the pictures
            and the confidence of ``left``; unknown points are NaN. None without a truth of the same pictures.
    """

    left: Prediction
    right: Prediction
    errors: NDArray[np.float32]
    scale: float
    point_error: float
    truth: Prediction | None = None

    def save(
        self,
        path: str | os.PathLike[str],
        *,
        side: str | None = None,
        confidence: float = 0.0,
        cleaning: Cleaning | None = None,
    ) -> None:
        """Write the clouds to a file; a failed write leaves an older file whole.

        Args:
            path: ``clouds.glb`` holds all sides and their cameras, y up as glTF has it; ``cloud.ply`` holds the
                points and colours of one side, in OpenCV's axes.
            side: "full precision", "quantized" or "ground truth": this one alone. None: all of them in a GLB, the
                quantized one in a PLY.
            confidence: Leave out the least confident so many percent of the pixels (of full precision), on all sides.
            cleaning: Leave out what `quantlab.geometry.cleaning` finds stray on either side, too.

        Raises:
            StorageError: Another kind of file, no such side, or the file cannot be written.
            NumericError: No point is left.
            MissingLibraryError: Cleaning needs open3d.
        """
        truth = [] if self.truth is None else [Side("ground truth", self.truth)]
        sides = [Side("full precision", self.left), Side("quantized", self.right), *truth]
        save_clouds(path, sides, chosen=side, confidence=confidence, cleaning=cleaning, size=self.scale)


def pair(full_precision: Prediction, quantized: Prediction, truth: Truth | None = None) -> Comparison:
    """Align a quantized prediction to the full-precision one and measure every pixel.

    Args:
        full_precision: The reference; never moved.
        quantized: The same pictures through the quantized network.
        truth: What is known of the pictures; None, pictures of another shape than the predictions' or nothing known
            in common leave it out.

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
        camera_from_world=_moved_cameras(quantized.camera_from_world, fit),
    )
    return Comparison(
        left=full_precision,
        right=right,
        errors=errors.astype(np.float32),
        scale=scale,
        point_error=float(errors[kept].mean() / scale),
        truth=_aligned_truth(truth, full_precision),
    )


def _moved_cameras(camera_from_world: NDArray[np.float64], fit: Sim3) -> NDArray[np.float64]:
    """Cameras [S, 4, 4] after world' = scale R world + t; depths grow by the scale, rotations stay orthogonal."""
    turned = camera_from_world[:, :3, :3] @ fit.rotation.T
    moved = camera_from_world.astype(np.float64).copy()
    moved[:, :3, :3] = turned
    moved[:, :3, 3] = fit.scale * camera_from_world[:, :3, 3] - turned @ fit.translation
    return moved


def _aligned_truth(truth: Truth | None, left: Prediction) -> Prediction | None:
    truth = None if truth is None else _at_size(truth, *left.depth.shape)
    if truth is None:
        return None
    kept = truth.mask & valid_mask(left.points)
    try:
        fit = umeyama(truth.points[kept], left.points[kept])
    except NumericError:  # too little is known to lay it over anything
        return None
    points = np.where(truth.mask[..., None], fit.apply(truth.points), np.nan)
    return Prediction(
        images=left.images,
        points=points.astype(np.float32),
        confidence=left.confidence,
        depth=np.where(truth.mask, fit.scale * truth.depth, np.nan).astype(np.float32),
        camera_from_world=_moved_cameras(truth.camera_from_world, fit),
        intrinsics=truth.intrinsics.astype(np.float32),
    )


def _at_size(truth: Truth, views: int, height: int, width: int) -> Truth | None:
    """The truth for pictures of another size but the same shape (each pixel takes the nearest); None for others."""
    own, high, wide = truth.depth.shape
    if own != views or high * width != wide * height:  # the network saw them cropped or padded
        return None
    if high == height:
        return truth
    rows = ((np.arange(height) + 0.5) * high / height).astype(int)
    columns = ((np.arange(width) + 0.5) * wide / width).astype(int)
    lens = truth.intrinsics * np.array([[width / wide], [height / high], [1.0]])
    pick = np.ix_(np.arange(views), rows, columns)
    return Truth(truth.camera_from_world, lens, truth.depth[pick], truth.points[pick])
