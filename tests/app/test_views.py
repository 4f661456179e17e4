"""What the strip of numbers and the comparison say, and what they must not."""

from __future__ import annotations

import json
import struct
from types import SimpleNamespace

import pytest

from quantlab.app.compare import compare_panel
from quantlab.app.names import distinct_names, short_name
from quantlab.app.numbers import numbers
from quantlab.app.panels import to_json
from quantlab.engine.evaluation import Drift, Evaluation, Scores


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
    assert tile["value"] == "0.97"
    assert "full precision" in tile["help"]


def test_the_time_is_called_simulated():
    assert tiles(evaluation())["forward"]["note"] == "simulated"


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
