"""The colour scale of the map: where it begins and ends, and the bar beside it. It knows no layer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from quantlab.figures.readable import short
from quantlab.figures.theme import Theme


def colour_range(values: Sequence[float], least: float, apart: float = 10.0) -> tuple[float, float]:
    """The ends of the scale: from where all but the smallest twentieth begin, and never below what is harmless.

    They are at least the factor ``apart`` from each other, so that equal values do not look like a contrast.
    """
    if not values:
        return least, apart * least
    low = max(least, float(np.percentile(values, 5)))
    top = max(values)
    return max(least, min(low, top / apart)), max(top, apart * least)


def colour_bar(low: float, high: float, theme: Theme, *, percent: bool = False) -> dict[str, Any]:
    """Its two ends and the powers of ten between them, on a scale of logarithms; shares in per cent where asked."""
    first, last = math.log10(low), math.log10(high)
    inner = range(math.ceil(first), math.floor(last) + 1)
    places = [first, *[float(power) for power in inner if first + 0.25 < power < last - 0.25], last]
    return {
        "thickness": 8,
        "len": 1.0,
        "x": 1.02,
        "xpad": 0,
        "ypad": 0,
        "outlinewidth": 0,
        "ticks": "",
        "tickmode": "array",
        "tickvals": [round(place, 4) for place in places],
        "ticktext": [f"{short(100 * 10**place, 2)} %" if percent else short(10**place) for place in places],
        "tickfont": {"size": 10, "color": theme.quiet},
    }
