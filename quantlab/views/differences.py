"""Two recipes as a person compares them: what changes for which layers, the size, the rest. It judges nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from quantlab.engine.plan import plan
from quantlab.engine.recipe_text import diff
from quantlab.engine.settings import FULL_PRECISION
from quantlab.figures.readable import short
from quantlab.views.names import distinct_names
from quantlab.views.states import recipe_words

if TYPE_CHECKING:
    from quantlab.engine.plan import LayerPlan, Plan
    from quantlab.engine.recipe import Recipe
    from quantlab.models.structure import Structure


def differences(left: Recipe, right: Recipe, structure: Structure) -> dict[str, Any]:
    """A sentence, one row for each layer whose bits differ, and the lines of `Recipe.diff`.

    Raises:
        RecipeError: A recipe cannot be carried out on this network.
    """
    before, after = plan(structure, left), plan(structure, right)
    names = distinct_names(structure.layers.values())
    rows = [
        {
            "layer": name,
            "name": names[name],
            "left": _bits(before.layers[name]),
            "right": _bits(after.layers[name]),
            "bytes": after.layers[name].bytes - before.layers[name].bytes,
        }
        for name in structure.layers
        if _bits(before.layers[name]) != _bits(after.layers[name])
    ]
    return {"summary": _summary(rows, before, after, left, right), "rows": rows, "lines": diff(left, right)}


def _bits(layer: LayerPlan) -> str:
    if not layer.quantized:
        return f"{FULL_PRECISION}"
    return f"W{layer.settings.weights}A{layer.settings.activations}"


def _summary(rows: list[dict[str, Any]], before: Plan, after: Plan, left: Recipe, right: Recipe) -> str:
    if left == right:
        return "The same recipe on both sides."
    words = (
        [] if recipe_words(left) == recipe_words(right) else [f"{recipe_words(left)} → {recipe_words(right)}"]
    )
    smaller, larger = (sum(row["bytes"] * sign > 0 for row in rows) for sign in (-1, 1))
    count = len(rows)
    text = (
        f"{count} layer{'' if count == 1 else 's'} of other bits" if count else "the same bits in every layer"
    )
    words.append(f"{text}: {smaller} smaller, {larger} larger" if count else text)
    change = after.bytes - before.bytes
    sign = "+" if change > 0 else "−" if change < 0 else "±"
    words.append(
        f"{before.bytes / 1e6:.2f} → {after.bytes / 1e6:.2f} MB ({sign}{short(abs(change) / 1e3)} kB)"
    )
    return "; ".join(words) + "."
