"""What the viewer is sent of a comparison."""

from __future__ import annotations

import json
import struct
from dataclasses import replace

import numpy as np
import pytest

from quantlab.engine.comparison import Comparison
from quantlab.geometry.cleaning import Cleaning
from quantlab.models.prediction import Prediction
from quantlab.viewer.coding import HIDDEN
from quantlab.views.clouds import ERRORS, pack_pair, pair_of_clouds, shown_pair


def comparison(error: float, scale: float = 4.0) -> Comparison:
    """A plane in two frames, and the same plane ``error`` further away."""
    y, x = np.mgrid[:6, :8].astype(np.float32)
    points = np.stack([x, y, np.full_like(x, 5)], -1)[None].repeat(2, 0)
    pose, lens = np.tile(np.eye(4), (2, 1, 1)), np.tile(np.eye(3, dtype=np.float32), (2, 1, 1))
    images = np.zeros((2, 6, 8, 3), np.uint8)
    left = Prediction(images, points, np.ones(points.shape[:3], np.float32), points[..., 2], pose, lens)
    moved = points + np.float32([0, 0, error])
    errors = np.full(points.shape[:3], error, np.float32)
    right = replace(left, points=moved, depth=moved[..., 2])
    return Comparison(
        left, right, errors, scale, error / scale, truth=replace(left, camera_from_world=pose + 0)
    )


def told(data: bytes):
    _, size = struct.unpack_from("<II", data, 4)
    return json.loads(data[12 : 12 + size])


def header(pair: Comparison, *, truth: bool = False):
    right = None if truth else pair.right
    return told(pair_of_clouds(pair, pair.left, right, scene="room", limit=1000))


@pytest.mark.parametrize("error", [1e-3, 0.03, 0.4, 1.0, 7.0])
def test_the_error_scale_ends_at_a_round_share_of_the_scene_above_the_errors(error):
    pair = comparison(error)
    share = header(pair)["error"]["max"] / pair.scale
    assert float(f"{share:.1e}") == pytest.approx(share)
    assert float(f"{share:.1e}".partition("e")[0]) in {1, 1.5, 2, 3, 5, 7}
    assert error / pair.scale <= share <= 1.7 * error / pair.scale


def test_errors_of_one_size_share_their_scale_so_that_recipes_can_be_compared():
    assert header(comparison(0.03))["error"]["max"] == header(comparison(0.035))["error"]["max"]


def test_every_side_has_its_cameras_the_truth_too():
    pair = comparison(0.1)
    assert [len(header(pair)[side]["cameras"]) for side in ("left", "right")] == [2, 2]
    assert len(header(pair, truth=True)["right"]["cameras"]) == 2


def test_the_error_is_that_between_the_two_sides_that_are_shown():
    pair = comparison(0.4)
    assert header(pair, truth=True)["error"]["max"] < header(pair)["error"]["max"]
    assert shown_pair(pair.right, pair.left, size=4.0).mean == pytest.approx(0.1)
    assert shown_pair(pair.left, pair.truth, size=4.0).mean == 0


def bumpy(shift):
    """A grid of points with holes; the other side is moved by ``shift`` along it."""
    random = np.random.default_rng(0)
    side = comparison(0.0).left
    points = side.points + random.normal(0, 0.2, side.points.shape).astype(np.float32)
    points[0, 0, 0] = np.nan
    other = points + np.float32(shift)
    other[1, 2, 3] = np.inf
    return replace(side, points=points), replace(side, points=other)


def test_the_nearest_neighbour_error_is_the_brute_force_one_and_never_above_the_paired_one():
    left, right = bumpy([1.0, 0.1, 0.0])
    paired, found = (shown_pair(left, right, size=4.0, error=kind).errors for kind in ("paired", "nearest"))
    ok = np.isfinite(left.points).all(-1) & np.isfinite(right.points).all(-1)
    np.testing.assert_array_equal(np.isfinite(found), ok)
    table = np.linalg.norm(right.points[ok][:, None] - left.points[ok], axis=-1)
    np.testing.assert_allclose(found[ok], table.min(axis=1), rtol=1e-5)
    assert (found[ok] <= paired[ok] + 1e-6).all()
    assert found[ok].mean() < 0.5 * paired[ok].mean()


def test_the_payload_says_which_error_it_is():
    pair = comparison(0.1)
    data = pair_of_clouds(pair, pair.left, pair.right, scene="room", limit=10, error="nearest")
    assert told(data)["error"]["name"] == "nearest neighbour"


def test_nothing_finite_in_common_has_no_error_and_no_mean():
    left, right = bumpy([0, 0, 0])
    blank = replace(right, points=np.full_like(right.points, np.nan))
    for kind in ERRORS:
        assert shown_pair(left, blank, size=1.0, error=kind).mean is None


def test_what_is_exported_is_what_the_viewer_shows():
    left, right = bumpy([0.1, 0, 0])
    left = replace(left, confidence=np.arange(96, dtype=np.float32).reshape(2, 6, 8))
    pair = shown_pair(left, right, size=4.0)
    assert pair.visible().sum() == 96 - 2
    assert not pair.visible(frames=[1])[0].any()
    assert pair.visible(frames=[1])[1].sum() == 47
    half = pair.visible(confidence=50)
    assert not half[0].any()
    assert half[1].sum() == 47
    assert not pair.visible(frames=[]).any()


def test_what_is_cleaned_away_is_hidden_on_both_sides_and_counts_in_no_error():
    pytest.importorskip("open3d")
    pair = comparison(0.1)
    points = pair.right.points.copy()
    points[0, 2, 2] += 50
    shown = shown_pair(pair.left, replace(pair.right, points=points), size=4.0, cleaning=Cleaning())
    assert not shown.cleaned.kept[0, 2, 2]
    assert shown.mean == pytest.approx(0.025, rel=1e-4)
    data = pack_pair(shown, scene="room", limit=None)
    assert told(data)["left"]["outside"] == told(data)["right"]["outside"] == 0, "cleaned is not far outside"
    start = 12 + struct.unpack_from("<II", data, 4)[1]
    for side in ("left", "right"):
        codes = np.frombuffer(data, np.int16, 3 * 96, start + told(data)[side]["position"]["at"])
        hidden = (codes.reshape(-1, 3) == HIDDEN).all(axis=1)
        assert hidden.sum() == 96 - shown.cleaned.kept.sum()
