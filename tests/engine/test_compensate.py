"""Compensation of networks: block by block along the quantized trajectory, against doing it by hand."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from quantlab.engine.calibrate import Calibration
from quantlab.engine.compensate import Seen, judge
from quantlab.engine.plan import BranchPlan
from quantlab.engine.quantize import Quantizer
from quantlab.engine.recipe import Recipe
from quantlab.engine.settings import BranchSettings
from quantlab.methods.compensation import ErrorMoments, fit_correction
from quantlab.models.structure import describe
from quantlab.numerics.tails import tail_relative_error


class Gain(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.linspace(0.2, 1.5, width))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gamma


class Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))
        self.ls = Gain(width)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.ls(self.mlp(self.norm(x)))


class Net(nn.Module):
    """Two blocks that run in the opposite order of their definition, the first of them twice."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block(16) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        return self.blocks[1](self.blocks[0](self.blocks[1](x)))


@pytest.fixture
def case():
    torch.manual_seed(0)
    network = Net().eval()
    inputs = [torch.randn(frames, 20, 16) for frames in (2, 3, 2, 2, 1)]
    quantizer = Quantizer(network, describe(network), Calibration(inputs))
    return network, inputs, quantizer


RECIPE = Recipe.preset("rtn", weights=3, activations=16).set("*", rank=5)


def test_fits_equal_those_made_by_hand_along_the_quantized_trajectory(case):
    network, inputs, quantizer = case
    quantizer.apply(RECIPE)
    with torch.no_grad():
        expected, trajectory = {}, inputs
        for index in (1, 0):
            exact, rounded = network.blocks[index], quantizer.network.blocks[index]
            branch = [(exact(x) - x, rounded(x) - x) for x in trajectory]
            moments = [
                ErrorMoments.of(x.flatten(0, 1), (y - y_hat).flatten(0, 1))
                for x, (y, y_hat) in zip(trajectory, branch, strict=True)
            ]
            fit = fit_correction(sum(moments[1:], moments[0]), 5)
            tre = sum(tail_relative_error(y, y_hat, 0.01) for y, y_hat in branch) / len(branch)
            expected[f"blocks.{index}.mlp"] = (fit, tre)
            trajectory = [x + y_hat + fit(x) for x, (_, y_hat) in zip(trajectory, branch, strict=True)]
    quantizer.apply(RECIPE.set("*", compensation=True))
    for name, (fit, tre) in expected.items():
        found = quantizer.fits[name]
        assert found.tre == pytest.approx(tre, rel=1e-3)
        torch.testing.assert_close(
            found.correction.down @ found.correction.up, fit.down @ fit.up, rtol=1e-2, atol=1e-4
        )


def test_the_corrected_network_adds_the_correction_at_every_call_of_a_branch(case):
    _, inputs, quantizer = case
    quantizer.apply(RECIPE)
    with torch.no_grad():
        plain = list(quantizer.network.blocks)
        expected = inputs[0]
        quantizer.apply(RECIPE.set("*", compensation=True))
        found = quantizer.network(inputs[0])
        fits = {name: fit.correction for name, fit in quantizer.fits.items()}
        quantizer.apply(RECIPE)
        for index in (1, 0, 1):
            expected = plain[index](expected) + fits[f"blocks.{index}.mlp"](expected)
    torch.testing.assert_close(found, expected)


def test_an_edit_upstream_fits_anew_and_gives_what_a_fresh_start_gives(case):
    network, inputs, quantizer = case
    compensated = RECIPE.set("*", compensation=True)
    quantizer.apply(compensated)
    # Block 1 runs first, so that block 0 must follow; an edit of block 0 leaves the fit of block 1.
    first = quantizer.fits["blocks.1.mlp"]
    quantizer.apply(compensated.set("blocks.0", weights=2))
    assert quantizer.fits["blocks.1.mlp"] is first
    edited = compensated.set("blocks.1", weights=2)
    assert quantizer.apply(edited) == {"blocks.0", "blocks.1"}
    fresh = Quantizer(network, describe(network), Calibration(inputs))
    fresh.apply(edited)
    with torch.no_grad():
        assert torch.equal(quantizer.network(inputs[0]), fresh.network(inputs[0]))


def test_no_activation_outlives_a_forward_pass(case):
    _, inputs, quantizer = case
    quantizer.apply(RECIPE.set("*", compensation=True))
    with torch.no_grad():
        quantizer.network(inputs[0])
    taps = [module.tap for module in quantizer.network.modules() if "tap" in vars(module)]
    assert len(taps) == 4
    assert all(tap.x is None for tap in taps)


def test_a_branch_that_never_runs_is_left_alone_and_says_so():
    class Idle(Net):
        def forward(self, x: Tensor) -> Tensor:
            return self.blocks[0](x)

    torch.manual_seed(0)
    network = Idle().eval()
    quantizer = Quantizer(network, describe(network), Calibration([torch.randn(2, 20, 16)] * 2))
    quantizer.apply(RECIPE.set("*", compensation=True))
    assert quantizer.fits["blocks.0.mlp"].correction is not None
    assert "never ran" in quantizer.fits["blocks.1.mlp"].reason


@pytest.mark.parametrize(("asked", "compensated"), [("auto", False), ("on", True)])
def test_noise_is_compensated_only_where_a_person_insists(asked, compensated):
    generator = torch.Generator().manual_seed(0)
    x, noise = torch.randn(40, 20, generator=generator), torch.randn(40, 5, generator=generator)
    kept, held = ErrorMoments.of(x[:30], noise[:30]), ErrorMoments.of(x[30:], noise[30:])
    branch = BranchPlan("b", BranchSettings(compensation=asked), asked, 20, 0)
    verdict = judge(branch, [Seen(0.5, kept, None), Seen(0.5, None, held)])
    assert verdict.r2 < 0
    assert (verdict.correction is not None) == compensated


def test_the_gate_is_the_mean_over_scenes_and_the_final_fit_uses_them_all():
    x = torch.randn(40, 4, generator=torch.Generator().manual_seed(0))
    first, second = ErrorMoments.of(x[:20], x[:20]), ErrorMoments.of(x[20:], x[20:] * 3)
    branch = BranchPlan("b", BranchSettings(compensation="auto", tre_threshold=0.1), "auto", 4, 0)
    low = judge(branch, [Seen(0.15, first, None), Seen(0.04, None, second)])
    assert low.tre == pytest.approx(0.095)
    assert low.correction is None
    high = judge(branch, [Seen(0.15, first, None), Seen(0.06, None, second)])
    both = fit_correction(first + second, 4)
    torch.testing.assert_close(high.correction.down @ high.correction.up, both.down @ both.up)
