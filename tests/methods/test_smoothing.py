"""Smoothing factors: the published formula, its ends, and channels that say nothing."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from quantlab.errors import NumericError, RecipeError
from quantlab.methods.smoothing import SPREAD, prepare_smoothing, smoothing_divisor
from quantlab.methods.transforms import TransformContext

peaks = st.lists(st.floats(1e-2, 1e2), min_size=5, max_size=5).map(torch.tensor)


@given(x=peaks, w=peaks, alpha=st.floats(0, 1))
@settings(max_examples=50, deadline=None)
def test_factors_are_those_of_the_paper_up_to_one_common_scale(x, w, alpha):
    published = x.double() ** alpha / w.double() ** (1 - alpha)
    ratio = smoothing_divisor(x, w, alpha).double() / published
    torch.testing.assert_close(ratio, ratio[:1].expand(5), rtol=1e-5, atol=0)


@given(x=peaks, w=peaks)
@settings(max_examples=30, deadline=None)
def test_at_alpha_one_inputs_and_at_alpha_zero_weights_have_equal_ranges(x, w):
    flat_inputs = x / smoothing_divisor(x, w, 1.0)
    flat_weights = w * smoothing_divisor(x, w, 0.0)
    torch.testing.assert_close(flat_inputs, flat_inputs[:1].expand(5), rtol=1e-4, atol=0)
    torch.testing.assert_close(flat_weights, flat_weights[:1].expand(5), rtol=1e-4, atol=0)


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
def test_silent_channels_are_left_alone_and_disturb_no_other(alpha):
    x, w = torch.tensor([0.0, 2.0, 8.0, 0.0, 3.0]), torch.tensor([1.0, 0.0, 2.0, 0.0, 5.0])
    factors = smoothing_divisor(x, w, alpha)
    assert factors[[0, 1, 3]].tolist() == [1, 1, 1]
    speaking = torch.tensor([2, 4])
    torch.testing.assert_close(factors[speaking], smoothing_divisor(x[speaking], w[speaking], alpha))


def test_factors_of_extreme_channels_stay_finite_and_bounded():
    x, w = torch.tensor([1e-38, 1e38, 1.0, 1.0]), torch.tensor([1e-38, 1e-30, 1.0, 1e30])
    for alpha in (0.0, 0.5, 1.0):
        factors = smoothing_divisor(x, w, alpha)
        assert factors.isfinite().all()
        assert factors.min() >= 0.99 / SPREAD
        assert factors.max() <= 1.01 * SPREAD


def test_all_silent_is_all_ones():
    assert smoothing_divisor(torch.zeros(3), torch.zeros(3), 0.5).tolist() == [1, 1, 1]


def test_smoothing_without_calibration_and_with_a_nan_in_it_is_refused_by_layer():
    weight = torch.ones(2, 3, dtype=torch.float64)
    with pytest.raises(RecipeError, match=r"needs calibration \(fc\)"):
        prepare_smoothing(TransformContext(weight, None, 0.5, 0, "fc"))
    with pytest.raises(NumericError, match="fc"):
        prepare_smoothing(TransformContext(weight, torch.tensor([1, float("nan"), 1]), 0.5, 0, "fc"))
