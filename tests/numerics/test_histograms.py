"""The streamed histogram against a plain loop over its edges, and its quantiles against sorting."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from quantlab.errors import NumericError
from quantlab.numerics.histograms import StreamingHistogram
from quantlab.numerics.records import BIN_EDGES, BIN_ERROR, BINS, Histogram

SEEDS = st.integers(0, 2**31)


def draw(seed: int, *shape: int) -> torch.Tensor:
    """Heavy tails over many magnitudes, both signs, and some exact zeros."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(shape, generator=generator) * torch.exp(3 * torch.randn(shape, generator=generator))
    return torch.where(torch.rand(shape, generator=generator) < 0.1, 0.0, x)


def counted(x: torch.Tensor, kinds: torch.Tensor | None = None, total: int = 1) -> StreamingHistogram:
    histogram = StreamingHistogram(total)
    histogram.update(x, kinds)
    return histogram


def oracle_bin(value: float) -> int:
    """Find the bin by walking the edges: outward bins include their inner edge, on either side of zero."""
    size = abs(value)
    half = BIN_EDGES[BINS // 2 + 1 :]
    outward = int((half <= size).sum())
    outward = min(outward, BINS // 2)
    return BINS // 2 + (outward if value > 0 else -outward)


@settings(max_examples=25, deadline=None)
@given(seed=SEEDS)
def test_every_value_falls_into_the_bin_a_plain_walk_over_the_edges_finds(seed):
    x = draw(seed, 7, 11)
    expected = np.zeros(BINS, dtype=np.int64)
    for value in x.flatten().tolist():
        expected[oracle_bin(value)] += 1
    assert np.array_equal(counted(x).record().counts, expected)


@pytest.mark.parametrize(
    "value",
    [
        0.0,
        -0.0,
        1e-45,
        -1e-39,
        2.0**-40,
        1.0,
        -1.0,
        1.0624999,
        1.0625,
        1.999,
        2.0**39.99,
        1e12,
        -1e38,
        3.4e38,
    ],
)
def test_edges_subnormals_and_huge_values_have_a_bin(value):
    (index,) = np.flatnonzero(counted(torch.tensor([[value]])).record().counts)
    assert index == oracle_bin(float(np.float32(value)))


def test_the_edges_are_symmetric_and_grow_by_at_most_the_stated_error():
    assert np.array_equal(BIN_EDGES, -BIN_EDGES[::-1])
    positive = BIN_EDGES[BIN_EDGES > 0]
    growth = np.diff(positive) / positive[:-1]
    assert growth.max() == pytest.approx(BIN_ERROR)
    assert growth.min() > BIN_ERROR / 2.1
    assert len(BIN_EDGES) == BINS + 1


@settings(max_examples=40, deadline=None)
@given(seed=SEEDS, count=st.integers(1, 400), share=st.floats(0, 1))
def test_a_quantile_is_within_the_bin_error_of_the_sorted_value_of_its_rank(seed, count, share):
    x = draw(seed, 1, count)
    exact = x.abs().flatten().sort().values[max(1, math.ceil(share * count - 1e-6)) - 1].item()
    assert counted(x).record().quantile(share) == pytest.approx(exact, rel=BIN_ERROR * 1.0001, abs=2.0**-40)


def test_quantiles_of_a_smooth_distribution_are_much_closer_than_the_bin_error():
    x = torch.linspace(1, 3, 200_001).reshape(1, -1)
    record = counted(x).record()
    for share in (0.1, 0.5, 0.9, 0.999):
        assert record.quantile(share) == pytest.approx(1 + 2 * share, rel=1e-3)


@settings(max_examples=25, deadline=None)
@given(seed=SEEDS, magnitude=st.floats(1e-3, 1e3))
def test_the_clipped_share_lies_between_the_counts_at_the_edges_around_it(seed, magnitude):
    x = draw(seed, 3, 50)
    share = counted(x).record().share_above(magnitude)
    size = x.abs().double()
    assert (size > magnitude * (1 + BIN_ERROR)).double().mean() - 1e-9 <= share
    assert share <= (size > magnitude / (1 + BIN_ERROR)).double().mean() + 1e-9


@settings(max_examples=20, deadline=None)
@given(seed=SEEDS, cut=st.integers(0, 9))
def test_batches_merges_and_kinds_add_up_to_the_whole(seed, cut):
    x = draw(seed, 9, 6)
    kinds = torch.arange(9, dtype=torch.uint8) % 3
    whole = counted(x, kinds, 3)
    first, second = counted(x[:cut], kinds[:cut], 3), counted(x[cut:], kinds[cut:], 3)
    first.merge(second)
    for kind in range(3):
        alone = counted(x[kinds == kind]).record().counts
        assert np.array_equal(whole.record(kind).counts, alone)
        assert np.array_equal(first.record(kind).counts, alone)
    assert whole.record().total == 54
    parts = whole.record(0).merged(whole.record(1)).merged(whole.record(2))
    assert np.array_equal(parts.counts, whole.record().counts)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_dtypes_count_like_their_float32_values(dtype):
    x = draw(3, 5, 8).clamp(-1000, 1000).to(dtype)
    assert np.array_equal(counted(x).record().counts, counted(x.float()).record().counts)


def test_a_transposed_view_counts_like_its_copy():
    x = draw(4, 5, 8)
    assert np.array_equal(counted(x.T).record().counts, counted(x.T.contiguous()).record().counts)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, -math.nan])
def test_a_bad_value_is_refused_and_nothing_of_its_batch_is_counted(bad):
    histogram = counted(draw(1, 2, 3))
    before = histogram.record().counts
    x = draw(2, 2, 3)
    x[1, 1] = bad
    with pytest.raises(NumericError) as caught:
        histogram.update(x, place="blocks.2.mlp.fc1")
    assert caught.value.place == "blocks.2.mlp.fc1"
    assert np.array_equal(histogram.record().counts, before)


def test_a_record_does_not_change_when_the_stream_goes_on():
    for kind in (None, 0):
        histogram = counted(draw(1, 2, 3))
        record = histogram.record(kind)
        histogram.update(draw(2, 2, 3))
        assert record.total == 6


def test_an_empty_histogram_has_quantile_zero_and_refuses_impossible_shares():
    empty = Histogram(np.zeros(BINS, dtype=np.int64))
    assert empty.quantile(0.5) == 0.0
    assert empty.share_above(1.0) == 0.0
    for share in (-0.1, 1.1, math.nan):
        with pytest.raises(ValueError, match="between 0 and 1"):
            empty.quantile(share)
