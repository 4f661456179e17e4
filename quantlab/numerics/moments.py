"""Mean, variance and kurtosis of values that stream by, merged stably in float64. No quantiles: they need a
histogram.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from quantlab.numerics.records import Moments

_Vector = NDArray[np.float64]
_ROUNDING = 1e-6  # a spread below this share of the largest value is float32 rounding, not a spread
_SAFE = (1e-8, 1e8)  # magnitudes whose fourth powers float32 holds


class StreamingMoments:
    """Central moments up to the fourth, and the largest magnitude, per token kind.

    Args:
        kinds: Number of token kinds.

    Source:
        Pébay 2008 (SAND2008-6212), formulas for merging central moments.
    """

    def __init__(self, kinds: int = 1) -> None:
        self._sums = np.zeros((5, kinds))  # count, mean, then sums of the 2nd to 4th powers of deviations
        self._max = np.zeros(kinds)

    def update(self, tokens: Tensor, kinds: Tensor | None = None, *, token_max: Tensor | None = None) -> None:
        """Add a batch of finite values.

        Args:
            tokens: Floating ``[tokens, channels]``.
            kinds: Integers ``[tokens]``, the kind of each; None: all of kind 0.
            token_max: Largest magnitude of each token, where it is known already.
        """
        if tokens.numel() == 0:
            return
        peaks = (tokens.abs().amax(dim=1) if token_max is None else token_max).double().cpu().numpy()
        codes = (
            np.zeros(len(peaks), dtype=np.int64) if kinds is None else kinds.cpu().numpy().astype(np.int64)
        )
        parts = _token_moments(tokens.detach(), float(peaks.max()))
        self._add(_grouped(parts, codes, len(self._max)))
        np.maximum.at(self._max, codes, peaks)

    def merge(self, other: StreamingMoments) -> None:
        """Add what another one of as many kinds has seen."""
        self._add(other._sums)
        self._max = np.maximum(self._max, other._max)

    def record(self, kind: int | None = None) -> Moments:
        """The moments of one kind, or of all together."""
        if kind is None:
            together = np.zeros(self._sums.shape[1], dtype=np.int64)
            return _record(_grouped(self._sums, together, 1)[:, 0], float(self._max.max()))
        return _record(self._sums[:, kind], float(self._max[kind]))

    def _add(self, sums: _Vector) -> None:
        kinds = np.tile(np.arange(sums.shape[1]), 2)
        self._sums = _grouped(np.concatenate([self._sums, sums], axis=1), kinds, sums.shape[1])


def _token_moments(tokens: Tensor, peak: float) -> _Vector:
    """Count, mean and central sums of every token, float64 ``[5, tokens]``."""
    narrow = tokens.dtype != torch.float64 and (peak == 0 or _SAFE[0] < peak < _SAFE[1])
    x = tokens.to(torch.float32 if narrow else torch.float64)
    mean = x.mean(dim=1)
    deviation = x - mean[:, None]
    square = deviation * deviation
    second, third = square.sum(dim=1), torch.linalg.vecdot(square, deviation)
    fourth = torch.linalg.vecdot(square, square)
    count = torch.full_like(mean, x.shape[1])
    return torch.stack([count, mean, second, third, fourth]).double().cpu().numpy()


def _grouped(parts: _Vector, groups: NDArray[np.int64], total: int) -> _Vector:
    """Merge the columns of ``parts`` ``[5, n]`` that belong to one group: ``[5, total]``."""

    def add(values: _Vector) -> _Vector:
        return np.bincount(groups, weights=values, minlength=total).astype(np.float64, copy=False)

    n, mean, m2, m3, m4 = parts
    count = add(n)
    # weights before products, so that a mean of huge values does not overflow
    share = n / np.maximum(count, 1)[groups]
    centre = add(share * mean)
    shift = mean - centre[groups]
    second = add(m2 + n * shift**2)
    third = add(m3 + 3 * shift * m2 + n * shift**3)
    fourth = add(m4 + 4 * shift * m3 + 6 * shift**2 * m2 + n * shift**4)
    return np.stack([count, centre, second, third, fourth])


def _record(sums: _Vector, peak: float) -> Moments:
    count, mean, second, _, fourth = (float(value) for value in sums)
    if not count:
        return Moments(0, 0.0, 0.0, 0.0, 0.0)
    variance = second / count
    spread = variance > (_ROUNDING * peak) ** 2
    kurtosis = fourth / count / variance**2 if spread and variance**2 > 0 else 0.0
    return Moments(int(count), mean, variance**0.5, kurtosis, peak)
