"""Chosen scales against the laws of rounding, sorting and an exhaustive loop; values that break others."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from quantlab.errors import NumericError, RecipeError
from quantlab.numerics.formats import GRANULARITIES, QuantSpec, scale_shape
from quantlab.numerics.ranges import (
    RANGE_SEARCHES,
    choose_range,
    minmax_range,
    percentile_range,
    round_to_nearest,
    search_range,
)
from quantlab.numerics.rounding import fake_quantize, quantize, to_rows

SPECS = st.builds(
    QuantSpec,
    bits=st.integers(2, 8),
    symmetric=st.booleans(),
    granularity=st.sampled_from(GRANULARITIES),
    group_size=st.sampled_from([0, 1, 2, 6]),
)
SEEDS = st.integers(0, 2**31)
FLOAT32 = torch.finfo(torch.float32)


def draw(seed: int, *shape: int, magnitude: float = 1.0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * magnitude


@settings(max_examples=60, deadline=None)
@given(spec=SPECS, seed=SEEDS, shift=st.sampled_from([0.0, 2.0, -5.0]), power=st.integers(-30, 30))
def test_min_max_rounding_moves_no_value_by_more_than_half_a_step(spec, seed, shift, power):
    x = (draw(seed, 5, 6) + shift) * 10.0**power
    chosen = minmax_range(x, spec)
    error = to_rows(fake_quantize(x, *chosen, spec).double() - x.double(), spec).abs()
    assert (error <= chosen.scale.double().reshape(-1, 1) * (0.5 + 1e-4)).all()
    assert chosen.scale.shape == scale_shape(x.shape, spec)
    assert chosen.scale.dtype == torch.float32


@settings(max_examples=30, deadline=None)
@given(bits=st.integers(2, 8), seed=SEEDS)
def test_the_largest_magnitude_sits_on_the_largest_symmetric_code(bits, seed):
    x = draw(seed, 5, 9)
    spec = QuantSpec(bits=bits)
    codes = quantize(x, *minmax_range(x, spec), spec)
    assert (codes.abs().amax(dim=1) == spec.high).all()
    by_hand = x.abs().amax(dim=1) / (2 ** (bits - 1) - 1)
    assert torch.equal(minmax_range(x, spec).scale, by_hand)


@settings(max_examples=30, deadline=None)
@given(bits=st.integers(2, 8), seed=SEEDS, shift=st.sampled_from([0.0, 3.0, -3.0]))
def test_an_asymmetric_range_spans_the_values_and_zero(bits, seed, shift):
    x = draw(seed, 5, 9) + shift
    spec = QuantSpec(bits=bits, symmetric=False)
    scale, zero_point = minmax_range(x, spec)
    span = x.amax(dim=1).clamp(min=0) - x.amin(dim=1).clamp(max=0)
    torch.testing.assert_close(scale, span / (2**bits - 1))
    assert ((zero_point >= 0) & (zero_point <= 2**bits - 1)).all()
    assert (zero_point == 0).all() or shift <= 0 or (x < 0).any()


@pytest.mark.parametrize("search", RANGE_SEARCHES)
@pytest.mark.parametrize("symmetric", [True, False], ids=["symmetric", "asymmetric"])
def test_a_row_of_zeros_gets_scale_one_and_stays_zeros(search, symmetric):
    x = draw(1, 3, 8)
    x[1] = 0
    spec = QuantSpec(bits=4, symmetric=symmetric)
    chosen = choose_range(x, spec, search=search)
    assert chosen.scale[1] == 1
    assert (chosen.scale[[0, 2]] < 1).all()
    assert (fake_quantize(x, *chosen, spec)[1] == 0).all()
    assert (choose_range(torch.zeros(2, 4), spec, search=search).scale == 1).all()


@pytest.mark.parametrize("search", RANGE_SEARCHES)
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("symmetric", [True, False], ids=["symmetric", "asymmetric"])
def test_one_bad_value_is_refused_with_its_place(search, bad, symmetric):
    x = draw(2, 3, 8)
    x[2, 5] = bad
    with pytest.raises(NumericError) as caught:
        choose_range(x, QuantSpec(symmetric=symmetric), search=search, place="blocks.7.attn.qkv")
    assert caught.value.place == "blocks.7.attn.qkv"
    assert ("NaN" if math.isnan(bad) else "infinity") in caught.value.problem


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_bad_value_beyond_the_percentile_does_not_hide_behind_it(bad):
    for symmetric in (True, False):
        with pytest.raises(NumericError):
            percentile_range(
                torch.tensor([[1.0, 2.0, 3.0, bad]]), QuantSpec(symmetric=symmetric), percentile=50
            )


@pytest.mark.parametrize("search", RANGE_SEARCHES)
@pytest.mark.parametrize("shape", [(0,), (3, 0), (0, 4)])
def test_an_empty_tensor_has_no_range(search, shape):
    with pytest.raises(NumericError, match="no values"):
        choose_range(torch.empty(shape), QuantSpec(granularity="tensor"), search=search)


@pytest.mark.parametrize("search", RANGE_SEARCHES)
def test_codes_are_not_quantized_a_second_time(search):
    with pytest.raises(NumericError, match="int8"):
        choose_range(torch.ones(2, 2, dtype=torch.int8), QuantSpec(), search=search)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("search", ["minmax", "percentile"])
def test_a_tiny_half_precision_row_does_not_vanish(dtype, search):
    x = torch.full((2, 4), 1e-7).to(dtype)
    x[0, 0] = 1.0
    spec = QuantSpec(bits=8)
    chosen = choose_range(x, spec, search=search, percentile=100)
    assert (quantize(x, *chosen, spec)[1] == 127).all()
    torch.testing.assert_close(fake_quantize(x, *chosen, spec)[1], x[1])


@pytest.mark.parametrize("symmetric", [True, False], ids=["symmetric", "asymmetric"])
@pytest.mark.parametrize("bits", range(2, 9))
def test_the_largest_float32_survives_without_turning_into_infinity(bits, symmetric):
    spec = QuantSpec(bits=bits, symmetric=symmetric)
    for row in ([FLOAT32.max, 1.0], [-FLOAT32.max, 0.0], [FLOAT32.max, -FLOAT32.max]):
        x = torch.tensor([row])
        rounded = round_to_nearest(x, spec)
        assert rounded.isfinite().all()
        step = minmax_range(x, spec).scale.double()
        # with both ends at the limit and a zero point between, a finite grid must clip one end
        clipped = 1.0 if not symmetric and min(row) < 0 < max(row) else 0.5
        assert ((rounded.double() - x.double()).abs() <= step * clipped * 1.0001).all()


@pytest.mark.parametrize("value", [1e-45, 1e-42, 1e-39])
def test_subnormals_keep_a_normal_scale_and_the_law_of_half_a_step(value):
    x = torch.full((1, 3), value)
    chosen = minmax_range(x, QuantSpec())
    assert chosen.scale >= FLOAT32.tiny
    error = fake_quantize(x, *chosen, QuantSpec()).double() - x.double()
    assert (error.abs() <= chosen.scale.double() / 2).all()


def test_float64_beyond_float32_is_refused_and_within_it_is_kept_in_float64():
    with pytest.raises(NumericError, match="beyond float32") as caught:
        minmax_range(torch.tensor([[1e300, 1.0]], dtype=torch.float64), QuantSpec(), place="fc1.weight")
    assert caught.value.place == "fc1.weight"
    x = draw(5, 4, 7).double()
    assert round_to_nearest(x, QuantSpec()).dtype == torch.float64


@pytest.mark.parametrize("search", RANGE_SEARCHES)
def test_one_outlier_of_1e30_leaves_every_scale_finite_and_other_rows_alone(search):
    x = draw(3, 3, 50)
    alone = choose_range(x, QuantSpec(bits=4), search=search).scale
    x[1, 7] = 1e30
    scale = choose_range(x, QuantSpec(bits=4), search=search).scale
    assert scale.isfinite().all()
    assert torch.equal(scale[[0, 2]], alone[[0, 2]])


def test_a_constant_channel_is_exact_whichever_the_symmetry():
    for symmetric, value in itertools.product([True, False], [0.37, -0.37]):
        x = torch.full((2, 5), value)
        torch.testing.assert_close(round_to_nearest(x, QuantSpec(bits=2, symmetric=symmetric)), x)


@pytest.mark.parametrize("size", [1, 12])
def test_groups_of_one_value_and_of_the_whole_row_work(size):
    x = draw(4, 3, 12)
    spec = QuantSpec(bits=8, granularity="group", group_size=size)
    rounded = round_to_nearest(x, spec)
    if size == 1:
        torch.testing.assert_close(rounded, x)
    else:
        assert torch.equal(rounded, round_to_nearest(x, QuantSpec(bits=8)))


@settings(max_examples=40, deadline=None)
@given(seed=SEEDS, percentile=st.floats(1, 100), columns=st.integers(1, 40))
def test_a_percentile_clips_exactly_the_values_above_its_rank(seed, percentile, columns):
    x = draw(seed, 3, columns)
    spec = QuantSpec(bits=8)
    limit = percentile_range(x, spec, percentile=percentile).scale * spec.high
    rank = max(1, math.ceil(percentile / 100 * columns - 1e-3))
    ordered = x.abs().sort(dim=1).values
    torch.testing.assert_close(limit, ordered[:, rank - 1])


def test_percentile_ranks_do_not_slip_by_one_through_float_rounding():
    x = torch.arange(1.0, 1001.0).reshape(1, -1)
    assert percentile_range(x, QuantSpec(), percentile=99.9).scale * 127 == pytest.approx(999)


def test_an_asymmetric_percentile_clips_both_ends():
    x = torch.cat([torch.arange(-100.0, 101.0), torch.tensor([1e4, -1e4])]).reshape(1, -1)
    spec = QuantSpec(symmetric=False)
    rounded = fake_quantize(x, *percentile_range(x, spec, percentile=99.5), spec)
    assert rounded.amax() == pytest.approx(100, abs=1)
    assert rounded.amin() == pytest.approx(-100, abs=1)


@pytest.mark.parametrize("symmetric", [True, False], ids=["symmetric", "asymmetric"])
def test_a_percentile_of_zero_falls_back_to_the_largest_value(symmetric):
    x = torch.zeros(1, 100)
    x[0, 3] = 5.0
    spec = QuantSpec(symmetric=symmetric)
    assert percentile_range(x, spec, percentile=50).scale == minmax_range(x, spec).scale


@pytest.mark.bad_input
@pytest.mark.parametrize("percentile", [0, -1, 100.1, math.nan, True])
def test_a_percentile_outside_its_bounds_is_refused(percentile):
    with pytest.raises(RecipeError, match="percentile"):
        percentile_range(torch.ones(2, 2), QuantSpec(), percentile=percentile)


def test_an_unknown_range_search_lists_the_known_ones():
    with pytest.raises(RecipeError) as caught:
        choose_range(torch.ones(2, 2), QuantSpec(), search="magic")
    assert all(name in caught.value.remedy for name in RANGE_SEARCHES)


def squared_error(
    x: torch.Tensor, scale: torch.Tensor, zero: torch.Tensor | None, spec: QuantSpec
) -> torch.Tensor:
    return (fake_quantize(x, scale, zero, spec).double() - x.double()).square().mean(dim=1)


@settings(max_examples=20, deadline=None)
@given(seed=SEEDS, bits=st.integers(2, 8), symmetric=st.booleans())
def test_the_grid_reaches_the_optimum_of_a_plain_loop_over_the_candidates(seed, bits, symmetric):
    x = draw(seed, 3, 40)
    spec = QuantSpec(bits=bits, symmetric=symmetric)
    start = minmax_range(x, spec)
    top = spec.high + 0.5 if symmetric else spec.high
    base = start.scale.double() * spec.high / top
    losses = [squared_error(x, start.scale, start.zero_point, spec)]
    for i in range(101):
        scale = (base * (0.01 + i * (2.0 - 0.01) / 100)).float()
        losses.append(squared_error(x, scale, start.zero_point, spec))
    chosen, trace = search_range(x, spec, search="grid")
    best = torch.stack(losses).amin(dim=0)
    torch.testing.assert_close(torch.from_numpy(trace.loss), best, rtol=1e-4, atol=1e-12)
    reached = squared_error(x, chosen.scale, chosen.zero_point, spec)
    torch.testing.assert_close(reached, best, rtol=1e-4, atol=1e-12)


@settings(max_examples=20, deadline=None)
@given(seed=SEEDS, spec=SPECS)
def test_a_searched_scale_is_never_worse_than_min_max(seed, spec):
    x = draw(seed, 4, 12)
    start = minmax_range(x, spec)
    before = to_rows(fake_quantize(x, *start, spec) - x, spec).double().square().mean(dim=1)
    for search in ("grid", "ternary"):
        chosen, trace = search_range(x, spec, search=search)
        after = to_rows(fake_quantize(x, *chosen, spec) - x, spec).double().square().mean(dim=1)
        assert (after <= before * (1 + 1e-4) + 1e-15).all()
        assert np.array_equal(trace.scale, chosen.scale.reshape(-1).numpy())


def test_the_ternary_search_finds_the_optimum_despite_one_outlier_among_20000():
    x = draw(11, 1, 20_000)
    x[0, 0] = 30.0
    spec = QuantSpec(bits=4, granularity="tensor")
    ternary, grid = search_range(x, spec)[1], search_range(x, spec, search="grid")[1]
    assert ternary.loss[0] <= grid.loss[0] * 1.02
    assert ternary.evaluations <= 30
    assert grid.evaluations == 102
