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

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 120_000
"""Milliseconds for work on a busy machine."""
IDLE = """() => document.documentElement.dataset.qlBusy === 'false'
    && document.querySelector('.ql-stage')?.dataset.cloud
    && document.querySelector('.ql-layer')?.dataset.number"""
STATE = """() => ({
    layer: document.querySelector('.ql-layer h2').title,
    numbers: [...document.querySelectorAll('.ql-tiles > div')].slice(0, 4).map((tile) => tile.children[1].textContent),
    cloud: document.querySelector('.ql-stage').dataset.cloud,
    scene: document.querySelector('.ql-head select[aria-label=Scene]').value,
    rotation: document.querySelector('input[name=rotation]').checked,
    points: document.querySelector('.quantlab-viewer').__quantlabViewer.stats().points,
})"""


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

    def settle(self) -> None:
        """Wait until nothing runs, and a moment later still nothing."""
        self.page.wait_for_function(IDLE, timeout=PATIENCE)
        self.page.wait_for_timeout(400)
        self.page.wait_for_function(IDLE, timeout=PATIENCE)

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
def _served(port: int, *arguments: str) -> Iterator[str]:
    command = [sys.executable, str(ROOT / "app.py"), "--no-browser", "--port", str(port), *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
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
def address() -> Iterator[str]:
    """The app that all tests share."""
    with _served(18760) as address:
        yield address


@pytest.fixture(scope="session")
def bench_on(address: str) -> Callable[[Any], Bench]:
    """The lab in a page of the test's own, as one that the tests of a file share; nothing is open yet."""

    def on(page: Any) -> Bench:
        page.add_init_script("localStorage.setItem('quantlab-hint', 'seen')")
        return Bench(page, address)

    return on


@pytest.fixture
def bench(page: Any, address: str) -> Bench:
    """The lab in the page of this test, of somebody who has been here before; nothing is open yet."""
    page.add_init_script("localStorage.setItem('quantlab-hint', 'seen')")
    return Bench(page, address)
