"""The low-rank branch: against numpy's decomposition, and what is left is as small as any branch could leave it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from quantlab.methods.low_rank import split
from quantlab.numerics.formats import QuantSpec
from quantlab.numerics.ranges import round_to_nearest

SHAPES = [(9, 14), (14, 9), (8, 8), (1, 5), (5, 1)]


def draw(shape: tuple[int, int], seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("rank", [0, 1, 3, 100])
def test_branch_and_residual_add_up_to_the_weight(shape, rank):
    weight = draw(shape)
    down, up, residual = split(weight, rank)
    kept = min(rank, *shape)
    assert (down.shape, up.shape) == ((shape[1], kept), (kept, shape[0]))
    torch.testing.assert_close((down @ up).T + residual, weight, rtol=0, atol=1e-14)


@given(seed=st.integers(0, 2**31), rank=st.integers(0, 8), shape=st.sampled_from(SHAPES[:3]))
@settings(max_examples=30, deadline=None)
def test_no_direction_is_left_that_is_stronger_than_the_first_one_not_taken(seed, rank, shape):
    weight = draw(shape, seed)
    values = np.linalg.svd(weight.numpy(), compute_uv=False)
    _, _, residual = split(weight, rank)
    left = np.linalg.svd(residual.numpy(), compute_uv=False)
    expected = values[rank] if rank < len(values) else 0.0
    assert left[0] == pytest.approx(expected, abs=2**-8 * values[0])


@pytest.mark.parametrize("shape", SHAPES)
def test_the_branch_is_numpys_truncated_decomposition_in_sixteen_bits(shape):
    weight = draw(shape, 3)
    u, s, v = np.linalg.svd(weight.numpy(), full_matrices=False)
    down, up, _ = split(weight, 2)
    nearest = (u[:, :2] * s[:2]) @ v[:2]
    np.testing.assert_allclose((down @ up).T.numpy(), nearest, atol=2**-7 * s[0])
    balance = down.norm(dim=0) / up.norm(dim=1)
    torch.testing.assert_close(balance, torch.ones_like(balance), rtol=2**-7, atol=0)
    for part in (down, up):
        assert torch.equal(part.bfloat16().double(), part)


def test_a_weight_of_low_rank_leaves_nothing_to_round_but_the_branchs_own_rounding():
    weight = draw((20, 3)) @ draw((3, 30), 1)
    _, _, residual = split(weight, 8)
    assert residual.norm() < 2**-7 * weight.norm()
    assert torch.equal(
        split(torch.zeros(4, 6, dtype=torch.float64), 2)[2], torch.zeros(4, 6, dtype=torch.float64)
    )


def test_rounding_the_residual_loses_less_than_rounding_a_weight_with_strong_directions():
    weight = draw((64, 48)) + 10 * draw((64, 1), 1) @ draw((1, 48), 2)
    spec = QuantSpec(4)
    _, _, residual = split(weight, 4)
    plain = (round_to_nearest(weight, spec) - weight).norm()
    assert (round_to_nearest(residual, spec) - residual).norm() < 0.3 * plain


def test_a_negative_rank_is_refused():
    with pytest.raises(ValueError, match="rank -1"):
        split(draw((2, 2)), -1)
