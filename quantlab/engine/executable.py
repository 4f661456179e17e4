"""Which settings of a layer multiply integers, and the nearest that do. It builds no layer and runs nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from quantlab.engine.plan import Plan
from quantlab.engine.recipe import Recipe
from quantlab.engine.settings import FULL_PRECISION, LayerSettings
from quantlab.models.structure import Structure

BITS = 8
"""Of the codes that are multiplied."""
NIBBLE = 4
"""Of the narrowest codes that weights are stored in."""


def simulated(settings: LayerSettings) -> str:
    """Why a Linear under these settings is executed in floating point; empty where integers are multiplied.

    A layer that is not rounded at all is no simulation: empty too.
    """
    if not settings.quantized:
        return ""
    if settings.weights == FULL_PRECISION:
        return "its weight is not rounded"
    if settings.activations == FULL_PRECISION:
        return "its input is not rounded"
    if settings.weights == BITS and not settings.weight_symmetric:
        return "8 asymmetric bits less their zero point do not fit into 8 bits"
    return ""


def nearest(settings: LayerSettings) -> dict[str, Any]:
    """The fewest changes after which `simulated` has nothing to say; empty where it has nothing now."""
    if not simulated(settings):
        return {}
    changes: dict[str, Any] = {}
    if settings.weights == FULL_PRECISION:
        changes["weights"] = BITS
    if settings.activations == FULL_PRECISION:
        changes["activations"] = BITS
    if changes.get("weights", settings.weights) == BITS and not settings.weight_symmetric:
        changes["weight_symmetric"] = True
    return changes


def widened(settings: LayerSettings) -> str:
    """What runs in more bits than it is rounded to, in words: it stays exact, and gains no time. Empty for nothing."""
    if not settings.quantized or simulated(settings):
        return ""
    parts = []
    if settings.activations < BITS:
        parts.append(f"activations of {settings.activations} bits run as {BITS}-bit codes")
    if settings.weights not in (NIBBLE, BITS):
        stored = NIBBLE if settings.weights < NIBBLE else BITS
        parts.append(f"weights of {settings.weights} bits are stored in {stored}")
    return ", ".join(parts)


def simulated_layers(done: Plan | None, structure: Structure) -> dict[str, str]:
    """Linear to why it is a simulation, of the Linears that are; a convolution's input is never rounded."""
    layers = {} if done is None else done.layers
    reasons = {name: simulated(one.settings) for name, one in layers.items() if _linear(structure, name)}
    return {name: reason for name, reason in reasons.items() if reason}


def executable(recipe: Recipe, structure: Structure) -> Recipe:
    """The nearest recipe of which every Linear multiplies integers; the same one where it does already."""
    asked = {name: one for name, one in recipe.layers(structure).items() if _linear(structure, name)}
    quantized = {name: one for name, one in asked.items() if one.quantized}
    changes = {name: nearest(one) for name, one in quantized.items()}
    wanted = [change for change in changes.values() if change]
    if not wanted:
        return recipe
    if all(change == wanted[0] for change in changes.values()) and _only_linears(recipe, structure):
        return recipe.set("*", **wanted[0])
    for name, change in changes.items():
        recipe = recipe.set(name, **change) if change else recipe
    return recipe


def changed(recipe: Recipe, structure: Structure) -> Mapping[str, Any]:
    """The settings that `executable` changes, with their new values."""
    told: dict[str, Any] = {}
    for name, one in recipe.layers(structure).items():
        if _linear(structure, name) and one.quantized:
            told |= nearest(one)
    return told


def _linear(structure: Structure, name: str) -> bool:
    return structure.layers[name].operator == "linear"


def _only_linears(recipe: Recipe, structure: Structure) -> bool:
    """Whether a rule for everything would reach no convolution that is rounded."""
    layers = recipe.layers(structure).items()
    return not any(one.quantized and not _linear(structure, name) for name, one in layers)
