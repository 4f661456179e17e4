"""One view in the page: an anywidget that sends code and content by message and keeps none of it in the notebook.

Traits are saved with a notebook, messages are not. So plotly.js (5 MB), the 3D viewer and the clouds travel as
messages, when the page asks; the only script among the traits is a door of a few kilobytes (static/pane.js).
"""

from __future__ import annotations

import threading
import zlib
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import anywidget
import traitlets

from quantlab import figures
from quantlab.figures import CONFIG, DARK, LIGHT

STATIC = Path(__file__).parent / "static"
MODULES_OF_SLOT: Mapping[str, tuple[str, ...]] = {
    "figure": ("plotly", "plot_export"),
    "clouds": ("viewer",),
    "table": ("table",),
    "recipe": ("recipe",),
    "suspects": ("suspects",),
}
Event = Callable[[Mapping[str, Any]], None]


class Code(NamedTuple):
    """A script as it travels: deflated source, its module format, and a key that names this very version."""

    key: str
    format: str
    deflated: bytes


@cache
def code(name: str) -> Code:
    """The script of one module: those of plotly, figures and the viewer from their packages, the others from here."""
    source = _source(name)
    key = f"{name}-{len(source)}-{zlib.crc32(source):08x}"
    return Code(key, "commonjs" if name == "plotly" else "esm", zlib.compress(source, 6))


def _source(name: str) -> bytes:
    if name == "plotly":
        from plotly.offline import get_plotlyjs

        return str(get_plotlyjs()).encode()
    if name == "viewer":
        from quantlab.viewer.embed import esm_path

        return esm_path().read_bytes()
    folder = Path(figures.__file__).parent / "static" if name == "plot_export" else STATIC
    return (folder / f"{name}.js").read_bytes()


class Pane(anywidget.AnyWidget):
    """A stack of slots that show plain data.

    Args:
        slots: What it shows from top to bottom: "title", "figure", "clouds", "numbers", "rows", "words", "table",
            "recipe", "suspects".
        on_event: Called with what a person did in it, as ``{"type": "select", "name": ...}``. Untrusted.
    """

    _esm = STATIC / "pane.js"
    _css = STATIC / "pane.css"
    slots = traitlets.List(traitlets.Unicode()).tag(sync=True)
    needs = traitlets.Dict().tag(sync=True)

    def __init__(self, slots: Sequence[str], *, on_event: Event | None = None) -> None:
        asked = [name for slot in slots for name in MODULES_OF_SLOT.get(slot, ())]
        names = ["views", *dict.fromkeys(asked)]
        super().__init__(slots=list(slots), needs={name: code(name).key for name in names})
        self._shown: dict[str, tuple[Any, list[bytes]]] = {}
        self._opened = False
        self._guard = threading.Lock()
        self._on_event = on_event
        self.on_msg(self._received)

    def show(self, slot: str, data: Any, buffers: Sequence[bytes] = ()) -> None:
        """Put data into a slot, now and whenever the page draws this pane again.

        Args:
            slot: One of the slots, or "status" or "error" (a sentence; "" takes it away), or "selected" (the
                layer a table marks).
            data: What JSON can say; texts are shown as text, never as markup.
            buffers: Binary data that goes with it.
        """
        with self._guard:
            self._shown[slot] = (data, list(buffers))
            if self._opened:
                self._send_slot(slot)

    def shown(self, slot: str) -> Any:
        """The data last put into a slot; None for none."""
        data, _buffers = self._shown.get(slot, (None, []))
        return data

    def _received(self, _widget: object, message: Any, _buffers: object) -> None:
        if not isinstance(message, dict):
            return
        if message.get("ask") == "code" and message.get("name") in self.needs:
            found = code(message["name"])
            self.send({"code": message["name"], "key": found.key, "format": found.format}, [found.deflated])
        elif message.get("ask") == "content":
            self._open()
        elif isinstance(message.get("event"), dict) and self._on_event is not None:
            self._on_event(message["event"])

    def _open(self) -> None:
        palettes = {"light": dict(LIGHT.colours()), "dark": dict(DARK.colours())}
        with self._guard:
            self._opened = True
            self.send({"palettes": palettes})
            for slot in self._shown:
                self._send_slot(slot)

    def _send_slot(self, slot: str) -> None:
        data, buffers = self._shown[slot]
        self.send({"show": slot, "data": data}, buffers or None)


def figure_data(figure: Mapping[str, Any], height: int, name: str) -> dict[str, Any]:
    """A figure as a pane's slot takes it; ``height`` in pixels, ``name`` for the files it is exported to."""
    return {"figure": figure, "config": CONFIG, "height": height, "name": name}
