"""A layer's values by channel and token in relief, one surface a step. It measures nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quantlab.figures.landscape import bands, colour_bar, ids, maps, nothing, rows_of
from quantlab.figures.readable import short
from quantlab.figures.stepped import Stepped, symbol
from quantlab.figures.theme import LIGHT, Figure, Theme, empty, layout

GAP = 14
"""Rows between two surfaces."""


def surface(
    view: Stepped,
    step: str | Sequence[str] = "raw",
    *,
    kinds: Sequence[str] = (),
    name: str = "",
    theme: Theme = LIGHT,
) -> Figure:
    """Draw the same values in relief, one surface a step behind the other, heights linear, colours logarithmic.

    Args:
        view: Holds one landscape a step.
        step: Which one, or several.
        kinds: The kind of each token, marked along the edge in its colour.
        name: Of the layer; the camera stays as long as it is the same.
        theme: The colours.
    """
    steps, pictures, span = maps(view, step)
    if not steps:
        return empty(nothing(view), theme, uirevision=f"surface {name}")
    traces: list[dict[str, Any]] = []
    notes, start = [], 0
    for index, (item, values) in enumerate(zip(steps, pictures, strict=True)):
        relief = _relief(view, values, span, start, item, theme)
        traces.append({**relief, "showscale": index == 0})
        traces += _edge(kinds, start, theme, shown=index == 0)
        notes.append(_called(item, values.shape, start, span, theme))
        start += len(values) + GAP
    figure_layout = layout(theme, uirevision=f"surface {name}", margin=(24, 0, 64, 20))
    figure_layout["legend"]["x"] = 0.03
    figure_layout["scene"] = _scene(view, notes, span, pictures[0].shape[1], theme)
    figure_layout["meta"] = {"x": {"title": "channel"}, "y": {"title": rows_of(view)}}
    return {"data": traces, "layout": figure_layout}


def _relief(
    view: Stepped, values: NDArray[np.float64], span: tuple[float, float], start: int, step: str, theme: Theme
) -> dict[str, Any]:
    tokens, channels = values.shape
    names = ids(view.landscape_channels, channels), ids(view.landscape_tokens, tokens)
    return {
        "type": "surface",
        "name": step,
        "x": list(range(channels)),
        "y": list(range(start, start + tokens)),
        "z": [[float(f"{value:.3g}") for value in line] for line in values],
        "surfacecolor": np.round(np.log10(np.clip(values, *span)), 2).tolist(),
        "cmin": float(np.log10(span[0])),
        "cmax": float(np.log10(span[1])),
        "text": [
            [f"channel {channel}, {rows_of(view)} {token}" for channel in names[0]] for token in names[1]
        ],
        "hovertemplate": f"{step}<br>%{{text}}<br>{symbol(view)} %{{z:.3g}}<extra></extra>",
        "colorscale": theme.severity,
        "colorbar": colour_bar(symbol(view), span, theme),
        "contours": {axis_name: {"highlight": False} for axis_name in "xyz"},
        "lighting": {"ambient": 0.75, "diffuse": 0.5, "specular": 0.05},
        "meta": {"value": symbol(view)},
    }


def _edge(kinds: Sequence[str], start: int, theme: Theme, *, shown: bool) -> list[dict[str, Any]]:
    """A line along the tokens of each kind, in its colour."""
    return [
        {
            "type": "scatter3d",
            "mode": "lines",
            "name": kind.replace("_", " "),
            "showlegend": shown,
            "x": [-5, -5],
            "y": [start + first - 0.4, start + end - 0.6],
            "z": [0, 0],
            "line": {"color": theme.token(kind), "width": 9},
            "hoverinfo": "skip",
        }
        for kind, first, end in bands(kinds)
    ]


def _called(
    step: str, shape: tuple[int, ...], start: int, span: tuple[float, float], theme: Theme
) -> dict[str, Any]:
    """The name of a step, above the far corner of its surface."""
    return {
        "text": step,
        "x": shape[1] - 1,
        "y": start + shape[0] / 2,
        "z": span[1],
        "showarrow": False,
        "font": {"size": 11, "color": theme.ink},
    }


def _scene(
    view: Stepped, notes: list[dict[str, Any]], span: tuple[float, float], channels: int, theme: Theme
) -> dict[str, Any]:
    def shared(title: str) -> dict[str, Any]:
        return {
            "title": {"text": title, "font": {"size": 11, "color": theme.quiet}},
            "tickfont": {"size": 9, "color": theme.quiet},
            "gridcolor": theme.rule,
            "zeroline": False,
            "showbackground": False,
            "showspikes": False,
        }

    places = np.unique(np.linspace(0, channels - 1, 5).round().astype(int))
    named = ids(view.landscape_channels, channels)
    return {
        "xaxis": {
            **shared("channel"),
            "tickvals": places.tolist(),
            "ticktext": [str(named[place]) for place in places],
        },
        "yaxis": {**shared(f"{rows_of(view)}s"), "showticklabels": False},
        "zaxis": {
            **shared(symbol(view)),
            "range": [0, span[1]],
            "tickvals": [0, span[1] / 2, span[1]],
            "ticktext": ["0", short(span[1] / 2, 2), short(span[1], 2)],
        },
        "aspectmode": "manual",
        "aspectratio": {"x": 2.0, "y": 1.4, "z": 0.7},
        "camera": {"eye": {"x": 0.9, "y": -2.2, "z": 1.1}, "center": {"x": 0, "y": 0, "z": -0.4}},
        "annotations": notes,
    }
