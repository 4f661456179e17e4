"""How the app treats a person: the first visit, the keyboard, and what axe-core finds of accessibility."""

from __future__ import annotations

import pytest
from axe_playwright_python.sync_playwright import Axe

pytestmark = [pytest.mark.browser, pytest.mark.timeout(400)]


FOCUSED = """() => { let at = document.activeElement;
    while (at?.shadowRoot?.activeElement) at = at.shadowRoot.activeElement;
    if (!at || at === document.body) return null;
    const name = at.ariaLabel || at.title || at.innerText || at.name || `${at.tagName} ${at.className}`;
    return [name, at.matches(':focus-visible')]; }"""


def serious(page):
    """Serious and critical findings of axe-core: rule, and where."""
    found = Axe().run(page, options={"resultTypes": ["violations"]}).response["violations"]
    return [
        f"{item['id']}: {' '.join(str(part) for part in node['target'])} {node['html'][:160]}"
        for item in found
        if item["impact"] in ("serious", "critical")
        for node in item["nodes"][:3]
    ]


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_no_serious_fault_on_any_tab(page, bench, theme):
    bench.open(f"?__theme={theme}")
    faults = {}
    for tab in page.get_by_role("tab").all():
        tab.click()
        page.wait_for_timeout(300)  # colours fade in
        bench.settle()
        faults[tab.inner_text()] = serious(page)
    assert len(faults) >= 6
    assert not any(faults.values()), "\n".join(sorted({item for found in faults.values() for item in found}))


def test_the_first_visit_shows_three_steps_and_no_other_does(fresh):
    page = fresh.page
    page.add_init_script("if (!sessionStorage.visited) localStorage.removeItem('quantlab-hint')")
    fresh.open()
    card = page.get_by_test_id("hint")
    card.wait_for()
    page.evaluate("sessionStorage.visited = 'yes'")
    told = []
    for _ in range(3):
        told.append(card.inner_text())
        box = card.bounding_box()
        assert box["x"] >= 0
        assert box["y"] >= 0
        assert box["x"] + box["width"] <= 1280
        assert box["y"] + box["height"] <= 720
        assert page.locator(".ql-hinted").count() == 1
        card.locator(".ql-primary").click()
    assert len(set(told)) == 3
    assert card.count() == 0
    page.reload()
    fresh.settle()
    page.wait_for_timeout(500)
    assert page.get_by_test_id("hint").count() == 0


def test_every_control_can_be_reached_by_tab_and_shows_that_it_has_the_focus(fresh):
    page = fresh.page
    fresh.open()
    reached = set()
    page.evaluate("document.body.focus()")
    for _ in range(120):
        page.keyboard.press("Tab")
        name = page.evaluate(FOCUSED)
        if name is None:
            break
        assert name[1], f"{name[0]} has the focus unseen"
        reached.add(name[0].strip()[:60])
    for wanted in ("Model", "Scene", "Preset", "Colour by"):
        assert any(wanted in name for name in reached), (wanted, sorted(reached))


def test_a_browser_that_forbids_storage_opens_the_lab_and_turns_its_theme(fresh):
    page = fresh.page
    page.add_init_script(
        "for (const kind of ['localStorage', 'sessionStorage']) Object.defineProperty(window, kind,"
        " { get() { throw new DOMException('forbidden', 'SecurityError'); } })"
    )
    assert fresh.open().layer
    dark = page.evaluate("document.body.classList.contains('dark')")
    page.get_by_title("Light or dark").click()
    assert page.evaluate("document.body.classList.contains('dark')") != dark
