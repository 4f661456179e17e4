"""What clicks write into a recipe."""

from __future__ import annotations

import pytest

from quantlab.engine.recipe import Recipe
from quantlab.errors import RecipeError
from quantlab.views.edits import checked, edited, is_in_scope, patterns

FC2 = "aggregator.global_blocks.1.mlp.fc2"
HEAD = "depth_head.projects.0"


def changed(structure, before, after):
    one, other = before.layers(structure), after.layers(structure)
    return {name for name in one if one[name] != other[name]}


@pytest.mark.parametrize(
    ("apply_to", "expected"),
    [
        ("layer", lambda info, _: info.name == FC2),
        ("kind", lambda info, _: info.stream == "global" and info.kind == "fc2"),
        ("block", lambda info, _: info.block == "aggregator.global_blocks.1"),
        ("all", lambda info, _: info.stream in {"frame", "global"}),
        ("picked", lambda info, picked: info.name in picked),
    ],
)
def test_a_change_reaches_exactly_what_it_is_applied_to(structure, apply_to, expected):
    picked = {"aggregator.frame_blocks.0.attn.qkv", "aggregator.frame_blocks.2.mlp.fc1"}
    before = Recipe.preset("rtn")
    after = edited(before, structure, {"weights": 6}, layer=FC2, apply_to=apply_to, picked=picked)
    wanted = {name for name, info in structure.layers.items() if expected(info, picked)}
    assert changed(structure, before, after) == wanted


def test_compensation_goes_to_the_branch_of_the_layer(structure):
    recipe = edited(Recipe.preset("rtn"), structure, {"compensation": "on"}, layer=FC2, apply_to="layer")
    on = [name for name in structure.branches if recipe.branch(name).compensation == "on"]
    assert on == ["aggregator.global_blocks.1.mlp"]


def test_compensation_of_a_kind_goes_to_the_same_branch_of_every_block_of_the_stream(structure):
    recipe = edited(Recipe.preset("rtn"), structure, {"compensation": "auto"}, layer=FC2, apply_to="kind")
    on = {name for name in structure.branches if recipe.branch(name).compensation == "auto"}
    assert on == {name for name in structure.branches if "global" in name and name.endswith("mlp")}


def test_compensation_of_a_layer_in_no_branch_is_refused_with_the_reason(structure):
    with pytest.raises(RecipeError, match="branch"):
        edited(Recipe.preset("rtn"), structure, {"compensation": "on"}, layer=HEAD, apply_to="layer")


def test_what_the_scope_leaves_out_is_told_from_what_somebody_kept(structure):
    recipe = edited(Recipe.preset("rtn"), structure, {"keep": True}, layer=FC2, apply_to="layer")
    assert recipe.layer(HEAD, structure).keep
    assert not is_in_scope(recipe, structure, HEAD)
    assert is_in_scope(recipe, structure, FC2)


@pytest.mark.parametrize(
    ("name", "sent", "meant"),
    [
        ("rotation", True, "hadamard"),
        ("rotation", False, "none"),
        ("smoothing", True, 0.5),
        ("smoothing", False, None),
        ("smoothing", "0.25", 0.25),
        ("weights", "8", 8),
        ("weights", 8.0, 8),
        ("keep", True, True),
    ],
)
def test_values_of_a_page_become_values_of_a_recipe(name, sent, meant):
    value = checked(name, sent)
    assert value == meant
    assert type(value) is type(meant)


@pytest.mark.bad_input
@pytest.mark.parametrize(
    "changes",
    [
        {"weights": 9},
        {"weights": True},
        {"weights": None},
        {"seed": 3},
        {"rotation": "../x"},
        {"smoothing": float("nan")},
    ],
)
def test_a_value_no_control_can_send_is_refused(structure, changes):
    with pytest.raises(RecipeError):
        edited(Recipe.preset("rtn"), structure, changes, layer=FC2, apply_to="layer")


@pytest.mark.parametrize(
    ("layer", "apply_to"), [("no.such.layer", "layer"), (FC2, "everything"), (FC2, "picked")]
)
def test_a_target_that_does_not_exist_is_refused(structure, layer, apply_to):
    with pytest.raises(RecipeError):
        patterns(structure, "weights", layer=layer, apply_to=apply_to)
