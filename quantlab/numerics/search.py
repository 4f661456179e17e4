"""Search for the scale with the smallest loss among fixed candidates: exhaustive, or ternary around the best
of a few probes. It does not know what the loss measures.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from quantlab.errors import NumericError, RecipeError
from quantlab.numerics.records import SearchTrace, candidate_scales

SCALE_SEARCHES = ("grid", "ternary")
PROBES = 10
MOST_SHARE = 0.3
"""Of the candidates a ternary search tries no larger share, however many valleys it meets."""
VALLEY = 1e-3
"""A loss that much above a neighbour further out, relatively, is a hill between two valleys."""
TAPTQ_MULTIPLIERS: NDArray[np.float64] = 0.01 + np.arange(101) * (2.0 - 0.01) / 100
TAPTQ_MULTIPLIERS.setflags(write=False)

Objective = Callable[[Tensor], Tensor]
_Indices = NDArray[np.int64]
_Losses = NDArray[np.float64]


def search_scale(
    loss: Objective,
    base: Tensor,
    *,
    search: str = "ternary",
    multipliers: NDArray[np.float64] = TAPTQ_MULTIPLIERS,
    place: str = "",
) -> SearchTrace:
    """Find the multiple of ``base`` with the smallest loss.

    The ternary search first probes about ten spread candidates and the one nearest the base, then narrows the
    bracket around the best: the plain search of the paper loses the optimum where the loss has two valleys. Where
    what it saw still has more than one, it looks on beside the lowest candidates, until `MOST_SHARE` are tried.

    Args:
        loss: Takes float32 scales of the shape of ``base`` and returns as many losses, each of its own scale
            alone. Infinity is a loss; NaN is not.
        base: Positive scales, ``[]`` or ``[rows]``.
        search: "grid" tries every candidate, "ternary" a fifth of them, or up to `MOST_SHARE`.
        multipliers: The candidates over ``base``, ascending and positive; by default those of TAPTQ.
        place: Named in an error.

    Returns:
        Every visited candidate with its loss, and the best of each row.

    Raises:
        RecipeError: Unknown ``search``.
        NumericError: The objective returned a NaN.

    Source:
        TAPTQ (arXiv:2602.01741), interval search; the probes and the local search are ours.
    """
    if search not in SCALE_SEARCHES:
        raise RecipeError(
            f"unknown search {search!r}", place=place, remedy=f"Use one of: {', '.join(SCALE_SEARCHES)}."
        )
    table = _Table(loss, base, multipliers, place)
    if search == "grid":
        for candidate in range(len(multipliers)):
            table.visit_everywhere(candidate)
    else:
        left, right = _bracket(table)
        _narrow(table, left, right)
        _look_on(table)
    return table.trace()


class _Table:
    """The losses known so far; asks the objective only for what is not known."""

    def __init__(self, loss: Objective, base: Tensor, multipliers: NDArray[np.float64], place: str) -> None:
        self._loss = loss
        self._like = base
        self._place = place
        self.base = base.detach().to("cpu", torch.float64).reshape(-1).numpy()
        self.multipliers = multipliers
        self.rows = np.arange(len(self.base))
        self.losses: _Losses = np.full((len(self.base), len(multipliers)), np.nan)
        self.visits: list[_Indices] = []
        self.local = np.zeros(len(self.base), dtype=np.bool_)

    def visit(self, index: _Indices) -> _Losses:
        """Losses of one candidate per row."""
        if np.isnan(self.losses[self.rows, index]).any():
            self.losses[self.rows, index] = self._ask(index)
            self.visits.append(index.copy())
        return self.losses[self.rows, index]

    def visit_everywhere(self, candidate: int) -> None:
        """The same candidate for every row."""
        self.visit(np.full(len(self.rows), candidate))

    def best(self) -> _Indices:
        """The visited candidate with the smallest loss; of equals the one nearest the base."""
        known = np.where(np.isnan(self.losses), np.inf, self.losses)
        smallest = (known == known.min(axis=1, keepdims=True)) & ~np.isnan(self.losses)
        return np.asarray(
            np.where(smallest, np.abs(self.multipliers - 1), np.inf).argmin(axis=1), dtype=np.int64
        )

    def trace(self) -> SearchTrace:
        visits = np.array(self.visits, dtype=np.int64).reshape(-1, len(self.rows))
        return SearchTrace(self.base, self.multipliers, self.losses, visits, self.best(), self.local)

    def _ask(self, index: _Indices) -> _Losses:
        scales = torch.from_numpy(candidate_scales(self.base, self.multipliers[index]))
        answer = self._loss(scales.to(self._like.device).reshape(self._like.shape))
        losses = answer.detach().to("cpu", torch.float64).reshape(-1).numpy()
        if len(losses) != len(self.rows):
            raise ValueError(f"the objective returned {len(losses)} losses for {len(self.rows)} scales")
        if np.isnan(losses).any():
            raise NumericError("the loss of a scale is NaN", place=self._place, remedy="Check its inputs.")
        return losses


def _bracket(table: _Table) -> tuple[_Indices, _Indices]:
    """Probe spread candidates; return the probed neighbours of the best one, per row."""
    last = len(table.multipliers) - 1
    home = int(np.abs(table.multipliers - 1).argmin())
    probes = np.unique(np.append(np.linspace(0, last, min(PROBES, last + 1)).round().astype(np.int64), home))
    for probe in probes:
        table.visit_everywhere(int(probe))
    position = np.searchsorted(probes, table.best())
    return probes[np.maximum(position - 1, 0)], probes[np.minimum(position + 1, len(probes) - 1)]


def _narrow(table: _Table, left: _Indices, right: _Indices) -> None:
    """Ternary search, each row in its own ``left..right``, until at most three candidates remain."""
    while (active := right - left > 2).any():
        third = (right - left) // 3
        resting = table.best()  # a row that is done asks for what it already knows
        lower, upper = np.where(active, left + third, resting), np.where(active, right - third, resting)
        rises_left = table.visit(lower) > table.visit(upper)
        left = np.where(active & rises_left, lower, left)
        right = np.where(active & ~rises_left, upper, right)
    # The ends are known; so is this, unless the bracket began so narrow.
    table.visit(np.minimum(left + 1, right))


def _look_on(table: _Table) -> None:
    """Where there is more than one valley: try candidates beside the lowest known ones, as far as the budget goes."""
    table.local = _hilly(table.losses)
    budget = int(MOST_SHARE * len(table.multipliers))
    while True:
        active = table.local & ((~np.isnan(table.losses)).sum(axis=1) < budget)
        if not active.any():
            return
        guess = np.where(np.isnan(table.losses), _between(table.losses), np.inf)
        table.visit(np.where(active, guess.argmin(axis=1), table.best()))


def _hilly(losses: _Losses) -> NDArray[np.bool_]:
    """Whether the known losses of each row rise anywhere on the way to the best one, from either side."""
    known = np.where(np.isnan(losses), np.inf, losses)
    best = known.argmin(axis=1)[:, None]
    place = np.arange(losses.shape[1])[None]
    outer = np.minimum.accumulate(known, axis=1), np.minimum.accumulate(known[:, ::-1], axis=1)[:, ::-1]
    limit = np.where(place < best, outer[0], outer[1])
    return np.asarray((np.where(np.isnan(losses), -np.inf, losses) > limit * (1 + VALLEY)).any(axis=1))


def _between(losses: _Losses) -> _Losses:
    """What each row's losses would be on straight lines between the known ones; the first and last are known."""
    known = ~np.isnan(losses)
    place = np.arange(losses.shape[1])[None]
    left = np.maximum.accumulate(np.where(known, place, 0), axis=1)
    right = np.minimum.accumulate(np.where(known, place, losses.shape[1])[:, ::-1], axis=1)[:, ::-1]
    finite = np.minimum(losses, 1e300)  # an infinity has no slope
    low, high = np.take_along_axis(finite, left, axis=1), np.take_along_axis(finite, right, axis=1)
    return np.asarray(low + (high - low) * ((place - left) / np.maximum(right - left, 1)))
