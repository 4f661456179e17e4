"""The self-check: kernels that are wrong in ways that were seen, or nearly, are refused with the reason."""

from __future__ import annotations

import copy
import logging

import pytest
import torch
from torch import nn

from quantlab.engine.build import build_layer
from quantlab.engine.settings import LayerSettings
from quantlab.errors import NumericError
from quantlab.kernels import choose
from quantlab.kernels.check import Oracle, check
from quantlab.kernels.table import KERNELS


@pytest.fixture(scope="module")
def oracle():
    torch.manual_seed(0)
    settings = LayerSettings(weights=8, activations=8)
    return Oracle(build_layer("layer", nn.Linear(64, 24), settings, seed=0, data=None))


class Broken(nn.Module):
    """The simulated layer, but for what ``spoil`` does to its answer."""

    def __init__(self, layer, spoil) -> None:
        super().__init__()
        self.layer, self.spoil = layer, spoil

    def forward(self, x):
        return self.spoil(x, self.layer(x.float()).to(x.dtype))


class Kernel:
    """Prepares layers that are broken in one way."""

    exact = 1e-5

    def __init__(self, spoil) -> None:
        self.spoil = spoil

    def absent(self, device):
        return ""

    def refuses(self, layer):
        return ""

    def prepare(self, layer):
        return Broken(copy.deepcopy(layer), self.spoil)


def swallowing(layer):
    """Like zentorch: what is not a number is taken for 0."""
    return nn.Sequential(Finite(), layer)


class Finite(nn.Module):
    def forward(self, x):
        return x.nan_to_num(0.0, 0.0, 0.0)


def fails(x, y):
    raise RuntimeError("no such instruction\nand more")


def last_row_of_the_weight(x, y):
    return torch.cat((y[..., :-1], y[..., :1]), dim=-1)


FAULTS = {
    "a scale that is off by a thousandth": (lambda x, y: y * 1.001, "is off by"),
    "a column that is another's": (last_row_of_the_weight, "is off by"),
    "only one token is right": (lambda x, y: y if x.shape[1] == 1 else y.flip(1), "is off by"),
    "only float32 is right": (lambda x, y: y if x.dtype == torch.float32 else y * 1.1, "bfloat16"),
    "NaN": (lambda x, y: y * torch.nan, "is off by nan"),
    "another dtype": (lambda x, y: y.double(), "answers"),
    "another shape": (lambda x, y: y[..., 1:], "answers"),
    "an exception": (fails, "fails with RuntimeError: no such instruction"),
}


@pytest.mark.parametrize("name", list(FAULTS))
def test_a_kernel_that_is_wrong_is_refused_with_the_reason_and_the_reason_is_logged(name, oracle, caplog):
    spoil, reason = FAULTS[name]
    with caplog.at_level(logging.WARNING, logger="quantlab.kernels.check"):
        found = check("broken", Kernel(spoil), oracle)
    assert reason in found.wrong
    assert "kernel broken is not taken" in caplog.text
    assert "\n" not in found.wrong


def test_a_kernel_that_is_right_is_taken_in_silence(oracle, caplog):
    assert check("right", Kernel(lambda x, y: y), oracle).wrong == ""
    assert not caplog.records


def test_a_kernel_that_takes_a_nan_for_a_number_is_refused(oracle):
    class Swallows(Kernel):
        def prepare(self, layer):
            return swallowing(super().prepare(layer))

    assert check("swallows", Swallows(lambda x, y: y), oracle).wrong == "it answers a NaN with a number"


def test_a_kernel_that_refuses_a_nan_by_an_error_of_ours_is_right_and_by_another_is_not(oracle):
    def ours(x, y):
        if not bool(x.isfinite().all()):
            raise NumericError("1 NaN")
        return y

    assert check("ours", Kernel(ours), oracle).wrong == ""

    class Blind(Kernel):
        def prepare(self, layer):
            module = super().prepare(layer)
            module.layer.activations.rounded = lambda x: x
            return module

    assert "is off by" in check("blind", Blind(lambda x, y: y), oracle).wrong


def test_saturating_sums_would_be_seen(oracle):
    """8-bit products whose pairs are added in 16 bits, as on CPUs without VNNI."""
    layer = oracle.layer

    def saturated(x, y):
        seen = x.float()
        scale = seen.abs().amax(dim=-1, keepdim=True) / 127
        codes = (seen / scale).round() + 128
        products = codes[..., None, :] * layer.codes().float()
        pairs = products.unflatten(-1, (-1, 2)).sum(-1).clamp(-32768, 32767).sum(-1)
        return ((pairs - 128 * layer.codes().float().sum(1)) * scale * layer.scale + layer.bias).to(x.dtype)

    assert "is off by" in check("saturates", Kernel(saturated), oracle).wrong


def test_values_that_a_rotation_of_its_own_sends_the_other_way_are_no_fault():
    settings = LayerSettings(weights=8, activations=8, rotation="hadamard")
    rotated = build_layer("layer", nn.Linear(64, 24), settings, seed=0, data=None)

    class Elsewhere(Kernel):
        """Rotates in float64: other last bits, the same layer."""

        def prepare(self, layer):
            module = super().prepare(layer)
            turn = module.layer.transforms[0]
            module.layer.transforms[0].forward = lambda x: type(turn).forward(turn, x.double()).to(x.dtype)
            return module

    assert check("elsewhere", Elsewhere(lambda x, y: y), Oracle(rotated)).wrong == ""
    assert "is off by" in check("off", Elsewhere(lambda x, y: y * 1.001), Oracle(rotated)).wrong


def test_bfloat16_networks_grant_their_rounding_to_float32_inputs_too(oracle):
    half = Kernel(lambda x, y: y.bfloat16().to(x.dtype))
    assert "is off by" in check("half", half, oracle).wrong
    assert check("half", half, oracle, torch.bfloat16).wrong == ""


def test_a_layer_that_works_its_weight_out_in_bfloat16_is_held_to_its_codes(oracle):
    lowered = copy.deepcopy(oracle.layer)
    lowered.compute_in(torch.bfloat16)
    assert check("onednn", KERNELS["onednn"], Oracle(lowered), torch.bfloat16).wrong == ""
    assert torch.equal(Oracle(lowered).weight, oracle.weight)


def test_every_bound_in_the_table_is_finite_and_the_references_is_zero():
    assert set(choose.ORDER) < set(KERNELS)
    assert KERNELS["reference"].exact == 0
    assert all(0 <= kernel.exact < 1 for kernel in KERNELS.values())
