"""The input of kernel "fp8" as codes: finite and near for rows of any size. The product itself needs a GPU."""

from __future__ import annotations

import pytest
import torch

from quantlab.kernels.fp8 import LARGEST, SMALLEST, row_codes

HALF_STEP = 2.0**-4
"""Of a number with three bits behind the point."""


@pytest.mark.parametrize("exponent", [-149, -141, -140, -138, -130, -118, -20, 0, 100, 127])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_row_of_any_size_becomes_finite_codes_near_it(exponent, dtype):
    torch.manual_seed(0)
    rows = ((2 * torch.rand(64, 32) - 1).double() * 2.0**exponent).to(dtype)
    codes, scale = row_codes(rows)
    assert (scale >= SMALLEST).all()
    held = codes.double() * scale.double()
    assert torch.isfinite(held).all()
    # Below the normal numbers of the format its step is fixed, 2 ** -9.
    bound = torch.maximum(HALF_STEP * rows.double().abs(), 2.0**-10 * scale.double())
    assert ((held - rows.double()).abs() <= bound * (1 + 1e-6)).all()
    assert (codes.float().abs() <= LARGEST).all()


def test_a_row_of_zeros_stays_zeros_and_one_with_a_nan_or_an_infinity_holds_a_nan():
    rows = torch.tensor([[0.0, 0.0], [1.0, float("nan")], [float("inf"), 1.0]])
    codes, _ = row_codes(rows)
    assert torch.equal(codes[0].float(), torch.zeros(2))
    assert codes[1:].float().isnan().any(dim=1).all()
