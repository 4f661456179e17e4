"""The twin uniform quantizer of a GELU's output: one step for each side of zero. It runs no network.

Format: a signed code of ``b`` bits whose sign bit is the side, so that packing sees ordinary codes. Codes 0 to
2^(b-1) - 1 count positive steps, codes -1 to -2^(b-1) negative ones; the lowest is GELU's own minimum. An integer
kernel multiplies the two sides apart: s+ (max(q, 0) W^T) + s- (min(q, 0) W^T).
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from quantlab.numerics.finite import FLOAT32_TINY, require_finite
from quantlab.numerics.formats import QuantSpec, scale_shape
from quantlab.numerics.ranges import RowLoss
from quantlab.numerics.records import SearchTrace
from quantlab.numerics.rounding import to_rows, working_dtype
from quantlab.numerics.search import SCALE_SEARCHES, TAPTQ_MULTIPLIERS, search_scale

GELU_MINIMUM = 0.16997
"""How far the exact (erf) GELU reaches below zero."""


def negative_scale(bits: int) -> float:
    """The step below zero, fixed: the lowest of 2^(bits-1) codes is the minimum of GELU."""
    return float(GELU_MINIMUM / (1 << (bits - 1)))


def positive_scale(x: Tensor, spec: QuantSpec, *, place: str = "") -> Tensor:
    """The step above zero that covers the largest value, float32 of ``scale_shape(x.shape, spec)``.

    1 where nothing is positive. Raises NumericError where ``x`` holds a NaN or an infinity.
    """
    require_finite(x, place=place)
    peak = to_rows(x, spec, place=place).amax(dim=1).clamp(min=0)
    scale = (peak.to(working_dtype(x)) / _highest(spec)).to(torch.float32).clamp(min=FLOAT32_TINY)
    return scale.masked_fill(peak == 0, 1.0).reshape(scale_shape(x.shape, spec))


def twin_codes(x: Tensor, scale: Tensor, spec: QuantSpec) -> Tensor:
    """int8 codes of the shape of ``x``: the sign says which step they count."""
    return _codes(x, scale, spec).to(torch.int8).reshape(x.shape)


def twin_values(codes: Tensor, scale: Tensor, spec: QuantSpec) -> Tensor:
    """float32 values that codes stand for."""
    return _values(to_rows(codes, spec).float(), scale, spec).reshape(codes.shape)


def twin_quantize(x: Tensor, scale: Tensor, spec: QuantSpec) -> Tensor:
    """``x`` ``[..., n]`` after rounding with the positive steps ``scale`` and the fixed negative one; same dtype.

    Values below GELU's minimum are clipped to it.

    Source:
        PTQ4ViT (arXiv:2111.12293), section 3.1; with the constants of TAPTQ (arXiv:2602.01741). That the scale above
        zero may be dynamic per token is our reading.
    """
    return _values(_codes(x, scale, spec), scale, spec).reshape(x.shape).to(x.dtype)


def twin_range(
    x: Tensor,
    spec: QuantSpec,
    *,
    search: str = "minmax",
    loss: RowLoss | None = None,
    place: str = "",
) -> tuple[Tensor, SearchTrace | None]:
    """The positive step of a static twin quantizer; searched for with ``search`` "grid" or "ternary".

    Args:
        x: Sampled inputs ``[n, in]``.
        spec: Of granularity "tensor".
        search: Any other name covers the largest value.
        loss: Of the rounded ``x``; None: its own mean squared error.
        place: Named in errors.
    """
    start = positive_scale(x, spec, place=place)
    if search not in SCALE_SEARCHES:
        return start, None

    def own(rounded: Tensor) -> Tensor:
        return to_rows((rounded - x).double().square(), spec).mean(dim=1)

    judge = loss or own
    trace = search_scale(
        lambda scale: judge(twin_quantize(x, scale.reshape(start.shape), spec)),
        start.reshape(-1),
        search=search,
        multipliers=np.union1d(TAPTQ_MULTIPLIERS, 1.0),
        place=place,
    )
    return torch.from_numpy(trace.scale).to(x.device).reshape(start.shape), trace


def _highest(spec: QuantSpec) -> int:
    return (1 << (spec.bits - 1)) - 1


def _codes(x: Tensor, scale: Tensor, spec: QuantSpec) -> Tensor:
    rows = to_rows(x, spec).to(working_dtype(x))
    above = torch.round(rows / scale.reshape(-1, 1)).clamp(0, _highest(spec))
    below = torch.round(rows / negative_scale(spec.bits)).clamp(-(1 << (spec.bits - 1)), 0)
    return torch.where(rows > 0, above, below)


def _values(codes: Tensor, scale: Tensor, spec: QuantSpec) -> Tensor:
    return codes * torch.where(codes > 0, scale.reshape(-1, 1), codes.new_tensor(negative_scale(spec.bits)))
