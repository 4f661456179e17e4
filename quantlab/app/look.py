"""The look of the page: Gradio's theme reduced to nothing, our colours as CSS variables, our style sheet."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from quantlab.figures.theme import DARK, LIGHT, Theme

STATIC = Path(__file__).with_name("static")
FONTS = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "Helvetica Neue", "Arial", "sans-serif")
MONO = ("ui-monospace", "SF Mono", "Cascadia Mono", "DejaVu Sans Mono", "monospace")
HEAD = """
<link rel="icon" href="quantlab/static/icon.svg" type="image/svg+xml">
<link rel="modulepreload" href="quantlab/static/bench.js">
<link rel="modulepreload" href="quantlab/viewer/viewer.js">
<link rel="preload" href="quantlab/plotly/plotly.min.js" as="script">
"""


def theme() -> Any:
    """Gradio's barest theme with system fonts: nothing is fetched from elsewhere."""
    import gradio as gr

    return gr.themes.Base(
        font=list(FONTS), font_mono=list(MONO), text_size="sm", spacing_size="sm", radius_size="none"
    )


def css() -> str:
    """The colours of both themes as variables, then the style sheets: what all panels share, then single ones."""
    shared = STATIC / "style.css"
    sheets = [shared, *sorted(set(STATIC.glob("*.css")) - {shared})]
    colours = f":root {{{_variables(LIGHT)}}}\n.dark {{{_variables(DARK)}}}\n"
    return colours + "\n".join(sheet.read_text("utf-8") for sheet in sheets)


def _variables(colours: Theme) -> str:
    return " ".join(f"--ql-{name}: {colour};" for name, colour in colours.colours().items())
