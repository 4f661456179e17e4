"""How the distances between two clouds are spread. It pairs and aligns nothing."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from quantlab.figures.readable import short
from quantlab.figures.theme import LIGHT, Figure, Theme, axis, layout, titled

BINS = 60


def error_histogram(
    errors: NDArray[np.floating],
    *,
    former: NDArray[np.floating] | None = None,
    scale: float = 1.0,
    theme: Theme = LIGHT,
) -> Figure:
    """Draw the distances of paired points, as shares of the scene's size when ``scale`` is that size.

    Args:
        errors: Any shape, scene units; NaN where there is no pair.
        former: The same before the last change, drawn as a ghost.
        scale: What 1 on the axis stands for, in scene units.
        theme: The colours.
    """
    now = _finite(errors) / scale
    before = _finite(former) / scale if former is not None else np.empty(0)
    everything = np.concatenate([now, before])
    top = float(np.percentile(everything, 99.5)) if len(everything) else 1.0
    edges = np.linspace(0, top or 1.0, BINS + 1)
    traces = []
    if len(before):
        ghost = _bars(before, edges, "before", theme.ghost)
        traces.append(
            {**ghost, "line": {"color": theme.ghost, "width": 1.5, "shape": "hvh", "dash": "3px,2px"}}
        )
    if len(now):
        traces.append(_bars(now, edges, f"now · median {short(float(np.median(now)))}", theme.quantized))
    figure_layout = layout(theme, uirevision="errors", margin=(22, 46, 10, 34))
    figure_layout["xaxis"] = axis(theme, title=titled("distance, share of the scene", theme))
    figure_layout["yaxis"] = axis(theme, title=titled("share of points", theme), nticks=5, rangemode="tozero")
    return {"data": traces, "layout": figure_layout}


def _finite(values: NDArray[np.floating]) -> NDArray[np.float64]:
    flat = np.asarray(values, np.float64).reshape(-1)
    return np.asarray(flat[np.isfinite(flat)], np.float64)


def _bars(
    values: NDArray[np.float64], edges: NDArray[np.float64], label: str, colour: str
) -> dict[str, object]:
    counts, _ = np.histogram(np.minimum(values, edges[-1]), edges)
    return {
        "type": "scatter",
        "mode": "lines",
        "name": label,
        "x": np.round((edges[1:] + edges[:-1]) / 2, 6).tolist(),
        "y": np.round(counts / len(values), 6).tolist(),
        "line": {"color": colour, "width": 1.5, "shape": "hvh"},
    }
