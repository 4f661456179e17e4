"""What happens when a person looks at something else. It changes no recipe."""

from __future__ import annotations

from collections.abc import Container, Iterator
from typing import TYPE_CHECKING

from quantlab import figures
from quantlab.app import layer, selecting
from quantlab.app.changing import Message, Verb
from quantlab.app.map import STREAMS
from quantlab.app.measure import measure_layer, panels
from quantlab.app.running import run_job
from quantlab.app.status import status
from quantlab.app.tabs import ON_THEIR_TAB, TABS
from quantlab.app.work import Parts
from quantlab.views import edits
from quantlab.views.layer_plots import SIDES

if TYPE_CHECKING:
    from quantlab.app.state import Session


def look(name: str, allowed: Container[object], *parts: str) -> Verb:
    """A verb that only changes what is looked at: the field ``name`` of `View`, to one of the ``allowed`` values."""

    def changed(session: Session, message: Message) -> Iterator[Parts]:
        value = message.get("value")
        if isinstance(value, str) and value in allowed:
            session.show(**{name: value})
            if session.lab is not None:
                yield panels(session, *parts)

    return changed


def select(session: Session, message: Message) -> Iterator[Parts]:
    """Open a layer, and measure it where that was not done yet."""
    lab, name = session.open_lab(), message.get("layer")
    if name not in lab.structure.layers:
        return
    session.show(layer=name)
    yield panels(session, "map", "layer", "settings")
    if name in session.results.layers or session.stale or session.results.profile is None:
        return
    if session.job is None:
        yield from run_job(session, measure_layer)


def _tab(session: Session, message: Message) -> Iterator[Parts]:
    yield from look("tab", TABS, *ON_THEIR_TAB)(session, message)
    if session.view.tab == "calibration" and session.lab is not None:
        yield from selecting.look(session)


def _dismiss(session: Session, _message: Message) -> Iterator[Parts]:
    session.message = {}
    yield {"status": status(session)}


VERBS: dict[str, Verb] = {
    "select": select,
    "color_by": look("color_by", figures.QUANTITIES, "map"),
    "streams": look("streams", STREAMS, "map"),
    "panel": look("panel", layer.PANELS, "layer"),
    "side": look("side", SIDES, "layer"),
    "relief": look("relief", layer.RELIEFS, "layer"),
    "apply_to": look("apply_to", edits.APPLY_TO, "settings"),
    "tab": _tab,
    "dismiss": _dismiss,
}
