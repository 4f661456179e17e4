"""What the states of a lab's history are called: "3: quarot W4A4, global 3 · fc2 kept". It compares recipes only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from quantlab.engine.settings import FULL_PRECISION
from quantlab.views.names import short_text
from quantlab.views.sheet import LABELS, setting_word

if TYPE_CHECKING:
    from quantlab.engine.recipe import Recipe
    from quantlab.models.structure import Structure

LONGEST_NAME = 32
BITS = {"weights": "W", "activations": "A"}


def state_labels(history: Sequence[Recipe], structure: Structure) -> list[str]:
    """One label a recipe, oldest first: its place in the history, its name and bits, what changed last.

    Two labels never are the same: each begins with its number.
    """
    labels = []
    for number, recipe in enumerate(history):
        change = _change(history[number - 1], recipe, structure) if number else ""
        labels.append(f"{number}: {recipe_words(recipe)}" + (f", {change}" if change else ""))
    return labels


def recipe_words(recipe: Recipe) -> str:
    """A recipe in two words: "quarot W4A4"."""
    name = recipe.name if len(recipe.name) <= LONGEST_NAME else recipe.name[: LONGEST_NAME - 1] + "…"
    bits = [recipe.defaults.get(key, FULL_PRECISION) for key in BITS]
    words = name.replace("_", " ")
    return f"{words} W{bits[0]}A{bits[1]}" if min(bits) < FULL_PRECISION else words


def _change(before: Recipe, after: Recipe, structure: Structure) -> str:
    """What the step from one recipe to the next did, where both start from the same words."""
    if recipe_words(before) != recipe_words(after):
        return _count(len(after.rules), "rule") if after.rules else ""
    steps = [
        f"{_place(pattern, structure)}{_word(key, value)}"
        for pattern, old, new in _places(before, after)
        for key, value in _differences(old, new)
    ]
    if not steps:
        return "" if after == before else "other calibration, seed or scope"
    return steps[0] + (f" and {_count(len(steps) - 1, 'more change')}" if len(steps) > 1 else "")


def _places(before: Recipe, after: Recipe) -> list[tuple[str, dict[str, Any], dict[str, Any]]]:
    """Every place that says something, and what it said and says."""
    tables: list[dict[str, dict[str, Any]]] = []
    for recipe in (before, after):
        table: dict[str, dict[str, Any]] = {"": dict(recipe.defaults)}
        for rule in recipe.rules:
            table.setdefault(rule.pattern, {}).update(rule.settings)
        tables.append(table)
    old, new = tables
    return [(name, old.get(name, {}), new.get(name, {})) for name in dict.fromkeys((*old, *new))]


def _differences(old: dict[str, Any], new: dict[str, Any]) -> list[tuple[str, Any]]:
    """Settings that are new or other, and (as an Ellipsis) those that are gone."""
    return [
        (key, new.get(key, ...))
        for key in dict.fromkeys((*old, *new))
        if old.get(key, ...) != new.get(key, ...)
    ]


def _word(key: str, value: Any) -> str:
    if key == "keep":
        return "kept" if value is True else "not kept"
    if value is ...:
        return f"{LABELS.get(key, key.replace('_', ' '))} as before"
    if key in BITS:
        return f"{BITS[key]}{value}"
    return f"{LABELS.get(key, key.replace('_', ' '))} {setting_word(key, value)}"


def _place(pattern: str, structure: Structure) -> str:
    """A name as people say it: one layer, block or branch by its short name, a pattern by what stands in it."""
    if pattern in ("", "*"):
        return "all " if pattern else ""
    if "*" not in pattern and "?" not in pattern:
        return short_text(pattern, structure) + " "
    parts = [part for part in pattern.split(".") if part.strip("*?") and part != "aggregator"]
    return " ".join(parts).replace("_blocks", "").replace("*", "") + " "


def _count(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"
