"""Choice of scale and zero point for a tensor: min-max, percentile, or searched. It rounds nothing."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from quantlab.errors import NumericError, RecipeError
from quantlab.numerics.finite import FLOAT32_MAX, FLOAT32_TINY, require_values
from quantlab.numerics.formats import QuantSpec, scale_shape
from quantlab.numerics.records import SearchTrace
from quantlab.numerics.rounding import fake_quantize, to_rows, working_dtype
from quantlab.numerics.search import SCALE_SEARCHES, TAPTQ_MULTIPLIERS, search_scale

RANGE_SEARCHES = ("minmax", "percentile", *SCALE_SEARCHES)
RowLoss = Callable[[Tensor], Tensor]
"""Takes a tensor after rounding, in its own shape, and returns a loss for each scale, each of its own scale alone."""


class Range(NamedTuple):
    """What `quantize` needs besides the tensor; unpacks into its arguments.

    Attributes:
        scale: float32, finite and positive, of shape ``scale_shape(x.shape, spec)``: the value of one step.
        zero_point: int32 of the same shape, the code of 0; None for a symmetric format.
    """

    scale: Tensor
    zero_point: Tensor | None


def choose_range(
    x: Tensor, spec: QuantSpec, *, search: str = "minmax", percentile: float = 99.9, place: str = ""
) -> Range:
    """Choose scales (and zero points) of ``x`` by one of `RANGE_SEARCHES`; ``percentile`` matters to that one
    only.

    Raises:
        RecipeError: Unknown ``search``, ``percentile`` outside (0, 100], or ``group_size`` divides nothing.
        NumericError: ``x`` is empty, holds NaN or infinity, or is too large for a float32 scale.
    """
    if search == "minmax":
        return minmax_range(x, spec, place=place)
    if search == "percentile":
        return percentile_range(x, spec, percentile=percentile, place=place)
    if search in SCALE_SEARCHES:
        return search_range(x, spec, search=search, place=place)[0]
    raise RecipeError(
        f"unknown range search {search!r}", place=place, remedy=f"Use one of: {', '.join(RANGE_SEARCHES)}."
    )


def minmax_range(x: Tensor, spec: QuantSpec, *, place: str = "") -> Range:
    """Cover every value: ``max|x| / (2**(bits-1) - 1)``, or the span of the values and 0 over ``2**bits -
    1``.

    A row of zeros gets scale 1, so that it stays zeros. The scale is float32 whatever ``x`` is, because that
    of a small float16 row underflows in float16, and at least the smallest normal number.

    Raises:
        NumericError: ``x`` is empty, holds NaN or infinity, or is too large for a float32 scale.
        RecipeError: ``group_size`` does not divide the last dimension.

    Source:
        Jacob et al. 2018 (arXiv:1712.05877), section 2.1; for symmetric formats with zero point 0.
    """
    require_values(x, place=place)
    rows = to_rows(x, spec, place=place)
    shape = scale_shape(x.shape, spec)
    if spec.symmetric:
        return Range(_symmetric_scale(rows.abs().amax(dim=1), spec, place).reshape(shape), None)
    scale, zero_point = _asymmetric(rows.amin(dim=1), rows.amax(dim=1), spec, place)
    return Range(scale.reshape(shape), zero_point.reshape(shape))


def clipped(chosen: Range, share: Tensor | float) -> Range:
    """The scales that cover ``share`` of the range: one number, or one per output channel (``[out]``).

    A zero point stays: both ends of the range move alike.
    """
    if isinstance(share, Tensor) and chosen.scale.dim() > share.dim():
        share = share[:, None]
    return Range(chosen.scale * share, chosen.zero_point)


def percentile_range(x: Tensor, spec: QuantSpec, *, percentile: float = 99.9, place: str = "") -> Range:
    """Cover ``percentile`` percent of the magnitudes (symmetric), or as much at either end (asymmetric); clip
    the rest.

    The percentile is the value of the nearest rank, per scale. A row whose percentile is 0 but which is not
    all zeros falls back to min-max: clipping would erase it.

    Raises:
        As `choose_range`.
    """
    if isinstance(percentile, bool) or not 0 < percentile <= 100:
        raise RecipeError(
            f"percentile cannot be {percentile!r}", place=place, remedy="Use a number over 0, up to 100."
        )
    require_values(x, place=place)
    rows = to_rows(x, spec, place=place).to(working_dtype(x))
    shape = scale_shape(x.shape, spec)
    # A thousandth of a rank absorbs the rounding of percentile / 100: 99.9 % of 1000 values is rank 999.
    rank = max(1, math.ceil(percentile / 100 * rows.shape[1] - 1e-3))
    if spec.symmetric:
        size = rows.abs()
        peak = size.amax(dim=1)
        _require_float32(peak, place)
        limit = size.kthvalue(rank, dim=1).values
        return Range(_symmetric_scale(torch.where(limit > 0, limit, peak), spec, place).reshape(shape), None)
    low, high = rows.amin(dim=1), rows.amax(dim=1)
    _require_float32(torch.maximum(low.abs(), high.abs()), place)
    lower = rows.kthvalue(rows.shape[1] + 1 - rank, dim=1).values
    upper = rows.kthvalue(rank, dim=1).values
    usable = (lower < 0) | (upper > 0)
    low, high = torch.where(usable, lower, low), torch.where(usable, upper, high)
    scale, zero_point = _asymmetric(low, high, spec, place)
    return Range(scale.reshape(shape), zero_point.reshape(shape))


def search_range(
    x: Tensor, spec: QuantSpec, *, search: str = "ternary", loss: RowLoss | None = None, place: str = ""
) -> tuple[Range, SearchTrace]:
    """Search the scale of each row for the smallest ``loss``; None: the mean squared rounding error of ``x`` itself.

    Candidates are those of TAPTQ around ``max|x| / (2**(bits-1) - 0.5)`` and the min-max scale, so that the
    result is never worse than min-max; zero points stay as min-max sets them. The trace counts in multiples
    of the min-max scale.

    Raises:
        As `choose_range`.

    Source:
        TAPTQ (arXiv:2602.01741), interval search; its objectives are `quantlab.methods.objectives`.
    """
    start = minmax_range(x, spec, place=place)
    rows = to_rows(x, spec).to(working_dtype(x))
    zero_point = None if start.zero_point is None else start.zero_point.reshape(-1, 1)
    buffers = torch.empty_like(rows), torch.empty_like(rows)

    def objective(scale: Tensor) -> Tensor:
        if loss is None:
            return _mean_squared_error(rows, scale, zero_point, spec, buffers)
        return loss(fake_quantize(x, scale, start.zero_point, spec))

    ratio = spec.high / (spec.high + 0.5) if spec.symmetric else 1.0
    multipliers = np.union1d(TAPTQ_MULTIPLIERS * ratio, 1.0)
    base = start.scale.reshape(-1)
    trace = search_scale(objective, base, search=search, multipliers=multipliers, place=place)
    scale = torch.from_numpy(trace.scale).to(x.device).reshape(start.scale.shape)
    return Range(scale, start.zero_point), trace


def round_to_nearest(x: Tensor, spec: QuantSpec, *, place: str = "") -> Tensor:
    """``x`` after rounding with its own min-max scales: RTN, and dynamic quantization of activations.

    Raises:
        As `minmax_range`.
    """
    scale, zero_point = minmax_range(x, spec, place=place)
    return fake_quantize(x, scale, zero_point, spec)


def _symmetric_scale(peak: Tensor, spec: QuantSpec, place: str) -> Tensor:
    """Scales ``[rows]`` that put ``peak`` on the largest code."""
    _require_float32(peak, place)
    scale = (peak.to(working_dtype(peak)) / spec.high).to(torch.float32)
    scale = scale.clamp_(FLOAT32_TINY, _highest_scale(spec.high))
    return scale.masked_fill_(peak == 0, 1.0)


def _asymmetric(low: Tensor, high: Tensor, spec: QuantSpec, place: str) -> tuple[Tensor, Tensor]:
    """Scales and zero points ``[rows]`` of a range that always contains 0, so that 0 is exact."""
    _require_float32(torch.maximum(low.abs(), high.abs()), place)
    low, high = low.clamp(max=0).double(), high.clamp(min=0).double()
    scale = ((high - low) / spec.high).to(torch.float32).clamp_(FLOAT32_TINY)
    scale.masked_fill_(high == low, 1.0)
    zero_point = (-low / scale).round().clamp(0, spec.high)
    # Near the largest float32 the outermost code may stand for infinity: then the step shrinks, and the end
    # clips.
    reach = torch.maximum(zero_point, spec.high - zero_point).to(torch.float32)
    limit = torch.nextafter(FLOAT32_MAX / reach, torch.zeros_like(reach))
    return torch.minimum(scale, limit), zero_point.to(torch.int32)


def _require_float32(peak: Tensor, place: str) -> None:
    """One look at the largest magnitude finds NaN, infinity and what no float32 scale can hold."""
    largest = float(peak.detach().max())
    if largest <= FLOAT32_MAX:
        return
    if math.isfinite(largest):
        raise NumericError(
            f"{largest:.3g} is beyond float32", place=place, remedy="Scale the tensor down first."
        )
    kind = "NaN" if math.isnan(largest) else "an infinity"
    raise NumericError(
        f"{kind} has no range", place=place, remedy="Find the weight or the layer that made it."
    )


def _highest_scale(high: int) -> float:
    """The largest float32 whose product with ``high`` is still finite."""
    scale = np.float32(FLOAT32_MAX / high)
    with np.errstate(over="ignore"):
        return float(np.nextafter(scale, np.float32(0)) if np.isinf(scale * np.float32(high)) else scale)


def _mean_squared_error(
    rows: Tensor, scale: Tensor, zero_point: Tensor | None, spec: QuantSpec, buffers: tuple[Tensor, Tensor]
) -> Tensor:
    """Loss ``[rows]`` in float64; errors are squared in units of a step, where nothing overflows."""
    steps, codes = buffers
    torch.div(rows, scale.reshape(-1, 1), out=steps)
    torch.round(steps, out=codes)
    if zero_point is None:
        codes.clamp_(spec.low, spec.high)
    else:
        codes.add_(zero_point).clamp_(spec.low, spec.high).sub_(zero_point)
    error: Tensor = torch.linalg.vector_norm(codes.sub_(steps), dim=1).double() * scale.double()
    return error.square() / rows.shape[1]
