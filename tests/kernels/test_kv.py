"""Stand-ins that round keys and values inside an attention, against the attention written out by hand."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from quantlab.kernels.kv import RoundedKeys, RoundedProjection, SpecialTokens, special_tokens
from quantlab.methods.kv import KVFormat, round_heads
from quantlab.models.layers import Attention
from quantlab.models.rotary import frame_tables, rotate

HEADS, WIDTH = 2, 16
SPECIALS = 3


@pytest.fixture
def tables():
    return frame_tables(2, 3, SPECIALS, WIDTH // HEADS, torch.float32, torch.device("cpu"))


def attention(*, normed: bool) -> Attention:
    torch.manual_seed(0)
    made = Attention(WIDTH, HEADS, qk_norm=normed).eval()
    if normed:
        nn.init.uniform_(made.k_norm.weight, 0.2, 3)
    return made


def rounding(module: Attention, chosen: KVFormat, *, normed: bool) -> Attention:
    """The attention with stand-ins, as the engine puts them in."""
    made, special = copy.deepcopy(module), SpecialTokens()
    made.register_forward_pre_hook(special.note, with_kwargs=True)
    if normed:
        made.k_norm = RoundedKeys(made.k_norm, chosen, HEADS, special, "k")
    parts = (2,) if normed else (1, 2)
    made.qkv = RoundedProjection(made.qkv, chosen, HEADS, special, "qkv", parts=parts, count=3)
    return made


def by_hand(module: Attention, x: Tensor, tables, chosen: KVFormat) -> Tensor:
    """Keys are rounded behind their norm and before the rotary position, head by head."""
    batch, tokens, _ = x.shape
    query, key, value = module.qkv(x).view(batch, tokens, 3, HEADS, -1).unbind(2)
    query, key = module.q_norm(query), module.k_norm(key)
    special = torch.arange(tokens) < SPECIALS
    key, value = (round_heads(part, chosen, special=special) for part in (key, value))
    query, key, value = (part.transpose(1, 2) for part in (query, key, value))
    mixed = F.scaled_dot_product_attention(rotate(query, tables), rotate(key, tables), value)
    return module.proj(mixed.transpose(1, 2).reshape(x.shape))


@pytest.mark.parametrize("normed", [True, False])
@pytest.mark.parametrize("protect", [True, False])
@pytest.mark.parametrize("rotation", ["none", "hadamard"])
def test_attention_runs_on_rounded_keys_and_values(normed, protect, rotation, tables):
    module, chosen = attention(normed=normed), KVFormat(3, rotation, protect=protect, seed=2)
    x = torch.randn(2, 9, WIDTH)
    with torch.no_grad():
        result = rounding(module, chosen, normed=normed)(x, tables)
        torch.testing.assert_close(result, by_hand(module, x, tables, chosen))
        assert not torch.allclose(result, module(x, tables), atol=1e-3)


def test_special_tokens_are_those_at_position_zero(tables):
    expected = torch.arange(9) < SPECIALS
    assert torch.equal(special_tokens((torch.zeros(2, 9, 16), tables)), expected)
    twice = special_tokens((tables.repeat(2),))
    assert torch.equal(twice, expected.repeat(2))
    positions = torch.cat(
        (torch.zeros(3, 2), torch.cartesian_prod(torch.arange(1, 3), torch.arange(1, 4)))
    ).long()
    assert torch.equal(special_tokens((positions[None],)), expected[None])
    assert special_tokens((torch.zeros(2, 9, 16), None)) is None


def test_an_attention_that_is_told_no_positions_protects_nothing():
    module, x = attention(normed=False), torch.randn(1, 9, WIDTH)
    results = [rounding(module, KVFormat(3, protect=protect), normed=False)(x) for protect in (True, False)]
    assert torch.equal(*results)


@pytest.mark.parametrize("shape", [(2, HEADS, 5, 8), (2, 5, HEADS, 8), (2, 5, 16)])
def test_keys_may_come_with_heads_before_or_behind_the_tokens_or_not_split(shape):
    x, chosen = torch.randn(shape), KVFormat(3, "hadamard")
    result = RoundedKeys(nn.Identity(), chosen, HEADS, SpecialTokens(), "k")(x)
    tokens_first = x.transpose(1, 2) if shape[1] == HEADS else x.reshape(2, 5, HEADS, 8)
    rounded = round_heads(tokens_first, chosen)
    expected = rounded.transpose(1, 2) if shape[1] == HEADS else rounded.reshape(shape)
    assert torch.equal(result, expected)


def test_names_inside_a_stand_in_are_reached_and_queries_stay_bit_for_bit():
    layer = nn.Linear(WIDTH, 3 * WIDTH)
    wrapped = RoundedProjection(layer, KVFormat(2), HEADS, SpecialTokens(), "qkv", parts=(1, 2), count=3)
    x = torch.randn(2, 5, WIDTH)
    assert wrapped.weight is layer.weight
    assert wrapped.out_features == 3 * WIDTH
    assert torch.equal(wrapped(x)[..., :WIDTH], layer(x)[..., :WIDTH])
    assert not torch.allclose(wrapped(x)[..., WIDTH:], layer(x)[..., WIDTH:])
