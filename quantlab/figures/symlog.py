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
    """The median magnitude of a histogram's values: half of them lie on the linear part of the axis."""
    centers = np.abs((edges[1:] + edges[:-1]) / 2).astype(np.float64)
    order = np.argsort(centers)
    mass = np.cumsum(np.asarray(counts, np.float64)[order])
    if len(mass) == 0 or mass[-1] <= 0:
        return 1.0
    width = float(centers[order][np.searchsorted(mass, mass[-1] / 2)])
    if width > 0:
        return width
    positive = centers[centers > 0]
    return float(positive.min()) if len(positive) else 1.0


def ticks(low: float, high: float, linear: float, *, room: float = 0.09) -> dict[str, Any]:
    """``tickvals`` and ``ticktext`` at 0 and at powers of ten inside ``low`` .. ``high`` (data values).

    Large powers come first, and one that would stand closer than ``room`` (a share of the axis) to those is left out.
    """
    span = float(np.ptp(to_axis([low, high], linear)))
    top = int(np.floor(np.log10(max(abs(low), abs(high), linear))))
    powers = [10.0**power for power in range(top, int(np.floor(np.log10(linear))) - 1, -1)]
    kept = [0.0]
    for value in [value for power in powers for value in (power, -power) if low <= value <= high]:
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
