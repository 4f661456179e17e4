"""What the viewer is sent of a comparison."""

from __future__ import annotations

import json
import struct
from dataclasses import replace

import numpy as np
import pytest

from quantlab.engine.comparison import Comparison
from quantlab.models.prediction import Prediction
from quantlab.views.clouds import pair_of_clouds


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
    return Comparison(left, right, errors, scale, error / scale, truth=points)


def header(pair: Comparison, *, truth: bool = False):
    right = None if truth else pair.right
    data = pair_of_clouds(pair, pair.left, right, scene="room", limit=1000)
    _, size = struct.unpack_from("<II", data, 4)
    return json.loads(data[12 : 12 + size])


@pytest.mark.parametrize("error", [1e-3, 0.03, 0.4, 1.0, 7.0])
def test_the_error_scale_ends_at_a_round_share_of_the_scene_above_the_errors(error):
    pair = comparison(error)
    share = header(pair)["error"]["max"] / pair.scale
    assert f"{share:.0e}"[0] in "125"
    assert float(f"{share:.0e}") == pytest.approx(share)
    assert error / pair.scale <= share <= 2.5 * error / pair.scale


def test_errors_of_one_size_share_their_scale_so_that_recipes_can_be_compared():
    assert header(comparison(0.03))["error"]["max"] == header(comparison(0.035))["error"]["max"]


def test_both_sides_have_their_cameras_and_the_truth_has_none():
    pair = comparison(0.1)
    told = header(pair)
    assert (len(told["left"]["cameras"]), len(told["right"]["cameras"])) == (2, 2)
    assert not header(pair, truth=True)["right"]["cameras"]
