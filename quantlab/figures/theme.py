"""Colours and the bare layout all figures share. One meaning has one colour everywhere; it knows no data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

Figure = dict[str, Any]

CONFIG: dict[str, Any] = {
    "displaylogo": False,
    "responsive": True,
    "showSendToCloud": False,
    "displayModeBar": "hover",
    "modeBarButtonsToRemove": ["select2d", "lasso2d", "autoScale2d"],
    "toImageButtonOptions": {"format": "svg"},
}
"""For every plot: plotly.js 4 offers to upload the chart unless told not to."""

FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"

DASHES = {"raw": "solid", "rotated": "2px,2px", "smoothed": "6px,3px"}
"""How the steps before the rounding are told apart; all of them are full precision, so all have its colour."""


CLUSTERS = 8


@dataclass(frozen=True, slots=True)
class Theme:
    """The colours of one theme, as CSS colours.

    Attributes:
        page, panel: Behind everything, and behind plots.
        ink, quiet, rule: Text, secondary text, thin lines.
        focus: What is selected or has the keyboard.
        full, quantized, truth: Full precision (blue-grey), quantized (orange), ground truth (green-grey).
        ghost: The former state of what is quantized.
        patch, camera, register: Token kinds; the class token of the ViT takes ``camera``.
        missing, hatch: A cell without a value, and the line through it that no value looks like.
        cluster0 .. cluster7: Groups of scenes; each has a shape of its own too, so nobody depends on the hue.
        severity0 .. severity6: From harmless to severe; lightness runs one way, so every colour vision tells them
            apart.
    """

    page: str
    panel: str
    ink: str
    quiet: str
    rule: str
    focus: str
    full: str
    quantized: str
    truth: str
    ghost: str
    patch: str
    camera: str
    register: str
    missing: str
    hatch: str
    cluster0: str
    cluster1: str
    cluster2: str
    cluster3: str
    cluster4: str
    cluster5: str
    cluster6: str
    cluster7: str
    severity0: str
    severity1: str
    severity2: str
    severity3: str
    severity4: str
    severity5: str
    severity6: str

    @property
    def severity(self) -> list[list[Any]]:
        """The plotly colour scale from harmless to severe."""
        names = [f"severity{index}" for index in range(7)]
        return [[index / 6, getattr(self, name)] for index, name in enumerate(names)]

    def colours(self) -> Mapping[str, str]:
        """Each name with its colour."""
        return {item.name: getattr(self, item.name) for item in fields(self)}

    def cluster(self, index: int) -> str:
        """The colour of a group of scenes; the ninth takes that of the first again."""
        return str(getattr(self, f"cluster{index % CLUSTERS}"))

    def token(self, kind: str) -> str:
        """The colour of a token kind; kinds of the ViT share those of the trunk."""
        return {"patch": self.patch, "camera": self.camera, "vit_cls": self.camera}.get(kind, self.register)

    def step(self, name: str) -> str:
        """The colour of a step of quantization: what is not rounded yet is full precision, then it is quantized."""
        return self.full if name in DASHES else self.quantized


LIGHT = Theme(
    page="#f5f6f7",
    panel="#ffffff",
    ink="#1f272e",
    quiet="#5c6873",
    rule="#d8dde2",
    focus="#2b6cb0",
    full="#4d6780",
    quantized="#b4560c",
    truth="#5f7a66",
    ghost="rgba(180, 86, 12, 0.35)",
    patch="#71808e",
    camera="#8a4a9e",
    register="#0b7f94",
    missing="#eceff1",
    hatch="#98a3ad",
    cluster0="#0072b2",
    cluster1="#117733",
    cluster2="#aa4499",
    cluster3="#b8860b",
    cluster4="#882255",
    cluster5="#2a8c8c",
    cluster6="#cc5566",
    cluster7="#5b4bb5",
    severity0="#d3dde6",
    severity1="#b3c2cf",
    severity2="#b5a49b",
    severity3="#bf8660",
    severity4="#b86229",
    severity5="#95400c",
    severity6="#5f2306",
)
DARK = Theme(
    page="#15191d",
    panel="#1b2025",
    ink="#e3e8ec",
    quiet="#97a3ad",
    rule="#323a42",
    focus="#7fb2e5",
    full="#9db6cc",
    quantized="#f09a4a",
    truth="#9cb8a2",
    ghost="rgba(240, 154, 74, 0.4)",
    patch="#a3b0bc",
    camera="#c994dc",
    register="#4fc0d4",
    missing="#20262b",
    hatch="#5f6a74",
    cluster0="#56b4e9",
    cluster1="#5fbf7f",
    cluster2="#d68ad0",
    cluster3="#e0c25c",
    cluster4="#e08aa8",
    cluster5="#5fd0c8",
    cluster6="#ff9d8a",
    cluster7="#a79bf0",
    severity0="#27394a",
    severity1="#3f5569",
    severity2="#6c6a74",
    severity3="#a97a62",
    severity4="#dc9148",
    severity5="#ffb84d",
    severity6="#ffe9a3",
)
PAGE = Theme(**{item.name: f"@{item.name}" for item in fields(Theme)})
"""Names instead of colours: the page that draws the figure puts its own in, so a change of theme asks no server."""


def layout(
    theme: Theme, *, uirevision: str, margin: tuple[int, int, int, int] = (8, 44, 8, 32)
) -> dict[str, Any]:
    """The layout every figure starts from; ``margin`` is top, left, right, bottom (the right one third) in pixels.

    ``uirevision`` names what is shown: as long as it stays the same, the zoom and the hidden traces stay.
    """
    top, left, right, bottom = margin
    return {
        "uirevision": uirevision,
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"family": FONT, "size": 11, "color": theme.quiet},
        "margin": {"t": top, "l": left, "r": right, "b": bottom, "pad": 0},
        "hoverlabel": {
            "bgcolor": theme.panel,
            "bordercolor": theme.quiet,
            "font": {"family": FONT, "size": 11, "color": theme.ink},
            "align": "left",
        },
        "legend": {
            "orientation": "h",
            "x": 0,
            "y": 1,
            "xanchor": "left",
            "yanchor": "bottom",
            "font": {"size": 11, "color": theme.ink},
            "itemsizing": "constant",
        },
        "showlegend": True,
        "modebar": {"bgcolor": "rgba(0,0,0,0)", "color": theme.quiet, "activecolor": theme.ink},
        "dragmode": "zoom",
    }


def empty(text: str, theme: Theme, *, uirevision: str) -> Figure:
    """A figure without data that says why there is none."""
    figure_layout = layout(theme, uirevision=uirevision)
    figure_layout["xaxis"] = figure_layout["yaxis"] = {"visible": False, "fixedrange": True}
    figure_layout["annotations"] = [note(text, theme)]
    return {"data": [], "layout": figure_layout}


def note(text: str, theme: Theme) -> dict[str, Any]:
    """Words in the middle of a figure that has nothing to draw."""
    return {
        "text": text,
        "showarrow": False,
        "x": 0.5,
        "y": 0.5,
        "xref": "paper",
        "yref": "paper",
        "font": {"size": 12, "color": theme.quiet},
    }


def axis(theme: Theme, **settings: Any) -> dict[str, Any]:
    """An axis with thin rules and no box; ``settings`` are plotly's."""
    return {
        "gridcolor": theme.rule,
        "gridwidth": 1,
        "linecolor": theme.rule,
        "zeroline": False,
        "ticks": "",
        "tickfont": {"size": 10, "color": theme.quiet},
        "title": {"text": "", "font": {"size": 11, "color": theme.quiet}, "standoff": 6},
        "automargin": False,
        **settings,
    }


def titled(text: str, theme: Theme) -> dict[str, Any]:
    """An axis title."""
    return {"text": text, "font": {"size": 11, "color": theme.quiet}, "standoff": 6}
