"""What a click asks of a recipe: checked values, and the patterns they hold for. Pure functions; no lab, no page."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from quantlab.engine.recipe import Recipe
from quantlab.engine.scope import scope_layers
from quantlab.engine.settings import BRANCH_FIELDS, FIELDS
from quantlab.errors import RecipeError

if TYPE_CHECKING:
    from quantlab.models.structure import Structure

APPLY_TO = ("layer", "kind", "block", "all", "picked")
EDITABLE = tuple(FIELDS)
DEFAULT_ALPHA = 0.5


def edited(
    recipe: Recipe,
    structure: Structure,
    changes: Mapping[str, Any],
    *,
    layer: str,
    apply_to: str,
    picked: Collection[str] = (),
) -> Recipe:
    """The recipe after a person set ``changes`` on a layer, or on what ``apply_to`` widens it to.

    Raises:
        RecipeError: An unknown setting or layer, or a value out of its bounds; the page is not trusted.
    """
    unknown = [name for name in changes if name not in EDITABLE]
    if unknown:
        raise RecipeError(
            f"{str(unknown[0])[:60]!r} cannot be set here", remedy=f"Set one of: {', '.join(EDITABLE)}."
        )
    for name, value in changes.items():
        setting = checked(name, value)
        for pattern in patterns(structure, name, layer=layer, apply_to=apply_to, picked=picked):
            recipe = recipe.set(pattern, **{name: setting})
    recipe.layers(structure)  # refuses combinations that cannot be, before anything is replaced
    return recipe


def checked(name: str, value: Any) -> Any:
    """A value as a page or a table sends it (True, "8", 0.5) as the recipe wants it."""
    if name == "rotation" and isinstance(value, bool):
        return "hadamard" if value else "none"
    if name == "smoothing" and isinstance(value, bool):
        return DEFAULT_ALPHA if value else None
    if isinstance(FIELDS[name].default, bool | str) or value is None:
        return value
    try:
        number = float(value)
    except (TypeError, ValueError):
        return value  # the recipe says what is wrong with it
    whole = isinstance(FIELDS[name].default, int) and number.is_integer()
    return int(number) if whole else number


def patterns(
    structure: Structure, setting: str, *, layer: str, apply_to: str, picked: Collection[str] = ()
) -> list[str]:
    """The patterns a setting is written under; a setting of branches goes to the branches of the layers meant."""
    if apply_to not in APPLY_TO:
        raise RecipeError(
            f"cannot apply to {str(apply_to)[:60]!r}", remedy=f"Use one of: {', '.join(APPLY_TO)}."
        )
    if apply_to == "all":
        return ["*"]
    names = [name for name in structure.layers if name in picked] if apply_to == "picked" else [layer]
    for name in names:
        if name not in structure.layers:
            raise RecipeError(f"there is no layer {str(name)[:60]!r}", remedy="Choose a layer on the map.")
    if apply_to == "picked" and not names:
        raise RecipeError("no row is picked", remedy="Tick rows in the table, or apply to this layer.")
    return _unique(_pattern(structure, setting, name, apply_to) for name in names)


def _pattern(structure: Structure, setting: str, layer: str, apply_to: str) -> str:
    info = structure.layers[layer]
    if apply_to == "block" and info.block:
        return info.block
    target = branch_of(structure, layer) if setting in BRANCH_FIELDS else layer
    if not target:
        raise RecipeError(
            f"{setting} belongs to attention and MLP branches, and this layer is in none",
            place=layer,
            remedy="Choose a layer of a block.",
        )
    if apply_to != "kind" or info.index < 0:
        return target
    stem, _, _ = info.block.rpartition(".")
    return f"{stem}.*{target[len(info.block) :]}"


def branch_of(structure: Structure, layer: str) -> str:
    """The branch a layer belongs to, or ""."""
    return next((name for name, branch in structure.branches.items() if layer in branch.layers), "")


def is_in_scope(recipe: Recipe, structure: Structure, layer: str) -> bool:
    """Whether the recipe reaches a layer; one that it does not reach is in full precision without being kept."""
    return not recipe.layer(layer, structure).keep or layer in scope_layers(recipe.scope, structure)


def _unique(items: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(items))
