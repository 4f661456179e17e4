"""Scene and Truth refuse what does not fit together (fault I14)."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from quantlab.errors import SceneError
from quantlab.scenes.scene import Scene, Truth


def images(count: int = 2, height: int = 4, width: int = 6) -> tuple[np.ndarray, ...]:
    return tuple(np.zeros((height, width, 3), np.uint8) for _ in range(count))


def parts(count: int = 2, height: int = 4, width: int = 6) -> dict[str, np.ndarray]:
    return {
        "camera_from_world": np.tile(np.eye(4), (count, 1, 1)),
        "intrinsics": np.tile(np.diag([5.0, 5.0, 1.0]), (count, 1, 1)),
        "depth": np.ones((count, height, width)),
        "points": np.zeros((count, height, width, 3)),
    }


def test_truth_has_the_stated_dtypes_and_knows_where_it_knows():
    given = parts()
    given["depth"][0, 0, 0] = 0
    given["depth"][0, 0, 1] = np.nan
    given["points"][1, 0, 0, 2] = np.inf
    truth = Truth(**given)
    assert [truth.camera_from_world.dtype, truth.intrinsics.dtype] == [np.float64] * 2
    assert [truth.depth.dtype, truth.points.dtype] == [np.float32] * 2
    assert truth.mask.sum() == 2 * 4 * 6 - 3
    assert len(truth) == 2


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("camera_from_world", lambda p: p * 1.1),
        ("camera_from_world", lambda p: p * [[-1], [1], [1], [1]]),
        ("camera_from_world", lambda p: p * np.nan),
        ("camera_from_world", lambda p: p + np.eye(4)[[3]].T @ [[1, 0, 0, 0]]),
        ("camera_from_world", lambda p: p[:, :3]),
        ("camera_from_world", lambda p: p[:0]),
        ("camera_from_world", lambda _: "poses"),
        ("intrinsics", lambda p: -p),
        ("intrinsics", lambda p: p[:1]),
        ("depth", lambda p: p[:1]),
        ("depth", lambda p: p[..., None]),
        ("points", lambda p: p[:, :2]),
    ],
)
def test_truth_that_cannot_be_true_is_refused_by_name(name, damage):
    given = parts()
    given[name] = damage(given[name])
    with pytest.raises(SceneError) as caught:
        Truth(**given)
    assert caught.value.place in parts()
    assert caught.value.remedy


def test_fewer_poses_than_images_are_refused():
    with pytest.raises(SceneError, match="3 images but 2 true poses"):
        Scene("room", images(3), Truth(**parts(2)))


def test_truth_of_another_size_than_an_image_is_refused():
    with pytest.raises(SceneError, match="image 1"):
        Scene("room", (*images(1), *images(1, height=5)), Truth(**parts(2)))


@pytest.mark.parametrize(
    "given",
    [
        (),
        (np.zeros((4, 6), np.uint8),),
        (np.zeros((4, 6, 3), np.float32),),
        (np.zeros((4, 6, 4), np.uint8),),
        (np.zeros((0, 6, 3), np.uint8),),
        ("picture.jpg",),
    ],
)
def test_what_is_no_picture_is_refused(given):
    with pytest.raises(SceneError) as caught:
        Scene("room", given)
    assert "room" in caught.value.place


def test_sizes_may_differ_where_there_is_no_truth_and_a_list_becomes_a_tuple():
    scene = Scene("photos", [*images(1), *images(1, height=9)])
    assert isinstance(scene.images, tuple)
    assert len(scene) == 2
    with pytest.raises(dataclasses.FrozenInstanceError):
        scene.name = "other"
