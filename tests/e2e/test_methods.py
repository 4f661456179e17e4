"""Methods, their calibration scenes and the sheet of all settings, in a real browser."""

from __future__ import annotations

import pytest

pytestmark = [pytest.mark.browser, pytest.mark.timeout(400)]

POOL = """() => { const map = document.querySelector('[data-testid=pool-map]')?.data;
    const named = map?.filter((trace) => trace.name).map((trace) => [trace.name, trace.customdata]);
    return named && Object.fromEntries(named); }"""


def test_calibration_scenes_are_tried_on_the_map_and_applied_to_the_recipe(fresh):
    page = fresh.page
    start = fresh.open()
    fresh.preset("smoothquant")
    before = fresh.changed(start)
    fresh.tab("Calibration")
    page.wait_for_function(f"() => '4 picked' in (({POOL})() ?? {{}})", timeout=120_000)
    page.get_by_label("How scenes are picked").select_option("nfds")
    page.wait_for_function(f"() => '8 left out' in (({POOL})() ?? {{}})", timeout=120_000)
    shown = page.evaluate(POOL)
    assert len(shown["8 picked"]) == 8
    assert not set(shown["8 picked"]) & set(shown["8 left out"])
    assert page.get_by_test_id("pool-picked").locator("li").count() == 8
    left_out = page.get_by_test_id("pool-dropped").inner_text()
    assert "(black)" in left_out
    assert "σ off" in left_out
    page.get_by_label("scenes", exact=True).fill("5")
    page.get_by_label("scenes", exact=True).press("Enter")
    page.wait_for_function(f"() => '5 picked' in (({POOL})() ?? {{}})", timeout=120_000)
    fresh.settle()
    assert fresh.state().numbers == before.numbers, "trying changes nothing yet"
    page.get_by_role("button", name="Apply").click()
    after = fresh.changed(before, key="numbers")
    fresh.tab("Recipe")
    page.wait_for_function(
        "document.querySelector('[data-testid=yaml]')?.value.includes('method: nfds')", timeout=30_000
    )
    assert "scenes: 5" in page.get_by_test_id("yaml").input_value()
    assert "recipe.calibrated('nfds', scenes=5)" in page.get_by_test_id("python").inner_text()
    page.get_by_test_id("undo").click()
    assert fresh.changed(after, key="numbers").numbers == before.numbers


CARD = """() => { const card = document.querySelector('[data-testid=method-card]');
    const wide = [card, card.querySelector('.ql-formula')].some((box) => box.scrollWidth > box.clientWidth + 1);
    return { title: card.querySelector('h2').textContent, formula: card.querySelector('.ql-formula').textContent,
        help: card.querySelector('.ql-method-help').textContent, link: card.querySelector('a')?.href ?? '',
        facts: [...card.querySelectorAll('dt')].map((item) => item.textContent),
        fits: !wide && card.scrollHeight <= card.clientHeight + 1 }; }"""
COLOURS = "() => JSON.stringify(document.querySelector('[data-testid=map]').data.map((trace) => trace.z))"


def test_every_method_is_explained_on_one_screen(page, bench):
    bench.begin()
    bench.tab("Methods")
    names = page.locator(".ql-method-list button")
    names.first.wait_for()
    assert names.count() == page.get_by_label("Preset", exact=True).locator("option").count() > 15
    for name in names.all():
        name.click()
        card = page.evaluate(CARD)
        assert card["title"] == name.inner_text()
        assert card["fits"], card["title"]
        assert card["formula"]
        assert card["help"]
        assert "cost" in card["facts"]
        if card["title"] != "Full precision":
            assert card["link"].startswith("https://arxiv.org/abs/"), card["title"]
            assert "code" in card["facts"], card["title"]


def test_a_method_is_used_from_its_card_and_recipe_and_map_follow(page, bench):
    start = bench.begin()
    colours = page.evaluate(COLOURS)
    bench.tab("Methods")
    page.locator(".ql-method-list button", has_text="QuaRot").click()
    page.get_by_role("button", name="Use this method").click()
    after = bench.changed(start)
    assert after.rotation
    assert "In force." in page.get_by_test_id("method-card").inner_text()
    assert page.get_by_role("button", name="Use this method").count() == 0
    assert page.get_by_label("Preset", exact=True).input_value() == "quarot"
    bench.tab("Bench")
    assert page.evaluate(COLOURS) != colours
    bench.tab("Recipe")
    page.wait_for_function("document.querySelector('[data-testid=yaml]')?.value.includes('name: quarot')")
    assert "rotation: hadamard" in page.get_by_test_id("yaml").input_value()
    page.get_by_test_id("undo").click()
    assert bench.changed(after).numbers == start.numbers


def test_the_sheet_sets_what_the_row_has_no_room_for_and_takes_a_refused_value_back(page, bench):
    start = bench.begin()
    page.get_by_test_id("more-button").click()
    sheet = page.get_by_test_id("more")
    mode = sheet.locator("[data-setting=activation_mode]")
    mode.focus()
    page.keyboard.press("ArrowDown")  # static, which scales per token cannot be
    page.get_by_test_id("message").wait_for(state="visible", timeout=30_000)
    page.wait_for_function(
        "document.querySelector('[data-setting=activation_mode]').value === 'dynamic'", timeout=30_000
    )
    percentile = sheet.locator("[data-setting=percentile]")
    percentile.fill("20")
    percentile.press("Enter")
    page.wait_for_function(
        "document.querySelector('[data-setting=percentile]').value === '99.9'", timeout=30_000
    )
    assert bench.state().numbers == start.numbers
    sheet.get_by_label("Apply changes of the sheet to").select_option("block")
    page.wait_for_function("document.querySelector('.ql-settings > .ql-reach select').value === 'block'")
    sheet.locator("[data-setting=rotation]").select_option("dct")
    after = bench.changed(start)
    assert sheet.is_visible(), "one change after another, with the sheet open"
    assert after.rotation
    page.keyboard.press("Escape")
    bench.tab("Recipe")
    page.wait_for_function("document.querySelector('[data-testid=yaml]')?.value.includes('rotation: dct')")
    block = start.layer.rpartition(".mlp")[0] or start.layer.rpartition(".attn")[0]
    assert f"match: {block}\n" in page.get_by_test_id("yaml").input_value()


def test_a_method_that_learns_says_how_far_it_is_and_stops_at_once(page, bench):
    start = bench.begin()
    bench.tab("Methods")
    page.locator(".ql-method-list button", has_text="QuantVGGT").click()
    page.get_by_role("button", name="Use this method").click()
    page.wait_for_function("document.querySelector('[data-testid=state]').textContent.includes(' of ')")
    page.get_by_test_id("stop").click()
    page.wait_for_function("document.documentElement.dataset.qlBusy === 'false'", timeout=15_000)
    waiting = page.get_by_test_id("state").inner_text()
    assert "calibration" in waiting, "a forward's time alone would be a promise nobody keeps"
    page.get_by_test_id("undo").click()
    bench.tab("Bench")
    bench.settle()
    assert bench.state().numbers == start.numbers
