"""The two clouds as a person handles them, on a lab of invented numbers: sides, errors, cleaning, files."""

from __future__ import annotations

import json
import struct
import sys
import threading
import time

import numpy as np
import pytest

from quantlab.app import compare, sides
from quantlab.app.compare import compare_panel
from quantlab.app.kept import File, Kept, file_name
from quantlab.app.state import Store
from quantlab.errors import MissingLibraryError
from quantlab.geometry.clouds import open3d
from quantlab.geometry.ply import read_ply

FC2 = "aggregator.global_blocks.2.mlp.fc2"


class App:
    """A page over a fake lab; `do` answers all parts that came, the last of each."""

    def __init__(self, built):
        self.built = built
        self.do(do="ready")
        self.session = built.store.of("page")

    def do(self, **message):
        parts = {}
        for changed in self.built.actions.act("page", message):
            parts |= changed
        return parts

    def header(self):
        data = self.session.cloud(compare_panel(self.session)["payload"].rpartition("/")[2])
        _, size = struct.unpack_from("<II", data, 4)
        return json.loads(data[12 : 12 + size])

    def file(self, what, **filters):
        told = self.do(do="take", value=what, **filters)["compare"]["value"]["download"]
        return self.session.file(told["address"].rpartition("/")[2])


@pytest.fixture
def app(bench):
    return App(bench())


@pytest.fixture
def edited(app):
    """Three states: as it was, rotated, and rotated with one layer kept; the last one holds."""
    app.do(do="preset", name="quarot", weights=4, activations=4)
    app.do(do="select", layer=FC2)
    app.do(do="set", changes={"keep": True})
    return app


@pytest.fixture
def o3d():
    try:
        open3d()
    except MissingLibraryError as error:
        pytest.skip(str(error))


def test_every_state_of_the_history_can_be_chosen_by_what_it_is_called(edited):
    offered = {item["id"]: item["label"] for item in compare_panel(edited.session)["sides"]}
    assert list(offered)[:4] == ["full", "now", "former", "truth"]
    assert list(offered)[4:] == ["state:2", "state:1", "state:0"]
    assert offered["state:2"] == "2: quarot W4A4, global 2 · fc2 kept"


def test_two_states_stand_side_by_side_and_the_error_is_that_between_them(edited):
    edited.do(do="left", value="state:0")
    edited.do(do="right", value="state:1")
    session = edited.session
    assert edited.header()["labels"] == ["0: rtn W4A4", "1: quarot W4A4"]
    recipes = session.lab.history
    left, right = (session.lab.compare(recipe=recipe).right for recipe in recipes[:2])
    distance = np.linalg.norm(left.points - right.points, axis=-1).mean()
    assert session.shown[0].pair.mean == pytest.approx(float(distance) / 2.0, rel=1e-5)
    assert "0: rtn W4A4" in compare_panel(session)["explained"]


def test_a_state_that_is_not_known_is_measured_with_progress_and_the_lab_stays(edited):
    session = edited.session
    recipe = session.lab.history[0]
    session.results.states.pop(recipe)
    session.lab.calls.clear()
    seen = list(edited.built.actions.act("page", {"do": "left", "value": "state:0"}))
    assert session.lab.calls == ["compare"]
    assert any(parts.get("status", {}).get("value", {}).get("busy") for parts in seen)
    assert session.lab.recipe == session.lab.history[2]
    assert edited.header()["labels"][0] == "0: rtn W4A4"


def test_a_state_that_is_chosen_while_work_runs_waits_for_it_and_stops_nothing(bench):
    app = App(bench(seconds=0.06))
    session = app.session
    app.do(do="preset", name="quarot", weights=4, activations=4)
    session.results.states.pop(session.lab.history[0])
    work = threading.Thread(
        target=app.do, kwargs={"do": "preset", "name": "rtn", "weights": 8, "activations": 8}
    )
    work.start()
    while session.job is None:
        time.sleep(0.005)
    app.do(do="left", value="state:0")
    work.join(20)
    assert not session.stale
    assert session.results.evaluation is not None
    assert app.header()["labels"] == ["0: rtn W4A4", "quantized"]


def test_a_state_that_cannot_be_measured_leaves_the_former_choice(edited):
    session = edited.session
    session.results.states.pop(session.lab.history[0])
    session.lab.fails = "compare"
    edited.do(do="left", value="state:0")
    assert session.view.left == "full"
    assert session.message["problem"]
    assert edited.header()["labels"][0] == "full precision"


def test_states_that_are_shown_are_not_forgotten_for_others(app):
    for bits in (2, 3, 5, 6, 7, 8, 2, 3, 4, 5):
        app.do(do="preset", name="rtn", weights=bits, activations=8)
        app.do(do="left", value="state:1")
    session = app.session
    assert len(session.results.states) <= sides.MOST_KEPT
    assert not sides.missing(session)
    assert app.header()["labels"][0] == "1: rtn W2A8"


@pytest.mark.parametrize(
    "value", ["state:99", "state:-1", "state:1e3", "state:²", "state:", "no", "", 3, None, ["full"]]
)
def test_a_side_that_is_none_is_not_shown(edited, value):
    edited.do(do="left", value=value)
    assert edited.session.view.left == "full"


def test_full_precision_is_compared_with_the_truth_and_its_cameras(app):
    app.do(do="right", value="truth")
    told = app.header()
    assert told["labels"] == ["full precision", "ground truth"]
    assert len(told["right"]["cameras"]) == 2
    assert app.session.shown[0].pair.mean == pytest.approx(0.01 * np.sqrt(3) / 2, rel=1e-3)


