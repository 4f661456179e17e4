"""Laws of the paired comparison: a similarity between the two reconstructions leaves no error and no moved camera."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from quantlab.engine.comparison import pair
from quantlab.errors import NumericError, StorageError
from quantlab.geometry.cameras import unproject
from quantlab.geometry.ply import read_ply
from quantlab.models.prediction import Prediction
from quantlab.scenes.scene import Truth

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


def truth_of(left: Prediction) -> Truth:
    """The prediction itself, in another frame and unit, as what is true."""
    other = moved(left, *SIMILARITY)
    return Truth(other.camera_from_world, other.intrinsics, other.depth, other.points)


def test_the_truth_is_brought_into_the_same_frame_with_its_own_cameras() -> None:
    left = prediction()
    aligned = pair(left, left, truth_of(left)).truth
    assert aligned is not None
    np.testing.assert_allclose(aligned.points, left.points, atol=1e-4)
    np.testing.assert_allclose(aligned.camera_from_world, left.camera_from_world, atol=1e-4)
    np.testing.assert_allclose(aligned.depth, left.depth, atol=1e-4)


def test_the_true_cameras_are_not_those_that_were_predicted() -> None:
    left, truth = prediction(), truth_of(prediction())
    aligned = pair(left, left, truth).truth
    assert aligned is not None
    again = unproject(aligned.depth, aligned.intrinsics, aligned.camera_from_world)
    np.testing.assert_allclose(again, aligned.points, atol=1e-4)
    assert np.abs(aligned.camera_from_world - left.camera_from_world).max() > 0.01


def test_a_truth_of_another_size_or_of_nothing_is_left_out_and_what_is_unknown_is_not_shown() -> None:
    left = prediction()
    truth = truth_of(left)
    smaller = Truth(truth.camera_from_world, truth.intrinsics, truth.depth[:, :3], truth.points[:, :3])
    assert pair(left, left, smaller).truth is None
    depth = truth.depth.copy()
    depth[0, 0] = 0
    known = pair(left, left, Truth(truth.camera_from_world, truth.intrinsics, depth, truth.points)).truth
    assert known is not None
    np.testing.assert_array_equal(np.isnan(known.points).any(axis=-1), depth <= 0)
    blank = Truth(truth.camera_from_world, truth.intrinsics, 0 * depth, truth.points)
    assert pair(left, left, blank).truth is None


def test_a_truth_of_pictures_of_another_size_lies_on_the_same_surface() -> None:
    left = prediction()
    truth = truth_of(left)
    double = [np.repeat(np.repeat(maps, 2, 1), 2, 2) for maps in (truth.depth, truth.points)]
    lens = truth.intrinsics * np.array([[2.0], [2.0], [1.0]])
    aligned = pair(left, left, Truth(truth.camera_from_world, lens, *double)).truth
    assert aligned is not None
    np.testing.assert_allclose(aligned.points, left.points, atol=1e-4)
    np.testing.assert_allclose(aligned.intrinsics, left.intrinsics, rtol=1e-6)


@pytest.mark.parametrize(
    ("name", "side", "points"), [("a.glb", None, 3), ("a.ply", None, 1), ("a.ply", "ground truth", 1)]
)
def test_a_comparison_is_saved_by_the_ending_of_the_name(
    tmp_path: Path, name: str, side: str | None, points: int
) -> None:
    left = prediction()
    pair(left, moved(prediction(), *SIMILARITY), truth_of(left)).save(
        tmp_path / name, side=side, confidence=0
    )
    content = (tmp_path / name).read_bytes()
    if name.endswith("glb"):
        assert content.count(b" points") == 2 * points  # a mesh and its node
    else:
        assert len(read_ply(tmp_path / name)[0]) == left.depth.size


def test_a_side_that_is_not_there_and_a_kind_that_is_none_are_refused(tmp_path: Path) -> None:
    result = pair(prediction(), moved(prediction(), *SIMILARITY))
    for name, side in (("a.obj", None), ("a", None), ("a.glb", "ground truth"), ("absent/a.glb", None)):
        with pytest.raises(StorageError):
            result.save(tmp_path / name, side=side)
    assert not list(tmp_path.iterdir())


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
