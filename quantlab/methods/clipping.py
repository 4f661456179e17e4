"""Range search: how much of the tails a scale covers, for weights and static activations. It rounds nothing."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from quantlab.errors import RecipeError
from quantlab.numerics.formats import QuantSpec
from quantlab.numerics.ranges import Range, RowLoss, minmax_range, percentile_range, search_range
from quantlab.numerics.records import SearchTrace
from quantlab.registry import Registry


class RangeSearch(Protocol):
    """Chooses the scales of a tensor; the trace is None where nothing was searched."""

    def __call__(
        self, x: Tensor, spec: QuantSpec, *, percentile: float, place: str, loss: RowLoss | None = None
    ) -> tuple[Range, SearchTrace | None]:
        """Choose; errors as `quantlab.numerics.ranges.choose_range`.

        Args:
            x: ``[rows, columns]``.
            spec: The format.
            percentile: Matters to that search only.
            place: Named in errors.
            loss: What a search minimises; None: the squared rounding error of ``x`` itself.
        """


RANGES: Registry[RangeSearch] = Registry("range search", RecipeError)


@RANGES.register("minmax")
def cover_all(
    x: Tensor, spec: QuantSpec, *, percentile: float, place: str, loss: RowLoss | None = None
) -> tuple[Range, None]:
    """Clip nothing (neither ``percentile`` nor ``loss`` matters)."""
    del percentile, loss
    return minmax_range(x, spec, place=place), None


@RANGES.register("percentile")
def cover_most(
    x: Tensor, spec: QuantSpec, *, percentile: float, place: str, loss: RowLoss | None = None
) -> tuple[Range, None]:
    """Cover ``percentile`` percent of the magnitudes under each scale."""
    del loss
    return percentile_range(x, spec, percentile=percentile, place=place), None


@RANGES.register("grid")
def search_all(
    x: Tensor, spec: QuantSpec, *, percentile: float, place: str, loss: RowLoss | None = None
) -> tuple[Range, SearchTrace]:
    """The scale of smallest loss among 102 candidates, all of them tried."""
    del percentile
    return search_range(x, spec, search="grid", loss=loss, place=place)


@RANGES.register("ternary")
def search_ternary(
    x: Tensor, spec: QuantSpec, *, percentile: float, place: str, loss: RowLoss | None = None
) -> tuple[Range, SearchTrace]:
    """The same candidates, about a quarter of them tried.

    Source:
        TAPTQ (arXiv:2602.01741), interval search.
    """
    del percentile
    return search_range(x, spec, search="ternary", loss=loss, place=place)
