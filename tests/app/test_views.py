"""What the strip of numbers and the comparison say, and what they must not."""

from __future__ import annotations

import json
import struct
from dataclasses import replace
from types import SimpleNamespace

import pytest

from quantlab.app.compare import compare_panel
from quantlab.app.edits import is_in_scope
from quantlab.app.messages import explain
from quantlab.app.names import distinct_names, short_name, short_text
from quantlab.app.numbers import numbers
from quantlab.app.panels import settings_panel, to_json
from quantlab.app.table import rows
from quantlab.engine.evaluation import Drift, Evaluation, Scores
from quantlab.errors import CheckpointError, SceneError


def evaluation(*, error=0.02, truth=True, packed=1_000_000, auc5=0.4):
    scores = Scores(auc30=0.8, auc5=auc5, abs_rel=0.05) if truth else None
    drift = Drift(error, 0.01, 0.99, 0.98, 0.97, 0.96, {})
    return Evaluation(scores, drift, 0.04, packed, 4_000_000, ("demo",))


def tiles(now, before=None, **settings):
    strip = numbers(now, before, **{"sizes": (1_000_000, 4_000_000), "stale": False, **settings})
    return {tile["label"]: tile for tile in strip["items"]}


def test_what_was_not_measured_says_so_and_shows_no_zero():
    strip = tiles(None)
    for label in ("point error", "AUC@30", "AUC@5", "AbsRel", "forward"):
        assert (strip[label]["value"], strip[label]["note"]) == ("", "not measured")
    assert strip["size"]["value"] == "1", "the size is known before anything ran"


@pytest.mark.parametrize(
    ("label", "before", "now", "trend"),
    [
        ("point error", {"error": 0.03}, {"error": 0.02}, "better"),
        ("point error", {"error": 0.02}, {"error": 0.03}, "worse"),
        ("point error", {"error": 0.02}, {"error": 0.020001}, "same"),
        ("AUC@5", {"auc5": 0.4}, {"auc5": 0.5}, "better"),
        ("AUC@5", {"auc5": 0.5}, {"auc5": 0.4}, "worse"),
    ],
)
def test_a_change_is_called_by_whether_it_helps(label, before, now, trend):
    tile = tiles(evaluation(**now), evaluation(**before))[label]
    assert tile["trend"] == trend
    assert tile["note"].startswith("was ")


def test_without_a_truth_the_scores_are_those_against_full_precision_and_say_so():
    tile = tiles(evaluation(truth=False))["AUC@5"]
    assert tile["value"] == "0.970"
    assert tile["base"] == ""
    assert "full precision" in tile["help"]


def test_the_time_is_called_simulated_and_not_stated_where_blocks_were_answered_from_memory():
    assert tiles(evaluation())["forward"]["base"] == "simulated"
    reused = tiles(replace(evaluation(), replayed=3))["forward"]
    assert (reused["value"], reused["note"]) == ("", "not measured")


def test_scores_stand_beside_those_of_full_precision_against_the_same_truth():
    strip = tiles(replace(evaluation(), baseline=Scores(auc30=0.911, auc5=0.5, abs_rel=0.026)))
    assert [strip[label]["base"] for label in ("AUC@30", "AbsRel")] == ["full 0.911", "full 0.0260"]
    assert "true depth" in strip["AbsRel"]["help"]
    assert "true cameras" in strip["AUC@5"]["help"]


def test_the_point_error_is_in_per_cent_and_rounding_of_the_arithmetic_is_nothing():
    assert [tiles(evaluation(error=error))["point error"]["value"] for error in (0.00729, 1e-9)] == [
        "0.729",
        "0",
    ]


def test_the_former_size_does_not_hide_what_the_size_is_of():
    tile = tiles(evaluation(), evaluation(packed=2_000_000))["size"]
    assert (tile["note"], tile["base"], tile["trend"]) == ("was 2", "of 4 MB", "better")


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


def test_the_truth_is_not_shown_with_the_cameras_of_full_precision(session):
    session.show(right="truth")
    assert packed(session)["left"]["cameras"]
    assert not packed(session)["right"]["cameras"]


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


def test_the_error_scale_ends_at_a_round_number_above_the_errors(session):
    top = packed(session)["error"]["max"]
    mantissa = f"{top:.0e}"[0]
    assert mantissa in "125"
    assert top >= session.results.comparison.errors.mean()


def test_short_names_are_distinct_so_that_the_table_can_be_read_back(session):
    layers = session.lab.structure.layers.values()
    assert len({short_name(layer) for layer in layers}) == len(layers)


def test_two_layers_that_would_be_called_alike_keep_their_full_names():
    layers = [
        SimpleNamespace(name=name, kind="fc1", stream="vit", index=-1)
        for name in ("a.b.x.y", "a.c.x.y", "a.z")
    ]
    assert list(distinct_names(layers).values()) == ["a.b.x.y", "a.c.x.y", "a.z"]


def test_what_runs_is_told_in_short_names(session):
    structure = session.lab.structure
    told = short_text("quantize aggregator.global_blocks.1.mlp.fc2, blocks of 3", structure)
    assert told == "quantize global 1 · fc2, blocks of 3"
    assert short_text("aggregator.frame_blocks.0.attn", structure) == "frame 0 attn"


def test_a_layer_out_of_scope_is_not_shown_as_one_somebody_kept(session):
    name = "depth_head.projects.0"
    position = list(session.lab.structure.layers).index(name)
    assert rows(session)[position][7] is False
    assert rows(session)[position][8] == "–"
    session.show(layer=name)
    shown = settings_panel(session)
    assert (shown["keep"], shown["weights"], shown["in_scope"]) == (False, 16, False)
    assert not is_in_scope(session.lab.recipe, session.lab.structure, name)


def test_a_message_names_an_upload_as_the_person_did_and_begins_with_a_capital():
    path = f"/tmp/gradio/{'0a' * 32}/my photo.jpg"
    told = explain(SceneError(f"cannot read {path}", place=path, remedy="Choose another."))
    assert told == {
        "problem": "Cannot read my photo.jpg",
        "place": "my photo.jpg",
        "remedy": "Choose another.",
    }
    assert explain(CheckpointError("vggt-1b is not here"))["problem"] == "vggt-1b is not here"
