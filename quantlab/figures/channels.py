"""A layer's largest values by channel and by token, before and after each step. It measures nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from quantlab.figures.readable import short
from quantlab.figures.theme import DASHES, LIGHT, Figure, Theme, axis, layout, titled

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
                "line": {"color": theme.step(step), "width": 1.5, "dash": DASHES.get(step, "solid")},
                "hovertemplate": "rank %{x}: %{y:.3g}<extra>" + step + "</extra>",
            }
        )
    figure_layout = layout(theme, uirevision=f"channels {name}", margin=(22, 46, 10, 34))
    figure_layout["xaxis"] = axis(theme, title=titled("channels, largest first", theme), showgrid=False)
    figure_layout["yaxis"] = axis(theme, type="log", title=titled("largest |x|", theme), nticks=5)
    return {"data": traces, "layout": figure_layout}


def landscape(
    view: LayerView,
    step: str | Sequence[str] = "raw",
    *,
    kinds: Sequence[str] = (),
    name: str = "",
    theme: Theme = LIGHT,
) -> Figure:
    """Draw |x| of up to 64 tokens by up to 256 channels as heat maps on one logarithmic scale, side by side.

    Args:
        view: Holds one landscape a step.
        step: Which one, or several.
        kinds: The kind of each token, for the hover text.
        name: Of the layer; the zoom stays as long as it is the same.
        theme: The colours.
    """
    steps = [step] if isinstance(step, str) else [*step]
    maps = [
        np.abs(np.asarray(view.landscape[item], np.float64)).T for item in steps
    ]  # tokens down, channels across
    everything = np.concatenate([values.ravel() for values in maps])
    positive = everything[everything > 0]
    low = float(np.percentile(positive, 5)) if len(positive) else 1.0
    high = max(float(everything.max(initial=0.0)), 2 * low)
    figure_layout = layout(theme, uirevision=f"landscape {name}", margin=(8, 46, 52, 34))
    figure_layout["yaxis"] = axis(theme, title=titled("tokens", theme), autorange="reversed", showgrid=False)
    width = 1 / len(steps)
    traces = []
    for index, (item, values) in enumerate(zip(steps, maps, strict=True)):
        suffix = str(index + 1) if index else ""
        span = [index * width, (index + 1) * width - (0.03 if index + 1 < len(steps) else 0)]
        title = titled(f"channels, {item}", theme)
        figure_layout[f"xaxis{suffix}"] = axis(theme, title=title, showgrid=False, domain=span, anchor="y")
        traces.append(
            {**_heat(values, (low, high), kinds, theme), "xaxis": f"x{suffix}", "showscale": index == 0}
        )
    return {"data": traces, "layout": figure_layout}


def _heat(
    values: NDArray[np.float64], span: tuple[float, float], kinds: Sequence[str], theme: Theme
) -> dict[str, Any]:
    low, high = (float(np.log10(end)) for end in span)
    labels = [*kinds, *[""] * len(values)][: len(values)]
    return {
        "type": "heatmap",
        "z": np.round(np.log10(np.clip(values, *span)), 2).tolist(),
        "zmin": low,
        "zmax": high,
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
            "tickvals": [low, high],
            "ticktext": [short(end, 2) for end in span],
            "tickfont": {"size": 10, "color": theme.quiet},
        },
    }
