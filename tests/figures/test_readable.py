"""Numbers as people read them: digits in groups that never break over a line."""

from __future__ import annotations

import pytest

from quantlab.figures.readable import counted


@pytest.mark.parametrize(
    ("count", "told"), [(0, "0"), (999, "999"), (7288, "7\u202f288"), (1_234_567, "1\u202f234\u202f567")]
)
def test_long_numbers_stand_in_groups_of_three(count, told):
    assert counted(count) == told
