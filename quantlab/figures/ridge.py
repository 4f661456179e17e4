"""A histogram counted again in even bins of a symlog axis, and the span of several of them. It draws nothing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from quantlab.figures import symlog
from quantlab.numerics.records import Histogram

BINS = 160
FLOOR = 1e-7
"""Shares below it are drawn on the axis; one value in ten million."""


def on_axis(
    histogram: Histogram, linear: float, span: tuple[float, float]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Count again in bins of equal width on the axis: the record's own are narrow near zero, and would look spiky.

    Returns:
        Edges [BINS + 1] on the axis and the share of the values in each bin, [BINS].
    """
    edges = np.asarray(histogram.edges, np.float64)
    below = np.concatenate([[0.0], np.cumsum(histogram.counts, dtype=np.float64)])
    first, last = (float(place) for place in symlog.to_axis(span, linear))
    places = np.linspace(first, last, BINS + 1)
    share = np.diff(np.interp(np.sinh(places) * linear, edges, below)) / max(1.0, below[-1])
    return places, np.asarray(share, np.float64)


def span_of(histograms: Iterable[Histogram], marks: Sequence[float] = ()) -> tuple[float, float]:
    """From the smallest to the largest value that any of the histograms holds, or that is marked."""
    ends = [(mark, mark) for mark in marks]
    for histogram in histograms:
        filled = np.flatnonzero(histogram.counts)
        if len(filled):
            ends.append((float(histogram.edges[filled[0]]), float(histogram.edges[filled[-1] + 1])))
    if not ends:
        return -1.0, 1.0
    low, high = min(low for low, _ in ends), max(high for _, high in ends)
    return (low, high) if high > low else (low - 1.0, high + 1.0)


def crest(histogram: Histogram) -> tuple[float, float]:
    """The largest magnitude and max / rms, within the width of a bin; zeros without values."""
    if not histogram.total:
        return 0.0, 0.0
    edges = np.asarray(histogram.edges, np.float64)
    squares = (edges[1:] ** 2 + edges[1:] * edges[:-1] + edges[:-1] ** 2) / 3
    rms = float(np.sqrt(histogram.counts @ squares / histogram.total))
    largest = histogram.quantile(1.0)
    return largest, largest / rms if rms else 0.0
