"""A layer's values on a symmetric logarithmic axis with the quantizer's grid drawn on them. It measures nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from quantlab.figures import symlog
from quantlab.figures.readable import short
from quantlab.figures.ridge import FLOOR, on_axis, span_of
from quantlab.figures.stepped import Stepped, before_rounding, is_weight, values_of
from quantlab.figures.theme import DASHES, LIGHT, Figure, Theme, axis, empty, layout, titled

if TYPE_CHECKING:
    from quantlab.calibration.profile import LayerProfile
    from quantlab.numerics.records import Histogram

MOST_GRID_LINES = 64


def layer_histogram(
    view: Stepped,
    *,
    former: Histogram | None = None,
    profile: LayerProfile | None = None,
    name: str = "",
    theme: Theme = LIGHT,
) -> Figure:
    """Draw each step of a layer's quantization on one axis, the grid, the clip lines and the former state as a ghost.

    Args:
        view: The steps, the grid and the clipping of a layer's input, or of its weight.
        former: The quantized values before the last change.
        profile: Of the same layer; its inputs are drawn where the view has no samples, as of a convolution.
        name: Of the layer; the zoom stays as long as it is the same.
        theme: The colours.
    """
    steps = dict(view.steps) or ({"raw": profile.all.histogram} if profile is not None else {})
    if not steps:
        return empty("The input of this layer was not measured.", theme, uirevision=f"histogram {name}")
    raw, rounded = next(iter(steps.values())), before_rounding([*steps])
    linear = symlog.linear_width(raw.edges, raw.counts)
    ghosts = [former] if former is not None else []
    span = span_of([*steps.values(), *ghosts], _marks(view))
    traces = [
        _curve(step, histogram, linear, span, theme, visible=_visibility(step, [*steps]))
        for step, histogram in steps.items()
    ]
    for histogram in ghosts:
        curve = _curve("before", histogram, linear, span, theme)
        line = {**curve["line"], "color": theme.ghost, "width": 1.5, "dash": "3px,2px"}
        traces.insert(0, {**curve, "line": line})
    figure_layout = _axes(span, linear, f"histogram {name}", values_of(view), theme)
    reach = span_of([steps[rounded]])
    figure_layout["shapes"], figure_layout["annotations"] = _clipping(view, reach, linear, theme)
    return {"data": [*_grid(view, linear, theme), *traces], "layout": figure_layout}


def token_histogram(layer: LayerProfile, *, theme: Theme = LIGHT) -> Figure:
    """Draw the inputs of a layer, one curve a token kind, each as shares of its own kind."""
    kinds = {kind: stats for kind, stats in layer.tokens.items() if kind != "all"} or dict(layer.tokens)
    everything = layer.all.histogram
    linear = symlog.linear_width(everything.edges, everything.counts)
    span = span_of([stats.histogram for stats in kinds.values()])
    traces = []
    for kind, stats in kinds.items():
        curve = _curve(f"{kind} · max {short(stats.max)}", stats.histogram, linear, span, theme)
        colour = theme.token(kind) if kind != "all" else theme.full
        traces.append({**curve, "line": {**curve["line"], "color": colour, "width": 1.5}})
    return {"data": traces, "layout": _axes(span, linear, f"tokens {layer.name}", "input value", theme)}


def _visibility(step: str, steps: list[str]) -> bool | str:
    """Steps between the first and the one that is rounded wait in the legend: four curves at once hide each other."""
    return True if step in (steps[0], before_rounding(steps), "quantized") else "legendonly"


def _marks(view: Stepped) -> list[float]:
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
    edges, share = on_axis(histogram, linear, span)
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


def _grid(view: Stepped, linear: float, theme: Theme) -> list[dict[str, Any]]:
    """The levels as thin lines; many of them only as a rug at the foot, so that the data stays visible."""
    levels = view.grid
    if levels is None or len(levels) == 0:
        return []
    widest = _widest(view)
    places = symlog.to_axis(np.sort(np.asarray(levels)), linear)
    top = 1.0 if len(places) <= MOST_GRID_LINES else 0.06
    return [
        {
            "type": "scatter",
            "mode": "lines",
            "name": f"grid of the widest {widest}" if widest else "grid",
            "x": [
                value for place in places for value in (round(float(place), 4), round(float(place), 4), None)
            ],
            "y": [0, top, None] * len(places),
            "yaxis": "y2",
            "line": {"color": theme.quantized, "width": 1},
            "opacity": 0.28 if top == 1.0 else 0.6,
            "showlegend": False,  # the words beside the clip line name it
            "hoverinfo": "skip",
        }
    ]


def _widest(view: Stepped) -> str:
    """Of what the grid is drawn that has the widest range; "" where one range serves all."""
    settings = view.settings
    if is_weight(view):
        return {"tensor": "", "group": "group"}.get(settings.weight_granularity, "channel")
    return "token" * (settings.activation_mode == "dynamic" and settings.activation_granularity == "token")


def _clipping(
    view: Stepped, reach: tuple[float, float], linear: float, theme: Theme
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
    wasted += f"<br>grid: widest {widest}" if levels and (widest := _widest(view)) else ""
    note = {
        "text": share + wasted,
        "x": 0,
        "y": 1,
        "xref": "paper",
        "yref": "paper",
        "xanchor": "left",
        "yanchor": "top",
        "align": "left",
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


def _axes(
    span: tuple[float, float], linear: float, uirevision: str, what: str, theme: Theme
) -> dict[str, Any]:
    figure_layout = layout(theme, uirevision=uirevision, margin=(22, 52, 10, 36))
    # No range of our own: plotly keeps a person's zoom only while the range it was asked for stays the same.
    figure_layout["xaxis"] = axis(
        theme, autorange=True, title=titled(f"{what} (symlog)", theme), **symlog.ticks(*span, linear)
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
    figure_layout["meta"] = {"x": {"symlog": linear, "title": what}}
    return figure_layout
