"""What the comparison, the table and the messages say, and what they must not."""

from __future__ import annotations

import json
import struct

import pytest

from quantlab.app.compare import compare_panel
from quantlab.app.messages import explain
from quantlab.app.panels import settings_panel, to_json
from quantlab.app.table import rows
from quantlab.errors import CheckpointError, SceneError


def test_numbers_that_are_not_finite_travel_as_null():
    assert json.loads(to_json({"a": float("nan"), "b": [float("inf"), 1.5]})) == {"a": None, "b": [None, 1.5]}


def header(data):
    _, size = struct.unpack_from("<II", data, 4)
    return json.loads(data[12 : 12 + size])


@pytest.fixture
def session(bench):
    built = bench()
    for _ in built.actions.act("page", {"do": "ready"}):
        pass
    return built.store.of("page")


def packed(session):
    return header(session.cloud(compare_panel(session)["payload"].rpartition("/")[2]))


def test_the_clouds_are_those_of_the_sides_that_were_chosen(session):
    assert packed(session)["labels"] == ["full precision", "quantized"]
    session.show(left="now", right="truth")
    assert packed(session)["labels"] == ["quantized", "ground truth"]


def test_a_side_is_not_called_quantized_where_nothing_is(bench):
    built = bench()
    for message in (
        {"do": "ready"},
        {"do": "preset", "name": "full_precision", "weights": 4, "activations": 4},
    ):
        for _ in built.actions.act("page", message):
            pass
    assert packed(built.store.of("page"))["labels"] == ["full precision", "nothing quantized"]


def test_the_clouds_of_the_former_recipe_get_the_colour_of_the_former_state(session, bench):
    session.results = session.results.aged()
    session.show(right="former")
    assert packed(session)["labels"][1] == "former"


def test_a_side_that_does_not_exist_yet_falls_back_to_the_usual_one(session):
    session.show(right="former")
    panel = compare_panel(session)
    assert panel["right"] == "now"
    assert "former" not in [side["id"] for side in panel["sides"]]


def test_a_layer_out_of_scope_is_not_shown_as_one_somebody_kept(session):
    name = "depth_head.projects.0"
    position = list(session.lab.structure.layers).index(name)
    assert rows(session)[position][7] is False
    assert rows(session)[position][8] == "–"
    session.show(layer=name)
    shown = settings_panel(session)
    assert (shown["keep"], shown["weights"], shown["in_scope"]) == (False, 16, False)


def test_a_message_names_an_upload_as_the_person_did_and_begins_with_a_capital():
    path = f"/tmp/gradio/{'0a' * 32}/my photo.jpg"
    told = explain(SceneError(f"cannot read {path}", place=path, remedy="Choose another."))
    assert told == {
        "problem": "Cannot read my photo.jpg",
        "place": "my photo.jpg",
        "remedy": "Choose another.",
    }
    assert explain(CheckpointError("vggt-1b is not here"))["problem"] == "vggt-1b is not here"
