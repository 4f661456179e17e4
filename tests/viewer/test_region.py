"""The region: what a line around points or pixels marks, how it is told, and how it is shown from outside."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
import pytest

pytestmark = pytest.mark.browser
PATH = [(90, 170), (180, 150), (300, 210), (330, 320), (210, 380), (120, 300)]
SIZE = 4 * 96 * 96


def mask_of(event: Any) -> np.ndarray:
    """The mask [4, 96, 96] of a region event, by numpy's own reader of bits."""
    assert (event["frames"], event["height"], event["width"]) == (4, 96, 96)
    raw = np.frombuffer(base64.b64decode(event["mask"]), np.uint8)
    return np.unpackbits(raw, count=SIZE, bitorder="little").astype(bool).reshape(4, 96, 96)


def text_of(mask: np.ndarray) -> str:
    return base64.b64encode(np.packbits(mask.reshape(-1), bitorder="little").tobytes()).decode()


def last_region(desk: Any) -> Any:
    return desk.evaluate("events.filter(event => event.type === 'region').at(-1)")


def draw(desk: Any, path: list[tuple[float, float]], *held: str) -> None:
    """Draw a line over the left pane, corner by corner, with keys held."""
    box = desk.locator(".stage").bounding_box()
    for key in held:
        desk.keyboard.down(key)
    desk.mouse.move(box["x"] + path[0][0], box["y"] + path[0][1])
    desk.mouse.down()
    for x, y in path[1:]:
        desk.mouse.move(box["x"] + x, box["y"] + y)
    desk.mouse.up()
    for key in held:
        desk.keyboard.up(key)


def lasso(desk: Any, path: list[tuple[float, float]], *held: str) -> np.ndarray:
    desk.locator(".stage > canvas").focus()
    desk.keyboard.press("l")
    draw(desk, path, *held)
    return mask_of(last_region(desk)).reshape(-1)


def visible(known: Any, seen_from: Any, desk: Any, confidence: int = 10) -> tuple[np.ndarray, np.ndarray]:
    """Where the points lie in the left pane [N, 3], and which of them the filters let through [N]."""
    stage = desk.locator(".stage").bounding_box()
    width, height = stage["width"] // 2, stage["height"]
    with np.errstate(invalid="ignore"):
        seen = seen_from(known.left, width, height)
        shown = (known.confidence >= confidence * 2.56) & (seen[:, 2] > 0)
        shown &= (seen[:, 0] >= 0) & (seen[:, 0] <= width) & (seen[:, 1] >= 0) & (seen[:, 1] <= height)
    return seen, shown


def pixels(known: Any, chosen: np.ndarray) -> np.ndarray:
    mask = np.zeros(SIZE, bool)
    mask[known.order[chosen]] = True
    return mask


def test_a_line_through_everything_marks_what_numpy_projects_inside(
    desk: Any, known: Any, seen_from: Any, within: Any
) -> None:
    seen, shown = visible(known, seen_from, desk)
    expected = pixels(known, shown & within(PATH, seen))
    assert 1000 < expected.sum() < SIZE / 2
    assert np.array_equal(lasso(desk, PATH, "Alt"), expected)


def test_a_line_marks_only_what_is_seen(desk: Any, known: Any, seen_from: Any, within: Any) -> None:
    seen, shown = visible(known, seen_from, desk)
    cells = np.floor(np.nan_to_num(seen[:, :2]) / 8).astype(int)
    nearest: dict[tuple[int, int], float] = {}
    for cell, depth in zip(map(tuple, cells[shown]), seen[shown, 2], strict=True):
        nearest[cell] = min(depth, nearest.get(cell, np.inf))
    front = np.array(
        [depth <= 1.1 * nearest.get(tuple(c), 0) for c, depth in zip(cells, seen[:, 2], strict=True)]
    )
    through = shown & within(PATH, seen)
    expected = pixels(known, through & front)
    assert expected.sum() < through.sum()
    assert np.array_equal(lasso(desk, PATH), expected)


