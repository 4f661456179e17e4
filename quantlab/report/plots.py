"""A plotly figure of lines, or of bars, as a still picture with its legend. What is drawn is decided by the figure."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from quantlab.figures.theme import Figure
from quantlab.report.markup import Markup, tag
from quantlab.report.svg import LETTER, Axis, Numbers, axis, frame, gridlines, label, paint, stroke, words

WIDTH, HEIGHT = 480, 240
LEFT, RIGHT, BOTTOM, LINE = 52, 8, 36, 15
SHAPES = {"line", "rect"}


def lines(figure: Figure, *, title: str, width: int = WIDTH, height: int = HEIGHT) -> Markup:
    """The picture of a figure of the kinds "scatter" (lines) and "bar"; traces that wait in the legend are left out."""
    layout = figure["layout"]
    traces = [trace for trace in figure["data"] if trace.get("visible", True) is True]
    rows = _legend(traces, width - LEFT - RIGHT)
    top = 8 + LINE * (1 + max((row for row, *_ in rows), default=-1))
    across = (LEFT, width - RIGHT)
    x = axis(layout.get("xaxis", {}), _values(traces, "x"), across)
    y = axis(layout.get("yaxis", {}), _values(traces, "y"), (height - BOTTOM, top))
    other = axis(layout.get("yaxis2", {"range": [0, 1]}), [], (height - BOTTOM, top))
    drawn = [_trace(trace, x, other if trace.get("yaxis") == "y2" else y) for trace in traces]
    shapes = [_shape(shape, x, y) for shape in layout.get("shapes", ()) if shape.get("type") in SHAPES]
    notes = [_note(note, x, y) for note in layout.get("annotations", ())]
    keys = [_key(LEFT + at, 4 + LINE * (row + 0.5), trace) for row, at, trace in rows]
    return frame(width, height, gridlines(x, y), shapes, drawn, notes, keys, title=title)


def _values(traces: Iterable[Numbers], name: str) -> list[float]:
    """What a plot that fits itself must hold; a bar also stands on zero."""
    own = [trace for trace in traces if trace.get("yaxis", "y") == "y"]
    found = [float(value) for trace in own for value in trace.get(name, ()) if value is not None]
    bars = name == "y" and any(trace.get("type") == "bar" for trace in own)
    return [value for value in [*found, *([0.0] if bars else [])] if math.isfinite(value)]


def _legend(traces: list[Any], width: float) -> list[tuple[int, float, Any]]:
    """Each named trace with its row and place; a row that is full is followed by another."""
    placed, row, at = [], 0, 0.0
    for trace in traces:
        if not trace.get("name") or trace.get("showlegend") is False:
            continue
        needs = 30 + LETTER * len(words(str(trace["name"]))[0])
        if at and at + needs > width:
            row, at = row + 1, 0.0
        placed.append((row, at, trace))
        at += needs
    return placed


def _key(x: float, y: float, trace: Numbers) -> Markup:
    line = {"x1": x, "y1": y, "x2": x + 16, "y2": y}
    sample = tag("line", **line, **_look(trace))
    return tag("g", sample, label(x + 20, y, words(str(trace["name"]))[0], colour="@ink"))


def _look(trace: Numbers) -> dict[str, Any]:
    if trace.get("type") == "bar":
        return {"stroke": paint(trace.get("marker", {}).get("color", "@quantized")), "stroke_width": 6}
    return {**stroke(trace.get("line", {})), "opacity": trace.get("opacity")}


def _trace(trace: Numbers, x: Axis, y: Axis) -> Markup:
    xs, ys = list(trace.get("x", ())), list(trace.get("y", ()))
    if trace.get("type") == "bar":
        return _bars(xs, ys, x, y, trace)
    runs: list[list[tuple[float, float]]] = [[]]
    for across, up in zip(xs, ys, strict=False):
        if across is None or up is None:
            runs.append([])
        else:
            runs[-1].append((x.at(float(across)), y.at(float(up))))
    runs = [run for run in runs if run]
    path = "".join("M" + "L".join(f"{at:g} {up:g}" for at, up in run) for run in runs)
    parts = [tag("path", d=path, fill="none", **_look(trace))]
    if trace.get("fill") == "tozeroy" and runs:
        closed = "".join(_closed(run, y.start) for run in runs)
        parts.insert(0, tag("path", d=closed, fill=_look(trace)["stroke"], fill_opacity=0.14))
    return tag("g", tag("title", words(str(trace.get("name", "")))[0]), *parts)


def _closed(run: list[tuple[float, float]], foot: float) -> str:
    inner = "L".join(f"{at:g} {up:g}" for at, up in run)
    return f"M{run[0][0]:g} {foot:g}L{inner}L{run[-1][0]:g} {foot:g}Z"


def _bars(xs: list[Any], ys: list[Any], x: Axis, y: Axis, trace: Numbers) -> Markup:
    given = trace.get("width")
    step = float(given) if isinstance(given, int | float) else (xs[1] - xs[0] if len(xs) > 1 else 1.0)
    parts = []
    for across, up in zip(xs, ys, strict=False):
        left, right = x.at(across - step / 2), x.at(across + step / 2)
        high, low = y.at(up), y.at(0.0)
        size = {
            "x": left,
            "y": min(high, low),
            "width": max(right - left - 0.5, 0.5),
            "height": abs(low - high),
        }
        parts.append(tag("rect", **{key: round(value, 1) for key, value in size.items()}))
    colour = paint(trace.get("marker", {}).get("color", "@quantized"))
    return tag("g", tag("title", words(str(trace.get("name", "")))[0]), *parts, fill=colour)


def _shape(shape: Numbers, x: Axis, y: Axis) -> Markup:
    x0, x1 = (_place(shape[name], shape.get("xref", "x"), x) for name in ("x0", "x1"))
    y0, y1 = (_place(shape[name], shape.get("yref", "y"), y) for name in ("y0", "y1"))
    if shape["type"] == "line":
        return tag("line", x1=x0, y1=y0, x2=x1, y2=y1, **stroke(shape.get("line", {})))
    size = {"x": min(x0, x1), "y": min(y0, y1), "width": abs(x1 - x0), "height": abs(y1 - y0)}
    fill = {"fill": paint(shape.get("fillcolor", "none")), "fill_opacity": shape.get("opacity")}
    line = stroke(shape["line"]) if shape.get("line", {}).get("width") else {}
    return tag("rect", **{key: round(value, 1) for key, value in size.items()}, **fill, **line)


def _place(value: float, reference: str, along: Axis) -> float:
    if reference == "paper":
        return round(along.start + value * (along.end - along.start), 1)
    return along.at(value)


def _note(note: Numbers, x: Axis, y: Axis) -> Markup:
    """Words inside of the plot, on a piece of paper where they would cross lines."""
    told, size = words(note.get("text", "")), note.get("font", {}).get("size", 10)
    at, up = _place(note["x"], note.get("xref", "x"), x), _place(note["y"], note.get("yref", "y"), y)
    anchor = {"left": "start", "right": "end"}.get(note.get("xanchor", "center"), "middle")
    middle = note.get("yanchor", "middle") == "middle"
    first = up + (-(len(told) - 1) / 2 if middle else 0.6) * (size + 3)
    wide = LETTER * max(map(len, told)) + 6
    left = at - {"start": 3, "end": wide - 3, "middle": wide / 2}[anchor]
    paper = {
        "x": round(left, 1),
        "y": round(first - 8, 1),
        "width": round(wide, 1),
        "height": len(told) * (size + 3) + 3,
    }
    back = tag("rect", **paper, fill=paint(note.get("bgcolor", "none")), fill_opacity=0.85)
    colour = note.get("font", {}).get("color", "@quiet")
    rows = [
        label(at, first + index * (size + 3), line, anchor=anchor, colour=colour, size=size)
        for index, line in enumerate(told)
    ]
    return tag("g", back, *rows)
