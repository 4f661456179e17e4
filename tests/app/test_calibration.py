"""The calibration tab on invented labs: another selection is tried, seen, applied and taken back."""

from __future__ import annotations

import pytest

from quantlab.engine.recipe import Recipe
from quantlab.engine.selection_settings import SELECTION_FIELDS, Selection


def shown(stream):
    """The newest value of every part that a handler told the page."""
    parts = {}
    for changed in stream:
        parts.update(
            {name: value["value"] for name, value in changed.items() if name in ("calibration", "status")}
        )
    return parts


@pytest.fixture
def tab(bench):
    """(act, session, lab) with the tab open; ``act`` gives the tab's newest value."""

    def build(**settings):
        built = bench(**settings)
        list(built.actions.act("page", {"do": "ready"}))
        built.session = built.store.of("page")
        built.lab = built.session.lab
        built.act = lambda **message: shown(built.actions.act("page", message))
        built.first = built.act(do="tab", value="calibration")["calibration"]
        return built

    return build


def test_opening_the_tab_draws_the_map_of_the_recipes_own_selection(tab):
    bench = tab()
    assert bench.first["method"] == "all"
    assert bench.first["figure"]["data"]
    assert bench.first["apply"] is False
    assert bench.lab.calls.count("pool_map") == 1


def test_trying_another_selection_moves_the_map_and_not_the_recipe(tab):
    bench = tab()
    before = bench.lab.recipe
    value = bench.act(do="selection", changes={"method": "nfds"})["calibration"]
    assert (value["method"], value["apply"]) == ("nfds", True)
    assert len(value["picked"]) == 8
    assert [name for name, _ in value["dropped"]]
    assert "global 2" in value["dropped"][0][1], "blocks are called as on the map"
    assert {item["id"] for item in value["controls"]} == {"scenes", "drop", "clusters", "deep_blocks"}
    assert bench.lab.recipe == before
    value = bench.act(do="selection", changes={"scenes": 3})["calibration"]
    assert len(value["picked"]) == 3


def test_applying_is_one_edit_that_undo_takes_back(tab):
    bench = tab()
    bench.act(do="selection", changes={"method": "nfds"})
    bench.act(do="selection", changes={"scenes": 4})
    value = bench.act(do="calibrate")["calibration"]
    assert bench.lab.recipe.calibration == Selection("nfds", scenes=4)
    assert value["apply"] is False
    value = bench.act(do="undo")["calibration"]
    assert bench.lab.recipe.calibration == Selection()
    assert value["method"] == "all"


def test_a_map_that_was_made_is_not_made_again(tab):
    bench = tab()
    for method in ("nfds", "random", "nfds", "all"):
        bench.act(do="selection", changes={"method": method})
    assert bench.lab.calls.count("pool_map") == 3


def test_choosing_all_forgets_the_number_of_scenes(tab):
    bench = tab()
    bench.act(do="selection", changes={"method": "random"})
    bench.act(do="selection", changes={"scenes": 2})
    assert bench.act(do="selection", changes={"method": "all"})["calibration"]["method"] == "all"


@pytest.mark.parametrize("changes", [{"scenes": -1}, {"method": "x"}, {"nonsense": 1}, {"drop": "many"}])
def test_a_refused_value_is_said_and_the_control_springs_back(tab, changes):
    bench = tab()
    bench.act(do="selection", changes={"method": "nfds"})
    parts = bench.act(do="selection", changes=changes)
    assert parts["status"]["message"]["problem"]
    assert parts["calibration"]["method"] == "nfds"
    assert {item["id"]: item["value"] for item in parts["calibration"]["controls"]}["scenes"] == 0


@pytest.mark.parametrize("changes", [None, 7, "nfds", []])
def test_a_message_that_is_none_changes_nothing(tab, changes):
    bench = tab()
    assert bench.act(do="selection", changes=changes) == {}
    assert bench.session.view.selection is None


def test_a_slow_model_looks_at_the_pool_only_when_asked(tab):
    bench = tab(interactive=False)
    assert bench.first["figure"] is None
    assert bench.first["look"]
    assert "not been looked at" in bench.first["message"]
    assert "pool_map" not in bench.lab.calls
    assert bench.act(do="look")["calibration"]["figure"]


def test_a_failed_look_says_why_and_leaves_the_recipe(tab):
    bench = tab(fails="pool_map")
    assert bench.first["figure"] is None
    assert bench.session.message
    assert bench.lab.recipe == Recipe.preset("rtn")


def test_a_recipe_that_learns_nothing_says_so(tab):
    bench = tab()
    assert "learns nothing" in bench.first["note"]
    bench.lab.recipe = Recipe.preset("smoothquant")
    assert "learns nothing" not in bench.act(do="sync")["calibration"]["note"]


def test_every_control_has_bounds_and_help(tab):
    value = tab().act(do="selection", changes={"method": "nfds"})["calibration"]
    for item in value["controls"]:
        assert item["help"] == SELECTION_FIELDS[item["id"]].metadata["help"]
        assert item["low"] <= item["value"] <= item["high"]
