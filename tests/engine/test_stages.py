"""Layers that are built stage by stage: what they are calibrated on, what they depend on, and what an edit redoes."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import quantlab as ql
from quantlab.calibration.layer_data import LayerData
from quantlab.calibration.samples import collect_samples
from quantlab.engine import building, stages
from quantlab.engine.build import build_layer
from quantlab.engine.calibrate import Calibration
from quantlab.engine.quantize import Quantizer
from quantlab.engine.recipe import Recipe
from quantlab.errors import JobCancelledError, RecipeError
from quantlab.jobs import Job
from quantlab.models.structure import describe


class Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))
        with torch.no_grad():
            self.norm.weight.copy_(torch.logspace(-1, 1, width))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.mlp(self.norm(x))


class Net(nn.Module):
    def __init__(self, width: int = 16, depth: int = 3) -> None:
        super().__init__()
        self.embed = nn.Linear(10, width)
        self.blocks = nn.ModuleList(Block(width) for _ in range(depth))

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        for block in self.blocks:
            x = block(x)
        return x


LAYERS = [f"blocks.{block}.mlp.{index}" for block in range(3) for index in (0, 2)]
GPTQ = Recipe(defaults={"weights": 4, "activations": 8, "smoothing": 0.5, "rounding": "gptq"})
CHAINED = GPTQ.set("*", inputs="quantized")


@pytest.fixture
def network() -> Net:
    torch.manual_seed(0)
    return Net().eval()


@pytest.fixture
def inputs() -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(2, 30, 10, generator=generator) for _ in range(3)]


def quantizer_of(network: nn.Module, inputs: list[Tensor]) -> Quantizer:
    return Quantizer(network, describe(network), Calibration(inputs))


def output(network: nn.Module, x: Tensor) -> Tensor:
    with torch.no_grad():
        return network(x)


def received(network: nn.Module, name: str, inputs: list[Tensor]) -> Tensor:
    seen: list[Tensor] = []
    hook = network.get_submodule(name).register_forward_pre_hook(
        lambda _, args: seen.append(args[0].flatten(0, -2))
    )
    for x in inputs:
        output(network, x)
    hook.remove()
    return torch.cat(seen)


def test_gptq_sees_the_second_moments_of_all_tokens_and_not_only_of_samples(network, inputs):
    quantizer, name = quantizer_of(network, inputs), "blocks.1.mlp.2"
    quantizer.apply(GPTQ)
    tokens = received(network, name, inputs).double()
    samples = collect_samples(network, describe(network), None, inputs, layers=[name])
    data = LayerData(
        samples.rows(name), samples.absmax(name), samples.kinds(name), tokens.T @ tokens, len(tokens)
    )
    layer, settings = network.get_submodule(name), quantizer.plan.layers[name].settings
    expected = build_layer(name, layer, settings, seed=0, data=data)
    steps = (quantizer.layer(name).weight - expected.weight) / expected.scale[:, None]
    # Sums in another order may turn a tie, and what follows it in the same row.
    assert (steps.abs() > 0.5).float().mean() < 0.02


def test_quantized_inputs_are_those_that_the_quantized_layers_before_make(network, inputs):
    recipe = Recipe(defaults={"weights": 2, "activations": 8}).set(
        "*", activation_mode="static", activation_granularity="tensor", inputs="quantized"
    )
    quantizer = quantizer_of(network, inputs)
    quantizer.apply(recipe)
    plain = received(network, "blocks.2.mlp.0", inputs).abs().max()
    quantized = received(quantizer.network, "blocks.2.mlp.0", inputs).abs().max()
    assert abs(plain - quantized) > 1e-3 * plain
    torch.testing.assert_close(quantizer.layer("blocks.2.mlp.0").activations.scale * 127, quantized)


def test_a_fresh_start_an_edit_and_a_way_back_end_at_the_same_network(network, inputs):
    quantizer = quantizer_of(network, inputs)
    quantizer.apply(CHAINED)
    first, states = output(quantizer.network, inputs[0]), quantizer.states()
    kept = {name: quantizer.layer(name) for name in LAYERS}
    edited = CHAINED.set("blocks.1.mlp.0", weights=8)
    quantizer.apply(edited)
    fresh = ql.quantize(network, edited, inputs)
    assert torch.equal(output(quantizer.network, inputs[0]), output(fresh, inputs[0]))
    quantizer.apply(CHAINED)
    assert quantizer.states() == states
    assert torch.equal(output(quantizer.network, inputs[0]), first)
    assert all(quantizer.layer(name) is layer for name, layer in kept.items())


def test_an_edit_rebuilds_what_follows_on_quantized_inputs_and_nothing_else_on_full_precision(
    network, inputs
):
    for recipe, expected in (
        (GPTQ, {"blocks.1.mlp.0"}),
        (CHAINED, {"blocks.1.mlp.0", "blocks.2.mlp.0", "blocks.2.mlp.2"}),
    ):
        quantizer = quantizer_of(network, inputs)
        quantizer.apply(recipe)
        before = {name: quantizer.layer(name) for name in LAYERS}
        changed = quantizer.apply(recipe.set("blocks.1.mlp.0", weights=8))
        assert {name for name in LAYERS if quantizer.layer(name) is not before[name]} == expected
        assert changed == {name.rsplit(".", 2)[0] for name in expected}


def test_layers_that_are_learned_are_learned_with_those_of_their_block(network, inputs):
    learned = Recipe(defaults={"weights": 3, "smoothing": 0.5, "reconstruction": "block"})
    quantizer = quantizer_of(network, inputs)
    quantizer.apply(learned)
    before = {name: quantizer.layer(name) for name in LAYERS}
    quantizer.apply(learned.set("blocks.1.mlp.0", weights=8))
    rebuilt = {name for name in LAYERS if quantizer.layer(name) is not before[name]}
    assert rebuilt == {"blocks.1.mlp.0", "blocks.1.mlp.2"}


def test_a_layer_that_needs_no_walk_is_untouched_by_one(network, inputs):
    recipe = GPTQ.set("blocks.0", rounding="nearest")
    quantizer = quantizer_of(network, inputs)
    quantizer.apply(Recipe(defaults=dict(GPTQ.defaults)).set("*", rounding="nearest"))
    before = quantizer.layer("blocks.0.mlp.0")
    quantizer.apply(recipe)
    assert quantizer.layer("blocks.0.mlp.0") is before
    assert torch.equal(
        output(quantizer.network, inputs[0]), output(ql.quantize(network, recipe, inputs), inputs[0])
    )


@pytest.mark.parametrize("moment", ["calibrate blocks.1", "quantize blocks.1.mlp.2"])
def test_a_walk_that_is_stopped_leaves_the_former_network_and_is_not_walked_again_from_the_start(
    moment, network, inputs
):
    quantizer = quantizer_of(network, inputs)
    quantizer.apply(Recipe.preset("rtn"))
    states, before = quantizer.states(), output(quantizer.network, inputs[0])
    job = Job(lambda running: running.cancel() if running.progress.text.startswith(moment) else None)
    with pytest.raises(JobCancelledError):
        quantizer.apply(CHAINED, job)
    assert quantizer.states() == states
    assert torch.equal(output(quantizer.network, inputs[0]), before)
    told: list[str] = []
    quantizer.apply(CHAINED, Job(lambda running: told.append(running.progress.text)))
    assert not any("blocks.0" in text for text in told if text.startswith(("calibrate", "quantize")))
    fresh = ql.quantize(network, CHAINED, inputs)
    assert torch.equal(output(quantizer.network, inputs[0]), output(fresh, inputs[0]))


def test_second_moments_too_large_to_hold_at_once_give_the_same_layers(network, inputs, monkeypatch):
    expected = output(ql.quantize(network, CHAINED, inputs), inputs[0])
    monkeypatch.setattr(stages, "GRAM_BYTES", 1)
    assert torch.equal(output(ql.quantize(network, CHAINED, inputs), inputs[0]), expected)


def test_large_networks_hold_packed_codes_and_compute_the_same(network, inputs, monkeypatch):
    for recipe in (CHAINED, Recipe.preset("smoothquant")):
        expected = output(ql.quantize(network, recipe, inputs), inputs[0])
        with monkeypatch.context() as patch:
            patch.setattr(building, "PACK_BYTES", 0)
            packed = ql.quantize(network, recipe, inputs)
        assert all(packed.get_submodule(name).is_packed for name in LAYERS)
        assert torch.equal(output(packed, inputs[0]), expected)


def test_layers_outside_of_all_blocks_get_samples_and_stages_never_reached_get_nothing(network, inputs):
    class Half(Net):
        def forward(self, x: Tensor) -> Tensor:
            return self.blocks[0](self.embed(x))

    torch.manual_seed(0)
    half = Half().eval()
    quantizer = quantizer_of(half, inputs)
    quantizer.apply(Recipe(scope="linears", defaults=dict(CHAINED.defaults) | {"rounding": "gptq"}))
    assert quantizer.layer("embed") is not None
    reached, never = quantizer.layer("blocks.0.mlp.0"), quantizer.layer("blocks.2.mlp.0")
    assert float(reached.transforms[0].divisor.std()) > 0
    assert float(never.transforms[0].divisor.std()) == 0


def test_a_walk_without_scenes_is_refused_in_words(network):
    with pytest.raises(RecipeError, match="calibration"):
        ql.quantize(network, GPTQ)


def test_corrections_of_branches_are_fitted_behind_the_walk_and_do_not_disturb_the_next_one(network, inputs):
    recipe = CHAINED.set("*", compensation=True)
    quantizer = quantizer_of(network, inputs)
    quantizer.apply(recipe)
    edited = recipe.set("blocks.1.mlp.0", weights=8)
    quantizer.apply(edited)
    fresh = ql.quantize(network, edited, inputs)
    assert torch.equal(output(quantizer.network, inputs[0]), output(fresh, inputs[0]))
