"""What cleaning drops and keeps. The oracle is numpy; without open3d the tests that need it are skipped by name."""

from __future__ import annotations

import sys
from dataclasses import fields

import numpy as np
import pytest

from quantlab.errors import MissingLibraryError, NumericError
from quantlab.geometry import cleaning
from quantlab.geometry.cleaning import Cleaning, clean_pair
from quantlab.geometry.clouds import open3d


@pytest.fixture
def o3d():
    try:
        return open3d()
    except MissingLibraryError as error:
        pytest.skip(str(error))


def sheet(side: int = 20, seed: int = 0) -> np.ndarray:
    """Point maps [2, side, side, 3] of a slightly rough plane."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:side, :side].astype(np.float64)
    plane = np.stack([x, y, np.zeros_like(x)], -1)[None].repeat(2, 0)
    return plane + random.normal(0, 0.05, plane.shape)


def test_a_pixel_that_is_stray_on_one_side_is_dropped_on_both(o3d):
    left, right = sheet(), sheet(seed=1)
    left[0, 3, 4] += 30
    right[1, 7, 8] -= 30
    cleaned = clean_pair(left, right, size=20.0)
    assert not cleaned.kept[0, 3, 4]
    assert not cleaned.kept[1, 7, 8]
    assert cleaned.stray == cleaned.pixels - cleaned.kept.sum() >= 2
    assert cleaned.kept.mean() > 0.9


def test_an_outlier_is_what_is_further_from_its_neighbours_than_the_mean_by_so_many_deviations(o3d):
    points = sheet(seed=2)
    points[0, 0] += np.random.default_rng(3).normal(0, 2, points[0, 0].shape)
    chosen = Cleaning(neighbours=7, std_ratio=1.5)
    flat = points.reshape(-1, 3)
    table = np.sort(np.linalg.norm(flat[:, None] - flat, axis=-1), axis=1)
    mean = table[:, :7].mean(axis=1)  # open3d counts the point itself as one of its neighbours
    expected = mean < mean.mean() + 1.5 * mean.std(ddof=1)
    assert not expected.all()
    found = clean_pair(points, points, chosen, size=1.0).kept.reshape(-1)
    np.testing.assert_array_equal(found, expected)


def test_one_pixel_stays_in_every_voxel_of_the_left_cloud_and_every_voxel_keeps_one(o3d):
    left, right = sheet(), sheet(seed=1)
    everything = Cleaning(std_ratio=10.0)
    before = clean_pair(left, right, everything, size=20.0)
    thin = clean_pair(left, right, Cleaning(std_ratio=10.0, voxel=15.0), size=20.0)
    assert thin.stray == before.stray
    assert thin.thinned == before.kept.sum() - thin.kept.sum() > 0
    assert not (thin.kept & ~before.kept).any()
    low = left[before.kept].min(axis=0) - 1.5
    voxel = np.floor((left - low) / 3.0).astype(int)
    of_all = {tuple(index) for index in voxel[before.kept]}
    of_kept = [tuple(index) for index in voxel[thin.kept]]
    assert len(of_kept) == len(set(of_kept))
    assert set(of_kept) == of_all


def test_points_that_are_not_finite_are_dropped_and_are_nobodys_neighbour(o3d):
    left, right = sheet(), sheet(seed=1)
    left[0, 0, 0], right[1, 1, 1] = np.nan, np.inf
    cleaned = clean_pair(left, right, size=20.0)
    assert cleaned.pixels == left[..., 0].size - 2
    assert not cleaned.kept[0, 0, 0]
    assert not cleaned.kept[1, 1, 1]
    with pytest.raises(NumericError, match="no pixel"):
        clean_pair(np.full_like(left, np.nan), right, size=20.0)


def test_cleaning_changes_no_input_and_says_in_words_what_it_removed(o3d):
    left = sheet()
    left[0, 3, 4] += 30
    kept = left.copy()
    cleaned = clean_pair(left, left, Cleaning(voxel=15.0), size=20.0)
    np.testing.assert_array_equal(left, kept)
    said = str(cleaned)
    assert f"{cleaned.stray:,} of 800 pixels were stray" in said
    assert f"{cleaned.thinned:,} more thinned" in said
    assert f"{int(cleaned.kept.sum()):,} are left" in said


def test_tiny_voxels_and_few_points_keep_everything(o3d):
    left = sheet(side=2)
    chosen = Cleaning(neighbours=200, std_ratio=10.0, voxel=1e-9)
    assert clean_pair(left, left, chosen, size=1.0).kept.all()


@pytest.mark.bad_input
@pytest.mark.parametrize("name", [item.name for item in fields(Cleaning)])
@pytest.mark.parametrize("value", [-1, 1e9, float("nan"), "2", None, True])
def test_a_value_out_of_its_bounds_is_refused_by_name(name, value):
    with pytest.raises(NumericError, match=name):
        Cleaning(**{name: value})


def test_without_open3d_the_reason_says_what_to_install(monkeypatch):
    monkeypatch.setattr(cleaning, "find_spec", lambda _name: None)
    assert "pip install open3d" in cleaning.why_not()
    monkeypatch.setitem(sys.modules, "open3d", None)
    with pytest.raises(MissingLibraryError):
        clean_pair(sheet(), sheet(), size=1.0)
