"""The app as a person uses it: the real server, the model mini, a real browser that may talk to this machine only."""

from __future__ import annotations

import pytest

pytestmark = [pytest.mark.browser, pytest.mark.timeout(400)]
CURVES = "() => document.querySelector('[data-testid=histogram]').data.map((trace) => trace.name)"
PICTURE = "() => document.querySelector('.quantlab-viewer').__quantlabViewer.screenshot()"
CAMERA = "() => document.querySelector('.quantlab-viewer').__quantlabViewer.getCamera().position"
RANGE = "() => document.querySelector('[data-testid=histogram]').layout.xaxis.range.map((x) => Math.round(100 * x))"


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Two views of a generated room as PNG files."""
    from PIL import Image

    from quantlab.scenes.synthetic import rooms

    folder = tmp_path_factory.mktemp("photos")
    paths = []
    for index, picture in enumerate(rooms(1, views=2, seed=11)[0].images):
        paths.append(folder / f"photo {index}.png")
        Image.fromarray(picture).save(paths[-1])
    return [str(path) for path in paths]


def test_a_toggle_moves_numbers_histogram_and_cloud_and_undo_takes_them_back(page, bench):
    first = bench.begin()
    assert first.points == [4 * 96 * 96] * 2
    page.locator("[data-testid=worst] button").nth(1).click()
    bench.settle()
    start = bench.state()
    assert start.layer != first.layer
    before, curves = page.evaluate(PICTURE), page.evaluate(CURVES)
    page.get_by_role("checkbox", name="rotation").check()
    after = bench.changed(start)
    assert after.numbers != start.numbers
    assert "rotated" in page.evaluate(CURVES)
    assert "rotated" not in curves
    assert "before" in page.evaluate(CURVES), "the former state stays as a ghost"
    assert page.evaluate(PICTURE) != before
    page.get_by_test_id("undo").click()
    back = bench.changed(after)
    assert back.numbers == start.numbers
    assert not back.rotation
    page.keyboard.press("Control+Shift+Z")
    assert bench.changed(back).numbers == after.numbers


def test_zoom_and_camera_stay_when_values_change(page, bench):
    start = bench.begin()
    whole = page.evaluate(RANGE)
    box = page.locator("[data-testid=histogram] .nsewdrag").first.bounding_box()
    page.mouse.move(box["x"] + 0.3 * box["width"], box["y"] + 0.4 * box["height"])
    page.mouse.down()
    page.mouse.move(box["x"] + 0.6 * box["width"], box["y"] + 0.41 * box["height"], steps=5)
    page.mouse.up()
    page.wait_for_function(f"(whole) => ({RANGE})().join() !== whole.join()", arg=whole)
    zoomed = page.evaluate(RANGE)
    page.evaluate(
        "() => { const viewer = document.querySelector('.quantlab-viewer').__quantlabViewer;"
        " const camera = viewer.getCamera(); camera.position = camera.position.map((x) => x + 0.3);"
        " viewer.setCamera(camera); }"
    )
    view = page.evaluate(CAMERA)
    page.get_by_role("checkbox", name="smoothing").check()
    bench.changed(start)
    assert page.evaluate(RANGE) == zoomed
    assert page.evaluate(CAMERA) == pytest.approx(view, abs=1e-4)


def test_uploaded_pictures_replace_the_scene_and_a_bad_file_changes_nothing(fresh, photos, tmp_path):
    page = fresh.page
    start = fresh.open()
    with page.expect_file_chooser() as chooser:
        page.locator("#ql-upload").click()
    chooser.value.set_files(photos)
    uploaded = fresh.changed(start, key="scene")
    assert uploaded.points == [2 * 96 * 96] * 2
    assert "knows only its rooms" in page.get_by_test_id("scene-note").inner_text()
    bad = tmp_path / "<img src=x onerror=alert(1)>.jpg"
    bad.write_text("this is no picture")
    with page.expect_file_chooser() as chooser:
        page.locator("#ql-upload").click()
    chooser.value.set_files([str(bad)])
    message = page.get_by_test_id("message")
    message.wait_for(state="visible", timeout=30_000)
    assert message.locator("img").count() == 0
    fresh.settle()
    after = fresh.state()
    assert (after.scene, after.numbers, after.points) == (uploaded.scene, uploaded.numbers, uploaded.points)
    page.get_by_role("checkbox", name="rotation").check()
    assert fresh.changed(after).points == uploaded.points


def test_a_page_that_is_not_heard_asks_again(fresh):
    page = fresh.page
    lost = []

    def lose_the_first(route):
        if lost or '"ready"' not in (route.request.post_data or ""):
            route.fallback()
        else:
            lost.append(route.request.url)
            route.fulfill(json={"event_id": "lost on the way"})

    page.route("**/queue/join*", lose_the_first)
    assert min(fresh.open().points) > 0
    assert lost


def test_two_browsers_do_not_see_each_others_lab(page, bench, browser):
    mine = bench.begin()
    other = browser.new_context()
    try:
        second = other.new_page()
        second_bench = bench.on(second)
        theirs = second_bench.begin()
        assert theirs.numbers == mine.numbers
        second_bench.preset("quarot")
        second_bench.changed(theirs)
        bench.settle()
        still = bench.state()
        assert (still.numbers, still.cloud) == (mine.numbers, mine.cloud)
        assert page.get_by_label("Preset", exact=True).input_value() == "rtn"
    finally:
        other.close()


def test_a_reload_finds_the_same_lab(page, bench):
    start = bench.begin()
    page.get_by_role("checkbox", name="keep").check()
    after = bench.changed(start)
    page.reload()
    bench.settle()
    again = bench.state()
    assert again.numbers == after.numbers
    assert page.get_by_role("checkbox", name="keep").is_checked()


def test_rounding_after_full_precision_takes_the_bits_that_were_chosen_before(page, bench):
    start = bench.begin()
    for name in ("weights", "activations"):
        page.get_by_label(f"Bits per {name[:-1]} of the preset").select_option("3")
        start = bench.changed(start)
    bench.preset("full_precision")
    start = bench.changed(start)
    bench.preset("rtn")
    bench.changed(start)
    assert page.get_by_label("Bits per weight of the preset").input_value() == "3"
    assert page.get_by_label("Bits per activation of the preset").input_value() == "3"


BEYOND = """(width) => [...document.querySelectorAll('#ql button, #ql select, #ql .ql-tiles dd')].filter((item) => {
    const box = item.getBoundingClientRect();
    return box.width > 0 && box.right > width + 1 && !item.closest('.quantlab-viewer, .tab-wrapper');
}).map((item) => item.outerHTML.slice(0, 120))"""


def test_nothing_is_cut_off_in_a_narrow_window(page, bench):
    bench.begin()
    for width in (1280, 1152, 1024, 390):
        page.set_viewport_size({"width": width, "height": 844})
        page.wait_for_timeout(500)
        assert page.evaluate(BEYOND, width) == [], width


def test_the_map_opens_layers_and_the_table_and_the_recipe_follow(page, bench):
    start = bench.begin()
    box = page.locator("[data-testid=map] .nsewdrag").first.bounding_box()
    page.mouse.click(box["x"] + 0.1 * box["width"], box["y"] + 0.05 * box["height"])
    layer = bench.changed(start, key="layer").layer
    assert "frame_blocks.0" in layer
    bench.tab("Modules")
    page.wait_for_selector("#ql-modules [data-row='3'][data-col='1']", timeout=30_000)
    page.get_by_role("checkbox", name="rotation").first.check()
    bench.tab("Recipe")
    page.wait_for_function(
        f"document.querySelector('[data-testid=yaml]')?.value.includes({layer!r})", timeout=30_000
    )
    assert "hadamard" in page.get_by_test_id("yaml").input_value()
    assert "import quantlab" in page.get_by_test_id("python").inner_text()


LEGEND = """() => { const plot = document.querySelector('[data-testid=histogram]');
    const bottom = plot.querySelector('.legend').getBoundingClientRect().bottom;
    return bottom - plot.querySelector('.nsewdrag').getBoundingClientRect().top; }"""

WIDTH = "() => document.querySelector('[data-testid=histogram]')._fullLayout.width"
"""Of the plot as it was drawn last."""


def test_a_legend_stays_above_its_plot_when_the_window_grows(page, bench):
    start = bench.begin()
    page.get_by_role("checkbox", name="rotation").check()
    bench.changed(start)
    assert page.evaluate(LEGEND) <= 1
    width = page.evaluate(WIDTH)
    page.set_viewport_size({"width": 1800, "height": 900})
    page.wait_for_function(f"(width) => ({WIDTH})() > width", arg=width)
    page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    assert page.evaluate(LEGEND) <= 1
