"""Size or time against drift of the recipes that a search considered, predicted and run. It searches nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from math import ceil, floor, log10
from typing import Any

from quantlab.engine.search_record import Candidate, Search
from quantlab.figures.readable import duration, short
from quantlab.figures.theme import LIGHT, Figure, Theme, axis, layout, titled

FEW_POWERS = 4
MARGIN = 0.04
"""Of the span of the points, on either side of them."""
BELOW = 0.4
"""Of the smallest drift above 0: where 0 stands on the logarithmic axis."""
Points = Sequence[tuple[int, Candidate]]


@dataclass(frozen=True, slots=True)
class Across:
    """What the horizontal axis counts.

    Attributes:
        title: Below it, with the unit.
        of: A candidate's place on it.
        factor: From the unit of a budget to that of the axis.
    """

    title: str
    of: Callable[[Candidate], float]
    factor: float


SIZE = Across("size of the whole network, MB", lambda one: one.bytes / 1e6, 1e-6)
TIME = Across("time of a forward pass, ms", lambda one: 1e3 * (one.seconds or 0.0), 1e3)


def pareto(
    search: Search,
    *,
    now: int | None = None,
    budget: float | None = None,
    by_time: bool = False,
    theme: Theme = LIGHT,
) -> Figure:
    """Draw every candidate of a search at its size (or time) and drift; each point carries its place as ``customdata``.

    The drift is the measured one where the recipe was run, else the predicted one, and the marks tell which.
    A logarithm has no zero: a drift of 0 stands below all others, where the axis says 0.

    Args:
        search: From ``lab.search()``.
        now: Place in ``search.distinct`` of the recipe in force, if it is one of them.
        budget: Bytes (or seconds), drawn as a line.
        by_time: Draw what candidates take in place of what they weigh; those that nobody timed are left out.
        theme: The colours.
    """
    across = TIME if by_time else SIZE
    drawn = [
        (place, one)
        for place, one in enumerate(search.distinct)
        if drift(one) < float("inf") and not (by_time and one.seconds is None)
    ]
    front = [(place, one) for place, one in drawn if one.kind in ("front", "refined")]
    uniform = [(place, one) for place, one in drawn if one.kind == "uniform"]
    guessed = [(place, one) for place, one in front if one.verified is None]
    run = [(place, one) for place, one in drawn if one.verified is not None and one.kind != "uniform"]
    best = [(place, one) for place, one in drawn if one.recipe == search.chosen.recipe]
    traces = [
        _line(front, across, theme),
        _marks("predicted", guessed, across, {"symbol": "circle-open", "color": theme.quantized, "size": 7}),
        _marks("run", run, across, {"symbol": "circle", "color": theme.quantized, "size": 8}),
        _uniform(uniform, across, theme),
        _marks("chosen", best, across, {"symbol": "diamond", "color": theme.focus, "size": 12}),
    ]
    if now is not None:
        ring = {"symbol": "circle-open", "color": theme.ink, "size": 18, "line": {"width": 1.6}}
        traces.append(
            _marks("in force", [pair for pair in drawn if pair[0] == now], across, ring)
            | {"hoverinfo": "skip"}
        )
    percent = [100 * drift(one) for _, one in drawn]
    for trace in traces:
        trace["y"] = [value or _floor(percent) for value in trace["y"]]
    figure_layout = _layout(percent, across, theme)
    low, high = figure_layout["xaxis"]["range"] = _range([across.of(one) for _, one in drawn])
    if budget is not None:
        at = min(max(budget * across.factor, low), high)
        line = {"color": theme.focus, "width": 1.5, "dash": "4px,3px"}
        place = {"x0": at, "x1": at, "y0": 0, "y1": 1, "yref": "paper"}
        figure_layout["shapes"] = [{"type": "line", "line": line, "layer": "below", **place}]
    return {"data": traces, "layout": figure_layout}


def drift(candidate: Candidate) -> float:
    """The measured drift where there is one, else the predicted one."""
    return candidate.predicted if candidate.verified is None else candidate.verified.drift


def _floor(percent: Sequence[float]) -> float:
    """Where a drift of 0 is drawn: below the smallest other one."""
    return BELOW * min((value for value in percent if value > 0), default=1.0)


def _range(places: Sequence[float]) -> list[float]:
    """All points and some room; a budget beyond them stands at the edge, so that it does not squeeze them together."""
    low, high = min(places, default=0.0), max(places, default=1.0)
    room = MARGIN * (high - low) or MARGIN * abs(high) or MARGIN
    return [low - room, high + room]


def _layout(percent: Sequence[float], across: Across, theme: Theme) -> dict[str, Any]:
    figure_layout = layout(theme, uirevision=f"pareto {across.title}", margin=(40, 56, 16, 36))
    figure_layout["xaxis"] = axis(theme, title=titled(across.title, theme), nticks=8)
    title = titled("drift, % of scene size", theme)
    figure_layout["yaxis"] = axis(theme, title=title, **_ticks(percent))
    figure_layout["hovermode"] = "closest"
    return figure_layout


def _ticks(percent: Sequence[float]) -> dict[str, Any]:
    """A logarithmic axis with plain numbers: 1, 2, 5 of each power of ten, or the powers where there are many."""
    above = [value for value in percent if value > 0] or [1.0]
    low, high = min(above), max(above)
    powers = range(floor(log10(low)), ceil(log10(high)) + 1)
    steps = (1, 2, 5) if len(powers) <= FEW_POWERS else (1,)
    values = [float(f"{step * 10.0**power:.1g}") for power in powers for step in steps]
    ticks = {value: short(value) for value in values}
    if 0 in percent:
        ticks = {_floor(percent): "0"} | {value: text for value, text in ticks.items() if value > low / 2}
    return {"type": "log", "tickmode": "array", "tickvals": list(ticks), "ticktext": list(ticks.values())}


def _line(points: Points, across: Across, theme: Theme) -> dict[str, Any]:
    """The front as predicted, whole, so that what was run can be compared with it."""
    known = [one for _, one in points if one.predicted > 0]
    return {
        "type": "scatter",
        "mode": "lines",
        "name": "front, predicted",
        "x": [across.of(one) for one in known],
        "y": [100 * one.predicted for one in known],
        "line": {"color": theme.quantized, "width": 1},
        "opacity": 0.5,
        "hoverinfo": "skip",
        "showlegend": False,
    }


def _marks(name: str, points: Points, across: Across, marker: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "markers",
        "name": name,
        "x": [across.of(one) for _, one in points],
        "y": [100 * drift(one) for _, one in points],
        "customdata": [str(place) for place, _ in points],
        "text": [_hover(one) for _, one in points],
        "hovertemplate": "%{text}<extra></extra>",
        "marker": marker,
        "cliponaxis": False,
        "showlegend": bool(points),
    }


def _uniform(points: Points, across: Across, theme: Theme) -> dict[str, Any]:
    trace = _marks("equal bits", points, across, {"symbol": "square", "color": theme.full, "size": 8})
    labels = [f"{next(iter(one.bits.values()), '')}" for _, one in points]
    return trace | {
        "mode": "markers+text",
        "hovertext": trace["text"],
        "hovertemplate": "%{hovertext}<extra></extra>",
        "text": labels,
        "textposition": "top right",
        "textfont": {"size": 10, "color": theme.quiet},
    }


def _hover(one: Candidate) -> str:
    counts = Counter(one.bits.values())
    layers = ", ".join(f"{count} × {bits}" for bits, count in sorted(counts.items()))
    size = f"{one.bytes / 1e6:.2f} MB"
    lines = [
        f"<b>{escape(one.label)}</b>",
        *([] if one.label == size else [size]),
        f"layers × bits: {layers}",
    ]
    if one.seconds is not None:
        told = "" if one.timed is None else f", measured {' '.join(duration(one.timed))}"
        lines.append(f"{' '.join(duration(one.seconds))} by its layers{told}")
    if one.verified is not None:
        lines.append(f"measured {short(100 * one.verified.drift)} %")
    lines += [f"predicted {short(100 * one.predicted)} %", "click to load"]
    return "<br>".join(lines)
