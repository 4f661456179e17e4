"""Streamed statistics against direct double-precision formulas over everything at once."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from quantlab.errors import NumericError, RecipeError
from quantlab.numerics import tails
from quantlab.numerics.moments import StreamingMoments
from quantlab.numerics.records import BIN_ERROR
from quantlab.numerics.tails import TailStream, tail_relative_error

SEEDS = st.integers(0, 2**31)


def draw(seed: int, *shape: int) -> torch.Tensor:
    x = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    return torch.where(x.abs() > 1.5, x**5, x)


def direct(x: torch.Tensor) -> tuple[float, float, float]:
    """Mean, standard deviation and Pearson kurtosis by their definitions."""
    values = x.double().flatten().numpy()
    deviation = values - values.mean()
    variance = (deviation**2).mean()
    return values.mean(), variance**0.5, (deviation**4).mean() / variance**2


@settings(max_examples=40, deadline=None)
@given(
    seed=SEEDS,
    sizes=st.lists(st.integers(1, 5), min_size=1, max_size=6),
    shift=st.sampled_from([0.0, 3.0, -200.0]),
    power=st.integers(-12, 12),
)
def test_streamed_moments_are_those_of_everything_at_once(seed, sizes, shift, power):
    x = (draw(seed, sum(sizes), 17) + shift) * 10.0**power
    stream = StreamingMoments()
    for part in x.split(sizes):
        stream.update(part)
    record = stream.record()
    mean, std, kurtosis = direct(x)
    assert record.count == x.numel()
    assert record.mean == pytest.approx(mean, rel=1e-5, abs=1e-5 * std)
    assert record.std == pytest.approx(std, rel=1e-4)
    assert record.kurtosis == pytest.approx(kurtosis, rel=1e-3)
    assert record.max == x.abs().max().item()


@settings(max_examples=20, deadline=None)
@given(seed=SEEDS)
def test_each_token_kind_has_its_own_statistics_and_all_have_them_together(seed):
    x = draw(seed, 2, 12, 20)
    kinds = torch.tensor([0, 1, 1, *[2] * 9], dtype=torch.uint8)
    stream = TailStream(4)
    stream.update(x, kinds)
    for kind in (0, 1, 2, None):
        values = x if kind is None else x[:, kinds == kind]
        mean, std, kurtosis = direct(values)
        record = stream.moments(kind)
        assert (record.count, record.max) == (values.numel(), values.abs().max().item())
        assert (record.mean, record.std) == pytest.approx((mean, std), rel=1e-4, abs=1e-5)
        assert record.kurtosis == pytest.approx(kurtosis, rel=1e-3)
        assert stream.histogram(kind).total == values.numel()
    assert stream.moments(3).count == 0


def test_a_normal_distribution_has_kurtosis_three_and_two_points_have_one():
    stream, coin = StreamingMoments(), StreamingMoments()
    stream.update(torch.randn(100, 2000, generator=torch.Generator().manual_seed(1)))
    coin.update(torch.tensor([[1.0, -1.0] * 8]))
    assert stream.record().kurtosis == pytest.approx(3, abs=0.05)
    assert coin.record().kurtosis == pytest.approx(1)


@pytest.mark.parametrize("value", [0.0, 0.1, -7.3, 1e30])
def test_equal_values_have_kurtosis_zero_rather_than_a_nan(value):
    stream = StreamingMoments()
    for _ in range(3):
        stream.update(torch.full((4, 9), value))
    record = stream.record()
    assert record.kurtosis == 0
    assert record.mean == pytest.approx(value, rel=1e-6)


@pytest.mark.parametrize("scale", [1e-30, 1e-12, 1e12, 1e30])
def test_kurtosis_does_not_depend_on_the_unit_even_where_float32_powers_overflow(scale):
    x = draw(5, 10, 30)
    stream = StreamingMoments()
    stream.update(x * scale)
    assert stream.record().kurtosis == pytest.approx(direct(x)[2], rel=1e-3)


def test_a_small_spread_far_from_zero_is_not_lost_by_merging():
    x = 1e5 + draw(6, 40, 50).clamp(-2, 2).double()
    stream = StreamingMoments()
    for row in x.split(1):
        stream.update(row)
    assert stream.record().kurtosis == pytest.approx(direct(x)[2], rel=1e-8)
    assert stream.record().std == pytest.approx(direct(x)[1], rel=1e-8)


@settings(max_examples=20, deadline=None)
@given(seed=SEEDS, cut=st.integers(1, 9))
def test_merged_streams_equal_one_stream(seed, cut):
    x = draw(seed, 10, 8)
    kinds = (torch.arange(10) % 2).to(torch.uint8)
    whole, left, right = TailStream(2), TailStream(2), TailStream(2)
    whole.update(x, kinds)
    left.update(x[:cut], kinds[:cut])
    right.update(x[cut:], kinds[cut:])
    left.merge(right)
    assert np.array_equal(left.channel_max, whole.channel_max)
    assert np.array_equal(left.histogram().counts, whole.histogram().counts)
    for kind in (0, 1, None):
        a, b = left.moments(kind), whole.moments(kind)
        assert (a.count, a.max) == (b.count, b.max)
        assert (a.mean, a.std, a.kurtosis) == pytest.approx((b.mean, b.std, b.kurtosis), rel=1e-6, abs=1e-9)


def test_cutting_into_blocks_changes_nothing(monkeypatch):
    x, kinds = draw(7, 30, 8), (torch.arange(30) % 3).to(torch.uint8)
    whole, blocks = TailStream(3), TailStream(3)
    whole.update(x, kinds)
    monkeypatch.setattr(tails, "_BLOCK", 20)
    blocks.update(x, kinds)
    assert np.array_equal(whole.histogram(2).counts, blocks.histogram(2).counts)
    assert blocks.moments(2).kurtosis == pytest.approx(whole.moments(2).kurtosis, rel=1e-9)
    assert np.array_equal(whole.token_max, blocks.token_max)


def test_maxima_are_per_channel_over_everything_and_per_token_of_the_first_batch():
    first, second = draw(8, 2, 3, 5), draw(9, 2, 3, 5) * 2
    stream = TailStream(2)
    stream.update(first, torch.tensor([0, 1, 1]))
    stream.update(second, torch.tensor([0, 1, 1]))
    both = torch.cat([first, second]).abs()
    assert stream.channel_max.tolist() == both.reshape(-1, 5).amax(dim=0).tolist()
    assert stream.token_max.tolist() == first.reshape(-1, 5).abs().amax(dim=1).tolist()
    assert stream.token_kinds.tolist() == [0, 1, 1, 0, 1, 1]


def test_memory_stays_the_same_however_much_streams_by():
    stream = TailStream(2)
    for seed in range(4):
        stream.update(draw(seed, 5000, 2), torch.zeros(5000, dtype=torch.uint8))
    assert len(stream.token_max) == len(stream.token_kinds) == tails.MAX_TOKENS
    assert stream.channel_max.shape == (2,)


def test_quantiles_never_exceed_the_largest_value():
    stream = TailStream()
    stream.update(torch.full((3, 3), 1.07))
    assert stream.quantiles((0.5, 0.9999)) == pytest.approx((1.07, 1.07), rel=BIN_ERROR)
    assert max(stream.quantiles((0.5, 0.9999, 1.0))) <= stream.moments().max


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_bad_value_names_the_layer_and_leaves_the_statistics_as_they_were(bad, monkeypatch):
    monkeypatch.setattr(tails, "_BLOCK", 8)
    stream = TailStream()
    stream.update(draw(1, 4, 4))
    before = stream.moments(), stream.histogram().counts, stream.channel_max.copy()
    x = draw(2, 4, 4)
    x[3, 2] = bad
    with pytest.raises(NumericError) as caught:
        stream.update(x, place="aggregator.frame_blocks.0.attn.qkv")
    assert caught.value.place == "aggregator.frame_blocks.0.attn.qkv"
    assert stream.moments() == before[0]
    assert np.array_equal(stream.histogram().counts, before[1])
    assert np.array_equal(stream.channel_max, before[2])
    stream.update(draw(3, 4, 4))
    assert stream.moments().count == 32


def test_nothing_seen_is_all_zeros_and_an_empty_batch_adds_nothing():
    stream = TailStream()
    stream.update(torch.empty(0, 4))
    record = stream.moments()
    assert (record.count, record.mean, record.std, record.kurtosis, record.max) == (0, 0, 0, 0, 0)
    assert stream.quantiles((0.5,)) == (0.0,)


@settings(max_examples=40, deadline=None)
@given(seed=SEEDS, count=st.integers(1, 300), rho=st.floats(0.001, 1.0))
def test_the_tail_relative_error_is_that_of_a_full_sort(seed, count, rho):
    y = draw(seed, count)
    y_hat = y + 0.1 * draw(seed + 1, count)
    largest = sorted(range(count), key=lambda i: -abs(y[i].item()))[: max(1, math.floor(rho * count))]
    error = sum((y[i].item() - y_hat[i].item()) ** 2 for i in largest)
    energy = sum(y[i].item() ** 2 for i in largest)
    assert tail_relative_error(y, y_hat, rho) == pytest.approx(error / (energy + 1e-8), rel=1e-9)


def test_the_tail_is_chosen_by_the_exact_output_and_ignores_errors_elsewhere():
    y = torch.tensor([10.0, 1.0, 1.0, -20.0])
    assert tail_relative_error(y, torch.tensor([10.0, 99.0, 99.0, -20.0]), 0.5) == 0
    assert tail_relative_error(y, torch.tensor([0.0, 1.0, 1.0, 0.0]), 0.5) == pytest.approx(1)
    assert tail_relative_error(y, torch.tensor([0.0, 1.0, 1.0, -20.0]), 0.01) == 0


def test_an_output_of_zeros_has_a_finite_error():
    assert tail_relative_error(torch.zeros(5), torch.zeros(5)) == 0
    assert tail_relative_error(torch.zeros(5), torch.full((5,), 1e-4)) == pytest.approx(1.0, rel=1e-5)


@pytest.mark.bad_input
@pytest.mark.parametrize("rho", [0, -0.1, 1.01, math.nan, True])
def test_a_share_outside_its_bounds_is_refused(rho):
    with pytest.raises(RecipeError, match="rho"):
        tail_relative_error(torch.ones(3), torch.ones(3), rho)


def test_outputs_that_cannot_be_compared_are_refused():
    with pytest.raises(NumericError, match="no common tail"):
        tail_relative_error(torch.ones(3), torch.ones(4))
    with pytest.raises(NumericError, match="no common tail"):
        tail_relative_error(torch.ones(0), torch.ones(0))
    for bad, word in ((math.nan, "NaN"), (math.inf, "infinity")):
        with pytest.raises(NumericError, match=word):
            tail_relative_error(torch.ones(3), torch.tensor([1.0, bad, 1.0]))
        with pytest.raises(NumericError, match=word):
            tail_relative_error(torch.tensor([1.0, bad, 1.0]), torch.ones(3))
