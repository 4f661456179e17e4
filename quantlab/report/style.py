"""The style sheet of the report: the lab's colours as variables, for light, dark and paper, and report.css."""

from __future__ import annotations

from pathlib import Path

from quantlab.figures.theme import DARK, LIGHT, Theme
from quantlab.report.map import SHADES

_STATIC = Path(__file__).with_name("static")


def css() -> str:
    """Everything; paper is always light."""
    own = (_STATIC / "report.css").read_text("utf-8").replace("\r\n", "\n").replace("\r", "\n")
    light, dark = _variables(LIGHT), _variables(DARK)
    themes = f":root{{{light}}}\n@media screen and (prefers-color-scheme: dark){{:root{{{dark}}}}}\n"
    return themes + own


def _variables(theme: Theme) -> str:
    named = {name: colour for name, colour in theme.colours().items() if not name.startswith("cluster")}
    shades = {f"s{index}": shade for index, shade in enumerate(_shades(theme))}
    return "".join(f"--ql-{name}:{colour};" for name, colour in {**named, **shades}.items())


def _shades(theme: Theme) -> list[str]:
    """The severity scale in steps: still pictures hold no gradients of their own."""
    stops = [_channels(getattr(theme, f"severity{index}")) for index in range(7)]
    found = []
    for index in range(SHADES):
        at = index / (SHADES - 1) * (len(stops) - 1)
        low = min(int(at), len(stops) - 2)
        mixed = [round(a + (b - a) * (at - low)) for a, b in zip(stops[low], stops[low + 1], strict=True)]
        found.append("#" + "".join(f"{channel:02x}" for channel in mixed))
    return found


def _channels(colour: str) -> tuple[int, int, int]:
    red, green, blue = (int(colour[at : at + 2], 16) for at in (1, 3, 5))
    return red, green, blue
