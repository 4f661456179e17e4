"""A format checks itself, and states who shares a scale. No rounding here."""

from __future__ import annotations

import math
from dataclasses import FrozenInstanceError, fields

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantlab.errors import RecipeError
from quantlab.numerics.formats import GRANULARITIES, QuantSpec, group_length, scale_shape


@given(st.integers(2, 8))
def test_symmetric_codes_fill_the_two_complement_range(bits):
    spec = QuantSpec(bits=bits, symmetric=True)
    assert spec.high - spec.low + 1 == 2**bits
    assert spec.low + spec.high == -1


@given(st.integers(2, 8))
def test_asymmetric_codes_count_from_zero(bits):
    spec = QuantSpec(bits=bits, symmetric=False)
    assert (spec.low, spec.high) == (0, 2**bits - 1)


@pytest.mark.bad_input
@pytest.mark.parametrize("bits", [1, 9, 16, 0, -4, True, 8.0, "8", None, math.nan, math.inf, [8], 10**400])
def test_bits_outside_their_bounds_or_type_are_refused_by_name_and_value(bits):
    with pytest.raises(RecipeError) as caught:
        QuantSpec(bits=bits)
    assert "bits" in caught.value.problem
    assert repr(bits)[:20] in caught.value.problem
    assert "2 to 8" in caught.value.remedy


@pytest.mark.bad_input
@pytest.mark.parametrize(
    "settings",
    [
        {"symmetric": 1},
        {"symmetric": "yes"},
        {"granularity": "row"},
        {"granularity": None},
        {"granularity": ["channel"]},
        {"group_size": -1},
        {"group_size": 4097},
        {"group_size": False},
    ],
)
def test_every_other_field_refuses_what_it_does_not_know(settings):
    (name,) = settings
    with pytest.raises(RecipeError) as caught:
        QuantSpec(**settings)
    assert name in caught.value.problem
    assert caught.value.remedy


def test_every_field_states_bounds_and_help_that_its_default_meets():
    for entry in fields(QuantSpec):
        assert entry.metadata["help"].endswith(".")
        assert "choices" in entry.metadata or entry.metadata["low"] <= entry.default <= entry.metadata["high"]
    assert QuantSpec() == QuantSpec()


@pytest.mark.parametrize("entry", [e for e in fields(QuantSpec) if "low" in e.metadata], ids=lambda e: e.name)
def test_bounds_are_inclusive_and_end_where_they_say(entry):
    for edge, beyond in ((entry.metadata["low"], -1), (entry.metadata["high"], 1)):
        assert getattr(QuantSpec(**{entry.name: edge}), entry.name) == edge
        with pytest.raises(RecipeError):
            QuantSpec(**{entry.name: edge + beyond})


def test_a_format_cannot_be_changed_after_its_check():
    with pytest.raises((FrozenInstanceError, TypeError, AttributeError)):
        QuantSpec().bits = 99  # type: ignore[misc]


@pytest.mark.parametrize(
    ("granularity", "shape"), [("tensor", ()), ("channel", (6,)), ("token", (6, 4)), ("group", (6, 4, 2))]
)
def test_scale_shapes_follow_the_table(granularity, shape):
    assert scale_shape((6, 4, 10), QuantSpec(granularity=granularity, group_size=5)) == shape


@given(width=st.integers(1, 600), size=st.integers(1, 600))
def test_a_group_size_passes_exactly_when_it_divides_and_otherwise_a_divisor_is_offered(width, size):
    spec = QuantSpec(granularity="group", group_size=size)
    if width % size == 0:
        assert group_length((3, width), spec) == size
        return
    with pytest.raises(RecipeError) as caught:
        group_length((3, width), spec, place="blocks.0.fc1")
    assert caught.value.place == "blocks.0.fc1"
    offered = int(caught.value.remedy.split()[1].rstrip(","))
    assert width % offered == 0
    assert offered < size


def test_group_size_zero_is_the_whole_row():
    assert scale_shape((3, 7), QuantSpec(granularity="group", group_size=0)) == (3, 1)


@pytest.mark.parametrize("granularity", [g for g in GRANULARITIES if g != "tensor"])
def test_a_single_number_has_no_channels_tokens_or_groups(granularity):
    with pytest.raises(RecipeError, match=granularity):
        scale_shape((), QuantSpec(granularity=granularity))
