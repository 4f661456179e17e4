"""The layer's plots and the map, in a real browser: dragged, searched, walked by keyboard and taken away as files."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path

import pytest

pytestmark = [pytest.mark.browser, pytest.mark.timeout(400)]

TRACES = "() => document.querySelector('[data-testid=histogram]').data.map((trace) => trace.name)"
VALUES = "() => document.querySelector('[data-testid=histogram]').data.at(-1).meta?.y"


@pytest.fixture
def shared(bench):
    """The lab as it begins, in the tab of the file."""
    bench.begin()
    return bench


def show(bench, panel, *, ready):
    bench.page.locator(f".ql-layer [data-id={panel}]").click()
    bench.page.wait_for_function(ready, timeout=30_000)


def error_of(text):
    return float(re.search(r"predicted error ([\d.]+) %", text)[1])


def test_dragging_the_clip_line_changes_the_predicted_error_at_once(shared):
    page = shared.page
    line, told = page.get_by_test_id("clip-line"), page.get_by_test_id("clip-text")
    box = line.bounding_box()
    requests = []
    page.on("request", lambda request: requests.append(request.url))
    page.mouse.move(box["x"] + 7, box["y"] + 40)
    page.mouse.down()
    seen = []
    for step in (30, 60, 120):
        page.mouse.move(box["x"] + 7 - step, box["y"] + 40)
        seen.append(told.inner_text())
    page.mouse.up()
    assert len(set(seen)) == 3
    assert len({error_of(text) for text in seen}) > 1
    assert not [url for url in requests if "/gradio_api/" in url and "heartbeat" not in url], (
        "no server is asked"
    )
    assert abs(line.bounding_box()["x"] + 7 - (box["x"] + 7 - 120)) < 15, "the line is where it was let go"


def test_the_clip_line_is_a_slider_for_the_keyboard_too(shared):
    page = shared.page
    line = page.get_by_test_id("clip-line")
    line.focus()
    page.keyboard.press("Enter")
    best = line.get_attribute("aria-valuetext")
    errors = {}
    for key in ("ArrowLeft", "ArrowRight", "ArrowRight"):
        page.keyboard.press(key)
        errors[line.get_attribute("aria-valuenow")] = error_of(line.get_attribute("aria-valuetext"))
    assert len(errors) == 3
    assert min(errors.values()) >= error_of(best)
    page.keyboard.press("Escape")
    assert "drag the clip line" in page.get_by_test_id("clip-text").inner_text()


def test_the_waterfall_draws_every_step_on_one_axis(shared):
    show(shared, "waterfall", ready=f"() => ({TRACES})().includes('quantized') && ({VALUES})()")
    assert shared.page.evaluate(TRACES) == ["raw", "quantized"]
    show(shared, "histogram", ready="() => document.querySelector('[data-testid=clip-line]').offsetParent")


def test_weights_are_shown_in_place_of_inputs_and_their_clip_line_names_a_search(shared):
    page = shared.page
    before = page.evaluate("() => document.querySelector('[data-testid=histogram]').layout.xaxis.title.text")
    page.locator(".ql-layer [data-id=weights]").click()
    page.wait_for_function(
        "() => document.querySelector('[data-testid=histogram]').layout.xaxis.title.text.startsWith('weight')",
        timeout=30_000,
    )
    assert before.startswith("input value")
    page.get_by_test_id("clip-line").focus()
    page.keyboard.press("ArrowLeft")
    assert page.get_by_test_id("clip-use").inner_text() == "search it"
    page.locator(".ql-layer [data-id=inputs]").click()


def test_the_landscape_turns_into_a_surface_and_back(shared):
    kind = "() => document.querySelector('[data-testid=histogram]').data[0].type"
    show(shared, "landscape", ready=f"() => ({kind})() === 'heatmap'")
    page = shared.page
    page.locator(".ql-layer [data-id=relief]").click()
    page.wait_for_function(
        f"() => ({kind})() === 'surface' && document.querySelector('[data-testid=histogram] canvas')",
        timeout=60_000,
    )
    page.locator(".ql-layer [data-id=flat]").click()
    show(shared, "histogram", ready="() => document.querySelector('[data-testid=clip-line]').offsetParent")


def test_the_csv_holds_the_numbers_of_the_curve_and_the_png_is_a_picture(shared):
    page = shared.page
    show(shared, "waterfall", ready=f"() => ({TRACES})().includes('quantized') && ({VALUES})()")
    drawn = page.evaluate(VALUES)
    with page.expect_download() as taken:
        page.locator(".ql-layer .ql-export button", has_text="csv").click()
    with Path(taken.value.path()).open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    shares = [float(row["share of values"]) for row in rows if row["series"] == "quantized"]
    assert shares == pytest.approx(drawn, rel=1e-6)
    assert max(abs(float(row["input value"])) for row in rows) > 0.5, "in units of the data, not of the axis"
    assert taken.value.suggested_filename.endswith("waterfall-inputs.csv")
    with page.expect_download() as taken:
        page.locator(".ql-layer .ql-export button", has_text="png").click()
    assert Path(taken.value.path()).read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    show(shared, "histogram", ready="() => document.querySelector('[data-testid=clip-line]').offsetParent")


def test_no_cell_of_a_csv_is_a_formula(shared):
    text = shared.page.evaluate(
        """async () => {
            const { csvOf } = await import('/quantlab/figures/plot_export.js');
            const names = ['=1+1', '+x', '-y', '@z', 'a,"b"', '-3.5'];
            return csvOf([{ name: '=SUM(A1)', x: names, y: [1, -2, 3, 4, 5, 6] }], {});
        }"""
    )
    rows = list(csv.reader(io.StringIO(text)))
    assert rows[0] == ["series", "x", "y"]
    assert [row[1] for row in rows[1:]] == ["'=1+1", "'+x", "'-y", "'@z", 'a,"b"', "-3.5"]
    assert [float(row[2]) for row in rows[1:]] == [1, -2, 3, 4, 5, 6]
    assert {row[0] for row in rows[1:]} == {"'=SUM(A1)"}


def test_arrow_keys_walk_over_the_map_and_enter_opens_the_layer(shared):
    page = shared.page
    start = shared.state().layer
    page.get_by_test_id("map").focus()
    told = page.get_by_test_id("map-cursor")
    page.keyboard.press("Home")
    first = told.inner_text()
    page.keyboard.press("ArrowRight")
    second = told.inner_text()
    page.keyboard.press("ArrowDown")
    third = told.inner_text()
    assert len({first, second, third}) == 3
    name = page.locator(".ql-map-cursor").get_attribute("data-name")
    assert name != start
    page.keyboard.press("Enter")
    page.wait_for_function(f"() => document.querySelector('.ql-layer h2').title === {name!r}", timeout=30_000)
    shared.settle()


def test_the_search_box_keeps_the_layers_that_are_meant(shared):
    page = shared.page
    shown = (
        "() => [...document.querySelectorAll('[data-testid=worst] button')].map((row) => row.dataset.layer)"
    )
    page.get_by_test_id("map-find").fill("global fc2 >0")
    found = page.evaluate(shown)
    assert found
    assert all("global_blocks" in name and name.endswith("fc2") for name in found)
    page.get_by_test_id("map-find").press("Escape")
    assert len(page.evaluate(shown)) > len(found)


def test_a_clip_of_one_range_is_taken_over_into_the_settings(page, bench):
    start = bench.begin()
    page.get_by_test_id("more-button").click()
    sheet = page.get_by_test_id("more")
    sheet.locator("[data-setting=activation_granularity]").select_option("tensor")
    changed = bench.changed(start, key="numbers")
    page.keyboard.press("Escape")
    page.get_by_test_id("clip-line").focus()
    page.keyboard.press("Enter")
    predicted = error_of(page.get_by_test_id("clip-text").inner_text())
    page.get_by_test_id("clip-use").click()
    bench.changed(changed, key="numbers")
    told = page.get_by_test_id("clip-text").inner_text()
    assert float(re.match(r"rounding error of the inputs ([\d.]+) %", told)[1]) == pytest.approx(
        predicted, rel=0.05
    )
    assert page.get_by_label("Range search", exact=True).input_value() == "percentile"
