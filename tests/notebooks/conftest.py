"""JupyterLab on this machine, private to the tests, and a notebook opened in it: no news, no updates, a free port."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest

START_SECONDS = 60
POINTS = "() => document.querySelector('.ql-clouds').__quantlabViewer.stats().points[1]"


@pytest.fixture(scope="session")
def jupyter_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the server of these tests looks for notebooks."""
    return tmp_path_factory.mktemp("notebooks")


@pytest.fixture(scope="session")
def jupyterlab(jupyter_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a running JupyterLab."""
    home = tmp_path_factory.mktemp("jupyter")
    config = home / "config" / "labconfig"
    config.mkdir(parents=True)
    off = {"@jupyterlab/apputils-extension:announcements": True}
    page = {"disabledExtensions": off, "buildCheck": False, "buildAvailable": False}
    (config / "page_config.json").write_text(json.dumps(page))
    widgets = home / "settings" / "@jupyter-widgets" / "jupyterlab-manager"
    widgets.mkdir(parents=True)
    (widgets / "plugin.jupyterlab-settings").write_text('{"saveState": true}')
    port = _free_port()
    address = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", f"--port={port}"]
    command += ["--ServerApp.port_retries=0", "--IdentityProvider.token=", "--ServerApp.password="]
    command += [f"--ServerApp.root_dir={jupyter_folder}", "--LabApp.extension_manager=readonly"]
    command += ["--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate", "--LabApp.news_url="]
    with (home / "log.txt").open("w") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log, env=_environment(home))
        try:
            _await(address, server, home / "log.txt")
            yield address
        finally:
            _end(server)


def _end(server: subprocess.Popen[bytes]) -> None:
    """Ask, then force: a server whose kernel is being restarted may wait for it. Kernels end with their server."""
    server.terminate()
    try:
        server.wait(timeout=10)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait(timeout=10)


def _environment(home: Path) -> dict[str, str]:
    folders = {
        "JUPYTER_CONFIG_DIR": home / "config",
        "JUPYTER_DATA_DIR": home / "data",
        "JUPYTER_RUNTIME_DIR": home / "runtime",
        "JUPYTERLAB_SETTINGS_DIR": home / "settings",
        "JUPYTERLAB_WORKSPACES_DIR": home / "workspaces",
        "IPYTHONDIR": home / "ipython",
    }
    return {**os.environ, **{name: str(path) for name, path in folders.items()}, "OMP_NUM_THREADS": "1"}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _await(address: str, server: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + START_SECONDS
    while time.monotonic() < until:
        try:
            with urllib.request.urlopen(f"{address}/api", timeout=2):
                return
        except OSError:
            if server.poll() is not None:
                break
            time.sleep(0.3)
    pytest.fail(f"JupyterLab did not start:\n{log.read_text()[-2000:]}")


@pytest.fixture(scope="module")
def open_notebook(browser: Any, jupyterlab: str, jupyter_folder: Path) -> Iterator[Callable[..., Notebook]]:
    """``open_notebook(name, cells, height=900)``: a notebook whose cells have run, in a page 1280 pixels wide."""
    contexts = []

    def opened(name: str, cells: list[str], *, height: int = 900) -> Notebook:
        path = jupyter_folder / f"{name}.ipynb"
        write(path, cells)
        contexts.append(browser.new_context(viewport={"width": 1280, "height": height}))
        notebook = Notebook(contexts[-1], f"{jupyterlab}/lab/workspaces/{name}/tree/{path.name}", path)
        notebook.run_all()
        return notebook

    yield opened
    for context in contexts:
        context.close()


def write(path: Path, cells: list[str]) -> None:
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    book.metadata["kernelspec"] = kernel
    nbformat.write(book, path)


class Notebook:
    """A notebook in a page; ``trouble`` collects requests to elsewhere and script errors."""

    def __init__(self, context: Any, address: str, path: Path) -> None:
        self.path = path
        self.trouble: list[str] = []
        context.route("**/*", self._gate)
        self.page = context.new_page()
        self.page.on("pageerror", lambda error: self.trouble.append(f"script error: {error}"))
        self.page.goto(address)
        self.page.wait_for_selector(".jp-Notebook", timeout=60_000)
        self.page.wait_for_selector(".jp-Notebook-ExecutionIndicator[data-status='idle']", timeout=60_000)
        self.page.keyboard.press("Control+b")  # the file browser takes room from the notebook

    def _gate(self, route: Any) -> None:
        if re.match(r"(https?|wss?)://(127\.0\.0\.1|localhost)[:/]|data:|blob:", route.request.url):
            route.continue_()
        else:
            self.trouble.append(f"request left this machine: {route.request.url[:200]}")
            route.abort()

    def menu(self, name: str, entry: str) -> None:
        self.page.get_by_role("menuitem", name=name, exact=True).click()
        self.page.get_by_text(entry, exact=True).click()

    def run_all(self) -> None:
        """Run every cell to its end; a page that is still connecting to its kernel drops some or all of the cells."""
        for _ in range(6):
            self.menu("Run", "Run All Cells")
            if self._seen_running() and all(re.search(r"\d", text) for text in self._prompts_at_rest()):
                return
        pytest.fail(f"JupyterLab did not run all cells: {self._prompts()}")

    def _prompts(self) -> list[str]:
        return [str(text) for text in self.page.locator(".jp-InputPrompt").all_inner_texts()]

    def _seen_running(self) -> bool:
        for _ in range(30):
            if any("*" in text for text in self._prompts()):
                return True
            self.page.wait_for_timeout(50)
        return False

    def _prompts_at_rest(self) -> list[str]:
        return self.until(self._prompts, lambda texts: not any("*" in text for text in texts), seconds=90)

    def await_clouds(self) -> None:
        """Until both clouds are there; what the page says instead, when they do not come."""
        there = f"() => document.querySelector('.ql-clouds') && ({POINTS})() > 0"
        try:
            self.page.wait_for_function(there, timeout=90_000)
        except Exception:  # noqa: BLE001 - whatever playwright raises
            pytest.fail(
                f"no clouds; the notebook says {self.page.locator('.jp-Notebook').inner_text()[-1500:]}"
            )

    def control(self, label: str) -> Any:
        """The first control of this label."""
        return self.page.locator(".ql-controls").get_by_label(label, exact=True).first

    def select(self, label: str, option: str) -> None:
        self.control(label).select_option(option)

    def until_other(self, script: str, before: object) -> Any:
        """What ``script`` gives as soon as it is not ``before``."""
        return self.until(lambda: self.page.evaluate(script), lambda value: value != before)

    def saved_with_state(self) -> str:
        """The notebook as JupyterLab saves it, with its outputs and the state of its widgets."""
        for _ in range(8):
            self.menu("File", "Save Notebook")
            self.page.wait_for_timeout(500)
            saved = self.path.read_text()
            if "widget-state+json" in saved:
                return saved
        pytest.fail("JupyterLab saved no state of widgets")

    @staticmethod
    def until(read: Callable[[], Any], wanted: Callable[[Any], bool], seconds: float = 30) -> Any:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            value = read()
            if wanted(value):
                return value
            time.sleep(0.1)
        pytest.fail(f"still {str(read())[:200]}")
