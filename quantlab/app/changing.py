"""What happens when a person changes the recipe: it is replaced, and everything that depends on it follows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from quantlab.app import table
from quantlab.app.measure import measure_change, panels
from quantlab.app.recipes import read_recipe
from quantlab.app.running import run_job
from quantlab.app.status import status
from quantlab.app.tabs import ON_THEIR_TAB
from quantlab.app.work import Parts
from quantlab.engine.recipe import Recipe
from quantlab.views import edits

if TYPE_CHECKING:
    from quantlab.app.state import Session

Message = Mapping[str, Any]
Verb = Callable[["Session", Message], Iterator[Parts]]
AFTER_EDIT = ("settings", "memory", *ON_THEIR_TAB)


def replace_recipe(session: Session, recipe: Recipe) -> Iterator[Parts]:
    """Make ``recipe`` the one that holds, and follow it with everything that depends on it.

    Raises:
        RecipeError: It cannot be carried out on this network; nothing has changed then.
    """
    lab = session.open_lab()
    recipe.layers(lab.structure)
    if recipe == lab.recipe:
        yield {"status": status(session), **panels(session, "settings", "modules")}
        return

    def change() -> None:
        lab.recipe = recipe

    yield from _followed(session, change)


def edit_table(session: Session, rows: Sequence[Sequence[Any]]) -> Iterator[Parts]:
    """Take over what changed in the table of layers."""
    session.show(picked=table.picked(session, rows))
    recipe = table.recipe_from(session, rows)
    if recipe == session.open_lab().recipe:
        yield panels(session, "settings")
    else:
        yield from replace_recipe(session, recipe)


def _set(session: Session, message: Message) -> Iterator[Parts]:
    lab, view = session.open_lab(), session.view
    changes = message.get("changes")
    if not isinstance(changes, dict):
        return
    recipe = edits.edited(
        lab.recipe, lab.structure, changes, layer=view.layer, apply_to=view.apply_to, picked=view.picked
    )
    yield from replace_recipe(session, recipe)


def _preset(session: Session, message: Message) -> Iterator[Parts]:
    scope = session.open_lab().recipe.scope
    bits = {name: edits.checked(name, message.get(name)) for name in ("weights", "activations")}
    yield from replace_recipe(session, Recipe.preset(str(message.get("name")), **bits, scope=scope))


def _method(session: Session, message: Message) -> Iterator[Parts]:
    """A preset with the bits it was made for."""
    scope = session.open_lab().recipe.scope
    yield from replace_recipe(session, Recipe.preset(str(message.get("name")), scope=scope))


def _recipe(session: Session, message: Message) -> Iterator[Parts]:
    """A recipe that a person typed or pasted."""
    yield from replace_recipe(session, read_recipe(str(message.get("text", ""))))


def _undo(session: Session, _message: Message) -> Iterator[Parts]:
    lab = session.open_lab()
    if lab.can_undo:
        yield from _followed(session, lab.undo)


def _redo(session: Session, _message: Message) -> Iterator[Parts]:
    lab = session.open_lab()
    if lab.can_redo:
        yield from _followed(session, lab.redo)


def _followed(session: Session, change: Callable[[], None]) -> Iterator[Parts]:
    """Change the recipe; then measure anew what that moves, or say that there is something to run."""
    with session.lock:  # no work may begin on the former recipe once the work that runs is stopped
        session.stop()
        change()
        session.show(selection=None)
        session.results = session.results.aged()
        session.stale, session.message = True, {}
    if session.interactive:
        yield from run_job(session, measure_change, first=lambda: panels(session, *AFTER_EDIT))
    else:
        yield {"status": status(session), **panels(session, *AFTER_EDIT, "map", "layer", "numbers")}


VERBS: dict[str, Verb] = {
    "set": _set,
    "preset": _preset,
    "method": _method,
    "recipe": _recipe,
    "undo": _undo,
    "redo": _redo,
}
