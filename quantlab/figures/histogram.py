"""A layer's values on a symmetric logarithmic axis with the quantizer's grid drawn on them. It measures nothing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from quantlab.figures import symlog
from quantlab.figures.readable import short
from quantlab.figures.theme import DASHES, LIGHT, Figure, Theme, axis, empty, layout, titled

if TYPE_CHECKING:
    from quantlab.calibration.profile import LayerProfile
    from quantlab.engine.views import LayerView
    from quantlab.numerics.records import Histogram

MOST_GRID_LINES = 64
BINS = 160
FLOOR = 1e-7
"""Shares below it are drawn on the axis; one value in ten million."""


def layer_histogram(
    view: LayerView,
    *,
    former: Histogram | None = None,
    profile: LayerProfile | None = None,
    name: str = "",
    theme: Theme = LIGHT,
) -> Figure:
    """Draw each step of a layer's quantization on one axis, the grid, the clip lines and the former state as a ghost.

    Args:
        view: The steps, the grid and the clipping of one layer.
        former: The quantized values before the last change.
        profile: Of the same layer; its inputs are drawn where the view has no samples, as of a convolution.
        name: Of the layer; the zoom stays as long as it is the same.
        theme: The colours.
    """
    steps = dict(view.steps) or ({"raw": profile.all.histogram} if profile is not None else {})
    if not steps:
        return empty("The input of this layer was not measured.", theme, uirevision=f"histogram {name}")
    raw, rounded = next(iter(steps.values())), _before_rounding([*steps])
    linear = symlog.linear_width(raw.edges, raw.counts)
    ghosts = [former] if former is not None else []
    span = _span([*steps.values(), *ghosts], _marks(view))
    traces = [
        _curve(step, histogram, linear, span, theme, visible=_visibility(step, [*steps]))
        for step, histogram in steps.items()
    ]
    for histogram in ghosts:
        curve = _curve("before", histogram, linear, span, theme)
        line = {**curve["line"], "color": theme.ghost, "width": 1.5, "dash": "3px,2px"}
        traces.insert(0, {**curve, "line": line})
    figure_layout = _axes(span, linear, f"histogram {name}", theme)
    reach = _span([steps[rounded]])
    figure_layout["shapes"], figure_layout["annotations"] = _clipping(view, reach, linear, theme)
    return {"data": [*_grid(view, linear, theme), *traces], "layout": figure_layout}


def token_histogram(layer: LayerProfile, *, theme: Theme = LIGHT) -> Figure:
    """Draw the inputs of a layer, one curve a token kind, each as shares of its own kind."""
    kinds = {kind: stats for kind, stats in layer.tokens.items() if kind != "all"} or dict(layer.tokens)
    everything = layer.all.histogram
    linear = symlog.linear_width(everything.edges, everything.counts)
    span = _span([stats.histogram for stats in kinds.values()])
    traces = []
    for kind, stats in kinds.items():
        curve = _curve(f"{kind} · max {short(stats.max)}", stats.histogram, linear, span, theme)
        colour = theme.token(kind) if kind != "all" else theme.full
        traces.append({**curve, "line": {**curve["line"], "color": colour, "width": 1.5}})
    return {"data": traces, "layout": _axes(span, linear, f"tokens {layer.name}", theme)}


def _before_rounding(steps: list[str]) -> str:
    """The step whose values are rounded: grid and clip lines belong to it."""
    return steps[steps.index("quantized") - 1] if "quantized" in steps[1:] else steps[-1]


def _visibility(step: str, steps: list[str]) -> bool | str:
    """Steps between the first and the one that is rounded wait in the legend: four curves at once hide each other."""
    return True if step in (steps[0], _before_rounding(steps), "quantized") else "legendonly"


def _marks(view: LayerView) -> list[float]:
    """Values that must be on the axis though the data may not reach them: the grid, and where it ends."""
    levels = [] if view.grid is None else [float(level) for level in view.grid]
    ends = [float(end) for end in (view.clip_low, view.clip_high) if end is not None and np.isfinite(end)]
    return [*levels, *ends]


def _curve(
    label: str,
    histogram: Histogram,
    linear: float,
    span: tuple[float, float],
    theme: Theme,
    *,
    visible: bool | str = True,
) -> dict[str, Any]:
    edges, share = _on_axis(histogram, linear, span)
    step = label.split(" ", maxsplit=1)[0]
    values = np.sinh(np.repeat(edges, 2)) * linear
    heights = np.concatenate([[0.0], np.repeat(share, 2), [0.0]])
    return {
        "type": "scatter",
        "mode": "lines",
        "name": label,
        "x": [round(float(x), 3) for x in np.repeat(edges, 2)],
        "y": [float(f"{max(y, FLOOR):.3g}") for y in heights],
        "customdata": [short(float(value)) for value in values],
        "hovertemplate": label + "<br>%{customdata}: share %{y:.2g}<extra></extra>",
        "line": {"color": theme.step(step), "width": 1.5, "dash": DASHES.get(step, "solid")},
        "fill": "tozeroy" if label == "raw" else "none",
        "opacity": 0.6 if label == "raw" else 1.0,
        "visible": visible,
    }


def _on_axis(
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


def _span(histograms: Iterable[Histogram], marks: Sequence[float] = ()) -> tuple[float, float]:
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


def _grid(view: LayerView, linear: float, theme: Theme) -> list[dict[str, Any]]:
    """The levels as thin lines; many of them only as a rug at the foot, so that the data stays visible."""
    levels, settings = view.grid, view.settings
    if levels is None or len(levels) == 0:
        return []
    each_its_own = settings.activation_mode == "dynamic" and settings.activation_granularity == "token"
    places = symlog.to_axis(np.sort(np.asarray(levels)), linear)
    top = 1.0 if len(places) <= MOST_GRID_LINES else 0.06
    return [
        {
            "type": "scatter",
            "mode": "lines",
            "name": "grid of the widest token" if each_its_own else "grid",
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
    view: LayerView, reach: tuple[float, float], linear: float, theme: Theme
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Dashed lines where the grid ends, what is clipped beyond them shaded, and how much that is in words.

    ``reach`` is where the values that are rounded end, which need not be those of the layer's input.
    """
    shapes: list[dict[str, Any]] = []
    for edge, outermost in zip((view.clip_low, view.clip_high), reach, strict=True):
        if edge is None or not np.isfinite(edge):
            continue
        at, end = (float(value) for value in symlog.to_axis([edge, outermost], linear))
        line = {"color": theme.quantized, "width": 1.5, "dash": "4px,3px"}
        shapes.append({"type": "line", "x0": at, "x1": at, "y0": 0, "y1": 1, "yref": "paper", "line": line})
        if view.clipped_fraction and (end > at if edge == view.clip_high else end < at):
            shapes.append(_beyond(at, end, theme))
    if not shapes:
        return [], []
    share = (
        f"{short(100 * view.clipped_fraction, 2)} % clipped" if view.clipped_fraction else "nothing clipped"
    )
    levels = len(view.grid) if view.grid is not None else 0
    wasted = f"<br>{view.wasted_levels or 'none'} of {levels} levels unused" if levels else ""
    note = {
        "text": share + wasted,
        "x": 1,
        "y": 1,
        "xref": "paper",
        "yref": "paper",
        "xanchor": "right",
        "yanchor": "top",
        "align": "right",
        "showarrow": False,
        "bgcolor": theme.page,
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


def _axes(span: tuple[float, float], linear: float, uirevision: str, theme: Theme) -> dict[str, Any]:
    figure_layout = layout(theme, uirevision=uirevision, margin=(22, 46, 10, 36))
    # No range of our own: plotly keeps a person's zoom only while the range it was asked for stays the same.
    figure_layout["xaxis"] = axis(
        theme, autorange=True, title=titled("input value (symlog)", theme), **symlog.ticks(*span, linear)
    )
    figure_layout["yaxis"] = axis(
        theme,
        type="log",
        title=titled("share of values", theme),
        range=[-6.2, 0],
        tickmode="array",
        tickvals=[1e-6, 1e-4, 1e-2, 1],
        ticktext=["10⁻⁶", "10⁻⁴", "1 %", "100 %"],
    )
    figure_layout["yaxis2"] = {"overlaying": "y", "range": [0, 1], "visible": False, "fixedrange": True}
    figure_layout["hovermode"] = "closest"
    return figure_layout
