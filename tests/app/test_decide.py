"""The tab "Decide" on invented labs: search, load a point, undo, look at layers and at two recipes."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from quantlab.app.decide import clock
from quantlab.engine.additive import front, optimum
from quantlab.engine.bit_rules import weight_bits, with_bits
from quantlab.engine.plan import plan
from quantlab.engine.recipe import Recipe
from quantlab.engine.search_record import Candidate, Check, Measured, Search, Sensitivity
from quantlab.errors import RecipeError
from quantlab.figures.pareto import drift
from quantlab.views.differences import differences

OPTIONS = (2, 4, 8, 16)


def make_search(recipe, structure, budget):
    """A search over invented errors: later layers matter more."""
    names = list(weight_bits(recipe, structure))
    random = np.random.default_rng(0)
    squares = {
        name: {
            bits: np.float32((bits < 16) * (1 + rank) * 4.0**-bits * 1e-4)
            * random.random(8).astype(np.float32)
            for bits in OPTIONS
        }
        for rank, name in enumerate(names)
    }

    def at(bits):
        return with_bits(recipe, structure, bits, vary="weights")

    plans = {bits: plan(structure, at(dict.fromkeys(names, bits))) for bits in OPTIONS}
    scan = Sensitivity(
        recipe=recipe,
        mode="alone",
        vary="weights",
        bits=OPTIONS,
        drifts={n: {b: float(np.sqrt(e).mean()) for b, e in own.items()} for n, own in squares.items()},
        squares={n: {b: float(e.mean()) for b, e in own.items()} for n, own in squares.items()},
        points=squares,
        base=np.zeros(8, np.float32),
        bytes={name: {bits: plans[bits].layers[name].bytes for bits in OPTIONS} for name in names},
        fixed_bytes=sum(own.bytes for name, own in plans[4].layers.items() if name not in names),
        now=weight_bits(recipe, structure),
        scenes=("room calibration 0.0",),
        check=Check((1.0, 2.0, 3.0), (1.1, 2.2, 3.3)),
    )

    def candidate(bits, kind="front", label="", *, run=True):
        made = recipe if kind == "current" else at(bits)
        value = scan.predict(bits)
        verified = Measured(1.1 * value, value**2) if run else None
        return Candidate(made, bits, plan(structure, made).bytes, value, verified, kind, label)

    best = candidate(optimum(scan, budget - scan.fixed_bytes), "refined")
    line = [candidate(bits, run=index % 2 == 0) for index, bits in enumerate(front(scan, 9))]
    equal = tuple(candidate(dict.fromkeys(names, bits), "uniform", f"{bits} bits") for bits in OPTIONS[:-1])
    points = tuple(sorted((*line, best), key=lambda one: one.bytes))
    return Search(scan, budget, best, points, equal, candidate(scan.now, "current", "in force"), 12, 3.0)


def shown(stream):
    """The newest value of the tab and of the status."""
    parts = {}
    for changed in stream:
        parts.update(
            {name: value["value"] for name, value in changed.items() if name in ("decide", "status")}
        )
    return parts


@pytest.fixture
def tab(bench):
    """A bench with the tab open; ``act`` gives the newest values, ``searched`` runs a search first."""

    def build(*, searched=False, error=None):
        built = bench()
        list(built.actions.act("page", {"do": "ready"}))
        built.session = built.store.of("page")
        built.lab = built.session.lab

        def search(budget, *, job):
            if error is not None:
                raise error
            job.report(1, 2, "searching")
            return make_search(built.lab.recipe, built.lab.structure, budget)

        built.lab.search = search
        built.act = lambda **message: shown(built.actions.act("page", message))
        built.value = built.act(do="tab", value="decide")["decide"]
        if searched:
            built.value = built.act(do="search", budget=built.value["slider"]["value"])["decide"]
        return built

    return build


def test_before_a_search_the_tab_says_what_it_would_do_and_offers_half_the_8_bit_size(tab):
    bench = tab()
    slider = bench.value["slider"]
    assert slider["low"] < slider["value"] < slider["high"]
    assert slider["value"] - slider["fixed"] == (slider["high"] - slider["fixed"]) // 2
    page = bench.value["undecided"]
    assert "24 layers" in page["does"]
    assert page["takes"].startswith(
        "About 28 s: 480 passes for single layers, 352 for whole recipes, 41\u00a0ms each"
    )
    assert (page["offers"][0]["value"], page["offers"][-1]["value"]) == (slider["low"], slider["high"])
    assert "press Measure" in page["unit"]
    known = page["known"]
    assert [row["share"] for row in known] == sorted((row["share"] for row in known), reverse=True)
    assert known[0]["share"] == 1
    assert {row["name"] for row in known} <= set(bench.lab.structure.layers)
    assert bench.act(do="decide", name="shows", value="differences")["decide"]["undecided"] is None
    assert bench.value["points"] == []
    assert (bench.value["clock"], bench.value["by_time"]) == (None, False)
    assert "Press Measure" in bench.value["latency"]
    json.dumps(bench.value)


def test_what_a_search_takes_counts_the_scenes_there_are_and_no_time_that_nobody_knows(tab):
    bench = tab()
    many = bench.value["undecided"]
    bench.lab.calibration_given, bench.lab.pace = True, None
    few = bench.act(do="tab", value="decide")["decide"]["undecided"]
    assert "on 4 calibration scenes," in many["does"]
    assert "on 1 calibration scene," in few["does"]
    assert few["takes"].startswith("120 passes for single layers, 48 for whole recipes. Stop")
    bench.lab.pace = 2.0
    bench.lab.recipe = Recipe.preset("rtn").set("*", reconstruction="block")
    learns = bench.act(do="tab", value="decide")["decide"]["undecided"]["takes"]
    assert ", learning apart: 120 passes for single layers, 12 for whole recipes, 2\u00a0s each" in learns


def test_a_search_shows_its_front_and_leaves_the_recipe_alone(tab):
    bench = tab(searched=True)
    assert bench.lab.recipe == Recipe.preset("rtn")
    assert len(bench.lab.history) == 1
    value = bench.value
    assert value["undecided"] is None
    names = [trace["name"] for trace in value["front"]["data"]]
    assert {"predicted", "run", "equal bits", "chosen"} <= set(names)
    assert "rank correlation" in value["note"]
    for trace in value["front"]["data"]:
        for place, x in zip(trace.get("customdata", []), trace["x"], strict=False):
            assert value["points"][int(place)]["bytes"] == pytest.approx(1e6 * x)
    json.dumps(value)


def test_every_point_has_its_map_of_bits_and_the_recipe_in_force_too(tab):
    bench = tab(searched=True)
    shown, search = bench.value["allotted"], bench.session.results.search
    assert len(shown["points"]) == len(bench.value["points"])
    for one, bits in zip(search.distinct, shown["points"], strict=True):
        assert dict(zip(shown["ids"], bits, strict=True)) == one.bits
    assert shown["force"] == shown["points"][bench.value["now"]]
    place = next(index for index, one in enumerate(search.distinct) if one.kind == "refined")
    loaded = bench.act(do="candidate", place=place, bytes=search.distinct[place].bytes)["decide"]
    assert loaded["allotted"]["force"] == shown["points"][place]


def test_a_point_becomes_the_recipe_everything_follows_and_undo_takes_it_back(tab):
    bench = tab(searched=True)
    bench.lab.calls.clear()
    search = bench.session.results.search
    place = next(index for index, one in enumerate(search.distinct) if one.kind == "refined")
    value = bench.act(do="candidate", place=place, bytes=search.distinct[place].bytes)["decide"]
    assert bench.lab.recipe == search.chosen.recipe
    assert value["now"] == place
    assert {"compare", "evaluate", "diagnose"} <= set(bench.lab.calls)
    value = bench.act(do="undo")["decide"]
    assert bench.lab.recipe == search.sensitivity.recipe
    assert value["points"], "the front outlives an edit"


def test_a_point_of_a_front_that_was_replaced_loads_nothing(tab):
    bench = tab(searched=True)
    bench.act(do="candidate", place=0, bytes=1)
    bench.act(do="candidate", place=999, bytes=1)
    assert bench.lab.recipe == Recipe.preset("rtn")


def test_another_method_in_force_is_said(tab):
    bench = tab(searched=True)
    value = bench.act(do="preset", name="quarot", weights=4, activations=4)["decide"]
    assert "Search again" in value["note"]
    value = bench.act(do="undo")["decide"]
    assert "Search again" not in value["note"]


def test_layers_are_ranked_worst_at_the_top_under_their_short_names(tab):
    bench = tab(searched=True)
    value = bench.act(do="decide", name="shows", value="layers")["decide"]
    (trace,) = value["bars"]["data"]
    assert trace["x"] == sorted(trace["x"])
    assert trace["customdata"][-1] == bench.session.results.search.sensitivity.ranked(4)[0][0]
    assert any("global" in name and "·" in name for name in trace["y"])
    assert value["bits"] == "4"
    value = bench.act(do="decide", name="bits", value="2")["decide"]
    assert value["bars"]["data"][0]["x"][-1] > trace["x"][-1]


def test_two_recipes_are_compared_layer_by_layer(tab):
    bench = tab(searched=True)
    search = bench.session.results.search
    place = next(index for index, one in enumerate(search.distinct) if one.kind == "refined")
    bench.act(do="decide", name="right", value=f"point:{place}")
    value = bench.act(do="decide", name="shows", value="differences")["decide"]
    changed = [name for name, bits in search.chosen.bits.items() if bits != 4]
    assert [row["layer"] for row in value["differences"]["rows"]] == changed
    assert {choice["id"] for choice in value["choices"]} >= {"state:0", "now", f"point:{place}"}
    value = bench.act(do="decide", name="right", value="state:77")["decide"]
    assert value["right"] == "now"
    assert value["differences"]["summary"] == "The same recipe on both sides."


def test_differences_say_bits_size_and_rules(tab):
    structure, recipe = tab().lab.structure, Recipe.preset("rtn", weights=4, activations=8)
    name = next(iter(structure.layers))
    found = differences(recipe, recipe.set(name, keep=True), structure)
    (row,) = found["rows"]
    assert (row["layer"], row["left"], row["right"]) == (name, "W4A8", "16")
    assert row["bytes"] > 0
    assert "1 layer of other bits: 0 smaller, 1 larger" in found["summary"]
    assert any("keep" in line for line in found["lines"])
    other = differences(recipe, Recipe.preset("quarot", weights=4, activations=8), structure)
    assert other["rows"] == []
    assert "the same bits in every layer" in other["summary"]
    assert "rtn W4A8 → quarot W4A8" in other["summary"]


def test_a_drift_is_the_measured_one_where_the_recipe_was_run(tab):
    search = tab(searched=True).session.results.search
    for one in search.distinct:
        assert drift(one) == (one.predicted if one.verified is None else one.verified.drift)


def test_a_search_that_fails_says_why_and_the_tab_stays(tab):
    bench = tab(error=RecipeError("the smallest recipe has 9 MB", place="budget", remedy="Ask for more."))
    parts = bench.act(do="search", budget=10)
    assert "smallest" in parts["status"]["message"]["problem"]
    assert parts["decide"]["points"] == []


@pytest.mark.bad_input
@pytest.mark.parametrize(
    "message",
    [
        {"do": "search"},
        {"do": "search", "budget": "50%"},
        {"do": "search", "budget": -1},
        {"do": "search", "budget": 10**30},
        {"do": "search", "budget": True},
        {"do": "candidate", "place": "x"},
        {"do": "candidate", "place": -1, "bytes": 3},
        {"do": "decide", "name": "shows", "value": "everything"},
        {"do": "decide", "name": "bits", "value": "-1"},
        {"do": "decide", "name": "left", "value": "x" * 99},
        {"do": "decide", "name": [], "value": {}},
    ],
)
def test_nonsense_from_a_page_changes_nothing(tab, message):
    bench = tab()
    before = bench.session.view.decide
    list(bench.actions.act("page", message))
    assert bench.session.view.decide == before
    assert bench.session.results.search is None
    assert bench.lab.recipe == Recipe.preset("rtn")


def test_a_search_outlives_another_scene_but_not_another_model(tab):
    bench = tab(searched=True)
    search = bench.session.results.search
    bench.act(do="scene", value="room 2")
    assert bench.session.results.search is search, "it was measured on calibration scenes"
    bench.act(do="model", value="mini-outliers")
    assert bench.session.results.search is None


def test_the_tab_says_that_a_search_runs_only_while_one_does(tab):
    bench = tab(error=RecipeError("planted"))

    def said(**message):
        stream = bench.actions.act("page", message)
        return [parts["decide"]["value"]["message"] for parts in stream if "decide" in parts]

    waiting = "The front appears here when the work is done"
    assert said(do="search", budget=bench.value["slider"]["value"])[0].startswith(waiting)
    others = said(do="scene", value="room 2")
    assert others
    assert not any(text.startswith(waiting) for text in others), "other work finds no front"


# -- a time as the budget ----------------------------------------------------------------------------------------------


def test_a_time_can_be_the_budget_once_a_forward_pass_was_measured(tab):
    bench = tab()
    bench.act(do="measure")
    value = bench.act(do="decide", name="unit", value="ms")["decide"]
    assert value["clock"]["low"] < value["clock"]["value"] < value["clock"]["high"]
    assert value["clock"]["value"] == pytest.approx(1.05 * 41)
    assert value["by_time"], "before a search there is no front to disagree"
    page = value["undecided"]
    assert [one["text"] for one in page["offers"]] == ["41 ms", "86 ms"]
    assert not any(
        "of size" in text or "choose ms" in text for text in page.values() if isinstance(text, str)
    )
    json.dumps(value)


def test_the_time_that_is_offered_first_is_more_than_the_slowest_pass_took(tab):
    bench = tab()
    bench.act(do="measure")
    known = bench.session.results.measurement
    bench.session.results = replace(bench.session.results, measurement=replace(known, slowest=0.2))
    offered = clock(bench.session)
    assert 200 < offered["value"] < offered["high"]


def by_time(bench, **facts):
    """Make every search of this bench one by time, with the times in ``facts``."""
    asked = []

    def search(budget, *, job):
        asked.append(budget)
        found = make_search(bench.lab.recipe, bench.lab.structure, bench.value["slider"]["value"])
        timed = [replace(one, seconds=1e-6 * one.bytes) for one in found.candidates]
        chosen = replace(found.chosen, seconds=0.02, timed=0.021)
        return replace(found, candidates=tuple(timed), chosen=chosen, **facts)

    bench.lab.search = search
    bench.act(do="measure")
    bench.act(do="decide", name="unit", value="ms")
    return asked


def test_a_time_that_cannot_be_reached_is_answered_with_the_fastest_choice_and_the_slider_stays(tab):
    bench = tab()
    by_time(bench, budget_seconds=0.025, asked_seconds=0.01)
    value = bench.act(do="search", budget=10, unit="ms")["decide"]
    assert value["clock"]["value"] == pytest.approx(10)
    assert value["clock"]["low"] <= 10
    assert "10\u00a0ms cannot be reached: the fastest choice of bits takes 25\u00a0ms" in value["note"]
    assert value["points"]


@pytest.mark.parametrize(("spread", "noise"), [(0.0, False), (9.0, True)])
def test_a_front_narrower_than_the_spread_of_the_passes_is_called_noise(tab, spread, noise):
    bench = tab()
    by_time(bench, budget_seconds=0.025, asked_seconds=0.025, spread_seconds=spread)
    value = bench.act(do="search", budget=25, unit="ms")["decide"]
    assert ("are noise" in value["note"]) == noise


def test_a_search_by_time_asks_for_it_in_words_and_shows_the_front_in_milliseconds(tab):
    bench = tab()
    asked = by_time(bench, budget_seconds=0.025)
    value = bench.act(do="search", budget=25.0004, unit="ms")["decide"]
    assert asked == ["25.000 ms or fastest"]
    assert value["clock"]["value"] == pytest.approx(25)
    assert "ms" in value["front"]["layout"]["xaxis"]["title"]["text"]
    assert "Asked for 25\u00a0ms, what was chosen takes 21\u00a0ms as measured" in value["note"]
    back = bench.act(do="decide", name="unit", value="MB")["decide"]
    assert "MB" in back["front"]["layout"]["xaxis"]["title"]["text"]


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("budget", "unit"),
    [(-1, "ms"), (float("nan"), "ms"), ("5", "ms"), (True, "ms"), (1e9, "ms"), (5.5, "MB"), (5, "s")],
)
def test_a_budget_that_is_none_is_refused_in_either_unit(tab, budget, unit):
    parts = tab().act(do="search", budget=budget, unit=unit)
    if unit == "s":
        assert "decide" in parts
    else:
        assert "budget" in parts["status"]["message"]["problem"]
