"""The sheet of all settings: nothing is missing, and what has no say is not offered."""

from __future__ import annotations

from collections import Counter

import pytest

from quantlab.engine.plan import plan
from quantlab.engine.recipe import Recipe
from quantlab.engine.settings import BRANCH_FIELDS, FIELDS, LAYER_FIELDS, BranchSettings, LayerSettings
from quantlab.views.edits import checked
from quantlab.views.sheet import AUTOMATIC, GROUPS, LABELS, setting_word, sheet, sheet_values, usable


def controls():
    return {field["name"]: field for group in sheet() for field in group["fields"]}


def test_every_field_stands_in_exactly_one_group():
    shown = Counter(name for names in GROUPS.values() for name in names)
    assert shown == Counter(list(FIELDS))
    assert [field["name"] for group in sheet() for field in group["fields"]] == list(shown)


def test_every_name_the_sheet_knows_is_a_setting():
    assert set(LABELS) | set(AUTOMATIC) <= set(FIELDS)


def test_no_two_settings_are_called_alike_and_each_says_what_it_does_and_its_name_in_a_recipe():
    labels = [field["label"] for field in controls().values()]
    assert len(set(labels)) == len(labels)
    assert not any("_" in label for label in labels)
    for name, field in controls().items():
        assert field["help"].startswith(f"{name}: ")
        assert FIELDS[name].metadata["help"] in field["help"]


def test_a_control_offers_exactly_the_values_its_setting_takes():
    for name, field in controls().items():
        bounds = FIELDS[name].metadata
        if field["kind"] == "number":
            assert (field["low"], field["high"]) == (bounds["low"], bounds["high"])
            assert field["low"] == 0 or not field["automatic"], "the word stands for 0"
        else:
            offered = field.get("choices", [True, False])
            assert set(offered) == set(bounds["choices"])


def test_what_a_page_sends_back_unchanged_is_the_value_it_was_shown():
    for name, value in sheet_values(LayerSettings(), BranchSettings()).items():
        sent = value if isinstance(value, bool) or value is None else str(value)
        assert checked(name, sent) == value


@pytest.mark.parametrize("branch", ["attn", "mlp", ""])
def test_settings_of_branches_have_a_say_only_where_there_is_one_and_those_of_keys_in_attentions(branch):
    offered = set(usable(kept=False, in_scope=True, linear=True, branch=branch))
    assert set(LAYER_FIELDS) <= offered
    assert ("compensation" in offered) == bool(branch)
    assert ("kv_bits" in offered) == (branch == "attn")


def test_a_kept_layer_can_only_be_let_go_and_one_out_of_scope_only_be_given_bits():
    kept = usable(kept=True, in_scope=True, linear=True, branch="mlp")
    assert set(kept) & set(LAYER_FIELDS) == {"keep"}
    assert usable(kept=True, in_scope=False, linear=True, branch="") == ["weights", "activations"]
    assert usable(kept=True, in_scope=False, linear=False, branch="") == ["weights"]


def test_what_the_sheet_disables_for_a_convolution_is_what_the_plan_takes_away(structure):
    name = next(name for name, info in structure.layers.items() if info.operator != "linear")
    wish = {"rotation": "hadamard", "smoothing": 0.5, "low_rank": 4, "rounding": "gptq", "twin": True}
    recipe = Recipe.preset("rtn", scope="all").set(name, **wish)
    asked, left = recipe.layer(name, structure), plan(structure, recipe).layers[name].settings
    taken = {field for field in LAYER_FIELDS if getattr(left, field) != getattr(asked, field)}
    assert {*wish, "activations"} <= taken
    assert not taken & set(usable(kept=False, in_scope=True, linear=False, branch=""))


def test_a_layer_the_recipe_does_not_reach_is_shown_in_full_precision():
    asked = LayerSettings(weights=4, activations=4, keep=True)
    shown = sheet_values(asked, None, in_scope=False)
    assert (shown["weights"], shown["activations"], shown["keep"]) == (16, 16, False)
    assert not set(shown) & set(BRANCH_FIELDS)
    assert sheet_values(asked, None)["weights"] == 4


def test_values_are_words_where_a_number_would_need_an_explanation():
    assert setting_word("rank", 0) == "auto"
    assert setting_word("low_rank", 0) == "none"
    assert setting_word("smoothing", None) == "off"
    assert setting_word("twin", True) == "on"
    assert setting_word("rotation", "block_hadamard") == "block hadamard"
    assert setting_word("epochs", 15) == "15"
