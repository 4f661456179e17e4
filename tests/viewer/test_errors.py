"""The error map's legend: its histogram, and the brush that hides what lies outside a range."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from quantlab.viewer.pack import pack_clouds

pytestmark = pytest.mark.browser
TOP = 0.25  # scene units at the end of the scale of grid.bin; its scene has a size of 5


def error_mode(desk: Any) -> None:
    desk.locator(".stage > canvas").focus()
    desk.keyboard.press("4")


def brush(desk: Any, low: float, high: float) -> list[int]:
    """Drag over a part of the histogram (shares of its width) -> the two codes."""
    box = desk.locator(".plot").bounding_box()
    desk.mouse.move(box["x"] + low * box["width"], box["y"] + 8)
    desk.mouse.down()
    desk.mouse.move(box["x"] + high * box["width"], box["y"] + 8, steps=3)
    desk.mouse.up()
    return [
        int(handle.get_attribute("aria-valuenow"))
        for handle in desk.get_by_role("slider", name="distance shown").all()
    ]


def shown(desk: Any, side: str) -> np.ndarray:
    return np.array(
        desk.evaluate(
            "side => { const cloud = viewer.data[side], passes = viewer.filter();"
            " return [...Array(cloud.count).keys()].filter(i => passes(cloud, i)); }",
            side,
        )
    )


def test_the_brush_hides_exactly_the_points_outside_on_both_sides(desk: Any, known: Any) -> None:
    error_mode(desk)
    low, high = brush(desk, 0.2, 0.5)
    assert (low, high) == (pytest.approx(51, abs=1), pytest.approx(127, abs=1))
    kept = np.flatnonzero((known.error >= low) & (known.error <= high) & (known.confidence >= 25.6))
    assert 500 < len(kept) < 20_000
    assert np.array_equal(shown(desk, "left"), kept)
    assert np.array_equal(shown(desk, "right"), kept)
    count = f"{len(kept):,} of {(known.confidence >= 25.6).sum():,} points shown".replace(",", "\u202f")
    assert desk.get_by_text(count).is_visible()


def test_a_brush_over_errors_nobody_has_leaves_both_panes_empty(desk: Any, screen_of: Any) -> None:
    desk.evaluate("viewer.setRegion(null); viewer.setErrorRange([0.0005, 0.0009])")
    codes = desk.evaluate("viewer.data.right.error.some(code => code === 1)")
    assert not codes or screen_of.share(screen_of(desk).pixels()) > 0
    desk.evaluate("viewer.setErrorRange([0.00001, 0.00002])")
    assert screen_of.share(screen_of(desk).pixels()) == 0


def test_the_range_is_told_in_scene_units_and_the_end_of_the_scale_has_no_limit(desk: Any) -> None:
    error_mode(desk)
    low, high = brush(desk, 0.4, 0.999)
    event = desk.evaluate("events.filter(event => event.errorRange).at(-1)")
    assert event["errorRange"] == [pytest.approx(low / 255 * TOP), None]
    assert high == 255


def test_handles_move_by_keys_and_all_shows_everything_again(desk: Any) -> None:
    error_mode(desk)
    handle = desk.get_by_role("slider", name="The smallest distance shown")
    handle.focus()
    for key in ("PageUp", "ArrowRight", "ArrowRight", "ArrowLeft"):
        desk.keyboard.press(key)
    assert handle.get_attribute("aria-valuenow") == "17"
    assert handle.get_attribute("aria-valuetext") == "0.33 % of the scene"
    desk.get_by_role("button", name="all", exact=True).click()
    assert desk.evaluate("viewer.state.errorRange") is None
    assert desk.get_by_role("button", name="all", exact=True).count() == 0


def test_the_legend_stays_while_points_are_hidden_whatever_the_mode(desk: Any) -> None:
    error_mode(desk)
    brush(desk, 0.3, 0.6)
    desk.keyboard.press("1")
    assert desk.locator(".legend").is_visible()
    desk.keyboard.press("Escape")
    assert desk.evaluate("viewer.state.errorRange") is None
    assert not desk.locator(".legend").is_visible()


def test_the_legend_names_the_error_in_both_units_with_the_ends_of_its_scale(desk: Any) -> None:
    error_mode(desk)
    text = desk.locator(".legend").inner_text()
    assert "paired distance to full precision, % of the scene" in text
    assert "\u2265 5" in text
    assert "\u2265 0.25 scene units" in text


def test_the_kind_of_the_error_is_the_one_that_was_packed(desk: Any, room_of: Any, payload_into: Any) -> None:
    data = pack_clouds(
        room_of(side=24), room_of(side=24, noise=0.1), error_name="nearest neighbour", scene="n"
    ).data
    payload_into(desk, data)
    error_mode(desk)
    assert desk.get_by_text("nearest neighbour distance to full precision, scene units").is_visible()


def test_the_histogram_follows_the_frames_and_the_colours_run_one_way(desk: Any, known: Any) -> None:
    error_mode(desk)
    desk.evaluate("viewer.setFrames([1])")
    alone = (known.confidence >= 25.6) & (known.order // (96 * 96) == 1)
    assert desk.get_by_text(f"{alone.sum():,} points".replace(",", "\u202f"), exact=True).is_visible()
    ramp = np.array(
        desk.evaluate(
            """(() => { const bars = viewer.root.querySelector('.bars');
            return [...bars.getContext('2d').getImageData(0, bars.height - 2, bars.width, 1).data]; })()"""
        )
    ).reshape(-1, 4)[:, :3]
    luminance = ramp @ [0.2126, 0.7152, 0.0722]
    assert (np.diff(luminance) <= 1.5).all(), "on a light ground larger errors are darker, all the way"
    assert luminance[0] - luminance[-1] > 120
