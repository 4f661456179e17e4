"""The report in a real browser, opened as a file: what is seen, what a click does, and that it asks nobody."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

pytestmark = pytest.mark.browser

SPY = """
window.violations = []; window.ran = [];
document.addEventListener("securitypolicyviolation", (event) => violations.push(event.violatedDirective));
for (const name of ["alert", "open"]) window[name] = (text) => ran.push(`${name} ${text}`);
"""


SPACING = 110
"""Milliseconds between two downloads."""


@dataclass
class Opened:
    """A page that shows a report, and what went wrong in it or left it."""

    page: Any
    requests: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def seen(self) -> np.ndarray:
        """The window [H, W, 3] as it is drawn."""
        return np.asarray(Image.open(io.BytesIO(self.page.screenshot())).convert("RGB"), np.int16)

    def saved(self, button: Any) -> tuple[str, bytes]:
        """What a click on a button saves: the file's name and bytes.

        Chromium takes ten downloads of a page within a second and drops the eleventh without a word: no person is as
        fast, a test on an idle machine is.
        """
        self.page.wait_for_timeout(SPACING)
        with self.page.expect_download() as told:
            button.click()
        return told.value.suggested_filename, Path(told.value.path()).read_bytes()


Open = Callable[..., Opened]


@pytest.fixture(scope="module")
def open_file(browser: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Open]:
    """Opens a report from the disk; everything but itself that is asked for is written down."""
    folder, contexts = tmp_path_factory.mktemp("reports"), []

    def opened(html: str, **settings: Any) -> Opened:
        path = folder / f"{len(contexts)}.html"
        path.write_text(html)
        contexts.append(browser.new_context(**{"viewport": {"width": 1280, "height": 720}} | settings))
        contexts[-1].add_init_script(SPY)
        shown = Opened(contexts[-1].new_page())
        shown.page.on("request", lambda request: shown.requests.append(request.url))
        shown.page.on("pageerror", lambda error: shown.problems.append(str(error)))
        shown.page.on("console", lambda line: line.type == "error" and shown.problems.append(line.text))
        shown.page.goto(path.as_uri())
        shown.page.wait_for_function("() => document.querySelector('.cell[aria-pressed=true]') !== null")
        return shown

    yield opened
    for context in contexts:
        context.close()


@pytest.fixture(scope="module")
def shared(open_file: Open, html: str) -> Opened:
    return open_file(html)


@pytest.fixture
def plain(shared: Opened) -> Opened:
    """The page that the tests of this file share, as it began; a test that failed may have left it otherwise."""
    shared.page.emulate_media(media="screen")
    shared.page.select_option("#color-by", "tre")
    return shared


def left(shown: Opened) -> list[str]:
    """Requests for anything but the file itself and what it holds."""
    return [url for url in shown.requests[1:] if not url.startswith(("data:", "blob:"))]


DRAWN = "() => Math.min(...document.getElementById('ql-viewer').__quantlabViewer.stats().drawn) > 1000"


def test_the_clouds_are_drawn_in_the_page(plain: Opened) -> None:
    plain.page.locator("#ql-viewer").scroll_into_view_if_needed()
    plain.page.wait_for_function(DRAWN)
    stats = plain.page.evaluate("document.getElementById('ql-viewer').__quantlabViewer.stats()")
    assert stats["contexts"] == 1
    assert min(stats["points"]) > 1000
    assert min(stats["drawn"]) > 1000
    assert plain.page.get_by_text("full precision", exact=True).first.is_visible()


def test_a_cell_of_the_map_shows_the_numbers_of_its_layer(plain: Opened, data) -> None:
    names = [layer.name for layer in data.layers]
    index = next(at for at, name in enumerate(names) if data.plan.layers[name].quantized)
    panel = plain.page.locator("#layer-panel")
    plain.page.locator(f'#maps > :not([hidden]) [data-layer="{index}"]').click()
    assert names[index] in panel.inner_text()
    value = data.diagnosis.layers[names[index]]
    shown = panel.locator("dt", has_text="TRE").locator("xpath=following-sibling::dd").inner_text()
    assert float(shown.replace("−", "-")) == pytest.approx(value, rel=0.01)


def test_the_map_is_walked_with_the_arrow_keys_and_keeps_its_place_in_another_colour(plain: Opened) -> None:
    first = plain.page.locator('#maps > :not([hidden]) .cell[aria-pressed="true"]')
    first.focus()
    before = plain.page.locator("#layer-panel code").inner_text()
    plain.page.keyboard.press("ArrowDown")
    after = plain.page.locator("#layer-panel code").inner_text()
    assert after != before
    plain.page.keyboard.press("ArrowUp")
    assert plain.page.locator("#layer-panel code").inner_text() == before
    plain.page.select_option("#color-by", "kurtosis")
    assert plain.page.locator("#maps > :not([hidden])").count() == 1
    assert plain.page.locator("#layer-panel code").inner_text() == before
    assert plain.page.locator("#map-help").inner_text().startswith("How heavy")
    plain.page.select_option("#color-by", "tre")


def test_every_figure_saves_its_numbers_and_its_picture(plain: Opened, data, page_data, html: str) -> None:
    tables = page_data(html)["tables"]
    for button in plain.page.locator('button[data-export="csv"]').all():
        name = button.get_attribute("data-name")
        file, content = plain.saved(button)
        rows = list(csv.reader(io.StringIO(content.decode("utf-8-sig"))))
        assert file.endswith(f"-{name}.csv")
        assert {len(row) for row in rows} == {len(rows[0])}
        if "rows" in tables.get(name, ()):
            assert len(rows) == 1 + len(tables[name]["rows"])
    counted = [row for row in rows_of(plain, "layer-1") if row[0] == "raw"]
    assert sum(int(row[3]) for row in counted) == data.worst[0].steps["raw"].total
    for name in ("layer-1", "layers", "clouds"):
        button = plain.page.locator(f'button[data-export="png"][data-name="{name}"]')
        picture = np.asarray(Image.open(io.BytesIO(plain.saved(button)[1])).convert("RGB"))
        assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 20, "something is drawn"


def test_the_points_that_are_saved_are_as_far_apart_as_the_comparison_says(plain: Opened, data) -> None:
    rows = np.array([[float(cell) for cell in row] for row in rows_of(plain, "clouds") if "" not in row])
    errors = data.comparison.errors
    assert len(rows) > 0.9 * errors.size
    apart = np.linalg.norm(rows[:, 1:4] - rows[:, 4:7], axis=1)
    assert np.median(apart) == pytest.approx(np.nanmedian(errors), rel=0.05)
    assert set(rows[:, 0]) == {0, 1}


def rows_of(shown: Opened, name: str) -> list[list[str]]:
    _, content = shown.saved(shown.page.locator(f'button[data-export="csv"][data-name="{name}"]'))
    return list(csv.reader(io.StringIO(content.decode("utf-8-sig"))))[1:]


def test_the_recipe_is_copied(plain: Opened, data) -> None:
    plain.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    plain.page.locator('button[data-copy="recipe-yaml"]').click()
    plain.page.get_by_text("Copied").wait_for()
    assert plain.page.evaluate("navigator.clipboard.readText()") == data.recipe.to_yaml()


VIEW = "document.getElementById('ql-viewer').__quantlabViewer.getCamera()"


def test_the_wheel_scrolls_the_page_until_the_view_was_clicked(plain: Opened) -> None:
    view = plain.page.locator("#ql-viewer")
    plain.page.evaluate("document.activeElement.blur(); scrollTo({top: 0, behavior: 'instant'})")
    box = view.bounding_box()
    plain.page.mouse.move(box["x"] + 300, box["y"] + 120)
    camera = plain.page.evaluate(VIEW)
    plain.page.mouse.wheel(0, 80)
    plain.page.wait_for_function("() => scrollY > 40")
    assert plain.page.evaluate(VIEW) == camera
    plain.page.mouse.click(box["x"] + 300, box["y"] + 60)
    stood = plain.page.evaluate("scrollY")
    plain.page.mouse.wheel(0, 80)
    plain.page.wait_for_function(f"(before) => JSON.stringify({VIEW}) !== JSON.stringify(before)", arg=camera)
    assert plain.page.evaluate("scrollY") == stood


def test_printing_puts_a_picture_in_place_of_the_clouds(plain: Opened) -> None:
    plain.page.evaluate("dispatchEvent(new Event('beforeprint'))")
    plain.page.emulate_media(media="print")
    assert plain.page.locator("#poster").is_visible()
    assert plain.page.locator("#poster").get_attribute("src").startswith("data:image/png")
    assert not plain.page.locator("#ql-viewer").is_visible()
    assert not plain.page.locator("button").first.is_visible()
    plain.page.emulate_media(media="screen")


def test_after_all_of_that_nothing_was_asked_for_and_no_rule_was_broken(plain: Opened) -> None:
    assert left(plain) == []
    assert plain.page.evaluate("violations") == []
    assert plain.problems == []


def test_names_like_markup_run_nothing_and_a_spreadsheet_reads_them_as_text(
    open_file: Open, hostile: str
) -> None:
    shown = open_file(hostile)
    for cell in shown.page.locator("#maps > :not([hidden]) .cell").all()[:4]:
        cell.hover()
        cell.click()
    assert "</script><img src=x onerror=alert(1)>" in shown.page.locator("#layer-panel").inner_text()
    shown.page.locator("summary").first.click()
    rows_of(shown, "scenes")
    shown.page.wait_for_timeout(200)
    assert shown.page.evaluate("ran") == []
    assert shown.page.evaluate("violations") == []
    assert shown.page.locator("img").count() == 1
    assert left(shown) == []
    assert shown.problems == []


def test_a_formula_in_a_name_is_saved_as_text(open_file: Open, html: str) -> None:
    shown = open_file(html.replace('"tiny scene 0"', '"=1+1"').replace('"tiny scene 1"', '"-2,\\"x\\""'))
    names = [row[0] for row in rows_of(shown, "scenes")]
    assert names == ["'=1+1", '\'-2,"x"']


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_serious_fault(open_file: Open, html: str, scheme: str) -> None:
    from axe_playwright_python.sync_playwright import Axe

    shown = open_file(html, color_scheme=scheme)
    for summary in shown.page.locator("summary").all():
        summary.click()
    found = Axe().run(shown.page).response["violations"]
    serious = [
        f"{one['id']}: {one['nodes'][0]['html'][:160]}"
        for one in found
        if one["impact"] in {"serious", "critical"}
    ]
    assert serious == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_has_the_colours_of_the_readers_theme(open_file: Open, html: str, scheme: str) -> None:
    shown = open_file(html, color_scheme=scheme)
    corner = shown.seen()[-1, 2]
    assert (corner.mean() < 60) == (scheme == "dark")
    text = shown.page.evaluate("getComputedStyle(document.querySelector('h1')).color")
    assert (int(text.split("(")[1].split(",")[0]) > 150) == (scheme == "dark")
    canvas = shown.page.evaluate(
        "getComputedStyle(document.getElementById('ql-viewer').shadowRoot.querySelector('.root')).colorScheme"
    )
    assert canvas == scheme


def test_on_a_phone_nothing_is_wider_than_the_screen(open_file: Open, html: str) -> None:
    shown = open_file(html, viewport={"width": 390, "height": 844})
    assert shown.page.evaluate("document.documentElement.scrollWidth") == 390
    assert shown.page.evaluate("document.body.scrollWidth") == 390
    tile = shown.page.locator(".tiles dd").first
    assert tile.bounding_box()["width"] > 120


def test_without_a_script_everything_but_the_clouds_can_be_read(
    browser: Any, html: str, tmp_path: Path
) -> None:
    path = tmp_path / "r.html"
    path.write_text(html)
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(path.as_uri())
    assert page.get_by_text("The clouds need JavaScript").is_visible()
    assert page.locator("#worst svg").first.is_visible()
    context.close()
