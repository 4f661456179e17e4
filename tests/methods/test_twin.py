"""The twin quantizer of a GELU's output: against brute force over its codes, its format, and where it pays."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from quantlab.errors import NumericError
from quantlab.kernels.activations import DynamicActivations, TwinActivations
from quantlab.methods.twin import (
    GELU_MINIMUM,
    negative_scale,
    positive_scale,
    twin_codes,
    twin_quantize,
    twin_range,
    twin_values,
)
from quantlab.numerics.formats import QuantSpec
from quantlab.numerics.search import TAPTQ_MULTIPLIERS


def gelu(seed: int, *shape: int) -> torch.Tensor:
    return F.gelu(2 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed)))


@given(seed=st.integers(0, 2**31), bits=st.integers(2, 8), scale=st.floats(0.01, 1.0))
@settings(max_examples=25, deadline=None)
def test_every_value_goes_to_the_nearest_code_of_its_own_side(seed, bits, scale):
    x, spec = gelu(seed, 5, 7), QuantSpec(bits, granularity="tensor")
    half = 1 << (bits - 1)
    above = np.arange(half) * np.float32(scale)
    below = -np.arange(half + 1) * np.float32(negative_scale(bits))
    ours = twin_quantize(x, torch.tensor(scale), spec)
    for value, rounded in zip(x.flatten().tolist(), ours.flatten().tolist(), strict=True):
        grid = above if value > 0 else below
        assert abs(rounded - value) <= np.abs(grid - value).min() + 1e-6
        assert np.abs(grid - rounded).min() < 1e-6


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("granularity", ["tensor", "token"])
def test_codes_fit_the_bits_the_sign_is_the_side_and_values_come_back(bits, granularity):
    x, spec = gelu(1, 6, 9), QuantSpec(bits, granularity=granularity)
    scale = positive_scale(x, spec)
    codes = twin_codes(x, scale, spec)
    assert codes.dtype == torch.int8
    assert codes.min() >= -(1 << (bits - 1))
    assert codes.max() == (1 << (bits - 1)) - 1
    assert not ((codes > 0) & (x <= 0)).any()
    assert not ((codes < 0) & (x >= 0)).any()
    assert torch.equal(twin_values(codes, scale, spec), twin_quantize(x, scale, spec))


def test_the_negative_side_reaches_just_the_minimum_of_gelu():
    grid = torch.linspace(-3, 0, 100001, dtype=torch.float64)
    assert float(F.gelu(grid).min()) == pytest.approx(-GELU_MINIMUM, abs=1e-5)
    low = twin_quantize(torch.tensor([[-5.0, 1.0]]), torch.tensor(0.1), QuantSpec(4, granularity="tensor"))
    assert float(low[0, 0]) == pytest.approx(-GELU_MINIMUM, rel=1e-6)


def test_two_products_of_its_codes_are_the_product_of_its_values():
    x, spec, weight = gelu(2, 4, 8), QuantSpec(4, granularity="tensor"), torch.randn(3, 8)
    scale = positive_scale(x, spec)
    codes = twin_codes(x, scale, spec).float()
    halves = scale * (codes.clamp(min=0) @ weight.T) + negative_scale(4) * (codes.clamp(max=0) @ weight.T)
    torch.testing.assert_close(twin_quantize(x, scale, spec) @ weight.T, halves)


@pytest.mark.parametrize("granularity", ["tensor", "token"])
@pytest.mark.parametrize("bits", [3, 4, 6])
def test_behind_a_gelu_it_errs_less_than_one_step_for_both_sides(granularity, bits):
    x, spec = gelu(3, 64, 32), QuantSpec(bits, granularity=granularity)
    ours = (TwinActivations(spec, "fc2")(x) - x).square().mean()
    assert ours < (DynamicActivations(spec, "fc2")(x) - x).square().mean()


def test_a_fixed_scale_is_the_best_of_the_candidates_and_never_worse_than_covering_all():
    x, spec = gelu(4, 50, 16), QuantSpec(4, granularity="tensor")
    scale, trace = twin_range(x, spec, search="grid")
    base = positive_scale(x, spec)
    errors = [
        float((twin_quantize(x, base * m, spec) - x).square().mean()) for m in (*TAPTQ_MULTIPLIERS, 1.0)
    ]
    assert float((twin_quantize(x, scale, spec) - x).square().mean()) == pytest.approx(min(errors), rel=1e-5)
    near, visited = twin_range(x, spec, search="ternary")
    assert visited.share[0] <= 0.3
    assert visited.loss[0] <= trace.loss[0] * 1.01
    assert twin_range(x, spec)[1] is None
    fixed = TwinActivations(spec, "fc2", near)
    assert torch.equal(fixed(x), twin_quantize(x, near, spec))


def test_silent_inputs_stay_silent_and_broken_ones_are_named():
    spec = QuantSpec(4, granularity="token")
    assert torch.equal(TwinActivations(spec, "fc2")(torch.zeros(2, 3)), torch.zeros(2, 3))
    assert (TwinActivations(spec, "fc2")(torch.full((2, 3), -0.1)) < 0).all()
    for bad in (torch.nan, torch.inf):
        for rounding in (TwinActivations(spec, "fc2"), TwinActivations(spec, "fc2", torch.ones(1))):
            with pytest.raises(NumericError) as caught:
                rounding(torch.tensor([[1.0, bad]]))
            assert caught.value.place == "fc2"
