"""What the states of the history are called."""

from __future__ import annotations

from dataclasses import replace

import pytest

from quantlab.engine.recipe import Recipe
from quantlab.models.structure import LayerInfo, Structure
from quantlab.views.states import recipe_words, state_labels

FC2 = "aggregator.global_blocks.3.mlp.fc2"
STRUCTURE = Structure(
    {FC2: LayerInfo(FC2, "fc2", "global", "aggregator.global_blocks.3", 3, 32, 32, 1056, "linear")}, {}, {}
)
START = Recipe.preset("quarot", weights=4, activations=4)


def last(*recipes):
    return state_labels(recipes, STRUCTURE)[-1]


def test_a_state_is_called_by_its_number_its_recipe_and_what_changed():
    history = [Recipe.preset("rtn", weights=4, activations=4), START, START.set(FC2, keep=True)]
    assert state_labels(history, STRUCTURE) == [
        "0: rtn W4A4",
        "1: quarot W4A4",
        "2: quarot W4A4, global 3 · fc2 kept",
    ]


@pytest.mark.parametrize(
    ("pattern", "settings", "said"),
    [
        (FC2, {"weights": 8}, "global 3 · fc2 W8"),
        (FC2, {"keep": False}, "global 3 · fc2 not kept"),
        (FC2, {"smoothing": None}, "global 3 · fc2 smoothing off"),
        ("*", {"rotation": "none"}, "all rotation none"),
        ("aggregator.global_blocks.*.mlp.fc2", {"activations": 8}, "global mlp fc2 A8"),
        (FC2, {"weights": 8, "smoothing": 0.5}, "global 3 · fc2 W8 and 1 more change"),
    ],
)
def test_a_step_is_said_in_a_few_words(pattern, settings, said):
    assert last(START, START.set(pattern, **settings)) == f"1: quarot W4A4, {said}"


def test_a_rule_that_is_gone_and_a_seed_that_changed_are_said_too():
    assert last(START.set(FC2, weights=8), START) == "1: quarot W4A4, global 3 · fc2 weights as before"
    assert last(START, replace(START, seed=5)) == "1: quarot W4A4, other calibration, seed or scope"


def test_full_precision_has_no_bits_and_a_long_name_is_cut():
    assert recipe_words(Recipe.preset("full_precision")) == "full precision"
    assert len(recipe_words(Recipe(name="x" * 150, defaults={"weights": 4}))) < 45


def test_equal_recipes_at_two_places_are_told_apart():
    labels = state_labels([START, START.set(FC2, keep=True), START], STRUCTURE)
    assert len(set(labels)) == 3
