"""A symmetric logarithmic axis, which plotly has not: values are moved by asinh and the ticks say what they were."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from quantlab.figures.readable import short


def to_axis(values: ArrayLike, linear: float) -> NDArray[np.float64]:
    """asinh(value / linear): near zero it is linear, beyond ``linear`` a logarithm, and the sign stays."""
    return np.arcsinh(np.asarray(values, np.float64) / linear)


def linear_width(edges: NDArray[np.floating], counts: NDArray[np.integer]) -> float:
    """The median magnitude of the values that are not zero: half of those lie on the linear part of the axis.

    Zeros, which a ReLU makes of half its inputs, say nothing about the size of the rest.
    """
    centers = np.abs((edges[1:] + edges[:-1]) / 2).astype(np.float64)
    nonzero = np.flatnonzero(centers > 0)
    order = nonzero[np.argsort(centers[nonzero])]
    mass = np.cumsum(np.asarray(counts, np.float64)[order])
    if len(mass) == 0 or mass[-1] <= 0:
        return float(centers[nonzero].min()) if len(nonzero) else 1.0
    return float(centers[order][np.searchsorted(mass, mass[-1] / 2)])


def ticks(low: float, high: float, linear: float, *, room: float = 0.09) -> dict[str, Any]:
    """``tickvals`` and ``ticktext`` at 0 and at powers of ten inside ``low`` .. ``high`` (data values).

    Large powers come first, then fives and twos between them, and one that would stand closer than ``room`` (a share
    of the axis) to those is left out.
    """
    span = float(np.ptp(to_axis([low, high], linear)))
    top = int(np.floor(np.log10(max(abs(low), abs(high), linear))))
    powers = [10.0**power for power in range(top, int(np.floor(np.log10(linear))) - 1, -1)]
    kept = [0.0]
    wanted = [step * power for step in (1, 5, 2) for power in powers]
    for value in [value for size in wanted for value in (size, -size) if low <= value <= high]:
        places = to_axis([value, *kept], linear)
        if np.abs(places[1:] - places[0]).min() >= room * span:
            kept.append(value)
    values = sorted(kept)
    return {
        "tickmode": "array",
        "tickangle": 0,
        "tickvals": [round(float(place), 4) for place in to_axis(values, linear)],
        "ticktext": [short(value) for value in values],
    }


def log_ticks(low: float, high: float) -> dict[str, Any]:
    """Settings of a logarithmic axis from ``low`` to ``high``: powers of ten, or 1, 2, 5 where it holds but one."""
    first, last = np.log10(low), np.log10(high)
    if np.floor(last) - np.ceil(first) >= 1:
        return {"type": "log", "dtick": 1, "exponentformat": "power"}
    sizes = [
        step * 10.0**power
        for power in range(int(np.floor(first)), int(np.ceil(last)) + 1)
        for step in (1, 2, 5)
    ]
    return {
        "type": "log",
        "tickmode": "array",
        "tickvals": [float(f"{size:.1g}") for size in sizes],
        "ticktext": [short(size) for size in sizes],
    }
