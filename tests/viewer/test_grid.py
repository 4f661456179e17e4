"""Points that know their pixel at no bytes: the shuffle, the grid, the pictures and what is refused."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from quantlab.errors import NumericError
from quantlab.viewer.pack import CloudData, pack_clouds
from quantlab.viewer.pictures import encode_pictures
from quantlab.viewer.shuffle import MOST, shuffled

GRID = (3, 40, 50)


def picture_cloud(grid: tuple[int, int, int] = GRID, **changed: Any) -> CloudData:
    count = int(np.prod(grid))
    rng = np.random.default_rng(0)
    fields = {
        "points": rng.normal(size=(count, 3)).astype(np.float32),
        "colors": rng.integers(0, 256, (count, 3), dtype=np.uint8),
        "confidence": rng.random(count),
        "frame": np.repeat(np.arange(grid[0]), grid[1] * grid[2]),
    }
    return CloudData(**(fields | changed))


@settings(max_examples=60, deadline=None)
@given(count=st.integers(0, 5000))
def test_the_shuffle_visits_every_number_once(count: int) -> None:
    assert np.array_equal(np.sort(shuffled(count)), np.arange(count))


@given(count=st.integers(1, 3000), part=st.floats(0, 1))
def test_a_limit_gives_the_beginning_of_the_same_order(count: int, part: float) -> None:
    limit = int(part * count)
    assert np.array_equal(shuffled(count, limit), shuffled(count)[:limit])


@pytest.mark.parametrize("part", [600, 6000, 60_000])
def test_every_beginning_is_an_even_sample_of_the_pictures(part: int) -> None:
    frames, height, width = 4, 192, 256
    frame, pixel = np.divmod(shuffled(frames * height * width)[:part], height * width)
    row, column = np.divmod(pixel, width)
    cells = np.zeros((frames, 4, 4))
    np.add.at(cells, (frame, row * 4 // height, column * 4 // width), 1)
    expected = part / cells.size
    surprise = ((cells - expected) ** 2 / expected).sum() / (cells.size - 1)
    assert surprise < 1.8, "chi squared per degree of freedom; beyond 1.8 one even sample in 10 000 lies"


def test_too_many_points_are_refused() -> None:
    with pytest.raises(NumericError):
        shuffled(MOST + 1)


def test_a_pair_with_a_grid_takes_at_most_ten_bytes_a_point() -> None:
    left = picture_cloud()
    right = picture_cloud(points=left.points + np.float32(0.1))
    packed = pack_clouds(left, right, grid=GRID)
    assert len(packed.data) <= 10 * 2 * len(left.points)
    assert len(packed.data) > 8 * 2 * len(left.points)


def test_with_a_grid_the_order_is_the_shared_shuffle_and_frames_are_not_sent() -> None:
    packed = pack_clouds(picture_cloud(), grid=GRID, limit=500)
    assert np.array_equal(packed.order, shuffled(6000, 500))
    assert packed.header["grid"] == [3, 40, 50]
    assert packed.header["frames"] == 3
    assert "frame" not in packed.header["left"]  # type: ignore[operator]


def test_the_pictures_travel_as_they_were_given() -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (3, 40, 50, 3), dtype=np.uint8)
    images = encode_pictures(pixels)
    packed = pack_clouds(picture_cloud(), grid=GRID, images=images)
    length = int.from_bytes(packed.data[8:12], "little")
    for place, image in zip(packed.header["images"], images, strict=True):  # type: ignore[call-overload]
        start = 12 + length + place["at"]
        sent = packed.data[start : start + place["size"]]
        assert sent == image
        assert Image.open(io.BytesIO(sent)).size == (50, 40)


def test_the_legend_learns_the_kind_of_the_error() -> None:
    left, right = picture_cloud(), picture_cloud()
    assert pack_clouds(left, right).header["error"]["name"] == "paired"  # type: ignore[index]
    named = pack_clouds(left, right, error_name="nearest neighbour")
    assert named.header["error"]["name"] == "nearest neighbour"  # type: ignore[index]


@pytest.mark.parametrize(
    ("options", "place"),
    [
        ({"grid": (3, 40, 49)}, "grid"),
        ({"grid": (-3, -40, 50)}, "grid"),
        ({"grid": (2, 60, 50)}, "grid"),
        ({"images": [b"\xff\xd8"] * 3}, "images"),
        ({"grid": GRID, "images": [b"\xff\xd8"] * 2}, "images"),
        ({"grid": GRID, "images": [b"\xff\xd8", b"\xff\xd8", b"<svg>"]}, "images[2]"),
    ],
)
def test_what_does_not_fit_the_clouds_is_refused_with_its_place(options: dict[str, Any], place: str) -> None:
    with pytest.raises(NumericError) as caught:
        pack_clouds(picture_cloud(), **options)
    assert caught.value.place == place
