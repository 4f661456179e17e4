"""The page: which panel stands where, and which handler hears what. It handles nothing and draws nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import gradio as gr

from quantlab.app import table
from quantlab.app.actions import Actions
from quantlab.app.components import panel
from quantlab.app.notes import NOTES
from quantlab.app.running import OVERTAKEN
from quantlab.app.tabs import TABS
from quantlab.app.work import Parts

Painted = Iterator[dict[Any, Any]]
TITLE = "QuantLab"
MAX_UPLOAD = "512mb"


def build_page(actions: Actions) -> gr.Blocks:
    """Lay out the page and connect it to the handlers."""
    with gr.Blocks(title=TITLE, analytics_enabled=False, fill_width=True, delete_cache=(3600, 3600)) as page:
        parts, upload = _layout()
        _connect(page, actions, parts, upload)
    return page


def _layout() -> tuple[dict[str, Any], gr.UploadButton]:
    parts: dict[str, Any] = {}
    with gr.Column(elem_id="ql"):
        with gr.Row(elem_id="ql-top"):
            parts["head"] = panel("head", waiting="QuantLab")
            upload = gr.UploadButton(
                "Upload", file_count="multiple", file_types=["image", "video"], elem_id="ql-upload", size="sm"
            )
            parts["status"] = panel("status", waiting="connecting")
        parts["memory"] = panel("memory")
        with gr.Column(elem_id="ql-left"), gr.Tabs(elem_id="ql-tabs"):
            tabs = {}
            for name, tab in TABS.items():
                with gr.Tab(tab.label, id=name, elem_id=f"ql-{name}-tab") as tabs[name]:
                    parts |= INSIDE[name]()
        with gr.Column(elem_id="ql-right"):
            parts["compare"] = panel("compare", waiting="Both clouds appear here, side by side.")
            parts["numbers"] = panel(
                "numbers", waiting="What the recipe costs appears here: errors, scores, size, time."
            )
        parts["settings"] = panel("settings", waiting="How the chosen layer is quantized appears here.")
    parts["tabs"] = tabs
    return parts, upload


def _bench() -> dict[str, Any]:
    return {
        "map": panel("map", waiting="The map of the network appears here: one cell a layer."),
        "layer": panel("layer", waiting="A layer's values and its grid appear here."),
    }


def _recipe() -> dict[str, Any]:
    recipe = panel("recipe", waiting="The recipe as text, and what can be taken away, appears here.")
    kinds = [".yaml", ".yml", ".json", ".npz"]
    load = gr.UploadButton("Open a file …", file_types=kinds, elem_id="ql-load", size="sm")
    return {"recipe": recipe, "load": load}


def _notes() -> dict[str, Any]:
    gr.Markdown(NOTES, elem_id="ql-notes")
    return {}


def _table() -> gr.Dataframe:
    return gr.Dataframe(
        headers=list(table.COLUMNS),
        datatype=list(table.COLUMNS.values()),
        column_widths=list(table.WIDTHS),
        static_columns=list(table.FIXED),
        column_count=(len(table.COLUMNS), "fixed"),
        type="array",
        interactive=True,
        show_search="filter",
        buttons=[],
        max_height=2000,
        elem_id="ql-modules",
        show_label=False,
    )


INSIDE: dict[str, Callable[[], dict[str, Any]]] = {
    "bench": _bench,
    "decide": lambda: {"decide": panel("decide", waiting="What fewer bits cost, and where, appears here.")},
    "modules": lambda: {"modules": _table()},
    "methods": lambda: {"methods": panel("methods", waiting="Every method, explained.")},
    "calibration": lambda: {
        "calibration": panel("calibration", waiting="The scenes that a recipe learns from appear here.")
    },
    "recipe": _recipe,
    "notes": _notes,
}
"""What stands on each tab."""


def _connect(page: gr.Blocks, actions: Actions, parts: dict[str, Any], upload: gr.UploadButton) -> None:
    tabs: dict[str, gr.Tab] = parts.pop("tabs")
    load: gr.UploadButton = parts.pop("load")
    table_part = parts["modules"]

    def paint(stream: Iterator[Parts]) -> Painted:
        yield from _painted(stream, parts)

    settings: dict[str, Any] = {
        "outputs": list(parts.values()),
        "show_progress": "hidden",
        "trigger_mode": "multiple",
        "concurrency_limit": None,
        "api_visibility": "private",
    }
    handlers = _handlers(actions, paint)
    for part in parts.values():
        if isinstance(part, gr.HTML):
            part.act(handlers["act"], **settings)
    upload.upload(handlers["upload"], inputs=[upload], **settings)
    load.upload(handlers["load"], inputs=[load], **settings)
    table_part.input(handlers["table"], inputs=[table_part], **settings)
    table_part.select(handlers["row"], **settings)
    for name, tab in tabs.items():
        tab.select(_tab_handler(actions, paint, name), **settings)
    page.unload(handlers["leave"])


def _painted(stream: Iterator[Parts], parts: dict[str, Any]) -> Painted:
    """Values for Gradio. Of a handler that yields fast the browser may see only the last yield, so each one holds all
    that changed before; and Gradio repeats the last one when the handler ends, so values are stamped (`work.stamped`).
    """
    shown: dict[Any, Any] = {}
    for changed in stream:
        if OVERTAKEN in changed:
            yield {parts["status"]: gr.skip()}
            return
        for name, value in changed.items():
            shown[parts[name]] = value
        if shown:
            yield dict(shown)


def _handlers(actions: Actions, paint: Callable[[Iterator[Parts]], Painted]) -> dict[str, Callable[..., Any]]:
    def act(request: gr.Request, event: gr.EventData) -> Painted:
        yield from paint(actions.act(str(request.session_hash), dict(event._data)))  # noqa: SLF001 - Gradio's way

    def upload(request: gr.Request, files: list[str] | None) -> Painted:
        yield from paint(actions.upload(str(request.session_hash), files or []))

    def load(request: gr.Request, file: str | None) -> Painted:
        yield from paint(actions.load(str(request.session_hash), file or ""))

    def edit_table(request: gr.Request, rows: list[list[Any]]) -> Painted:
        yield from paint(actions.edit_table(str(request.session_hash), rows))

    def open_row(request: gr.Request, chosen: gr.SelectData) -> Painted:
        yield from paint(actions.open_row(str(request.session_hash), chosen.row_value))

    def leave(request: gr.Request) -> None:
        actions.leave(str(request.session_hash))

    return {"act": act, "upload": upload, "load": load, "table": edit_table, "row": open_row, "leave": leave}


def _tab_handler(
    actions: Actions, paint: Callable[[Iterator[Parts]], Painted], name: str
) -> Callable[[gr.Request], Painted]:
    def select(request: gr.Request) -> Painted:
        yield from paint(actions.act(str(request.session_hash), {"do": "tab", "value": name}))

    return select
