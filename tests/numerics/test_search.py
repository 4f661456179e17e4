"""The scale search on losses whose optimum is known, vectorised and not."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from quantlab.errors import NumericError, RecipeError
from quantlab.numerics.search import MOST_SHARE, SCALE_SEARCHES, TAPTQ_MULTIPLIERS, _between, search_scale


def valley(optimum: torch.Tensor):
    """A loss with one valley, per row at ``optimum``."""
    return lambda scale: (scale.double() / optimum - 1).abs()


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 100), min_size=1, max_size=7))
def test_both_searches_find_the_bottom_of_a_single_valley_in_every_row(targets):
    base = torch.rand(len(targets), generator=torch.Generator().manual_seed(len(targets))) + 0.5
    optimum = base.double() * torch.from_numpy(TAPTQ_MULTIPLIERS[targets])
    for search in SCALE_SEARCHES:
        trace = search_scale(valley(optimum), base, search=search)
        assert trace.best.tolist() == targets
        torch.testing.assert_close(torch.from_numpy(trace.scale).double(), optimum, rtol=1e-6, atol=0)


def test_the_candidates_are_those_of_the_paper():
    by_hand = [0.01 + i * 1.99 / 100 for i in range(101)]
    assert TAPTQ_MULTIPLIERS.tolist() == pytest.approx(by_hand, rel=1e-12)
    assert (TAPTQ_MULTIPLIERS[0], TAPTQ_MULTIPLIERS[-1]) == pytest.approx((0.01, 2.0))


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**31), rows=st.integers(1, 5))
def test_a_ternary_search_reports_exactly_what_it_asked_and_reaches_its_best_visit(seed, rows):
    table = torch.rand(rows, 101, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    asked = []

    def loss(scale):
        asked.append(scale.clone())
        index = [int(np.abs(TAPTQ_MULTIPLIERS - float(s)).argmin()) for s in scale]
        return table[torch.arange(rows), index]

    trace = search_scale(loss, torch.ones(rows))
    assert trace.evaluations == len(asked)
    assert trace.share.max() <= MOST_SHARE
    for row in range(rows):
        seen = {round(float(scale[row]), 5) for scale in asked}
        visited = trace.visited(row)
        assert {round(scale, 5) for scale, _ in visited} == seen
        assert len(visited) == len(seen)
        assert trace.loss[row] == min(value for _, value in visited)
        known = ~np.isnan(trace.losses[row])
        assert known.sum() == len(seen)
        assert np.array_equal(trace.losses[row][known], table[row].numpy()[known])


def test_a_second_valley_does_not_hide_the_deeper_first_one():
    def two_valleys(scale):
        return torch.minimum((scale - 0.3).abs(), (scale - 1.6).abs() + 0.1)

    trace = search_scale(two_valleys, torch.tensor(1.0))
    assert trace.scale[0] == pytest.approx(0.3, abs=0.02)


def test_an_objective_without_rows_is_asked_once_per_candidate():
    calls = []

    def loss(scale):
        assert scale.shape == ()
        calls.append(float(scale))
        return (scale - 0.7) ** 2

    trace = search_scale(loss, torch.tensor(1.0))
    assert len(calls) == len(set(calls)) == trace.evaluations
    assert len(calls) < 30
    assert trace.scale[0] == pytest.approx(0.7, abs=0.011)


def test_of_equal_losses_the_one_nearest_the_base_wins():
    for search in SCALE_SEARCHES:
        trace = search_scale(torch.zeros_like, torch.ones(3), search=search)
        assert trace.scale.tolist() == pytest.approx([1.0] * 3, abs=0.01)


def test_infinite_losses_lose_and_leave_the_base_when_nothing_else_is_there():
    trace = search_scale(lambda s: torch.where(s < 0.5, s.double(), torch.inf), torch.ones(2))
    assert (trace.scale < 0.5).all()
    hopeless = search_scale(lambda s: torch.full_like(s, torch.inf), torch.ones(1))
    assert hopeless.scale[0] == pytest.approx(1.0, abs=0.01)


def test_a_loss_of_nan_is_refused_with_its_place():
    with pytest.raises(NumericError) as caught:
        search_scale(lambda s: s * torch.nan, torch.ones(2), place="frame_blocks.1.mlp.fc1")
    assert caught.value.place == "frame_blocks.1.mlp.fc1"


def test_an_unknown_search_lists_the_known_ones():
    with pytest.raises(RecipeError, match="grid, ternary"):
        search_scale(torch.square, torch.ones(1), search="binary")


def test_an_objective_that_forgets_rows_is_a_bug_and_says_so():
    with pytest.raises(ValueError, match="1 losses for 3 scales"):
        search_scale(lambda s: s.sum(), torch.ones(3))


@pytest.mark.parametrize("count", [4, 12, 20, 25])
def test_no_candidate_is_out_of_reach_however_many_there_are(count):
    multipliers = np.linspace(0.5, 1.5, count)
    for target in range(count):
        optimum = torch.tensor([multipliers[target] - 0.01])
        trace = search_scale(valley(optimum), torch.ones(1), multipliers=multipliers)
        assert trace.best.tolist() == [target]


def test_about_ten_spread_candidates_and_the_base_are_probed_before_anything_else():
    trace = search_scale(torch.square, torch.ones(1))
    first = trace.visits[:11, 0].tolist()
    assert first == sorted(first)
    assert (first[0], first[-1]) == (0, 100)
    assert max(np.diff(first)) <= 12
    assert np.abs(TAPTQ_MULTIPLIERS[first] - 1).min() == np.abs(TAPTQ_MULTIPLIERS - 1).min()


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_few_candidates_are_all_seen(count):
    multipliers = np.linspace(0.5, 1.5, count)
    trace = search_scale(lambda s: -s, torch.ones(2), multipliers=multipliers)
    assert trace.best.tolist() == [count - 1] * 2


def test_the_search_looks_on_only_where_it_saw_more_than_one_valley():
    def smooth_and_rough(scale):
        rough = (scale.double() - 0.8).abs() * (1.3 + torch.sin(40 * scale.double()))
        return torch.stack([(scale[0].double() - 0.8).abs(), rough[1] + 0.1])

    trace = search_scale(smooth_and_rough, torch.ones(2))
    assert trace.local.tolist() == [False, True]
    assert trace.share[0] < trace.share[1] <= MOST_SHARE


def test_it_looks_on_beside_the_lowest_candidates_it_knows():
    table = torch.rand(1, 101, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    trace = search_scale(
        lambda s: table[:, int(np.abs(TAPTQ_MULTIPLIERS - float(s[0])).argmin())], torch.ones(1)
    )
    assert trace.local.tolist() == [True]
    order = [int(index) for index in dict.fromkeys(trace.visits[:, 0])]
    last, before = order[-1], sorted(order[:-1])
    above = np.searchsorted(before, last)
    beside = {before[above - 1], before[above]}
    gaps = itertools.pairwise(before)
    open_ends = {end for low, high in gaps if high - low > 1 for end in (low, high)}
    assert min(beside, key=lambda i: table[0, i]) == min(open_ends, key=lambda i: table[0, i])


def test_lines_between_known_losses_are_those_of_numpy():
    losses = np.full((2, 9), np.nan)
    losses[0, [0, 3, 8]] = [4.0, 1.0, 2.0]
    losses[1, [0, 7, 8]] = [1.0, np.inf, 3.0]
    for row, ours in zip(losses, _between(losses), strict=True):
        known = np.flatnonzero(~np.isnan(row))
        np.testing.assert_allclose(ours, np.interp(np.arange(9), known, np.minimum(row[known], 1e300)))


def test_scales_never_underflow_to_zero():
    seen = []
    search_scale(lambda s: seen.append(s.min()) or s, torch.full((1,), 1e-38), search="grid")
    assert min(seen) >= torch.finfo(torch.float32).tiny
