"""Draws the lab's figures as still SVG pictures in the colours of the page. It knows lines, bars and words only.

The figures are the plotly ones of `quantlab.figures`: a report shows what the app shows, without plotly's 4.8 MB.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import unescape
from typing import Any

import numpy as np

from quantlab.figures.readable import short
from quantlab.report.markup import Markup, tag

SMALL = 10
LETTER = 5.6
"""Width of a letter of 10 pixels, on average."""
_COLOUR = re.compile(r"#[0-9a-fA-F]{3,8}|rgba?\([0-9., ]+\)|[a-z]+")
Numbers = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Axis:
    """From values to pixels.

    Attributes:
        low, high: Ends of the axis; logarithms, where it is logarithmic.
        start, end: Their pixels.
        log: Whether it is.
        ticks: Value and text of each tick.
        title: In words.
    """

    low: float
    high: float
    start: float
    end: float
    log: bool
    ticks: tuple[tuple[float, str], ...]
    title: str

    def at(self, value: float) -> float:
        """The pixel of a value; what lies outside stands at the edge."""
        if self.log:
            value = math.log10(value) if value > 0 else self.low
        share = (value - self.low) / (self.high - self.low)
        return round(self.start + min(max(share, 0.0), 1.0) * (self.end - self.start), 1)


def axis(settings: Numbers, values: Sequence[float], pixels: tuple[float, float]) -> Axis:
    """Read a plotly axis; ``values`` are those on it, for one that fits itself to them."""
    log = settings.get("type") == "log"
    if "range" in settings:
        low, high = (float(end) for end in settings["range"])
    else:
        placed = [math.log10(value) if log else value for value in values if value > 0 or not log] or [
            0.0,
            1.0,
        ]
        low, high = min(placed), max(placed)
    if low == high:
        low, high = low - 0.5, high + 0.5
    title = settings.get("title", {}).get("text", "")
    return Axis(
        low, high, *pixels, log, _ticks(settings, low, high, log=log), words(title)[0] if title else ""
    )


def _ticks(settings: Numbers, low: float, high: float, *, log: bool) -> tuple[tuple[float, str], ...]:
    first, last = min(low, high), max(low, high)
    if "tickvals" in settings:
        places = [float(value) for value in settings["tickvals"]]
        texts = settings.get("ticktext") or [short(value) for value in places]
        kept = [(math.log10(value) if log and value > 0 else value) for value in places]
        found = zip(places, kept, texts, strict=True)
        return tuple((value, words(str(name))[0]) for value, place, name in found if first <= place <= last)
    if log:
        powers = range(math.ceil(first), math.floor(last) + 1)
        return tuple((10.0**power, short(10.0**power)) for power in powers)
    step = 10 ** math.floor(math.log10((last - first) / 2))
    step *= next((more for more in (1, 2, 5) if (last - first) / (step * more) <= 6), 10)
    values = np.arange(math.ceil(first / step), math.floor(last / step) + 1) * step
    return tuple((float(value), short(float(value))) for value in values)


def paint(colour: Any) -> str:
    """A colour of a figure; a name, as "@ink", is that of the page, whichever theme it has."""
    found = str(colour)
    if found.startswith("@") and found[1:].isidentifier():
        return f"var(--ql-{found[1:]})"
    return found if _COLOUR.fullmatch(found) else "none"


def words(text: str) -> list[str]:
    """The lines of a text of plotly's, which has tags and entities of its own."""
    lines = re.split(r"<br ?/?>", text)
    return [unescape(re.sub(r"</?(b|i|sub|sup)>", "", line)) for line in lines]


def label(
    x: float, y: float, told: str, *, anchor: str = "start", colour: str = "@quiet", size: int = SMALL
) -> Markup:
    """A line of text; ``y`` is its middle."""
    at = {"x": round(x, 1), "y": round(y + 0.35 * size, 1)}
    return tag("text", told, **at, font_size=size, text_anchor=anchor, fill=paint(colour))


def frame(width: float, height: float, *parts: Any, title: str) -> Markup:
    """The picture itself, named for those who do not see it."""
    box = f"0 0 {round(width)} {round(height)}"
    size: dict[str, Any] = {"viewBox": box, "width": round(width), "height": round(height)}
    return tag("svg", *parts, role="img", aria_label=title, **size)


def gridlines(x: Axis, y: Axis) -> list[Markup]:
    """Thin rules at every tick, its text, and the titles of both axes."""
    parts = []
    top, bottom = min(y.start, y.end), max(y.start, y.end)
    for value, told in x.ticks:
        parts.append(_rule(x.at(value), top, x.at(value), bottom))
        parts.append(label(x.at(value), bottom + 10, told, anchor="middle"))
    for value, told in y.ticks:
        parts.append(_rule(x.start, y.at(value), x.end, y.at(value)))
        parts.append(label(x.start - 6, y.at(value), told, anchor="end"))
    parts.append(label((x.start + x.end) / 2, bottom + 25, x.title, anchor="middle"))
    if y.title:
        at = (top + bottom) / 2
        turned = tag(
            "g", label(0, 0, y.title, anchor="middle"), transform=f"translate(8 {at:.0f}) rotate(-90)"
        )
        parts.append(turned)
    return parts


def stroke(line: Numbers) -> dict[str, Any]:
    """The attributes of a plotly line."""
    given = str(line.get("dash", ""))
    dash = {"dash": "6px,4px", "dot": "2px,3px", "solid": ""}.get(given, given)
    return {
        "stroke": paint(line.get("color", "@ink")),
        "stroke_width": line.get("width", 1),
        "stroke_dasharray": re.sub("[^0-9., ]", "", dash).replace(",", " ") or None,
    }


def _rule(x1: float, y1: float, x2: float, y2: float) -> Markup:
    ends = {"x1": x1, "y1": y1, "x2": x2, "y2": y2}
    return tag("line", **ends, stroke=paint("@rule"), stroke_width=1)
