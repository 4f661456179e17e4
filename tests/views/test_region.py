"""A region from a browser: what the viewer sends is read bit for bit, and everything else is refused."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from quantlab.errors import SceneError
from quantlab.views.region import region_from

SHAPE = (2, 3, 5)


def event(region: NDArray[np.bool_]) -> dict[str, Any]:
    """As the viewer sends it."""
    packed = np.packbits(region.reshape(-1), bitorder="little").tobytes()
    frames, height, width = region.shape
    mask = base64.b64encode(packed).decode() if region.any() else ""
    return {"type": "region", "frames": frames, "height": height, "width": width, "mask": mask}


@given(
    shape=st.tuples(st.integers(1, 4), st.integers(1, 9), st.integers(1, 9)),
    seed=st.integers(0, 2**31),
)
def test_every_region_comes_back_as_it_was_drawn(shape: tuple[int, int, int], seed: int) -> None:
    region = np.random.default_rng(seed).random(shape) < 0.4
    np.testing.assert_array_equal(region_from(event(region), shape), region)


def test_the_first_bit_is_the_first_pixel_and_columns_run_fastest() -> None:
    region = np.zeros(SHAPE, dtype=bool)
    region[0, 0, 1] = True
    packed = bytes([2, 0, 0, 0])
    drawn = region_from({**event(region), "mask": base64.b64encode(packed).decode()}, SHAPE)
    assert drawn[0, 0, 1]
    assert drawn.sum() == 1


def test_a_region_that_was_wiped_is_empty_and_no_error() -> None:
    assert not region_from({**event(np.ones(SHAPE, dtype=bool)), "mask": ""}, SHAPE).any()


GOOD = event(np.ones(SHAPE, dtype=bool))


@pytest.mark.bad_input
@pytest.mark.parametrize(
    "message",
    [
        None,
        "region",
        [],
        {},
        {**GOOD, "frames": 3},
        {**GOOD, "height": 5, "width": 3},
        {**GOOD, "frames": True},
        {**GOOD, "frames": 2.0},
        {**GOOD, "frames": "2"},
        {**GOOD, "width": -5},
        {**GOOD, "width": 10**30},
        {**GOOD, "mask": None},
        {**GOOD, "mask": 7},
        {**GOOD, "mask": b"AAAA"},
        {**GOOD, "mask": ["A"]},
        {**GOOD, "mask": "AAAA"},
        {**GOOD, "mask": "AAAAAAAA" * 4},
        {**GOOD, "mask": "A" * (1 << 22)},
        {**GOOD, "mask": "!!!!AA=="},
        {**GOOD, "mask": "AAAAAAA="},
        {**GOOD, "mask": "A" * 8},
        {**GOOD, "mask": "\u00e4" * 8},
        {**GOOD, "mask": "====AAAA"},
        {**GOOD, "mask": base64.b64encode(b"\xff\xff\xff\xff").decode()},
    ],
)
def test_what_no_viewer_sends_is_refused(message: Any) -> None:
    with pytest.raises(SceneError, match="region"):
        region_from(message, SHAPE)
