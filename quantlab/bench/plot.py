"""Drift by method and bits as an SVG that stands alone: no script, no font, legible on light and dark."""

from __future__ import annotations

import math
from html import escape

from quantlab.bench.protocol import Bits
from quantlab.bench.summary import Statistic, Summary

WIDTH, LEFT, RIGHT, TOP, BOTTOM, ROW = 880, 210, 24, 78, 44, 24
INKS = ("#2b7a78", "#8a4a9e", "#3f74b5", "#c2560c", "#8a7a10", "#5c6873")
DARK_INKS = ("#5fc9c2", "#cf9be2", "#86b4ea", "#f29b52", "#d8c64c", "#a9b5bf")
SHAPES = ("circle", "square", "diamond", "triangle", "cross", "bar")
HEAD = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
    ' role="img" aria-label="Drift of {model} by method and bits">'
)
SUBTITLE = (
    "point error in thousandths of the scene's size, logarithmic; left is better; bars: one standard deviation over"
    " seeds"
)
STYLE = """
text {{ font: 12px system-ui, -apple-system, 'Segoe UI', Roboto, Arial, sans-serif; fill: #1f272e; }}
.title {{ font-size: 14px; font-weight: 600; }} .quiet {{ fill: #5c6873; font-size: 11px; }}
.page {{ fill: #ffffff; }} .rule {{ stroke: #d8dde2; }} .band {{ fill: #f5f6f7; }}
{light}
@media (prefers-color-scheme: dark) {{
text {{ fill: #e3e8ec; }} .quiet {{ fill: #97a3ad; }} .page {{ fill: #1b2025; }}
.rule {{ stroke: #323a42; }} .band {{ fill: #20262c; }}
{dark}
}}
"""


def drift_plot(table: Summary) -> str:
    """One line a method, one mark a column of bits, at the mean drift; bars of one standard deviation over seeds."""
    columns, methods = table.columns, table.competitors()
    points = {
        (method, bits): found
        for method in methods
        for bits in columns
        if (found := table.statistic(method, bits, "drift")) is not None and found.mean > 0
    }
    scale = _Scale([found.mean for found in points.values()])
    height = TOP + ROW * max(1, len(methods)) + BOTTOM
    parts = [
        HEAD.format(width=WIDTH, height=height, model=escape(table.model)),
        f"<style>{STYLE.format(light=_inks(INKS), dark=_inks(DARK_INKS))}</style>",
        f'<rect class="page" width="{WIDTH}" height="{height}" rx="6"/>',
        f'<text class="title" x="16" y="26">Drift of {escape(table.model)} from full precision</text>',
        f'<text class="quiet" x="16" y="44">{SUBTITLE}</text>',
        *_legend(columns),
        *_rows(methods),
        *_ticks(scale, height),
        *(_mark(scale, methods, columns, key, found) for key, found in points.items()),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


class _Scale:
    """From a drift to pixels, logarithmic, over whole steps of 1, 2, 5."""

    def __init__(self, values: list[float]) -> None:
        low, high = (min(values), max(values)) if values else (1e-3, 1e-1)
        steps = [step * 10.0**power for power in range(-9, 4) for step in (1, 2, 5)]
        below = [step for step in steps if step <= low * 0.97] or steps[:1]
        above = [step for step in steps if step >= high * 1.03] or steps[-1:]
        self.low, self.high = below[-1], above[0]
        self.ticks = [step for step in steps if self.low <= step <= self.high]

    def x(self, value: float) -> float:
        """Where a value lies; what is out of range lies at the edge."""
        share = math.log(max(value, self.low) / self.low) / math.log(self.high / self.low)
        return LEFT + min(share, 1.0) * (WIDTH - LEFT - RIGHT)


def _inks(colours: tuple[str, ...]) -> str:
    return "\n".join(f".c{i} {{ fill: {ink}; stroke: {ink}; }}" for i, ink in enumerate(colours))


def _legend(columns: list[Bits]) -> list[str]:
    parts = []
    for index, bits in enumerate(columns):
        x = LEFT + 90 * index
        parts += [_shape(index, x, 62), f'<text x="{x + 12}" y="66">{bits}</text>']
    return parts


def _rows(methods: list[str]) -> list[str]:
    parts = []
    for index, method in enumerate(methods):
        y = TOP + ROW * index
        if index % 2 == 0:
            parts.append(f'<rect class="band" x="8" y="{y}" width="{WIDTH - 16}" height="{ROW}"/>')
        parts.append(f'<text x="{LEFT - 14}" y="{y + ROW / 2 + 4}" text-anchor="end">{escape(method)}</text>')
    return parts


def _ticks(scale: _Scale, height: int) -> list[str]:
    parts = []
    for tick in scale.ticks:
        x = scale.x(tick)
        parts.append(f'<line class="rule" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{height - BOTTOM}"/>')
        parts.append(
            f'<text class="quiet" x="{x:.1f}" y="{height - BOTTOM + 18}" text-anchor="middle">{1000 * tick:g}</text>'
        )
    return parts


def _mark(
    scale: _Scale, methods: list[str], columns: list[Bits], key: tuple[str, Bits], found: Statistic
) -> str:
    method, bits = key
    index = columns.index(bits)
    # Columns of one method lie on slightly different heights, so that equal drifts stay apart.
    offset = (index - (len(columns) - 1) / 2) * 2.4
    x, y = scale.x(found.mean), TOP + ROW * methods.index(method) + ROW / 2 + offset
    title = f"{method} {bits}: {1000 * found.mean:.3g}"
    spread = ""
    if found.spread:
        title += f" ± {1000 * found.spread:.2g}"
        ends = scale.x(max(found.low, scale.low)), scale.x(found.high)
        spread = (
            f'<line class="c{index % 6}" x1="{ends[0]:.1f}" x2="{ends[1]:.1f}" y1="{y:.1f}" y2="{y:.1f}"/>'
        )
    return f"<g><title>{escape(title)}</title>{spread}{_shape(index, x, y)}</g>"


def _shape(index: int, x: float, y: float) -> str:
    """The mark of a column: colour and shape say the same, for those who see one of them badly."""
    shape, name = SHAPES[index % len(SHAPES)], f'class="c{index % 6}"'
    if shape == "circle":
        return f'<circle {name} cx="{x:.1f}" cy="{y:.1f}" r="4"/>'
    if shape == "cross":
        return f'<path {name} stroke-width="2" d="M{x - 4:.1f} {y - 4:.1f}l8 8m0 -8l-8 8"/>'
    outline = {"square": "m-3.6 -3.6h7.2v7.2h-7.2z", "diamond": "m0 -5l5 5l-5 5l-5 -5z"}
    outline |= {"triangle": "m0 -4.8l4.8 8.6h-9.6z", "bar": "m-1.5 -5h3v10h-3z"}
    return f'<path {name} d="M{x:.1f} {y:.1f}{outline[shape]}"/>'
