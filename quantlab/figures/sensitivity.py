"""Layers ranked by what a number of bits does to the result, as bars. It measures nothing."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from math import isfinite
from typing import Any

from quantlab.engine.search_record import Sensitivity
from quantlab.figures.readable import short
from quantlab.figures.theme import LIGHT, Figure, Theme, axis, empty, layout, titled

MOST = 32
"""Bars that can be told apart on one screen."""


def sensitivity(
    scan: Sensitivity, bits: int, *, names: Mapping[str, str] | None = None, theme: Theme = LIGHT
) -> Figure:
    """Draw the most sensitive layers, the worst at the top; each bar carries its layer's name as ``customdata``.

    Args:
        scan: From ``lab.scan()``.
        bits: Which option is shown.
        names: Layer to what it is called; None: its name.
        theme: The colours.
    """
    ranked = [(name, value) for name, value in scan.ranked(bits) if isfinite(value)][:MOST]
    if not ranked:
        return empty("no layer gives a finite result at these bits", theme, uirevision=f"sensitivity {bits}")
    ranked.reverse()  # plotly draws the first bar at the bottom
    called = names or {}
    percent = [100 * value for _, value in ranked]
    trace = {
        "type": "bar",
        "orientation": "h",
        "x": percent,
        "y": [called.get(name, name) for name, _ in ranked],
        "customdata": [name for name, _ in ranked],
        "text": [f"{short(value, 2)}" for value in percent],
        "textposition": "outside",
        "textfont": {"size": 9, "color": theme.quiet},
        "cliponaxis": False,
        "hovertext": [_hover(scan, name) for name, _ in ranked],
        "hovertemplate": "%{hovertext}<extra></extra>",
        "marker": {"color": theme.quantized},
        "showlegend": False,
    }
    figure_layout = layout(theme, uirevision=f"sensitivity {bits} {scan.mode}", margin=(4, 104, 40, 36))
    word = "drift" if scan.mode == "alone" else "change of the drift"
    title = f"{word} with this layer alone at {bits} bits, % of the scene's size"
    figure_layout["xaxis"] = axis(
        theme, title=titled(title, theme), nticks=6, zeroline=True, zerolinecolor=theme.rule
    )
    figure_layout["yaxis"] = axis(theme, tickfont={"size": 9, "color": theme.ink}, dtick=1, gridwidth=0)
    figure_layout["bargap"] = 0.25
    return {"data": [trace], "layout": figure_layout}


def _hover(scan: Sensitivity, name: str) -> str:
    """The layer at every number of bits."""
    lines = [f"<b>{escape(name)}</b>", f"now {scan.now[name]} bits" if name in scan.now else ""]
    lines += [
        f"{bits} bits: {short(100 * value, 2)} %, {scan.bytes[name][bits] / 1e3:.1f} kB"
        for bits, value in sorted(scan.drifts[name].items())
        if bits in scan.bytes[name]
    ]
    return "<br>".join(line for line in lines if line)


def options(scan: Sensitivity) -> list[dict[str, Any]]:
    """The bits that can be shown: those every layer was measured at, full precision left out in mode "alone"."""
    shown = [bits for bits in scan.bits if bits < 16 or scan.mode != "alone"]
    return [{"id": bits, "label": str(bits)} for bits in shown]
