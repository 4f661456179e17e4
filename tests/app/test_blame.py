"""A marked region in the app: suspects stream in, two clicks mend, and what is no region is refused."""

from __future__ import annotations

import base64
import json
from dataclasses import replace

import numpy as np
import pytest

from quantlab.app.blame import raised
from quantlab.engine.blame_record import Blame, Suspect
from quantlab.engine.recipe import Recipe
from quantlab.engine.settings import LayerSettings

NAMES = [f"aggregator.global_blocks.{index}.mlp.fc2" for index in range(3)]


def blame_of(lab):
    """The last suspect is the first in truth."""

    def blame(region, scene=0, *, verify=8, found=None, job=None):
        lab.calls.append(f"blame {verify}")
        record = Blame(
            scene, int(region.sum()), 0.02, tuple(Suspect(n, 0.01 / (i + 2)) for i, n in enumerate(NAMES))
        )
        found(record)
        record = replace(
            record.with_verified(dict.fromkeys(NAMES, 0.001) | {NAMES[2]: 0.012}),
            luck=0.002,
            together=(1, 0.012),
        )
        found(record)
        return record

    return blame


@pytest.fixture
def open_bench(bench):
    """A lab that is open and measured, with an invented blame."""
    bench = bench()
    list(bench.actions.act("page", {"do": "ready"}))
    bench.session = bench.store.of("page")
    bench.lab = bench.session.lab
    bench.lab.blame = blame_of(bench.lab)
    return bench


def event(session, part=slice(0, 4)):
    """As the viewer sends it."""
    region = np.zeros(session.results.comparison.errors.shape, dtype=bool)
    region[0, part] = True
    mask = base64.b64encode(np.packbits(region.reshape(-1), bitorder="little").tobytes()).decode()
    frames, height, width = region.shape
    return {"do": "region", "frames": frames, "height": height, "width": width, "mask": mask}


def maps(parts):
    """The values of the map in what was told to the page."""
    values = [part["map"]["value"] for part in parts if "map" in part]
    return [json.loads(value) if isinstance(value, str) else value for value in values]


def act(bench, message):
    return list(bench.actions.act("page", message))


def test_a_region_colours_the_map_by_blame_and_lists_the_suspects_measured_first(open_bench):
    shown = maps(act(open_bench, event(open_bench.session)))
    assert shown[0]["color_by"] == "blame"
    last = shown[-1]["blame"]
    assert last["rows"][0]["name"] == NAMES[2]
    assert last["rows"][0]["value"] == "60 %"
    assert last["rows"][0]["verified"]
    assert "restoring the first repairs 60 %" in last["told"]
    assert "luck" in last["note"]
    assert not last["running"]
    early = [row for value in shown[:-1] for row in (value["blame"] or {"rows": []})["rows"]]
    assert any(row["value"].startswith("~ ") for row in early)


def test_the_sentence_counts_the_pixels_and_the_error_of_the_region(open_bench):
    session = open_bench.session
    message = event(session, slice(2, 5))
    told = maps(act(open_bench, message))[-1]["blame"]["told"]
    errors, scale = session.results.comparison.errors, session.results.comparison.scale
    inside = errors[0, 2:5]
    assert told.startswith(f"{inside.size:,} pixels")
    percent = float(told.split("mean error ")[1].split(" %")[0])
    assert percent == pytest.approx(100 * float(inside.mean()) / scale, rel=0.05)


def test_restoring_keeps_that_layer_and_can_be_undone_and_the_region_stays(open_bench):
    act(open_bench, event(open_bench.session))
    before = open_bench.lab.recipe
    parts = act(open_bench, {"do": "restore", "layer": NAMES[2]})
    assert open_bench.lab.recipe.layer(NAMES[2], open_bench.lab.structure).keep
    last = maps(parts)[-1]["blame"]
    assert last["former"]
    assert last["action"]["label"] == "Blame again"
    assert "when it was blamed" in last["told"]
    assert last["rows"][0]["restored"]
    act(open_bench, {"do": "undo"})
    assert open_bench.lab.recipe == before


