"""Buttons, menu and keys of the viewer: reachable without a pointer, told to the host, never in each other's way."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from quantlab.viewer.pack import CloudData, pack_clouds

pytestmark = pytest.mark.browser


def press(desk: Any, *keys: str) -> None:
    desk.locator(".stage > canvas").focus()
    for key in keys:
        desk.keyboard.press(key)


def states(desk: Any, name: str) -> list[Any]:
    """What the listeners were told of a state, in order."""
    return [
        event[name]
        for event in desk.evaluate("events.filter(event => event.type === 'state')")
        if name in event
    ]


def test_a_viewpoint_that_was_kept_is_found_again(desk: Any) -> None:
    kept = desk.evaluate("viewer.getCamera()")
    press(desk, "v", "ArrowLeft", "ArrowUp", "+")
    assert desk.evaluate("viewer.getCamera()") != kept
    press(desk, "Shift+Digit1")
    again = desk.evaluate("viewer.getCamera()")
    for name in ("position", "target", "up", "fov"):
        assert again[name] == pytest.approx(kept[name])
    assert desk.evaluate("events.filter(event => event.type === 'camera').at(-1).camera") == again
    [saved] = states(desk, "viewpoints")[-1]
    assert saved["scene"] == "gridded"
    assert saved["position"] == pytest.approx(kept["position"])


def test_viewpoints_from_a_host_are_listed_and_can_be_forgotten(desk: Any) -> None:
    camera = desk.evaluate("viewer.getCamera()")
    entries = [
        {"scene": "gridded", **camera},
        {"scene": "another", **camera},
        {"scene": "gridded"},
        "nonsense",
    ]
    desk.evaluate("entries => viewer.setViewpoints(entries)", entries)
    press(desk, "m")
    assert desk.get_by_role("button", name="Viewpoint 1", exact=True).is_visible()
    assert desk.get_by_role("button", name="Viewpoint 2", exact=True).count() == 0
    desk.get_by_role("button", name="Forget viewpoint 1").click()
    assert [entry["scene"] for entry in states(desk, "viewpoints")[-1]] == ["another"]


def test_a_tenth_viewpoint_takes_the_place_of_the_oldest(desk: Any) -> None:
    for _ in range(10):
        press(desk, "v", "ArrowLeft")
    kept = states(desk, "viewpoints")
    assert [len(entries) for entries in kept] == [*range(1, 10), 9]
    assert kept[-1] == [*kept[-2][1:], kept[-1][-1]]


@pytest.mark.parametrize(("name", "colour"), [("dark", (0x15, 0x19, 0x1D)), ("grey", (0x6F, 0x76, 0x7C))])
def test_the_background_is_a_choice_of_its_own(desk: Any, screen_of: Any, name: str, colour: Any) -> None:
    press(desk, "m")
    desk.get_by_role("button", name=name, exact=True).click()
    assert states(desk, "background") == [name]
    desk.evaluate("viewer.setErrorRange([0.00001, 0.00002])")  # hides every point
    assert (screen_of(desk).pixels() == np.array(colour)).all()
    assert desk.evaluate("getComputedStyle(viewer.root).backgroundColor") == "rgb(255, 255, 255)"


def test_keys_change_size_confidence_cameras_and_pictures(desk: Any) -> None:
    press(desk, ".", "]", "c", "i")
    assert states(desk, "pointSize") == [1.2]
    assert states(desk, "confidence") == [15]
    assert states(desk, "cameras") == [True]
    assert states(desk, "pictures") == [False]
    assert not desk.locator(".strip").is_visible()
    desk.get_by_role("button", name="pictures").click()
    assert desk.locator(".strip").is_visible()


def test_the_view_is_saved_as_a_picture(desk: Any, tmp_path: Path) -> None:
    with desk.expect_download() as waiting:
        press(desk, "s")
    assert waiting.value.suggested_filename == "quantlab-gridded-split.png"
    waiting.value.save_as(tmp_path / "view.png")
    picture = Image.open(io.BytesIO((tmp_path / "view.png").read_bytes()))
    stage = desk.locator(".stage").bounding_box()
    assert picture.size == (stage["width"], stage["height"])
    assert np.asarray(picture.convert("RGB")).std() > 20


def test_a_question_mark_shows_every_key_and_gives_the_focus_back(desk: Any) -> None:
    press(desk, "?")
    sheet = desk.get_by_role("dialog", name="Keys")
    assert sheet.is_visible()
    assert all(
        text in sheet.inner_text()
        for text in ("Comparison", "Camera", "draw a region by hand", "keep this viewpoint")
    )
    before = desk.evaluate("viewer.getCamera()")
    desk.keyboard.press("ArrowLeft")
    assert desk.evaluate("viewer.getCamera()") == before, "what lies under the sheet does not move"
    desk.keyboard.press("Escape")
    assert not sheet.is_visible()
    assert desk.evaluate("viewer.root.getRootNode().activeElement === viewer.canvas")


def test_everything_is_reached_by_tab_and_has_a_name_and_a_visible_focus(desk: Any) -> None:
    desk.evaluate("viewer.toolbar.menu.toggle(); viewer.setMode('error'); document.activeElement.blur()")
    reached = []
    for _ in range(60):
        desk.keyboard.press("Tab")
        seen = desk.evaluate(
            """() => { const item = viewer.root.getRootNode().activeElement; if (!item) return null;
            return [item.getAttribute('aria-label') || item.closest('label')?.textContent || item.textContent,
              getComputedStyle(item).outlineStyle]; }"""
        )
        reached += [seen] if seen else []
    names = " ".join(name for name, _ in reached)
    assert all(name for name, _ in reached)
    assert {outline for _, outline in reached} == {"solid"}
    for wanted in ("swipe", "Frame 2", "confident", "lasso", "more", "Point size", "grey", "keep this", "screenshot",
                   "Point clouds", "smallest distance", "Picture 4"):  # fmt: skip
        assert wanted in names, wanted


@pytest.mark.parametrize("look", ["light", "dark", "grey"])
def test_axe_finds_no_serious_fault(desk: Any, look: str) -> None:
    from axe_playwright_python.sync_playwright import Axe

    desk.evaluate(
        """look => { viewer.setTheme(look === 'dark' ? 'dark' : 'light');
        if (look === 'grey') viewer.setBackground('grey');
        viewer.setMode('error'); viewer.setErrorRange([0.01, null]); viewer.marked([1, 2, 3], 'add');
        viewer.actions.saveViewpoint(); viewer.probe(200, 200); viewer.toolbar.menu.toggle(); }""",
        look,
    )
    assert serious(Axe().run(desk)) == []
    desk.evaluate("viewer.toolbar.menu.toggle(); viewer.help.toggle()")
    assert serious(Axe().run(desk)) == []


def serious(results: Any) -> list[Any]:
    """Serious and critical findings: rule and where, of the viewer alone (its page here is no document)."""
    found = [rule for rule in results.response["violations"] if rule["impact"] in {"serious", "critical"}]
    beside = {"html-has-lang", "document-title"}
    return [
        (rule["id"], [node["target"] for node in rule["nodes"]]) for rule in found if rule["id"] not in beside
    ]


OVERLAPS = """() => {
  const wanted = '.bar button, .bar label, .bar output, .label, .legend, .facts > *, .strip';
  const items = [...viewer.root.querySelectorAll(wanted)].filter(item => item.getClientRects().length);
  const boxes = items.map(item => [item, item.getBoundingClientRect()]);
  const faults = [];
  for (const [item, box] of boxes) {
    if (item.closest('.frames')) continue; // they scroll where they are many
    if (box.right > innerWidth + 0.5 || box.left < -0.5) faults.push(`${item.textContent} is cut off`);
    for (const [other, its] of boxes) {
      if (item === other || item.contains(other) || other.contains(item) || other.closest('.frames')) continue;
      const over = Math.min(box.right, its.right) - Math.max(box.left, its.left) > 1
        && Math.min(box.bottom, its.bottom) - Math.max(box.top, its.top) > 1;
      if (over) faults.push(`${item.textContent} over ${other.textContent}`);
    }
  }
  const frames = viewer.root.querySelector('.frames').getBoundingClientRect();
  for (const [item, box] of boxes) {
    const isBeside = item.closest('.bar') && !item.closest('.frames');
    const over = Math.min(box.right, frames.right) - Math.max(box.left, frames.left);
    if (isBeside && over > 1) faults.push(`frames over ${item.textContent}`);
  }
  return faults;
}"""


@pytest.mark.parametrize("mode", ["split", "error", "swipe", "flip"])
@pytest.mark.parametrize("size", [(390, 720), (640, 400), (900, 560)], ids=["phone", "pane", "desk"])
def test_nothing_overlaps_and_nothing_is_cut_off(desk: Any, mode: str, size: tuple[int, int]) -> None:
    desk.set_viewport_size({"width": size[0], "height": size[1]})
    desk.evaluate(
        "mode => { viewer.setMode(mode); viewer.marked([1, 2, 3], 'add'); viewer.probe(90, 200); }", mode
    )
    desk.wait_for_timeout(120)
    assert desk.evaluate(OVERLAPS) == []


@pytest.mark.parametrize("size", [(390, 720), (640, 400), (1280, 560)], ids=["phone", "pane", "desk"])
def test_forty_frames_and_long_names_still_fit(desk: Any, payload_into: Any, size: tuple[int, int]) -> None:
    points = np.random.default_rng(0).normal(size=(40 * 48, 3))
    left, right = (CloudData(points + move, np.zeros((len(points), 3), np.uint8)) for move in (0, 0.1))
    labels = ("ground truth of a very long scene", "state 3: a recipe whose name goes on and on")
    desk.set_viewport_size({"width": size[0], "height": size[1]})
    payload_into(desk, pack_clouds(left, right, grid=(40, 6, 8), labels=labels, scene="many").data)
    desk.evaluate("viewer.setMode('error'); viewer.probePixel({ frame: 39, row: 2, column: 2 })")
    desk.wait_for_timeout(150)
    assert desk.evaluate(OVERLAPS) == []
