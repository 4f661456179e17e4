"""Every step of a tensor's quantization as a row, all on one symmetric logarithmic axis. It measures nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quantlab.engine.views import LayerView
from quantlab.figures import symlog
from quantlab.figures.readable import short
from quantlab.figures.ridge import FLOOR, crest, on_axis, span_of
from quantlab.figures.stepped import Stepped, values_of
from quantlab.figures.theme import LIGHT, Figure, Theme, axis, empty, layout, titled
from quantlab.numerics.records import Histogram

DECADES = -float(np.log10(FLOOR))
WORDS = 128
"""Pixels for the words on the right."""
HEIGHT = 0.86
"""Of a row, whose distance to the next is 1."""
OUTPUT = {"exact": "output, exact", "quantized": "output, rounded", "compensated": "compensated"}


@dataclass(frozen=True, slots=True)
class _Row:
    """``ghost``: the same before the last change."""

    step: str
    label: str
    histogram: Histogram
    place: float
    ghost: Histogram | None = None


def waterfall(
    view: Stepped, *, former: Stepped | None = None, name: str = "", theme: Theme = LIGHT
) -> Figure:
    """Draw raw, rotated, smoothed and quantized values below each other; a step that is not taken is not drawn.

    The last layer of a compensated branch has three more rows: the branch's output in full precision, under the
    recipe, and with its correction. Those are outputs, and the rows above are the layer's input.

    Args:
        view: The input of a layer, or its weight.
        former: The same before the last change; its rows are ghosts.
        name: Of the layer; the zoom stays as long as it is the same.
        theme: The colours.
    """
    rows = _rows(view, former)
    if not rows:
        return empty("The input of this layer was not sampled.", theme, uirevision=f"waterfall {name}")
    first = rows[0].histogram
    linear = symlog.linear_width(first.edges, first.counts)
    shown = [row.histogram for row in rows] + [row.ghost for row in rows if row.ghost is not None]
    span = span_of(shown)
    traces = []
    for row in rows:
        if row.ghost is not None:
            traces.append(_curve(row, row.ghost, linear, span, theme, ghost=True))
        traces.append(_curve(row, row.histogram, linear, span, theme))
    figure_layout = _axes(rows, view, span, linear, f"waterfall {name}", theme)
    return {"data": traces, "layout": figure_layout}


def _rows(view: Stepped, former: Stepped | None) -> list[_Row]:
    before: Mapping[str, Histogram] = former.steps if former is not None else {}
    rows = [
        _Row(step, step, histogram, -float(place), before.get(step) if step != "raw" else None)
        for place, (step, histogram) in enumerate(view.steps.items())
    ]
    output = view.output if isinstance(view, LayerView) else None
    if output is not None:
        last = former.output if isinstance(former, LayerView) else None
        for place, step in enumerate(OUTPUT, start=len(rows)):
            ghost = getattr(last, step) if last is not None and step != "exact" else None
            rows.append(_Row(step, OUTPUT[step], getattr(output, step), -place - 0.35, ghost))
    return rows


def _curve(
    row: _Row,
    histogram: Histogram,
    linear: float,
    span: tuple[float, float],
    theme: Theme,
    *,
    ghost: bool = False,
) -> dict[str, Any]:
    edges, share = on_axis(histogram, linear, span)
    heights = np.concatenate([[0.0], np.repeat(share, 2), [0.0]])
    values = np.sinh(np.repeat(edges, 2)) * linear
    label = f"{row.label} before" if ghost else row.label
    colour = theme.full if row.step == "exact" else theme.step(row.step)
    line = {"color": colour, "width": 1.5}
    return {
        "type": "scatter",
        "mode": "lines",
        "name": label,
        "x": [round(float(x), 3) for x in np.repeat(edges, 2)],
        "y": [round(row.place + HEIGHT * float(y), 4) for y in _logarithmic(heights)],
        "customdata": [short(float(value)) for value in values],
        "text": [f"{short(100 * float(y), 2)} %" for y in heights],
        "hovertemplate": label + "<br>%{customdata}: %{text}<extra></extra>",
        "line": {**line, "color": theme.ghost, "dash": "3px,2px"} if ghost else line,
        "fill": "none" if ghost else "toself",
        "opacity": 1.0,
        "meta": {"y": [float(f"{y:.4g}") for y in heights], "value": "share of values"},
    }


def _logarithmic(shares: NDArray[np.float64]) -> NDArray[np.float64]:
    """0 for nobody, 1 for all: a linear height would hide the few large values that matter most."""
    return 1 + np.log10(np.maximum(shares, FLOOR)) / DECADES


def _axes(
    rows: list[_Row], view: Stepped, span: tuple[float, float], linear: float, uirevision: str, theme: Theme
) -> dict[str, Any]:
    figure_layout = layout(theme, uirevision=uirevision, margin=(10, 92, WORDS, 36))
    mixed = any(row.step == "exact" for row in rows)
    title = f"{values_of(view)}, and output of the branch" if mixed else values_of(view)
    figure_layout["xaxis"] = axis(
        theme, autorange=True, title=titled(f"{title} (symlog)", theme), **symlog.ticks(*span, linear)
    )
    figure_layout["yaxis"] = axis(
        theme,
        range=[rows[-1].place - 0.06, rows[0].place + 1.0],
        tickmode="array",
        tickvals=[row.place + 0.34 for row in rows],
        ticktext=[row.label for row in rows],
        fixedrange=True,
    )
    figure_layout["showlegend"] = False
    figure_layout["hovermode"] = "closest"
    figure_layout["annotations"] = [_note(row, theme) for row in rows]
    figure_layout["meta"] = {"x": {"symlog": linear, "title": title}}
    return figure_layout


def _note(row: _Row, theme: Theme) -> dict[str, Any]:
    """The largest value of a row and how far it sticks out, at its right end."""
    largest, ratio = crest(row.histogram)
    return {
        "text": f"up to {short(largest, 2)} = {short(ratio, 2)} × rms",
        "hovertext": "the largest magnitude, and what multiple of the root mean square it is",
        "x": 1.0,
        "xshift": 6,
        "xref": "paper",
        "xanchor": "left",
        "y": row.place + 0.34,
        "yanchor": "middle",
        "showarrow": False,
        "font": {"size": 10, "color": theme.quiet},
    }
