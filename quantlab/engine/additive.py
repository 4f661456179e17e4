"""The best bits by the sum over layers: from a scan to problems of the knapsack and back. It runs no network.

At every point of the scenes the squares of independent errors add up, S = sum of e_l^2, and the drift is the mean of
sqrt(S). That is no sum over layers, but it lies below one that touches it: sqrt(S) <= S / (2 r) + r / 2 for any r > 0.
With r = sqrt(S) of the choice so far, the best choice under the sum is better in truth too, or the same; a few rounds
settle (majorisation and minimisation). Points that are far off anyway weigh less than under plain squares, which a few
pixels at the edges of things would rule.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from quantlab.engine.knapsack import Allotment, Option, exact, greedy_path
from quantlab.engine.search_record import Sensitivity

ROUNDS = 6
SMALLEST = 0.05
"""Of the mean distance: nearer points weigh no more than one so near."""

TINY = float(np.finfo(np.float32).tiny)

Bits = dict[str, int]
T = TypeVar("T")


def optimum(found: Sensitivity, room: int) -> Bits | None:
    """The bits of smallest predicted drift within ``room`` bytes for the layers that vary; None where nothing fits.

    Each round is exact; the rounds end when the prediction falls no more.
    """
    best: Bits | None = None
    for _ in range(ROUNDS):
        solved = exact(_options(found, best), room)
        if solved is None:
            return best
        bits = _bits(found, solved)
        if best is not None and found.predict(bits) >= found.predict(best):
            break
        best = bits
    return best


def lowered(found: Sensitivity, start: Mapping[str, int], room: int) -> Bits | None:
    """The start with some layers one option lower, chosen so that it fits and loses least by the sum; None: too large.

    Errors of layers at equal bits cancel now and then, which no sum knows: so near to them, more of that is kept.
    """
    allowed = {name: sorted(b for b in own if b <= start[name])[-2:] for name, own in found.points.items()}
    options = _options(found, start)
    limited = {
        name: [options[name][sorted(found.points[name]).index(b)] for b in own]
        for name, own in allowed.items()
    }
    solved = exact(limited, room)
    return None if solved is None else {name: allowed[name][index] for name, index in solved.picks.items()}


def front(found: Sensitivity, count: int) -> list[Bits]:
    """At most ``count`` choices from the smallest to the best, none of which another one beats in both.

    Stops of the greedy path, each with weights taken at its own place.
    """
    chosen: list[Bits] = []
    for bits in spread([_bits(found, stop) for stop in greedy_path(_options(found, None))], count):
        room = found.size(bits) - found.fixed_bytes
        within = [stop for stop in greedy_path(_options(found, bits)) if stop.bytes <= room]
        again = _bits(found, within[-1]) if within else bits
        chosen.append(min((again, bits), key=found.predict))
    kept: list[Bits] = []
    for bits in sorted(chosen, key=lambda own: (found.size(own), found.predict(own))):
        if not kept or found.predict(bits) < found.predict(kept[-1]):
            kept.append(bits)
    return kept


def spread(items: Sequence[T], count: int) -> list[T]:
    """At most ``count`` of the items, evenly spread, first and last among them."""
    if len(items) <= count:
        return list(items)
    return [items[round(index * (len(items) - 1) / (count - 1))] for index in range(count)]


def _options(found: Sensitivity, around: Mapping[str, int] | None) -> dict[str, list[Option]]:
    """Bytes and weighted error of every option; without a choice so far, plain squares."""
    weights = _weights(found, around)
    return {
        name: [(found.bytes[name][bits], _dot(weights, own[bits])) for bits in sorted(own)]
        for name, own in found.points.items()
    }


def _dot(weights: NDArray[np.float64], squares: NDArray[np.float32]) -> float:
    return float(weights @ squares) if np.isfinite(squares).all() else float("inf")


def _weights(found: Sensitivity, around: Mapping[str, int] | None) -> NDArray[np.float64]:
    count = len(found.base)
    if around is None:
        return np.full(count, 1.0 / max(1, count))
    distances = np.sqrt(found.summed(around))
    floor = max(SMALLEST * float(distances.mean()), TINY)
    return np.asarray(0.5 / np.maximum(distances, floor) / count, dtype=np.float64)


def _bits(found: Sensitivity, chosen: Allotment) -> Bits:
    return {name: sorted(found.points[name])[index] for name, index in chosen.picks.items()}
