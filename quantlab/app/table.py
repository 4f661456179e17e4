"""The table of all layers: rows out, and what a person changed in it back as settings. It knows no page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from quantlab.engine.scope import scope_layers
from quantlab.views.edits import branch_of, checked, edited
from quantlab.views.names import distinct_names
from quantlab.views.numbers import digits

if TYPE_CHECKING:
    from quantlab.app.state import Session
    from quantlab.engine.recipe import Recipe
    from quantlab.lab import Lab

COLUMNS: Mapping[str, str] = {
    "pick": "bool",
    "layer": "str",
    "W": "number",
    "A": "number",
    "rot.": "bool",
    "smooth.": "bool",
    "comp.": "str",
    "keep": "bool",
    "TRE": "str",
    "kurtosis": "str",
}
FIXED = (1, 8, 9)
"""Columns nobody can type into."""
_SETTINGS = {2: "weights", 3: "activations", 4: "rotation", 5: "smoothing", 6: "compensation", 7: "keep"}
WIDTHS = ("56px", "172px", "34px", "34px", "54px", "76px", "62px", "62px", "76px", "68px")


def rows(session: Session) -> list[list[Any]]:
    """One row a layer, in execution order."""
    lab, results = session.open_lab(), session.results
    settings = lab.recipe.layers(lab.structure)
    tre = results.diagnosis.layers if results.diagnosis is not None else {}
    profile = results.profile.layers if results.profile is not None else {}
    inside = scope_layers(lab.recipe.scope, lab.structure)
    table = []
    names = distinct_names(lab.structure.layers.values())
    for name in lab.structure.layers:
        item = settings[name]
        branch = branch_of(lab.structure, name)
        quantized = not item.keep
        table.append(
            [
                name in session.view.picked,
                names[name],
                item.weights if quantized else 16,
                item.activations if quantized else 16,
                item.rotation != "none" and quantized,
                item.smoothing is not None and quantized,
                lab.recipe.branch(branch).compensation if branch else "–",
                item.keep and name in inside,
                digits(tre[name]) if quantized and name in tre else "–",
                digits(profile[name].all.kurtosis) if name in profile else "–",
            ]
        )
    return table


def picked(session: Session, table: Sequence[Sequence[Any]]) -> frozenset[str]:
    """The layers whose first cell is ticked, in a table whose rows may be filtered or sorted."""
    names = _names(session.open_lab())
    return frozenset(names[row[1]] for row in table if len(row) > 1 and row[1] in names and row[0] is True)


def named(session: Session, row: Any) -> str:
    """The full name of the layer a row is of, or ""; a row comes from a browser and may be anything."""
    label = row[1] if isinstance(row, list) and len(row) > 1 else None
    return _names(session.open_lab()).get(label, "") if isinstance(label, str) else ""


def recipe_from(session: Session, table: Sequence[Sequence[Any]]) -> Recipe:
    """The recipe with every cell a person changed; cells that say what already holds change nothing.

    Raises:
        RecipeError: A value out of its bounds, or compensation where there is no branch.
    """
    lab = session.open_lab()
    names = _names(lab)
    shown = {row[1]: row for row in rows(session)}
    recipe = lab.recipe
    for row in table:
        before = shown.get(row[1]) if len(row) == len(COLUMNS) else None
        if before is None:
            continue
        changes = {
            setting: row[column]
            for column, setting in _SETTINGS.items()
            if not _same(row[column], before[column])
        }
        normal = {setting: checked(setting, value) for setting, value in changes.items()}
        recipe = edited(recipe, lab.structure, normal, layer=names[row[1]], apply_to="layer")
    return recipe


def _names(lab: Lab) -> dict[str, str]:
    return {label: name for name, label in distinct_names(lab.structure.layers.values()).items()}


def _same(new: Any, old: Any) -> bool:
    """Whether a cell still says what it said; browsers send 4 for 4.0, and "true" for True."""
    return str(new).lower() == str(old).lower() or new == old
