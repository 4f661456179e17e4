"""Compensation: against numpy's least squares, and what its gate measures."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from quantlab.methods import compensation
from quantlab.methods.compensation import ErrorMoments, explained, fit_correction


def rows(count: int, seed: int = 0, width: int = 6, out: int = 5) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(count, width, generator=generator) + 2
    mix = torch.randn(width, out, generator=torch.Generator().manual_seed(99))
    return x, x @ mix + 0.3 + 0.1 * torch.randn(count, out, generator=generator)


def test_full_rank_is_least_squares_with_a_bias(monkeypatch):
    monkeypatch.setattr(compensation, "RIDGE", 0.0)
    x, e = rows(200)
    theta, *_ = np.linalg.lstsq(np.c_[x.double(), np.ones(200)], e.double().numpy(), rcond=None)
    fit = fit_correction(ErrorMoments.of(x, e), 6)
    np.testing.assert_allclose((fit.down @ fit.up).numpy(), theta[:-1], rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(fit.bias.numpy(), theta[-1], rtol=1e-3, atol=1e-3)


@given(split=st.integers(1, 199))
@settings(max_examples=20, deadline=None)
def test_moments_add_up_however_the_rows_are_cut(split):
    x, e = rows(200)
    whole = ErrorMoments.of(x, e)
    parts = ErrorMoments.of(x[:split], e[:split]) + ErrorMoments.of(x[split:], e[split:])
    torch.testing.assert_close(parts.gram, whole.gram)
    torch.testing.assert_close(parts.cross, whole.cross)
    assert whole.rows == 200


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_truncation_keeps_the_rank_and_the_mean_error_at_zero(rank):
    x, e = rows(200)
    fit = fit_correction(ErrorMoments.of(x, e), rank)
    assert (fit.down.shape, fit.up.shape) == ((6, rank), (rank, 5))
    assert np.linalg.matrix_rank((fit.down @ fit.up).numpy()) == rank
    assert (e - fit(x)).mean(dim=0).abs().max() < 1e-4


def test_r2_is_that_of_the_residuals_counted_row_by_row():
    x, e = rows(200)
    fit = fit_correction(ErrorMoments.of(x, e), 2)
    fresh_x, fresh_e = rows(150, seed=1)
    left = (fresh_e - fit(fresh_x)).square().sum()
    spread = (fresh_e - fresh_e.mean(dim=0)).square().sum()
    assert explained(fit, ErrorMoments.of(fresh_x, fresh_e)) == pytest.approx(
        float(1 - left / spread), abs=1e-4
    )


def test_noise_is_not_explained_on_rows_the_fit_did_not_see():
    generator = torch.Generator().manual_seed(0)
    x, e = torch.randn(40, 20, generator=generator), torch.randn(40, 5, generator=generator)
    fit = fit_correction(ErrorMoments.of(x[:30], e[:30]), 20)
    assert explained(fit, ErrorMoments.of(x[:30], e[:30])) > 0
    assert explained(fit, ErrorMoments.of(x[30:], e[30:])) < 0


@pytest.mark.parametrize(
    "x", [torch.zeros(10, 4), torch.ones(10, 4), torch.randn(1, 4), torch.full((10, 4), 1e20)]
)
def test_degenerate_inputs_give_finite_corrections(x):
    e = torch.ones(len(x), 3)
    fit = fit_correction(ErrorMoments.of(x, e), 2)
    assert all(part.isfinite().all() for part in (fit.down, fit.up, fit.bias))
    torch.testing.assert_close(fit(x), e, rtol=1e-3, atol=1e-3)


def test_without_any_error_there_is_nothing_to_explain():
    x = torch.randn(10, 4)
    moments = ErrorMoments.of(x, torch.zeros(10, 3))
    assert explained(fit_correction(moments, 2), moments) == float("-inf")
