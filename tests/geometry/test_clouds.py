"""Crop, mask, size, ICP, normals and the whole protocol. Without open3d its tests are skipped by name."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from quantlab.errors import MissingLibraryError, NumericError, StorageError
from quantlab.geometry import clouds
from quantlab.geometry.ply import read_ply, write_ply
from quantlab.geometry.reconstruction import reconstruction_scores


@pytest.fixture
def o3d():
    try:
        return clouds.open3d()
    except MissingLibraryError as error:
        pytest.skip(str(error))


def bowl(seed: int = 0, views: int = 2, side: int = 24) -> np.ndarray:
    """A smooth surface seen as point maps [S, H, W, 3] without symmetry."""
    rng = np.random.default_rng(seed)
    x, y = rng.uniform(-1, 1, (2, views, side, side))
    return np.stack([x, y, 0.5 * x**2 + 0.2 * np.sin(4 * y) + 0.1 * x * y], axis=-1)


@pytest.mark.parametrize(("height", "width"), [(224, 224), (240, 518), (225, 301), (100, 518)])
def test_the_crop_is_central_and_leaves_short_sides_whole(height, width):
    rows, cols = np.indices((height, width))
    cropped = clouds.central_crop(np.stack([rows, cols], axis=-1)[None])
    assert cropped.shape == (1, min(height, 224), min(width, 224), 2)
    # as many pixels are cut on either side, up to an odd one
    margins = [
        (part.min(), length - 1 - part.max())
        for part, length in ((cropped[..., 0], height), (cropped[..., 1], width))
    ]
    assert all(abs(before - after) <= 1 for before, after in margins)


def test_a_mask_leaves_out_every_point_that_is_not_finite():
    first, second = np.zeros((1, 2, 2, 3)), np.zeros((1, 2, 2, 3))
    first[0, 0, 0, 1], second[0, 1, 1, 2] = np.nan, np.inf
    given = np.array([[[True, True], [False, True]]])
    assert clouds.valid_mask(first, second, mask=given).tolist() == [[[False, True], [False, False]]]
    assert given.sum() == 3
    with pytest.raises(NumericError, match="do not pair"):
        clouds.valid_mask(first, second[:, :1])


def test_a_confidence_percentile_drops_that_share():
    confidence = np.random.default_rng(0).random((2, 10, 10))
    assert clouds.confidence_mask(confidence, 25).mean() == pytest.approx(0.75)
    assert clouds.confidence_mask(confidence, 0).all()
    assert clouds.confidence_mask(np.ones((1, 3, 3)), 50).all()
    with pytest.raises(NumericError):
        clouds.confidence_mask(confidence, 101)


def test_the_diagonal_ignores_a_twentieth_at_either_end():
    line = np.zeros((101, 3))
    line[:, 0] = np.arange(101)
    assert clouds.diagonal(line) == pytest.approx(90)
    line[-2:] = 1e6
    assert clouds.diagonal(line) == pytest.approx(90)
    with pytest.raises(NumericError, match="no extent"):
        clouds.diagonal(np.ones((5, 3)))


def test_the_nearest_neighbour_is_the_nearest():
    rng = np.random.default_rng(0)
    points, others = rng.normal(size=(30, 3)), rng.normal(size=(40, 3))
    table = np.linalg.norm(points[:, None] - others, axis=-1)
    distance, index = clouds.nearest(points, others)
    np.testing.assert_allclose(distance, table.min(axis=1))
    np.testing.assert_array_equal(index, table.argmin(axis=1))


@pytest.mark.parametrize("cloud", [np.zeros((0, 3)), np.zeros((4, 2)), np.full((4, 3), np.nan)])
def test_a_cloud_that_is_none_is_refused(cloud):
    with pytest.raises(NumericError):
        clouds.nearest(cloud, np.zeros((1, 3)))


def test_icp_undoes_a_small_motion(o3d):
    cloud = bowl()[0].reshape(-1, 3)
    motion = np.eye(4)
    motion[:3, :3] = Rotation.from_euler("xyz", [1, 2, 1], degrees=True).as_matrix()
    motion[:3, 3] = 0.01
    moved = cloud @ motion[:3, :3].T + motion[:3, 3]
    np.testing.assert_allclose(clouds.icp(cloud, moved, 0.2), motion, atol=1e-6)


def test_normals_of_a_plane_stand_on_it(o3d):
    rng = np.random.default_rng(0)
    plane = np.c_[rng.uniform(size=(200, 2)), np.zeros(200)]
    np.testing.assert_allclose(np.abs(clouds.normals(plane)), np.tile([0, 0, 1], (200, 1)), atol=1e-6)


def test_without_open3d_the_error_names_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "open3d", None)
    with pytest.raises(MissingLibraryError) as caught:
        clouds.normals(np.zeros((3, 3)))
    for package in ("open3d", "libusb-1.0-0", "libgl1", "libegl1", "libx11-6", "libgomp1", "libudev1"):
        assert package in caught.value.remedy


def test_the_protocol_forgives_a_similarity(o3d):
    truth = bowl()
    rotation = Rotation.from_euler("xyz", [30, 60, 10], degrees=True).as_matrix()
    scores = reconstruction_scores(
        0.3 * truth @ rotation.T + [1, 2, 3], truth, np.ones(truth.shape[:3], bool)
    )
    assert scores.accuracy < 1e-9
    assert scores.completeness < 1e-9
    assert scores.normal_consistency == pytest.approx(1, abs=1e-6)


def test_the_protocol_counts_only_the_centre_the_mask_and_at_most_so_many_points(o3d):
    truth = bowl(side=30)
    predicted = truth.copy()
    predicted[:, :5] += 100
    assert reconstruction_scores(predicted, truth, crop=20).accuracy < 1e-9
    mask = np.ones(truth.shape[:3], bool)
    mask[:, :5] = False
    assert reconstruction_scores(predicted, truth, mask).accuracy < 1e-9
    few = [reconstruction_scores(truth + 0, truth, max_points=200, seed=seed) for seed in (0, 0)]
    assert few[0] == few[1]
    with pytest.raises(NumericError):
        reconstruction_scores(truth, truth, np.zeros_like(mask))


@pytest.mark.parametrize("coloured", [False, True])
def test_a_cloud_comes_back_from_its_file(tmp_path, coloured):
    rng = np.random.default_rng(0)
    points = rng.normal(size=(17, 3)).astype(np.float32)
    colours = rng.integers(0, 256, (17, 3), dtype=np.uint8) if coloured else None
    write_ply(tmp_path / "cloud.ply", points, colours)
    back, paint = read_ply(tmp_path / "cloud.ply")
    np.testing.assert_array_equal(back, points)
    assert (paint is None) if colours is None else np.array_equal(paint, colours)
    assert [path.name for path in tmp_path.iterdir()] == ["cloud.ply"]


def test_open3d_reads_our_files(o3d, tmp_path):
    points = np.random.default_rng(0).normal(size=(9, 3))
    write_ply(tmp_path / "cloud.ply", points, np.full((9, 3), 255, np.uint8))
    cloud = o3d.io.read_point_cloud(str(tmp_path / "cloud.ply"))
    np.testing.assert_allclose(np.asarray(cloud.points), points, atol=1e-6)
    assert np.asarray(cloud.colors).min() == 1


def test_bad_cloud_files_are_refused(tmp_path):
    path = tmp_path / "cloud.ply"
    write_ply(path, np.ones((4, 3)))
    for content in (b"", b"text", path.read_bytes()[:-1], path.read_bytes() + b"x"):
        path.write_bytes(content)
        with pytest.raises(StorageError):
            read_ply(path)
    with pytest.raises(StorageError):
        read_ply(tmp_path / "absent.ply")
    with pytest.raises(StorageError):
        write_ply(tmp_path / "absent" / "cloud.ply", np.ones((4, 3)))
    with pytest.raises(StorageError):
        write_ply(path, np.ones((4, 3)), np.ones((4, 3)))
