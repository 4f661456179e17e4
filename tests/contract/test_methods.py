"""What every registered method promises; a new one is tested by being registered."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from quantlab.calibration.layer_data import LayerData
from quantlab.engine.build import METHODS
from quantlab.methods.clipping import RANGES
from quantlab.methods.learned import Learned
from quantlab.methods.rounding import COLUMN_ORDERS, ROUNDINGS
from quantlab.methods.transforms import TRANSFORMS, TransformContext
from quantlab.models.tokens import PATCH
from quantlab.numerics.formats import QuantSpec
from quantlab.numerics.ranges import minmax_range
from quantlab.numerics.rounding import fake_quantize


def context(
    width: int, seed: int, *, silent: bool = False, alpha: float = 0.5
) -> tuple[TransformContext, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(11, width, generator=generator, dtype=torch.float64)
    x = torch.randn(30, width, generator=generator) * torch.logspace(-2, 2, width)
    if silent:
        x[:, 0] = 0
        weight[:, -1] = 0
    data = LayerData(
        x, x.abs().amax(dim=0), np.full(30, PATCH, dtype=np.uint8), x.double().T @ x.double(), 30
    )
    learned = Learned(divisor=torch.rand(width, generator=generator) + 0.1)
    four = QuantSpec(4), QuantSpec(4, granularity="token")
    return TransformContext(weight, data.absmax, alpha, seed, "layer", data, *four, 0, learned), x


def test_every_transform_module_is_registered():
    assert METHODS
    assert len(TRANSFORMS) >= len(METHODS)


@pytest.mark.parametrize("name", list(TRANSFORMS))
@given(
    width=st.integers(1, 97),
    silent=st.booleans(),
    alpha=st.sampled_from([0.0, 0.5, 1.0]),
    seed=st.integers(0, 2**31),
)
@settings(max_examples=25, deadline=None)
def test_a_transform_changes_nothing_before_rounding(name, width, silent, alpha, seed):
    chosen, x = context(width, seed, silent=silent, alpha=alpha)
    transform = TRANSFORMS[name](chosen)
    expected = x.double() @ chosen.weight.T
    given_ = transform(x.double()) @ transform.fold(chosen.weight).T
    assert (given_ - expected).norm() <= 1e-6 * expected.norm() + 1e-12


@pytest.mark.parametrize("name", list(TRANSFORMS))
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_a_transform_keeps_shape_and_dtype_and_changes_no_argument(name, dtype):
    chosen, x = context(24, 1)
    transform = TRANSFORMS[name](chosen)
    given_ = x.to(dtype).reshape(2, 15, 24)
    copy, weight = given_.clone(), chosen.weight.clone()
    result = transform(given_)
    assert (result.shape, result.dtype) == (given_.shape, dtype)
    assert transform.fold(chosen.weight).dtype == torch.float64
    assert torch.equal(given_, copy)
    assert torch.equal(chosen.weight, weight)
    assert transform.describe()


@pytest.mark.parametrize("name", list(TRANSFORMS))
def test_a_transform_is_the_same_each_time_it_is_prepared(name):
    chosen, x = context(36, 5)
    assert torch.equal(TRANSFORMS[name](chosen)(x), TRANSFORMS[name](chosen)(x))


@pytest.mark.parametrize("name", list(RANGES))
@pytest.mark.parametrize("granularity", ["tensor", "channel", "group"])
@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("bits", [2, 4, 8])
def test_a_range_gives_positive_scales_and_codes_within_the_format(name, granularity, symmetric, bits):
    x = torch.randn(6, 16, generator=torch.Generator().manual_seed(bits))
    x[0] = 0
    x[1, 2] = 1e6
    spec = QuantSpec(bits, symmetric, granularity, 8 if granularity == "group" else 0)
    chosen, _ = RANGES[name](x, spec, percentile=99.0, place="w")
    assert (chosen.scale > 0).all()
    assert chosen.scale.isfinite().all()
    rounded = fake_quantize(x, *chosen, spec)
    assert rounded.isfinite().all()
    assert (rounded[0] == 0).all()
    # Rounding what is rounded already changes nothing: the values lie on the grid.
    torch.testing.assert_close(fake_quantize(rounded, *chosen, spec), rounded)


@pytest.mark.parametrize("name", [name for name in RANGES if name in ("grid", "ternary")])
def test_a_searched_range_is_never_worse_than_min_max(name):
    x = torch.randn(8, 64, generator=torch.Generator().manual_seed(3)) ** 3
    spec = QuantSpec(3)
    losses = {}
    for search in (name, "minmax"):
        chosen, _ = RANGES[search](x, spec, percentile=99.0, place="w")
        losses[search] = (fake_quantize(x, *chosen, spec) - x).square().sum(dim=1)
    assert (losses[name] <= losses["minmax"] * (1 + 1e-6)).all()


@pytest.mark.parametrize("name", list(TRANSFORMS))
def test_second_moments_behind_a_transform_are_those_of_the_rows_behind_it(name):
    chosen, _ = context(24, 3)
    behind = chosen.data.through(TRANSFORMS[name](chosen))
    expected = behind.rows.double().T @ behind.rows.double()
    assert (behind.gram - expected).norm() <= 1e-5 * expected.norm()


@pytest.mark.parametrize("name", list(ROUNDINGS))
@pytest.mark.parametrize("granularity", ["tensor", "channel", "group"])
@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("order", COLUMN_ORDERS)
def test_a_rounding_puts_every_weight_on_the_grid_and_changes_no_argument(
    name, granularity, symmetric, order
):
    chosen, _ = context(16, 7)
    weight = chosen.weight.float()
    spec = QuantSpec(4, symmetric, granularity, 8 if granularity == "group" else 0)
    grid = minmax_range(weight, spec)
    copy = weight.clone()
    rounded = ROUNDINGS[name](weight, grid, spec, data=chosen.data, order=order, place="layer")
    assert (rounded.shape, rounded.dtype) == (weight.shape, weight.dtype)
    assert torch.equal(weight, copy)
    torch.testing.assert_close(fake_quantize(rounded, *grid, spec), rounded)
    again = ROUNDINGS[name](weight, grid, spec, data=chosen.data, order=order, place="layer")
    assert torch.equal(rounded, again)
