"""Records of searches and of streamed values, in numpy, so that a figure can draw them. Free of torch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, eq=False)
class SearchTrace:
    """What a scale search visited, for every row that got a scale of its own.

    Attributes:
        base: float64 ``[rows]``, the scale the candidates are multiples of.
        multipliers: float64 ``[candidates]``, ascending.
        losses: float64 ``[rows, candidates]``; NaN where the search never looked.
        visits: int64 ``[evaluations, rows]``, the candidate each call of the objective was asked about, in
            order.
        best: int64 ``[rows]``, the candidate with the smallest visited loss (of equals, the one nearest the
            base).
        local: bool ``[rows]``, where the visited losses had more than one valley and the search looked on around
            the lowest of them.
    """

    base: NDArray[np.float64]
    multipliers: NDArray[np.float64]
    losses: NDArray[np.float64]
    visits: NDArray[np.int64]
    best: NDArray[np.int64]
    local: NDArray[np.bool_]

    @property
    def evaluations(self) -> int:
        """How often the objective was called (one call answers for all rows)."""
        return len(self.visits)

    @property
    def share(self) -> NDArray[np.float64]:
        """Of each row, the share of the candidates that were tried, ``[rows]``."""
        return np.asarray((~np.isnan(self.losses)).mean(axis=1), dtype=np.float64)

    @property
    def scale(self) -> NDArray[np.float32]:
        """The scales found, ``[rows]``."""
        return self._scales(self.best)

    @property
    def loss(self) -> NDArray[np.float64]:
        """The losses reached, ``[rows]``."""
        return self.losses[np.arange(len(self.base)), self.best]

    def visited(self, row: int = 0) -> list[tuple[float, float]]:
        """Each scale one row was tried with and its loss, in the order of the first visit."""
        order = dict.fromkeys(int(index) for index in self.visits[:, row])
        return [
            (float(self.base[row] * self.multipliers[index]), float(self.losses[row, index]))
            for index in order
        ]

    def _scales(self, index: NDArray[np.int64]) -> NDArray[np.float32]:
        return candidate_scales(self.base, self.multipliers[index])


MANTISSA_BITS = 4
"""Bins to a factor of two, as a power of two."""
LOWEST_EXPONENT, HIGHEST_EXPONENT = -40, 40
"""Magnitudes below ``2**LOWEST`` count as zero, those from ``2**HIGHEST`` in the outermost bin."""


def _bin_edges() -> NDArray[np.float64]:
    steps = 1 << MANTISSA_BITS
    exponents = np.arange(LOWEST_EXPONENT, HIGHEST_EXPONENT)[:, None]
    edges = np.append((np.exp2(exponents) * (1 + np.arange(steps) / steps)).ravel(), 2.0**HIGHEST_EXPONENT)
    signed = np.concatenate([-edges[::-1], edges])
    signed.setflags(write=False)
    return signed


BIN_EDGES = _bin_edges()
"""float64 ``[bins + 1]``, ascending and symmetric; the middle bin holds zero."""
BINS = len(BIN_EDGES) - 1
BIN_ERROR = 1 / (1 << MANTISSA_BITS)
"""A quantile of |x| read from the bins is off by at most this share of itself."""


@dataclass(frozen=True, slots=True, eq=False)
class Histogram:
    """How many values fell in each of the fixed signed bins, which grow geometrically away from zero.

    Attributes:
        counts: int64 ``[BINS]``. Bin i holds the values between ``edges[i]`` and ``edges[i + 1]``.
    """

    counts: NDArray[np.int64]

    @property
    def edges(self) -> NDArray[np.float64]:
        """The same for every histogram: `BIN_EDGES`."""
        return BIN_EDGES

    @property
    def total(self) -> int:
        """Number of values."""
        return int(self.counts.sum())

    def merged(self, other: Histogram) -> Histogram:
        """The histogram of both sets of values."""
        return Histogram(self.counts + other.counts)

    def magnitudes(self) -> NDArray[np.int64]:
        """Counts of |x|, int64 ``[BINS // 2 + 1]``; the first bin holds zero, its edges are 0 and
        ``2**LOWEST``.
        """
        middle = BINS // 2
        folded = self.counts[middle:].copy()
        folded[1:] += self.counts[:middle][::-1]
        return folded

    def quantile(self, share: float) -> float:
        """The magnitude that ``share`` of the values do not exceed, within `BIN_ERROR`; 0 without values.

        Raises:
            ValueError: ``share`` is not between 0 and 1.
        """
        if not 0 <= share <= 1:
            raise ValueError(f"a quantile lies between 0 and 1, not at {share}")
        counts = self.magnitudes()
        cumulative = np.cumsum(counts)
        if not cumulative[-1]:
            return 0.0
        rank = max(share * float(cumulative[-1]), 1.0)
        index = int(np.searchsorted(cumulative, rank - 1e-6))
        if index == 0:
            return 0.0
        low, high = BIN_EDGES[BINS // 2 + index], BIN_EDGES[BINS // 2 + index + 1]
        inside = (rank - float(cumulative[index - 1])) / float(counts[index])
        return float(low + (high - low) * min(max(inside, 0.0), 1.0))

    def share_above(self, magnitude: float) -> float:
        """The share of the values with |x| above ``magnitude``: what a range that wide clips."""
        counts = self.magnitudes()
        total = int(counts.sum())
        edges = np.concatenate([[0.0], BIN_EDGES[BINS // 2 + 1 :]])
        covered = np.interp(magnitude, edges, np.concatenate([[0], np.cumsum(counts)]))
        return float(1 - covered / total) if total else 0.0


@dataclass(frozen=True, slots=True)
class Moments:
    """Exact statistics of a set of values x.

    Attributes:
        count: Number of values.
        mean: Mean of x; 0 without values.
        std: Standard deviation of x (of the set, divided by the count).
        kurtosis: Pearson's, 3 for a normal distribution; 0 where the values are equal up to float32 rounding.
        max: Largest |x|.
    """

    count: int
    mean: float
    std: float
    kurtosis: float
    max: float


def candidate_scales(base: NDArray[np.float64], multipliers: NDArray[np.float64]) -> NDArray[np.float32]:
    """``base * multipliers`` as float32 scales that never underflow to zero nor overflow to infinity."""
    limits = np.finfo(np.float32)
    return np.clip(base * multipliers, float(limits.tiny), float(limits.max)).astype(np.float32)
