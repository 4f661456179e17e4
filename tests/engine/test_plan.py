"""Plans: decisions and bytes before any work, and what they warn of and refuse."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from quantlab.engine.plan import plan, published_rank
from quantlab.engine.recipe import Recipe
from quantlab.errors import RecipeError
from quantlab.models.structure import describe


class Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 24, 4, 4)
        self.blocks = nn.ModuleList(Block(24) for _ in range(2))
        self.up = nn.ConvTranspose2d(24, 8, 2, 2)


@pytest.fixture(scope="module")
def structure():
    return describe(Net())


def test_the_bytes_of_a_packed_linear_are_codes_scales_and_bias_counted_by_hand(structure):
    chosen = plan(structure, Recipe.preset("rtn", weights=3))
    layer = chosen.layers["blocks.0.mlp.0"]
    codes = -(-24 * 48 * 3 // 8)
    assert layer.bytes == codes + 48 * 4 + 48 * 2
    assert layer.full_bytes == (24 * 48 + 48) * 2
    assert chosen.full_bytes == 2 * sum(p.numel() for n, p in Net().named_parameters() if "norm" not in n)


def test_fewer_bits_weigh_less_and_groups_weigh_more_than_channels(structure):
    sizes = [plan(structure, Recipe.preset("rtn", weights=bits)).bytes for bits in (2, 3, 4, 6, 8)]
    assert sizes == sorted(sizes)
    assert len(set(sizes)) == len(sizes)
    grouped = Recipe.preset("rtn").set("*", weight_granularity="group", group_size=8)
    assert plan(structure, grouped).bytes > plan(structure, Recipe.preset("rtn")).bytes


def test_a_full_precision_recipe_touches_nothing_and_weighs_as_much_as_bfloat16(structure):
    chosen = plan(structure, Recipe.preset("full_precision"))
    assert chosen.quantized == ()
    assert chosen.bytes == chosen.full_bytes
    assert chosen.warnings == ()


def test_a_convolution_takes_the_weight_settings_only_and_the_plan_says_so(structure):
    recipe = Recipe.preset("quantvggt", scope="all")
    for name in ("stem", "up"):
        layer = plan(structure, recipe).layers[name]
        assert layer.quantized
        assert (layer.settings.weights, layer.settings.activations) == (4, 16)
        assert (layer.settings.rotation, layer.settings.smoothing) == ("none", None)
        assert "convolution" in layer.reason


def test_a_group_size_that_does_not_divide_is_refused_before_work_with_layers_and_a_size_that_does(structure):
    recipe = Recipe.preset("rtn").set("*", weight_granularity="group", group_size=20)
    with pytest.raises(RecipeError, match=r"group_size 20.*blocks\.0\.mlp\.0 \(24 wide\)") as caught:
        plan(structure, recipe)
    advised = int(caught.value.remedy.split("group_size ")[1].split(",")[0])
    assert plan(structure, recipe.set("*", group_size=advised)).quantized


def test_a_rule_that_matches_nothing_is_named_with_what_it_may_have_meant(structure):
    recipe = Recipe.preset("rtn").set("blocks.0.mlp.1", weights=8).set("blocks.0", weights=8)
    (warning,) = plan(structure, recipe).warnings
    assert "'blocks.0.mlp.1'" in warning
    assert "was 'blocks.0.mlp." in warning


def test_a_recipe_for_another_model_and_one_that_keeps_everything_are_pointed_out(structure):
    foreign = Recipe.preset("rtn").set("aggregator.frame_blocks.0", weights=8)
    assert any("another model" in warning for warning in plan(structure, foreign).warnings)
    kept = Recipe.preset("rtn").set("*", keep=True)
    assert any("nothing is quantized" in warning for warning in plan(structure, kept).warnings)


def test_a_rule_for_a_branch_is_not_taken_for_one_that_matches_nothing(structure):
    assert plan(structure, Recipe.preset("rtn").set("blocks.0.mlp", compensation=True)).warnings == ()


def test_only_branches_with_a_quantized_layer_are_compensated_and_their_rank_follows_the_width(structure):
    recipe = Recipe.preset("taptq").set("blocks.1", keep=True)
    chosen = plan(structure, recipe)
    assert chosen.branches["blocks.0.mlp"].compensated == "auto"
    assert chosen.branches["blocks.1.mlp"].compensated == "off"
    assert chosen.branches["blocks.0.mlp"].rank == published_rank(24, 4) == 3
    assert (published_rank(1024, 4), published_rank(1024, 6), published_rank(1024, 8)) == (128, 16, 16)
    six = plan(structure, Recipe.preset("taptq", weights=6, activations=6))
    assert six.branches["blocks.0.mlp"].rank == 1
    assert plan(structure, recipe.set("*", rank=4096)).branches["blocks.0.mlp"].rank == 24


def test_a_plan_needs_calibration_exactly_where_something_is_fitted_to_data(structure):
    assert not plan(structure, Recipe.preset("quarot")).calibrated
    assert plan(structure, Recipe.preset("smoothquant")).calibrated
    assert plan(structure, Recipe.preset("taptq")).calibrated
    assert not plan(structure, Recipe.preset("smoothquant").set("*", keep=True)).calibrated


def test_planning_runs_no_tensor_arithmetic(structure, monkeypatch):
    monkeypatch.setattr(torch, "empty", None)
    assert plan(structure, Recipe.preset("taptq")).quantized


@pytest.mark.parametrize("rank", [7, 4096])
def test_a_low_rank_branch_weighs_no_more_than_its_matrix_has_directions(rank):
    structure = describe(nn.Sequential(nn.Linear(20, 6)))
    exact = plan(structure, Recipe(defaults={"weights": 4, "low_rank": 6})).bytes
    assert plan(structure, Recipe(defaults={"weights": 4, "low_rank": rank})).bytes == exact


@pytest.mark.parametrize(
    ("preset", "nothing"), [("qwt", "compensated"), ("quantvggt", "learned"), ("rotatekv", "keys and values")]
)
def test_what_a_network_without_blocks_cannot_have_is_said(preset, nothing):
    structure = describe(nn.Sequential(nn.Linear(20, 6)))
    warnings = plan(structure, Recipe.preset(preset)).warnings
    assert any(nothing in warning for warning in warnings)


@pytest.mark.parametrize("group", [0, 128])
def test_an_open_group_size_is_the_largest_divisor_up_to_128(group):
    structure = describe(nn.Sequential(nn.Linear(384, 6)))
    asked = Recipe(defaults={"weights": 4, "weight_granularity": "group", "group_size": group})
    assert plan(structure, asked).layers["0"].settings.group_size == 128
