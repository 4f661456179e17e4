"""The record of a scale search, as numpy arrays that a figure can draw. Free of torch: figures import it."""

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
    """

    base: NDArray[np.float64]
    multipliers: NDArray[np.float64]
    losses: NDArray[np.float64]
    visits: NDArray[np.int64]
    best: NDArray[np.int64]

    @property
    def evaluations(self) -> int:
        """How often the objective was called (one call answers for all rows)."""
        return len(self.visits)

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


def candidate_scales(base: NDArray[np.float64], multipliers: NDArray[np.float64]) -> NDArray[np.float32]:
    """``base * multipliers`` as float32 scales that never underflow to zero nor overflow to infinity."""
    limits = np.finfo(np.float32)
    return np.clip(base * multipliers, float(limits.tiny), float(limits.max)).astype(np.float32)
