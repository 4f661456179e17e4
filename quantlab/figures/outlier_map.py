"""The map of the network: blocks across, layer kinds down, one colour a layer. It computes no statistic."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from html import escape
from typing import Any, Protocol

from quantlab.figures.readable import short
from quantlab.figures.severity import QUANTITIES
from quantlab.figures.theme import LIGHT, Figure, Theme, axis, layout

KINDS = ("qkv", "proj", "fc1", "fc2")
STREAM_NAMES = {
    "vit": "ViT",
    "frame": "frame",
    "global": "global",
    "camera_head": "camera head",
    "depth_head": "depth head",
    "point_head": "point head",
    "track_head": "track head",
    "": "other",
}
TRUNK = ("frame", "global")
LINE = 12
"""Cells of a head in one row, at least."""
MOST_LABELS = 14


class Placed(Protocol):
    """What the map needs of a layer: a `LayerProfile` or a `LayerInfo`."""

    @property
    def name(self) -> str:
        """Its state-dict prefix."""

    @property
    def kind(self) -> str:
        """What it does in its block: "qkv", "proj", "fc1", "fc2", "conv" or "other"."""

    @property
    def stream(self) -> str:
        """Where in the network it is."""

    @property
    def index(self) -> int:
        """Which block of the stream; -1 without one."""


@dataclass(slots=True)
class _Row:
    stream: str
    label: str
    cells: dict[int, str] = field(default_factory=dict)


def outlier_map(
    layers: Iterable[Placed],
    values: Mapping[str, float],
    *,
    color_by: str = "tre",
    streams: Collection[str] | None = None,
    notes: Mapping[str, str] | None = None,
    selected: str = "",
    theme: Theme = LIGHT,
) -> Figure:
    """Draw one cell a layer; a click on a cell carries the layer's name as ``customdata``.

    Args:
        layers: In execution order.
        values: Layer name to the number that colours it, on a logarithmic scale; a layer without one stays pale.
        color_by: Which number it is, a key of ``QUANTITIES``.
        streams: The streams to show; None for all.
        notes: Layer name to a line for the hover text, as its settings.
        selected: The layer that is outlined.
        theme: The colours.
    """
    rows = _rows(layers, streams)
    quantity = QUANTITIES[color_by]
    columns = max((column + 1 for row in rows for column in row.cells), default=1)
    low, high = _range(values.values(), quantity.low)
    cells = [[row.cells.get(column, "") for column in range(columns)] for row in rows]
    names = {name for line in cells for name in line if name}
    heat = {
        "type": "heatmap",
        "z": [[_height(values.get(name), low) for name in line] for line in cells],
        "customdata": cells,
        "text": [[_hover(name, values, quantity.short, notes or {}) for name in line] for line in cells],
        "hovertemplate": "%{text}<extra></extra>",
        "hoverongaps": False,
        "xgap": 2,
        "ygap": 2,
        "zmin": math.log10(low),
        "zmax": math.log10(high),
        "colorscale": theme.severity,
        "colorbar": _scale(low, high, theme),
    }
    left = 16 + round(5.7 * max((len(row.label) for row in rows), default=0))
    figure_layout = layout(theme, uirevision=f"map {sorted(streams or ())}", margin=(20, left, 58, 6))
    figure_layout["xaxis"] = axis(
        theme,
        side="top",
        showgrid=False,
        range=[-0.5, columns - 0.5],
        fixedrange=True,
        tickmode="array",
        tickvals=list(range(0, columns, max(1, math.ceil(columns / 12)))),
    )
    figure_layout["yaxis"] = axis(
        theme,
        showgrid=False,
        range=[len(rows) - 0.5, -0.5],
        fixedrange=True,
        tickmode="array",
        tickvals=[index for index, row in enumerate(rows) if row.label],
        ticktext=[row.label for row in rows if row.label],
    )
    figure_layout["shapes"] = [*_outline(cells, selected, theme), *_unmeasured(cells, values, theme)]
    figure_layout["annotations"] = [] if names else [_empty(theme)]
    figure_layout["dragmode"] = False
    return {"data": [heat], "layout": figure_layout}


def _rows(layers: Iterable[Placed], streams: Collection[str] | None) -> list[_Row]:
    """One row a stream and kind, an empty one between streams; heads, which repeat no block, run on as text does."""
    groups: dict[str, list[Placed]] = {}
    for layer in layers:
        if streams is None or layer.stream in streams:
            groups.setdefault(layer.stream, []).append(layer)
    width = max([LINE, *(layer.index + 1 for members in groups.values() for layer in members)])
    rows: list[_Row] = []
    for stream, members in groups.items():
        lines = _block_rows(stream, members) or _sequence_rows(stream, members, width)
        rows += [*([_Row("", "")] if rows else []), *lines]
    if len(rows) > MOST_LABELS:
        _label_streams_only(rows)
    return rows


def _block_rows(stream: str, members: list[Placed]) -> list[_Row]:
    name = escape(STREAM_NAMES.get(stream, stream))
    rows = {kind: _Row(stream, f"{name} · {kind}") for kind in KINDS}
    others = []
    for layer in members:
        row = rows.get(layer.kind)
        if row is not None and layer.index >= 0 and layer.index not in row.cells:
            row.cells[layer.index] = layer.name
        else:  # outside of the blocks, or the second of its kind in one, as where q, k and v are three layers
            others.append(layer.name)
    if len(others) > len(members) / 2:
        return []
    rest = [_Row(stream, f"{name} · other", dict(enumerate(others)))] if others else []
    return [row for row in [*rows.values(), *rest] if row.cells]


def _sequence_rows(stream: str, members: list[Placed], width: int) -> list[_Row]:
    label = escape(STREAM_NAMES.get(stream, stream))
    rows = []
    for start in range(0, len(members), width):
        cells = {at: layer.name for at, layer in enumerate(members[start : start + width])}
        rows.append(_Row(stream, "" if start else label, cells))
    return rows


def _label_streams_only(rows: list[_Row]) -> None:
    """Many rows are low: one label a stream is what there is room for."""
    named: set[str] = set()
    for row in rows:
        row.label = "" if row.stream in named or not row.cells else row.label.split(" · ")[0]
        named.add(row.stream)


def _range(values: Iterable[float], low: float) -> tuple[float, float]:
    """The ends of the scale: at least a factor of ten apart, so that equal values do not look like a contrast."""
    top = max(values, default=0.0)
    return low, max(top, 10 * low)


def _height(value: float | None, low: float) -> float | None:
    return None if value is None else round(math.log10(max(value, low)), 4)


def _hover(name: str, values: Mapping[str, float], label: str, notes: Mapping[str, str]) -> str:
    if not name:
        return ""
    value = values.get(name)
    measured = f"{label} {short(value)}" if value is not None else f"{label} not measured"
    note = notes.get(name)
    return f"<b>{escape(name)}</b><br>{measured}" + (f"<br>{escape(note)}" if note else "")


def _scale(low: float, high: float, theme: Theme) -> dict[str, Any]:
    first, last = math.log10(low), math.log10(high)
    inner = range(math.ceil(first), math.floor(last) + 1)
    places = [first, *[float(power) for power in inner if first + 0.25 < power < last - 0.25], last]
    return {
        "thickness": 8,
        "len": 1.0,
        "x": 1.02,
        "xpad": 0,
        "ypad": 0,
        "outlinewidth": 0,
        "ticks": "",
        "tickmode": "array",
        "tickvals": [round(place, 4) for place in places],
        "ticktext": [short(10**place, 2) for place in places],
        "tickfont": {"size": 10, "color": theme.quiet},
    }


def _outline(cells: list[list[str]], selected: str, theme: Theme) -> list[dict[str, Any]]:
    for row, line in enumerate(cells):
        for column, name in enumerate(line):
            if name and name == selected:
                return [_rectangle(column, row, {"color": theme.focus, "width": 3})]
    return []


def _unmeasured(cells: list[list[str]], values: Mapping[str, float], theme: Theme) -> list[dict[str, Any]]:
    """Layers without a number are drawn pale, so that they are not taken for gaps."""
    return [
        {**_rectangle(column, row, {"width": 0}), "fillcolor": theme.missing, "layer": "below"}
        for row, line in enumerate(cells)
        for column, name in enumerate(line)
        if name and name not in values
    ]


def _rectangle(column: int, row: int, line: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "rect",
        "x0": column - 0.46,
        "x1": column + 0.46,
        "y0": row - 0.46,
        "y1": row + 0.46,
        "line": line,
    }


def _empty(theme: Theme) -> dict[str, Any]:
    return {
        "text": "No layers in these streams.",
        "showarrow": False,
        "x": 0.5,
        "y": 0.5,
        "xref": "paper",
        "yref": "paper",
        "font": {"size": 12, "color": theme.quiet},
    }
