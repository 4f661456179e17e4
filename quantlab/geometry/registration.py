"""ICP and normals in numpy, for machines without open3d; they follow open3d's defaults. No scores."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from quantlab.geometry.cameras import FloatArray
from quantlab.geometry.clouds import as_cloud

MOST_ITERATIONS = 30
SMALL_CHANGE = 1e-6
NEIGHBOURS = 30


def rigid_icp(source: ArrayLike, target: ArrayLike, threshold: float = 0.1) -> FloatArray:
    """Refine a rigid motion by point-to-point ICP from the identity.

    Stops after 30 rounds, or when neither the share of paired points nor the error of the pairs (root mean square)
    changes by 1e-6, as open3d does.

    Args:
        source: [N, 3] cloud to move.
        target: [M, 3] cloud to meet.
        threshold: Largest distance of a pair, in the clouds' units.

    Returns:
        target_from_source [4, 4]; the identity where no pair is close enough.

    Raises:
        NumericError: A cloud is empty or not finite.

    Source:
        Besl and McKay 1992; the rigid fit of the pairs is Kabsch's.
    """
    from scipy.spatial import cKDTree

    moved, target = as_cloud(source, "source").copy(), as_cloud(target, "target")
    tree, motion = cKDTree(target), np.eye(4)
    former = (0.0, 0.0)
    for iteration in range(MOST_ITERATIONS + 1):
        distance, index = tree.query(moved, distance_upper_bound=threshold)
        paired = distance < threshold
        error = float(np.sqrt(np.mean(distance[paired] ** 2))) if paired.any() else 0.0
        fit = (float(paired.mean()), error)
        settled = iteration > 0 and all(
            abs(now - before) < SMALL_CHANGE for now, before in zip(fit, former, strict=True)
        )
        if settled or not paired.any() or iteration == MOST_ITERATIONS:
            break
        former = fit
        turn = rigid_fit(moved[paired], target[index[paired]])
        moved = moved @ turn[:3, :3].T + turn[:3, 3]
        motion = turn @ motion
    return motion


def rigid_fit(source: FloatArray, target: FloatArray) -> FloatArray:
    """The rotation and translation [4, 4] that bring paired points [N, 3] together in the least-squares sense."""
    from_center, to_center = source.mean(axis=0), target.mean(axis=0)
    u, _, vt = np.linalg.svd((target - to_center).T @ (source - from_center))
    mirror = np.diag([1.0, 1.0, np.sign(np.linalg.det(u @ vt))])
    motion = np.eye(4)
    motion[:3, :3] = u @ mirror @ vt
    motion[:3, 3] = to_center - motion[:3, :3] @ from_center
    return motion


def local_normals(points: ArrayLike) -> FloatArray:
    """Unit normals [N, 3]: the direction in which a point's 30 nearest (itself included) spread least; any sign.

    Raises:
        NumericError: The cloud is empty or not finite.
    """
    from scipy.spatial import cKDTree

    cloud = as_cloud(points, "points")
    count = min(NEIGHBOURS, len(cloud))
    _, index = cKDTree(cloud).query(cloud, k=count)
    around = cloud[index.reshape(len(cloud), count)]
    around = around - around.mean(axis=1, keepdims=True)
    _, axes = np.linalg.eigh(np.einsum("nki,nkj->nij", around, around))
    return np.asarray(axes[:, :, 0], dtype=np.float64)
