"""What the data decide of a recipe: scale exponents and fragile blocks, against trying everything by hand."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from quantlab.engine.calibrate import Calibration
from quantlab.engine.plan import plan
from quantlab.engine.quantize import Quantizer
from quantlab.engine.recipe import Recipe
from quantlab.engine.sensitivity import BlockProbe
from quantlab.engine.task_loss import TaskLoss
from quantlab.engine.task_scales import choose_exponent
from quantlab.errors import JobCancelledError, RecipeError
from quantlab.jobs import Job
from quantlab.kernels.reference import SimulatedLinear
from quantlab.methods.task_scales import EXPONENTS, strength_divisor
from quantlab.models.layers import Attention
from quantlab.models.structure import describe
from quantlab.models.tokens import TokenLayout

WIDTH = 16
RECIPE = Recipe.preset("qvggt", weights=3, activations=16).set("*", fragile=0.5)


class Block(nn.Module):
    def __init__(self, gain: float) -> None:
        super().__init__()
        self.norm1, self.attn = nn.LayerNorm(WIDTH), Attention(WIDTH, 2)
        self.norm2 = nn.LayerNorm(WIDTH)
        self.mlp = nn.Sequential(nn.Linear(WIDTH, 32), nn.GELU(), nn.Linear(32, WIDTH))
        self.gain = gain
        with torch.no_grad():
            self.norm2.weight.copy_(torch.logspace(-1, 1, WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.gain * self.mlp(self.norm2(x))


class Net(nn.Module):
    """Four blocks, of which the third and the first matter most."""

    def __init__(self) -> None:
        super().__init__()
        self.frame_blocks = nn.ModuleList(Block(gain) for gain in (2.0, 0.2, 4.0, 0.1))

    def forward(self, x: Tensor) -> Tensor:
        for block in self.frame_blocks:
            x = block(x)
        return x


@pytest.fixture
def case():
    torch.manual_seed(0)
    network = Net().eval()
    inputs = [torch.randn(1, 7, WIDTH) for _ in range(3)]
    return Quantizer(network, describe(network), Calibration(inputs)), inputs


@pytest.fixture
def runs(monkeypatch):
    """Counts the measurements."""
    counted: list[str] = []
    loss = BlockProbe.loss

    def counting(self, block, layers, job=None):
        counted.append(block)
        return loss(self, block, layers, job)

    monkeypatch.setattr(BlockProbe, "loss", counting)
    return counted


def run(network: nn.Module, x: Tensor) -> Tensor:
    with torch.no_grad():
        return network(x)


def test_the_best_exponent_is_taken_and_of_equal_ones_the_smallest():
    valley = choose_exponent(lambda exponent, _: TaskLoss(depth=1 + abs(exponent - 0.5)))
    assert valley.exponent == 0.5
    assert tuple(valley.losses) == EXPONENTS
    assert choose_exponent(lambda *_: TaskLoss(points=1.0)).exponent == 0
    broken = choose_exponent(lambda exponent, _: TaskLoss(points=float("inf") if exponent > 0 else 1.0))
    assert broken.exponent == 0


def test_each_block_gets_the_exponent_that_is_best_when_it_is_tried_alone(case):
    quantizer, inputs = case
    quantizer.apply(RECIPE.set("*", fragile=0.0))
    block = "frame_blocks.2"
    losses = {}
    for exponent in EXPONENTS:
        alone = Recipe(defaults={"keep": True}).set(
            block,
            keep=False,
            weights=3,
            smoothing=exponent,
            smoothing_rule="task",
            weight_granularity="group",
            group_size=0,
            calibration_tokens="patch",
        )
        single = Quantizer(quantizer.reference, quantizer.structure, Calibration(inputs))
        # The exponent is given by hand here: without its rule nothing is searched.
        single._decisions.decide = lambda chosen, *_: Fixed(chosen)
        single.apply(alone)
        errors = [
            float(
                (run(single.network, x) - run(quantizer.reference, x)).norm()
                / run(quantizer.reference, x).norm()
            )
            for x in inputs
        ]
        losses[exponent] = sum(errors) / len(errors)
    found = quantizer.decided.scales[block]
    assert {a: loss.distance for a, loss in found.losses.items()} == pytest.approx(losses, rel=1e-4)
    assert all(
        quantizer.plan.layers[f"{block}.mlp.{part}"].settings.smoothing == found.exponent for part in (0, 2)
    )


class Fixed:
    def __init__(self, chosen) -> None:
        self.plan, self.kept = chosen, {}


def test_fragile_blocks_keep_all_but_the_attention_s_projection_in_sixteen_bits(case):
    quantizer, _ = case
    quantizer.apply(RECIPE)
    measured = quantizer.decided.sensitivity
    worst = sorted(measured, key=measured.__getitem__, reverse=True)[:2]
    assert list(quantizer.kept) == worst
    for name, info in quantizer.structure.layers.items():
        kept = info.block in worst and info.kind != "proj"
        assert (quantizer.layer(name) is None) == kept
        assert quantizer.plan.layers[name].quantized != kept
        if kept:
            assert "sensitivity" in quantizer.plan.layers[name].reason
            assert quantizer.plan.layers[name].bytes == quantizer.plan.layers[name].full_bytes
    asked = plan(quantizer.structure, RECIPE)
    assert "most sensitive" in asked.layers["frame_blocks.0.mlp.0"].reason
    assert asked.undecided
    assert asked.bytes < quantizer.plan.bytes == quantizer.packed_bytes < asked.full_bytes


def test_undo_measures_nothing_and_finds_the_same_network(case, runs):
    quantizer, inputs = case
    quantizer.apply(RECIPE)
    states, result, measured = quantizer.states(), run(quantizer.network, inputs[0]), len(runs)
    assert measured == 4 * len(EXPONENTS)
    quantizer.apply(Recipe.preset("rtn"))
    assert quantizer.kept == {}
    quantizer.apply(RECIPE)
    assert quantizer.states() == states
    assert torch.equal(run(quantizer.network, inputs[0]), result)
    quantizer.apply(RECIPE.set("*", fragile=0.25))
    assert len(quantizer.kept) == 1
    assert len(runs) == measured


def test_a_decision_can_be_stopped_and_goes_on_where_it_was(case, runs):
    quantizer, inputs = case
    states = quantizer.states()
    job = Job(lambda job: job.cancel() if len(runs) > 10 else None)
    with pytest.raises(JobCancelledError):
        quantizer.apply(RECIPE, job)
    assert quantizer.states() == states
    assert quantizer.decided is None
    assert torch.equal(run(quantizer.network, inputs[0]), run(quantizer.reference, inputs[0]))
    quantizer.apply(RECIPE)
    assert len(runs) == 4 * len(EXPONENTS) + 1


def test_blocks_of_different_shares_are_ranked_apart(case):
    quantizer, _ = case
    quantizer.apply(RECIPE.set("*", fragile=0.0).set("frame_blocks.1", fragile=1.0))
    assert list(quantizer.kept) == ["frame_blocks.1"]


def test_a_branch_in_which_nothing_is_left_to_round_is_not_compensated(case):
    quantizer, _ = case
    quantizer.apply(RECIPE.set("*", compensation=True, rank=2, fragile=1.0))
    assert quantizer.plan.branches["frame_blocks.0.mlp"].compensated == "off"
    assert quantizer.plan.branches["frame_blocks.0.attn"].compensated == "on"
    assert set(quantizer.fits) == {f"frame_blocks.{index}.attn" for index in range(4)}


def test_scales_are_taken_from_patch_tokens_only(monkeypatch):
    monkeypatch.setattr("quantlab.engine.task_scales.EXPONENTS", (0.5,))
    torch.manual_seed(1)
    network = Net().eval()
    inputs = [torch.randn(1, 7, WIDTH) for _ in range(2)]
    layout = TokenLayout(1, 2, 3, {"frame": ("camera",)})
    quantizer = Quantizer(network, describe(network), Calibration(inputs, layouts=[layout, layout]))
    quantizer.apply(RECIPE.set("*", fragile=0.0))
    layer = quantizer.layer("frame_blocks.0.attn.qkv")
    assert isinstance(layer, SimulatedLinear)
    rows = torch.cat([network.frame_blocks[0].norm1(x)[0] for x in inputs]).detach()
    patches = torch.arange(14) % 7 != 0
    expected = strength_divisor(rows[patches].abs().mean(dim=0), 0.5)
    torch.testing.assert_close(layer.transforms[0].divisor, expected)
    assert not torch.allclose(expected, strength_divisor(rows.abs().mean(dim=0), 0.5), rtol=1e-3)


def test_without_scenes_there_is_nothing_to_decide_by():
    network = Net().eval()
    with pytest.raises(RecipeError, match="calibration"):
        Quantizer(network, describe(network)).apply(RECIPE)
