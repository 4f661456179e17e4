"""Quantizing networks: against a naive reference, laws that hold for any recipe, and what an edit may change."""

from __future__ import annotations

import copy
import time

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import quantlab as ql
from quantlab.engine.calibrate import Calibration
from quantlab.engine.presets import PRESETS
from quantlab.engine.quantize import Quantizer
from quantlab.engine.recipe import Recipe
from quantlab.errors import CheckpointError, JobCancelledError, NumericError, RecipeError, SceneError
from quantlab.jobs import Job
from quantlab.kernels.reference import SimulatedLinear
from quantlab.models.structure import describe


class Block(nn.Module):
    """A residual MLP block whose input channels have very different sizes."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))
        with torch.no_grad():
            self.norm.weight.copy_(torch.logspace(-1, 1, width))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.mlp(self.norm(x))


class Net(nn.Module):
    def __init__(self, width: int = 24, depth: int = 2) -> None:
        super().__init__()
        self.embed = nn.Linear(10, width)
        self.blocks = nn.ModuleList(Block(width) for _ in range(depth))
        self.out = nn.Linear(width, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        for block in self.blocks:
            x = block(x)
        return self.out(x)


FC1, FC2 = "blocks.0.mlp.0", "blocks.1.mlp.2"


@pytest.fixture
def network() -> Net:
    torch.manual_seed(0)
    return Net().eval()


@pytest.fixture
def inputs() -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(2, 30, 10, generator=generator) for _ in range(4)]


def bits(network: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in network.state_dict().items()}


def naive_linear(layer: nn.Linear, x: Tensor, weights: int, activations: int) -> Tensor:
    """W per output channel, A per token, by loops."""

    def rounded(vector: Tensor, count: int) -> Tensor:
        top = 2 ** (count - 1) - 1
        scale = vector.abs().max() / top
        return torch.clamp(torch.round(vector / scale), -top - 1, top) * scale if scale > 0 else vector

    weight = torch.stack([rounded(row, weights) for row in layer.weight])
    tokens = torch.stack([rounded(token, activations) for token in x.reshape(-1, x.shape[-1])])
    return (tokens @ weight.T + layer.bias).reshape(*x.shape[:-1], -1)


def test_w4a4_round_to_nearest_equals_a_naive_loop(network, inputs):
    quantized = ql.quantize(network, Recipe.preset("rtn"))
    x = network.embed(inputs[0])
    for block in network.blocks:
        hidden = F.gelu(naive_linear(block.mlp[0], block.norm(x), 4, 4))
        x = x + naive_linear(block.mlp[2], hidden, 4, 4)
    with torch.no_grad():
        torch.testing.assert_close(quantized(inputs[0]), network.out(x), rtol=1e-4, atol=1e-4)


def test_a_full_precision_recipe_changes_nothing_bit_for_bit(network, inputs):
    quantized = ql.quantize(network, Recipe.preset("full_precision"))
    with torch.no_grad():
        assert torch.equal(quantized(inputs[0]), network(inputs[0]))


@given(
    rotation=st.sampled_from(["none", "hadamard"]),
    smoothing=st.none() | st.floats(0, 1),
    order=st.sampled_from(["before", "after"]),
    silent=st.booleans(),
    width=st.sampled_from([7, 12, 24, 21]),
    seed=st.integers(0, 2**31),
)
@settings(max_examples=30, deadline=None)
def test_rotation_and_smoothing_change_nothing_where_nothing_is_rounded(
    rotation, smoothing, order, silent, width, seed
):
    torch.manual_seed(seed)
    layer = nn.Linear(width, 9)
    x = torch.randn(40, width) * torch.logspace(-2, 2, width)
    if silent:
        x[:, 0] = 0
        layer.weight.data[:, 1] = 0
    network = nn.Sequential(layer).eval()
    # 8-bit weights make the layer count as quantized; its float weight is put back for the comparison.
    recipe = Recipe.preset("rtn", weights=8, activations=16).set(
        "*", rotation=rotation, smoothing=smoothing, smoothing_order=order
    )
    quantized = ql.quantize(network, recipe, [x])[0]
    folded = layer.weight.detach().double()
    for transform in quantized.transforms:
        folded = transform.fold(folded)
    quantized.weight = folded.float()
    with torch.no_grad():
        expected, given_ = network(x), quantized(x)
    assert (given_ - expected).norm() <= 1e-5 * expected.norm()


@pytest.mark.parametrize("name", list(PRESETS))
def test_the_module_given_is_never_changed_and_equal_recipes_give_equal_copies(name, network, inputs):
    before, tree = bits(network), str(network)
    first = ql.quantize(network, Recipe.preset(name), inputs)
    second = ql.quantize(network, Recipe.from_json(Recipe.preset(name).to_json()), inputs)
    assert str(network) == tree
    assert all(torch.equal(before[key], value) for key, value in network.state_dict().items())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in network.modules())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in first.modules())
    ours, theirs = first.state_dict(), second.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)


def test_what_is_not_quantized_is_shared_and_not_copied(network):
    quantized = ql.quantize(network, Recipe.preset("rtn"))
    assert quantized.out.weight is network.out.weight
    assert quantized.blocks[0].norm.weight is network.blocks[0].norm.weight


def test_a_different_seed_turns_the_inputs_otherwise(network, inputs):
    one, other = (
        ql.quantize(network, Recipe(defaults={"weights": 4, "rotation": "hadamard"}, seed=seed))
        for seed in (0, 1)
    )
    with torch.no_grad():
        assert not torch.equal(one(inputs[0]), other(inputs[0]))


@pytest.mark.parametrize(
    "edit", [{"weights": 8}, {"rotation": "hadamard"}, {"keep": True}, {"range_search": "grid"}]
)
def test_an_edit_gives_what_a_fresh_start_gives_and_names_the_block_it_touched(edit, network, inputs):
    quantizer = Quantizer(network, describe(network), Calibration(inputs))
    start = Recipe.preset("smoothquant")
    quantizer.apply(start)
    kept = quantizer.layer(FC1)
    changed = quantizer.apply(start.set(FC2, **edit))
    assert changed == {"blocks.1"}
    assert quantizer.layer(FC1) is kept
    fresh = ql.quantize(network, start.set(FC2, **edit), inputs)
    with torch.no_grad():
        assert torch.equal(quantizer.network(inputs[0]), fresh(inputs[0]))


def test_applying_the_same_recipe_again_does_nothing_and_undo_comes_back_bit_for_bit(network, inputs):
    quantizer = Quantizer(network, describe(network), Calibration(inputs))
    start = Recipe.preset("quantvggt")
    quantizer.apply(start)
    states = quantizer.states()
    with torch.no_grad():
        expected = quantizer.network(inputs[0])
    assert quantizer.apply(Recipe.preset("quantvggt")) == frozenset()
    assert quantizer.apply(start.set("*", weights=8)) == {"blocks.0", "blocks.1"}
    assert quantizer.states() != states
    quantizer.apply(start)
    assert quantizer.states() == states
    with torch.no_grad():
        assert torch.equal(quantizer.network(inputs[0]), expected)


@pytest.mark.parametrize("bits", [4, 16])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_weight_that_is_not_finite_is_refused_by_name_and_the_former_state_stays(value, bits, network):
    network.blocks[1].mlp[2].weight.data[0, 0] = value
    quantizer = Quantizer(network, describe(network))
    start = Recipe.preset("rtn").set(FC2, keep=True)
    quantizer.apply(start)
    states, plan = quantizer.states(), quantizer.plan
    with pytest.raises(NumericError, match=FC2):
        quantizer.apply(Recipe.preset("rtn", weights=bits))
    assert (quantizer.states(), quantizer.plan) == (states, plan)
    assert quantizer.apply(start.set(FC1, weights=8)) == {"blocks.0"}


def test_an_activation_that_is_not_finite_is_named_by_the_layer_that_received_it(network, inputs):
    quantized = ql.quantize(network, Recipe.preset("rtn"))
    bad = inputs[0].clone()
    bad[0, 3, 2] = float("nan")
    with pytest.raises(NumericError, match=FC1), torch.no_grad():
        quantized(bad)


def test_a_quantized_network_is_not_quantized_again(network):
    quantized = ql.quantize(network, Recipe.preset("rtn"))
    with pytest.raises(CheckpointError, match="quantized already"):
        ql.quantize(quantized, Recipe.preset("rtn"))


def test_weights_that_are_codes_are_refused(network):
    network.blocks[0].mlp[0].weight = nn.Parameter(torch.ones(48, 24, dtype=torch.int8), requires_grad=False)
    with pytest.raises(CheckpointError, match=FC1):
        ql.quantize(network, Recipe.preset("rtn"))


@pytest.mark.parametrize("module", [nn.Linear(3, 3), nn.ReLU(), nn.Sequential(nn.LayerNorm(3))])
def test_a_module_without_an_exchangeable_layer_is_refused(module):
    with pytest.raises(RecipeError, match="no Linear or convolution"):
        ql.quantize(module, Recipe.preset("rtn"))


@pytest.mark.parametrize("name", ["smoothquant", "taptq"])
def test_a_recipe_that_needs_calibration_says_so_without_it(name, network):
    with pytest.raises(RecipeError, match="calibration"):
        ql.quantize(network, Recipe.preset(name))


def test_static_activations_cover_calibration_and_keep_their_scale_for_other_inputs(network, inputs):
    recipe = Recipe.preset("rtn", weights=16, activations=8).set(
        "*", activation_mode="static", activation_granularity="tensor"
    )
    with pytest.raises(RecipeError, match="calibration"):
        ql.quantize(network, recipe)
    quantizer = Quantizer(network, describe(network), Calibration(inputs))
    quantizer.apply(recipe)
    layer = quantizer.layer(FC1)
    assert isinstance(layer, SimulatedLinear)
    with torch.no_grad():
        peak = max(network.blocks[0].norm(network.embed(x)).abs().max() for x in inputs)
    torch.testing.assert_close(layer.activations.scale * 127, peak)
    x = torch.tensor([[100.0 * float(peak)] + [0.0] * 23])
    assert layer.activations(x).max() <= peak * 1.001


@pytest.mark.parametrize("moment", ["quantize", "compensate blocks.0.mlp", "compensate blocks.1.mlp"])
def test_a_job_cancelled_at_any_moment_leaves_the_former_network(moment, network, inputs):
    quantizer = Quantizer(network, describe(network), Calibration(inputs))
    quantizer.apply(Recipe.preset("rtn"))
    states = quantizer.states()
    with torch.no_grad():
        expected = quantizer.network(inputs[0])
    job = Job(lambda running: running.cancel() if running.progress.text.startswith(moment) else None)
    again = Recipe.preset("quarot").set("*", compensation=True)
    with pytest.raises(JobCancelledError):
        quantizer.apply(again, job)
    assert quantizer.states() == states
    assert not any(module._forward_hooks for module in quantizer.network.modules())
    with torch.no_grad():
        assert torch.equal(quantizer.network(inputs[0]), expected)
    assert quantizer.apply(again) == {"blocks.0", "blocks.1"}


def test_compensation_takes_away_an_error_that_is_linear_in_the_input(network, inputs):
    start = Recipe.preset("rtn", weights=2, activations=16)
    with torch.no_grad():
        expected = [network(x) for x in inputs]

    def error(recipe: Recipe) -> float:
        quantized = ql.quantize(network, recipe, inputs)
        with torch.no_grad():
            return float(sum((quantized(x) - y).norm() for x, y in zip(inputs, expected, strict=True)))

    assert error(start.set("*", compensation=True, rank=24)) < 0.8 * error(start)


def test_auto_compensates_only_where_the_threshold_is_reached(network, inputs):
    quantizer = Quantizer(network, describe(network), Calibration(inputs))
    recipe = Recipe.preset("rtn", weights=2, activations=16).set("*", compensation="auto", rank=24)
    quantizer.apply(recipe)
    fits = quantizer.fits
    assert set(fits) == {"blocks.0.mlp", "blocks.1.mlp"}
    for fit in fits.values():
        assert (fit.correction is not None) == (fit.tre >= 0.007 and fit.r2 > 0), fit.reason
    quantizer.apply(recipe.set("*", tre_threshold=1.0))
    assert all(fit.correction is None for fit in quantizer.fits.values())


def test_turning_one_compensation_off_keeps_the_fits_before_it_and_changes_only_its_block(network, inputs):
    quantizer = Quantizer(network, describe(network), Calibration(inputs))
    recipe = Recipe.preset("rtn").set("*", compensation=True)
    size = quantizer.apply(recipe) and quantizer.packed_bytes
    first = quantizer.fits["blocks.0.mlp"]
    assert quantizer.apply(recipe.set("blocks.1.mlp", compensation=False)) == {"blocks.1"}
    assert quantizer.fits["blocks.0.mlp"] is first
    assert quantizer.packed_bytes < size


def test_one_calibration_scene_is_enough_for_everything(network, inputs):
    for name in PRESETS:
        ql.quantize(network, Recipe.preset(name), inputs[:1])


def test_a_module_hanging_at_two_places_is_exchanged_at_both(inputs):
    torch.manual_seed(0)
    shared = nn.Linear(10, 10)
    quantized = ql.quantize(nn.Sequential(shared, nn.ReLU(), shared), Recipe.preset("rtn"))
    assert isinstance(quantized[0], SimulatedLinear)
    assert quantized[0] is quantized[2]


def test_torchs_own_encoder_layer_really_runs_the_quantized_layers(inputs):
    torch.manual_seed(0)
    encoder = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True, dropout=0.0).eval()
    x = torch.randn(2, 7, 16)
    quantized = ql.quantize(encoder, Recipe.preset("rtn", weights=16, activations=2))
    with torch.no_grad():
        assert (quantized(x) - encoder(x)).norm() > 0.01 * encoder(x).norm()


def test_half_precision_networks_keep_their_dtype(inputs):
    torch.manual_seed(0)
    network = Net().eval().bfloat16()
    given_ = [x.bfloat16() for x in inputs]
    quantized = ql.quantize(network, Recipe.preset("quantvggt"), given_)
    with torch.no_grad():
        assert quantized(given_[0]).dtype == torch.bfloat16


def test_a_copy_of_a_compensated_network_computes_the_same(network, inputs):
    quantized = ql.quantize(network, Recipe.preset("rtn").set("*", compensation=True), inputs)
    with torch.no_grad():
        assert torch.equal(copy.deepcopy(quantized)(inputs[0]), quantized(inputs[0]))


def test_an_edit_of_a_layer_as_large_as_those_of_mini_is_quick():
    torch.manual_seed(0)
    network = Net(192, 8).eval()
    quantizer = Quantizer(network, describe(network), Calibration([torch.randn(4, 69, 10)]))
    start = Recipe.preset("smoothquant").set("*", rotation="hadamard")
    quantizer.apply(start)
    seconds = []
    for alpha in (0.1, 0.2, 0.3, 0.4, 0.6):
        began = time.thread_time()  # of the processor: others may have it meanwhile
        quantizer.apply(start.set(FC2, smoothing=alpha))
        seconds.append(time.thread_time() - began)
    assert min(seconds) < 0.03, seconds


def test_a_module_is_not_calibrated_on_the_name_of_a_scene(network):
    with pytest.raises(SceneError, match="bare module"):
        ql.quantize(network, Recipe.preset("smoothquant"), "rooms:4")