def test_the_kind_of_error_is_chosen_and_stays_when_the_recipe_changes(app):
    app.do(do="error", value="nearest")
    near = app.header()["error"]
    assert near["name"] == "nearest neighbour"
    assert "nearest neighbour" in compare_panel(app.session)["explained"]
    app.do(do="preset", name="quarot", weights=4, activations=4)
    assert app.header()["error"]["name"] == "nearest neighbour"
    app.do(do="error", value="furthest")
    assert app.session.view.error == "nearest"


def test_nothing_is_packed_twice(app):
    first, second = (compare_panel(app.session)["payload"] for _ in range(2))
    assert first == second


def test_cleaning_is_taken_back_by_a_second_click_and_says_what_it_removed(app, o3d):
    whole = app.session.shown[0].pair.visible()
    panel = app.do(do="clean", on=True)["compare"]["value"]["clean"]
    assert panel["on"]
    assert "pixels were stray" in panel["said"]
    app.do(do="clean", changes={"std_ratio": 0.2, "neighbours": 8.0})
    assert app.session.shown[0].pair.visible().sum() < whole.sum()
    app.do(do="clean", on=False)
    np.testing.assert_array_equal(app.session.shown[0].pair.visible(), whole)
    panel = compare_panel(app.session)["clean"]
    assert [item["value"] for item in panel["fields"]] == [8, 0.2, 0.0]
    assert panel["said"] == ""


@pytest.mark.bad_input
def test_a_cleaning_that_cannot_be_is_refused_and_the_former_one_holds(app):
    app.do(do="clean", changes={"neighbours": 1e9})
    assert "neighbours" in app.session.message["problem"].lower()
    assert app.session.view.cleaning.neighbours == 20


def test_a_cleaning_that_is_stopped_leaves_the_clouds_as_they_were(app, monkeypatch):
    def stopped(*_args, job, **_more):
        job.cancel()
        job.check()

    monkeypatch.setattr(compare, "shown_pair", stopped)
    app.do(do="clean", on=True)
    assert not app.session.view.clean
    assert app.session.message["problem"] == "Stopped"
    assert app.header()["labels"] == ["full precision", "quantized"]


def test_what_was_looked_at_a_moment_ago_is_there_at_once(app, monkeypatch):
    first = compare_panel(app.session)["payload"]
    app.do(do="error", value="nearest")
    monkeypatch.setattr(compare, "shown_pair", lambda *_args, **_more: pytest.fail("measured again"))
    app.do(do="error", value="paired")
    assert compare_panel(app.session)["payload"] == first


def test_where_open3d_cannot_be_loaded_the_reason_is_said_and_the_clouds_stay(app, monkeypatch):
    monkeypatch.setitem(sys.modules, "open3d", None)
    panel = app.do(do="clean", on=True)["compare"]["value"]["clean"]
    assert not panel["on"]
    assert "apt-get install" in panel["said"]
    assert app.header()["labels"] == ["full precision", "quantized"]


def test_a_file_holds_the_pixels_that_are_shown(app, tmp_path):
    found = app.file("left", frames=[1], confidence=0)
    assert found.name == "demo-full-precision.ply"
    (tmp_path / found.name).write_bytes(found.data)
    points, colours = read_ply(tmp_path / found.name)
    left = app.session.shown[0].pair.left
    np.testing.assert_array_equal(points, left.points[1].reshape(-1, 3))
    np.testing.assert_array_equal(colours, left.images[1].reshape(-1, 3))
    both = app.file("both")
    assert both.name == "demo-full-precision-quantized.glb"
    assert both.data[:4] == b"glTF"
    assert b'"name":"quantized"' in both.data


def test_what_cleaning_drops_is_in_no_file(app, o3d, tmp_path):
    app.do(do="clean", on=True, changes={"std_ratio": 0.3})
    found = app.file("right")
    (tmp_path / "a.ply").write_bytes(found.data)
    assert len(read_ply(tmp_path / "a.ply")[0]) == app.session.shown[0].pair.cleaned.kept.sum() < 2 * 12 * 16


@pytest.mark.bad_input
@pytest.mark.parametrize(
    "filters",
    [{"frames": []}, {"frames": "all"}, {"frames": [[0]]}, {"confidence": "9"}, {"confidence": 100}],
)
def test_filters_that_leave_nothing_or_are_none_are_refused_in_words(app, filters):
    parts = app.do(do="take", value="left", **filters)
    assert "download" not in parts.get("compare", {}).get("value", {})
    assert app.session.message["problem"]


def test_only_known_files_are_made_and_an_export_stops_no_work(app):
    assert app.do(do="take", value="everything") == {}
    job = app.session.begin()
    app.file("both")
    assert not job.cancelled


def test_a_file_is_found_by_its_secret_name_in_its_own_session_alone():
    store = Store()
    one, other = store.join("a"), store.join("b")
    address = one.keep_file(File("x.ply", b"ply"))
    handle, name = address.split("/")[-2:]
    assert store.named(handle).file(name).data == b"ply"
    assert store.named(other.handle).file(name) is None
    assert store.named("nobody") is None
    assert store.named(handle).file("else") is None


def test_only_the_latest_things_are_kept():
    kept = Kept(2)
    names = [kept.keep(number) for number in range(3)]
    assert [kept.get(name) for name in names] == [None, 1, 2]


@pytest.mark.parametrize(
    ("parts", "name"),
    [
        (("demo", "quantized"), "demo-quantized.glb"),
        (("../../etc", 'a"\r\nb'), "etc-a-b.glb"),
        (("…",), "quantlab.glb"),
        (("x" * 300,), "x" * 80 + ".glb"),
    ],
)
def test_a_file_gets_a_name_that_any_disk_and_any_header_takes(parts, name):
    assert file_name(*parts, ending=".glb") == name
