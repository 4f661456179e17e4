"""From what looks wrong in the clouds to the layer that did it, with the mouse: lasso, suspects, restore, undo."""

from __future__ import annotations

import re

import pytest

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]
VERIFIED = """() => [...document.querySelectorAll('[data-testid=suspects] li')].length > 0
    && !document.querySelector('.ql-estimated') && document.documentElement.dataset.qlBusy === 'false'"""


@pytest.fixture(scope="module")
def lab(tab, bench_on):
    """The lab open in the error view; the tests of this file go on from one another."""
    bench = bench_on(tab[0])
    bench.open()
    bench.page.locator(".ql-stage").get_by_role("button", name="error").first.click()
    return bench


def error(page):
    """The region's error in percent of the scene, and the pixels, as the sentence says them."""
    told = page.get_by_test_id("blame-told").inner_text()
    found = re.match(r"([\d\u202f]+) pixels of the region, mean error ([\d.]+) % of the scene", told)
    assert found, told
    return float(found[2]), int(found[1].replace("\u202f", ""))


def draw(bench):
    """A loop around the middle of the clouds."""
    page, stage = bench.page, bench.page.locator(".quantlab-viewer .stage").bounding_box()
    page.locator(".quantlab-viewer .stage > canvas").focus()
    page.keyboard.press("l")
    x, y = stage["x"] + stage["width"] / 2, stage["y"] + stage["height"] / 2
    corners = [(-60, -60), (60, -60), (60, 60), (-60, 60), (-60, -60)]
    page.mouse.move(x + corners[0][0], y + corners[0][1])
    page.mouse.down()
    for across, down in corners[1:]:
        page.mouse.move(x + across, y + down, steps=4)
    page.mouse.up()


def test_a_lasso_on_the_error_view_names_suspects_and_measures_them(lab):
    page = lab.page
    draw(lab)
    page.wait_for_selector("[data-testid=suspects] li", timeout=60_000)
    page.wait_for_function(VERIFIED, timeout=60_000)
    assert page.get_by_label("Colour by").input_value() == "blame"
    damage, pixels = error(page)
    assert pixels > 50
    assert damage > 0
    assert "repairs" in page.get_by_test_id("blame-told").inner_text()
    first = page.locator("[data-testid=suspects] li").first
    assert float(first.locator(".ql-worst-value").inner_text().split()[0]) > 0


def test_a_suspect_opens_as_any_layer_does_and_by_keyboard(lab):
    page = lab.page
    second = page.locator("[data-testid=suspects] li > button").nth(1)
    name = second.get_attribute("data-layer")
    second.focus()
    page.keyboard.press("Enter")
    page.wait_for_function("(name) => document.querySelector('.ql-layer h2').title === name", arg=name)
    lab.settle()


def test_restoring_the_first_lowers_the_regions_error_by_what_was_measured_and_undo_brings_it_back(lab):
    page = lab.page
    before, pixels = error(page)
    first = page.locator("[data-testid=suspects] li").first
    share = float(first.locator(".ql-worst-value").inner_text().split()[0]) / 100
    first.locator("[data-do=restore]").click()
    page.wait_for_selector("[data-testid=blame-find]:not([hidden])", timeout=60_000)
    lab.settle()
    after, same = error(page)
    assert same == pixels
    assert after == pytest.approx(before * (1 - share), rel=0.03)
    assert "when it was blamed" in page.get_by_test_id("blame-told").inner_text()
    page.get_by_test_id("blame-find").click()
    page.wait_for_selector("[data-testid=blame-find]", state="hidden", timeout=60_000)
    page.wait_for_function(VERIFIED, timeout=60_000)
    assert "was blamed" not in page.get_by_test_id("blame-told").inner_text()
    page.get_by_role("button", name="Undo").click()
    page.wait_for_selector("[data-testid=blame-find]:not([hidden])", timeout=60_000)
    lab.settle()
    assert error(page)[0] == before


def test_more_bits_for_a_suspect_are_a_rule_of_that_layer(lab):
    page = lab.page
    second = page.locator("[data-testid=suspects] li").nth(1)
    name = second.locator("> button").get_attribute("data-layer")
    second.locator("[data-do=raise]").click()
    lab.settle()
    page.locator(f'[data-testid=suspects] [data-layer="{name}"]').click()
    page.locator("#ql-settings").get_by_text("W6 A6").first.wait_for()
    lab.settle()
    page.get_by_role("button", name="Undo").click()
    lab.settle()


def test_a_wiped_region_gives_the_map_back(lab):
    page = lab.page
    page.locator(".quantlab-viewer").get_by_role("button", name="Clear the region").click()
    page.wait_for_selector("[data-testid=suspects]", state="hidden", timeout=60_000)
    assert page.get_by_label("Colour by").input_value() == "tre"
