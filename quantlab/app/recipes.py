"""The recipe as text, YAML and Python, and back. It checks nothing itself: that is the recipe's."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from quantlab.engine.recipe import Recipe

if TYPE_CHECKING:
    from quantlab.app.state import Session


def recipe_panel(session: Session) -> dict[str, Any]:
    """The recipe in both languages, and what differs from the recipe before."""
    lab = session.open_lab()
    recipe = lab.recipe
    start = lab.history[0] if lab.history else recipe
    python = f"lab = ql.Lab(ql.load_model({session.model!r}))\n"
    text = recipe.to_python()
    return {
        "yaml": recipe.to_yaml(),
        "python": f"{text.rstrip()}\n\n{python}lab.recipe = recipe\nprint(lab.evaluate())\n",
        "changes": start.diff(recipe),
    }


def read_recipe(text: str) -> Recipe:
    """A recipe from text a person typed.

    Raises:
        RecipeError: Not a recipe.
    """
    return Recipe.from_yaml(text)


def load_recipe(path: str) -> Recipe:
    """A recipe from an uploaded file.

    Raises:
        StorageError: The file cannot be read.
        RecipeError: Not a recipe.
    """
    return Recipe.load(Path(path))
