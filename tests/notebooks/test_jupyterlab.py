"""The bench in a real JupyterLab, in a browser that refuses every request to elsewhere."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nbformat
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
def notebook(browser: Any, jupyterlab: str, jupyter_folder: Path) -> Iterator[Notebook]:
    """A notebook whose cells have run, in a page 1280 pixels wide."""
    path = jupyter_folder / "bench.ipynb"
    write(path, CELLS)
    context = browser.new_context(viewport={"width": 1280, "height": 1900})
    opened = Notebook(context, f"{jupyterlab}/lab/tree/{path.name}", path)
    opened.run_all()
    opened.await_clouds()
    opened.page.wait_for_function("() => document.querySelectorAll('.ql-figure .main-svg').length >= 3")
    yield opened
    context.close()


def write(path: Path, cells: list[str]) -> None:
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    book.metadata["kernelspec"] = kernel
    nbformat.write(book, path)


class Notebook:
    """A notebook in a page; ``trouble`` collects requests to elsewhere and script errors."""

    def __init__(self, context: Any, address: str, path: Path) -> None:
        self.path = path
        self.trouble: list[str] = []
        context.route("**/*", self._gate)
        self.page = context.new_page()
        self.page.on("pageerror", lambda error: self.trouble.append(f"script error: {error}"))
        self.page.goto(address)
        self.page.wait_for_selector(".jp-Notebook", timeout=60_000)
        self.page.wait_for_selector(".jp-Notebook-ExecutionIndicator[data-status='idle']", timeout=60_000)
        self.page.keyboard.press("Control+b")  # the file browser takes room from the notebook

    def _gate(self, route: Any) -> None:
        if re.match(r"(https?|wss?)://(127\.0\.0\.1|localhost)[:/]|data:|blob:", route.request.url):
            route.continue_()
        else:
            self.trouble.append(f"request left this machine: {route.request.url[:200]}")
            route.abort()

    def menu(self, name: str, entry: str) -> None:
        self.page.get_by_role("menuitem", name=name, exact=True).click()
        self.page.get_by_text(entry, exact=True).click()

    def run_all(self) -> None:
        """Run every cell to its end; a page that is still connecting to its kernel drops some or all of the cells."""
        for _ in range(6):
            self.menu("Run", "Run All Cells")
            if self._seen_running() and all(re.search(r"\d", text) for text in self._prompts_at_rest()):
                return
        pytest.fail(f"JupyterLab did not run all cells: {self._prompts()}")

    def _prompts(self) -> list[str]:
        return [str(text) for text in self.page.locator(".jp-InputPrompt").all_inner_texts()]

    def _seen_running(self) -> bool:
        for _ in range(30):
            if any("*" in text for text in self._prompts()):
                return True
            self.page.wait_for_timeout(50)
        return False

    def _prompts_at_rest(self) -> list[str]:
        return until(self._prompts, lambda texts: not any("*" in text for text in texts), seconds=90)

    def await_clouds(self) -> None:
        """Until both clouds are there; what the page says instead, when they do not come."""
        there = f"() => document.querySelector('.ql-clouds') && ({POINTS})() > 0"
        try:
            self.page.wait_for_function(there, timeout=90_000)
        except Exception:  # noqa: BLE001 - whatever playwright raises
            pytest.fail(
                f"no clouds; the notebook says {self.page.locator('.jp-Notebook').inner_text()[-1500:]}"
            )

    def control(self, label: str) -> Any:
        """The first control of this label."""
        return self.page.locator(".ql-controls").get_by_label(label, exact=True).first

    def select(self, label: str, option: str) -> None:
        self.control(label).select_option(option)

    def until_other(self, script: str, before: object) -> Any:
        """What ``script`` gives as soon as it is not ``before``."""
        return until(lambda: self.page.evaluate(script), lambda value: value != before)


def until(read: Callable[[], Any], wanted: Callable[[Any], bool], seconds: float = 30) -> Any:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        value = read()
        if wanted(value):
            return value
        time.sleep(0.1)
    pytest.fail(f"still {str(read())[:200]}")


def test_figures_and_clouds_are_drawn_and_nothing_left_the_machine(notebook: Notebook) -> None:
    page = notebook.page
    assert page.locator(".ql-bench .ql-figure .heatmaplayer image").count() == 1
    assert page.evaluate(POINTS) > 10_000
    assert page.locator(".ql-bench .ql-number").first.inner_text().startswith("point error")
    assert page.locator(".ql-notice:visible, .ql-error:visible").count() == 0
    assert notebook.trouble == []


def test_a_control_changes_the_histogram_the_clouds_and_the_numbers(notebook: Notebook) -> None:
    page = notebook.page
    curve, cloud = page.evaluate(CURVE), page.evaluate(SCREENSHOT)
    number = page.locator(".ql-bench .ql-number strong").first.inner_text()
    assert curve
    notebook.select("apply to", "all in scope")
    notebook.select("A bits", "3")
    notebook.until_other(CURVE, curve)
    notebook.until_other(SCREENSHOT, cloud)
    until(page.locator(".ql-bench .ql-number strong").first.inner_text, lambda now: now != number)
    page.get_by_role("button", name="undo").click()
    until(lambda: page.evaluate(CURVE), lambda now: now == curve)
    assert notebook.control("A bits").input_value() == "4"


def test_a_click_on_the_map_selects_the_layer_in_every_widget(notebook: Notebook) -> None:
    page = notebook.page
    title = page.locator(".ql-bench .ql-full")
    before = title.inner_text()
    page.locator(".ql-bench .ql-row").nth(5).click()
    clicked = page.locator(".ql-bench .ql-row").nth(5).get_attribute("title")
    until(title.inner_text, lambda now: now == clicked)
    assert clicked != before
    plot = page.locator(".ql-bench .ql-figure").first.locator(".nsewdrag").bounding_box()
    page.mouse.click(plot["x"] + 8, plot["y"] + 8)
    now = until(title.inner_text, lambda now: now != clicked)
    other = page.locator(".ql-pane").last
    until(lambda: other.locator(".ql-row[aria-pressed=true]").count(), lambda count: count <= 1)
    assert now.startswith("aggregator.")


def test_dragging_turns_the_camera_and_new_clouds_keep_it(notebook: Notebook) -> None:
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


def test_keys_in_the_viewer_are_no_commands_to_the_notebook(notebook: Notebook) -> None:
    page = notebook.page
    cells = page.locator(".jp-Cell").count()
    box = page.locator(".ql-clouds").bounding_box()
    page.mouse.click(box["x"] + 50, box["y"] + 100)
    for key in ("a", "b", "d", "d"):
        page.keyboard.press(key)
    page.wait_for_timeout(300)
    assert page.locator(".jp-Cell").count() == cells


def test_the_dark_theme_is_followed(notebook: Notebook) -> None:
    page = notebook.page
    ink = "() => getComputedStyle(document.querySelector('.ql-pane .ql-heading')).color"
    light = page.evaluate(ink)
    page.evaluate("() => { document.body.dataset.jpThemeLight = 'false'; }")
    notebook.until_other(ink, light)
    text = "() => document.querySelector('.ql-figure .xtick text, .ql-figure .ytick text').style.fill"
    assert page.evaluate(text) == "rgb(151, 163, 173)"
    page.evaluate("() => { document.body.dataset.jpThemeLight = 'true'; }")
    until(lambda: page.evaluate(ink), lambda now: now == light)


def test_a_saved_notebook_is_small_even_with_the_state_of_its_widgets(notebook: Notebook) -> None:
    notebook.menu("Settings", "Save Widget State Automatically")
    for _ in range(5):  # the setting takes a moment before a save heeds it
        notebook.page.wait_for_timeout(1000)
        notebook.menu("File", "Save Notebook")
        notebook.page.wait_for_timeout(1000)
        saved = notebook.path.read_text()
        if "widget-state+json" in saved:
            break
    assert "widget-state+json" in saved
    assert notebook.path.stat().st_size < 500_000
    assert len(json.loads(saved)["metadata"]["widgets"]) == 1


def test_a_restarted_kernel_leaves_a_page_that_says_what_to_do(notebook: Notebook) -> None:
    page = notebook.page
    notebook.menu("Kernel", "Restart Kernel…")
    page.locator(".jp-Dialog .jp-mod-accept").click()
    notice = page.locator(".ql-notice").first
    until(notice.inner_text, lambda text: "run the cell again" in text)
    assert page.evaluate(POINTS) > 0
    page.locator(".ql-row").first.click()
    notebook.run_all()
    notebook.await_clouds()
    until(lambda: page.locator(".ql-notice:visible").count(), lambda count: count == 0)
    assert notebook.trouble == []
