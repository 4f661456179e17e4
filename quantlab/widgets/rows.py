"""The table of all layers as plain data, and what a person changed in it as settings. It draws and measures nothing."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from quantlab.engine.scope import scope_layers
from quantlab.engine.settings import BITS, FIELDS, FULL_PRECISION, LayerSettings
from quantlab.figures.severity import QUANTITIES
from quantlab.views.edits import edited
from quantlab.views.names import distinct_names
from quantlab.views.numbers import digits
from quantlab.views.sheet import setting_word

if TYPE_CHECKING:
    from quantlab.calibration.profile import Profile
    from quantlab.engine.diagnosis import Diagnosis
    from quantlab.engine.recipe import Recipe
    from quantlab.lab import Lab
    from quantlab.models.structure import Structure

NOT_MEASURED = "not measured"
STRENGTHS = (None, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
"""Of smoothing, as offered in a cell; the layer's own control takes any."""
EDITABLE = ("weights", "activations", "rotation", "smoothing", "compensation", "keep")


def columns() -> list[dict[str, Any]]:
    """The columns, left to right; kind is "text", "number", "choice" or "switch", choices are (value, label)."""
    return [
        _column(
            "layer", "layer", "text", "minmax(136px, 1fr)", "Stream, block and part; hover: its full name."
        ),
        _column("kind", "kind", "text", "52px", "Which linear map of a block it is."),
        _setting("weights", "W", "52px", [(bits, str(bits)) for bits in BITS]),
        _setting("activations", "A", "52px", [(bits, str(bits)) for bits in BITS]),
        _setting("rotation", "rotation", "104px"),
        _setting("smoothing", "smoothing", "76px", [(s, setting_word("smoothing", s)) for s in STRENGTHS]),
        _setting("compensation", "comp.", "64px"),
        _setting("keep", "keep", "48px"),
        _column("tre", "TRE", "number", "92px", _help("tre")),
        _column("kurtosis", "kurtosis", "number", "84px", _help("kurtosis")),
        _column("max_p999", "max/p99.9", "number", "84px", _help("max_p999")),
    ]


def layer_rows(lab: Lab, profile: Profile | None, diagnosis: Diagnosis | None) -> list[dict[str, Any]]:
    """One row a layer in execution order; None in ``values`` where a layer has no such setting.

    Args:
        lab: Gives the layers and the recipe in force.
        profile: Gives the tails; None: not measured.
        diagnosis: Gives the TRE; None: not measured.
    """
    recipe, structure = lab.recipe, lab.structure
    settings, inside = recipe.layers(structure), scope_layers(recipe.scope, structure)
    labels, branches = distinct_names(structure.layers.values()), _branches(recipe, structure)
    rows = []
    for name, info in structure.layers.items():
        chosen = settings[name]
        branch = branches.get(name)
        marks = _marks(chosen, kept=chosen.keep and name in inside)
        tails = profile.layers.get(name) if profile is not None else None
        values = [
            labels[name],
            info.kind,
            FULL_PRECISION if chosen.keep else chosen.weights,
            FULL_PRECISION if chosen.keep else chosen.activations,
            chosen.rotation,
            "off" if chosen.smoothing is None else chosen.smoothing,
            branch,
            chosen.keep and name in inside,
            _tre(name, chosen, diagnosis),
            _number(None if tails is None else tails.all.kurtosis),
            _number(None if tails is None else tails.all.max_p999),
        ]
        words = f"{name} {labels[name]} {info.kind} {marks}".lower()
        rows.append({"name": name, "label": labels[name], "words": words, "values": values})
    return rows


def changed(recipe: Recipe, structure: Structure, event: Mapping[str, Any]) -> Recipe:
    """The recipe after a cell was changed, for one layer or for several at once.

    Args:
        recipe: In force.
        structure: Of the network.
        event: ``{"setting": ..., "value": ..., "names": [...]}``, from the page and so untrusted.

    Raises:
        RecipeError: An unknown setting or layer, a value out of its bounds, or no layer at all.
    """
    setting, value, names = str(event.get("setting")), event.get("value"), event.get("names")
    listed = names if isinstance(names, list) else []
    known = [name for name in listed if isinstance(name, str) and name in structure.layers]
    if setting not in EDITABLE or isinstance(value, dict | list):
        setting = "unknown"  # refused below, with the settings that there are
    value = None if setting == "smoothing" and value == "off" else value
    picked = frozenset(known)
    if setting in ("weights", "activations") and value != FULL_PRECISION:  # bits bring a kept layer back
        kept = {
            name
            for name in picked & scope_layers(recipe.scope, structure)
            if recipe.layer(name, structure).keep
        }
        if kept:
            recipe = edited(recipe, structure, {"keep": False}, layer="", apply_to="picked", picked=kept)
    return edited(recipe, structure, {setting: value}, layer="", apply_to="picked", picked=picked)


def _column(key: str, label: str, kind: str, width: str, help_text: str) -> dict[str, Any]:
    return {"key": key, "label": label, "kind": kind, "width": width, "help": help_text}


def _setting(name: str, label: str, width: str, choices: Any = None) -> dict[str, Any]:
    """A column that can be edited, with the help and the choices of its setting."""
    bounds = FIELDS[name].metadata
    if choices is None and set(bounds["choices"]) == {True, False}:
        return _column(name, label, "switch", width, bounds["help"])
    offered = choices or [(choice, setting_word(name, choice)) for choice in bounds["choices"]]
    plain = [("off" if value is None else value, word) for value, word in offered]
    return {**_column(name, label, "choice", width, bounds["help"]), "choices": plain}


def _help(quantity: str) -> str:
    return QUANTITIES[quantity].help


def _branches(recipe: Recipe, structure: Structure) -> dict[str, str]:
    """Layer to the compensation of its branch; a layer in no branch is absent."""
    return {
        layer: recipe.branch(name).compensation
        for name, branch in structure.branches.items()
        for layer in branch.layers
    }


def _marks(chosen: LayerSettings, *, kept: bool) -> str:
    """Words a person may filter by that stand in no name."""
    marks = {
        "kept": kept,
        "full precision": not chosen.quantized,
        "quantized": chosen.quantized,
        "rotated": chosen.rotation != "none" and chosen.quantized,
        "smoothed": chosen.smoothing is not None and chosen.quantized,
    }
    return " ".join(word for word, holds in marks.items() if holds)


def _tre(name: str, chosen: LayerSettings, diagnosis: Diagnosis | None) -> list[Any]:
    if not chosen.quantized:
        return [None, "not rounded"]
    return _number(None if diagnosis is None else diagnosis.layers.get(name))


def _number(value: float | None) -> list[Any]:
    """A number to sort by and its text."""
    if value is None:
        return [None, NOT_MEASURED]
    return [float(value) if math.isfinite(value) else None, digits(value)]
