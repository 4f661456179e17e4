"""What every test may ask for, and which tests this machine can run. It holds no test and no expected number."""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from hypothesis import settings

CHROMIUM_ARGUMENTS = [
    "--no-sandbox",
    "--use-gl=angle",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-default-apps",
    "--no-first-run",
]
"""Software GL, and no calls home."""

if "PYTEST_XDIST_WORKER" in os.environ:  # the processes share the cores; before torch is imported
    os.environ.setdefault("OMP_NUM_THREADS", "1")

settings.register_profile("same", derandomize=True, deadline=None)
settings.load_profile("same")  # the same examples in every run; others with --hypothesis-profile=default

LONGEST = ("tests/e2e/", "tests/notebooks/")
"""Folders that begin first, so that no process waits for them at the end."""

LOCAL_HOSTS = {"127.0.0.1", "localhost", "::1"}
LOCAL_SCHEMES = {"data", "blob", "about"}


def is_local(url: str) -> bool:
    """Whether a request for ``url`` stays on this machine."""
    parts = urlsplit(url)
    return parts.scheme in LOCAL_SCHEMES or parts.hostname in LOCAL_HOSTS


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="also run the tests marked slow")


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """The suite, or a folder of it, in a process per core, four at most; a file named by its path in this one."""
    if any(Path(name.partition("::")[0]).is_file() for name in config.args):
        return 0
    return min(os.cpu_count() or 1, 4)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """A folder stays whole in one process: its tests share networks, servers and their ports (docs/decisions/025)."""
    from xdist.scheduler import LoadScopeScheduling

    class ByFolder(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return nodeid.partition("::")[0].rpartition("/")[0]

    return ByFolder(config, log)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """The longest folders first; and skip, with a reason, what this machine or this call leaves out."""
    items.sort(key=lambda item: not item.nodeid.startswith(LONGEST))
    absent = {
        "slow": "" if config.getoption("--slow") else "slow: run with --slow",
        "gpu": "" if _has_gpu(items) else "no CUDA device on this machine",
        "browser": _missing_browser(),
    }
    for item in items:
        if item.get_closest_marker(
            "browser"
        ):  # a starved machine loses an event now and then: docs/decisions/021
            item.add_marker(pytest.mark.flaky(reruns=2))
        for mark, reason in absent.items():
            if reason and item.get_closest_marker(mark):
                item.add_marker(pytest.mark.skip(reason=reason))


def pytest_runtest_setup() -> None:
    """Every test draws the same in every run: torch seeds itself anew in each process."""
    import torch

    torch.manual_seed(0)


def _has_gpu(items: list[pytest.Item]) -> bool:
    if not any(item.get_closest_marker("gpu") for item in items):
        return False
    import torch

    return torch.cuda.is_available()


def _missing_browser() -> str:
    """Why tests in a browser cannot run here; empty when they can, or when they must."""
    if os.environ.get("QUANTLAB_REQUIRE_BROWSER") == "1":
        return ""
    if importlib.util.find_spec("playwright") is None:
        return "playwright is not installed: pip install -e '.[test]'"
    if chromium_path() is None:
        return "no Chromium found: apt-get install chromium, or set QUANTLAB_CHROMIUM to its path"
    return ""


def chromium_path() -> str | None:
    """The browser the tests drive: $QUANTLAB_CHROMIUM, or a Chromium on the path."""
    named = os.environ.get("QUANTLAB_CHROMIUM")
    found = (shutil.which(name) for name in ("chromium", "chromium-browser", "google-chrome"))
    return named or next((path for path in found if path), None)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """One headless Chromium for the tests of a file (playwright's Browser).

    Not for the whole session: as long as playwright lives, an event loop runs in this thread, and what asks
    whether it runs in a notebook would be answered yes.
    """
    from playwright.sync_api import sync_playwright

    path = chromium_path()
    if path is None:
        pytest.fail("QUANTLAB_REQUIRE_BROWSER=1, and there is no Chromium: apt-get install chromium")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=CHROMIUM_ARGUMENTS)
        yield chromium
        chromium.close()


@contextmanager
def _guarded(browser: Any, **settings: Any) -> Iterator[tuple[Any, list[str]]]:
    context = browser.new_context(**{"viewport": {"width": 1280, "height": 720}} | settings)
    trouble: list[str] = []

    def gate(route: Any) -> None:
        if is_local(route.request.url):
            route.continue_()
        else:
            trouble.append(f"request left this machine: {route.request.url[:200]}")
            route.abort()

    context.route("**/*", gate)
    page = context.new_page()
    page.on("websocket", lambda socket: is_local(socket.url) or trouble.append(f"socket left: {socket.url}"))
    page.on("pageerror", lambda error: trouble.append(f"script error: {error}"))
    yield page, trouble
    context.close()


@pytest.fixture(scope="session")
def guarded() -> Callable[..., AbstractContextManager[tuple[Any, list[str]]]]:
    """``with guarded(browser, **settings) as (page, trouble)``: a page that may talk to this machine only.

    ``trouble`` collects requests that leave this machine, and script errors.
    """
    return _guarded


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    """A fresh page of 1280 x 720 that fails the test on a request that leaves this machine, or a script error."""
    with _guarded(browser) as (page, trouble):
        yield page
    assert not trouble, trouble


@pytest.fixture(scope="session")
def golden() -> Path:
    """The folder of golden data."""
    return Path(__file__).parent / "golden"
