"""What is taken away from the app and brought back, in a real browser: files, links, a restarted server, a proxy."""

from __future__ import annotations

import re
import socket
import threading
from contextlib import suppress
from pathlib import Path

import pytest

import quantlab as ql
from quantlab.views.link import link_of, open_link

pytestmark = [pytest.mark.browser, pytest.mark.timeout(500)]
ROOT = Path(__file__).resolve().parents[2]
PREFIX = "/user/me/proxy/7860"


@pytest.fixture
def bench(fresh):
    """Each of these tests opens a tab of its own: links, uploads and other servers leave more than a recipe behind."""
    return fresh


def take(page, name: str, folder: Path) -> Path:
    """Press a button of the list and keep the file that comes."""
    with page.expect_download(timeout=180_000) as coming:
        page.get_by_test_id(name).click()
    path = folder / coming.value.suggested_filename
    coming.value.save_as(path)
    return path


def bring(page, path: Path) -> None:
    with page.expect_file_chooser() as chooser:
        page.locator("#ql-load").click()
    chooser.value.set_files(str(path))


def preset_of(page) -> str:
    return page.get_by_label("Preset", exact=True).input_value()


def test_history_and_undo_outlive_the_server_in_the_tab_and_in_a_file(bench, browser, served, tmp_path):
    page = bench.page
    with served(18741) as address:
        bench.address = address
        first = bench.open()
        bench.preset("quarot")
        changed = bench.changed(first)
        bench.tab("Recipe")
        session = take(page, "save-session", tmp_path)
    assert session.name == "mini-demo-quarot-W4A4.quantlab.json"
    with served(18741) as again:
        assert again == address
        page.reload()
        bench.settle()
        assert bench.state().numbers == changed.numbers
        page.get_by_test_id("undo").click()
        assert bench.changed(changed, key="numbers").numbers == first.numbers
        other = browser.new_context()
        try:
            fresh = bench.on(other.new_page())
            opened = fresh.open()
            assert preset_of(fresh.page) == "rtn"
            assert fresh.page.get_by_test_id("undo").is_disabled(), "another tab begins anew"
            fresh.tab("Recipe")
            bring(fresh.page, session)
            fresh.changed(opened)
            assert preset_of(fresh.page) == "quarot"
            assert fresh.state().numbers == changed.numbers
            fresh.page.get_by_test_id("undo").click()
            assert fresh.changed(fresh.state(), key="numbers").numbers == first.numbers
        finally:
            other.close()
    lab = ql.load_session(session)
    assert [recipe.name for recipe in lab.history] == ["rtn", "quarot"]
    assert lab.recipe.name == "quarot"


def test_a_link_opens_model_scene_and_recipe_and_is_not_opened_again_by_a_reload(bench):
    recipe = ql.Recipe.preset("smoothquant", weights=6, activations=5)
    opened = bench.open(link_of("mini-outliers", "room 2", recipe, "aggregator.frame_blocks.1.mlp.fc2"))
    page = bench.page
    assert (opened.scene, opened.layer) == ("room 2", "aggregator.frame_blocks.1.mlp.fc2")
    assert preset_of(page) == "smoothquant"
    assert page.get_by_label("Model", exact=True).input_value() == "mini-outliers"
    assert "s=" not in page.url
    bench.preset("rtn")
    bench.changed(opened, key="numbers")
    page.reload()
    bench.settle()
    assert preset_of(page) == "rtn"


def test_what_is_copied_opens_the_same(bench):
    page = bench.page
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    first = bench.open()
    page.get_by_role("checkbox", name="rotation").check()
    bench.changed(first)
    bench.tab("Recipe")
    page.get_by_test_id("copy-as-yaml").click()
    page.get_by_text("YAML copied").wait_for()
    recipe = ql.Recipe.from_yaml(page.evaluate("navigator.clipboard.readText()"))
    page.get_by_test_id("copy-link").click()
    page.get_by_text("link copied").wait_for()
    linked = open_link(page.evaluate("navigator.clipboard.readText()"))
    assert (linked.model, linked.scene, linked.recipe, linked.layer) == ("mini", "demo", recipe, first.layer)
    page.get_by_test_id("copy-as-python").click()
    page.get_by_text("Python copied").wait_for()
    built: dict[str, object] = {}
    python = page.evaluate("navigator.clipboard.readText()")
    exec(python.partition("lab = ")[0], built)
    assert built["recipe"] == recipe


def test_a_bad_link_says_so_and_opens_the_first_lab(bench):
    bench.open("?s=AAAA")
    message = bench.page.get_by_test_id("message")
    assert "link" in message.inner_text().lower()
    assert preset_of(bench.page) == "rtn"
    assert bench.page.get_by_test_id("undo").is_disabled()


def test_profile_report_and_recipe_are_taken_and_a_profile_of_another_model_is_refused(bench, tmp_path):
    page = bench.page
    bench.open()
    bench.tab("Recipe")
    profile = take(page, "save-profile", tmp_path)
    lab = ql.Lab(ql.load_model("mini"))
    assert list(lab.load_profile(profile).layers)
    report = take(page, "make-report", tmp_path).read_text()
    assert "Content-Security-Policy" in report
    assert "mini" in report
    assert ql.Recipe.load(take(page, "yaml-file", tmp_path)) == lab.recipe
    bring(page, profile)
    bench.settle()
    assert page.get_by_test_id("message").is_hidden()
    before = bench.state()
    page.get_by_label("Model", exact=True).select_option("mini-outliers")
    bench.changed(before)
    bench.tab("Recipe")
    bring(page, profile)
    message = page.get_by_test_id("message")
    message.wait_for(state="visible", timeout=30_000)
    assert "other weights" in message.inner_text()


# -- behind a proxy that puts a path before the app, as jupyter-server-proxy does ------------------------------------


class Proxy:
    """Forwards what begins with the prefix, without it, and notes what does not."""

    def __init__(self, target: int) -> None:
        self._target, self.strays = target, []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):  # closed
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._forward, args=(client,), daemon=True).start()

    def _forward(self, client: socket.socket) -> None:
        with suppress(OSError), client:
            head = b""
            while b"\r\n\r\n" not in head:
                got = client.recv(65536)
                if not got:
                    return
                head += got
            lines, _, body = head.partition(b"\r\n\r\n")
            method, path, version = lines.split(b"\r\n")[0].decode().split(" ")
            if not path.startswith(PREFIX + "/"):
                if path != "/favicon.ico":  # some browsers ask for it unasked
                    self.strays.append(path)
                client.sendall(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                return
            kept = [line for line in lines.split(b"\r\n")[1:] if not line.lower().startswith(b"connection:")]
            asked = f"{method} {path.removeprefix(PREFIX)} {version}".encode()
            with socket.create_connection(("127.0.0.1", self._target)) as server:
                server.sendall(b"\r\n".join([asked, *kept, b"Connection: close", b"", b""]) + body)
                back = threading.Thread(target=_pump, args=(server, client), daemon=True)
                back.start()
                _pump(client, server)
                back.join()


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)


def test_behind_a_proxy_every_address_keeps_the_path_of_the_proxy(bench, served, tmp_path):
    with served(18745, "--root-path", PREFIX) as address:
        proxy = Proxy(int(re.search(r":(\d+)", address)[1]))
        bench.address = f"http://127.0.0.1:{proxy.port}{PREFIX}/"
        first = bench.open()
        assert min(first.points) > 0
        assert bench.page.locator("[data-testid=histogram] .main-svg").count() > 0
        bench.tab("Recipe")
        assert take(bench.page, "save-session", tmp_path).stat().st_size > 100
        proxy.close()
    assert not proxy.strays
