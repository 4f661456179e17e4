"""Learned mixing by two factors: against torch's own Kronecker product, and what a start and a bad factor give."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from quantlab.errors import NumericError
from quantlab.methods.kronecker import (
    KroneckerTransform,
    mix,
    prepare_kronecker,
    split_width,
    starting_factors,
)
from quantlab.methods.learned import Learned
from quantlab.methods.transforms import TransformContext
from quantlab.numerics.hadamard import signs


def invertible(order: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(order, order, generator=generator) + 3 * torch.eye(order)


@given(first=st.integers(1, 6), second=st.integers(1, 7), seed=st.integers(0, 1000))
@settings(max_examples=30, deadline=None)
def test_mixing_equals_the_product_with_the_kronecker_product(first, second, seed):
    p1, p2 = invertible(first, seed).double(), invertible(second, seed + 1).double()
    x = torch.randn(2, 3, first * second, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    torch.testing.assert_close(mix(x, p1, p2), x @ torch.kron(p1, p2))


def test_the_weight_takes_the_inverse_transpose_of_signs_and_factors():
    p1, p2, seed = invertible(3, 1), invertible(4, 2), 5
    whole = signs(12, seed, torch.float64, torch.device("cpu")).diag() @ torch.kron(p1.double(), p2.double())
    weight = torch.randn(7, 12, dtype=torch.float64)
    transform = KroneckerTransform(p1, p2, seed)
    torch.testing.assert_close(transform.fold(weight), weight @ torch.linalg.inv(whole).T)
    x = torch.randn(9, 12, dtype=torch.float64)
    torch.testing.assert_close(transform(x), x @ whole)
    torch.testing.assert_close(transform(x) @ transform.fold(weight).T, x @ weight.T)


@given(width=st.integers(1, 4096))
@settings(max_examples=60, deadline=None)
def test_no_two_factors_are_closer_to_the_square_root(width):
    first, second = split_width(width)
    assert first * second == width
    assert first <= second
    assert not any(width % size == 0 for size in range(first + 1, int(width**0.5) + 1))


@pytest.mark.parametrize("width", [1, 7, 12, 35, 192, 768])
def test_the_start_is_orthogonal_for_any_width(width):
    first, second = (factor.double() for factor in starting_factors(width, 3))
    whole = torch.kron(first, second)
    torch.testing.assert_close(whole @ whole.T, torch.eye(width, dtype=torch.float64), atol=1e-5, rtol=0)


@pytest.mark.parametrize("width", [192, 768])
def test_where_both_factors_have_hadamard_orders_the_start_is_a_hadamard_matrix(width):
    first, second = starting_factors(width, 0)
    entries = torch.kron(first, second).abs() * width**0.5
    torch.testing.assert_close(entries, torch.ones_like(entries), atol=1e-4, rtol=0)


def test_a_learned_factor_takes_the_place_of_the_start_and_a_singular_one_is_refused():
    weight = torch.randn(2, 6, dtype=torch.float64)
    factors = (invertible(2, 1), invertible(3, 2))
    context = TransformContext(weight, None, 0.0, 0, "fc", learned=Learned(factors=factors))
    assert torch.equal(prepare_kronecker(context).first, factors[0])
    broken = Learned(factors=(torch.zeros(2, 2), factors[1]))
    with pytest.raises(NumericError, match=r"cannot be undone \(fc\)"):
        prepare_kronecker(TransformContext(weight, None, 0.0, 0, "fc", learned=broken))
