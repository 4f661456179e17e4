"""Orthogonal transforms of single layers: each against its dense matrix, and the law that it alone keeps."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.fft
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from quantlab.errors import NumericError, RecipeError
from quantlab.methods.block_hadamard import block_orders, deal, prepare_block_hadamard
from quantlab.methods.cosine import CosineRotation, cosine_transform, prepare_cosines
from quantlab.methods.regular_hadamard import GROUPS, RegularHadamard, prepare_regular
from quantlab.methods.transforms import TransformContext
from quantlab.numerics.hadamard import Rotation
from quantlab.numerics.paley import hadamard_matrix

WIDTHS = [1, 5, 12, 48, 192, 768]


def context(
    width: int, *, group: int = 0, seed: int = 0, peaks: torch.Tensor | None = None
) -> TransformContext:
    weight = torch.zeros(2, width, dtype=torch.float64)
    return TransformContext(weight, peaks, 0.5, seed, "fc", group=group)


def matrix(transform: torch.nn.Module, width: int) -> torch.Tensor:
    return transform(torch.eye(width, dtype=torch.float64))


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


PREPARE = {
    "regular": prepare_regular,
    "dct": prepare_cosines,
    "block_hadamard": lambda c: prepare_block_hadamard(
        TransformContext(c.weight, torch.arange(c.weight.shape[1]).float(), 0.5, c.seed, "fc", group=c.group)
    ),
}


@pytest.mark.parametrize("name", list(PREPARE))
def test_a_gradient_passes_though_the_transform_first_ran_in_inference_mode(name):
    transform = PREPARE[name](context(272))  # a width no other test has: what is worked out for it is kept
    with torch.inference_mode():
        transform(draw(2, 272))
    x = draw(2, 272).requires_grad_()
    transform(x).square().sum().backward()
    torch.testing.assert_close(x.grad, 2 * x.detach())  # an orthogonal map keeps lengths


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", list(PREPARE))
def test_the_matrix_is_orthogonal_and_the_weight_takes_the_same_one(name, width):
    transform = PREPARE[name](context(width, seed=3))
    dense = matrix(transform, width)
    assert (dense @ dense.T - torch.eye(width)).abs().max() < 1e-12
    weight = draw(3, width)
    torch.testing.assert_close(transform.fold(weight), weight @ dense)
    for dtype, tolerance in ((torch.float32, 1e-6), (torch.bfloat16, 1e-2)):
        x = draw(4, 7, width, seed=1).to(dtype)
        torch.testing.assert_close(
            transform(x).double(), x.double() @ dense, rtol=tolerance, atol=4 * tolerance
        )


# ---------------------------------------------------------------------------------------- regular Hadamard


@pytest.mark.parametrize("group", GROUPS)
def test_regular_every_row_and_column_has_the_sum_one_and_none_is_all_ones(group):
    dense = matrix(RegularHadamard(group), group)
    torch.testing.assert_close(dense.abs(), torch.full_like(dense, group**-0.5))
    for sums in (dense.sum(dim=0), dense.sum(dim=1)):
        torch.testing.assert_close(sums, torch.ones(group, dtype=torch.float64))
    assert bool((dense < 0).any(dim=0).all())
    assert bool((dense < 0).any(dim=1).all())


def test_regular_is_the_kronecker_power_of_the_smallest():
    smallest = np.array([[1, 1, 1, -1], [1, 1, -1, 1], [1, -1, 1, 1], [-1, 1, 1, 1]]) / 2
    dense = smallest
    for group in GROUPS:
        np.testing.assert_allclose(matrix(RegularHadamard(group), group).numpy(), dense, atol=1e-14)
        dense = np.kron(dense, smallest)


@pytest.mark.parametrize("group", [4, 16, 64])
def test_regular_groups_stay_apart(group):
    dense = matrix(prepare_regular(context(192, group=group)), 192)
    block = matrix(RegularHadamard(group), group)
    torch.testing.assert_close(dense, torch.block_diag(*[block] * (192 // group)))


def test_regular_keeps_a_common_offset_where_the_usual_matrix_makes_one_tall_channel():
    offset = torch.full((1, 64), 3.0, dtype=torch.float64)
    torch.testing.assert_close(RegularHadamard(64)(offset), offset)
    usual = offset @ torch.from_numpy(hadamard_matrix(64)) / 8
    assert float(usual.abs().max()) == pytest.approx(3 * 64**0.5)


def test_regular_takes_the_largest_group_that_divides_the_width():
    found = {width: prepare_regular(context(width)).group for width in (1, 6, 12, 588, 192, 768, 1024, 4096)}
    assert found == {1: 1, 6: 1, 12: 4, 588: 4, 192: 64, 768: 256, 1024: 256, 4096: 256}
    assert prepare_regular(context(768, group=16)).group == 16
    assert "nothing is mixed" in prepare_regular(context(6)).describe()
    for group in (8, 64, 3):
        with pytest.raises(RecipeError, match=rf"rotation_group {group} .*48.*\(fc\).*0, 4, 16"):
            prepare_regular(context(48, group=group))


# ------------------------------------------------------------------------------------------ block Hadamard


@given(seed=st.integers(0, 2**31), blocks=st.sampled_from([1, 2, 3, 6, 8]), each=st.integers(1, 12))
@settings(max_examples=40, deadline=None)
def test_dealing_gives_each_block_one_channel_of_every_round_of_outliers(seed, blocks, each):
    scores = draw(blocks * each, seed=seed).abs().float()
    order = deal(scores, blocks)
    assert sorted(order.tolist()) == list(range(blocks * each))
    rank = scores.argsort(descending=True).argsort()
    rounds = (rank[order] // blocks).reshape(blocks, each)
    assert bool((rounds == torch.arange(each)).all())
    # To and fro: over two rounds the ranks a block gets add up to the same in every block.
    sums = rank[order].reshape(blocks, each)[:, : each // 2 * 2].sum(dim=1)
    assert bool((sums == sums[0]).all())


@pytest.mark.parametrize(("width", "block"), [(192, 96), (768, 128), (588, 84), (64, 64), (256, 128), (7, 1)])
def test_blocks_are_the_largest_hadamard_orders_up_to_128(width, block):
    transform = prepare_block_hadamard(context(width, peaks=torch.rand(width)))
    assert transform.rotation.width == block
    assert Rotation(block).block == block
    if block == 1:
        assert "nothing is mixed" in transform.describe()


def test_block_the_matrix_is_a_permutation_and_one_rotation_for_all_blocks():
    peaks = draw(48, seed=2).abs().float()
    transform = prepare_block_hadamard(context(48, group=12, seed=5, peaks=peaks))
    permutation = torch.eye(48, dtype=torch.float64)[:, deal(peaks, 4)]
    expected = permutation @ torch.block_diag(*[Rotation(12, 5).matrix()] * 4)
    torch.testing.assert_close(matrix(transform, 48), expected)


def test_block_outliers_that_are_neighbours_end_in_different_blocks_and_their_peak_halves():
    x = draw(200, 64, seed=4).float()
    x[:, :4] *= 50
    peaks = x.abs().amax(dim=0)
    dealt = prepare_block_hadamard(context(64, group=16, peaks=peaks))
    assert [int(block.sum()) for block in (dealt.order < 4).reshape(4, 16)] == [1, 1, 1, 1]
    natural = Rotation(16, 0).apply(x.unflatten(-1, (4, 16))).flatten(-2)
    assert dealt(x).abs().amax(dim=1).mean() < 0.6 * natural.abs().amax(dim=1).mean()


def test_block_a_group_that_does_not_fit_and_missing_or_broken_calibration_are_refused():
    with pytest.raises(RecipeError, match=r"rotation_group 9 .*\(fc\).*0, 2, 4, 8, 12, 16, 24, 48"):
        prepare_block_hadamard(context(48, group=9, peaks=torch.ones(48)))
    with pytest.raises(RecipeError, match=r"needs calibration \(fc\)"):
        prepare_block_hadamard(context(48))
    with pytest.raises(NumericError, match="fc"):
        prepare_block_hadamard(context(48, peaks=torch.full((48,), float("inf"))))
    assert block_orders(45) == [1]


# ------------------------------------------------------------------------------------------------- cosines


@pytest.mark.parametrize("width", [1, 2, 3, 8, 13, 192, 588])
def test_cosines_are_scipys(width):
    x = draw(3, width, seed=width)
    np.testing.assert_allclose(
        cosine_transform(x).numpy(), scipy.fft.dct(x.numpy(), norm="ortho"), atol=1e-12
    )


@pytest.mark.parametrize("width", [4, 5, 36, 64])
def test_cosines_are_the_formula(width):
    whole = torch.arange(width, dtype=torch.float64)
    dense = torch.cos(torch.pi * (2 * whole + 1) * whole[:, None] / (2 * width)) * (2 / width) ** 0.5
    dense[0] /= 2**0.5
    torch.testing.assert_close(
        cosine_transform(torch.eye(width, dtype=torch.float64)), dense.T, atol=1e-12, rtol=0
    )


def test_cosines_and_hadamard_flatten_offsets_smooth_inputs_and_single_channels_alike():
    width = 256
    transform = CosineRotation(width, seed=1)
    smooth = torch.cos(torch.linspace(0, 3, width, dtype=torch.float64))
    single = torch.zeros(width, dtype=torch.float64)
    single[77] = 1
    for x in (torch.ones(width, dtype=torch.float64), smooth, single):
        share = float(transform(x).abs().max() / x.norm())
        assert share < 5 / width**0.5


def test_without_signs_between_them_hadamard_would_gather_what_cosines_spread():
    width = 256
    plain = torch.from_numpy(hadamard_matrix(width)) / width**0.5
    spread = cosine_transform(torch.eye(width, dtype=torch.float64))
    gathered = (spread @ plain).abs().amax(dim=1)
    signed = matrix(CosineRotation(width, seed=1), width).abs().amax(dim=1)
    assert float(gathered.max()) > 0.85
    assert float(signed.max()) < 0.4
    assert float(signed.mean()) < 0.6 * float(gathered.mean())


def test_a_width_without_a_hadamard_order_is_still_mixed_whole():
    dense = matrix(prepare_cosines(context(33)), 33)
    assert int((dense.abs() > 1e-9).sum(dim=1).min()) > 16
    assert "33" in prepare_cosines(context(33)).describe()
