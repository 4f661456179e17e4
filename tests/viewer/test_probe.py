"""A pixel and its two points: hovering, clicking and keys on the pictures, and the way back from the cloud."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
import pytest

from quantlab.viewer.pack import CloudData, pack_clouds
from quantlab.viewer.shuffle import shuffled

pytestmark = pytest.mark.browser
PIXEL = (1, 70, 80)  # frame, row, column: in the part of the room that the noise moved


def over(desk: Any, frame: int, row: int, column: int) -> tuple[float, float]:
    """Where on the page the centre of a pixel of a picture lies."""
    box = desk.locator(".picture").nth(frame).bounding_box()
    return box["x"] + (column + 0.5) / 96 * box["width"], box["y"] + (row + 0.5) / 96 * box["height"]


def last_pick(desk: Any) -> Any:
    return desk.evaluate("events.filter(event => event.type === 'pick').at(-1)")


@pytest.mark.parametrize("count", [1, 2, 7, 97, 6000])
def test_the_browser_computes_the_same_shuffle_as_numpy(desk: Any, count: int) -> None:
    cloud = CloudData(np.random.default_rng(0).normal(size=(count, 3)), np.zeros((count, 3), np.uint8))
    payload = base64.b64encode(pack_clouds(cloud, grid=(1, 1, count)).data).decode()
    order = desk.evaluate(
        "async payload => [...(await import('/viewer.js')).unpack(payload).grid.pixels]", payload
    )
    assert order == shuffled(count).tolist()


def test_a_grid_that_does_not_fit_the_points_is_told(desk: Any, known: Any) -> None:
    forged = known.data.replace(b'"grid":[4,96,96]', b'"grid":[4,96,16]')
    desk.evaluate("payload => viewer.setPayload(payload)", base64.b64encode(forged).decode())
    assert desk.get_by_text("does not fit its points").is_visible()


def test_hovering_a_pixel_lights_both_points_up_and_says_how_far_they_moved(
    desk: Any, known: Any, seen_from: Any
) -> None:
    index = known.packed(*PIXEL)
    apart = float(np.linalg.norm(known.right[index] - known.left[index]))
    desk.mouse.move(*over(desk, *PIXEL))
    text = desk.locator(".probe").inner_text()
    assert text.startswith("frame 2, row 71, column 81, ")
    assert desk.locator(".apart").inner_text() == f"{float(f'{100 * apart / 5:.3g}'):g} %"
    assert f"({float(f'{apart:.2g}'):g} scene units)" in text
    stage = desk.locator(".stage").bounding_box()
    half = stage["width"] // 2
    for side, points in enumerate((known.left, known.right)):
        x, y, _ = seen_from(points[index : index + 1], half, stage["height"])[0]
        ring = desk.locator(f".ring.side-{side}").bounding_box()
        assert ring["x"] + ring["width"] / 2 == pytest.approx(x + side * half, abs=0.6)
        assert ring["y"] + ring["height"] / 2 - stage["y"] == pytest.approx(y, abs=0.6)
    desk.mouse.move(450, 200)
    assert last_pick(desk) is None, "hovering is not an event"


def test_a_clicked_pixel_is_told_with_its_displacement_and_share(desk: Any, known: Any) -> None:
    desk.mouse.click(*over(desk, *PIXEL))
    event, index = last_pick(desk), known.packed(*PIXEL)
    apart = np.linalg.norm(known.right[index] - known.left[index])
    assert (event["frame"], event["row"], event["column"], event["index"]) == (*PIXEL, index)
    assert event["displacement"] == pytest.approx(apart)
    assert event["share"] == pytest.approx(apart / 5)
    assert event["unit"] == "scene units"
    assert event["left"] == pytest.approx(known.left[index].tolist())
    assert event["right"] == pytest.approx(known.right[index].tolist())


def test_arrow_keys_move_the_probe_in_a_focused_picture(desk: Any) -> None:
    desk.locator(".picture").nth(2).focus()
    desk.keyboard.press("ArrowRight")
    start = last_pick(desk)
    assert start["frame"] == 2
    for key in ("ArrowRight", "ArrowDown", "Shift+ArrowUp"):
        desk.keyboard.press(key)
    end = last_pick(desk)
    assert (end["row"] - start["row"], end["column"] - start["column"]) == (1 - 10, 1)


def test_a_point_probed_in_the_cloud_marks_its_pixel_in_its_picture(desk: Any) -> None:
    desk.mouse.click(200, 300)
    event = last_pick(desk)
    crosses = desk.locator(".picture .cross")
    shown = [crosses.nth(i).get_attribute("visibility") == "visible" for i in range(4)]
    assert shown == [frame == event["frame"] for frame in range(4)]
    place = f"translate({event['column'] + 0.5} {event['row'] + 0.5})"
    assert place in crosses.nth(event["frame"]).get_attribute("transform")


def test_hovering_a_point_of_the_cloud_marks_its_pixel_until_the_pointer_leaves(desk: Any) -> None:
    desk.mouse.move(200, 300)
    marked = desk.locator(".picture .cross[visibility=visible]")
    marked.wait_for(state="attached")
    assert desk.locator(".ring:visible").count() == 2
    desk.mouse.move(200, 10)
    marked.wait_for(state="detached")
    assert last_pick(desk) is None


def test_where_only_a_sample_is_packed_a_pixel_finds_its_nearest_packed_neighbour(
    desk: Any, known: Any
) -> None:
    desk.evaluate("load('sample.bin')")
    desk.wait_for_function("() => viewer.stats().points[0] === 9000")
    packed = shuffled(4 * 96 * 96, 9000)
    for column in range(40, 48):
        desk.evaluate("column => viewer.probePixel({ frame: 1, row: 50, column })", column)
        event = last_pick(desk)
        frame, pixel = np.divmod(packed, 96 * 96)
        off = np.hypot(pixel // 96 - 50, pixel % 96 - column) + 1e9 * (frame != 1)
        found = off[event["index"]]
        assert found <= off.min() + 1, "rings of pixels are searched from the inside out"
        assert found < 5


def test_without_pictures_the_strip_shows_the_colours_of_the_points(desk: Any, known: Any) -> None:
    bare = known.data[: known.start].replace(b'"images"', b'"imagos"') + known.data[known.start :]
    desk.evaluate(
        "payload => { viewer.clear(); viewer.setPayload(payload); }", base64.b64encode(bare).decode()
    )
    colours = known.array(known.header["left"]["color"]).reshape(-1, 3)
    desk.wait_for_function(  # a picture is drawn when it is seen
        "colour => [...document.getElementById('v').shadowRoot.querySelectorAll('.picture canvas')[2]"
        ".getContext('2d').getImageData(80, 70, 1, 1).data].slice(0, 3).join() === colour.join()",
        arg=colours[known.packed(1, 70, 80)].tolist(),
    )
