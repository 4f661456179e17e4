"""GPTQ: against the naive loop with an explicit inverse, and the bound that its feedback alone gives."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from quantlab.calibration.layer_data import LayerData
from quantlab.errors import NumericError, RecipeError
from quantlab.methods import gptq
from quantlab.methods.gptq import DAMPING, feedback_matrix
from quantlab.methods.rounding import ROUNDINGS
from quantlab.numerics.formats import QuantSpec
from quantlab.numerics.ranges import Range, minmax_range
from quantlab.numerics.rounding import quantize

SPECS = [
    QuantSpec(4),
    QuantSpec(3, granularity="tensor"),
    QuantSpec(4, granularity="group", group_size=4),
    QuantSpec(4, symmetric=False),
    QuantSpec(2, symmetric=False, granularity="group", group_size=6),
]


def layer(seed: int, out: int = 5, width: int = 12, rows: int = 60) -> tuple[torch.Tensor, LayerData]:
    """A weight, and an input whose channels depend on each other and differ in size."""
    generator = torch.Generator().manual_seed(seed)
    mix = torch.randn(width, width, generator=generator) * torch.logspace(0.4, -0.4, width)
    x = torch.randn(rows, width, generator=generator) @ mix + 0.5
    return torch.randn(out, width, generator=generator), data_of(x)


def data_of(x: torch.Tensor) -> LayerData:
    gram = x.double().T @ x.double()
    peaks = x.abs().amax(dim=0) if len(x) else torch.zeros(x.shape[1])
    return LayerData(x, peaks, np.zeros(len(x), np.uint8), gram, len(x))


def damped(data: LayerData) -> torch.Tensor:
    return data.gram + DAMPING * data.gram.diagonal().mean() * torch.eye(len(data.gram), dtype=torch.float64)


def cost(weight: torch.Tensor, rounded: torch.Tensor, metric: torch.Tensor) -> float:
    error = (weight - rounded).double()
    return float((error @ metric * error).sum())


def gptq_of(weight, chosen, spec, data, order="natural"):
    return ROUNDINGS["gptq"](weight, chosen, spec, data=data, order=order, place="fc")


def nearest_of(weight, chosen, spec):
    return ROUNDINGS["nearest"](weight, chosen, spec, data=None, order="natural", place="fc")


def naive(weight: torch.Tensor, chosen: Range, spec: QuantSpec, metric: torch.Tensor, order: list[int]):
    """The paper's loop as it is written: one column at a time, the inverse shrunk by one after each."""
    left = weight.double().clone()
    groups, many = spec.granularity == "group", int(spec.granularity != "tensor")
    codes = torch.zeros(weight.shape, dtype=torch.int64)
    waiting = list(order)
    while waiting:
        column = waiting[0]
        at = column // spec.group_size if groups else 0
        inverse = torch.linalg.inv(metric[waiting][:, waiting])
        for row in range(len(weight)):
            scale, zero = (
                0.0
                if part is None
                else float(part.reshape(-1, part.shape[-1] if groups else 1)[row * many, at])
                for part in chosen
            )
            code = min(max(round(float(left[row, column]) / scale) + zero, spec.low), spec.high)
            codes[row, column] = int(code)
            step = (float(left[row, column]) - (code - zero) * scale) / inverse[0, 0]
            left[row, waiting] -= step * inverse[0]
        waiting.pop(0)
    return codes


@pytest.mark.parametrize("order", ["natural", "activation"])
@pytest.mark.parametrize("spec", SPECS, ids=str)
@pytest.mark.parametrize("block", [1, 5, 128])
def test_codes_are_those_of_the_loop_with_an_explicit_inverse(spec, order, block, monkeypatch):
    monkeypatch.setattr(gptq, "BLOCK", block)
    weight, data = layer(spec.bits)
    chosen = minmax_range(weight, spec)
    columns = data.gram.diagonal().argsort(descending=True).tolist() if order == "activation" else range(12)
    codes = quantize(gptq_of(weight, chosen, spec, data, order), *chosen, spec)
    assert torch.equal(codes.long(), naive(weight, chosen, spec, damped(data), list(columns)))


@given(seed=st.integers(0, 2**31), bits=st.sampled_from([4, 6, 8]))
@settings(max_examples=30, deadline=None)
def test_where_nothing_is_clipped_the_cost_is_bounded_by_the_pivots_instead_of_the_diagonal(seed, bits):
    weight, data = layer(seed)
    spec = QuantSpec(bits)
    # Scales with room above the largest weight, so that what a column takes on from others is not clamped.
    chosen = Range(minmax_range(weight, spec).scale * 3, None)
    rounded = gptq_of(weight, chosen, spec, data)
    codes = quantize(rounded, *chosen, spec)
    metric = damped(data)
    feedback = feedback_matrix(data.gram)
    inverse = torch.linalg.inv(feedback)
    pivots = (inverse @ metric @ inverse.T).diagonal()
    if spec.low < codes.min() and codes.max() < spec.high:
        bound = 0.25 * float(chosen.scale.double().square().sum() * pivots.sum())
        assert cost(weight, rounded, metric) <= bound * (1 + 1e-5)
    assert bool((pivots <= metric.diagonal() * (1 + 1e-9)).all())


