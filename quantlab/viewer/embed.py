"""Where the browser part lies and how each host starts it; plain text and paths, no toolkit is imported."""

from __future__ import annotations

import base64
import json
from pathlib import Path

_HTML_TEMPLATE = '<div class="quantlab-viewer" style="height: {height}"></div>'

# The names in quotes become Gradio listeners of the component: .pick(...), .camera(...), .region(...), .state(...).
_JS_ON_LOAD = """
const events = ["pick", "camera", "region", "state"];
const root = (window.gradio_config && window.gradio_config.root) || "";
import(root + "/gradio_api/file=" + {path}).then((viewer) => viewer.attachGradio(element, {{
  props, watch, trigger: (name, detail) => {{ if (events.includes(name)) trigger(name, detail); }},
}}));
"""


def static_folder() -> Path:
    """The folder of the bundle and its licences; give it to ``gr.set_static_paths``."""
    return Path(__file__).parent / "static"


def esm_path() -> Path:
    """The bundle as an ES module: ``_esm`` of an anywidget (default export ``{render}``), or ``import {mount}``."""
    return static_folder() / "viewer.js"


def data_url(payload: bytes) -> str:
    """Put a payload into text: what the report embeds, and what Gradio sends for small clouds."""
    return "data:application/octet-stream;base64," + base64.b64encode(payload).decode("ascii")


def gradio_arguments(*, height: str = "100%") -> dict[str, object]:
    """Return the keyword arguments that make a ``gr.HTML`` the viewer.

    Its value is a dict: ``payload`` (a URL such as ``/gradio_api/file=...``, or ``data_url(...)``) and any of mode,
    theme, background, point_size, confidence, frames, pictures, error_range, camera, viewpoints, region (the mask as
    the event has it), message, busy. What a value leaves out stays as the person set it.
    Listeners: ``.pick``, ``.camera``, ``.region`` and ``.state``; the event data has the fields the viewer emits.

    Args:
        height: A CSS length; a percentage needs a parent with a height.
    """
    return {
        "html_template": _HTML_TEMPLATE.format(height=height),
        "js_on_load": _JS_ON_LOAD.format(path=json.dumps(str(esm_path()))),
        "apply_default_css": False,
    }
