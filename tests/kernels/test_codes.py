"""Codes for integer products: the very ones that the simulated rounding of inputs counts in."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from quantlab.errors import NumericError
from quantlab.kernels import codes
from quantlab.kernels.activations import DynamicActivations, StaticActivations, TwinActivations
from quantlab.kernels.codes import activation_codes, fixed_range
from quantlab.numerics.formats import QuantSpec
from quantlab.numerics.ranges import minmax_range

BITS = (2, 4, 7, 8)


def values(x, activations):
    """What the codes of ``x`` stand for."""
    terms = activation_codes(x, activations, fixed_range(x, activations))
    return sum((term.codes.float() - term.zero) * term.scale for term in terms)


def rounders(bits, symmetric, x):
    """All ways of rounding an input in a format."""
    token, tensor = (QuantSpec(bits, symmetric, name) for name in ("token", "tensor"))
    narrow = minmax_range(x.float() * 0.5, tensor)
    ways = [DynamicActivations(spec, "l", clip) for spec in (token, tensor) for clip in (1.0, 0.8)]
    ways.append(StaticActivations(tensor, narrow, "l"))
    if symmetric:
        ways += [
            TwinActivations(token, "l"),
            TwinActivations(tensor, "l"),
            TwinActivations(tensor, "l", narrow.scale),
        ]
    return ways


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("bits", BITS)
def test_codes_stand_for_the_values_of_the_simulation_bit_for_bit(bits, symmetric, dtype, monkeypatch):
    monkeypatch.setattr(codes, "_BLOCK", 100)  # several blocks, the last one short
    torch.manual_seed(bits)
    x = (torch.randn(11, 24) * torch.logspace(-2, 2, 24)).to(dtype)
    x[3] = 0
    for activations in rounders(bits, symmetric, x):
        assert torch.equal(values(x, activations).to(dtype), activations(x))


@given(steps=st.lists(st.integers(-20, 20), min_size=1, max_size=9), exponent=st.integers(-60, 60))
@settings(max_examples=40, deadline=None)
def test_a_value_halfway_between_two_codes_goes_where_the_simulation_sends_it(steps, exponent):
    x = torch.tensor([steps], dtype=torch.float32) * 0.5 * 2.0**exponent
    tensor = QuantSpec(4, granularity="tensor")
    chosen = minmax_range(torch.tensor([7 * 2.0**exponent]), tensor)
    activations = StaticActivations(tensor, chosen, "l")
    assert torch.equal(values(x, activations), activations(x))


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_what_has_no_code_is_refused_with_the_layers_name(bad):
    x = torch.randn(5, 8)
    for symmetric in (True, False):
        for activations in rounders(8, symmetric, x):
            broken = x.clone()
            broken[2, 3] = bad
            with pytest.raises(NumericError):
                values(broken, activations)


def test_scratch_space_made_in_inference_mode_serves_outside_it():
    codes._own.__dict__.clear()
    x, activations = torch.randn(3, 8), DynamicActivations(QuantSpec(8, granularity="token"), "l")
    with torch.inference_mode():
        first = values(x, activations)
    assert torch.equal(values(x, activations), first)


def test_a_rounding_that_is_not_known_is_no_accident():
    class Own(DynamicActivations.__bases__[0]):
        def rounded(self, x):
            return x

    with pytest.raises(TypeError, match="Own"):
        activation_codes(torch.ones(2, 2), Own(QuantSpec(8, granularity="token"), "l"), None)
