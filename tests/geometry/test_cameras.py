"""Laws of poses and pixels: inverses cancel, unprojected pixels project back, cameras see their target."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from quantlab.errors import NumericError
from quantlab.geometry.cameras import (
    as_poses,
    centres,
    invert,
    look_at,
    project,
    relative_to_first,
    unproject,
)

INTRINSICS = np.array([[20.0, 0, 6], [0, 25, 4], [0, 0, 1]])


def poses(count: int) -> np.ndarray:
    rng = np.random.default_rng(count)
    full = np.tile(np.eye(4), (count, 1, 1))
    full[:, :3, :3] = Rotation.random(count, rng=rng).as_matrix()
    full[:, :3, 3] = rng.normal(size=(count, 3))
    return full


def test_a_pose_times_its_inverse_is_the_identity():
    np.testing.assert_allclose(invert(poses(5)) @ poses(5), np.tile(np.eye(4), (5, 1, 1)), atol=1e-12)


def test_the_first_camera_becomes_the_world():
    np.testing.assert_allclose(relative_to_first(poses(3))[0], np.eye(4), atol=1e-12)


def test_the_centre_of_a_camera_is_its_origin():
    points = np.c_[centres(poses(4)), np.ones(4)]
    np.testing.assert_allclose(np.einsum("sij,sj->si", poses(4), points)[:, :3], 0, atol=1e-12)


def test_unprojected_pixels_project_back_onto_themselves_at_their_depth():
    depth = np.random.default_rng(0).uniform(0.5, 3, (2, 8, 12))
    points = unproject(depth, np.stack([INTRINSICS] * 2), poses(2))
    rows, cols = np.indices((8, 12))
    for view in range(2):
        pixels, seen = project(points[view], INTRINSICS, poses(2)[view])
        np.testing.assert_allclose(pixels, np.stack([cols, rows], axis=-1), atol=1e-9)
        np.testing.assert_allclose(seen, depth[view], atol=1e-12)


def test_depth_zero_has_no_pixel_and_gives_no_warning():
    pixels, depth = project(np.zeros((1, 3)), INTRINSICS, np.eye(4))
    assert np.isnan(pixels).all()
    assert depth.tolist() == [0]


def test_a_camera_sees_its_target_in_the_centre_and_up_upwards():
    pose = look_at([2.0, 1.0, 1.5], [0.0, 0.5, 0.2])
    pixels, depth = project([[0.0, 0.5, 0.2], [0.0, 0.5, 0.4]], INTRINSICS, pose)
    np.testing.assert_allclose(pixels[0], [6, 4], atol=1e-9)
    assert pixels[1, 1] < pixels[0, 1]
    assert depth[0] == pytest.approx(np.sqrt(4 + 0.25 + 1.69))
    np.testing.assert_allclose(centres(pose), [2, 1, 1.5], atol=1e-12)
    assert np.linalg.det(pose[:3, :3]) == pytest.approx(1)


def test_many_cameras_look_at_once():
    eyes = np.random.default_rng(0).normal(size=(3, 4, 3)) + 5
    np.testing.assert_allclose(look_at(eyes, [0, 0, 0])[1, 2], look_at(eyes[1, 2], [0, 0, 0]), atol=1e-12)


@pytest.mark.parametrize("target", [[0, 0, 0], [0, 0, 5]])
def test_a_view_without_direction_is_refused(target):
    with pytest.raises(NumericError):
        look_at([0, 0, 0], target)


def test_poses_of_three_rows_are_completed_and_copied():
    given = poses(2)
    full = as_poses(given[:, :3])
    np.testing.assert_array_equal(full, given)
    full[:] = 0
    assert given[0, 3, 3] == 1
