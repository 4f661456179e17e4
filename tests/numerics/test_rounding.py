"""Rounding against plain Python arithmetic, one number at a time."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from quantlab.errors import NumericError
from quantlab.numerics.formats import GRANULARITIES, QuantSpec
from quantlab.numerics.ranges import minmax_range
from quantlab.numerics.rounding import dequantize, fake_quantize, quantize, to_rows

SPECS = st.builds(
    QuantSpec,
    bits=st.integers(2, 8),
    symmetric=st.booleans(),
    granularity=st.sampled_from(GRANULARITIES),
    group_size=st.sampled_from([1, 3, 6]),
)
SEEDS = st.integers(0, 2**31)


def draw(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def oracle_code(value: float, scale: float, zero: int, spec: QuantSpec) -> int:
    """Round half to even in exact double arithmetic, then clamp."""
    return max(spec.low, min(spec.high, round(value / scale) + zero))


@settings(max_examples=40, deadline=None)
@given(spec=SPECS, seed=SEEDS)
def test_codes_are_those_of_plain_arithmetic_with_the_scale_of_their_row(spec, seed):
    x = draw(seed, 4, 3, 6)
    scale, zero_point = minmax_range(x, spec)
    scale = scale * 0.6  # so that some values clamp
    codes = to_rows(quantize(x, scale, zero_point, spec), spec)
    rows, scales = to_rows(x, spec).double().tolist(), scale.reshape(-1).double().tolist()
    zeros = [0] * len(scales) if zero_point is None else zero_point.reshape(-1).tolist()
    for row, codes_of_row, step, zero in zip(rows, codes.tolist(), scales, zeros, strict=True):
        for value, code in zip(row, codes_of_row, strict=True):
            # a quotient within float32 rounding of a half may fall either way
            near_half = abs((value / step) % 1 - 0.5) < 1e-5
            assert code == oracle_code(value, step, zero, spec) or near_half


@settings(max_examples=40, deadline=None)
@given(spec=SPECS, seed=SEEDS)
def test_rows_of_each_granularity_hold_the_values_that_share_a_scale(spec, seed):
    x = draw(seed, 4, 3, 6)
    size = spec.group_size
    by_hand = {
        "tensor": [x.flatten()],
        "channel": [x[i].flatten() for i in range(4)],
        "token": [x[i, j] for i in range(4) for j in range(3)],
        "group": [x[i, j, k : k + size] for i in range(4) for j in range(3) for k in range(0, 6, size)],
    }
    assert torch.equal(to_rows(x, spec), torch.stack(by_hand[spec.granularity]))


@settings(max_examples=40, deadline=None)
@given(
    spec=SPECS,
    seed=SEEDS,
    dtype=st.sampled_from([torch.float16, torch.bfloat16, torch.float32, torch.float64]),
)
def test_simulated_rounding_is_quantize_then_dequantize_bit_for_bit(spec, seed, dtype):
    x = draw(seed, 4, 3, 6).to(dtype)
    chosen = minmax_range(x, spec)
    codes = quantize(x, *chosen, spec)
    assert codes.dtype == (torch.int8 if spec.symmetric else torch.uint8)
    assert torch.equal(fake_quantize(x, *chosen, spec), dequantize(codes, *chosen, spec, dtype=dtype))


@settings(max_examples=30, deadline=None)
@given(spec=SPECS, seed=SEEDS)
def test_rounding_what_is_already_on_the_grid_changes_nothing(spec, seed):
    x = draw(seed, 4, 3, 6)
    chosen = minmax_range(x, spec)
    once = fake_quantize(x, *chosen, spec)
    assert torch.equal(fake_quantize(once, *chosen, spec), once)


def test_ties_go_to_the_even_code_and_beyond_the_range_to_its_ends():
    spec = QuantSpec(bits=3, granularity="tensor")
    x = torch.tensor([0.5, 1.5, 2.5, -0.5, -1.5, 3.4, 9.0, -4.4, -9.0])
    assert quantize(x, torch.tensor(1.0), None, spec).tolist() == [0, 2, 2, 0, -2, 3, 3, -4, -4]


def test_a_zero_point_moves_the_codes_and_keeps_zero_exact():
    spec = QuantSpec(bits=2, symmetric=False, granularity="tensor")
    chosen = torch.tensor(0.5), torch.tensor(1, dtype=torch.int32)
    assert quantize(torch.tensor([-5.0, -0.5, 0.0, 0.5, 1.0, 5.0]), *chosen, spec).tolist() == [
        0,
        0,
        1,
        2,
        3,
        3,
    ]
    assert fake_quantize(torch.zeros(3), *chosen, spec).tolist() == [0.0, 0.0, 0.0]


@pytest.mark.parametrize("layout", ["contiguous", "transposed"])
def test_inputs_are_left_as_they_were(layout):
    x = draw(1, 6, 6)
    x = x if layout == "contiguous" else x.T
    spec = QuantSpec(bits=4, symmetric=False)
    chosen, before = minmax_range(x, spec), x.clone()
    codes = quantize(x, *chosen, spec)
    kept = codes.clone()
    fake_quantize(x, *chosen, spec)
    dequantize(codes, *chosen, spec)
    floats = codes.float()
    dequantize(floats, *chosen, spec)
    assert torch.equal(floats, kept.float())
    assert torch.equal(x, before)
    assert torch.equal(codes, kept)


def test_a_nan_has_no_code_but_stays_visible_in_simulation():
    spec, x = QuantSpec(bits=4, granularity="tensor"), torch.tensor([1.0, float("nan")])
    with pytest.raises(NumericError) as caught:
        quantize(x, torch.tensor(1.0), None, spec, place="blocks.3.mlp.fc2")
    assert caught.value.place == "blocks.3.mlp.fc2"
    assert fake_quantize(x, torch.tensor(1.0), None, spec).isnan().tolist() == [False, True]


def test_an_infinity_beyond_a_static_range_is_clamped():
    x = torch.tensor([float("inf"), -float("inf"), 1e30])
    assert quantize(x, torch.tensor(1e-30), None, QuantSpec(granularity="tensor")).tolist() == [
        127,
        -128,
        127,
    ]


@pytest.mark.parametrize("granularity", ["tensor", "channel", "token"])
def test_an_empty_tensor_stays_empty(granularity):
    spec = QuantSpec(granularity=granularity)
    x = torch.empty(0, 4)
    scale = torch.ones(()) if granularity == "tensor" else torch.ones(0)
    assert quantize(x, scale, None, spec).shape == (0, 4)
    assert fake_quantize(x, scale, None, spec).shape == (0, 4)
