"""The tab "Decide" in a browser: a search on mini, the slider, a point that becomes the recipe, undo, two recipes."""

from __future__ import annotations

import re

import pytest

pytestmark = [pytest.mark.browser, pytest.mark.timeout(900)]
PATIENCE = 600_000
"""Milliseconds for a whole search on a busy machine."""
IDLE = """() => document.documentElement.dataset.qlBusy === 'false'
    && document.querySelector('.ql-stage')?.dataset.cloud"""
FRONT = "document.querySelector('[data-testid=front]')"
SIZE = "document.querySelector('[data-number=size] dd').textContent"


QUANTIZED = 2
FEW_LAYERS = """format: 1
name: rtn
defaults: {weights: 4, activations: 4}
rules:
- match: "*.frame_blocks.*"
  set: {keep: true}
- match: "*.global_blocks.[012].*"
  set: {keep: true}
- match: "*.global_blocks.3.attn"
  set: {keep: true}
"""
"""A recipe of one branch behind all others, so that a whole search takes seconds."""


@pytest.fixture(scope="module")
def searched(tab, address):
    """A page in which a search has ended, and the size of the recipe it began with; the tests of this file share it."""
    page, _ = tab
    page.goto(address)
    page.wait_for_function(IDLE, timeout=PATIENCE)
    page.get_by_role("tab", name="Recipe & export").click()
    page.get_by_test_id("yaml").fill(FEW_LAYERS)
    page.get_by_role("button", name="Apply", exact=True).click()
    page.get_by_role("tab", name="Decide").click()
    page.get_by_text(f"A search runs each of {QUANTIZED} layers").wait_for(timeout=PATIENCE)
    page.wait_for_function(IDLE, timeout=PATIENCE)
    page.get_by_role("button", name="Search", exact=True).click()
    page.wait_for_function(f"() => {FRONT}.data?.length > 3", timeout=PATIENCE)
    page.wait_for_function(IDLE, timeout=PATIENCE)
    return page, page.evaluate(f"() => {SIZE}")


@pytest.fixture
def found(searched, tab):
    """That page with the front shown and every change since the search undone."""
    page, size = searched
    page.get_by_role("button", name="Front", exact=True).click()
    while page.evaluate(f"() => {SIZE}") != size:
        page.get_by_role("button", name="Undo").click()
        page.wait_for_function(IDLE, timeout=PATIENCE)
        page.wait_for_timeout(200)
    yield page
    assert not tab[1], tab[1]


def megabytes(locator):
    return float(re.search(r"([0-9.]+)\sMB", locator.text_content())[1])


def test_the_slider_names_the_best_recipe_that_fits(found):
    bits = found.get_by_test_id("allotted").locator("td[data-bits]")
    assert bits.count() == QUANTIZED, "every layer that a search varies has its cell"
    slider, best, read = (
        found.get_by_label("Budget in megabytes"),
        found.get_by_test_id("best"),
        found.get_by_test_id("budget"),
    )
    assert megabytes(best) <= megabytes(read)
    words = set()
    for key in ("End", "Home"):
        slider.press(key)
        end = slider.get_attribute("max" if key == "End" else "min")
        assert megabytes(read) == pytest.approx(float(end) / 1e6, abs=0.011)
        assert megabytes(best) <= megabytes(read)
        drawn = found.evaluate(f"() => {FRONT}.layout.shapes[0].x0")
        assert drawn == pytest.approx(float(slider.input_value()) / 1e6)
        words.add(best.text_content())
    assert len(words) == 2


def test_a_latency_cannot_be_chosen_and_says_why(found):
    button = found.get_by_role("button", name="ms", exact=True)
    assert button.is_disabled()
    assert "Press Measure" in button.get_attribute("title")


def test_a_point_becomes_the_recipe_and_undo_takes_it_back(found):
    before = found.evaluate(f"() => {SIZE}")
    place = found.evaluate(f"() => {FRONT}.data.find((one) => one.name === 'run').customdata[3]")
    found.evaluate(f"(place) => {FRONT}.emit('plotly_click', {{points: [{{customdata: place}}]}})", place)
    found.wait_for_function(f"(before) => {SIZE} !== before", arg=before, timeout=PATIENCE)
    found.wait_for_function(IDLE, timeout=PATIENCE)
    ring = f"{FRONT}.data.find((one) => one.name === 'in force')"
    found.wait_for_function(f"(place) => {ring}?.customdata[0] === place", arg=place)
    found.get_by_role("button", name="Undo").click()
    found.wait_for_function(f"(before) => {SIZE} === before", arg=before, timeout=PATIENCE)
    found.wait_for_function(IDLE, timeout=PATIENCE)


def test_layers_are_ranked_worst_at_the_top(found):
    found.get_by_role("button", name="Layers", exact=True).click()
    found.wait_for_function(f"() => {FRONT}.data?.[0]?.type === 'bar'")
    values = found.evaluate(f"() => {FRONT}.data[0].x")
    assert len(values) == QUANTIZED
    assert values == sorted(values)
    of_bits = found.get_by_role("group", name="Bits of every layer by itself")
    few = of_bits.locator("[aria-pressed=true]").inner_text() == "2"  # a first try may have left it so
    of_bits.get_by_role("button", name="4" if few else "2", exact=True).click()
    found.wait_for_function(f"(old) => {FRONT}.data[0].x.at(-1) {'<' if few else '>'} old", arg=values[-1])
    found.get_by_role("button", name="Front", exact=True).click()


def test_two_recipes_are_compared_layer_by_layer(found):
    found.get_by_role("button", name="Differences", exact=True).click()
    right = found.get_by_label("Recipe on the right")
    chosen = right.locator("option", has_text=re.compile("chosen|on the front")).first.get_attribute("value")
    right.select_option(chosen)
    told = "document.querySelector('[data-testid=differences]').textContent"
    found.wait_for_function(f"() => /layers? of other bits/.test({told})")
    count = int(
        re.search(r"(\d+) layers? of other bits", found.get_by_test_id("differences").text_content())[1]
    )
    assert found.locator(".ql-differ tbody tr").count() == count > 0
    found.get_by_role("button", name="Front", exact=True).click()
