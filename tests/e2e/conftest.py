"""The app as a person uses it: the real server, the model mini, a page that may talk to this machine only."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from playwright.sync_api import TimeoutError  # noqa: A004

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 120_000
"""Milliseconds for work on a busy machine."""
IDLE = """() => document.documentElement.dataset.qlBusy === 'false'
    && document.querySelector('.ql-stage')?.dataset.cloud
    && document.querySelector('.ql-layer')?.dataset.number"""
WAITING = """() => [document.documentElement.dataset.qlBusy, document.querySelector('.ql-stage')?.dataset.cloud,
    document.querySelector('.ql-layer')?.dataset.number, document.querySelector('[data-testid=state]')?.textContent,
    document.querySelector('[data-testid=message]')?.innerText, document.body.innerText.slice(0, 500)]"""
"""What `IDLE` waits for, and what the page says instead."""
STATE = """() => ({
    layer: document.querySelector('.ql-layer h2').title,
    numbers: [...document.querySelectorAll('.ql-tiles > div')].slice(0, 4).map((tile) => tile.children[1].textContent),
    cloud: document.querySelector('.ql-stage').dataset.cloud,
    scene: document.querySelector('.ql-head select[aria-label=Scene]').value,
    rotation: document.querySelector('input[name=rotation]').checked,
    points: document.querySelector('.quantlab-viewer').__quantlabViewer.stats().points,
})"""


SEEN = "localStorage.setItem('quantlab-hint', 'seen')"


class Bench:
    """The lab in one page.

    Args:
        page: Of playwright.
        address: Of the app.
    """

    def __init__(self, page: Any, address: str) -> None:
        self.page, self.address = page, address

    def on(self, page: Any) -> Bench:
        """The same app in another page."""
        return Bench(page, self.address)

    def open(self, query: str = "") -> SimpleNamespace:
        """Load the page, wait until everything is measured, and answer its state."""
        self.page.goto(self.address + query)
        self.settle()
        return self.state()

    def begin(self) -> SimpleNamespace:
        """Bring the tab to where every lab begins, whatever was done in it before, and answer its state.

        A page that is loaded already stays, so that nothing is measured twice: every change is undone.
        """
        if self.page.url.startswith(self.address):
            self.page.keyboard.press("Escape")
            self.tab("Bench")
            self.settle()
        else:
            self.open()
        undo, worst = self.page.get_by_test_id("undo"), self.page.locator("[data-testid=worst] button").first
        while undo.is_enabled():
            undo.click()
            self.settle()
        if worst.is_visible() and worst.get_attribute("data-layer") != self.state().layer:
            worst.click()
            self.settle()
        return self.state()

    def settle(self) -> None:
        """Wait until nothing runs, and a moment later still nothing."""
        self._idle()
        self.page.wait_for_timeout(400)
        self._idle()

    def _idle(self) -> None:
        try:
            self.page.wait_for_function(IDLE, timeout=PATIENCE)
        except TimeoutError:
            pytest.fail(f"the lab does not come to rest: {self.page.evaluate(WAITING)}")

    def state(self) -> SimpleNamespace:
        """What is on the screen: layer, numbers, cloud, scene, rotation, points."""
        return SimpleNamespace(**self.page.evaluate(STATE))

    def changed(self, before: SimpleNamespace, *, key: str = "cloud") -> SimpleNamespace:
        """The state once ``key`` differs from before and nothing runs."""
        script = f"(before) => JSON.stringify(({STATE})().{key}) !== JSON.stringify(before)"
        self.page.wait_for_function(script, arg=getattr(before, key), timeout=PATIENCE)
        self.settle()
        return self.state()

    def tab(self, name: str) -> None:
        """Open a tab by its label."""
        self.page.get_by_role("tab", name=name).click()

    def preset(self, name: str) -> None:
        """Choose a preset in the row of the top."""
        self.page.get_by_label("Preset", exact=True).select_option(name)


@contextmanager
def _served(port: int, *arguments: str, **variables: str) -> Iterator[str]:
    command = [sys.executable, str(ROOT / "app.py"), "--no-browser", "--port", str(port), *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **variables}
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            for line in server.stdout:
                if line.startswith("QuantLab is at "):
                    break
            else:
                pytest.fail("the app ended before it was ready")
            yield line.split()[3]
        finally:
            server.terminate()
            server.wait(15)


@pytest.fixture(scope="session")
def served() -> Callable[..., AbstractContextManager[str]]:
    """``with served(port, *arguments) as address``: an app started as a person starts it, and ended."""
    return _served


@pytest.fixture(scope="session")
def exports(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the app that all tests share writes what is exported."""
    return tmp_path_factory.mktemp("exports")


@pytest.fixture(scope="session")
def address(exports: Path) -> Iterator[str]:
    """The app that all tests share."""
    with _served(18760, QUANTLAB_EXPORTS=str(exports)) as address:
        yield address


@pytest.fixture(scope="module")
def tab(browser: Any, guarded: Any) -> Iterator[tuple[Any, list[str]]]:
    """One tab for the tests of a file, of somebody who has been here before: its lab is measured once."""
    with guarded(browser) as (page, trouble):
        page.add_init_script(SEEN)
        yield page, trouble


@pytest.fixture
def page(tab: tuple[Any, list[str]], request: pytest.FixtureRequest) -> Iterator[Any]:
    """The tab of the file; a script error or a request that leaves this machine fails the test in which it happens.

    A test that is run again finds it empty: nobody knows what its first try left there.
    """
    page, trouble = tab
    if getattr(request.node, "execution_count", 1) > 1:
        page.goto("about:blank")
    trouble.clear()
    page.set_viewport_size({"width": 1280, "height": 720})
    yield page
    assert not trouble, trouble


@pytest.fixture(scope="session")
def bench_on(address: str) -> Callable[[Any], Bench]:
    """The lab in a page that the tests of a file share; nothing is open yet."""
    return lambda page: Bench(page, address)


@pytest.fixture
def bench(page: Any, address: str) -> Bench:
    """The lab in the tab of the file; ``begin`` it."""
    return Bench(page, address)


@pytest.fixture
def fresh(browser: Any, guarded: Any, address: str) -> Iterator[Bench]:
    """The lab in a tab of this test's own, for what changes more than a recipe; nothing is open yet."""
    with guarded(browser) as (page, trouble):
        page.add_init_script(SEEN)
        yield Bench(page, address)
    assert not trouble, trouble
