"""The predicted rounding error against rounding itself: the closed form is an integral, so numbers must agree."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from quantlab.engine.grids import clip_curve, step_counts
from quantlab.numerics.clip_error import StepCounts, candidate_shares, rounding_errors
from quantlab.numerics.formats import QuantSpec
from quantlab.numerics.ranges import Range, clipped, minmax_range
from quantlab.numerics.rounding import fake_quantize


def measured(x, spec, chosen):
    error = x - fake_quantize(x, *chosen, spec)
    return float(error.double().norm() / x.double().norm())


@pytest.mark.parametrize("granularity", ["tensor", "token"])
@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("bits", [3, 4, 8])
def test_the_prediction_is_what_rounding_with_clipped_ranges_costs(bits, symmetric, granularity):
    torch.manual_seed(1)
    x = torch.randn(64, 512) * torch.rand(64, 1).exp() + 0.2
    x[3, 7] = 30.0
    spec = QuantSpec(bits, symmetric, granularity)
    chosen = minmax_range(x, spec)
    counts = step_counts(x, spec, chosen)
    for share in (1.0, 0.6, 0.25):
        expected = measured(x, spec, clipped(chosen, share))
        # A bin is a sixteenth wide, and a lone outlier lies anywhere in its own.
        assert rounding_errors(counts, [share])[0] == pytest.approx(expected, rel=0.04)


@given(start=st.floats(-30, 30), width=st.floats(0.01, 3), share=st.floats(0.1, 1.5))
@settings(max_examples=60, deadline=None)
def test_the_integral_of_one_bin_is_the_mean_over_its_points(start, width, share):
    bin_ = StepCounts(
        np.array([start]),
        np.array([start + width]),
        np.array([-8]),
        np.array([7]),
        np.array([1.0]),
        energy=1.0,
        reach=1.0,
    )
    points = (start + width * (np.arange(20000) + 0.5) / 20000) / share
    error = share * np.sqrt(np.mean((points - np.clip(np.rint(points), -8, 7)) ** 2))
    assert rounding_errors(bin_, [share])[0] == pytest.approx(error, rel=1e-3, abs=1e-5)


def test_the_curve_holds_the_range_in_force_and_ends_where_nothing_is_clipped():
    torch.manual_seed(0)
    x, spec = torch.randn(8, 256), QuantSpec(4, granularity="tensor")
    half = clipped(minmax_range(x, spec), 0.5)
    curve = clip_curve(x, spec, half)
    assert 1.0 in curve.shares
    assert curve.shares[-1] == pytest.approx(2.0, rel=1e-5)
    assert curve.measured == pytest.approx(measured(x, spec, half))
    assert curve.errors[np.flatnonzero(curve.shares == 1.0)[0]] == pytest.approx(curve.measured, rel=0.02)


def test_the_share_kept_is_counted_where_one_range_serves_all():
    torch.manual_seed(0)
    x = torch.randn(8, 256)
    whole, rows = QuantSpec(4, granularity="tensor"), QuantSpec(4, granularity="token")
    curve = clip_curve(x, whole, minmax_range(x, whole))
    end = float(minmax_range(x, whole).scale) * 7
    for index in (5, 60, -1):
        inside = float((x.abs() <= curve.shares[index] * end * (1 + 1e-7)).double().mean())
        assert curve.kept[index] == pytest.approx(inside, abs=1e-3)
    assert clip_curve(x, rows, minmax_range(x, rows)).kept is None


def test_zeros_cost_nothing():
    x, spec = torch.zeros(4, 16), QuantSpec(4)
    curve = clip_curve(x, spec, minmax_range(x, spec))
    assert not curve.errors.any()
    assert curve.measured == 0


def test_shares_begin_small_and_hold_one():
    shares = candidate_shares(0.3)
    assert shares[0] == pytest.approx(0.02)
    assert shares[-1] == 1.0
    assert (np.diff(shares) > 0).all()


def test_the_scale_of_the_data_does_not_matter():
    torch.manual_seed(2)
    x, spec = torch.randn(4, 128), QuantSpec(4)
    chosen = minmax_range(x, spec)
    small = Range(chosen.scale * 2.0**-20, None)
    one, other = clip_curve(x, spec, chosen), clip_curve(x * 2.0**-20, spec, small)
    assert np.allclose(one.errors, other.errors, rtol=1e-5)
