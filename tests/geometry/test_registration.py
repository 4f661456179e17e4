"""ICP and normals without open3d: the same motion and the same directions as open3d's, and laws of their own."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from quantlab.errors import MissingLibraryError
from quantlab.geometry import clouds
from quantlab.geometry.registration import local_normals, rigid_fit, rigid_icp


@pytest.fixture
def with_open3d():
    try:
        return clouds.open3d()
    except MissingLibraryError as error:
        pytest.skip(str(error))


def bowl(count=1500, seed=0):
    rng = np.random.default_rng(seed)
    plane = rng.uniform(-1, 1, (count, 2))
    return np.c_[plane, 0.4 * plane[:, 0] ** 2 - 0.3 * plane[:, 1] ** 3]


def moved(points, degrees=2.0, shift=(0.02, -0.01, 0.015)):
    turn = Rotation.from_euler("xyz", [degrees, -degrees, degrees], degrees=True).as_matrix()
    return points @ turn.T + np.array(shift)


def test_the_motion_is_open3ds(with_open3d):
    rng = np.random.default_rng(1)
    source = moved(bowl()) + rng.normal(scale=0.003, size=(1500, 3))
    np.testing.assert_allclose(rigid_icp(source, bowl()), clouds.icp(source, bowl()), atol=1e-9)


def test_the_normals_are_open3ds_up_to_their_sign(with_open3d):
    ours, theirs = local_normals(bowl()), clouds.normals(bowl())
    np.testing.assert_allclose(np.abs((ours * theirs).sum(axis=1)), 1.0, atol=1e-5)


def test_a_small_motion_of_the_same_points_is_undone():
    found = rigid_icp(moved(bowl()), bowl())
    np.testing.assert_allclose(moved(bowl()) @ found[:3, :3].T + found[:3, 3], bowl(), atol=1e-6)


def test_the_fit_is_a_rotation_even_of_a_mirrored_cloud():
    points = np.random.default_rng(2).normal(size=(50, 3))
    found = rigid_fit(points, points * np.array([1.0, 1.0, -1.0]))
    np.testing.assert_allclose(found[:3, :3] @ found[:3, :3].T, np.eye(3), atol=1e-12)
    assert np.linalg.det(found[:3, :3]) == pytest.approx(1.0)


def test_clouds_too_far_apart_stay_where_they_are():
    np.testing.assert_array_equal(rigid_icp(bowl() + 5, bowl()), np.eye(4))


def test_the_normals_of_a_plane_are_its_normal():
    plane = np.c_[np.random.default_rng(3).uniform(size=(200, 2)), np.zeros(200)]
    np.testing.assert_allclose(np.abs(local_normals(plane)), np.tile([0, 0, 1], (200, 1)), atol=1e-12)
