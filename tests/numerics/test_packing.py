"""Packing loses nothing, takes the bytes it states, and refuses what does not fit."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from quantlab.errors import NumericError, RecipeError
from quantlab.numerics.formats import GRANULARITIES, QuantSpec
from quantlab.numerics.packing import pack, packed_bytes, unpack
from quantlab.numerics.ranges import minmax_range
from quantlab.numerics.rounding import quantize

BITS = st.integers(2, 8)


def all_codes(spec: QuantSpec, *shape: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    codes = torch.randint(spec.low, spec.high + 1, shape, generator=generator)
    return codes.to(torch.int8 if spec.symmetric else torch.uint8)


@settings(max_examples=60, deadline=None)
@given(
    bits=BITS,
    symmetric=st.booleans(),
    rows=st.integers(0, 4),
    width=st.integers(0, 9),
    seed=st.integers(0, 999),
)
def test_unpacking_returns_the_codes_whatever_the_format_and_width(bits, symmetric, rows, width, seed):
    spec = QuantSpec(bits=bits, symmetric=symmetric)
    codes = all_codes(spec, rows, width, seed=seed)
    packed = pack(codes, spec)
    back = unpack(packed, spec, width)
    assert back.dtype == codes.dtype
    assert torch.equal(back, codes)
    assert packed.numel() * packed.element_size() == rows * (-(-width // 2) if bits <= 4 else width)


def test_the_first_of_two_codes_lies_in_the_lower_half_and_an_odd_row_ends_in_zeros():
    spec = QuantSpec(bits=4)
    packed = pack(torch.tensor([[1, -8, -1]], dtype=torch.int8), spec)
    assert packed.dtype == torch.uint8
    assert packed.tolist() == [[0x81, 0x0F]]


def test_every_four_bit_code_survives():
    for symmetric in (True, False):
        spec = QuantSpec(bits=4, symmetric=symmetric)
        codes = torch.arange(spec.low, spec.high + 1).to(torch.int8 if symmetric else torch.uint8)
        assert torch.equal(unpack(pack(codes, spec), spec, 16), codes)


@pytest.mark.parametrize(("bits", "code"), [(4, 8), (4, -9), (2, 2), (3, -5), (7, 64)])
def test_a_code_outside_the_format_is_refused_instead_of_wrapping(bits, code):
    with pytest.raises(NumericError, match=str(code)):
        pack(torch.tensor([0, code], dtype=torch.int8), QuantSpec(bits=bits))


@pytest.mark.parametrize(("bits", "bytes_", "width"), [(4, 3, 4), (4, 3, 7), (8, 3, 4)])
def test_rows_of_the_wrong_length_are_refused(bits, bytes_, width):
    with pytest.raises(NumericError, match=f"do not hold {width}"):
        unpack(torch.zeros(2, bytes_, dtype=torch.uint8), QuantSpec(bits=bits), width)


@settings(max_examples=40, deadline=None)
@given(
    bits=BITS, symmetric=st.booleans(), granularity=st.sampled_from(GRANULARITIES), width=st.integers(1, 4)
)
def test_stated_bytes_are_those_of_the_tensors_that_would_be_stored(bits, symmetric, granularity, width):
    weight = torch.randn(3, 2, 3 * width, generator=torch.Generator().manual_seed(1))
    spec = QuantSpec(bits=bits, symmetric=symmetric, granularity=granularity, group_size=3)
    scale, zero_point = minmax_range(weight, spec)
    stored = [pack(quantize(weight, scale, zero_point, spec), spec), scale]
    if zero_point is not None:
        stored.append(zero_point.to(torch.uint8))
    assert packed_bytes(weight.shape, spec) == sum(t.numel() * t.element_size() for t in stored)


def test_a_weight_that_is_kept_takes_two_bytes_a_value():
    assert packed_bytes((3, 5), None) == 30


def test_a_group_size_that_divides_nothing_has_no_size():
    with pytest.raises(RecipeError, match="group_size"):
        packed_bytes((3, 10), QuantSpec(granularity="group", group_size=4))
