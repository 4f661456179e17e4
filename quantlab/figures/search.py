"""The loss a range search saw at each scale it tried. It searches nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quantlab.figures import symlog
from quantlab.figures.readable import short
from quantlab.figures.theme import LIGHT, Figure, Theme, axis, layout, titled

ROOM = 0.035
"""Of the axis, between two numbers."""


def search_curve(
    scales: Sequence[float],
    losses: Sequence[float],
    *,
    every: tuple[Sequence[float], Sequence[float]] = ((), ()),
    former: tuple[Sequence[float], Sequence[float]] = ((), ()),
    name: str = "",
    theme: Theme = LIGHT,
) -> Figure:
    """Draw the candidates in the order they were tried, numbered, and mark the one that won.

    Args:
        scales: The candidates, in the order they were visited.
        losses: What each one lost.
        every: All candidates and their losses, where they are known: the curve that the search walked on.
        former: Scales and losses of the search before the last change, drawn as a ghost.
        name: Of the layer; the zoom stays as long as it is the same.
        theme: The colours.
    """
    scale, loss = np.asarray(scales, np.float64), np.asarray(losses, np.float64)
    traces = []
    if len(former[0]):
        traces.append(_line("before", *former, {"color": theme.ghost, "width": 1.5, "dash": "3px,2px"}))
    if len(every[0]) > len(scale):
        traces.append(_line("all candidates", *every, {"color": theme.rule, "width": 2}))
    traces.append(_visited(scale, loss, theme))
    best = int(np.nanargmin(loss)) if np.isfinite(loss).any() else -1
    if best >= 0:
        chosen = {"color": theme.quantized, "size": 9, "symbol": "diamond"}
        label = f"chosen {short(float(scale[best]))}, the {_ordinal(best + 1)} tried"
        point = {"x": [float(scale[best])], "y": [float(loss[best])], "marker": chosen, "name": label}
        traces.append({"type": "scatter", "mode": "markers", "hoverinfo": "skip", **point})
    figure_layout = layout(theme, uirevision=f"search {name}", margin=(22, 56, 10, 34))
    figure_layout["xaxis"] = axis(theme, title=titled("scale (one step)", theme))
    shown = np.concatenate([np.asarray(part, np.float64) for part in (loss, every[1], former[1])])
    known = shown[np.isfinite(shown)]
    ticks = symlog.log_ticks(known.min(), known.max()) if len(known) and known.min() > 0 else {"nticks": 5}
    figure_layout["yaxis"] = axis(theme, title=titled("loss", theme), **ticks)
    return {"data": traces, "layout": figure_layout}


def _line(
    label: str, scales: Sequence[float], losses: Sequence[float], line: dict[str, Any]
) -> dict[str, Any]:
    order = np.argsort(np.asarray(scales, np.float64), kind="stable")
    return {
        "type": "scatter",
        "mode": "lines",
        "name": label,
        "x": [float(scales[at]) for at in order],
        "y": [float(losses[at]) if np.isfinite(losses[at]) else None for at in order],
        "line": line,
        "hovertemplate": label + "<br>scale %{x:.4g}<br>loss %{y:.4g}<extra></extra>",
    }


def _visited(scale: NDArray[np.float64], loss: NDArray[np.float64], theme: Theme) -> dict[str, Any]:
    """The points tried, later ones darker, with their numbers where there is room for them."""
    numbers = np.arange(1, len(scale) + 1)
    return {
        "type": "scatter",
        "mode": "markers+text",
        "name": f"{len(scale)} tried",
        "x": scale.tolist(),
        "y": [float(value) if np.isfinite(value) else None for value in loss],
        "customdata": numbers.tolist(),
        "text": [str(number) if shown else "" for number, shown in zip(numbers, _roomy(scale), strict=True)],
        "textposition": "top center",
        "cliponaxis": False,
        "textfont": {"size": 9, "color": theme.quiet},
        "hovertemplate": "scale %{x:.4g}<br>loss %{y:.4g}<br>tried as number %{customdata}<extra></extra>",
        "marker": {
            "color": theme.full,
            "size": 6,
            "opacity": np.round(np.linspace(0.35, 1.0, len(scale)), 2).tolist(),
        },
    }


def _roomy(scale: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which points are numbered: in the order of the visits, those that stand clear of the ones numbered before."""
    shown = np.zeros(len(scale), np.bool_)
    least = ROOM * float(np.ptp(scale)) if len(scale) else 0.0
    for index, value in enumerate(scale):
        shown[index] = not shown.any() or float(np.abs(scale[shown] - value).min()) >= least
    return shown


def _ordinal(number: int) -> str:
    ending = "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"
