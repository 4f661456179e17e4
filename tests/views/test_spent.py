"""Where a pass goes: shares that add up, times on the scale of the median pass, nothing where nothing was timed."""

from __future__ import annotations

import pytest

from quantlab.engine.measurement import Measurement
from quantlab.engine.spent import KINDS
from quantlab.views.spent import WORDS, spent


def measured(**changes):
    kinds = {"linears": 0.01, "rounding": 0.002, "attention": 0.008}
    full = {"linears": 0.06, "rounding": 0.0, "attention": 0.02}
    return Measurement(0.04, 0.1, None, 3, 1, 2, **{"kinds": kinds, "full_kinds": full, **changes})


def test_every_kind_that_is_timed_has_its_words():
    assert set(WORDS) == set(KINDS)


def test_shares_add_up_and_times_are_of_the_median_pass():
    found = spent(measured())
    assert [column["label"] for column in found["columns"]] == ["as executed", "full precision"]
    assert [column["width"] for column in found["columns"]] == [0.4, 1.0]
    for place in range(2):
        assert sum(row["cells"][place]["share"] for row in found["rows"]) == pytest.approx(1, abs=1e-3)
    linear = next(row for row in found["rows"] if row["kind"] == "linears")
    assert linear["cells"][0] == {"share": 0.5, "told": "20 ms", "part": "50 %"}


def test_a_kind_that_takes_no_time_in_either_pass_has_no_row():
    assert [row["kind"] for row in spent(measured())["rows"]] == ["linears", "rounding", "attention"]


def test_nothing_is_shown_where_nothing_was_timed():
    assert spent(None) == {}
    assert spent(measured(full_kinds={})) == {}
