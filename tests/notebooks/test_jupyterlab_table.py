"""The table of layers, the recipe's copies and the blame of a region in a real JupyterLab: mouse, keys, clipboard."""

from __future__ import annotations

import re
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe

import quantlab as ql

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]

OPEN = """import quantlab as ql
scene = ql.rooms(1, views=2, seed=3)[0]
lab = ql.Lab(ql.load_model("mini"), evaluation=[scene], recipe=ql.Recipe.preset("rtn"))"""
CELLS = [OPEN, "ql.widgets.table(lab)", "ql.widgets.layer(lab)", "ql.widgets.compare(lab)"]
FC2 = "aggregator.global_blocks.1.mlp.fc2"
FOCUS = """() => { const row = document.activeElement?.closest('.ql-grid-row');
  return [row?.dataset.name ?? '', row ? [...row.children].indexOf(document.activeElement) : -1]; }"""
SCREENSHOT = "() => document.querySelector('.ql-clouds').__quantlabViewer.screenshot()"
ORDER = """() => [...document.querySelectorAll('.ql-grid-body .ql-grid-row')]
  .sort((a, b) => a.offsetTop - b.offsetTop).map((row) => row.dataset.name)"""


@pytest.fixture(scope="module")
def notebook(open_notebook: Any) -> Any:
    """A notebook with a table, a layer and the clouds of one lab."""
    opened = open_notebook("table", CELLS, height=1700)
    opened.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    opened.await_clouds()
    opened.page.wait_for_selector(".ql-grid-row[data-name]")
    return opened


@pytest.fixture
def page(notebook: Any) -> Any:
    """The page, with no filter and in the order of the network."""
    page = notebook.page
    page.locator(".ql-filter").fill("")
    return page


def cell(page: Any, name: str, label: str) -> Any:
    """The control in a cell, by the layer's full name and the column's label."""
    return page.locator(f".ql-grid-row[data-name='{name}']").get_by_label(f"{label} of ")


def clipboard(page: Any, button: str) -> str:
    page.get_by_role("button", name=button, exact=True).click()
    page.get_by_text("copied", exact=True).wait_for()
    return str(page.evaluate("() => navigator.clipboard.readText()"))


def test_only_the_rows_in_sight_are_in_the_page(page: Any) -> None:
    assert page.locator(".ql-count").inner_text() == "113 layers"
    assert 15 <= page.locator(".ql-grid-body .ql-grid-row").count() <= 40
    page.locator(".ql-grid").evaluate("(grid) => { grid.scrollTop = grid.scrollHeight; }")
    page.locator(
        ".ql-grid-row[data-name^='depth_head'], .ql-grid-row[data-name^='point_head']"
    ).first.wait_for()
    assert page.locator(".ql-grid-body .ql-grid-row").count() <= 40


def test_the_filter_keeps_the_layers_that_hold_every_word_and_a_head_sorts_them(
    notebook: Any, page: Any
) -> None:
    page.locator(".ql-filter").fill("global fc2")
    assert page.locator(".ql-count").inner_text() == "4 of 113 layers"
    head = page.locator(".ql-grid-head button", has_text="kurtosis")
    head.click()
    values = [
        float(page.locator(f".ql-grid-row[data-name='{name}'] .ql-number").nth(1).inner_text())
        for name in page.evaluate(ORDER)
    ]
    assert values == sorted(values, reverse=True)
    head.click()
    head.click()
    assert page.evaluate(ORDER) == [FC2.replace(".1.", f".{index}.") for index in range(4)]
    page.locator(".ql-filter").fill("no such layer")
    assert page.locator(".ql-count").inner_text() == "no layer has all these words"


