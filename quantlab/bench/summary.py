"""Cells of one model gathered into means and spreads over seeds. It reads no files and writes none."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from quantlab.bench.cells import FAILED, Record
from quantlab.bench.protocol import COLUMNS, FULL, Bits
from quantlab.bench.rows import FULL_PRECISION, comparable, rows
from quantlab.engine.recipe import Recipe
from quantlab.errors import QuantLabError


@dataclass(frozen=True, slots=True)
class Metric:
    """How a number is shown: its heading, what it is multiplied by, its decimals, and which way is better."""

    label: str
    scale: float = 1.0
    digits: int = 3
    higher: bool = False


METRICS: Mapping[str, Metric] = {
    "auc30": Metric("AUC@30", 100, 1, higher=True),
    "auc15": Metric("AUC@15", 100, 1, higher=True),
    "auc5": Metric("AUC@5", 100, 1, higher=True),
    "auc3": Metric("AUC@3", 100, 1, higher=True),
    "abs_rel": Metric("AbsRel", 1, 4),
    "drift": Metric("drift ×10³", 1000, 2),
    "tre": Metric("branch TRE", 1, 4),
    "accuracy": Metric("Acc", 1, 4),
    "completeness": Metric("Comp", 1, 4),
    "normal_consistency": Metric("NC", 1, 3, higher=True),
    "calibration_seconds": Metric("calibration s", 1, 1),
    "peak_bytes": Metric("peak MB", 1e-6, 0),
    "packed_bytes": Metric("packed MB", 1e-6, 2),
}
"""The metrics of the detailed table, in its order. The file of all cells has every other one too."""


@dataclass(frozen=True, slots=True)
class Statistic:
    """A metric over seeds: the mean, the sample standard deviation (None of one seed), and how many seeds."""

    mean: float
    spread: float | None
    seeds: int

    @property
    def low(self) -> float:
        """One standard deviation below the mean."""
        return self.mean - (self.spread or 0.0)

    @property
    def high(self) -> float:
        """One standard deviation above the mean."""
        return self.mean + (self.spread or 0.0)


class Summary:
    """The cells of one model.

    Args:
        model: Its name.
        records: Its cells, in any order.
    """

    def __init__(self, model: str, records: Iterable[Record]) -> None:
        self.model = model
        self.records = sorted(records, key=lambda found: (_rank(found.method), found.bits, found.seed))
        self._cells: dict[tuple[str, Bits], list[Record]] = {}
        for found in self.records:
            self._cells.setdefault((found.method, found.bits), []).append(found)

    @property
    def methods(self) -> list[str]:
        """Names of the rows, full precision apart, in the order of the table."""
        return list(dict.fromkeys(found.method for found in self.records if found.method != FULL_PRECISION))

    @property
    def columns(self) -> list[Bits]:
        """The bits that were measured, in the order of the table."""
        seen = {found.bits for found in self.records if found.method != FULL_PRECISION}
        return [bits for bits in COLUMNS if bits in seen] + sorted(seen - set(COLUMNS))

    def cells(self, method: str, bits: Bits) -> list[Record]:
        """One record a seed."""
        return self._cells.get((method, bits), [])

    def rooms(self, bits: Bits) -> int:
        """How many rooms a column was measured on."""
        return max((len(names(found)) for found in self.records if found.bits == bits), default=0)

    def statistic(self, method: str, bits: Bits, metric: str) -> Statistic | None:
        """Mean and spread over the seeds that have it; None where none has."""
        values = [value(found, metric) for found in self.cells(method, bits)]
        return statistic([found for found in values if found is not None])

    def full(self, metric: str, rooms: int) -> float | None:
        """What full precision has on the first so many rooms."""
        cells = self.cells(FULL_PRECISION, FULL)
        return value(cells[0], metric, rooms) if cells else None

    def share(self, method: str, bits: Bits, metric: str) -> float | None:
        """A mean as a share of what full precision has on the same rooms."""
        found, whole = self.statistic(method, bits, metric), self.full(metric, self.rooms(bits))
        return found.mean / whole if found is not None and whole else None

    def failures(self, method: str, bits: Bits) -> list[Record]:
        """The seeds that failed."""
        return [found for found in self.cells(method, bits) if found.state == FAILED]

    def rivals(self, bits: Bits) -> list[str]:
        """The methods that round layers to these bits; what rounds something else is shown, but beats nobody."""
        return [name for name in self.methods if not any(_apart(cell) for cell in self.cells(name, bits))]

    def competitors(self) -> list[str]:
        """The methods that compete in some column."""
        inside = {name for bits in self.columns for name in self.rivals(bits)}
        return [name for name in self.methods if name in inside]

    def best(self, bits: Bits, metric: str) -> str | None:
        """The method with the best mean in a column."""
        sign = 1.0 if METRICS[metric].higher else -1.0
        found = {name: self.statistic(name, bits, metric) for name in self.rivals(bits)}
        means = {name: sign * entry.mean for name, entry in found.items() if entry is not None}
        return max(means, key=means.__getitem__) if means else None

    def outdated(self) -> list[Record]:
        """Cells whose method now stands for another recipe, or is gone."""
        return [found for found in self.records if found.method != FULL_PRECISION and not _current(found)]


def statistic(values: list[float]) -> Statistic | None:
    """Mean and sample standard deviation; None without values."""
    if not values:
        return None
    spread = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return Statistic(float(np.mean(values)), spread, len(values))


def value(found: Record, metric: str, rooms: int | None = None) -> float | None:
    """A metric of one cell: the one it has, or the mean over (the first so many of) the rooms that have it."""
    if found.measured is None:
        return None
    if metric not in found.measured.rooms:
        return found.measured.metrics.get(metric)
    listed = [entry for entry in found.measured.rooms[metric][:rooms] if entry is not None]
    return float(np.mean(listed)) if listed else None


def names(found: Record) -> tuple[str, ...]:
    """The rooms a cell was measured on."""
    return () if found.measured is None else found.measured.names


def _rank(method: str) -> tuple[int, str]:
    known = list(rows())
    return (known.index(method) if method in known else len(known), method)


def _apart(found: Record) -> bool:
    """Whether the cell's recipe leaves layers at other bits than the column says."""
    return bool(found.recipe) and not comparable(Recipe.from_dict(dict(found.recipe)), found.bits)


def _current(found: Record) -> bool:
    row = rows().get(found.method)
    if row is None:
        return False
    try:
        return row.recipe(found.bits, found.seed).to_dict() == found.recipe
    except QuantLabError:
        return not found.recipe
