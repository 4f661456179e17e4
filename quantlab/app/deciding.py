"""What happens on the tab "Decide": search, load what was found, look at it otherwise. It searches nothing itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from quantlab.app.changing import Message, Verb, replace_recipe
from quantlab.app.measure import panels
from quantlab.app.running import run_job
from quantlab.app.work import Emit, Parts
from quantlab.engine.budget import OR_FASTEST
from quantlab.errors import RecipeError

if TYPE_CHECKING:
    from quantlab.app.state import Session
    from quantlab.jobs import Job

CHOICES: Mapping[str, tuple[str, ...]] = {"shows": ("front", "layers", "differences"), "unit": ("MB", "ms")}
LONGEST = 1e7
"""Milliseconds of a budget."""


def _search(session: Session, message: Message) -> Iterator[Parts]:
    """Search for the bits of smallest drift within so many bytes or milliseconds; the recipe in force stays."""
    budget = _budget(message.get("budget"), str(message.get("unit", "MB")))

    def begun() -> Parts:
        session.searching = session.job
        return panels(session, "decide")

    def work(session: Session, emit: Emit, job: Job) -> None:
        lab = session.open_lab()
        session.learn(job, search=lab.search(budget, job=job))
        emit(panels(session, "decide"))

    yield from run_job(session, work, first=begun)
    yield panels(session, "decide")


def _budget(value: object, unit: str) -> int | str:
    """Bytes, or a time in words: one that is too short gives the fastest choice, because nobody knows it before.

    Raises:
        RecipeError: It is neither.
    """
    if unit == "ms" and type(value) in (int, float) and 0 <= value < LONGEST:  # type: ignore[operator]
        return f"{value:.3f} ms{OR_FASTEST}"
    if unit != "ms" and type(value) is int and 0 <= value < 1 << 62:
        return value
    raise RecipeError(
        "the budget is no number of bytes or milliseconds", place="budget", remedy="Move the slider."
    )


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
    if name in CHOICES and value in CHOICES[name]:
        view = replace(view, shows=str(value)) if name == "shows" else replace(view, unit=str(value))
    elif name == "bits" and isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 3:
        view = replace(view, bits=int(value))
    elif name in ("left", "right") and isinstance(value, str) and len(value) < 40:
        view = replace(view, left=value) if name == "left" else replace(view, right=value)
    session.show(decide=view)
    yield panels(session, "decide")


VERBS: dict[str, Verb] = {"search": _search, "candidate": _candidate, "decide": _look}