@pytest.mark.parametrize("spec", SPECS, ids=str)
@pytest.mark.parametrize("seed", range(6))
def test_on_dependent_channels_it_costs_less_than_rounding_to_nearest(seed, spec):
    weight, data = layer(seed, out=24, width=24)
    chosen = minmax_range(weight, spec)
    nearest = cost(weight, nearest_of(weight, chosen, spec), damped(data))
    for order in ("natural", "activation"):
        assert cost(weight, gptq_of(weight, chosen, spec, data, order), damped(data)) < nearest


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_on_independent_channels_it_is_rounding_to_nearest(spec):
    weight, _ = layer(3)
    x = torch.diag(torch.linspace(0.1, 3, 12))
    chosen = minmax_range(weight, spec)
    assert torch.equal(gptq_of(weight, chosen, spec, data_of(x)), nearest_of(weight, chosen, spec))


def test_a_silent_channel_is_rounded_to_nearest_and_disturbs_no_other():
    weight, data = layer(4)
    x = data.rows.clone()
    x[:, [0, 7]] = 0
    spec, speaking = QuantSpec(4), [k for k in range(12) if k not in {0, 7}]
    chosen = minmax_range(weight, spec)
    rounded = gptq_of(weight, chosen, spec, data_of(x))
    assert torch.equal(rounded[:, [0, 7]], nearest_of(weight, chosen, spec)[:, [0, 7]])
    codes = quantize(rounded, *chosen, spec)
    assert torch.equal(codes.long(), naive(weight, chosen, spec, damped(data_of(x)), list(range(12))))
    assert not torch.equal(rounded[:, speaking], nearest_of(weight, chosen, spec)[:, speaking])


def test_a_layer_that_never_ran_is_rounded_to_nearest():
    weight, _ = layer(5)
    spec = QuantSpec(4)
    chosen = minmax_range(weight, spec)
    assert torch.equal(
        gptq_of(weight, chosen, spec, data_of(torch.zeros(0, 12))), nearest_of(weight, chosen, spec)
    )


def test_fewer_rows_than_channels_are_enough():
    weight, _ = layer(6, width=40)
    x = torch.randn(3, 40, generator=torch.Generator().manual_seed(1))
    spec = QuantSpec(3)
    chosen = minmax_range(weight, spec)
    rounded = gptq_of(weight, chosen, spec, data_of(x))
    nearest = nearest_of(weight, chosen, spec)
    assert cost(weight, rounded, damped(data_of(x))) < 0.5 * cost(weight, nearest, damped(data_of(x)))


def test_sampled_rows_stand_in_for_the_sum_where_none_was_kept():
    weight, data = layer(7)
    bare = LayerData(data.rows, data.absmax, data.kinds)
    spec = QuantSpec(4)
    chosen = minmax_range(weight, spec)
    assert torch.equal(gptq_of(weight, chosen, spec, bare), gptq_of(weight, chosen, spec, data))


def test_damping_grows_until_the_factorisation_holds():
    slightly_off = torch.diag(torch.tensor([1.0, 1.0, -0.03], dtype=torch.float64))
    assert torch.equal(feedback_matrix(slightly_off), torch.eye(3, dtype=torch.float64))
    with pytest.raises(NumericError, match=r"not those of any input \(fc\)"):
        feedback_matrix(torch.diag(torch.tensor([1.0, 1.0, -1.5], dtype=torch.float64)), place="fc")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_no_argument_is_changed_and_the_dtype_kept(dtype):
    weight, data = layer(8)
    weight = weight.to(dtype)
    before = weight.clone(), data.gram.clone()
    spec = QuantSpec(4)
    rounded = gptq_of(weight, minmax_range(weight, spec), spec, data, "activation")
    assert rounded.dtype == dtype
    assert torch.equal(weight, before[0])
    assert torch.equal(data.gram, before[1])


@pytest.mark.bad_input
def test_what_a_user_can_get_wrong_is_refused_by_layer():
    weight, data = layer(9)
    spec = QuantSpec(4)
    chosen = minmax_range(weight, spec)
    with pytest.raises(RecipeError, match=r"needs calibration \(fc\)"):
        gptq_of(weight, chosen, spec, None)
    with pytest.raises(RecipeError, match=r"column order 'size' \(fc\)"):
        gptq_of(weight, chosen, spec, data, "size")
    broken = data.gram.clone()
    broken[0, 1] = float("nan")
    with pytest.raises(NumericError, match="fc"):
        gptq_of(weight, chosen, spec, LayerData(data.rows, data.absmax, data.kinds, broken, 60))
