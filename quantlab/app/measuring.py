"""What happens when a person asks how fast the recipe runs, or for the nearest that does. It times nothing itself."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from quantlab.app.changing import Message, Verb, replace_recipe
from quantlab.app.measure import measure_execution, panels
from quantlab.app.running import follow, run_job
from quantlab.app.work import Parts
from quantlab.engine.executable import executable

if TYPE_CHECKING:
    from quantlab.app.state import Session


def _measure(session: Session, _message: Message) -> Iterator[Parts]:
    """Execute the recipe and time it, after what runs; a second time anew."""
    if session.lab is None:
        return
    yield from follow(session, "numbers")
    if session.job is None:
        yield from run_job(session, measure_execution, lambda: _begun(session))
        yield panels(session, "numbers", "layer", "map")


def _begun(session: Session) -> Parts:
    """The tile says at once that it is being measured."""
    session.timing = session.job
    return panels(session, "numbers")


def _executable(session: Session, _message: Message) -> Iterator[Parts]:
    """Take the nearest recipe of which every layer multiplies integers; undo takes it back."""
    lab = session.open_lab()
    yield from replace_recipe(session, executable(lab.recipe, lab.structure))


VERBS: dict[str, Verb] = {"measure": _measure, "executable": _executable}
