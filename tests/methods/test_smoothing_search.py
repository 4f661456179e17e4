"""Searched smoothing, AWQ's and the balance's: against a search written out, and what only a search promises."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from quantlab.calibration.layer_data import LayerData
from quantlab.errors import NumericError, RecipeError
from quantlab.methods import smoothing_search
from quantlab.methods.awq import activation_divisor, prepare_awq
from quantlab.methods.smoothing import smoothing_divisor
from quantlab.methods.smoothing_search import STRENGTHS, prepare_search
from quantlab.methods.transforms import TransformContext
from quantlab.numerics.formats import QuantSpec

RULES = {"awq": prepare_awq, "search": prepare_search}
W4, A4 = QuantSpec(4, granularity="group", group_size=8), QuantSpec(4, granularity="token")


def context(seed: int, *, loud: float = 30.0, weight=W4, activation=None, rows: int = 64) -> TransformContext:
    """A layer one of whose 16 input channels is ``loud`` times the others."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(rows, 16, generator=generator)
    x[:, 5] *= loud
    peaks = x.abs().amax(dim=0) if rows else torch.zeros(16)
    data = LayerData(x, peaks, np.zeros(rows, np.uint8))
    matrix = torch.randn(10, 16, generator=generator, dtype=torch.float64)
    return TransformContext(matrix, peaks, 0.5, seed, "fc", data, weight, activation)


def rounded(x: np.ndarray, bits: int, group: int) -> np.ndarray:
    """Symmetric rounding to nearest, one scale for ``group`` neighbours of a row."""
    parts = x.reshape(-1, group)
    step = np.abs(parts).max(axis=1, keepdims=True) / (2 ** (bits - 1) - 1)
    return (np.round(parts / step) * step).reshape(x.shape)


def loss_of(given_: TransformContext, factors: np.ndarray) -> float:
    weight, x = given_.weight.numpy(), given_.data.rows.double().numpy()
    w, a = rounded(weight * factors, 4, 8), x / factors
    if given_.activation_spec is not None:
        a = rounded(a, 4, 16)
    exact = x @ weight.T
    return float(((a @ w.T - exact) ** 2).sum() / (exact**2).sum())


@pytest.mark.parametrize("activation", [None, A4])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_awq_chooses_what_the_published_grid_search_written_out_chooses(seed, activation):
    given_ = context(seed, activation=activation)
    mean = np.abs(given_.data.rows.double().numpy()).mean(axis=0)
    losses = []
    for a in np.linspace(0, 1, 20):
        scale = mean**a
        losses.append(loss_of(given_, scale / np.sqrt(scale.max() * scale.min())))
    made = prepare_awq(given_)
    tried = [loss for strength, loss in made.losses if strength is not None]
    np.testing.assert_allclose(tried, losses, rtol=2e-2)
    assert losses[STRENGTHS.index(made.strength)] <= min(losses) * 1.02


@pytest.mark.parametrize("activation", [None, A4])
def test_the_balance_is_searched_over_its_exponent(activation):
    given_ = context(3, activation=activation)
    peaks = given_.weight.abs().amax(dim=0)
    losses = {
        a: loss_of(given_, smoothing_divisor(given_.peaks, peaks, a).double().numpy()) for a in STRENGTHS
    }
    made = prepare_search(given_)
    assert losses[made.strength] <= min(losses.values()) * 1.02
    torch.testing.assert_close(made.divisor, smoothing_divisor(given_.peaks, peaks, made.strength))


@pytest.mark.parametrize("rule", list(RULES))
@given(seed=st.integers(0, 2**31), loud=st.floats(0.01, 100), rounds_input=st.booleans())
@settings(max_examples=25, deadline=None)
def test_the_choice_is_never_worse_than_no_smoothing_on_the_rows_it_saw(rule, seed, loud, rounds_input):
    given_ = context(seed, loud=loud, activation=A4 if rounds_input else None)
    made = RULES[rule](given_)
    losses = dict(made.losses)
    assert losses[made.strength] == min(losses.values()) <= losses[None]
    assert loss_of(given_, made.divisor.double().numpy()) <= loss_of(given_, np.ones(16)) * 1.02


@pytest.mark.parametrize("rule", list(RULES))
def test_a_loud_channel_gets_the_largest_factor_and_half_the_error_goes(rule):
    given_ = context(4)
    made = RULES[rule](given_)
    assert int(made.divisor.argmax()) == 5
    assert loss_of(given_, made.divisor.double().numpy()) < 0.5 * loss_of(given_, np.ones(16))
    assert f"{made.strength:.2f}" in made.describe()


@pytest.mark.parametrize("rule", list(RULES))
def test_where_nothing_is_rounded_and_where_nothing_ran_channels_are_left_alone(rule):
    for given_ in (context(5, weight=None), context(6, rows=0)):
        made = RULES[rule](given_)
        assert bool((made.divisor == 1).all())
        assert made.strength is None
        assert "as they are" in made.describe()


@given(loudness=st.lists(st.floats(1e-2, 1e2), min_size=5, max_size=5).map(torch.tensor), a=st.floats(0, 1))
@settings(max_examples=40, deadline=None)
def test_factors_are_published_ones_and_a_silent_channel_sits_in_their_middle(loudness, a):
    published = loudness.double() ** a
    published /= (published.max() * published.min()).sqrt()
    torch.testing.assert_close(activation_divisor(loudness, a).double(), published, rtol=1e-5, atol=0)
    with_silence = activation_divisor(torch.cat((loudness, torch.zeros(1))), a)
    torch.testing.assert_close(with_silence[:5].double(), published, rtol=1e-5, atol=0)
    assert with_silence[5] == 1


def test_many_rows_are_thinned_evenly(monkeypatch):
    given_ = context(7)
    monkeypatch.setattr(smoothing_search, "SEARCH_ROWS", 16)
    few = prepare_search(given_)
    thin = LayerData(given_.data.rows[::4], given_.data.absmax, given_.data.kinds[::4])
    monkeypatch.undo()
    assert few.losses == prepare_search(
        TransformContext(given_.weight, given_.peaks, 0.5, 0, "fc", thin, W4)
    ).losses  # fmt: skip


@pytest.mark.parametrize("rule", list(RULES))
def test_no_calibration_and_a_nan_in_it_are_refused_by_layer(rule):
    weight = torch.ones(2, 3, dtype=torch.float64)
    with pytest.raises(RecipeError, match=r"needs calibration \(fc\)"):
        RULES[rule](TransformContext(weight, None, 0.5, 0, "fc", None, W4))
    data = LayerData(torch.full((4, 3), float("nan")), torch.ones(3), np.zeros(4, np.uint8))
    with pytest.raises(NumericError, match="fc"):
        RULES[rule](TransformContext(weight, data.absmax, 0.5, 0, "fc", data, None))
