"""Laws of the paired comparison: a similarity between the two reconstructions leaves no error and no moved camera."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from quantlab.engine.comparison import pair
from quantlab.errors import NumericError
from quantlab.geometry.cameras import unproject
from quantlab.models.prediction import Prediction

RNG = np.random.default_rng(5)


def prediction() -> Prediction:
    depth = RNG.uniform(1, 3, (2, 6, 8)).astype(np.float32)
    intrinsics = np.tile(np.array([[6, 0, 4], [0, 6, 3], [0, 0, 1]], np.float32), (2, 1, 1))
    cameras = np.tile(np.eye(4), (2, 1, 1))
    cameras[1, :3, :3] = Rotation.from_euler("xyz", [0.1, -0.3, 0.2]).as_matrix()
    cameras[1, :3, 3] = [0.5, -0.2, 0.1]
    points = unproject(depth, intrinsics, cameras).astype(np.float32)
    return Prediction(
        RNG.integers(0, 255, (2, 6, 8, 3), dtype=np.uint8),
        points,
        np.ones_like(depth),
        depth,
        cameras,
        intrinsics,
    )


def moved(
    left: Prediction, scale: float, turn: NDArray[np.float64], shift: NDArray[np.float64]
) -> Prediction:
    """The same reconstruction in another world frame and unit, camera by camera."""
    world = np.eye(4)
    world[:3, :3], world[:3, 3] = turn, shift
    cameras = left.camera_from_world.copy()
    cameras[:, :3, 3] *= scale
    cameras = cameras @ np.linalg.inv(world)
    depth = (left.depth * scale).astype(np.float32)
    points = unproject(depth, left.intrinsics, cameras).astype(np.float32)
    return Prediction(left.images, points, left.confidence, depth, cameras, left.intrinsics)


SIMILARITY = (1.7, Rotation.from_euler("xyz", [0.4, 1.2, -2.0]).as_matrix(), np.array([3.0, -1.0, 0.5]))


def test_a_reconstruction_in_another_frame_and_unit_has_no_error() -> None:
    left = prediction()
    result = pair(left, moved(left, *SIMILARITY))
    assert result.errors.max() < 1e-5
    assert result.point_error < 1e-6
    np.testing.assert_allclose(result.right.points, left.points, atol=1e-5)
    np.testing.assert_allclose(result.right.depth, left.depth, atol=1e-5)
    np.testing.assert_allclose(result.right.camera_from_world, left.camera_from_world, atol=1e-5)


def test_the_moved_reconstruction_is_consistent_with_its_own_cameras() -> None:
    left, right = prediction(), prediction()
    result = pair(left, moved(right, *SIMILARITY)).right
    again = unproject(result.depth, result.intrinsics, result.camera_from_world)
    np.testing.assert_allclose(again, result.points, atol=1e-5)
    turn = result.camera_from_world[:, :3, :3]
    np.testing.assert_allclose(turn @ turn.transpose(0, 2, 1), np.tile(np.eye(3), (2, 1, 1)), atol=1e-9)


def test_point_error_is_the_mean_error_over_the_diagonal_and_ignores_the_frame_of_the_quantized_cloud() -> (
    None
):
    left, right = prediction(), prediction()
    one, other = pair(left, right), pair(left, moved(right, *SIMILARITY))
    assert one.point_error == pytest.approx(float(one.errors.mean()) / one.scale, rel=1e-5)
    assert other.point_error == pytest.approx(one.point_error, rel=1e-4)
    low, high = np.percentile(left.points.reshape(-1, 3), [5, 95], axis=0)
    assert one.scale == pytest.approx(float(np.linalg.norm(high - low)))


def test_the_truth_is_brought_into_the_same_frame_and_left_out_at_another_size() -> None:
    left = prediction()
    truth = moved(left, *SIMILARITY).points
    aligned = pair(left, left, truth).truth
    assert aligned is not None
    np.testing.assert_allclose(aligned, left.points, atol=1e-4)
    assert pair(left, left, truth[:, :3]).truth is None


def test_the_inputs_are_not_changed() -> None:
    left = prediction()
    right = moved(left, *SIMILARITY)
    kept = right.points.copy(), right.camera_from_world.copy()
    pair(left, right)
    np.testing.assert_array_equal(right.points, kept[0])
    np.testing.assert_array_equal(right.camera_from_world, kept[1])


def test_a_collapsed_cloud_is_refused() -> None:
    left = prediction()
    flat = Prediction(
        left.images,
        np.zeros_like(left.points),
        left.confidence,
        left.depth,
        left.camera_from_world,
        left.intrinsics,
    )
    with pytest.raises(NumericError):
        pair(left, flat)
