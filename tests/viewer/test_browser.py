"""The 3D comparison in a real browser: what is seen, and what keys, mouse and fingers do to it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

pytestmark = pytest.mark.browser


def test_both_clouds_are_drawn_by_one_context(page: Any, screen: Any) -> None:
    screen.show()
    picture = screen.pixels()
    half = picture.shape[1] // 2
    assert screen.share(picture[:, : half - 2]) > 0.4
    assert screen.share(picture[:, half + 2 :]) > 0.4
    stats = page.evaluate("viewer.stats()")
    assert (stats["contexts"], stats["points"]) == (1, [36864, 36864])
    assert page.get_by_text("full precision", exact=True).is_visible()
    assert page.get_by_text("quantized", exact=True).is_visible()


def test_colours_on_the_screen_are_those_of_the_pictures(page: Any, screen: Any) -> None:
    screen.show()
    half = screen.pixels()[:, :398].reshape(-1, 3)
    brick = np.array([176, 96, 64]) * 0.9
    assert (np.abs(half - brick).max(1) <= 2).mean() > 0.003


def test_the_first_view_is_that_of_the_first_camera_from_behind_and_above(page: Any, screen: Any) -> None:
    screen.show()
    camera = page.evaluate("viewer.getCamera()")
    ahead = np.subtract(camera["target"], camera["position"])
    assert abs(ahead[0]) < 1e-6 * np.linalg.norm(ahead)
    assert 0 < ahead[1] < 0.3 * ahead[2]
    assert np.allclose(camera["up"], [0, -1, 0], atol=1e-6)


def reach(picture: np.ndarray) -> tuple[float, float, float, float]:
    """Where what is drawn begins and ends, as shares of the picture: left, right, top, bottom."""
    drawn = np.abs(picture - np.array([0xF5, 0xF6, 0xF7])).max(-1) > 8
    columns, rows = np.flatnonzero(drawn.mean(0) > 0.01), np.flatnonzero(drawn.mean(1) > 0.01)
    height, width = drawn.shape
    return columns[0] / width, columns[-1] / width, rows[0] / height, rows[-1] / height


@pytest.mark.parametrize("size", [(1200, 440), (500, 640)], ids=["wide", "tall"])
def test_the_first_view_fits_the_cloud_into_a_pane_of_any_shape(
    page: Any, screen: Any, size: tuple[int, int]
) -> None:
    page.set_viewport_size({"width": size[0], "height": size[1]})
    page.evaluate("viewer.setCameras(false); viewer.setMode('flip'); viewer.setShown(0)")
    screen.show()
    picture = screen.pixels()
    left, right, top, bottom = reach(picture)
    assert max(right - left, bottom - top) > 0.75
    assert abs(left + right - 1) < 0.15
    assert abs(top + bottom - 1) < 0.15
    assert screen.share(np.concatenate([picture[0], picture[-1], picture[:, 0], picture[:, -1]])[None]) < 0.1


def test_the_first_view_follows_the_size_until_somebody_moves_it(page: Any, screen: Any) -> None:
    screen.show()
    before = page.evaluate("viewer.getCamera()")
    page.set_viewport_size({"width": 1200, "height": 440})
    screen.settle()
    refitted = page.evaluate("viewer.getCamera()")
    assert refitted != before
    page.locator(".stage > canvas").focus()
    page.keyboard.press("ArrowLeft")
    turned = page.evaluate("viewer.getCamera()")
    page.set_viewport_size({"width": 800, "height": 440})
    screen.settle()
    assert page.evaluate("viewer.getCamera()") == turned


@pytest.mark.parametrize("fault", ["small", "large", "far", "behind", "narrow", "blind"])
def test_a_cloud_is_seen_whatever_its_size_and_wherever_its_cameras_are(
    page: Any, screen: Any, fault: str
) -> None:
    page.evaluate("viewer.setMode('flip'); viewer.setShown(0); viewer.setConfidence(0)")
    screen.show(f"{fault}.bin")
    assert screen.share(screen.pixels()) > 0.15
    page.evaluate("viewer.setCameras(false)")
    left, right, top, bottom = reach(screen.pixels())
    assert max(right - left, bottom - top) > 0.6


def test_dragging_one_side_turns_both_and_tells_the_listeners(page: Any, screen: Any) -> None:
    screen.show()
    before = screen.pixels()
    page.mouse.move(600, 240)
    page.mouse.down()
    page.mouse.move(480, 220, steps=4)
    page.mouse.up()
    screen.settle()
    after = screen.pixels()
    half = before.shape[1] // 2
    for columns in (slice(0, half), slice(half, None)):
        assert (np.abs(after[:, columns] - before[:, columns]).max(-1) > 8).mean() > 0.1
    events = page.evaluate("events.filter(e => e.type === 'camera')")
    assert events[-1]["camera"]["position"] == pytest.approx(page.evaluate("viewer.getCamera().position"))


def test_new_values_of_the_same_scene_keep_the_camera_and_another_scene_does_not(
    page: Any, screen: Any
) -> None:
    screen.show()
    page.locator(".stage > canvas").focus()
    for key in ("ArrowLeft", "ArrowLeft", "ArrowUp", "+"):
        page.keyboard.press(key)
    turned = page.evaluate("viewer.getCamera()")
    screen.show("better.bin")
    assert page.evaluate("viewer.getCamera()") == turned
    screen.show("other.bin")
    assert page.evaluate("viewer.getCamera()") != turned


def test_a_camera_that_was_read_can_be_set_again(page: Any, screen: Any) -> None:
    screen.show()
    page.locator(".stage > canvas").focus()
    page.keyboard.press("ArrowLeft")
    screen.settle()
    camera, turned = page.evaluate("viewer.getCamera()"), screen.pixels()
    page.keyboard.press("r")
    screen.settle()
    assert np.abs(screen.pixels() - turned).max() > 50
    page.evaluate("camera => viewer.setCamera(camera)", camera)
    screen.settle()
    assert np.abs(screen.pixels() - turned).mean() < 0.05


def test_swipe_shows_one_view_cut_at_the_divider(page: Any, screen: Any) -> None:
    screen.show()
    page.evaluate("viewer.setCameras(false)")
    pictures = {}
    for side in (0, 1):
        page.evaluate("side => { viewer.setMode('flip'); viewer.setShown(side); }", side)
        pictures[side] = screen.pixels()
    page.get_by_role("button", name="swipe").click()
    page.get_by_role("slider", name="Divider").hover()
    page.mouse.down()
    page.mouse.move(200, 240, steps=3)
    page.mouse.up()
    swiped = screen.pixels()
    assert np.array_equal(swiped[:, :190], pictures[0][:, :190])
    assert np.array_equal(swiped[:, 210:], pictures[1][:, 210:])
    assert not np.array_equal(pictures[0], pictures[1])


def test_the_keys_a_and_b_flip_between_the_clouds(page: Any, screen: Any) -> None:
    screen.show()
    page.locator(".stage > canvas").focus()
    page.keyboard.press("a")
    assert (page.evaluate("viewer.stats().mode"), page.evaluate("viewer.stats().shown")) == ("flip", 0)
    assert page.get_by_text("full precision A").is_visible()
    full = screen.pixels()
    page.keyboard.press("b")
    assert page.get_by_text("quantized B").is_visible()
    assert (np.abs(screen.pixels() - full).max(-1) > 8).mean() > 0.02


def test_the_error_map_recolours_only_the_right_cloud_and_shows_its_scale(page: Any, screen: Any) -> None:
    screen.show()
    before = screen.pixels()
    page.get_by_role("button", name="error").click()
    screen.settle()
    after = screen.pixels()
    half = before.shape[1] // 2
    assert np.array_equal(after[:, : half - 1], before[:, : half - 1])
    assert (np.abs(after[:, half:] - before[:, half:]).max(-1) > 8).mean() > 0.3
    assert page.get_by_text("distance to full precision, scene units").is_visible()


def test_where_the_size_of_the_scene_is_known_distances_are_shares_of_it(page: Any, screen: Any) -> None:
    screen.show("sized.bin")
    page.get_by_role("button", name="error").click()
    assert page.get_by_text("distance to full precision, % of the scene").is_visible()
    assert page.get_by_text("\u2265 10", exact=True).is_visible()
    page.mouse.click(200, 260)
    assert "% of the scene apart" in page.locator(".probe").inner_text()


def test_frames_and_confidence_hide_points(page: Any, screen: Any) -> None:
    screen.show()
    page.evaluate("viewer.setCameras(false); viewer.setConfidence(0)")
    everything = screen.share(screen.pixels())
    page.get_by_role("button", name="Frame 1", exact=True).click(modifiers=["Alt"])
    alone = screen.share(screen.pixels())
    assert 0.1 < alone < everything
    assert page.evaluate("viewer.state.frames") == [0]
    page.evaluate("viewer.setFrames(null); viewer.setConfidence(80)")
    assert screen.share(screen.pixels()) < 0.8 * everything


def test_a_click_finds_the_pair_and_the_distance_between_its_points(page: Any, screen: Any) -> None:
    screen.show()
    page.mouse.click(200, 260)
    event = page.evaluate("events.filter(e => e.type === 'pick').at(-1)")
    assert event["side"] == 0
    assert event["index"] >= 0
    apart = math.dist(event["left"], event["right"])
    top = page.evaluate("viewer.data.meta.error.max")
    assert event["error"] == pytest.approx(min(apart, top), abs=top / 255)
    assert page.locator(".ring:visible").count() == 2
    page.keyboard.press("Escape")
    assert page.locator(".ring:visible").count() == 0


def test_nothing_is_drawn_while_nothing_changes(page: Any, screen: Any) -> None:
    screen.show()
    before = page.evaluate("viewer.stats().renders")
    page.wait_for_timeout(400)
    assert page.evaluate("viewer.stats().renders") == before


def test_a_device_too_slow_for_a_drag_draws_fewer_points_until_the_camera_rests(
    page: Any, screen: Any
) -> None:
    screen.show()
    details = page.evaluate(
        """async () => {
          const { cadence } = viewer, draw = cadence.draw, seen = [];
          const busy = (until) => { while (performance.now() < until); };
          cadence.draw = () => { draw(); busy(performance.now() + 220); };
          for (let i = 0; i < 6; i++) {
            viewer.rig.turn(0.02, 0);
            await new Promise(requestAnimationFrame);
            seen.push([cadence.isMoving, cadence.detail, viewer.stats().drawn[0]]);
          }
          cadence.draw = draw;
          return seen;
        }"""
    )
    assert all(moving for moving, _, _ in details), "slow frames are no rest"
    assert details[-1][1] < 0.6
    assert details[-1][2] < details[0][2]
    page.wait_for_function("() => !viewer.cadence.isMoving && viewer.stats().drawn[0] === 36864")


def test_a_tap_probes_and_a_finger_turns(page: Any, screen: Any) -> None:
    screen.show()
    fingers = page.context.new_cdp_session(page)

    def touch(kind: str, *places: tuple[int, int]) -> None:
        points = [{"x": x, "y": y} for x, y in places]
        fingers.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    touch("touchStart", (200, 260))
    touch("touchEnd")
    page.wait_for_function("() => events.some(event => event.type === 'pick' && event.index >= 0)")
    before = page.evaluate("viewer.getCamera()")
    touch("touchStart", (200, 240))
    touch("touchMove", (230, 240))
    touch("touchMove", (260, 240))
    touch("touchEnd")
    assert page.evaluate("viewer.getCamera()") != before
