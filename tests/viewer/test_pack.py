"""What the payload promises: small, exact to half a step, paired, shuffled once, honest about what it hides."""

from __future__ import annotations

import json
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quantlab.errors import NumericError
from quantlab.viewer.coding import HIDDEN, encode_confidence, encode_error
from quantlab.viewer.pack import CameraData, CloudData, pack_clouds


def cloud(count: int = 400, seed: int = 0, shift: float = 0.0) -> CloudData:
    rng = np.random.default_rng(seed)
    points = rng.uniform(-3, 3, (count, 3)).astype(np.float32) + np.float32(shift)
    colors = np.random.default_rng(1).integers(0, 256, (count, 3), dtype=np.uint8)
    frame = np.arange(count) % 4
    poses = np.tile(np.eye(4), (4, 1, 1))
    return CloudData(points, colors, rng.random(count), frame, CameraData(poses))


def unpack(data: bytes) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """An independent reader of the layout: magic, version, length, JSON, arrays."""
    magic, version, length = data[:4], *struct.unpack("<II", data[4:12])
    assert (magic, version) == (b"QLPC", 1)
    header = json.loads(data[12 : 12 + length])
    places = {"error": header["error"]}
    for side in ("left", "right"):
        for name in ("position", "color", "confidence", "frame"):
            places[f"{side}.{name}"] = (header[side] or {}).get(name)
    arrays = {
        name: np.frombuffer(data, place["type"], place["size"], 12 + length + place["at"])
        for name, place in places.items()
        if place
    }
    return header, arrays


def decoded(header: dict[str, Any], codes: np.ndarray) -> np.ndarray:
    return codes.reshape(-1, 3) * np.array(header["scale"]) + np.array(header["offset"])


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**31), scale=st.floats(1e-3, 1e3), shift=st.floats(-1e3, 1e3))
def test_a_decoded_point_is_off_by_at_most_half_a_step(seed: int, scale: float, shift: float) -> None:
    points = np.random.default_rng(seed).normal(size=(200, 3)) * scale + shift
    packed = pack_clouds(CloudData(points, np.zeros((200, 3), np.uint8)))
    header, arrays = unpack(packed.data)
    off = np.abs(decoded(header, arrays["left.position"]) - points[packed.order])
    seen = arrays["left.position"].reshape(-1, 3)[:, 0] != HIDDEN
    assert (off[seen] <= np.array(header["scale"]) * 0.5001 + abs(shift) * 1e-12).all()


def test_a_six_metre_scene_is_exact_to_a_quarter_of_a_millimetre() -> None:
    header = pack_clouds(cloud()).header
    assert max(header["scale"]) / 2 < 2.5e-4  # type: ignore[call-overload]


def test_a_pair_of_the_same_pixels_takes_nine_bytes_a_point() -> None:
    left = cloud(20_000)
    right = CloudData(left.points + np.float32(0.1), left.colors, left.confidence, left.frame, left.cameras)
    assert len(pack_clouds(left, right).data) <= 2 * 20_000 * 9 + 4096


def test_two_clouds_that_share_nothing_take_at_most_twelve_bytes_a_point() -> None:
    assert len(pack_clouds(cloud(20_000), cloud(20_001, seed=5)).data) <= 40_001 * 12 + 4096


def test_both_clouds_of_a_pair_are_shuffled_alike() -> None:
    left = cloud()
    right = CloudData(left.points + np.float32(0.25), left.colors)
    packed = pack_clouds(left, right)
    header, arrays = unpack(packed.data)
    step = decoded(header, arrays["right.position"]) - decoded(header, arrays["left.position"])
    assert np.allclose(step, 0.25, atol=2 * max(header["scale"]))
    assert np.array_equal(arrays["left.color"].reshape(-1, 3), left.colors[packed.order])
    assert np.array_equal(np.sort(packed.order), np.arange(400))
    assert not np.array_equal(packed.order, np.arange(400))


def test_one_box_holds_both_clouds() -> None:
    header, arrays = unpack(pack_clouds(cloud(), cloud(300, shift=4.0)).data)
    assert header["left"]["outside"] == header["right"]["outside"] == 0
    assert decoded(header, arrays["right.position"]).max() > 6


def test_far_outliers_are_hidden_and_counted_and_do_not_eat_the_range() -> None:
    points = cloud().points.copy()
    points[:2], points[2] = 1e6, np.nan
    packed = pack_clouds(CloudData(points, cloud().colors))
    header, arrays = unpack(packed.data)
    hidden = (arrays["left.position"].reshape(-1, 3) == HIDDEN).all(axis=1)
    assert set(packed.order[hidden]) == {0, 1, 2}
    assert header["left"]["outside"] == 3
    assert max(header["scale"]) < 1e-3


