"""Which blocks are fragile, and the scales whose exponent the result decides: against the definitions."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from quantlab.calibration.layer_data import LayerData
from quantlab.errors import NumericError, RecipeError
from quantlab.methods.mixed_precision import fragile_blocks, stays_quantized
from quantlab.methods.smoothing import SPREAD
from quantlab.methods.task_scales import EXPONENTS, prepare_task_scale, strength_divisor
from quantlab.methods.transforms import TransformContext


@given(
    values=st.lists(st.floats(0, 1e3), min_size=1, max_size=60),
    share=st.floats(0.001, 1.0),
)
def test_the_fragile_blocks_are_those_no_other_block_is_worse_than(values, share):
    sensitivity = {f"block {index}": value for index, value in enumerate(values)}
    kept = fragile_blocks(sensitivity, share)
    others = sensitivity.keys() - set(kept)
    assert len(kept) == max(1, round(share * len(values)))
    assert all(sensitivity[worst] >= sensitivity[other] for worst in kept for other in others)
    assert list(kept) == sorted(kept, key=lambda block: -sensitivity[block])


def test_the_paper_s_four_of_forty_eight_is_a_share_of_eight_percent():
    assert len(fragile_blocks({str(index): float(index) for index in range(48)}, 0.08)) == 4


def test_no_share_keeps_nothing_and_a_block_that_breaks_the_network_comes_first():
    assert fragile_blocks({"a": 1.0}, 0.0) == ()
    assert fragile_blocks({}, 0.5) == ()
    assert fragile_blocks({"a": 1.0, "b": math.inf, "c": 2.0}, 0.6) == ("b", "c")
    assert fragile_blocks({"a": 1.0, "b": math.nan, "c": math.inf}, 0.1) == ("b",)


def test_only_the_projection_of_the_attention_is_robust():
    assert [kind for kind in ("qkv", "proj", "fc1", "fc2", "conv", "other") if stays_quantized(kind)] == [
        "proj"
    ]


@pytest.mark.parametrize("exponent", EXPONENTS)
def test_scales_are_powers_of_the_mean_magnitude_up_to_a_common_factor(exponent):
    strength = torch.rand(40, generator=torch.Generator().manual_seed(1)) + 0.1
    divisor = strength_divisor(strength, exponent).double()
    naive = torch.tensor([value**exponent for value in strength.tolist()], dtype=torch.float64)
    torch.testing.assert_close(divisor / divisor[0], naive / naive[0], rtol=1e-5, atol=0)
    torch.testing.assert_close(
        divisor.log().mean(), torch.tensor(0.0, dtype=torch.float64), atol=1e-6, rtol=0
    )


def test_an_exponent_of_zero_changes_nothing_and_silent_channels_stay():
    assert torch.equal(strength_divisor(torch.tensor([1e-9, 3.0, 1e9]), 0.0), torch.ones(3))
    divisor = strength_divisor(torch.tensor([0.0, 1.0, 1e30]), 1.0)
    assert divisor[0] == 1
    assert divisor.max() <= SPREAD * 1.001


def context(data: LayerData | None) -> TransformContext:
    weight = torch.randn(5, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return TransformContext(weight, None, 0.5, 0, "layer", data)


def seen(rows: torch.Tensor) -> LayerData:
    return LayerData(rows, rows.abs().sum(dim=0), np.full(len(rows), 2, dtype=np.uint8))


def test_the_mean_over_sampled_tokens_counts_not_the_largest():
    rows = torch.tensor([[1.0, 0.0, 4.0], [1.0, 2.0, 4.0]])
    divisor = prepare_task_scale(context(seen(rows))).divisor
    torch.testing.assert_close(divisor[2] / divisor[0], torch.tensor(2.0))
    torch.testing.assert_close(divisor[1] / divisor[0], torch.tensor(1.0))


def test_a_layer_that_never_ran_is_left_alone():
    assert torch.equal(prepare_task_scale(context(seen(torch.zeros(0, 3)))).divisor, torch.ones(3))


def test_what_cannot_be_calibrated_is_refused():
    with pytest.raises(RecipeError, match="layer"):
        prepare_task_scale(context(None))
    with pytest.raises(NumericError, match="layer"):
        prepare_task_scale(context(seen(torch.full((2, 3), torch.nan))))
