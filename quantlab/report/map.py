"""The map of the network as a picture whose cells can be chosen. Where a cell stands is decided by the figure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from quantlab.figures.theme import Figure
from quantlab.report.markup import Markup, tag
from quantlab.report.svg import LETTER, label, words

SHADES = 33
"""Steps of the colour scale, as --ql-s0 .. --ql-s32 of the page."""
GAP = 2
BAR, BAR_WIDTH = 36, 198


def network_map(figure: Figure, order: Mapping[str, int], called: Mapping[str, str], *, title: str) -> Markup:
    """Draw a map; every cell carries the number of its layer in ``order``.

    Args:
        figure: What `quantlab.figures.outlier_map` gives.
        order: Layer name to its number.
        called: Layer name to what it is called in a few words, with its value.
        title: For those who do not see it.
    """
    heat, layout = figure["data"][0], figure["layout"]
    cells = heat["customdata"]
    columns = max((len(line) for line in cells), default=1)
    wide = 26 if columns <= 26 else 16
    high = 18 if len(cells) <= 16 else 14
    names = [words(str(told))[0] for told in layout["yaxis"].get("ticktext", ())]
    left = 12 + LETTER * max((len(name) for name in names), default=0)
    top = 34 + BAR
    low, top_value = heat["zmin"], heat["zmax"]
    drawn = [
        _cell(
            left + column * wide, top + row * high, (wide - GAP, high - GAP), order[name], called[name], shade
        )
        for row, line in enumerate(cells)
        for column, name in enumerate(line)
        if name
        for shade in [_shade(heat["z"][row][column], low, top_value)]
    ]
    rows = [
        label(left - 6, top + (place + 0.5) * high - 1, name, anchor="end")
        for place, name in zip(layout["yaxis"].get("tickvals", ()), names, strict=True)
    ]
    ticks = layout["xaxis"].get("tickvals", ())
    heads = [label(left + (at + 0.5) * wide - 1, top - 9, str(at), anchor="middle") for at in ticks]
    heads += [label(left - 6, top - 9, "block", anchor="end")] if len(ticks) else []
    width, height = left + max(columns * wide, BAR_WIDTH + 30), top + len(cells) * high + 4
    bar = _colour_bar(left, 6, heat)
    size: dict[str, Any] = {
        "viewBox": f"0 0 {width:.0f} {height:.0f}",
        "width": round(width),
        "height": round(height),
    }
    return tag("svg", rows, heads, drawn, bar, role="group", aria_label=title, class_="map", **size)


def _shade(value: float | None, low: float, high: float) -> int | None:
    if value is None:
        return None
    return round(min(max((value - low) / (high - low), 0.0), 1.0) * (SHADES - 1))


def _cell(
    x: float, y: float, size: tuple[float, float], layer: int, called: str, shade: int | None
) -> Markup:
    """A layer; one without a number is pale and crossed by a line, so that it looks like no value."""
    place: dict[str, Any] = {"x": round(x, 1), "y": round(y, 1), "width": size[0], "height": size[1]}
    fill = "var(--ql-missing)" if shade is None else f"var(--ql-s{shade})"
    chosen: dict[str, Any] = {
        "role": "button",
        "tabindex": -1,
        "aria_label": called,
        "data_layer": layer,
        "aria_pressed": "false",
    }
    cell = tag("rect", tag("title", called), **place, fill=fill, class_="cell", **chosen)
    if shade is not None:
        return cell
    ends = {"x1": x + 1, "y1": y + size[1] - 1, "x2": x + size[0] - 1, "y2": y + 1}
    line = {key: round(value, 1) for key, value in ends.items()}
    return tag(
        "g", cell, tag("line", **line, stroke="var(--ql-hatch)", stroke_width=1, pointer_events="none")
    )


def _colour_bar(x: float, y: float, heat: Mapping[str, Any]) -> Markup:
    """From harmless to severe, with the numbers of the figure's own bar."""
    step = BAR_WIDTH / SHADES
    shades = [
        tag(
            "rect",
            x=round(x + index * step, 2),
            y=y,
            width=round(step + 0.3, 2),
            height=8,
            fill=f"var(--ql-s{index})",
        )
        for index in range(SHADES)
    ]
    low, high = heat["zmin"], heat["zmax"]
    bar = heat.get("colorbar", {})
    return tag(
        "g", *shades, *_scale(x, y + 17, _ticks(bar), lambda value: BAR_WIDTH * (value - low) / (high - low))
    )


def _scale(
    x: float, y: float, ticks: Sequence[tuple[float, str]], place: Callable[[float], float]
) -> list[Markup]:
    """The first and the last number, and those between them that have room."""
    if not ticks:
        return []
    (_, first), *inner, (_, last) = [*ticks, *(ticks if len(ticks) == 1 else ())]
    drawn = [label(x, y, first), label(x + BAR_WIDTH, y, last, anchor="end")]
    taken, end = LETTER * len(first), BAR_WIDTH - LETTER * len(last)
    for value, told in inner:
        at, half = place(value), LETTER * len(told) / 2
        if taken + 8 < at - half and at + half < end - 8:
            drawn.append(label(x + at, y, told, anchor="middle"))
            taken = at + half
    return drawn


def _ticks(bar: Mapping[str, Any]) -> list[tuple[float, str]]:
    found = zip(bar.get("tickvals", ()), bar.get("ticktext", ()), strict=True)
    return [(float(value), words(str(told))[0]) for value, told in found]