def test_the_paired_error_is_the_distance_to_a_255th_of_the_scale() -> None:
    left = cloud()
    move = np.linspace(0, 1, 400)[:, None] * np.array([0.6, 0.0, 0.8])
    packed = pack_clouds(left, CloudData(left.points + move, left.colors), error_max=1.0)
    header, arrays = unpack(packed.data)
    assert header["error"]["max"] == 1.0
    assert np.abs(arrays["error"] / 255 - np.linspace(0, 1, 400)[packed.order]).max() <= 0.5 / 255 + 1e-6


def test_errors_above_the_scale_saturate_and_what_is_not_finite_counts_as_the_worst() -> None:
    codes, top = encode_error(np.array([0.0, 5.0, np.nan, np.inf]), 2.0)
    assert (codes.tolist(), top) == ([0, 255, 255, 255], 2.0)


def test_two_equal_clouds_have_no_error_and_still_a_scale() -> None:
    header, arrays = unpack(pack_clouds(cloud(), cloud()).data)
    assert not arrays["error"].any()
    assert header["error"]["max"] > 0


@pytest.mark.parametrize("percent", [0, 10, 25, 50, 90])
def test_hiding_the_lowest_percent_hides_that_many_points(percent: int) -> None:
    values = np.random.default_rng(3).random(1000)
    kept = encode_confidence(values) >= percent * 2.56
    assert abs(kept.mean() - (1 - percent / 100)) < 0.005
    assert values[kept].min() > values[~kept].max(initial=-1)


def test_a_constant_confidence_hides_nothing() -> None:
    assert (encode_confidence(np.ones(50)) == 255).all()


def test_a_limit_keeps_an_even_sample_of_that_size() -> None:
    packed = pack_clouds(cloud(), limit=100)
    assert len(packed.order) == len(set(packed.order)) == 100
    assert unpack(packed.data)[0]["left"]["count"] == 100


def test_equal_input_gives_equal_bytes() -> None:
    assert pack_clouds(cloud(), cloud(seed=2)).data == pack_clouds(cloud(), cloud(seed=2)).data


def test_a_camera_that_is_not_finite_does_not_move_the_numbers_of_the_others() -> None:
    poses = np.tile(np.eye(4), (3, 1, 1))
    poses[1, 0, 0] = np.nan
    base = cloud()
    header, _ = unpack(pack_clouds(CloudData(base.points, base.colors, cameras=CameraData(poses))).data)
    assert [camera is None for camera in header["left"]["cameras"]] == [False, True, False]


def test_a_camera_that_sees_nothing_is_left_out() -> None:
    intrinsics = np.tile(np.array([[50.0, 0, 20], [0, 50, 15], [0, 0, 1]]), (2, 1, 1))
    intrinsics[1, 0, 0] = intrinsics[1, 1, 1] = np.inf
    cameras = CameraData(np.tile(np.eye(4), (2, 1, 1)), intrinsics, (40, 30))
    header, _ = unpack(pack_clouds(CloudData(cloud().points, cloud().colors, cameras=cameras)).data)
    assert [camera is None for camera in header["left"]["cameras"]] == [False, True]


@pytest.mark.parametrize(("size", "told"), [(4.0, 4.0), (0.0, None), (float("nan"), None), (None, None)])
def test_the_size_of_the_scene_travels_where_it_is_one(size: float | None, told: float | None) -> None:
    assert pack_clouds(cloud(), size=size).header["size"] == told


@pytest.mark.parametrize(
    ("changed", "place"),
    [
        ({"colors": np.zeros((3, 3), np.uint8)}, "left.colors"),
        ({"confidence": np.zeros(3)}, "left.confidence"),
        ({"frame": np.full(400, -1)}, "left.frame"),
        ({"points": np.zeros((0, 3)), "colors": np.zeros((0, 3), np.uint8)}, "left"),
        ({"points": np.full((400, 3), np.nan)}, "points"),
    ],
)
def test_wrong_clouds_are_refused_with_the_place(changed: dict[str, Any], place: str) -> None:
    fields = {"points": cloud().points, "colors": cloud().colors} | changed
    with pytest.raises(NumericError) as caught:
        pack_clouds(CloudData(**fields))
    assert caught.value.place == place


def test_an_error_without_a_pair_is_refused() -> None:
    with pytest.raises(NumericError, match="pair"):
        pack_clouds(cloud(), cloud(300), error=np.zeros(400))
