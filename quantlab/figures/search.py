"""The loss a range search saw at each scale it tried. It searches nothing."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from quantlab.figures import symlog
from quantlab.figures.readable import short
from quantlab.figures.theme import LIGHT, Figure, Theme, axis, layout, titled


def search_curve(
    scales: Sequence[float], losses: Sequence[float], *, name: str = "", theme: Theme = LIGHT
) -> Figure:
    """Draw the candidates in ascending order and mark the one that won; the hover text says when each was tried.

    Args:
        scales: The candidates, in the order they were visited.
        losses: What each one lost.
        name: Of the layer; the zoom stays as long as it is the same.
        theme: The colours.
    """
    scale, loss = np.asarray(scales, np.float64), np.asarray(losses, np.float64)
    order = np.argsort(scale, kind="stable")
    best = int(np.nanargmin(loss)) if np.isfinite(loss).any() else -1
    curve = {
        "type": "scatter",
        "mode": "lines+markers",
        "name": f"{len(scale)} candidates tried",
        "x": scale[order].tolist(),
        "y": [float(value) if np.isfinite(value) else None for value in loss[order]],
        "customdata": (order + 1).tolist(),
        "hovertemplate": "scale %{x:.4g}<br>loss %{y:.4g}<br>tried as number %{customdata}<extra></extra>",
        "line": {"color": theme.rule, "width": 1},
        "marker": {"color": theme.full, "size": 5},
    }
    traces = [curve]
    if best >= 0:
        chosen = {"color": theme.quantized, "size": 9, "symbol": "diamond"}
        label = f"chosen {short(float(scale[best]))}"
        point = {"x": [float(scale[best])], "y": [float(loss[best])], "marker": chosen, "name": label}
        traces.append({"type": "scatter", "mode": "markers", "hoverinfo": "skip", **point})
    figure_layout = layout(theme, uirevision=f"search {name}", margin=(22, 56, 10, 34))
    figure_layout["xaxis"] = axis(theme, title=titled("scale (one step)", theme))
    known = loss[np.isfinite(loss)]
    ticks = symlog.log_ticks(known.min(), known.max()) if len(known) and known.min() > 0 else {"nticks": 5}
    figure_layout["yaxis"] = axis(theme, title=titled("loss", theme), **ticks)
    return {"data": traces, "layout": figure_layout}
