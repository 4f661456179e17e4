"""Poses and pixels in numpy: inverse, relative poses, projection, looking at a point. Knows no network.

OpenCV axes throughout: x right, y down, z forward. A pixel is named by its integer index, so that the
top-left pixel sits at (0, 0) and a centred principal point at (width / 2, height / 2), as VGGT has it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from quantlab.errors import NumericError

FloatArray = NDArray[np.float64]

ROTATION_TOLERANCE = 1e-2
"""How far R R^T may be from the identity: poses rounded to float16 pass, scaled or sheared ones do not."""


def as_poses(poses: ArrayLike, what: str = "poses") -> FloatArray:
    """Check poses and complete them to 4x4.

    Args:
        poses: [S, 4, 4] or [S, 3, 4] rigid motions of any float dtype.
        what: What to call them in an error.

    Returns:
        [S, 4, 4] float64, a copy.

    Raises:
        NumericError: The shape is another, a value is not finite, or a rotation is not one.
    """
    given = np.asarray(poses, dtype=np.float64)
    if given.ndim != 3 or given.shape[1:] not in ((4, 4), (3, 4)):
        raise NumericError(
            f"{what} have shape {list(given.shape)}",
            place=what,
            remedy="Give an array [S, 4, 4] or [S, 3, 4] of camera_from_world.",
        )
    full: FloatArray = np.tile(np.eye(4), (len(given), 1, 1))
    full[:, :3] = given[:, :3]
    if not np.isfinite(given).all():
        raise NumericError(
            f"{what} hold a NaN or an infinity", place=what, remedy="Look for the layer that overflows."
        )
    defects = rotation_defects(full)
    if len(defects) and defects.max() > ROTATION_TOLERANCE:
        raise NumericError(
            f"the matrix of camera {int(defects.argmax())} is not a rotation",
            place=what,
            remedy="Remove scale, shear and mirroring: R R^T must be the identity and det R must be 1.",
        )
    return full


def rotation_defects(poses: FloatArray) -> FloatArray:
    """Measure how far the 3x3 of [..., 4, 4] is from a rotation: max|R R^T - I|, 2 or more if mirrored."""
    rotation = poses[..., :3, :3]
    gram = rotation @ np.swapaxes(rotation, -1, -2)
    defect = np.abs(gram - np.eye(3)).max(axis=(-2, -1))
    return np.asarray(
        np.where(np.linalg.det(rotation) > 0, defect, np.maximum(defect, 2.0)), dtype=np.float64
    )


def invert(poses: FloatArray) -> FloatArray:
    """Invert rigid motions [..., 4, 4]: camera_from_world becomes world_from_camera."""
    inverse = np.zeros_like(poses, dtype=np.float64)
    turned = np.swapaxes(poses[..., :3, :3], -1, -2)
    inverse[..., :3, :3] = turned
    inverse[..., :3, 3] = -(turned @ poses[..., :3, 3, None])[..., 0]
    inverse[..., 3, 3] = 1.0
    return inverse


def centres(poses: FloatArray) -> FloatArray:
    """Return where the cameras stand in the world, [..., 3], of camera_from_world [..., 4, 4]."""
    return invert(poses)[..., :3, 3]


def relative_to_first(poses: FloatArray) -> FloatArray:
    """Express camera_from_world [S, 4, 4] with the first camera as the world: E_k inv(E_0)."""
    return np.asarray(poses @ invert(poses[:1]), dtype=np.float64)


def look_at(eye: ArrayLike, target: ArrayLike, up: ArrayLike = (0.0, 0.0, 1.0)) -> FloatArray:
    """Place a camera at ``eye`` that looks at ``target``, its top towards ``up``.

    Args:
        eye: [..., 3] camera centre, world.
        target: [..., 3] point that falls onto the optical axis, world.
        up: [..., 3] direction that shall point upwards in the picture.

    Returns:
        camera_from_world [..., 4, 4] float64.

    Raises:
        NumericError: Eye and target coincide, or the view is along ``up``.
    """
    eye, target, up = (np.asarray(value, dtype=np.float64) for value in (eye, target, up))
    forward = _unit(target - eye, "the camera stands in its target")
    right = _unit(np.cross(forward, up), "the camera looks along its up direction")
    down = np.cross(forward, right)
    rotation = np.stack([right, down, forward], axis=-2)
    pose = np.zeros((*rotation.shape[:-2], 4, 4))
    pose[..., :3, :3] = rotation
    pose[..., :3, 3] = -(rotation @ eye[..., None])[..., 0]
    pose[..., 3, 3] = 1.0
    return pose


def unproject(depth: ArrayLike, intrinsics: ArrayLike, camera_from_world: ArrayLike) -> FloatArray:
    """Lift depth maps into the world.

    Args:
        depth: [..., H, W] z-depth (along the optical axis), scene units.
        intrinsics: [..., 3, 3] in pixels; skew is ignored.
        camera_from_world: [..., 4, 4] or [..., 3, 4].

    Returns:
        [..., H, W, 3] world points, float64.
    """
    depth, intrinsics, pose = (
        np.asarray(value, dtype=np.float64) for value in (depth, intrinsics, camera_from_world)
    )
    rows, cols = np.indices(depth.shape[-2:], dtype=np.float64)
    focal_x, focal_y, centre_x, centre_y = (
        intrinsics[..., row, col, None, None] for row, col in ((0, 0), (1, 1), (0, 2), (1, 2))
    )
    in_camera = np.stack(
        [(cols - centre_x) / focal_x * depth, (rows - centre_y) / focal_y * depth, depth], axis=-1
    )
    rotation, translation = pose[..., :3, :3], pose[..., None, None, :3, 3]
    # a row vector times R is R^T times the column, which is the inverse of the rotation
    lifted = np.einsum("...hwi,...ij->...hwj", in_camera - translation, rotation)
    return np.asarray(lifted, dtype=np.float64)


def project(
    points: ArrayLike, intrinsics: ArrayLike, camera_from_world: ArrayLike
) -> tuple[FloatArray, FloatArray]:
    """See world points in one camera.

    Args:
        points: [..., 3] world.
        intrinsics: [3, 3] in pixels; skew is ignored.
        camera_from_world: [4, 4] or [3, 4].

    Returns:
        Pixels [..., 2] as (column, row), NaN at depth 0, and depth [...], negative behind the camera.
    """
    points, intrinsics, pose = (
        np.asarray(value, dtype=np.float64) for value in (points, intrinsics, camera_from_world)
    )
    in_camera = points @ pose[:3, :3].T + pose[:3, 3]
    depth = in_camera[..., 2]
    with np.errstate(divide="ignore", invalid="ignore"):
        plane = np.where(depth[..., None] == 0, np.nan, in_camera[..., :2] / depth[..., None])
    pixels = plane * intrinsics[[0, 1], [0, 1]] + intrinsics[:2, 2]
    return pixels, depth


def _unit(vectors: FloatArray, problem: str) -> FloatArray:
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    if not (length > 1e-12).all():
        raise NumericError(problem, place="look_at", remedy="Move the eye, the target or the up direction.")
    return np.asarray(vectors / length, dtype=np.float64)
