"""The port, the doors of the server, and what starting the app loads."""

from __future__ import annotations

import re
import socket
import subprocess
import sys

import pytest

from quantlab.app.server import HOST, bind, checked_root
from quantlab.errors import DeviceError


def test_a_port_in_use_is_passed_over_for_the_next_free_one():
    with socket.socket() as taken:
        taken.bind((HOST, 0))
        taken.listen()
        first = taken.getsockname()[1]
        listener, port = bind(first)
        with listener:
            assert port > first
            assert listener.getsockname() == (HOST, port)


def test_only_this_machine_can_connect():
    listener, _ = bind(20_000)
    with listener:
        assert listener.getsockname()[0] == "127.0.0.1"


def test_a_port_beyond_the_last_one_is_refused_with_a_remedy():
    with pytest.raises(DeviceError, match="--port"):
        bind(70_000)


def test_importing_the_app_loads_neither_gradio_nor_torch():
    code = "import sys, quantlab.app; print(sorted({'torch', 'gradio'} & set(sys.modules)))"
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert answer.stdout.strip() == "[]"


@pytest.fixture(scope="module")
def client():
    from fastapi.testclient import TestClient

    from quantlab.app.options import Options
    from quantlab.app.server import build_app
    from quantlab.app.state import Store
    from quantlab.app.workshop import Workshop

    store = Store()
    with TestClient(build_app(store, Workshop(Options())), base_url=f"http://{HOST}") as client:
        client.store = store
        yield client


def test_clouds_need_the_handle_of_their_session(client):
    session = client.store.join("page")
    name = session.keep_cloud(b"QLPC")
    assert client.get(f"/quantlab/clouds/{session.handle}/{name}").content == b"QLPC"
    assert client.get(f"/quantlab/clouds/guess/{name}").status_code == 404


@pytest.mark.parametrize(
    "path", ["static/bench.js", "static/style.css", "plotly/plotly.min.js", "viewer/viewer.js"]
)
def test_scripts_come_from_this_server(client, path):
    assert client.get(f"/quantlab/{path}").status_code == 200


@pytest.mark.parametrize(
    "path", ["static/../server.py", "static/%2e%2e/server.py", "static//etc/passwd", "clouds/../x"]
)
def test_no_path_leads_out_of_the_served_folders(client, path):
    answer = client.get(f"/quantlab/{path}")
    assert "build_app" not in answer.text
    assert "root:" not in answer.text


def test_another_sites_name_that_points_here_is_turned_away(client):
    assert client.get("/", headers={"host": "evil.example"}).status_code == 400


@pytest.fixture(scope="module")
def proxied():
    from fastapi.testclient import TestClient

    from quantlab.app.options import Options
    from quantlab.app.server import build_app
    from quantlab.app.state import Store
    from quantlab.app.workshop import Workshop

    root = "https://hub.example.org/user/me/proxy/7860/"
    with TestClient(build_app(Store(), Workshop(Options(root_path=root)))) as client:
        yield client


def test_the_host_of_the_root_path_is_let_in_and_no_other(proxied):
    assert proxied.get("/", headers={"host": "hub.example.org"}).status_code == 200
    assert proxied.get("/", headers={"host": "127.0.0.1:7860"}).status_code == 200
    assert proxied.get("/", headers={"host": "evil.example"}).status_code == 400


def test_no_address_of_the_page_leaves_out_the_path_of_a_proxy(proxied):
    page = proxied.get("/", headers={"host": "hub.example.org"}).text
    ours = re.findall(r"""["'](/?quantlab/[^"']+)""", page)
    assert ours
    assert not [address for address in ours if address.startswith("/")]
    assert '"root":"https://hub.example.org/user/me/proxy/7860"' in page


@pytest.mark.parametrize("root", ["user/me", "ftp://hub/x", "https://", "/x?y", "//hub/x", "https://[/x"])
def test_a_root_path_that_is_none_is_refused_before_anything_starts(root):
    with pytest.raises(DeviceError, match="no place where a proxy"):
        checked_root(root)


def test_the_page_forbids_the_browser_every_foreign_request(client):
    answer = client.get("/")
    policy = answer.headers["content-security-policy"]
    assert "default-src 'self'" in policy
    assert "http" not in policy
    assert "fonts.googleapis" not in answer.text


LEAVING = """
import asyncio, os, signal, socket, threading, time
from quantlab.app.server import _run, bind

async def app(scope, receive, send):
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"x", "more_body": True})
        await asyncio.sleep(60)

def leave():
    page = socket.socket()
    while page.connect_ex(("127.0.0.1", port)):  # until the server listens
        time.sleep(0.05)
    page.sendall(b"GET / HTTP/1.1\\r\\nHost: here\\r\\n\\r\\n")
    page.recv(1)
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(5)

listener, port = bind(20_300)
threading.Thread(target=leave, daemon=True).start()
_run(app, listener, "here", 0.0, open_browser=False)
"""


def test_ctrl_c_with_a_page_open_ends_without_a_traceback():
    answer = subprocess.run(
        [sys.executable, "-c", LEAVING], capture_output=True, text=True, timeout=30, check=False
    )
    assert "QuantLab is at here" in answer.stdout
    assert answer.stderr == ""
