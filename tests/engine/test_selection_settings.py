"""The recipe's entry on calibration scenes: what it accepts, and that it survives being written down."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quantlab.calibration.selection import METHODS
from quantlab.engine.presets import PRESETS
from quantlab.engine.recipe import Recipe
from quantlab.engine.selection_settings import SELECTION_FIELDS, Selection, selection_from
from quantlab.errors import RecipeError


class Names:
    Recipe = Recipe


def selections():
    return st.builds(
        lambda method, count, drop, clusters, deep: Selection(
            method, 0 if method == "all" else count, drop, clusters, deep
        ),
        st.sampled_from(list(METHODS)),
        st.integers(0, 1000),
        st.floats(0.0, 0.9),
        st.integers(0, 64),
        st.integers(1, 64),
    )


@given(chosen=selections(), preset=st.sampled_from(list(PRESETS)))
@settings(max_examples=60, deadline=None)
def test_a_selection_comes_back_equal_from_every_form_of_the_recipe(chosen, preset):
    recipe = Recipe.preset(preset).calibrated(**{n: getattr(chosen, n) for n in SELECTION_FIELDS})
    assert recipe.calibration == chosen
    assert Recipe.from_yaml(recipe.to_yaml()) == recipe
    assert Recipe.from_json(recipe.to_json()) == recipe
    namespace: dict[str, object] = {}
    exec(recipe.to_python().replace("import quantlab as ql", ""), {"ql": Names}, namespace)
    assert namespace["recipe"].calibration == chosen


def test_a_recipe_that_says_nothing_takes_all_scenes_and_says_nothing():
    assert Recipe().calibration == Selection("all")
    assert "calibration" not in Recipe().to_dict()
    assert Recipe.from_dict({"format": 1}).calibration == Selection("all")


def test_recipes_differ_by_their_selection_and_say_in_what():
    plain = Recipe.preset("smoothquant")
    picked = plain.calibrated("nfds", scenes=8)
    assert picked != plain
    assert hash(picked) != hash(plain)
    assert plain.diff(picked) == ["calibration: method all → nfds", "calibration: scenes 0 → 8"]
    assert picked.calibrated("all") == plain
    assert "method: nfds" in picked.to_yaml()


def test_a_name_and_plain_data_mean_the_same_as_the_record():
    assert selection_from("nfds") == Selection("nfds") == selection_from({"method": "nfds"})
    assert Recipe(calibration="nfds") == Recipe(calibration={"method": "nfds"})


@pytest.mark.parametrize("name", list(PRESETS))
def test_a_preset_carries_its_selection(name):
    assert Recipe.preset(name).calibration == selection_from(PRESETS[name].calibration)


@pytest.mark.parametrize("name", sorted(set(SELECTION_FIELDS) - {"method"}))
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1, 10**6, "8", [8], {}, None, True])
def test_a_value_outside_its_bounds_is_refused_with_field_and_bounds(name, value):
    with pytest.raises(RecipeError, match=name) as caught:
        Recipe.from_dict({"format": 1, "calibration": {"method": "nfds", name: value}})
    assert caught.value.place == f"recipe: calibration: {name}"
    assert str(SELECTION_FIELDS[name].metadata["high"]) in caught.value.remedy


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({"method": "ndfs"}, "method cannot be 'ndfs'"),
        ({"methd": "nfds"}, "unknown entry 'methd'"),
        ({"method": "all", "scenes": 4}, "scenes cannot be 4"),
        ([1], "not a list of named entries"),
        (None, "not a list of named entries"),
        (7, "not a list of named entries"),
        ({1: 2}, "not a list of named entries"),
    ],
)
def test_what_is_no_selection_is_refused_in_words(entry, words):
    with pytest.raises(RecipeError, match=words):
        Recipe.from_dict({"format": 1, "calibration": entry})


def test_every_method_says_what_it_does_and_reads_settings_that_exist():
    for name, method in METHODS.items():
        assert method.help.endswith("."), name
        assert set(method.reads) <= set(SELECTION_FIELDS), name
