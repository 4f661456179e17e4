"""The front and the ranked layers: what they show can be read back from them, and they need no torch."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from quantlab.engine.recipe import Recipe
from quantlab.engine.search_record import Candidate, Measured, Search, Sensitivity
from quantlab.figures.pareto import drift, pareto
from quantlab.figures.sensitivity import MOST, options, sensitivity
from quantlab.figures.theme import LIGHT, PAGE


def make_scan(layers=40, mode="alone"):
    names = [f"blocks.{index}.fc" for index in range(layers)]
    drifts = {name: {2: 0.01 * rank, 4: 0.001 * rank, 16: 0.0} for rank, name in enumerate(names, start=1)}
    drifts[names[0]][2] = float("inf")
    return Sensitivity(
        recipe=Recipe.preset("rtn"),
        mode=mode,
        vary="weights",
        bits=(2, 4, 16),
        drifts=drifts,
        squares=drifts,
        points={},
        base=np.zeros(0, np.float32),
        bytes={name: {2: 200, 4: 400, 16: 1600} for name in names},
        fixed_bytes=1000,
        now=dict.fromkeys(names, 4),
        scenes=("one",),
    )


def make_search():
    def one(bits, size, predicted, measured=None, kind="front", label="x"):
        verified = None if measured is None else Measured(measured, measured**2)
        recipe = (
            Recipe.preset("rtn", weights=bits, activations=8).set("a", weights=bits)
            if kind == "front"
            else None
        )
        recipe = recipe or Recipe.preset("rtn", weights=bits, activations=8)
        return Candidate(recipe, {"a": bits}, size, predicted, verified, kind, label)

    front = (one(2, 1_000_000, 0.02, 0.03), one(3, 1_500_000, 0.01), one(16, 4_000_000, 0.0, 0.0))
    chosen = one(4, 2_000_000, 0.004, 0.003, "refined")
    uniform = (one(8, 3_000_000, 0.001, 0.0011, "uniform", "8 bits"),)
    return Search(
        make_scan(), 2_100_000, chosen, (*front, chosen), uniform, one(5, 2_500_000, 0.003, 0.0029, "current")
    )


@pytest.mark.parametrize("theme", [LIGHT, PAGE])
def test_every_point_of_the_front_leads_back_to_its_candidate(theme):
    search = make_search()
    figure = pareto(search, now=None, budget=search.budget, theme=theme)
    seen = set()
    for trace in figure["data"]:
        for place, x, y in zip(trace.get("customdata", []), trace["x"], trace["y"], strict=False):
            one = search.distinct[int(place)]
            assert x == one.bytes / 1e6
            assert drift(one) == 0 or y == pytest.approx(100 * drift(one))
            seen.add(int(place))
    assert seen == set(range(len(search.distinct)))
    assert figure["layout"]["shapes"][0]["x0"] == pytest.approx(2.1)
    json.dumps(figure)


def test_a_drift_of_nothing_stands_below_all_others_where_the_axis_says_0():
    search = make_search()
    figure = pareto(search)
    marks = [
        (search.distinct[int(place)], y)
        for trace in figure["data"]
        for place, y in zip(trace.get("customdata", []), trace["y"], strict=False)
    ]
    (floor,) = {y for one, y in marks if drift(one) == 0}
    assert 0 < floor < min(y for one, y in marks if drift(one) > 0)
    axis = figure["layout"]["yaxis"]
    assert axis["type"] == "log"
    assert dict(zip(axis["tickvals"], axis["ticktext"], strict=True))[floor] == "0"
    assert sorted(axis["tickvals"]) == axis["tickvals"]


def test_what_was_run_looks_other_than_what_was_predicted():
    traces = {trace["name"]: trace for trace in pareto(make_search())["data"]}
    predicted, run = traces["predicted"], traces["run"]
    assert predicted["marker"]["symbol"] != run["marker"]["symbol"]
    assert [len(predicted["x"]), len(traces["equal bits"]["x"]), len(traces["chosen"]["x"])] == [1, 1, 1]
    assert "measured" in run["text"][0]
    assert "measured" not in predicted["text"][0]


def test_a_point_that_is_called_by_its_size_says_the_size_once():
    search = make_search()
    first = search.candidates[0]
    size = f"{first.bytes / 1e6:.2f} MB"
    named = replace(search, candidates=(replace(first, label=size), *search.candidates[1:]))
    texts = [text for trace in pareto(named, theme=LIGHT)["data"] for text in trace.get("text", ())]
    assert max(text.count(size) for text in texts) == 1


def test_the_recipe_in_force_wears_a_ring():
    search = make_search()
    rings = [trace for trace in pareto(search, now=0)["data"] if trace["name"] == "in force"]
    assert rings[0]["x"] == [search.distinct[0].bytes / 1e6]
    assert not [trace for trace in pareto(search)["data"] if trace["name"] == "in force"]


def test_bars_are_ranked_with_the_worst_at_the_top_and_what_broke_down_left_out():
    scan = make_scan()
    figure = sensitivity(scan, 2, names={"blocks.39.fc": "block 39"})
    (trace,) = figure["data"]
    assert len(trace["x"]) == MOST
    assert trace["x"] == sorted(trace["x"])
    assert trace["y"][-1] == "block 39"
    assert trace["customdata"][-1] == scan.ranked(4)[0][0]
    assert "blocks.0.fc" not in trace["customdata"]
    assert np.isfinite(trace["x"]).all()
    json.dumps(figure)


def test_full_precision_is_an_option_only_where_it_says_something():
    assert [item["id"] for item in options(make_scan())] == [2, 4]
    assert [item["id"] for item in options(make_scan(mode="restored"))] == [2, 4, 16]


def test_the_figures_need_no_torch():
    script = (
        "import sys, quantlab.figures.pareto, quantlab.figures.sensitivity; sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False, timeout=60).returncode == 0


def test_by_time_every_timed_point_stands_at_its_milliseconds_and_others_are_left_out():
    search = make_search()
    timed = tuple(replace(one, seconds=0.01 * (place + 1)) for place, one in enumerate(search.candidates))
    figure = pareto(replace(search, candidates=timed), budget=0.025, by_time=True)
    known = {one.recipe: one for one in timed}
    places = [
        (place, x)
        for trace in figure["data"]
        for place, x in zip(trace.get("customdata", []), trace["x"], strict=False)
    ]
    distinct = replace(search, candidates=timed).distinct
    assert places
    for place, x in places:
        assert x == pytest.approx(1e3 * known[distinct[int(place)].recipe].seconds)
    assert figure["layout"]["shapes"][0]["x0"] == pytest.approx(25)
    low, high = figure["layout"]["xaxis"]["range"]
    assert all(low < x < high for _, x in places)
    late = pareto(replace(search, candidates=timed), budget=9.0, by_time=True)["layout"]
    assert (late["shapes"][0]["x0"], late["xaxis"]["range"]) == (high, [low, high]), "it squeezes no point"
    assert "ms" in figure["layout"]["xaxis"]["title"]["text"]
