"""Undo and redo over recipes. It knows recipes only as values."""

from __future__ import annotations

from dataclasses import dataclass, replace

from quantlab.engine.recipe import Recipe

LIMIT = 200


@dataclass(frozen=True, slots=True)
class History:
    """Recipes in the order they were set, and which of them holds now. Immutable: each step makes a new one."""

    recipes: tuple[Recipe, ...]
    position: int = 0

    @property
    def now(self) -> Recipe:
        """The recipe that holds."""
        return self.recipes[self.position]

    @property
    def can_undo(self) -> bool:
        """Whether there is an earlier recipe."""
        return self.position > 0

    @property
    def can_redo(self) -> bool:
        """Whether a recipe was undone."""
        return self.position < len(self.recipes) - 1

    def push(self, recipe: Recipe) -> History:
        """The history with a new recipe; what was undone is forgotten, an equal recipe adds nothing."""
        if recipe == self.now:
            return self
        kept = (*self.recipes[: self.position + 1], recipe)[-LIMIT:]
        return History(kept, len(kept) - 1)

    def undone(self) -> History:
        """One step back, or the same history at its start."""
        return replace(self, position=max(self.position - 1, 0))

    def redone(self) -> History:
        """One step forward, or the same history at its end."""
        return replace(self, position=min(self.position + 1, len(self.recipes) - 1))
