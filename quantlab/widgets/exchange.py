"""The recipe on its way between front ends: as text to copy, and back from text that was pasted. It shows nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from quantlab.engine.recipe import Recipe
from quantlab.errors import RecipeError
from quantlab.models.zoo import MODELS
from quantlab.views.link import NAME, link_of, open_link

if TYPE_CHECKING:
    from quantlab.lab import Lab

APP = "http://127.0.0.1:7860/"
"""Where `python app.py` answers, unless it says otherwise."""


def outgoing(lab: Lab) -> dict[str, str]:
    """The recipe in force as Python, as YAML, and as a link to the app; no link where the app has no such model."""
    recipe = lab.recipe
    return {"python": recipe.to_python(), "yaml": recipe.to_yaml(), "link": _link(lab.name, recipe)}


def incoming(text: str) -> Recipe:
    """The recipe in pasted text: YAML, or a link.

    Raises:
        RecipeError: No recipe.
        StorageError: A link that is damaged.
    """
    return open_link(text.strip()).recipe if f"?{NAME}=" in text else Recipe.from_yaml(text)


def _link(model: str, recipe: Recipe) -> str:
    if model not in MODELS:
        return ""
    try:
        return APP + link_of(model, "", recipe)
    except RecipeError:  # too long for an address: the text is still there
        return ""
