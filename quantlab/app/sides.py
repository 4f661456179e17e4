"""Which clouds stand for the sides of the comparison: full precision, now, former, truth, states of the history."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from quantlab.views.clouds import SIDES
from quantlab.views.states import state_labels

if TYPE_CHECKING:
    from quantlab.app.state import Session
    from quantlab.engine.comparison import Comparison
    from quantlab.engine.recipe import Recipe
    from quantlab.models.prediction import Prediction

STATE = "state:"
"""``state:3`` is the recipe ``lab.history[3]``."""
MOST_KEPT = 6
"""Comparisons of other recipes that a session keeps."""
MOST_LISTED = 40
"""States offered for a side; of a longer history the latest."""
NOTHING_QUANTIZED = "nothing quantized"


def base(session: Session) -> Comparison | None:
    """The comparison that says what full precision, truth and the size of the scene are; None: nothing is known."""
    results = session.results
    former = results.former.comparison if results.former is not None else None
    return results.comparison or former or next(iter(results.states.values()), None)


def recipe_of(session: Session, side: str) -> Recipe | None:
    """The recipe of a state of the history; None for what is no state, or is there no more."""
    number = side.removeprefix(STATE)
    if not side.startswith(STATE) or not (number.isascii() and number.isdigit() and len(number) < 5):
        return None
    history = session.open_lab().history
    return history[int(number)] if int(number) < len(history) else None


def is_side(session: Session, side: object) -> bool:
    """Whether a side may be chosen, measured or not."""
    return isinstance(side, str) and (side in SIDES or recipe_of(session, side) is not None)


def prediction(session: Session, side: str) -> Prediction | None:
    """The cloud of a side in the frame of the comparison; None: it is not there, or not measured."""
    results, known = session.results, base(session)
    if known is None:
        return None
    if side in ("full", "truth"):
        return known.left if side == "full" else known.truth
    former = results.former.comparison if results.former is not None else None
    if side in ("now", "former"):
        found = (results.comparison or former) if side == "now" else former
        return found.right if found is not None else None
    recipe = recipe_of(session, side)
    state = results.states.get(recipe) if recipe is not None else None
    return state.right if state is not None else None


def chosen(session: Session) -> tuple[str, str]:
    """What stands left and right; a choice that has no cloud falls back to the usual one."""
    view = session.view
    left = view.left if prediction(session, view.left) is not None else "full"
    usual = "now" if prediction(session, "now") is not None else "full"
    return left, view.right if prediction(session, view.right) is not None else usual


def missing(session: Session) -> list[Recipe]:
    """The recipes of chosen states that have no clouds yet."""
    found = [recipe_of(session, side) for side in (session.view.left, session.view.right)]
    known = session.results.states
    return [recipe for recipe in dict.fromkeys(found) if recipe is not None and recipe not in known]


def with_state(session: Session, recipe: Recipe, comparison: Comparison) -> Mapping[Recipe, Comparison]:
    """The comparisons of a session with one more; beyond ``MOST_KEPT`` the oldest go that no side shows."""
    kept = {key: value for key, value in session.results.states.items() if key != recipe}
    kept[recipe] = comparison
    shown = [recipe_of(session, side) for side in (session.view.left, session.view.right)]
    for key in [key for key in kept if key not in shown and key != recipe][: max(0, len(kept) - MOST_KEPT)]:
        del kept[key]
    return kept


def choices(session: Session) -> list[dict[str, str]]:
    """What can stand on a side: what is there, then the states of the history, the latest first."""
    names = {**SIDES, "now": now_label(session)}
    usual = [{"id": side, "label": names[side]} for side in SIDES if prediction(session, side) is not None]
    lab = session.open_lab()
    labels = list(enumerate(state_labels(lab.history, lab.structure)))[-MOST_LISTED:]
    states = [{"id": f"{STATE}{number}", "label": label} for number, label in reversed(labels)]
    return usual + (states if len(states) > 1 else [])


def label(session: Session, side: str) -> str:
    """What a side is called."""
    if side == "now":
        return now_label(session)
    if side in SIDES:
        return SIDES[side]
    lab = session.open_lab()
    return state_labels(lab.history, lab.structure)[int(side.removeprefix(STATE))]


def now_label(session: Session) -> str:
    """The recipe in force may round nothing; then its cloud is not called quantized."""
    rounds = session.results.comparison is None or bool(session.open_lab().plan().quantized)
    return SIDES["now"] if rounds else NOTHING_QUANTIZED
