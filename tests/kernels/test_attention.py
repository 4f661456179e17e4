"""Attention cores against attention in float64, and how a network gets one of its own."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from quantlab.errors import RecipeError
from quantlab.kernels import attention as table
from quantlab.kernels import native, native_attention
from quantlab.kernels.attention import ATTENTIONS, EXACT, use_attention, why_not
from quantlab.models import layers
from quantlab.models.layers import Attention, Block
from quantlab.models.rotary import RotaryTables, frame_tables

HALF = 2.0**-8
"""The largest relative error of rounding to bfloat16, twice over."""
needs_native = pytest.mark.skipif(bool(native_attention.absent()), reason=native_attention.absent())


@pytest.fixture(params=["", "avx512"], ids=["best", "avx512"])
def switch(request, monkeypatch):
    monkeypatch.setenv(native.SWITCH, request.param)
    return request.param


def values(*shape, seed=0, dtype=torch.bfloat16):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def in_float64(query, key, value):
    parts = (part.bfloat16().double().transpose(1, 2) for part in (query, key, value))
    return F.scaled_dot_product_attention(*parts).transpose(1, 2)


def distance(found, expected):
    return float((found.double() - expected.double()).norm() / expected.double().norm())


def an_attention(channels=32, heads=3, *, qk_norm=True, narrow=False, seed=0):
    torch.manual_seed(seed)
    made = (
        Attention(channels * heads, heads, qk_norm=qk_norm, narrow_rotary=narrow).eval().requires_grad_(False)
    )
    if qk_norm:
        for norm in (made.q_norm, made.k_norm):
            norm.weight.normal_(1.0, 0.5)
            norm.bias.normal_(0.0, 0.5)
    return made


@needs_native
@pytest.mark.parametrize("channels", native_attention.CHANNELS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("queries", "keys"), [(1, 1), (33, 33), (5, 300), (200, 64), (161, 257)])
def test_native_attention_is_exact_but_for_rounding_to_bfloat16(
    switch, channels, dtype, queries, keys
) -> None:
    query = values(2, queries, 3, channels, dtype=dtype)
    key, value = (values(2, keys, 3, channels, seed=seed, dtype=dtype) for seed in (1, 2))
    found = native_attention.attend(query, key, value)
    assert found.dtype == dtype
    assert found.is_contiguous()
    assert distance(found, in_float64(query, key, value)) < HALF


@needs_native
@given(
    tokens=st.integers(16, 90),
    channels=st.sampled_from(native_attention.TURNING),
    heads=st.integers(1, 4),
    qk_norm=st.booleans(),
    narrow=st.booleans(),
    rotates=st.booleans(),
    seed=st.integers(0, 2**31),
)
@settings(deadline=None, max_examples=25)
def test_norms_and_rotation_are_those_of_torch(
    tokens, channels, heads, qk_norm, narrow, rotates, seed
) -> None:
    attention = an_attention(channels, heads, qk_norm=qk_norm, narrow=narrow, seed=seed)
    qkv = values(2, tokens, 3, heads, channels, seed=seed, dtype=torch.float32)
    tables = frame_tables(1, tokens - 5, 5, channels, torch.float32, qkv.device) if rotates else None
    assert native_attention.knows(attention, qkv, tables)
    found = native_attention.native_core(attention, qkv, tables)
    assert distance(found, attention.mix(qkv, tables)) < 2 * HALF


@needs_native
def test_large_scores_neither_overflow_nor_vanish(switch) -> None:
    query, key, value = values(1, 100, 3, 2, 64, dtype=torch.float32).mul(60).unbind(2)
    assert distance(native_attention.attend(query, key, value), in_float64(query, key, value)) < HALF
    far = torch.full_like(query, -1e15)
    equal = native_attention.attend(far, -far, value)
    assert torch.allclose(
        equal, value.bfloat16().float().mean(1, keepdim=True).expand_as(equal), rtol=0.02, atol=0.3
    )


@needs_native
@pytest.mark.parametrize("part", [0, 1, 2], ids=["query", "key", "value"])
@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_nan_and_infinity_spoil_what_they_spoil_in_float64(switch, part, number) -> None:
    parts = list(values(1, 290, 3, 2, 64).unbind(2))
    parts[part] = parts[part].clone()
    parts[part][0, 270, 1, 7] = number
    expected = in_float64(*parts).isfinite()
    assert not expected.all()
    assert torch.equal(native_attention.attend(*parts).isfinite(), expected)


@needs_native
def test_threads_and_shares_change_no_bit() -> None:
    parts = values(1, 700, 3, 2, 64).unbind(2)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        alone = native_attention.attend(*parts)
        torch.set_num_threads(3)
        assert torch.equal(native_attention.attend(*parts), alone)
    finally:
        torch.set_num_threads(threads)


@needs_native
def test_values_are_read_where_the_projection_wrote_them() -> None:
    qkv = values(2, 50, 3, 4, 32)
    copied = native_attention.attend(*(part.contiguous() for part in qkv.unbind(2)))
    assert torch.equal(native_attention.attend(*qkv.unbind(2)), copied)


@needs_native
def test_what_c_does_not_know_is_left_to_torch() -> None:
    qkv = values(1, 40, 3, 3, 32, dtype=torch.float32)
    attention = an_attention()
    attention.k_norm = torch.nn.Sequential(attention.k_norm)
    assert not native_attention.knows(attention, qkv, None)
    assert distance(native_attention.native_core(attention, qkv, None), attention.mix(qkv, None)) < 2 * HALF
    odd = values(1, 40, 3, 3, 20, dtype=torch.float32)
    plain = an_attention(20, qk_norm=False)
    assert torch.equal(native_attention.native_core(plain, odd, None), plain.mix(odd, None))
    with torch.enable_grad():
        learns = qkv.clone().requires_grad_()
        assert native_attention.native_core(an_attention(), learns, None).requires_grad


@pytest.mark.parametrize("name", list(ATTENTIONS))
def test_an_attention_of_the_table_is_right_or_says_why_not(name) -> None:
    why = why_not(name, 32)
    if why:
        assert not why.endswith(".")
        return
    attention, qkv = an_attention(), values(1, 77, 3, 3, 32)
    tables = frame_tables(8, 9, 5, 32, torch.float32, qkv.device)
    expected = attention.mix(qkv.float(), tables)
    assert distance(ATTENTIONS[name](attention.bfloat16(), qkv, tables), expected) < 2 * EXACT


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (lambda mixed: mixed * 1.02, "wrong on random data"),
        (lambda mixed: mixed * torch.nan, "wrong on random data"),
        (lambda mixed: mixed.nan_to_num(), "answers a NaN with a number"),
        (lambda mixed: mixed.unknown, "fails on a trial"),
    ],
    ids=["wrong", "nothing", "silent", "fails"],
)
def test_a_wrong_attention_is_not_used(monkeypatch, answer, reason) -> None:
    class Broken:
        def absent(self) -> str:
            return ""

        def __call__(self, attention, qkv, rotary):
            return answer(ATTENTIONS["torch"](attention, qkv, rotary))

    monkeypatch.setitem(ATTENTIONS._entries, "broken", Broken())
    block = Block(96, 3)
    try:
        assert reason in why_not("broken", 32)
        assert use_attention(block, "broken", compute="bfloat16") == "torch"
        assert use_attention(block, compute="bfloat16") != "broken"
    finally:
        table._wrong.cache_clear()
        table._fastest.cache_clear()


@pytest.mark.parametrize("forgotten", ["norms", "rotation"])
def test_an_attention_that_forgets_what_stands_before_the_products_is_not_used(
    monkeypatch, forgotten
) -> None:
    class Forgetful:
        def absent(self) -> str:
            return ""

        def __call__(self, attention, qkv, rotary):
            bare = Block(attention.heads * attention.channels, attention.heads).attn
            own = bare if forgotten == "norms" else attention
            return ATTENTIONS["torch"](own, qkv, None if forgotten == "rotation" else rotary)

    monkeypatch.setitem(ATTENTIONS._entries, "forgetful", Forgetful())
    try:
        assert "wrong on random data" in why_not("forgetful", 32)
    finally:
        table._wrong.cache_clear()


def test_one_network_has_an_attention_of_its_own(monkeypatch) -> None:
    mine, other = Block(96, 3).eval(), Block(96, 3).eval()
    use_attention(mine, "torch", compute="bfloat16")
    assert mine.attn.core is ATTENTIONS["torch"]
    assert other.attn.core is None
    assert copy.deepcopy(mine).attn.core is not None
    calls = []
    original = layers.scaled_dot_product_attention
    monkeypatch.setattr(
        layers, "scaled_dot_product_attention", lambda *parts: calls.append(1) or original(*parts)
    )
    with torch.no_grad():
        mine(values(1, 20, 96, dtype=torch.float32))
    assert calls == [1]
    use_attention(mine, "torch")
    assert mine.attn.core is None


def test_float32_keeps_the_products_of_torch_unless_told_otherwise() -> None:
    block = Block(96, 3)
    assert use_attention(block) == "torch"
    assert block.attn.core is None


def test_a_few_tokens_are_for_torch() -> None:
    qkv = values(1, table.FEW - 1, 3, 3, 32, dtype=torch.float32)
    attention = an_attention()
    assert torch.equal(ATTENTIONS["native"](attention, qkv, None), attention.mix(qkv, None))


def test_without_a_library_the_reason_is_given_and_torch_taken(monkeypatch) -> None:
    monkeypatch.setenv(native.SWITCH, "0")
    assert native.SWITCH in why_not("native", 32)
    assert use_attention(Block(96, 3), "native", compute="bfloat16") == "torch"


@pytest.mark.bad_input
def test_an_unknown_attention_is_refused_with_the_known_ones() -> None:
    with pytest.raises(RecipeError, match="unknown attention 'flash'"):
        use_attention(Block(96, 3), "flash")


def test_tables_of_other_tokens_are_not_read_by_c() -> None:
    attention, qkv = an_attention(), values(1, 40, 3, 3, 32)
    tables = RotaryTables(torch.ones(1, 40, 32), torch.zeros(1, 40, 32))
    assert not native_attention.knows(attention, qkv, tables)
