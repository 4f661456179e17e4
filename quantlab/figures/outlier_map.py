"""The map of the network: blocks across, layer kinds down, one colour a layer. It computes no statistic."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from html import escape, unescape
from typing import Any, Protocol

from quantlab.figures.readable import short
from quantlab.figures.scale import colour_bar, colour_range
from quantlab.figures.severity import QUANTITIES
from quantlab.figures.theme import LIGHT, Figure, Theme, axis, layout, note, titled

KINDS = ("qkv", "proj", "fc1", "fc2")
STREAM_NAMES = {
    "vit": "ViT",
    "frame": "frame",
    "global": "global",
    "camera_head": "camera head",
    "depth_head": "depth head",
    "point_head": "point head",
    "track_head": "track head",
    "point_decoder": "point decoder",
    "conf_decoder": "confidence decoder",
    "camera_decoder": "camera decoder",
    "conf_head": "confidence head",
    "": "other",
}
TRUNK = ("frame", "global")
LINE = 12
"""Cells of a head in one row, at least."""


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
    """``numbered``: its columns are blocks, and not just a place to go on."""

    stream: str
    label: str
    cells: dict[int, str] = field(default_factory=dict)
    numbered: bool = False


def outlier_map(
    layers: Iterable[Placed],
    values: Mapping[str, float],
    *,
    color_by: str = "tre",
    streams: Collection[str] | None = None,
    notes: Mapping[str, str] | None = None,
    untouched: Collection[str] = (),
    selected: str = "",
    theme: Theme = LIGHT,
) -> Figure:
    """Draw one cell a layer; a click on a cell carries the layer's name as ``customdata``.

    Args:
        layers: In execution order.
        values: Layer name to the number that colours it, on a logarithmic scale; a layer without one is hatched.
        color_by: Which number it is, a key of ``QUANTITIES``.
        streams: The streams to show; None for all.
        notes: Layer name to a line for the hover text, as its settings.
        untouched: Layers that the recipe leaves in full precision, which is why they have no error.
        selected: The layer that is outlined.
        theme: The colours.
    """
    rows = _rows(layers, streams)
    quantity = QUANTITIES[color_by]
    columns = max((column + 1 for row in rows for column in row.cells), default=1)
    cells = [[row.cells.get(column, "") for column in range(columns)] for row in rows]
    names = {name for line in cells for name in line if name}
    drawn = [value for name, value in values.items() if name in names]
    low, high = colour_range(drawn, quantity.low, quantity.apart)
    hover = [
        [_hover(name, values, quantity.short, notes or {}, untouched) for name in line] for line in cells
    ]
    heat = {
        "type": "heatmap",
        "z": [[_height(values.get(name), low) for name in line] for line in cells],
        "customdata": cells,
        "text": hover,
        "hovertemplate": "%{text}<extra></extra>",
        "hoverongaps": False,
        "xgap": 2,
        "ygap": 2,
        "zmin": math.log10(low),
        "zmax": math.log10(high),
        "colorscale": theme.severity,
        "colorbar": colour_bar(low, high, theme, percent=quantity.percent),
        "meta": {"z": "log10", "value": quantity.short},
    }
    figure_layout = _frame(rows, columns, streams, theme)
    figure_layout["shapes"] = _outline(cells, selected, theme)
    figure_layout["annotations"] = [] if names else [note("No layers in these streams.", theme)]
    figure_layout["dragmode"] = False
    figure_layout["showlegend"] = False
    figure_layout["modebar"]["remove"] = [
        "toimage",
        "zoom2d",
        "pan2d",
        "zoomin2d",
        "zoomout2d",
        "resetscale2d",
    ]
    return {"data": [heat, *_unmeasured(heat, cells, values, theme)], "layout": figure_layout}


def _frame(rows: list[_Row], columns: int, streams: Collection[str] | None, theme: Theme) -> dict[str, Any]:
    """The layout: block numbers above, layer kinds on the left, room for the longest of them."""
    labels, blocks = _labels(rows), _blocks(rows)
    left = 16 + round(5.7 * max((len(label) for _, label in labels), default=0))
    top = 36 if blocks else 22
    figure_layout = layout(theme, uirevision=f"map {sorted(streams or ())}", margin=(top, left, 58, 6))
    figure_layout["xaxis"] = axis(
        theme,
        side="top",
        showgrid=False,
        showline=False,
        range=[-0.5, columns - 0.5],
        fixedrange=True,
        tickmode="array",
        tickvals=list(range(0, blocks, max(1, math.ceil(blocks / 8)))),
        tickangle=0,
        title=titled("block" if blocks else "", theme),
    )
    figure_layout["yaxis"] = axis(
        theme,
        showgrid=False,
        showline=False,
        range=[len(rows) - 0.5, -0.5],
        fixedrange=True,
        tickmode="array",
        tickvals=[place for place, _ in labels],
        ticktext=[label for _, label in labels],
    )
    return figure_layout


def grid(layers: Iterable[Placed]) -> list[tuple[str, dict[int, str]]]:
    """The rows of the map without colours: what each is called ("" goes on from above), and column to layer."""
    return [(unescape(row.label), row.cells) for row in _rows(layers, None) if row.cells]


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
    return rows


def _block_rows(stream: str, members: list[Placed]) -> list[_Row]:
    name = escape(STREAM_NAMES.get(stream, stream))
    rows = {kind: _Row(stream, f"{name} · {kind}", numbered=True) for kind in KINDS}
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


def _labels(rows: list[_Row]) -> list[tuple[float, str]]:
    """Where each label stands: in the middle of its rows."""
    groups: dict[tuple[str, str], list[int]] = {}
    label = ""
    for index, row in enumerate(rows):
        if not row.cells:
            continue
        label = row.label or label  # a row that goes on from the one above has none of its own
        groups.setdefault((row.stream, label), []).append(index)
    return [((places[0] + places[-1]) / 2, text) for (_, text), places in groups.items()]


def _blocks(rows: list[_Row]) -> int:
    """How many columns are blocks; 0 where only heads are shown, most of which have none."""
    if all(row.stream.endswith("_head") for row in rows if row.cells):
        return 0
    return max((column + 1 for row in rows if row.numbered for column in row.cells), default=0)


def _height(value: float | None, low: float) -> float | None:
    return None if value is None else round(math.log10(max(value, low)), 4)


def _hover(
    name: str, values: Mapping[str, float], label: str, notes: Mapping[str, str], untouched: Collection[str]
) -> str:
    if not name:
        return ""
    value = values.get(name)
    if value is None and name in untouched:
        return f"<b>{escape(name)}</b><br>full precision"
    measured = f"{label} {short(value)}" if value is not None else f"{label} not measured"
    written = notes.get(name)
    return f"<b>{escape(name)}</b><br>{measured}" + (f"<br>{escape(written)}" if written else "")


def _outline(cells: list[list[str]], selected: str, theme: Theme) -> list[dict[str, Any]]:
    """A frame with a line inside of it in the colour of the page: one of the two stands out on every colour."""
    for row, line in enumerate(cells):
        for column, name in enumerate(line):
            if name and name == selected:
                inner = _rectangle(column, row, {"color": theme.page, "width": 5})
                return [inner, _rectangle(column, row, {"color": theme.focus, "width": 3})]
    return []


def _unmeasured(
    heat: Mapping[str, Any], cells: list[list[str]], values: Mapping[str, float], theme: Theme
) -> list[dict[str, Any]]:
    """Layers without a number: pale and crossed by a line, so that they are neither gaps nor small values."""
    places = [
        (column, row)
        for row, line in enumerate(cells)
        for column, name in enumerate(line)
        if name and name not in values
    ]
    if not places:
        return []
    z: list[list[int | None]] = [[None] * len(line) for line in cells]
    for column, row in places:
        z[row][column] = 0
    kept = {
        key: heat[key]
        for key in ("type", "customdata", "text", "hovertemplate", "hoverongaps", "xgap", "ygap")
    }
    pale = {
        **kept,
        "z": z,
        "zmin": 0,
        "zmax": 1,
        "showscale": False,
        "colorscale": [[0, theme.missing], [1, theme.missing]],
        "meta": {"z": "none"},
    }
    strokes = {
        "type": "scatter",
        "mode": "lines",
        "x": [x for column, _ in places for x in (column - 0.45, column + 0.45, None)],
        "y": [y for _, row in places for y in (row + 0.45, row - 0.45, None)],
        "line": {"color": theme.hatch, "width": 1},
        "hoverinfo": "skip",
    }
    return [pale, strokes]


def _rectangle(column: int, row: int, line: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "rect",
        "x0": column - 0.46,
        "x1": column + 0.46,
        "y0": row - 0.46,
        "y1": row + 0.46,
        "line": line,
    }
