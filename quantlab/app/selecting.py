"""What happens on the calibration tab: another selection is tried, the pool is looked at."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from quantlab.app.calibration import changed, draft, known
from quantlab.app.changing import Message, Verb, replace_recipe
from quantlab.app.measure import measure_pool, panels
from quantlab.app.running import run_job
from quantlab.app.work import Parts

if TYPE_CHECKING:
    from quantlab.app.state import Session


def try_out(session: Session, message: Message) -> Iterator[Parts]:
    """Try other calibration scenes: the map shows them, the recipe stays.

    Raises:
        RecipeError: A value out of its bounds.
    """
    changes = message.get("changes")
    if isinstance(changes, dict):
        session.show(selection=changed(draft(session), changes))
        yield panels(session, "calibration")
        yield from look(session)


def look(session: Session, *, asked: bool = False) -> Iterator[Parts]:
    """Draw the map of the pool; by itself only where a pass is short, and no other work is stopped for it."""
    free = session.job is None or session.job is session.pooling
    if known(session) is None and free and (asked or session.interactive):
        yield from run_job(session, measure_pool)
        yield panels(session, "calibration")


def _calibrate(session: Session, _message: Message) -> Iterator[Parts]:
    """Make the selection that was tried the recipe's."""
    recipe = session.open_lab().recipe
    yield from replace_recipe(session, replace(recipe, calibration=draft(session)))


VERBS: dict[str, Verb] = {
    "selection": try_out,
    "look": lambda session, _message: look(session, asked=True),
    "calibrate": _calibrate,
}
