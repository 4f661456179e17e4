"""The layer's plots and the front of a search: every choice draws something, a click on a point loads its recipe."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from quantlab import widgets
from quantlab.engine.recipe import Recipe
from quantlab.engine.search_record import Candidate, Measured, Search, Sensitivity
from quantlab.widgets.desk import Desk
from quantlab.widgets.front_view import FrontView
from quantlab.widgets.layer_view import KINDS, SIDES, LayerPane

FC2 = "aggregator.global_blocks.1.mlp.fc2"


def find(lab: Any, kind: type) -> Any:
    return next(view for view in Desk.of(lab)._views if type(view) is kind)


@pytest.mark.parametrize("kind", KINDS.values())
@pytest.mark.parametrize("side", SIDES.values())
def test_every_choice_of_a_layer_draws_a_plot_that_travels_as_json(lab: Any, kind: str, side: str) -> None:
    widgets.layer(lab, FC2)
    view = find(lab, LayerPane)
    view._side.value = side
    view._kind.value = kind
    lab.set(FC2, activations=8)  # so that there is a former state
    shown = view.pane.shown("figure")
    assert shown["figure"]["data"]
    assert json.loads(json.dumps(shown))
    assert view.pane.shown("error") == ""
    assert "Relative output error 0.125 (was 0.25)" in view.pane.shown("words")["sentences"]


def test_what_cannot_be_drawn_is_said_and_something_else_is_shown(lab: Any) -> None:
    widgets.layer(lab, FC2)
    view = find(lab, LayerPane)
    view._kind.value = "search"
    assert "No range search ran here" in view.pane.shown("words")["sentences"][0]
    assert view._side.disabled
    view._kind.value = "histogram"
    view._side.value = "weights"
    assert "not looked at" in view.pane.shown("words")["sentences"][0]


def candidate(bits: int, kind: str, *, verified: bool) -> Candidate:
    drift = 0.01 / bits
    measured = Measured(drift, drift**2) if verified else None
    recipe = Recipe.preset("rtn", weights=bits, activations=8)
    return Candidate(recipe, {FC2: bits}, 1000 * bits, drift, measured, kind, f"{bits} bits")


@pytest.fixture
def search() -> Search:
    recipe = Recipe.preset("rtn", weights=8, activations=8)
    none: dict[str, Any] = {"drifts": {}, "squares": {}, "points": {}, "bytes": {}, "now": {}}
    base = np.zeros(0, np.float32)
    measured = Sensitivity(
        recipe, "alone", "weights", (3, 4), base=base, fixed_bytes=0, scenes=("r",), **none
    )
    front = tuple(candidate(bits, "front", verified=bits == 4) for bits in (3, 4, 6))
    uniform, current = candidate(5, "uniform", verified=True), candidate(8, "current", verified=True)
    return Search(measured, 4000, front[1], front, (uniform,), current)


def click(lab: Any, name: object) -> None:
    find(lab, FrontView).pane._received(None, {"event": {"type": "select", "name": name}}, [])


def test_a_click_on_a_point_of_the_front_loads_its_recipe_as_one_step(lab: Any, search: Search) -> None:
    before = lab.recipe
    widgets.front(lab, search)
    place = next(index for index, one in enumerate(search.distinct) if one.label == "6 bits")
    click(lab, str(place))
    assert lab.recipe == search.distinct[place].recipe
    sentences = find(lab, FrontView).pane.shown("words")["sentences"]
    assert sentences[0].startswith("In force: 0.01 MB, drift 0.167 %")
    assert "(predicted)" in sentences[0]
    assert "(measured)" in sentences[1]
    click(lab, str(next(index for index, one in enumerate(search.distinct) if one.kind == "uniform")))
    assert find(lab, FrontView).pane.shown("words")["sentences"][0].startswith("In force: 5 bits everywhere")
    lab.undo()
    lab.undo()
    assert lab.recipe == before
    assert "none of these" in find(lab, FrontView).pane.shown("words")["sentences"][0]


@pytest.mark.parametrize("name", ["99", "-1", "9" * 5000, "x", "", None, 3, ["0"], FC2])
def test_what_is_no_point_of_the_front_is_ignored(lab: Any, search: Search, name: object) -> None:
    before = lab.recipe
    widgets.front(lab, search)
    click(lab, name)
    assert lab.recipe == before
    assert find(lab, FrontView).pane.shown("error") == ""


def test_the_front_measures_nothing(lab: Any, search: Search) -> None:
    widgets.front(lab, search)
    assert lab.costs == []
