"""A recipe that can be changed, watched, and changed back. It carries out nothing."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

from quantlab.engine.history import LIMIT, History
from quantlab.engine.plan import Plan, plan, unmatched
from quantlab.engine.recipe import Recipe, Rule
from quantlab.engine.settings import Settings
from quantlab.errors import RecipeError
from quantlab.models.structure import Structure


class Desk(ABC):
    """The editing half of a lab: the recipe in force, its history, and who wants to hear of changes.

    Safe to use from several threads; an edit that cannot be carried out is refused before anything changes.
    """

    def __init__(self, recipe: Recipe) -> None:
        self._history = History((recipe,))
        self.view: dict[str, Any] = {}
        """What a front end looks at; it is saved with the session and means nothing here."""
        self._listeners: list[Callable[[Recipe], None]] = []
        self._state = threading.RLock()

    @property
    @abstractmethod
    def structure(self) -> Structure:
        """Layers, branches and blocks of the network the recipe is for."""

    @property
    def recipe(self) -> Recipe:
        """The recipe in force; setting it is a step that can be undone."""
        with self._state:
            return self._history.now

    @recipe.setter
    def recipe(self, recipe: Recipe) -> None:
        self._move(lambda history: history.push(self._possible(recipe)))

    def set(self, pattern: str, **settings: Any) -> None:
        """Change the settings of the layers and branches whose names match ``pattern``.

        Raises:
            RecipeError: An unknown or impossible setting, or a pattern that matches nothing; nothing is changed then.
        """
        self._move(
            lambda history: history.push(self._possible(self._changed(history.now, pattern, settings)))
        )

    def undo(self) -> None:
        """Go back to the recipe before; nothing at the beginning."""
        self._move(lambda history: self._reached(history.undone()))

    def redo(self) -> None:
        """Take back an undo; nothing where there is none."""
        self._move(lambda history: self._reached(history.redone()))

    @property
    def can_undo(self) -> bool:
        """Whether there is an earlier recipe."""
        return self._history.can_undo

    @property
    def can_redo(self) -> bool:
        """Whether there is an undone recipe."""
        return self._history.can_redo

    @property
    def history(self) -> tuple[Recipe, ...]:
        """Every recipe of this lab, oldest first, the undone ones included."""
        return self._history.recipes

    @property
    def records(self) -> tuple[tuple[Recipe, ...], int]:
        """Every recipe of this lab, and which of them holds: taken in one look, so that they fit."""
        with self._state:
            return self._history.recipes, self._history.position

    def resume(self, recipes: Sequence[Recipe], position: int) -> None:
        """Take over a history, as that of a saved session, in place of the lab's own.

        The recipe that holds then is checked now, each of the others when undo or redo comes to it.

        Raises:
            RecipeError: The recipe cannot be carried out here, or there is none; nothing is changed then.
        """
        latest = tuple(recipes)[-LIMIT:]
        position -= len(recipes) - len(latest)
        if not 0 <= position < len(latest):
            raise RecipeError(
                f"a history of {len(latest)} recipes has no recipe {position}", remedy="Count from 0."
            )
        self._move(lambda _: self._reached(History(latest, position)))

    def subscribe(self, listener: Callable[[Recipe], None]) -> Callable[[], None]:
        """Call ``listener(recipe)`` after each change of the recipe; returns what ends that."""
        self._listeners.append(listener)

        def leave() -> None:
            if listener in self._listeners:
                self._listeners.remove(listener)

        return leave

    def plan(self) -> Plan:
        """What the recipe does to every layer and branch, and its bytes, before any work."""
        return plan(self.structure, self.recipe)

    def _reached(self, history: History) -> History:
        """The history, unless what holds in it cannot be carried out: it may come from elsewhere."""
        self._possible(history.now)
        return history

    def _possible(self, recipe: Recipe) -> Recipe:
        """The recipe, unless it cannot be carried out: then it is refused before anything changes."""
        if not isinstance(recipe, Recipe):
            raise RecipeError(
                f"a {type(recipe).__name__} is no recipe",
                remedy="Use ql.Recipe.preset('rtn'), or ql.Recipe.load(file).",
            )
        plan(self.structure, recipe)
        return recipe

    def _changed(self, recipe: Recipe, pattern: str, settings: dict[str, Any]) -> Recipe:
        """The recipe with a rule added; a rule that would change nothing is a slip of the pen."""
        problem = unmatched(self.structure, Rule(pattern, Settings(settings, place=pattern)))
        if problem:
            raise RecipeError(
                problem, remedy="The names are in lab.structure.layers and lab.structure.branches."
            )
        return recipe.set(pattern, **settings)

    def _move(self, change: Callable[[History], History]) -> None:
        with self._state:
            before, self._history = self._history, change(self._history)
            recipe, changed = self._history.now, self._history.now != before.now
        if not changed:
            return
        with ExitStack() as told:  # a listener that fails keeps no other from hearing
            for listener in reversed(self._listeners):
                told.callback(listener, recipe)
