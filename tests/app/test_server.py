"""The port, the doors of the server, and what starting the app loads."""

from __future__ import annotations

import socket
import subprocess
import sys

import pytest

from quantlab.app.server import HOST, bind
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


def test_the_page_forbids_the_browser_every_foreign_request(client):
    answer = client.get("/")
    policy = answer.headers["content-security-policy"]
    assert "default-src 'self'" in policy
    assert "http" not in policy
    assert "fonts.googleapis" not in answer.text
