"""How fast a recipe runs, asked for in the app, and the nearest recipe that does: on invented labs."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest


def shown(stream):
    """Everything a handler told the page, newest last."""
    parts = {}
    for changed in stream:
        parts.update(
            {name: value["value"] for name, value in changed.items() if name not in ("overtaken", "modules")}
        )
    return parts


@pytest.fixture
def opened(bench):
    built = bench()
    shown(built.actions.act("page", {"do": "ready"}))
    built.session = built.store.of("page")
    built.lab = built.session.lab
    return built


def act(bench, **message):
    return shown(bench.actions.act("page", message))


def forward(parts):
    return parts["numbers"]["items"][-1]


def test_nothing_is_executed_before_somebody_asks(opened):
    assert "measure" not in opened.lab.calls
    parts = act(opened, do="measure")
    assert (forward(parts)["value"], forward(parts)["unit"]) == ("41", "ms")
    assert "0.5 ms (1.2 %) by native" in json.loads(parts["layer"])["facts"]
    act(opened, do="measure")
    assert opened.lab.calls.count("measure") == 2, "a second click measures again"


def test_a_change_of_the_recipe_takes_the_time_away_and_undo_brings_it_back(opened):
    act(opened, do="measure")
    assert forward(act(opened, do="set", changes={"rotation": True}))["value"] == ""
    assert forward(act(opened, do="undo"))["value"] == "41"
    assert opened.lab.calls.count("measure") == 1


def test_the_map_colours_by_time_once_there_is_one(opened):
    waiting = json.loads(act(opened, do="color_by", value="time")["map"])
    assert (waiting["worst"], "Press Measure" in waiting["message"]) == ([], True)
    timed = json.loads(act(opened, do="measure")["map"])
    assert timed["worst"]
    assert timed["message"] == ""
    assert waiting["parts"] == ""
    assert timed["parts"] == "trunk 29 %, heads 4 %, between layers 67 % of 41 ms"
    assert json.loads(act(opened, do="color_by", value="tre")["map"])["parts"] == ""


def test_the_slowest_layers_are_those_of_the_whole_network_whatever_the_map_shows(opened):
    slow = next(name for name, layer in opened.lab.structure.layers.items() if layer.stream.endswith("head"))
    act(opened, do="measure")
    timed = opened.lab.timed[opened.lab.recipe]
    found = replace(timed, layers={**timed.layers, slow: 0.004})
    opened.session.results = replace(opened.session.results, measurement=found)
    drawn = json.loads(act(opened, do="color_by", value="time")["map"])
    assert drawn["stream"] == "trunk"
    assert drawn["worst"][0]["name"] == slow
    assert slow not in [name for name, *_ in drawn["layers"]]


def test_while_it_is_measured_the_tile_says_so_and_not_afterwards(opened):
    notes = [
        forward({"numbers": parts["numbers"]["value"]})["note"]
        for parts in opened.actions.act("page", {"do": "measure"})
        if "numbers" in parts
    ]
    assert notes[0] == "measuring…"
    assert notes[-1] == "2.1× faster"


def test_a_measurement_that_fails_says_why_and_leaves_no_time(opened):
    opened.lab.fails = "measure"
    parts = act(opened, do="measure")
    assert parts["status"]["message"]["problem"]
    assert forward(parts)["note"] == "not measured"
    assert opened.session.results.measurement is None


def test_a_simulated_layer_offers_the_nearest_that_runs_and_one_click_takes_it(opened):
    assert act(opened, do="set", changes={"weights": 4})["settings"]["simulated"] is None
    offered = act(opened, do="set", changes={"activations": 16})["settings"]["simulated"]
    assert offered == {"reason": "its input is not rounded", "changes": {"activations": 8}, "words": "A8"}
    assert act(opened, do="set", changes=offered["changes"])["settings"]["simulated"] is None


def test_a_recipe_that_no_kernel_executes_becomes_one_that_runs_and_undo_takes_it_back(opened):
    act(opened, do="preset", name="rtn", weights=4, activations=16)
    before = opened.lab.recipe
    act(opened, do="executable")
    assert opened.lab.recipe == before.set("*", activations=8)
    act(opened, do="undo")
    assert opened.lab.recipe == before
