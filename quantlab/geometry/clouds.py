"""What is done to clouds before scoring: crop, mask, neighbours, ICP, normals. Scores live elsewhere."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from quantlab.errors import MissingLibraryError, NumericError
from quantlab.geometry.cameras import FloatArray
from quantlab.jobs import Job, step

OPEN3D_PACKAGES = "libusb-1.0-0 libgl1 libegl1 libx11-6 libgomp1 libudev1"
PARALLEL_FROM = 50_000
"""Points from which a neighbour search is worth several threads (the answer is the same)."""
AT_ONCE = 200_000
"""Points searched for before somebody who waits is told how far it is."""


def as_cloud(points: ArrayLike, what: str) -> FloatArray:
    """Check a cloud [N, 3] and return it in float64.

    Raises:
        NumericError: Another shape, no point, a NaN or an infinity.
    """
    cloud = np.asarray(points, dtype=np.float64)
    if cloud.ndim != 2 or cloud.shape[1] != 3:
        raise NumericError(
            f"a cloud has shape {list(cloud.shape)}", place=what, remedy="Give an array [N, 3]."
        )
    if len(cloud) == 0:
        raise NumericError("a cloud has no points", place=what, remedy="Widen the mask.")
    if not np.isfinite(cloud).all():
        raise NumericError(
            "a cloud holds a NaN or an infinity",
            place=what,
            remedy="Mask these points, or look for the layer that overflows.",
        )
    return cloud


def central_crop(maps: NDArray[Any], size: int = 224) -> NDArray[Any]:
    """Keep the central ``size`` x ``size`` pixels of maps [S, H, W, ...]; shorter sides stay whole."""
    window = []
    for length in maps.shape[1:3]:
        start = length // 2 - size // 2 if length > size else 0
        window.append(slice(start, start + size))
    return maps[:, window[0], window[1]]


def valid_mask(*maps: ArrayLike, mask: ArrayLike | None = None) -> NDArray[np.bool_]:
    """Return [...] bool: where every point map [..., 3] is finite, and ``mask`` [...], if given, holds."""
    arrays = [np.asarray(points) for points in maps]
    kept = np.ones(arrays[0].shape[:-1], dtype=bool) if mask is None else np.asarray(mask, dtype=bool).copy()
    for points in arrays:
        if points.shape != (*kept.shape, 3):
            raise NumericError(
                f"maps of shapes {list(points.shape)} and {list(kept.shape)} do not pair",
                place="mask",
                remedy="Give point maps [..., 3] and a mask [...] of one size.",
            )
        kept &= np.isfinite(points).all(axis=-1)
    return kept


def confidence_mask(confidence: ArrayLike, percentile: float) -> NDArray[np.bool_]:
    """Drop the least confident ``percentile`` percent of all pixels together; ties at the limit stay."""
    values = np.asarray(confidence)
    if not 0 <= percentile <= 100:
        raise NumericError(
            f"{percentile} is not a percentile", place="confidence", remedy="Choose a number from 0 to 100."
        )
    if values.size == 0:
        return np.zeros(values.shape, dtype=bool)
    return np.asarray(values >= np.percentile(values, percentile), dtype=bool)


def diagonal(points: ArrayLike) -> float:
    """Measure a cloud [N, 3]: the diagonal of the box from its 5th to its 95th percentile along each axis.

    Raises:
        NumericError: The cloud is empty, not finite, or has no extent.
    """
    low, high = np.percentile(as_cloud(points, "cloud"), [5, 95], axis=0)
    length = float(np.linalg.norm(high - low))
    if not length > 0:
        raise NumericError(
            "a cloud has no extent: its points are equal",
            place="5-95 % diagonal",
            remedy="Widen the mask, or look for the layer that collapses the output.",
        )
    return length


def nearest(
    points: ArrayLike, neighbours: ArrayLike, *, job: Job | None = None
) -> tuple[FloatArray, NDArray[np.intp]]:
    """Find the nearest of ``neighbours`` [M, 3] to each of ``points`` [N, 3]: distance [N] and index [N].

    Raises:
        NumericError: A cloud is empty or not finite.
        JobCancelledError: The job was cancelled.
    """
    from scipy.spatial import cKDTree  # a fifth of a second that opening the lab does not need

    points, neighbours = as_cloud(points, "points"), as_cloud(neighbours, "neighbours")
    workers = -1 if max(len(points), len(neighbours)) >= PARALLEL_FROM else 1
    tree, parts = cKDTree(neighbours), np.array_split(points, -(-len(points) // AT_ONCE))
    found = []
    for index, some in enumerate(parts):
        step(job, index, len(parts), "nearest neighbours")
        found.append(tree.query(some, workers=workers))
    distance, index_of = (np.concatenate(columns) for columns in zip(*found, strict=True))
    return np.asarray(distance, dtype=np.float64), np.asarray(index_of, dtype=np.intp)


def icp(source: ArrayLike, target: ArrayLike, threshold: float = 0.1) -> FloatArray:
    """Refine a rigid motion by point-to-point ICP from the identity, with open3d's default stopping rule.

    Args:
        source: [N, 3] cloud to move.
        target: [M, 3] cloud to meet.
        threshold: Largest distance of a pair, in the clouds' units.

    Returns:
        target_from_source [4, 4]; the identity where no pair is close enough.

    Raises:
        MissingLibraryError: open3d is absent or cannot be loaded.
    """
    o3d = open3d()
    registration = o3d.pipelines.registration
    result = registration.registration_icp(
        _cloud(o3d, as_cloud(source, "source")),
        _cloud(o3d, as_cloud(target, "target")),
        threshold,
        np.eye(4),
        registration.TransformationEstimationPointToPoint(),
    )
    return np.array(result.transformation, dtype=np.float64)


def normals(points: ArrayLike) -> FloatArray:
    """Estimate unit normals [N, 3] with open3d's defaults (30 neighbours); their signs mean nothing.

    Raises:
        MissingLibraryError: open3d is absent or cannot be loaded.
    """
    o3d = open3d()
    cloud = _cloud(o3d, as_cloud(points, "points"))
    cloud.estimate_normals()
    return np.array(cloud.normals, dtype=np.float64)


def open3d() -> Any:
    """Import open3d when first needed: it is slow and wants system libraries that a server may lack.

    Raises:
        MissingLibraryError: With the Debian packages that it links.
    """
    try:
        import open3d as o3d
    except (ImportError, OSError) as error:  # a missing .so is an OSError from its loader
        raise MissingLibraryError(
            f"open3d cannot be loaded: {error}",
            place="ICP and normals",
            remedy=f"Run pip install open3d-cpu; on Debian also apt-get install {OPEN3D_PACKAGES}",
        ) from error
    return o3d


def _cloud(o3d: Any, points: FloatArray) -> Any:
    cloud = o3d.geometry.PointCloud()
    cloud.points = o3d.utility.Vector3dVector(np.ascontiguousarray(points))
    return cloud
