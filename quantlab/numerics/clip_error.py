"""What rounding would cost if ranges were clipped elsewhere, in closed form from a histogram. Numpy; it rounds nothing.

A value v, counted in steps of its own scale, rounds to the nearest code k between ``low`` and ``high``. Where values
lie evenly in a bin, their mean squared error is the mean of (t - k(t))² over it, and that integral has a closed form:
a whole cell gives 1/12, what is left of the last one (t - k)³/3, and beyond the last code k stays and the same cubic
is the clipping error. A share s of the range shrinks every step to s of it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

SHARES = 96
LEAST_SHARE = 0.02


@dataclass(frozen=True, slots=True, eq=False)
class StepCounts:
    """Values in steps of their own scale, counted in bins; scales may differ from row to row.

    Attributes:
        start: float64 ``[bins]``, lower edge of each bin, in steps.
        end: float64 ``[bins]``, its upper edge.
        low: int64 ``[bins]``, the lowest code the values of the bin can take, the zero point taken off.
        high: int64 ``[bins]``, the highest.
        mass: float64 ``[bins]``, the squared scales of the values in it, summed.
        energy: The sum of all squared values.
        reach: The smallest share of the ranges that clips nothing.
    """

    start: NDArray[np.float64]
    end: NDArray[np.float64]
    low: NDArray[np.int64]
    high: NDArray[np.int64]
    mass: NDArray[np.float64]
    energy: float
    reach: float


def rounding_errors(counts: StepCounts, shares: ArrayLike) -> NDArray[np.float64]:
    """|x - x_hat| / |x| in the Frobenius norm, predicted for each share of the ranges: float64 ``[shares]``.

    Args:
        counts: The values.
        shares: Positive; 1 leaves the ranges, 0.5 halves them and every step with them.
    """
    if not counts.energy > 0:
        return np.zeros(len(np.atleast_1d(shares)))
    squared = [
        share**2 * float(counts.mass @ _mean_squared(counts, share))
        for share in np.atleast_1d(shares).tolist()
    ]
    return np.asarray(np.sqrt(np.maximum(squared, 0.0) / counts.energy), np.float64)


def candidate_shares(reach: float) -> NDArray[np.float64]:
    """Shares worth showing, ascending, with 1 among them: from where almost all is clipped to where nothing is."""
    top = max(reach, 1.0)
    return np.union1d(np.geomspace(LEAST_SHARE, top, SHARES), 1.0)


def _mean_squared(counts: StepCounts, share: float) -> NDArray[np.float64]:
    """In squared steps, of values that are even within each bin; ``[bins]``."""
    start, end = counts.start / share, counts.end / share
    area = _antiderivative(end, counts.low, counts.high) - _antiderivative(start, counts.low, counts.high)
    return np.asarray(area / (end - start), np.float64)


def _antiderivative(
    at: NDArray[np.float64], low: NDArray[np.int64], high: NDArray[np.int64]
) -> NDArray[np.float64]:
    """The integral of (t - k(t))² from 0: k / 12 for the whole cells passed, and the cubic of what is left."""
    code = np.clip(np.rint(at), low, high)
    return np.asarray(code / 12 + (at - code) ** 3 / 3, np.float64)
