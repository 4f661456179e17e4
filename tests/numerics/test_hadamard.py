"""Rotations against the dense matrix, and Hadamard matrices against their definition."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from quantlab.errors import RecipeError
from quantlab.numerics.formats import QuantSpec
from quantlab.numerics.hadamard import Rotation, mixing_factors
from quantlab.numerics.paley import MAX_ORDER, hadamard_matrix, paley_orders
from quantlab.numerics.ranges import round_to_nearest

WIDTHS = [1, 2, 9, 12, 20, 28, 64, 98, 192, 384, 576, 588, 768, 1024]
BLOCKS = {9: 1, 98: 2, 147: 1, 192: 192, 384: 384, 576: 576, 588: 84, 768: 768, 1024: 1024, 4096: 4096}


def draw(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("order", [1, 2, 4, 64, *paley_orders()])
def test_a_hadamard_matrix_holds_signs_and_orthogonal_rows(order):
    matrix = hadamard_matrix(order)
    assert set(np.unique(matrix)) <= {-1.0, 1.0}
    assert np.array_equal(matrix @ matrix.T, order * np.eye(order))


def test_the_orders_that_networks_need_are_among_those_constructed():
    assert {12, 20, 28, 36} <= set(paley_orders())
    assert all(order % 4 == 0 and order <= MAX_ORDER for order in paley_orders())


@pytest.mark.parametrize("order", [0, 3, 6, 92, -4])
def test_an_order_out_of_reach_is_refused(order):
    with pytest.raises(ValueError, match="order"):
        hadamard_matrix(order)


@pytest.mark.parametrize("width", WIDTHS)
def test_the_matrix_is_orthonormal(width):
    matrix = Rotation(width, seed=5).matrix()
    assert (matrix @ matrix.T - torch.eye(width)).abs().max() < 1e-12


@pytest.mark.parametrize("width", WIDTHS)
def test_the_matrix_is_signs_times_blocks_of_a_kronecker_product(width):
    dense = torch.ones(1, 1, dtype=torch.float64)
    for order in mixing_factors(width):
        dense = torch.kron(dense, torch.from_numpy(hadamard_matrix(order)) / order**0.5)
    blocks = torch.block_diag(*[dense] * (width // len(dense)))
    matrix = Rotation(width, seed=5).matrix()
    signs = matrix[:, 0].sign() if width == 1 else torch.sign((matrix * blocks).sum(dim=1))
    assert (matrix - signs[:, None] * blocks).abs().max() < 1e-12
    assert width < 20 or {-1.0, 1.0} == set(signs.tolist())


@settings(max_examples=40, deadline=None)
@given(width=st.integers(1, 130), seed=st.integers(0, 2**63 - 1), lead=st.sampled_from([(), (3,), (2, 3)]))
def test_the_fast_transform_is_the_dense_product_and_its_transpose_undoes_it(width, seed, lead):
    rotation, x = Rotation(width, seed), draw(width, *lead, width)
    turned = rotation.apply(x)
    matrix = rotation.matrix()
    torch.testing.assert_close(turned, x @ matrix, rtol=0, atol=1e-12)
    torch.testing.assert_close(rotation.apply_transposed(x), x @ matrix.T, rtol=0, atol=1e-12)
    torch.testing.assert_close(rotation.apply_transposed(turned), x, rtol=0, atol=1e-12)


@settings(max_examples=30, deadline=None)
@given(width=st.sampled_from(WIDTHS), seed=st.integers(0, 99))
def test_rotated_activations_meet_their_folded_weight_in_the_same_product(width, seed):
    rotation, x, weight = Rotation(width, seed), draw(1, 4, width).float(), draw(2, 3, width).float()
    product = rotation.apply(x) @ rotation.fold(weight).T
    torch.testing.assert_close(
        product.double(), x.double() @ weight.double().T, rtol=0, atol=1e-5 * width**0.5
    )


@pytest.mark.parametrize(("width", "block"), BLOCKS.items())
def test_the_mixed_block_is_the_one_the_width_allows_and_is_described(width, block):
    rotation = Rotation(width)
    assert rotation.block == block
    text = rotation.describe()
    assert str(width) in text
    if block == 1:
        assert "nothing is mixed" in text
    elif block < width:
        assert f"{width // block} blocks of {block}" in text


@pytest.mark.parametrize("width", [192, 588, 768, 1024])
def test_every_channel_of_a_block_is_spread_evenly_over_the_block(width):
    rotation = Rotation(width, seed=3)
    one_hot = torch.zeros(width)
    one_hot[1] = 1.0
    turned = rotation.apply(one_hot).abs()
    torch.testing.assert_close(turned[: rotation.block], torch.full((rotation.block,), rotation.block**-0.5))
    assert (turned[rotation.block :] == 0).all()


def test_the_same_seed_turns_alike_and_another_does_not():
    x = draw(1, 4, 96)
    assert torch.equal(Rotation(96, 7).apply(x), Rotation(96, 7).apply(x))
    assert not torch.equal(Rotation(96, 7).apply(x), Rotation(96, 8).apply(x))
    assert Rotation(96, 7) == Rotation(96, 7)


def test_the_signs_come_before_the_mixing_so_that_a_constant_vector_does_not_pile_up_in_one_channel():
    turned = Rotation(256, seed=1).apply(torch.ones(256))
    assert turned.abs().max() < 0.5 * 256**0.5


def test_rotating_gelu_like_data_with_outliers_lowers_the_rounding_error():
    x = torch.nn.functional.gelu(draw(4, 64, 192)).float()
    x[:, 17] *= 40
    spec, rotation = QuantSpec(bits=4, granularity="token"), Rotation(192, seed=2)
    plain = (round_to_nearest(x, spec) - x).square().sum()
    rotated = (rotation.apply_transposed(round_to_nearest(rotation.apply(x), spec)) - x).square().sum()
    assert rotated < plain / 2


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_the_dtype_is_kept_and_half_precision_is_rounded_once(dtype):
    x = draw(6, 5, 192).to(dtype)
    rotation = Rotation(192)
    turned = rotation.apply(x)
    assert turned.dtype == dtype
    exact = x.double() @ rotation.matrix()
    eps = max(torch.finfo(dtype).eps, 1e-7)
    assert ((turned.double() - exact).abs() <= eps * exact.abs() + 20 * min(eps, 1e-6)).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_a_folded_weight_is_the_float64_product_rounded_to_float32(dtype):
    weight = draw(7, 3, 768).to(dtype)
    rotation = Rotation(768)
    folded = rotation.fold(weight)
    assert folded.dtype == torch.float32
    assert torch.equal(folded, rotation.apply(weight.double()).float())


def test_inputs_are_left_as_they_were_even_where_nothing_is_mixed():
    for width in (9, 192):
        x = draw(8, 2, width)
        before = x.clone()
        Rotation(width).apply(x)
        Rotation(width).apply_transposed(x)
        assert torch.equal(x, before)


@pytest.mark.bad_input
@pytest.mark.parametrize("width", [0, -1, 2.0, True, "192"])
def test_a_width_that_is_no_positive_whole_number_is_refused(width):
    with pytest.raises(RecipeError, match="width"):
        Rotation(width)


@pytest.mark.bad_input
@pytest.mark.parametrize("seed", [-1, 2**63, 1.0, True, None])
def test_a_seed_outside_its_range_is_refused(seed):
    with pytest.raises(RecipeError, match="seed"):
        Rotation(8, seed)


def test_a_tensor_of_another_width_is_refused():
    with pytest.raises(ValueError, match="width 8"):
        Rotation(8).apply(torch.ones(2, 16))
    with pytest.raises(ValueError, match="width 8"):
        Rotation(8).apply_transposed(torch.tensor(1.0))