def test_an_edit_in_a_cell_changes_the_recipe_in_every_widget_and_can_be_undone(
    notebook: Any, page: Any
) -> None:
    page.locator(".ql-filter").fill("global 1 fc2")
    page.locator(f".ql-grid-row[data-name='{FC2}'] .ql-cell").first.click()
    title = page.locator(".ql-full")
    notebook.until(title.inner_text, lambda now: now == FC2)
    cell(page, FC2, "A").select_option("8")
    notebook.until(notebook.control("A bits").input_value, lambda now: now == "8")
    assert notebook.control("W bits").input_value() == "4"
    page.get_by_role("button", name="undo").first.click()
    notebook.until(cell(page, FC2, "A").input_value, lambda now: now == "4")
    assert notebook.control("A bits").input_value() == "4"


def test_a_change_can_hold_for_all_layers_shown(notebook: Any, page: Any) -> None:
    page.locator(".ql-filter").fill("global fc2")
    page.locator(".ql-reach").select_option("shown")
    cell(page, FC2, "rotation").select_option("hadamard")
    controls = page.locator(".ql-grid-body").get_by_label("rotation of ")
    notebook.until(
        lambda: [control.input_value() for control in controls.all()], lambda now: now == ["hadamard"] * 4
    )
    page.locator(".ql-reach").select_option("one")
    page.get_by_role("button", name="undo").first.click()
    notebook.until(cell(page, FC2, "rotation").input_value, lambda now: now == "none")


def test_the_keyboard_reaches_every_cell_and_changes_it(notebook: Any, page: Any) -> None:
    page.locator(".ql-reach").focus()
    for _ in range(20):
        page.keyboard.press("Tab")
        if page.evaluate(FOCUS)[0]:
            break
    page.keyboard.press("Home")
    first = page.evaluate(ORDER)[0]
    assert page.evaluate(FOCUS) == [first, 0]
    page.keyboard.press("End")
    last = page.evaluate(FOCUS)[0]
    assert last != first
    assert page.locator(f".ql-grid-row[data-name='{last}']").is_visible()
    page.keyboard.press("Home")
    for _ in range(20):
        page.keyboard.press("ArrowDown")
    for _ in range(2):
        page.keyboard.press("ArrowRight")
    name, column = page.evaluate(FOCUS)
    assert (name in page.evaluate(ORDER), column) == (True, 2)
    page.keyboard.press("Enter")  # into the control
    assert page.evaluate("() => document.activeElement.tagName") == "SELECT"
    page.keyboard.press("Escape")
    assert page.evaluate(FOCUS) == [name, 2]
    for _ in range(5):
        page.keyboard.press("ArrowRight")
    tre = page.locator(f".ql-grid-row[data-name='{name}'] .ql-number").first
    before = tre.inner_text()
    assert before[:1].isdigit()
    for told in (
        "not rounded",
        before,
    ):  # keep, and not: a switch flips at once, and the number says it was heard
        page.keyboard.press("Enter")
        notebook.until(tre.inner_text, lambda text, told=told: text == told)
        assert page.evaluate(FOCUS) == [name, 7]  # the row was drawn anew, and is still where the person is
    assert not cell(page, name, "keep").is_checked()


def test_the_recipe_is_copied_as_python_and_yaml_and_pasted_back(notebook: Any, page: Any) -> None:
    page.locator(".ql-filter").fill("global 1 fc2")
    yaml = clipboard(page, "copy as YAML")
    python = clipboard(page, "copy as Python")
    built: dict[str, Any] = {}
    exec(python, built)
    recipe = ql.Recipe.from_yaml(yaml)
    assert built["recipe"] == recipe
    page.get_by_role("button", name="paste …", exact=True).click()
    page.get_by_label("Recipe as YAML or link").fill(recipe.set(FC2, weights=6).to_yaml())
    page.get_by_role("button", name="apply", exact=True).click()
    notebook.until(cell(page, FC2, "W").input_value, lambda now: now == "6")
    assert "weights: 6" in clipboard(page, "copy as YAML")


