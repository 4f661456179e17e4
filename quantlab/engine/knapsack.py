"""One option a layer within a number of bytes: greedy on convex hulls, and exactly. It measures and runs nothing.

An option is (bytes, error); errors add up over the layers. An option whose error is no finite number cannot be chosen.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import gcd, inf, isfinite

import numpy as np
from numpy.typing import NDArray

MOST_STATES = 1 << 20
"""Sizes the exact programme tells apart; where the bytes would need more, they are rounded up to a grid of so many."""

Option = tuple[int, float]


@dataclass(frozen=True, slots=True)
class Allotment:
    """A choice for every layer.

    Attributes:
        picks: Layer to the index of its option.
        bytes: Of all choices together.
        error: Likewise.
    """

    picks: Mapping[str, int]
    bytes: int
    error: float


def hull(options: Sequence[Option]) -> list[int]:
    """The options on the lower convex hull of error over bytes, by index, from the smallest to the best.

    Each further one costs more bytes and gains less error for each byte than the one before. Empty where no option
    has a finite error.
    """
    ranked = sorted(
        (index for index, (_, error) in enumerate(options) if isfinite(error)),
        key=lambda index: options[index],
    )
    corners: list[int] = []
    for index in ranked:
        size, error = options[index]
        if corners and (error >= options[corners[-1]][1] or size == options[corners[-1]][0]):
            continue
        while len(corners) > 1 and _gain(options, corners[-2], corners[-1]) <= _gain(
            options, corners[-1], index
        ):
            corners.pop()
        corners.append(index)
    return corners


def greedy_path(layers: Mapping[str, Sequence[Option]]) -> list[Allotment]:
    """From the smallest choice to the best, one step of one layer at a time, the largest gain for a byte first.

    Every stop is the best there is at its own size (the linear relaxation is whole there); between stops, `exact`
    finds better. Empty where a layer has no option that can be chosen.
    """
    corners = {name: hull(options) for name, options in layers.items()}
    if not all(corners.values()):
        return []
    picks = {name: steps[0] for name, steps in corners.items()}
    moves = [
        (-_gain(layers[name], low, high), name, high)
        for name, steps in corners.items()
        for low, high in pairwise(steps)
    ]
    path = [_allotment(layers, picks)]
    for _, name, index in sorted(moves, key=lambda move: move[0]):
        picks = {**picks, name: index}
        path.append(_allotment(layers, picks))
    return path


def greedy(layers: Mapping[str, Sequence[Option]], budget: int) -> Allotment | None:
    """The last stop of the greedy path within ``budget`` bytes; None where even the smallest is too large."""
    within = [stop for stop in greedy_path(layers) if stop.bytes <= budget]
    return within[-1] if within else None


def exact(layers: Mapping[str, Sequence[Option]], budget: int) -> Allotment | None:
    """The choice with the smallest error within ``budget`` bytes, by dynamic programming over sizes.

    Sizes are counted in their greatest common divisor, so the result is exact; only where that leaves more than
    `MOST_STATES` sizes are they rounded up to a coarser grid, and the result is then within one grid step a layer.

    Returns:
        None where even the smallest choice is too large.
    """
    smallest = {
        name: min((size for size, error in options if isfinite(error)), default=None)
        for name, options in layers.items()
    }
    if any(size is None for size in smallest.values()):
        return None
    floor = {name: size for name, size in smallest.items() if size is not None}
    spare = budget - sum(floor.values())
    if spare < 0:
        return None
    unit = _unit(layers, floor, spare)
    # More than all layers at their largest never helps, and costs memory.
    widest = sum(max(size for size, _ in layers[name]) - floor[name] for name in layers)
    states = min(spare, widest) // unit + 1
    table, taken = np.zeros(states), []
    for name, options in layers.items():
        table, choice = _extended(table, options, floor[name], unit)
        taken.append(choice)
    return _traced(layers, floor, unit, taken)


def _unit(layers: Mapping[str, Sequence[Option]], floor: Mapping[str, int], spare: int) -> int:
    extra = [size - floor[name] for name, options in layers.items() for size, _ in options]
    common = gcd(*(abs(size) for size in extra)) or 1
    return common if spare // common < MOST_STATES else -(-spare // MOST_STATES)


def _extended(
    table: NDArray[np.float64], options: Sequence[Option], floor: int, unit: int
) -> tuple[NDArray[np.float64], NDArray[np.uint8]]:
    """The best error within each size when one more layer chooses, and what it chooses."""
    best, choice = np.full(len(table), inf), np.zeros(len(table), dtype=np.uint8)
    for index, (size, error) in enumerate(options):
        shift = -(-(size - floor) // unit)
        if not isfinite(error) or shift < 0 or shift >= len(table):
            continue
        tried = np.full(len(table), inf)
        tried[shift:] = table[: len(table) - shift] + error
        better = tried < best
        best[better], choice[better] = tried[better], index
    return best, choice


def _traced(
    layers: Mapping[str, Sequence[Option]],
    floor: Mapping[str, int],
    unit: int,
    taken: Sequence[NDArray[np.uint8]],
) -> Allotment:
    picks, state = dict.fromkeys(layers, 0), len(taken[0]) - 1 if taken else 0
    for name, choice in zip(reversed(list(layers)), reversed(taken), strict=True):
        picks[name] = int(choice[state])
        state -= -(-(layers[name][picks[name]][0] - floor[name]) // unit)
    return _allotment(layers, picks)


def _allotment(layers: Mapping[str, Sequence[Option]], picks: Mapping[str, int]) -> Allotment:
    chosen = [layers[name][index] for name, index in picks.items()]
    return Allotment(dict(picks), sum(size for size, _ in chosen), sum(error for _, error in chosen))


def _gain(options: Sequence[Option], low: int, high: int) -> float:
    """Error saved for each byte from one option to a larger one."""
    return (options[low][1] - options[high][1]) / (options[high][0] - options[low][0])
