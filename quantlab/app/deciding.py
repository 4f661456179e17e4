"""What happens on the tab "Decide": search, load what was found, look at it otherwise. It searches nothing itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from quantlab.app.changing import Message, Verb, replace_recipe
from quantlab.app.measure import panels
from quantlab.app.running import run_job
from quantlab.app.work import Emit, Parts
from quantlab.errors import RecipeError

if TYPE_CHECKING:
    from quantlab.app.state import Session
    from quantlab.jobs import Job

CHOICES: Mapping[str, tuple[str, ...]] = {"shows": ("front", "layers", "differences")}


def _search(session: Session, message: Message) -> Iterator[Parts]:
    """Search for the bits of smallest drift within so many bytes; the recipe in force stays."""
    budget = message.get("budget")
    if type(budget) is not int or not 0 <= budget < 1 << 62:
        raise RecipeError("the budget is no number of bytes", place="budget", remedy="Move the slider.")

    def begun() -> Parts:
        session.searching = session.job
        return panels(session, "decide")

    def work(session: Session, emit: Emit, job: Job) -> None:
        lab = session.open_lab()
        session.learn(job, search=lab.search(budget, job=job))
        emit(panels(session, "decide"))

    yield from run_job(session, work, first=begun)
    yield panels(session, "decide")


def _candidate(session: Session, message: Message) -> Iterator[Parts]:
    """Make a point of the front the recipe in force; undo takes it back."""
    search, place = session.results.search, message.get("place")
    if search is None or type(place) is not int or not 0 <= place < len(search.distinct):
        return
    if search.distinct[place].bytes != message.get("bytes"):  # a front that was replaced meanwhile
        yield panels(session, "decide")
        return
    yield from replace_recipe(session, search.distinct[place].recipe)


def _look(session: Session, message: Message) -> Iterator[Parts]:
    """Show another part of the tab, other bits of the bars, or other recipes of the comparison."""
    view = session.view.decide
    name, value = str(message.get("name", "")), message.get("value")
    if name == "shows" and value in CHOICES["shows"]:
        view = replace(view, shows=str(value))
    elif name == "bits" and isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 3:
        view = replace(view, bits=int(value))
    elif name in ("left", "right") and isinstance(value, str) and len(value) < 40:
        view = replace(view, left=value) if name == "left" else replace(view, right=value)
    session.show(decide=view)
    yield panels(session, "decide")


VERBS: dict[str, Verb] = {"search": _search, "candidate": _candidate, "decide": _look}
