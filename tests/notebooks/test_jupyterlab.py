"""The bench in a real JupyterLab, in a browser that refuses every request to elsewhere."""

from __future__ import annotations

import json
from typing import Any

import pytest

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]

OPEN = """import quantlab as ql
scene = ql.rooms(1, views=2, seed=3)[0]
lab = ql.Lab(ql.load_model("mini"), evaluation=[scene], recipe=ql.Recipe.preset("rtn"))"""
CELLS = [OPEN, "ql.widgets.bench(lab)", "ql.widgets.map(lab, color_by='kurtosis')"]
POINTS = "() => document.querySelector('.ql-clouds').__quantlabViewer.stats().points[1]"
CAMERA = "() => document.querySelector('.ql-clouds').__quantlabViewer.getCamera().position"
SCREENSHOT = "() => document.querySelector('.ql-clouds').__quantlabViewer.screenshot()"
CURVE = """() => [...document.querySelectorAll('.ql-figure')].map((figure) => figure.data ?? [])
  .flat().filter((trace) => trace.name === 'quantized').map((trace) => trace.y.join()).join()"""


@pytest.fixture(scope="module")
def notebook(open_notebook: Any) -> Any:
    """A notebook whose cells have run, in a page 1280 pixels wide."""
    opened = open_notebook("bench", CELLS, height=1900)
    opened.await_clouds()
    opened.page.wait_for_function("() => document.querySelectorAll('.ql-figure .main-svg').length >= 3")
    return opened


def test_figures_and_clouds_are_drawn_and_nothing_left_the_machine(notebook: Any) -> None:
    page = notebook.page
    assert page.locator(".ql-bench .ql-figure .heatmaplayer image").count() == 1
    assert page.evaluate(POINTS) > 10_000
    assert page.locator(".ql-bench .ql-number").first.inner_text().startswith("point error")
    assert page.locator(".ql-notice:visible, .ql-error:visible").count() == 0
    assert notebook.trouble == []


def test_a_control_changes_the_histogram_the_clouds_and_the_numbers(notebook: Any) -> None:
    page = notebook.page
    curve, cloud = page.evaluate(CURVE), page.evaluate(SCREENSHOT)
    number = page.locator(".ql-bench .ql-number strong").first.inner_text()
    assert curve
    notebook.select("apply to", "all in scope")
    notebook.select("A bits", "3")
    notebook.until_other(CURVE, curve)
    notebook.until_other(SCREENSHOT, cloud)
    notebook.until(page.locator(".ql-bench .ql-number strong").first.inner_text, lambda now: now != number)
    page.get_by_role("button", name="undo").click()
    notebook.until(lambda: page.evaluate(CURVE), lambda now: now == curve)
    assert notebook.control("A bits").input_value() == "4"


def test_the_slider_moves_the_histogram(notebook: Any) -> None:
    page = notebook.page
    plain = page.evaluate(CURVE)
    page.locator(".ql-bench .widget-checkbox", has_text="smoothing").locator("input").check()
    handle = page.locator(".ql-bench .noUi-handle")
    notebook.until(page.locator(".ql-bench [disabled].noUi-target").count, lambda count: count == 0)
    curve = notebook.until_other(CURVE, plain)
    handle.focus()
    for _ in range(4):
        page.keyboard.press("ArrowRight")
    notebook.until_other(CURVE, curve)
    notebook.until(page.locator(".ql-bench .widget-readout").inner_text, lambda text: text == "0.70")
    page.locator(".ql-bench .widget-checkbox", has_text="smoothing").locator("input").uncheck()


def test_a_click_on_the_map_selects_the_layer_in_every_widget(notebook: Any) -> None:
    page = notebook.page
    title = page.locator(".ql-bench .ql-full")
    before = title.inner_text()
    # By name, not by place: the list may still be sorted anew by what the test before measured.
    names = [row.get_attribute("title") for row in page.locator(".ql-bench .ql-row").all()]
    clicked = next(name for name in reversed(names) if name != before)
    page.locator(f".ql-bench .ql-row[title='{clicked}']").click()
    notebook.until(title.inner_text, lambda now: now == clicked)
    plot = page.locator(".ql-bench .ql-figure").first.locator(".nsewdrag").bounding_box()
    page.mouse.click(plot["x"] + 8, plot["y"] + 8)
    now = notebook.until(title.inner_text, lambda now: now != clicked)
    other = page.locator(".ql-pane").last
    notebook.until(lambda: other.locator(".ql-row[aria-pressed=true]").count(), lambda count: count <= 1)
    assert now.startswith("aggregator.")


def test_dragging_turns_the_camera_and_new_clouds_keep_it(notebook: Any) -> None:
    page = notebook.page
    before = page.evaluate(CAMERA)
    box = page.locator(".ql-clouds").bounding_box()
    x, y = box["x"] + box["width"] / 4, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + 80, y + 10, steps=4)
    page.mouse.up()
    turned = notebook.until_other(CAMERA, before)
    cloud = page.evaluate(SCREENSHOT)
    notebook.select("W bits", "3")
    notebook.until_other(SCREENSHOT, cloud)
    assert page.evaluate(CAMERA) == pytest.approx(turned)


def test_keys_in_the_viewer_are_no_commands_to_the_notebook(notebook: Any) -> None:
    page = notebook.page
    cells = page.locator(".jp-Cell").count()
    box = page.locator(".ql-clouds").bounding_box()
    page.mouse.click(box["x"] + 50, box["y"] + 100)
    for key in ("a", "b", "d", "d"):
        page.keyboard.press(key)
    page.wait_for_timeout(300)
    assert page.locator(".jp-Cell").count() == cells


def test_the_dark_theme_is_followed(notebook: Any) -> None:
    page = notebook.page
    ink = "() => getComputedStyle(document.querySelector('.ql-pane .ql-heading')).color"
    light = page.evaluate(ink)
    page.evaluate("() => { document.body.dataset.jpThemeLight = 'false'; }")
    notebook.until_other(ink, light)
    text = "() => document.querySelector('.ql-figure .xtick text, .ql-figure .ytick text').style.fill"
    assert page.evaluate(text) == "rgb(151, 163, 173)"
    page.evaluate("() => { document.body.dataset.jpThemeLight = 'true'; }")
    notebook.until(lambda: page.evaluate(ink), lambda now: now == light)


def test_a_saved_notebook_is_small_even_with_the_state_of_its_widgets(notebook: Any) -> None:
    saved = notebook.saved_with_state()
    assert notebook.path.stat().st_size < 500_000
    assert len(json.loads(saved)["metadata"]["widgets"]) == 1


def test_a_restarted_kernel_leaves_a_page_that_says_what_to_do(notebook: Any) -> None:
    page = notebook.page
    notebook.menu("Kernel", "Restart Kernel…")
    page.locator(".jp-Dialog .jp-mod-accept").click()
    notice = page.locator(".ql-notice").first
    notebook.until(notice.inner_text, lambda text: "run the cell again" in text)
    assert page.evaluate(POINTS) > 0
    page.locator(".ql-row").first.click()
    notebook.run_all()
    notebook.await_clouds()
    notebook.until(lambda: page.locator(".ql-notice:visible").count(), lambda count: count == 0)
    assert notebook.trouble == []
