"""What a scale costs at the output: against loops over tokens and channels, and laws of the weighting."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from quantlab.calibration.layer_data import LayerData
from quantlab.errors import RecipeError
from quantlab.methods.clipping import RANGES
from quantlab.methods.objectives import (
    activation_fisher_loss,
    activation_loss,
    activation_output_loss,
    activation_rows,
    weight_fisher_loss,
    weight_loss,
    weight_output_loss,
)
from quantlab.numerics.formats import QuantSpec
from quantlab.numerics.ranges import minmax_range
from quantlab.numerics.rounding import fake_quantize

OUT, IN, TOKENS = 5, 8, 11


def layer(seed: int = 0, *, out: int = OUT, tokens: int = TOKENS) -> tuple[torch.Tensor, LayerData]:
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(tokens, IN, generator=generator) * torch.logspace(-1, 1, IN)
    weight = torch.randn(out, IN, generator=generator)
    gradients = torch.randn(tokens, out, generator=generator)
    gram = rows.double().T @ rows.double()
    kinds = np.zeros(tokens, np.uint8)
    return weight, LayerData(rows, rows.abs().amax(0), kinds, gram, tokens, gradients)


def by_hand(weight, rounded, rows, rounded_rows, gradients, group):
    """One loss for each channel and group: the error that the group alone makes, token by token."""
    out, width = weight.shape
    table = np.zeros((out, width // group))
    for channel in range(out):
        for start in range(0, width, group):
            for token in range(len(rows)):
                error = 0.0
                for j in range(start, start + group):
                    exact = float(weight[channel, j]) * float(rows[token, j])
                    error += exact - float(rounded[channel, j]) * float(rounded_rows[token, j])
                g = 1.0 if gradients is None else float(gradients[token, channel])
                table[channel, start // group] += (g * error) ** 2 / len(rows)
    return table


@pytest.mark.parametrize("fisher", [False, True])
@pytest.mark.parametrize("inputs", ["exact", "rounded"])
@pytest.mark.parametrize(("granularity", "group"), [("channel", IN), ("tensor", IN), ("group", 4)])
def test_the_loss_of_a_weight_is_the_loop_over_tokens_and_channels(fisher, inputs, granularity, group):
    weight, data = layer()
    spec = QuantSpec(3, True, granularity, group if granularity == "group" else 0)
    rounded = fake_quantize(weight, *minmax_range(weight, spec), spec)
    x = data.rows if inputs == "exact" else data.rows.round()
    make = weight_fisher_loss if fisher else weight_output_loss
    loss = make(weight, spec, data, rounded_rows=None if inputs == "exact" else x)
    table = by_hand(weight, rounded, data.rows, x, data.gradients if fisher else None, group)
    expected = table.sum(keepdims=True)[0] if granularity == "tensor" else table.ravel()
    np.testing.assert_allclose(loss(rounded).numpy(), expected, rtol=1e-4)


@pytest.mark.parametrize("fisher", [False, True])
@pytest.mark.parametrize("out", [3, 13])
def test_the_loss_of_an_input_is_the_loop_through_the_rounded_weight(fisher, out):
    weight, data = layer(out=out)
    rounded, x = weight.round(), data.rows.round()
    make = activation_fisher_loss if fisher else activation_output_loss
    gradients = data.gradients if fisher else None
    table = by_hand(weight, rounded, data.rows, x, gradients, IN)
    np.testing.assert_allclose(make(weight, rounded, data)(x).numpy(), [table.sum()], rtol=1e-4)


def test_second_moments_of_more_tokens_than_were_sampled_count_all_of_them():
    weight, data = layer(tokens=60)
    few = LayerData(data.rows[:5], data.absmax, data.kinds[:5], data.gram, 60)
    spec, rounded = QuantSpec(4), weight.round()
    everything = weight_output_loss(weight, spec, LayerData(data.rows, data.absmax, data.kinds))(rounded)
    torch.testing.assert_close(weight_output_loss(weight, spec, few)(rounded), everything, rtol=1e-4, atol=0)


def test_moments_of_fewer_tokens_than_channels_still_have_a_loss():
    weight, data = layer(tokens=3)
    beside = LayerData(data.rows[:2], data.absmax, data.kinds[:2], data.gram, 3)
    exact = weight_output_loss(weight, QuantSpec(4), LayerData(data.rows, data.absmax, data.kinds))
    ours = weight_output_loss(weight, QuantSpec(4), beside)
    torch.testing.assert_close(ours(weight.round()), exact(weight.round()), rtol=1e-3, atol=1e-6)


@given(seed=st.integers(0, 2**31), factor=st.sampled_from([-3.0, 0.5, 2.0]))
@settings(max_examples=20, deadline=None)
def test_equal_gradients_are_the_plain_error_and_their_size_counts_squared(seed, factor):
    weight, data = layer(seed)
    flat = LayerData(data.rows, data.absmax, data.kinds, gradients=torch.full((TOKENS, OUT), factor))
    spec, rounded = QuantSpec(4), weight.round()
    plain = weight_output_loss(weight, spec, flat)(rounded)
    torch.testing.assert_close(
        weight_fisher_loss(weight, spec, flat)(rounded), plain * factor**2, rtol=1e-4, atol=1e-8
    )


def test_a_channel_whose_gradient_is_zero_may_be_rounded_to_anything():
    weight, data = layer()
    data.gradients[:, 2] = 0
    losses = weight_fisher_loss(weight, QuantSpec(4), data)(torch.zeros_like(weight))
    assert float(losses[2]) == 0.0
    assert (losses[[0, 1, 3, 4]] > 0).all()


@pytest.mark.parametrize("kind", ["output", "fisher"])
def test_what_a_search_finds_is_no_worse_at_the_output_than_min_max_nor_than_its_own_rounding_error(kind):
    weight, data = layer(3)
    spec = QuantSpec(3)
    loss = weight_loss(kind, weight, spec, data)
    reached = {}
    for name, judge in (("ours", loss), ("self", None)):
        chosen, _ = RANGES["grid"](weight, spec, percentile=99.0, place="w", loss=judge)
        reached[name] = loss(fake_quantize(weight, *chosen, spec))
    plain = loss(fake_quantize(weight, *minmax_range(weight, spec), spec))
    assert (reached["ours"] <= plain * (1 + 1e-6)).all()
    assert reached["ours"].sum() <= reached["self"].sum() * (1 + 1e-6)


def test_a_static_scale_is_searched_through_the_rounded_weight():
    weight, data = layer(4)
    loss, spec = activation_loss("output", weight, weight.round(), data), QuantSpec(4, granularity="tensor")
    chosen, trace = RANGES["ternary"](activation_rows(data), spec, percentile=99.0, place="x", loss=loss)
    assert chosen.scale.shape == ()
    assert trace.loss[0] <= float(loss(fake_quantize(data.rows, *minmax_range(data.rows, spec), spec)))


def test_without_data_or_for_the_rounding_error_there_is_no_loss_and_without_gradients_a_word():
    weight, data = layer()
    assert weight_loss("self", weight, QuantSpec(4), data) is None
    assert weight_loss("fisher", weight, QuantSpec(4), None) is None
    empty = LayerData(data.rows[:0], data.absmax, data.kinds[:0])
    assert activation_loss("output", weight, weight, empty) is None
    bare = LayerData(data.rows, data.absmax, data.kinds)
    with pytest.raises(RecipeError, match="backward"):
        weight_loss("fisher", weight, QuantSpec(4), bare, place="fc1")
    with pytest.raises(RecipeError, match="self, output, fisher"):
        activation_loss("loud", weight, weight, bare)
