"""A layer's largest values by channel and by token, before and after each step. It measures nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from quantlab.figures.readable import short
from quantlab.figures.theme import LIGHT, Figure, Theme, axis, layout, titled

if TYPE_CHECKING:
    from quantlab.engine.views import LayerView

MOST_POINTS = 512


def channel_maxima(view: LayerView, *, name: str = "", theme: Theme = LIGHT) -> Figure:
    """Draw the largest |x| of every channel after each step, channels sorted by the first one.

    A flat curve is what a quantizer wants: one scale then serves all channels.
    """
    steps = {step: np.asarray(values, np.float64) for step, values in view.channel_absmax.items()}
    traces = []
    for step, values in steps.items():
        ordered = np.sort(values)[::-1]  # a rotation mixes channels, so each curve has an order of its own
        picks = np.unique(np.linspace(0, len(ordered) - 1, min(MOST_POINTS, len(ordered))).astype(int))
        traces.append(
            {
                "type": "scatter",
                "mode": "lines",
                "name": f"{step} · max {short(float(ordered[0]))}",
                "x": picks.tolist(),
                "y": [float(f"{value:.4g}") if value > 0 else None for value in ordered[picks]],
                "line": {"color": theme.step(step), "width": 1.5},
                "hovertemplate": "rank %{x}: %{y:.3g}<extra>" + step + "</extra>",
            }
        )
    figure_layout = layout(theme, uirevision=f"channels {name}", margin=(22, 46, 10, 34))
    figure_layout["xaxis"] = axis(theme, title=titled("channels, largest first", theme), showgrid=False)
    figure_layout["yaxis"] = axis(theme, type="log", title=titled("largest |x|", theme), nticks=5)
    return {"data": traces, "layout": figure_layout}


def landscape(
    view: LayerView, step: str = "raw", *, kinds: Sequence[str] = (), name: str = "", theme: Theme = LIGHT
) -> Figure:
    """Draw |x| of up to 64 tokens by up to 256 channels after one step, as a heat map on a logarithmic scale.

    Args:
        view: Holds one landscape a step.
        step: Which one.
        kinds: The kind of each token, for the hover text.
        name: Of the layer; the zoom stays as long as it is the same.
        theme: The colours.
    """
    values = np.abs(np.asarray(view.landscape[step], np.float64)).T  # tokens down, channels across
    positive = values[values > 0]
    low = float(np.percentile(positive, 5)) if len(positive) else 1.0
    high = max(float(values.max(initial=0.0)), 2 * low)
    height = np.log10(np.clip(values, low, high))
    labels = [*kinds, *[""] * len(values)][: len(values)]
    heat = {
        "type": "heatmap",
        "z": np.round(height, 2).tolist(),
        "zmin": float(np.log10(low)),
        "zmax": float(np.log10(high)),
        "customdata": [[label] * values.shape[1] for label in labels] if any(labels) else None,
        "hovertemplate": "channel %{x}, token %{y} %{customdata}<br>10^%{z:.2f}<extra></extra>",
        "colorscale": theme.severity,
        "colorbar": {
            "thickness": 8,
            "x": 1.01,
            "xpad": 0,
            "ypad": 0,
            "outlinewidth": 0,
            "tickmode": "array",
            "tickvals": [float(np.log10(low)), float(np.log10(high))],
            "ticktext": [short(low, 2), short(high, 2)],
            "tickfont": {"size": 10, "color": theme.quiet},
        },
    }
    figure_layout = layout(theme, uirevision=f"landscape {name}", margin=(8, 46, 52, 34))
    figure_layout["xaxis"] = axis(theme, title=titled(f"channels ({step})", theme), showgrid=False)
    figure_layout["yaxis"] = axis(theme, title=titled("tokens", theme), autorange="reversed", showgrid=False)
    return {"data": [heat], "layout": figure_layout}
