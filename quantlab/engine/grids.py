"""The grid a tensor is rounded on: its levels, what they clip and waste, and what clipping elsewhere would cost."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from quantlab.engine.views import ClipCurve
from quantlab.numerics.clip_error import StepCounts, candidate_shares, rounding_errors
from quantlab.numerics.formats import QuantSpec
from quantlab.numerics.ranges import Range
from quantlab.numerics.rounding import fake_quantize, quantize, to_rows

MANTISSA_BITS = 4
"""Bins to a factor of two, as a power of two: those of `quantlab.numerics.records`."""
_SHIFT, _SIGN = 23 - MANTISSA_BITS, 1 << (8 + MANTISSA_BITS)


def grid_facts(x: Tensor, spec: QuantSpec, chosen: Range) -> dict[str, Any]:
    """The grid of the widest scale, and what all scales together clip and waste: fields of a `LayerView`.

    Args:
        x: ``[rows, columns]``, before rounding.
        spec: Its format.
        chosen: Its scales.
    """
    scale, zero = _columns(chosen)
    values = to_rows(x, spec)
    low, high = (spec.low - zero) * scale, (spec.high - zero) * scale
    clipped = (values < low - scale / 2) | (values > high + scale / 2)
    used = torch.zeros(len(values), spec.high - spec.low + 1, dtype=torch.bool, device=x.device)
    codes = to_rows(quantize(x, *chosen, spec), spec).long() - spec.low
    used.scatter_(1, codes, torch.ones_like(codes, dtype=torch.bool))
    widest = int(scale.argmax())
    levels = (torch.arange(spec.low, spec.high + 1, device=x.device) - zero[widest]) * scale[widest]
    return {
        "grid": levels.float().cpu().numpy(),
        "clip_low": float(levels[0]),
        "clip_high": float(levels[-1]),
        "clipped_fraction": float(clipped.float().mean()),
        "wasted_levels": int((~used).sum(dim=1).median()),
        "clip": clip_curve(x, spec, chosen),
    }


def no_grid() -> dict[str, Any]:
    """The same fields of a tensor that is not rounded."""
    return {
        "grid": None,
        "clip_low": None,
        "clip_high": None,
        "clipped_fraction": 0.0,
        "wasted_levels": 0,
        "clip": None,
    }


def clip_curve(x: Tensor, spec: QuantSpec, chosen: Range) -> ClipCurve:
    """Predict the rounding error for every share of the ranges, and measure that of the ranges as they are.

    All scales are clipped to the same share of their own range, zero points stay.

    Args:
        x: ``[rows, columns]``, before rounding.
        spec: Its format.
        chosen: Its scales now.
    """
    counts = step_counts(x, spec, chosen)
    shares = candidate_shares(counts.reach)
    rounded = fake_quantize(x, *chosen, spec)
    size = float(x.double().norm())
    return ClipCurve(
        shares=shares,
        errors=rounding_errors(counts, shares),
        measured=float((x - rounded).double().norm()) / size if size else 0.0,
        kept=_kept(x, shares * float(chosen.scale.max()) * spec.high) if _one_range(spec, chosen) else None,
        scales=chosen.scale.numel(),
    )


def step_counts(x: Tensor, spec: QuantSpec, chosen: Range) -> StepCounts:
    """Count ``x`` in steps of its own scales, apart for each zero point, weighted with the squared scale."""
    scale, zero = _columns(chosen)
    steps = (to_rows(x, spec) / scale).float()
    zeros, group = zero.unique(return_inverse=True)
    # Sign, exponent and the first bits of the mantissa of a float32 number its geometric bin without a logarithm.
    bins = (steps.view(torch.int32) >> _SHIFT).long() & (2 * _SIGN - 1)
    index = (group.reshape(-1, 1) * (2 * _SIGN) + bins).reshape(-1)
    weights = scale.double().square().expand_as(steps).reshape(-1)
    mass = torch.bincount(index, weights, minlength=len(zeros) * 2 * _SIGN).cpu().numpy()
    filled = np.flatnonzero(mass)
    least, most = _extremes(steps, group.reshape(-1), len(zeros))
    start, end = _edges(filled % (2 * _SIGN))
    # No value lies beyond the extremes, though their bins reach further: that would be taken for clipping.
    start, end = np.maximum(start, least[filled // (2 * _SIGN)]), np.minimum(end, most[filled // (2 * _SIGN)])
    end = np.maximum(end, np.nextafter(start, np.inf) + 1e-9)
    points = zeros.cpu().numpy().astype(np.int64)[filled // (2 * _SIGN)]
    low, high = spec.low - zero, spec.high - zero
    ends = (
        steps.amax(dim=1, keepdim=True) / high.clamp(min=1),
        steps.amin(dim=1, keepdim=True) / low.clamp(max=-1),
    )
    return StepCounts(
        start,
        end,
        spec.low - points,
        spec.high - points,
        mass[filled],
        energy=float(x.double().square().sum()),
        reach=max(float(part.max()) for part in ends),
    )


def _columns(chosen: Range) -> tuple[Tensor, Tensor]:
    """Scales and zero points, one a row of `to_rows`."""
    scale = chosen.scale.reshape(-1, 1)
    zero = torch.zeros_like(scale) if chosen.zero_point is None else chosen.zero_point.reshape(-1, 1).float()
    return scale, zero


def _edges(bins: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper edge of numbered bins; those with the sign bit lie below zero."""
    first = (bins % _SIGN).astype(np.int32)
    near, far = ((first + step << _SHIFT).view(np.float32).astype(np.float64) for step in (0, 1))
    below = bins >= _SIGN
    return np.where(below, -far, near), np.where(below, -near, far)


def _extremes(steps: Tensor, group: Tensor, groups: int) -> tuple[np.ndarray, np.ndarray]:
    """The smallest and the largest of the values in each group of rows."""
    empty = torch.zeros(groups, device=steps.device)
    least = empty.scatter_reduce(0, group, steps.amin(dim=1), "amin", include_self=False)
    most = empty.scatter_reduce(0, group, steps.amax(dim=1), "amax", include_self=False)
    return least.double().cpu().numpy(), most.double().cpu().numpy()


def _one_range(spec: QuantSpec, chosen: Range) -> bool:
    """Whether the range is one number: then a percentile of all magnitudes says where it ends."""
    return spec.symmetric and chosen.scale.numel() == 1


def _kept(x: Tensor, ends: np.ndarray) -> np.ndarray:
    size = x.abs().flatten().sort().values
    inside = torch.searchsorted(size, torch.from_numpy(ends).to(size), right=True)
    return np.asarray((inside.double() / max(1, len(size))).cpu().numpy(), np.float64)
