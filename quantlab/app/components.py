"""The Gradio component every panel of the page is: a place where our script draws. It holds no data of its own."""

from __future__ import annotations

import gradio as gr

from quantlab.figures.theme import CONFIG

STATIC = "quantlab/static"
"""Below the address of the page, which a proxy may have put a path before."""
KINDS = (
    "head",
    "status",
    "map",
    "layer",
    "settings",
    "numbers",
    "compare",
    "recipe",
    "methods",
    "calibration",
    "memory",
    "decide",
)


def panel(kind: str, *, waiting: str = "") -> gr.HTML:
    """One panel: its value is plain data or JSON text; ``static/bench.js`` draws it and tells what a person does.

    The template never changes, so Gradio leaves the DOM below it alone: plots keep their zoom, the viewer its camera.
    (A function and no subclass: for a subclass Gradio would write a stub file beside this one.)

    Args:
        kind: Which script draws it, one of ``KINDS``.
        waiting: What stands there until the first value comes.
    """
    if kind not in KINDS:
        raise ValueError(f"unknown panel {kind!r}; choose one of {', '.join(KINDS)}")
    return gr.HTML(
        value=None,
        html_template=f'<div class="ql-panel ql-{kind}"><p class="ql-waiting">{waiting}</p></div>',
        js_on_load=_script(kind),
        apply_default_css=False,
        elem_id=f"ql-{kind}",
        elem_classes=["ql-cell"],
        config=CONFIG,
    )


def _script(kind: str) -> str:
    # Gradio makes a listener of every quoted word it finds here; 'act' is the only one we need.
    return f"""
        const send = (message) => trigger('act', message);
        const script = new URL("{STATIC}/bench.js", document.baseURI).href;
        import(script).then((bench) => bench.mount("{kind}", element.firstElementChild, {{ props, watch, send }}));
    """