def test_blaming_again_is_about_the_recipe_that_holds_now(open_bench):
    act(open_bench, event(open_bench.session))
    act(open_bench, {"do": "restore", "layer": NAMES[2]})
    last = maps(act(open_bench, {"do": "blame"}))[-1]["blame"]
    assert not last["former"]
    assert last["action"] is None
    assert open_bench.lab.calls.count("blame 48") == 2


@pytest.mark.parametrize(
    ("bits", "expected"),
    [
        ((4, 4), {"weights": 6, "activations": 6}),
        ((5, 8), {"weights": 6, "activations": 16}),
        ((2, 16), {"weights": 3, "activations": 16}),
        ((8, 8), {"weights": 16, "activations": 16}),
        ((16, 16), {}),
    ],
)
def test_bits_are_raised_one_step_of_the_ladder(bits, expected):
    assert raised(LayerSettings(weights=bits[0], activations=bits[1])) == expected


def test_a_click_raises_the_bits_of_one_layer_alone(open_bench):
    act(open_bench, event(open_bench.session))
    act(open_bench, {"do": "raise", "layer": NAMES[0]})
    settings = open_bench.lab.recipe.layers(open_bench.lab.structure)
    assert {name: item.weights for name, item in settings.items() if item.weights != 4} == {NAMES[0]: 6}


def test_a_wiped_region_gives_the_map_back(open_bench):
    act(open_bench, event(open_bench.session))
    last = maps(act(open_bench, {**event(open_bench.session), "mask": ""}))[-1]
    assert last["blame"] is None
    assert last["color_by"] == "tre"
    assert open_bench.session.results.blame is None


def test_another_scene_drops_the_region(open_bench):
    act(open_bench, event(open_bench.session))
    act(open_bench, {"do": "scene", "value": "room 1"})
    assert open_bench.session.view.region is None
    assert open_bench.session.results.blame is None


def test_without_a_region_the_map_says_how_to_draw_one(open_bench):
    shown = maps(act(open_bench, {"do": "color_by", "value": "blame"}))[-1]
    assert "lasso" in shown["message"]


def test_a_slow_model_waits_to_be_asked(open_bench):
    open_bench.session.interactive = False
    last = maps(act(open_bench, event(open_bench.session)))[-1]["blame"]
    assert last["action"]["label"] == "Find the layers"
    assert not any(call.startswith("blame") for call in open_bench.lab.calls)
    act(open_bench, {"do": "blame"})
    assert "blame 8" in open_bench.lab.calls


@pytest.mark.bad_input
@pytest.mark.parametrize(
    "change",
    [
        {"mask": "AAAA"},
        {"mask": 3},
        {"mask": None},
        {"frames": 99},
        {"height": "12"},
        {"width": None},
        {"mask": "!" * 88},
    ],
)
def test_a_region_that_no_viewer_sends_is_refused_and_changes_nothing(open_bench, change):
    parts = act(open_bench, {**event(open_bench.session), **change})
    assert "region" in open_bench.session.message["problem"]
    assert open_bench.session.view.region is None
    assert parts


@pytest.mark.bad_input
@pytest.mark.parametrize("layer", [None, 3, "nobody", ["a"], {}])
@pytest.mark.parametrize("verb", ["restore", "raise"])
def test_a_layer_that_does_not_exist_changes_nothing(open_bench, verb, layer):
    before = open_bench.lab.recipe
    act(open_bench, {"do": verb, "layer": layer})
    assert open_bench.lab.recipe == before


def test_a_recipe_is_a_rule_more_after_a_restore(open_bench):
    act(open_bench, {"do": "restore", "layer": NAMES[0]})
    assert open_bench.lab.recipe == Recipe.preset("rtn").set(NAMES[0], keep=True)
