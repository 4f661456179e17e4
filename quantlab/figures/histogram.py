"""A layer's values on a symmetric logarithmic axis with the quantizer's grid drawn on them. It measures nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from quantlab.figures import symlog
from quantlab.figures.readable import short
from quantlab.figures.theme import LIGHT, Figure, Theme, axis, layout, titled

if TYPE_CHECKING:
    from quantlab.calibration.profile import LayerProfile
    from quantlab.engine.views import LayerView
    from quantlab.numerics.records import Histogram

HIDDEN_STEPS = ("rotated", "smoothed")
"""Drawn when a person asks for them in the legend: four curves at once hide each other."""
MOST_GRID_LINES = 64


def layer_histogram(
    view: LayerView, *, former: Histogram | None = None, name: str = "", theme: Theme = LIGHT
) -> Figure:
    """Draw each step of a layer's quantization on one axis, the grid, the clip lines and the former state as a ghost.

    Args:
        view: The steps, the grid and the clipping of one layer.
        former: The quantized values before the last change.
        name: Of the layer; the zoom stays as long as it is the same.
        theme: The colours.
    """
    raw = next(iter(view.steps.values()))
    linear = symlog.linear_width(raw.edges, raw.counts)
    shown = [*view.steps]
    traces = [
        _curve(step, histogram, linear, theme, visible=_visibility(step, shown))
        for step, histogram in view.steps.items()
    ]
    if former is not None:
        ghost = _curve("before", former, linear, theme)
        traces.insert(
            0, {**ghost, "fill": "none", "line": {**ghost["line"], "color": theme.ghost, "width": 1}}
        )
    grid = _grid(view.grid, linear, theme)
    low, high = _extent([*view.steps.values()])
    figure_layout = _axes(low, high, linear, f"histogram {name}", theme)
    figure_layout["shapes"], figure_layout["annotations"] = _clipping(view, low, high, linear, theme)
    return {"data": [*grid, *traces], "layout": figure_layout}


def token_histogram(layer: LayerProfile, *, theme: Theme = LIGHT) -> Figure:
    """Draw the inputs of a layer, one curve a token kind, each as shares of its own kind."""
    kinds = {kind: stats for kind, stats in layer.tokens.items() if kind != "all"} or dict(layer.tokens)
    everything = layer.all.histogram
    linear = symlog.linear_width(everything.edges, everything.counts)
    traces = []
    for kind, stats in kinds.items():
        label = f"{kind} · max {short(stats.max)}"
        curve = _curve(label, stats.histogram, linear, theme)
        colour = theme.token(kind) if kind != "all" else theme.full
        traces.append({**curve, "fill": "none", "line": {**curve["line"], "color": colour, "width": 1.5}})
    low, high = _extent([stats.histogram for stats in kinds.values()])
    return {"data": traces, "layout": _axes(low, high, linear, f"tokens {layer.name}", theme)}


def _visibility(step: str, steps: list[str]) -> bool | str:
    return "legendonly" if step in HIDDEN_STEPS and "quantized" in steps else True


def _curve(
    label: str, histogram: Histogram, linear: float, theme: Theme, *, visible: bool | str = True
) -> dict[str, Any]:
    edges, counts = _trimmed(histogram)
    total = max(1, int(counts.sum()))
    share = counts / total
    corners = np.repeat(symlog.to_axis(edges, linear), 2)
    heights = np.concatenate([[0.0], np.repeat(share, 2), [0.0]])
    colour = theme.step(label.split(" ", maxsplit=1)[0])
    return {
        "type": "scatter",
        "mode": "lines",
        "name": label,
        "x": [round(float(x), 4) for x in corners],
        "y": [float(f"{y:.3g}") if y > 0 else None for y in heights],
        "connectgaps": False,
        "customdata": [short(float(value)) for value in np.repeat(edges, 2)],
        "hovertemplate": "%{customdata}: share %{y:.2g}<extra>" + label + "</extra>",
        "line": {"color": colour, "width": 1.5, "shape": "linear"},
        "fill": "tozeroy" if label == "raw" else "none",
        "fillcolor": colour,
        "opacity": 0.55 if label == "raw" else 1.0,
        "visible": visible,
    }


def _trimmed(histogram: Histogram) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Leave out the empty bins at both ends."""
    filled = np.flatnonzero(histogram.counts)
    edges = np.asarray(histogram.edges, np.float64)
    if len(filled) == 0:
        return edges[:2], np.asarray(histogram.counts[:1], np.int64)
    first, last = int(filled[0]), int(filled[-1])
    return edges[first : last + 2], np.asarray(histogram.counts[first : last + 1], np.int64)


