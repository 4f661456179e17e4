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
from quantlab.app.work import Parts

Painted = Iterator[dict[Any, Any]]
TITLE = "QuantLab"
MAX_UPLOAD = "512mb"


def build_page(actions: Actions) -> gr.Blocks:
    """Lay out the page and connect it to the handlers."""
    with gr.Blocks(title=TITLE, analytics_enabled=False, fill_width=True, delete_cache=(3600, 3600)) as page:
        parts, upload, load = _layout()
        _connect(page, actions, parts, upload, load)
    return page


def _layout() -> tuple[dict[str, Any], gr.UploadButton, gr.UploadButton]:
    parts: dict[str, Any] = {}
    with gr.Column(elem_id="ql"):
        with gr.Row(elem_id="ql-top"):
            parts["head"] = panel("head", waiting="QuantLab")
            upload = gr.UploadButton(
                "Upload", file_count="multiple", file_types=["image", "video"], elem_id="ql-upload", size="sm"
            )
            parts["status"] = panel("status", waiting="connecting")
        with gr.Column(elem_id="ql-left"), gr.Tabs(elem_id="ql-tabs"):
            with gr.Tab("Bench", id="bench", elem_id="ql-bench") as bench:
                parts["map"] = panel("map", waiting="The map of the network appears here: one cell a layer.")
                parts["layer"] = panel("layer", waiting="A layer's values and its grid appear here.")
            with gr.Tab("Modules", id="modules", elem_id="ql-modules-tab") as modules:
                parts["modules"] = _table()
            with gr.Tab("Recipe", id="recipe", elem_id="ql-recipe-tab") as recipe:
                parts["recipe"] = panel("recipe")
                load = gr.UploadButton(
                    "Load a recipe", file_types=[".yaml", ".yml", ".json"], elem_id="ql-load", size="sm"
                )
            with gr.Tab("Notes", id="notes", elem_id="ql-notes-tab") as notes:
                gr.Markdown(NOTES, elem_id="ql-notes")
        with gr.Column(elem_id="ql-right"):
            parts["compare"] = panel("compare", waiting="Both clouds appear here, side by side.")
            parts["numbers"] = panel(
                "numbers", waiting="What the recipe costs appears here: errors, scores, size, time."
            )
        parts["settings"] = panel("settings", waiting="How the chosen layer is quantized appears here.")
    parts["tabs"] = {"bench": bench, "modules": modules, "recipe": recipe, "notes": notes}
    return parts, upload, load


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


def _connect(
    page: gr.Blocks, actions: Actions, parts: dict[str, Any], upload: gr.UploadButton, load: gr.UploadButton
) -> None:
    tabs: dict[str, gr.Tab] = parts.pop("tabs")
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
        yield from paint(actions.load_recipe(str(request.session_hash), file or ""))

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
