"""Rounded keys and values: against loops over tokens and heads, and what rotation and protection promise."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import hadamard
from torch import Tensor

from quantlab.errors import NumericError
from quantlab.methods.kv import KVFormat, heads_per_group, rotate_heads, round_heads, unrotate_heads


def heads(
    *, seed: int = 0, tokens: int = 11, count: int = 6, channels: int = 8, outlier: float = 1.0
) -> Tensor:
    x = torch.randn(2, tokens, count, channels, generator=torch.Generator().manual_seed(seed))
    x[..., 3] *= outlier
    return x


def naive(x: Tensor, bits: int) -> Tensor:
    """Asymmetric rounding of each token and head by itself, in plain Python numbers."""
    out, top = x.clone(), 2**bits - 1
    for index in torch.cartesian_prod(*(torch.arange(size) for size in x.shape[:-1])):
        where = tuple(index.tolist())
        row = x[where].tolist()
        low, high = min(*row, 0.0), max(*row, 0.0)
        step = (high - low) / top
        zero = round(-low / step)
        codes = [min(max(round(value / step) + zero, 0), top) for value in row]
        out[where] = torch.tensor([(code - zero) * step for code in codes])
    return out


def error(x: Tensor, chosen: KVFormat) -> float:
    return float((round_heads(x, chosen) - x).square().sum())


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_each_token_and_head_is_rounded_by_itself(bits):
    x = heads(seed=bits)
    torch.testing.assert_close(round_heads(x, KVFormat(bits)), naive(x, bits))


@pytest.mark.parametrize("bits", [2, 4])
def test_rounding_in_a_rotated_basis_is_rounding_of_the_product_with_its_matrix(bits):
    x, chosen = heads(), KVFormat(bits, "hadamard", seed=5)
    # The matrix of a group, from the definition: random signs, then Sylvester's matrix over two heads of 8.
    signs = torch.randint(0, 2, (16,), generator=torch.Generator().manual_seed(5)) * 2 - 1
    matrix = torch.diag(signs.double()) @ torch.from_numpy(hadamard(16) / 4.0)
    turned = (x.double().reshape(2, 11, 3, 16) @ matrix).reshape(x.shape)
    back = (naive(turned, bits).reshape(2, 11, 3, 16) @ matrix.T).reshape(x.shape)
    torch.testing.assert_close(round_heads(x.double(), chosen), back, atol=1e-5, rtol=1e-5)


@given(
    count=st.integers(1, 9),
    channels=st.sampled_from([1, 3, 8, 12, 32]),
    seed=st.integers(0, 2**31),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)
@settings(max_examples=20, deadline=None)
def test_rotation_alone_changes_nothing(count, channels, seed, dtype):
    x = heads(count=count, channels=max(channels, 4), seed=seed, outlier=20).to(dtype)
    chosen = KVFormat(16, "hadamard", seed=seed)
    assert round_heads(x, chosen).dtype == dtype
    torch.testing.assert_close(round_heads(x, chosen), x, atol=1e-4, rtol=1e-5)
    turned = rotate_heads(x, chosen)
    torch.testing.assert_close(turned.norm(), x.norm())
    torch.testing.assert_close(unrotate_heads(turned, chosen), x, atol=1e-4, rtol=1e-5)


def test_scores_do_not_change_when_queries_and_keys_are_rotated_alike():
    query, key = heads(seed=1).transpose(-3, -2), heads(seed=2).transpose(-3, -2)
    chosen = KVFormat(16, "hadamard", seed=3)
    groups = heads_per_group(6)
    pair = [rotate_heads(x.transpose(-3, -2), chosen).unflatten(-2, (-1, groups)) for x in (query, key)]
    expected = [x.transpose(-3, -2).unflatten(-2, (-1, groups)) for x in (query, key)]
    # Within a group only the sum over its heads is kept: that is why the inverse is taken before attention.
    torch.testing.assert_close((pair[0] * pair[1]).sum((-1, -2)), (expected[0] * expected[1]).sum((-1, -2)))


def test_sixteen_bits_without_rotation_is_the_very_tensor():
    x = heads()
    assert round_heads(x, KVFormat(16)) is x


@pytest.mark.parametrize("rotation", ["none", "hadamard"])
def test_the_error_falls_as_bits_rise(rotation):
    x = heads(tokens=64, channels=32)
    errors = [error(x, KVFormat(bits, rotation)) for bits in (2, 3, 4, 5, 6, 7, 8)]
    # One bit more halves the step, and so quarters the error as long as there are enough steps.
    assert all(more < less / 2 for less, more in itertools.pairwise(errors))


def test_rotation_spreads_an_outlier_channel_that_ruins_plain_rounding():
    x = heads(tokens=64, channels=32, outlier=30)
    assert error(x, KVFormat(3, "hadamard")) < error(x, KVFormat(3)) / 2


@pytest.mark.parametrize("rotation", ["none", "hadamard"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_protected_tokens_are_exact_and_the_others_as_without_protection(rotation, dtype):
    x = heads().to(dtype)
    special = torch.zeros(11, dtype=torch.bool)
    special[[0, 4]] = True
    kept = round_heads(x, KVFormat(2, rotation, protect=True), special=special)
    plain = round_heads(x, KVFormat(2, rotation), special=special)
    assert kept.dtype == dtype
    assert torch.equal(kept[:, special], x[:, special])
    assert not torch.equal(plain[:, special], x[:, special])
    assert torch.equal(kept[:, ~special], plain[:, ~special])
    assert torch.equal(round_heads(x, KVFormat(2, rotation, protect=True)), plain)


def test_a_group_is_a_power_of_two_of_at_most_four_heads():
    assert [heads_per_group(count) for count in (1, 2, 3, 4, 6, 12, 16)] == [1, 2, 1, 4, 2, 4, 4]


def test_arguments_are_left_alone_and_nothing_is_rounded_where_there_are_no_tokens():
    x = heads()
    copy = x.clone()
    round_heads(x, KVFormat(2, "hadamard"))
    assert torch.equal(x, copy)
    assert round_heads(x[:, :0], KVFormat(2, "hadamard")).shape == (2, 0, 6, 8)


def test_a_nan_is_named():
    x = heads()
    x[0, 0, 0, 0] = torch.nan
    with pytest.raises(NumericError, match="keys of attn"):
        round_heads(x, KVFormat(4), place="keys of attn")