def _extent(histograms: list[Histogram]) -> tuple[float, float]:
    ends = [_trimmed(histogram)[0] for histogram in histograms]
    finite = [edge[np.isfinite(edge)] for edge in ends]
    return float(min(edge.min() for edge in finite)), float(max(edge.max() for edge in finite))


def _grid(levels: NDArray[np.floating] | None, linear: float, theme: Theme) -> list[dict[str, Any]]:
    """The levels as thin lines; many of them only as a rug at the foot, so that the data stays visible."""
    if levels is None or len(levels) == 0:
        return []
    places = symlog.to_axis(np.sort(np.asarray(levels)), linear)
    top = 1.0 if len(places) <= MOST_GRID_LINES else 0.06
    return [
        {
            "type": "scatter",
            "mode": "lines",
            "name": f"grid · {len(places)} levels",
            "x": [
                value for place in places for value in (round(float(place), 4), round(float(place), 4), None)
            ],
            "y": [0, top, None] * len(places),
            "yaxis": "y2",
            "line": {"color": theme.quantized, "width": 1},
            "opacity": 0.28 if top == 1.0 else 0.6,
            "hoverinfo": "skip",
        }
    ]


def _clipping(
    view: LayerView, low: float, high: float, linear: float, theme: Theme
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Dashed lines where clipping begins, and how much lies beyond, written beside them."""
    shapes: list[dict[str, Any]] = []
    for edge, inside in ((view.clip_low, low), (view.clip_high, high)):
        if edge is None or not np.isfinite(edge):
            continue
        at = float(symlog.to_axis(edge, linear))
        line = {"color": theme.quantized, "width": 1.5, "dash": "4px,3px"}
        shapes.append({"type": "line", "x0": at, "x1": at, "y0": 0, "y1": 1, "yref": "paper", "line": line})
        beyond = float(symlog.to_axis(inside, linear))
        if abs(beyond) > abs(at):
            shapes.append(_beyond(at, beyond, theme))
    if not shapes:
        return [], []
    share = (
        f"{short(100 * view.clipped_fraction, 2)} % clipped" if view.clipped_fraction else "nothing clipped"
    )
    at = float(symlog.to_axis(view.clip_high, linear)) if view.clip_high is not None else 0.0
    note = {
        "text": share,
        "x": at,
        "y": 0.98,
        "xref": "x",
        "yref": "paper",
        "xanchor": "right",
        "yanchor": "top",
        "showarrow": False,
        "xshift": -4,
        "font": {"size": 10, "color": theme.quantized},
    }
    return shapes, [note]


def _beyond(start: float, end: float, theme: Theme) -> dict[str, Any]:
    return {
        "type": "rect",
        "x0": start,
        "x1": end,
        "y0": 0,
        "y1": 1,
        "yref": "paper",
        "line": {"width": 0},
        "fillcolor": theme.quantized,
        "opacity": 0.08,
        "layer": "below",
    }


def _axes(low: float, high: float, linear: float, uirevision: str, theme: Theme) -> dict[str, Any]:
    figure_layout = layout(theme, uirevision=uirevision, margin=(22, 46, 10, 22))
    ends: Mapping[str, float] = {"low": low, "high": high}
    left, right = (float(symlog.to_axis(ends[end], linear)) for end in ("low", "high"))
    pad = 0.03 * max(right - left, 1e-6)
    figure_layout["xaxis"] = axis(theme, range=[left - pad, right + pad], **symlog.ticks(low, high, linear))
    figure_layout["yaxis"] = axis(
        theme, type="log", title=titled("share of values", theme), dtick=2, exponentformat="power", nticks=5
    )
    figure_layout["yaxis2"] = {"overlaying": "y", "range": [0, 1], "visible": False, "fixedrange": True}
    figure_layout["hovermode"] = "closest"
    return figure_layout
