"""The nearest recipe that ONNX and OpenVINO hold: inputs in 8 bits, one fixed scale a layer. It measures nothing."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from quantlab.deploy.refusals import BITS
from quantlab.engine.plan import plan
from quantlab.engine.settings import FULL_PRECISION

if TYPE_CHECKING:
    from quantlab.engine.recipe import Recipe
    from quantlab.engine.settings import LayerSettings
    from quantlab.models.structure import Structure

STATIC = {"activation_mode": "static", "activation_granularity": "tensor", "twin": False}
"""One scale for each layer's input, found on calibration scenes once."""


def fitted(recipe: Recipe, structure: Structure) -> Recipe:
    """The nearest recipe that such a file holds; the same one where it does already.

    Weights, and layers whose inputs are not rounded, stay as they are.

    Raises:
        RecipeError: The recipe cannot be carried out.
    """
    changed = changes(recipe, structure)
    if changed.pop("kv_bits", None):
        recipe = recipe.set("*", kv_bits=FULL_PRECISION)
    if not changed:
        return recipe
    before, everywhere = _rounded(recipe, structure), recipe.set("*", **changed)
    after = _rounded(everywhere, structure)
    if after.keys() == before.keys() and not any(map(_changes, after.values())):
        return everywhere
    # One rule for all misses some layers, or rounds inputs that were not.
    for name, settings in before.items():
        recipe = recipe.set(name, **_changes(settings)) if _changes(settings) else recipe
    return recipe


def changes(recipe: Recipe, structure: Structure) -> dict[str, Any]:
    """The settings that `fitted` changes somewhere, with their new values; empty where nothing has to change."""
    found: dict[str, Any] = {}
    for settings in _rounded(recipe, structure).values():
        found |= _changes(settings)
    if any(branch.rounds_kv for branch in plan(structure, recipe).branches.values()):
        found["kv_bits"] = FULL_PRECISION
    return found


def differs(recipe: Recipe, structure: Structure) -> str:
    """What a file of the `fitted` recipe holds otherwise, as "W4 A8 static; the recipe asks A4 dynamic".

    Empty where it holds the recipe as it is.
    """
    changed, rounded = changes(recipe, structure), _rounded(recipe, structure).values()
    held, asked = [], []
    if changed.keys() - {"kv_bits"}:
        held += [_bits("W", (one.weights for one in rounded)), f"A{BITS} static"]
    if "activations" in changed:
        asked.append(_bits("A", (one.activations for one in rounded if one.activations != BITS)))
    if "activation_mode" in changed:
        asked.append("dynamic")
    elif "activation_granularity" in changed:
        asked.append("more scales a layer")
    if "twin" in changed:
        asked.append("two scales for each input")
    if "kv_bits" in changed:
        held.append("keys and values not rounded")
        asked.append("rounded keys and values")
    return f"{' '.join(held)}; the recipe asks {' '.join(asked)}" if changed else ""


def _bits(letter: str, bits: Iterable[int]) -> str:
    return letter + "/".join(map(str, sorted(set(bits))))


def _rounded(recipe: Recipe, structure: Structure) -> dict[str, LayerSettings]:
    """The quantized layers whose inputs are rounded."""
    layers = plan(structure, recipe).layers.items()
    quantized = {name: layer.settings for name, layer in layers if layer.quantized}
    return {name: one for name, one in quantized.items() if one.activations < FULL_PRECISION}


def _changes(settings: LayerSettings) -> dict[str, Any]:
    wanted = {**STATIC, "activations": BITS}
    return {name: value for name, value in wanted.items() if getattr(settings, name) != value}