def test_a_line_marks_only_shown_frames_and_sure_points(
    desk: Any, known: Any, seen_from: Any, within: Any
) -> None:
    desk.evaluate("viewer.setFrames([0, 2]); viewer.setConfidence(40)")
    seen, shown = visible(known, seen_from, desk, confidence=40)
    shown &= np.isin(known.order // (96 * 96), [0, 2])
    assert np.array_equal(lasso(desk, PATH, "Alt"), pixels(known, shown & within(PATH, seen)))


def test_shift_adds_and_ctrl_takes_away(desk: Any) -> None:
    other = [(x + 90, y - 20) for x, y in PATH]
    first, second = lasso(desk, PATH, "Alt"), lasso(desk, other, "Alt")
    lasso(desk, PATH, "Alt")
    assert np.array_equal(lasso(desk, other, "Alt", "Shift"), first | second)
    desk.keyboard.press("Escape")
    assert np.array_equal(lasso(desk, PATH, "Alt", "Control"), second & ~first)


def test_while_the_tool_is_on_the_camera_rests_and_after_one_line_it_is_off(desk: Any) -> None:
    before = desk.evaluate("viewer.getCamera()")
    desk.get_by_role("button", name="lasso").click()
    assert desk.get_by_text("Draw around the region").is_visible()
    draw(desk, PATH)
    assert desk.evaluate("viewer.getCamera()") == before
    assert desk.get_by_role("button", name="lasso").get_attribute("aria-pressed") == "false"
    draw(desk, PATH)
    assert desk.evaluate("viewer.getCamera()") != before


def test_a_line_on_a_picture_marks_the_pixels_whose_centres_it_holds(desk: Any, within: Any) -> None:
    box = desk.locator(".picture").nth(1).bounding_box()
    corners = [(20.3, 30.2), (70.4, 25.1), (80.2, 60.3), (40.6, 80.7)]
    page = [(box["x"] + x / 96 * box["width"], box["y"] + y / 96 * box["height"]) for x, y in corners]
    desk.mouse.move(*page[0])
    desk.mouse.down()
    for place in page[1:]:
        desk.mouse.move(*place)
    desk.mouse.up()
    row, column = np.divmod(np.arange(96 * 96), 96)
    expected = np.zeros((4, 96, 96), bool)
    expected[1] = within(corners, np.stack([column, row], 1) + 0.5).reshape(96, 96)
    found = mask_of(last_region(desk))
    assert (found != expected).sum() <= 2, "a pointer's place is rounded to parts of a pixel"
    assert expected.sum() > 1500


def test_enter_on_a_focused_picture_marks_a_rectangle(desk: Any) -> None:
    desk.locator(".picture").nth(3).focus()
    for key in ("ArrowRight", "Enter", "Shift+ArrowRight", "ArrowDown", "ArrowDown", "Enter"):
        desk.keyboard.press(key)
    marked = np.argwhere(mask_of(last_region(desk)))
    assert len(marked) == 3 * 11
    assert (marked.max(0) - marked.min(0)).tolist() == [0, 2, 10]


def test_a_region_set_from_outside_tints_both_clouds_and_the_pictures_and_is_no_event(
    desk: Any, screen_of: Any
) -> None:
    before = screen_of(desk).pixels()
    mask = np.zeros((4, 96, 96), bool)
    mask[:, 40:80, 20:70] = True
    desk.evaluate("mask => viewer.setRegion(mask)", text_of(mask))
    after = screen_of(desk).pixels()
    half = before.shape[1] // 2
    for pane in (slice(0, half), slice(half, None)):
        changed = np.abs(after[:, pane] - before[:, pane]).max(-1) > 8
        assert 0.02 < changed.mean() < 0.6
        assert (after[:, pane][changed][:, 0] > after[:, pane][changed][:, 1]).mean() > 0.99, (
            "towards magenta"
        )
    assert desk.get_by_text("region of 8\u202f000 pixels").is_visible()
    tinted = desk.evaluate(
        """[...viewer.root.querySelectorAll('.tint')].map(canvas =>
           canvas.getContext('2d').getImageData(0, 0, 96, 96).data.filter((v, i) => i % 4 === 3 && v > 0).length)"""
    )
    assert tinted == [2000] * 4
    assert last_region(desk) is None
    desk.evaluate("viewer.setRegion(null)")
    assert np.array_equal(screen_of(desk).pixels(), before)


def test_escape_or_the_button_clears_the_region_and_says_so(desk: Any) -> None:
    lasso(desk, PATH)
    desk.keyboard.press("Escape")
    assert last_region(desk)["mask"] == ""
    lasso(desk, PATH)
    desk.get_by_role("button", name="Clear the region").click()
    assert last_region(desk)["mask"] == ""
    assert desk.get_by_role("button", name="Clear the region").count() == 0


def test_new_values_of_the_same_pixels_keep_the_region(desk: Any, known: Any) -> None:
    lasso(desk, PATH)
    size = desk.evaluate("viewer.region.size")
    desk.evaluate("load('grid.bin')")
    assert desk.evaluate("viewer.region.size") == size
    desk.evaluate("load('pair.bin')")
    desk.wait_for_function("() => viewer.region.size === 0")
    assert desk.get_by_role("button", name="lasso").is_disabled()


def test_a_region_of_other_pictures_is_refused(desk: Any) -> None:
    told = desk.evaluate(
        "() => { try { viewer.setRegion('AAAA'); } catch (error) { return error.message; } }"
    )
    assert "another size" in told
