"""JupyterLab on this machine, private to the tests: its own settings, no news, no update checks, a free port."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

START_SECONDS = 60


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