EVERY_VALUE = """() => {
    window.shown = [];
    const values = () => document.querySelectorAll(".ql-suspect .ql-row-value");
    const note = () => values().forEach((at) => shown.push(at.textContent));
    new MutationObserver(note).observe(document.body, { childList: true, subtree: true, characterData: true });
}"""
"""Keeps what the list of suspects has ever said: a guess may be gone before anybody looks."""


def lasso(page: Any) -> None:
    """Draw a square into the left cloud."""
    page.locator(".ql-clouds").get_by_role("button", name="lasso", exact=True).click()
    box = page.locator(".ql-clouds canvas").first.bounding_box()
    x, y = box["x"] + 0.2 * box["width"], box["y"] + 0.4 * box["height"]
    page.mouse.move(x, y)
    page.mouse.down()
    for across, down in ((80, 0), (80, 60), (0, 60), (0, 0)):
        page.mouse.move(x + across, y + down, steps=3)
    page.mouse.up()


def test_a_region_drawn_in_the_clouds_names_its_suspects_and_one_click_restores_the_first(
    notebook: Any, page: Any
) -> None:
    page.locator(".ql-filter").fill("global fc2")
    page.evaluate(EVERY_VALUE)
    lasso(page)
    suspects = page.locator(".ql-suspect")
    suspects.first.wait_for(timeout=60_000)
    page.wait_for_function("() => shown.some((value) => value.startsWith('≈'))")  # before any was tried
    notebook.until(
        page.locator(".ql-suspects .ql-heading button").is_visible, lambda now: not now, seconds=90
    )
    value = suspects.first.locator(".ql-row-value").inner_text()
    assert re.fullmatch(r"-?[\d.]+ %", value)
    name = suspects.first.locator(".ql-row-name").get_attribute("title").partition(":")[0]
    before = page.evaluate(SCREENSHOT)
    page.locator(".ql-suspect").first.get_by_role("button", name="restore", exact=True).click()
    notebook.until_other(SCREENSHOT, before)
    assert f"match: {name}" in clipboard(page, "copy as YAML")
    assert page.locator(".ql-suspects .ql-heading").inner_text().endswith("before your last change")
    page.locator(".ql-filter").fill(name.replace(".", " "))
    assert cell(page, name, "keep").is_checked()
    page.get_by_role("button", name="undo").first.click()
    notebook.until(cell(page, name, "keep").is_checked, lambda now: not now)


def test_the_brush_and_the_pictures_of_the_viewer_are_there_too(page: Any) -> None:
    clouds = page.locator(".ql-clouds")
    assert clouds.get_by_role("button", name="pictures", exact=True).get_attribute("aria-pressed") == "true"
    assert clouds.get_by_text("region of").count() >= 1  # what was drawn stays when the clouds are made anew


def test_axe_finds_no_serious_fault_in_any_pane(page: Any) -> None:
    found = Axe().run(page, context=".ql-pane", options={"resultTypes": ["violations"]}).response
    assert len(found["passes"]) > 5
    faults = [item for item in found["violations"] if item["impact"] in ("serious", "critical")]
    assert not faults, [(item["id"], item["nodes"][0]["html"][:160]) for item in faults]


def test_a_saved_notebook_with_the_state_of_its_widgets_is_small(notebook: Any) -> None:
    saved = notebook.saved_with_state()
    assert len(saved) < 500_000
    assert "widget-state+json" in saved


def test_the_table_follows_the_dark_theme_and_nothing_left_the_machine(notebook: Any, page: Any) -> None:
    ink = "() => getComputedStyle(document.querySelector('.ql-grid-row .ql-cell')).color"
    light = page.evaluate(ink)
    page.evaluate("() => { document.body.dataset.jpThemeLight = 'false'; }")
    notebook.until_other(ink, light)
    page.evaluate("() => { document.body.dataset.jpThemeLight = 'true'; }")
    notebook.until(lambda: page.evaluate(ink), lambda now: now == light)
    assert notebook.trouble == []
